//! Whether the API server reaches the webhook. The leader updates its own Lease in a dry run, with a number that nobody can guess as an
//! annotation; an entry of the validating configuration sends this update to the webhook.
//!
//! The webhook is reached when a replica received the number, whatever the API server answers in the end: this process knows what it
//! received itself, and the answer of another replica brings the number back as a warning, which the API server passes on even where
//! something else refuses the update.

use axum::body::{Body, to_bytes};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams, core::Request};
use parking_lot::Mutex;

use crate::cluster::{call, webhooks::WebhookSettings};

/// The annotation of a probe.
pub const PROBE_ANNOTATION: &str = "bonafide.dev/probe";
/// The most that is read of an answer.
const ANSWER_LIMIT: usize = 256 * 1024;
/// How often the update is tried while the election writes the Lease in between.
const TRIES: usize = 3;

/// The probe that this process has sent and waits for.
#[derive(Debug, Default)]
pub struct Probes(Mutex<Option<Sent>>);

#[derive(Debug)]
struct Sent {
    number: String,
    is_received: bool,
}

impl Probes {
    fn send(&self, number: &str) {
        *self.0.lock() = Some(Sent { number: number.to_owned(), is_received: false });
    }

    /// The webhook received a probe, of this process or of another replica.
    pub fn receive(&self, number: &str) {
        if let Some(sent) = self.0.lock().as_mut().filter(|sent| sent.number == number) {
            sent.is_received = true;
        }
    }

    /// Whether the last probe was received; then nothing is waited for any more.
    fn take(&self) -> bool {
        self.0.lock().take().is_some_and(|sent| sent.is_received)
    }
}

/// The warning that brings a probe's number back.
pub fn echo(number: &str) -> String {
    format!("bonafide received the probe {number}")
}

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A replica received it.
    Reached,
    /// None did, as far as is known.
    NotYet(String),
}

/// Sends one probe.
pub(super) async fn send(client: &Client, webhooks: &WebhookSettings, probes: &Probes) -> Answer {
    let mut random = [0_u8; 16];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        return Answer::NotYet("there are no random numbers".to_owned());
    }
    let number = hex::encode(random);
    probes.send(&number);
    let answered = call::within(call::LIMIT, update(client, webhooks, &number)).await;
    if probes.take() {
        return Answer::Reached;
    }
    match answered {
        Ok(warnings) if warnings.iter().any(|warning| warning.contains(&echo(&number))) => Answer::Reached,
        Ok(_) => Answer::NotYet(format!(
            "The API server answered the probe without the webhook: it cannot connect to the Service {}/{}, \
             or does not trust its certificate",
            webhooks.namespace, webhooks.name
        )),
        Err(error) => Answer::NotYet(format!("The probe failed: {}", call::words(&error))),
    }
}

/// Updates the Lease in a dry run; the warnings that come with the answer, also where it is an error.
async fn update(
    client: &Client,
    webhooks: &WebhookSettings,
    number: &str,
) -> Result<Vec<String>, kube::Error> {
    let api: Api<Lease> = Api::namespaced(client.clone(), &webhooks.namespace);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let mut tries = 0;
    loop {
        tries += 1;
        let mut lease = api.get(&webhooks.name).await?;
        lease.metadata.managed_fields = None;
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(PROBE_ANNOTATION.to_owned(), number.to_owned());
        let body = serde_json::to_vec(&lease).map_err(kube::Error::SerdeError)?;
        let request = Request::new(api.resource_url())
            .replace(&webhooks.name, &params, body)
            .map_err(kube::Error::BuildRequest)?;
        let response = client.send(request.map(kube::client::Body::from)).await?;
        let status = response.status();
        let warnings: Vec<String> = response
            .headers()
            .get_all("warning")
            .iter()
            .filter_map(|value| value.to_str().ok().map(ToOwned::to_owned))
            .collect();
        if status.as_u16() == 409 && warnings.is_empty() && tries < TRIES {
            continue;
        }
        if status.is_success() || warnings.iter().any(|warning| warning.contains(number)) {
            return Ok(warnings);
        }
        let bytes = to_bytes(Body::new(response.into_body()), ANSWER_LIMIT).await.unwrap_or_default();
        let said = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            kube::core::Status::failure(&format!("the API server answered {status}"), "")
        });
        return Err(kube::Error::Api(Box::new(said)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2_only_the_number_that_was_sent_counts() {
        let probes = Probes::default();
        assert!(!probes.take(), "nothing was sent");
        probes.receive("one");
        probes.send("one");
        assert!(!probes.take(), "it came before it was sent");
        probes.send("one");
        probes.receive("two");
        assert!(!probes.take(), "it is another replica's");
        probes.send("one");
        probes.receive("one");
        assert!(probes.take());
        assert!(!probes.take(), "it counts once");
    }
}
