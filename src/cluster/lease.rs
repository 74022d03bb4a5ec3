//! Who of the replicas leads: the one whose name stands in a Lease, and who renews it.
//!
//! Only the leader writes what all share. Each write is guarded by the resource version besides, so that two who believe to lead
//! for a moment do no harm; the Lease keeps them from undoing each other's work. No clock is compared with another machine's: a
//! Lease has ended once this process has seen it unchanged for as long as it is granted.

mod elector;
mod owner;

use std::{sync::Arc, time::Duration};

use elector::{Elector, Step};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client, api::PostParams};
use owner::Owner;
use tokio::{sync::watch, time::Instant};

use super::{
    call::{self, Trouble},
    last_review::LastReview,
};

/// Who is named as the one that wrote a field.
const MANAGER: &str = "bonafide";
/// How long the release at the end may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a Lease is granted, and how often it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long the others wait for a holder who is not heard of. Whole seconds.
    pub granted: Duration,
    /// How often the leader renews it.
    pub renew: Duration,
    /// When a leader who cannot renew it stops to be one; before the others may begin.
    pub give_up: Duration,
    /// How often it is looked at by who does not lead, or could not renew it.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            granted: Duration::from_secs(15),
            renew: Duration::from_secs(5),
            give_up: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Which Lease, and in whose name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The Lease's namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who this replica is.
    pub identity: String,
    /// See [`Timing`].
    pub timing: Timing,
}

/// Takes part in the election until `shutdown` is over, then gives the Lease back. `leads` says whether this replica leads; by the Lease,
/// replicas tell each other of their last review.
pub async fn run(
    client: Client,
    settings: Settings,
    last_review: Arc<LastReview>,
    leads: watch::Sender<bool>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let api: Api<Lease> = Api::namespaced(client, &settings.namespace);
    let mut candidate = Candidate {
        api,
        elector: Elector::new(settings.identity.clone(), settings.timing),
        owner: Owner::default(),
        last_review,
        settings,
        trouble: Trouble::new("keep the Lease"),
    };
    tokio::select! {
        () = candidate.stand(&leads) => {}
        () = shutdown => {}
    }
    publish(&leads, false);
    candidate.release().await;
}

fn publish(leads: &watch::Sender<bool>, leading: bool) {
    let changed = leads.send_if_modified(|known| std::mem::replace(known, leading) != leading);
    if changed {
        tracing::info!(
            leading,
            "{}",
            if leading { "this replica leads" } else { "this replica does not lead" }
        );
    }
}

struct Candidate {
    api: Api<Lease>,
    elector: Elector,
    owner: Owner,
    last_review: Arc<LastReview>,
    settings: Settings,
    trouble: Trouble,
}

impl Candidate {
    async fn stand(&mut self, leads: &watch::Sender<bool>) {
        let timing = self.settings.timing;
        loop {
            let begin = Instant::now();
            let before = self.elector.leads_until();
            // A leader whose call hangs must know when its time is over.
            let end = before.filter(|end| *end > begin);
            publish(leads, end.is_some());
            let limit = end.map_or(call::LIMIT, |end| end.duration_since(begin).min(call::LIMIT));
            match call::within(limit, self.round()).await {
                Ok(()) => self.trouble.is_over(),
                Err(error) => self.trouble.goes_on(&call::words(&error)),
            }
            let (after, now) = (self.elector.leads_until(), Instant::now());
            let end = after.filter(|end| *end > now);
            publish(leads, end.is_some());
            let next = match end {
                Some(_) if after > before => begin + timing.renew,
                Some(end) => end.min(now + timing.retry),
                None => now + timing.retry,
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Looks at the Lease once, and writes it where it is ours or free.
    async fn round(&mut self) -> Result<(), kube::Error> {
        let seen = self.api.get_opt(&self.settings.name).await?;
        let spec = seen.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let (sent, now) = (Instant::now(), Timestamp::now());
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let name = &self.settings.name;
        if let Some(lease) = &seen {
            self.last_review.read(lease, now);
        }
        let mut lease = seen.clone().unwrap_or_default();
        let is_told = !self.last_review.write(&mut lease, now);
        let Step::Write(spec) = self.elector.look(spec.as_ref(), sent, now) else {
            if is_told {
                return Ok(());
            }
            return match self.api.replace(name, &params, &lease).await {
                // Somebody wrote in between: the next look tells what.
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                written => written.map(drop),
            };
        };
        lease.spec = Some(spec);
        let owned =
            self.owner.own(self.api.clone().into_client(), &self.settings.namespace, &mut lease).await;
        let written = if seen.is_some() {
            // The resource version that was read goes back with it: whoever writes in between wins.
            self.api.replace(name, &params, &lease).await
        } else {
            lease.metadata.name = Some(name.clone());
            self.api.create(&params, &lease).await
        };
        match written {
            Ok(_) => self.elector.renewed(sent),
            // Somebody else was faster: the next look tells who.
            Err(kube::Error::Api(status)) if status.code == 409 => self.elector.refused(),
            // Some clusters let only those set an owner who may delete the object. To lead is worth more.
            Err(kube::Error::Api(status)) if status.code == 403 && owned => {
                self.owner.give_up(&status.message);
                self.elector.refused();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Gives the Lease back, so that the others need not wait for its end.
    async fn release(&mut self) {
        let given = call::within(FAREWELL, async {
            let Some(lease) = self.api.get_opt(&self.settings.name).await? else { return Ok(false) };
            let Some(spec) = self.elector.farewell(lease.spec.as_ref(), Timestamp::now()) else {
                return Ok(false);
            };
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            let lease = Lease { spec: Some(spec), ..lease };
            self.api.replace(&self.settings.name, &params, &lease).await.map(|_| true)
        });
        match given.await {
            Ok(true) => tracing::info!("gave the Lease back"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(why = call::words(&error), "cannot give the Lease back; it ends by itself");
            }
        }
    }
}

/// The holder that a Lease names; nobody where it is empty.
fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
mod tests;
