//! Events on policies: what a `Warn` or `Audit` policy found, and outages. Whoever owns the policy sees them with `kubectl describe`.
//! There is at most one a minute for each policy and reason, however many pods are concerned.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::inventory::ClusterInventory;
use crate::{
    domain::{policy::PolicyId, verdict::Reason},
    gather::ports::Findings,
};

/// How long a policy's events for one reason are apart.
const APART: Duration = Duration::from_mins(1);
/// How many pairs of policy and reason are remembered.
const MOST: usize = 10_000;
/// How many events wait to be written.
const WAITING: usize = 64;
/// The most characters of a note (`events.k8s.io/v1`).
const NOTE_LIMIT: usize = 1000;
/// How long writing one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found, on its way to the API server.
struct Found {
    policy: PolicyId,
    reason: Reason,
    note: String,
}

/// Takes what was found.
pub struct PolicyEvents {
    told: Mutex<HashMap<(PolicyId, Reason), Instant>>,
    sender: mpsc::Sender<Found>,
}

/// Writes what was found.
pub struct Writer {
    receiver: mpsc::Receiver<Found>,
    inventory: Arc<ClusterInventory>,
    recorder: Recorder,
}

impl PolicyEvents {
    /// Takes findings, and writes them as `identity`.
    pub fn new(client: Client, inventory: Arc<ClusterInventory>, identity: String) -> (Arc<Self>, Writer) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let reporter = Reporter { controller: "bonafide".to_owned(), instance: Some(identity) };
        let recorder = Recorder::new(client, reporter);
        (Arc::new(Self { told: Mutex::default(), sender }), Writer { receiver, inventory, recorder })
    }

    /// Whether it is time for another event.
    fn is_due(&self, policy: &PolicyId, reason: Reason, now: Instant) -> bool {
        let mut told = self.told.lock();
        let key = (policy.clone(), reason);
        if told.get(&key).is_some_and(|last| now.saturating_duration_since(*last) < APART) {
            return false;
        }
        if told.len() >= MOST {
            told.retain(|_, last| now.saturating_duration_since(*last) < APART);
        }
        if told.len() >= MOST {
            return false;
        }
        told.insert(key, now);
        true
    }
}

impl Findings for PolicyEvents {
    fn found(&self, policy: &PolicyId, reason: Reason, note: &dyn Fn() -> String) {
        if !self.is_due(policy, reason, Instant::now()) {
            return;
        }
        let mut note = note();
        note.truncate(note.floor_char_boundary(NOTE_LIMIT));
        // Where so many wait that there is no room, one more tells nothing new.
        let _ = self.sender.try_send(Found { policy: policy.clone(), reason, note });
    }
}

impl Writer {
    /// Writes events for ever.
    pub async fn run(mut self) {
        while let Some(found) = self.receiver.recv().await {
            let Some(uid) = self.inventory.policy_uid(&found.policy) else { continue };
            let event = Event {
                type_: EventType::Warning,
                reason: found.reason.as_str().to_owned(),
                note: Some(found.note),
                action: "Review".to_owned(),
                secondary: None,
            };
            let about = ObjectReference {
                api_version: Some("bonafide.dev/v1alpha1".to_owned()),
                kind: Some(found.policy.kind().to_owned()),
                name: Some(found.policy.name.clone()),
                namespace: found.policy.namespace.clone(),
                uid: Some(uid),
                ..ObjectReference::default()
            };
            let written = tokio::time::timeout(PATIENCE, self.recorder.publish(&event, &about)).await;
            let error = match written {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server did not answer in time".to_owned(),
            };
            tracing::warn!(policy = found.policy.to_string(), error, "an event cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_a_minute_for_each_policy_and_reason() {
        let (sender, _receiver) = mpsc::channel(1);
        let events = PolicyEvents { told: Mutex::default(), sender };
        let id = |name: &str| PolicyId { namespace: None, name: name.to_owned() };
        let start = Instant::now();
        assert!(events.is_due(&id("a"), Reason::NoProvenance, start));
        assert!(!events.is_due(&id("a"), Reason::NoProvenance, start + APART / 2));
        assert!(events.is_due(&id("a"), Reason::WrongSigner, start));
        assert!(events.is_due(&id("b"), Reason::NoProvenance, start));
        assert!(events.is_due(&id("a"), Reason::NoProvenance, start + APART));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (sender, _receiver) = mpsc::channel(1);
        let events = PolicyEvents { told: Mutex::default(), sender };
        let start = Instant::now();
        for n in 0..=MOST {
            let id = PolicyId { namespace: None, name: n.to_string() };
            assert_eq!(events.is_due(&id, Reason::NoProvenance, start), n < MOST);
        }
        let id = PolicyId { namespace: None, name: "later".to_owned() };
        assert!(events.is_due(&id, Reason::NoProvenance, start + APART));
    }
}
