//! Events on policies: what was denied, what a `Warn` or `Audit` policy found, and outages. Owners of a policy see them with `kubectl describe`.
//!
//! There is one event for each policy, reason and object, with a text of its own. The same is told at most once a minute, and each namespace
//! has a budget, so that one that makes pods in a loop takes no events away from others.

mod budget;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use budget::Budget;
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    call::{self, Trouble},
    inventory::ClusterInventory,
};
use crate::{
    domain::{digest::Hasher, policy::PolicyId, verdict::Reason},
    gather::ports::{Findings, PolicyFinding},
};

/// How many events wait to be written.
const WAITING: usize = 256;
/// The most bytes of a note (`events.k8s.io/v1`).
const NOTE_LIMIT: usize = 1000;
/// The most bytes of the name of an event that come from the policy's.
const NAME_LIMIT: usize = 200;
/// The most bytes of `reportingInstance` (`events.k8s.io/v1`).
const INSTANCE_LIMIT: usize = 128;
/// How long writing one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where events about objects without a namespace are.
const CLUSTER_EVENTS: &str = "default";

/// What was found, on its way to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    policy: PolicyId,
    reason: Reason,
    kind: String,
    namespace: String,
    name: String,
    note: String,
    /// How often the same was told, this time included.
    times: u32,
}

/// Takes what was found.
pub struct PolicyEvents {
    budget: Mutex<Budget>,
    dropped: AtomicU64,
    sender: mpsc::Sender<Found>,
}

/// Writes what was found.
pub struct Writer {
    receiver: mpsc::Receiver<Found>,
    inventory: Arc<ClusterInventory>,
    client: Client,
    instance: String,
}

impl PolicyEvents {
    /// Takes findings, and writes them as `identity`.
    pub fn new(client: Client, inventory: Arc<ClusterInventory>, identity: String) -> (Arc<Self>, Writer) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut instance = identity;
        instance.truncate(instance.floor_char_boundary(INSTANCE_LIMIT));
        (Arc::new(Self::sending(sender)), Writer { receiver, inventory, client, instance })
    }

    fn sending(sender: mpsc::Sender<Found>) -> Self {
        Self { budget: Mutex::default(), dropped: AtomicU64::new(0), sender }
    }

    /// How many events were dropped because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Findings for PolicyEvents {
    fn found(&self, finding: &PolicyFinding<'_>, note: &dyn Fn() -> String) {
        let times = match self.budget.lock().spend(finding, Instant::now()) {
            budget::Answer::Tell(times) => times,
            budget::Answer::Told => return,
            budget::Answer::TooMany => return self.drop_one(),
        };
        let mut note = note();
        note.truncate(note.floor_char_boundary(NOTE_LIMIT));
        let PolicyFinding { policy, reason, kind, namespace, name } = *finding;
        let [kind, namespace, name] = [kind, namespace, name].map(ToOwned::to_owned);
        let found = Found { policy: policy.clone(), reason, kind, namespace, name, note, times };
        if self.sender.try_send(found).is_err() {
            self.drop_one();
        }
    }
}

impl Writer {
    /// Writes events forever.
    pub async fn run(mut self) {
        let mut trouble = Trouble::new("write events on policies");
        while let Some(found) = self.receiver.recv().await {
            let Some(uid) = self.inventory.policy_uid(&found.policy) else { continue };
            let event = event(&found, &uid, &self.instance, Timestamp::now());
            match call::within(PATIENCE, self.write(&event, found.times)).await {
                Ok(()) => trouble.is_over(),
                Err(error) => trouble.goes_on(&call::words(&error)),
            }
        }
    }

    /// Makes the event. Where it is there, this replica or another one has told the same before: then it is counted.
    async fn write(&self, event: &Event, times: u32) -> Result<(), kube::Error> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or(CLUSTER_EVENTS);
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match api.create(&PostParams::default(), event).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // The series of an event begins with its second time.
                let series = json!({"count": times.max(2), "lastObservedTime": event.event_time});
                let name = event.metadata.name.as_deref().unwrap_or_default();
                let patch = Patch::Merge(json!({"series": series}));
                api.patch(name, &PatchParams::default(), &patch).await.map(drop)
            }
            made => made.map(drop),
        }
    }
}

/// The event. Its name follows from what it says, so that the same is one event whichever replica tells it.
fn event(found: &Found, uid: &str, instance: &str, now: Timestamp) -> Event {
    let Found { policy, reason, kind, namespace, name, note, .. } = found;
    let mut content = Hasher::default();
    for part in [uid, reason.as_str(), kind, namespace, name, note] {
        content.add(&part.len().to_be_bytes());
        content.add(part.as_bytes());
    }
    let digest = content.digest().to_string();
    let hash = digest.rsplit(':').next().and_then(|hex| hex.get(..16)).unwrap_or_default();
    let start = policy.name.get(..policy.name.floor_char_boundary(NAME_LIMIT)).unwrap_or_default();
    // Each part of a name ends in a letter or digit.
    let start = start.trim_end_matches(['-', '.']);
    let mut event = Event {
        action: Some("Review".to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(note.clone()),
        reason: Some(reason.as_str().to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("bonafide.dev/v1alpha1".to_owned()),
            kind: Some(policy.kind().to_owned()),
            name: Some(policy.name.clone()),
            namespace: policy.namespace.clone(),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        related: Some(ObjectReference {
            api_version: api_version(kind).map(ToOwned::to_owned),
            kind: Some(kind.clone()),
            name: Some(name.clone()).filter(|name| !name.is_empty()),
            namespace: Some(namespace.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("bonafide".to_owned()),
        reporting_instance: Some(instance.to_owned()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    };
    event.metadata.name = Some(format!("{start}.{hash}"));
    event.metadata.namespace = Some(policy.namespace.clone().unwrap_or_else(|| CLUSTER_EVENTS.to_owned()));
    event
}

fn api_version(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" | "PodTemplate" | "ReplicationController" => Some("v1"),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => Some("apps/v1"),
        "Job" | "CronJob" => Some("batch/v1"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> PolicyId {
        PolicyId { namespace: Some("team".to_owned()), name: name.to_owned() }
    }

    #[test]
    fn e7_each_object_has_an_event_of_its_own_and_the_same_has_the_same() {
        let found = |name: &str, note: &str| Found {
            policy: policy("release"),
            reason: Reason::NoProvenance,
            kind: "Pod".to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            note: note.to_owned(),
            times: 1,
        };
        let now: Timestamp = "2026-11-28T08:00:00.123456Z".parse().unwrap();
        let name = |found: &Found| event(found, "u", "one", now).metadata.name;
        let first = found("a", "nothing is attached");
        assert_eq!(name(&first), event(&first, "u", "another", now).metadata.name);
        assert_ne!(name(&first), name(&found("b", "nothing is attached")));
        assert_ne!(name(&first), name(&found("a", "something else")));
        assert_ne!(name(&first), event(&first, "another policy", "one", now).metadata.name);
        let cut = PolicyId { namespace: None, name: format!("{}-.x", "a".repeat(NAME_LIMIT - 2)) };
        let cut = name(&Found { policy: cut, ..found("a", "a") }).unwrap();
        assert!(!cut.contains("-.") && !cut.contains(".."), "no name of an object: {cut}");
        insta::assert_json_snapshot!(event(&first, "u", "one", now));
    }

    #[test]
    fn e7_what_finds_no_room_is_dropped_and_counted() {
        let (sender, mut receiver) = mpsc::channel(1);
        let events = PolicyEvents::sending(sender);
        let told = policy("release");
        for name in ["a", "b", "a"] {
            let finding = PolicyFinding {
                policy: &told,
                reason: Reason::NoProvenance,
                kind: "Pod",
                namespace: "shop",
                name,
            };
            events.found(&finding, &|| "é".repeat(NOTE_LIMIT));
        }
        assert_eq!(events.dropped(), 1, "the second; the third was told already");
        let found = receiver.try_recv().unwrap();
        assert_eq!((found.name.as_str(), found.times), ("a", 1));
        assert!(found.note.len() <= NOTE_LIMIT && found.note.ends_with('é'));
    }
}
