//! The inventory of a cluster: policies, namespaces, nodes and runtime classes, each followed by a watch of its own.

mod policies;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use k8s_openapi::api::{
    core::v1::{Namespace, Node as NodeObject},
    node::v1::RuntimeClass,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    core::{GroupVersionKind, PartialObjectMeta},
    runtime::watcher,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use super::{
    keys::KeyObjects,
    state::{KnownPolicy, Reach, Reported, State},
    watch::{self, Change},
};
use crate::{
    domain::{
        platform::Platform,
        policy::{PolicyEntry, PolicyId},
        workload::Node,
    },
    gather::ports::{Inventory, LabelMap, Snapshot, Unmatched},
};

/// How long changes are gathered before a snapshot is made of them: thousands of nodes come one by one.
const GATHERING: Duration = Duration::from_millis(10);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// `ProvenancePolicy` objects
    Policies,
    /// `ClusterProvenancePolicy` objects
    ClusterPolicies,
    /// `Namespace` objects
    Namespaces,
    /// `Node` objects
    Nodes,
    /// `RuntimeClass` objects
    RuntimeClasses,
    /// pods that are not bound yet
    Pods,
    /// `TrustRoot` objects
    TrustRoots,
}

impl Watched {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Policies,
        Self::ClusterPolicies,
        Self::Namespaces,
        Self::Nodes,
        Self::RuntimeClasses,
        Self::Pods,
        Self::TrustRoots,
    ];

    /// The resource's name, as Kubernetes has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policies => "provenancepolicies",
            Self::ClusterPolicies => "clusterprovenancepolicies",
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::RuntimeClasses => "runtimeclasses",
            Self::Pods => "pods",
            Self::TrustRoots => "trustroots",
        }
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a watch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Course {
    /// Whether there was a complete list.
    listed: bool,
    /// Since when it does not go.
    lost: Option<Instant>,
}

/// What is known of a cluster, followed for the process's life.
#[derive(Debug)]
pub struct ClusterInventory {
    pinning: bool,
    keys: Arc<KeyObjects>,
    state: Mutex<State>,
    courses: Mutex<BTreeMap<Watched, Course>>,
    current: ArcSwap<Snapshot>,
    changed: Notify,
    /// Somebody writes the status of policies when they change.
    policies_changed: Notify,
}

impl ClusterInventory {
    /// Nothing is known yet.
    ///
    /// `pinning`: pods go through `/mutate`. What policies reference is among `keys`.
    pub fn new(
        platforms: Vec<Platform>,
        unmatched: Unmatched,
        pinning: bool,
        keys: Arc<KeyObjects>,
    ) -> Arc<Self> {
        let state = State::new(platforms, unmatched, pinning);
        Arc::new(Self {
            pinning,
            keys,
            current: ArcSwap::from_pointee(state.snapshot()),
            state: Mutex::new(state),
            courses: Mutex::default(),
            changed: Notify::new(),
            policies_changed: Notify::new(),
        })
    }

    /// Follows everything for ever.
    pub async fn run(self: Arc<Self>, client: Client) {
        tokio::join!(
            self.follow_policies(&client, Watched::Policies, "ProvenancePolicy", Reach::Namespace),
            self.follow_policies(
                &client,
                Watched::ClusterPolicies,
                "ClusterProvenancePolicy",
                Reach::Cluster
            ),
            self.follow_namespaces(&client),
            self.follow_nodes(&client),
            self.follow_runtime_classes(&client),
            self.publish(),
        );
    }

    /// What there is no complete list of yet.
    pub fn unlisted(&self) -> Vec<Watched> {
        let courses = self.courses.lock();
        let is_listed = |watched: &Watched| courses.get(watched).is_some_and(|course| course.listed);
        Watched::ALL.into_iter().filter(|watched| !is_listed(watched)).collect()
    }

    /// For how long something has not been followed; zero where it is.
    pub fn staleness(&self, watched: Watched) -> Duration {
        let courses = self.courses.lock();
        courses.get(&watched).and_then(|course| course.lost).map(|since| since.elapsed()).unwrap_or_default()
    }

    /// The policy objects as they are known, in order.
    pub fn policies(&self) -> Vec<(PolicyId, KnownPolicy)> {
        self.state.lock().policies().map(|(id, policy)| (id.clone(), policy.clone())).collect()
    }

    /// The uid of a policy object.
    pub(super) fn policy_uid(&self, id: &PolicyId) -> Option<String> {
        self.state.lock().policy_uid(id).map(ToOwned::to_owned)
    }

    /// Ends when policies have changed.
    pub async fn policies_changed(&self) {
        self.policies_changed.notified().await;
    }

    /// Other trust roots are in force: what is said of policies that name them may not be true any more.
    pub(super) fn roots_changed(&self) {
        self.policies_changed.notify_one();
    }

    /// A watch tells how it goes.
    pub(super) fn watched(&self, watched: Watched, lost: Option<&str>) {
        let mut courses = self.courses.lock();
        let course = courses.entry(watched).or_default();
        match lost {
            None => {
                if let Some(since) = course.lost.take() {
                    let for_seconds = since.elapsed().as_secs();
                    tracing::info!(resource = watched.as_str(), for_seconds, "followed again");
                }
            }
            Some(error) if course.lost.is_none() => {
                course.lost = Some(Instant::now());
                tracing::warn!(
                    resource = watched.as_str(),
                    error,
                    "cannot be followed at the moment; what was last known stays in force"
                );
            }
            Some(_) => {}
        }
    }

    /// There is a complete list of it, and it is in the snapshot.
    pub(super) fn listed(&self, watched: Watched) {
        self.courses.lock().entry(watched).or_default().listed = true;
    }

    async fn publish(&self) {
        loop {
            self.changed.notified().await;
            tokio::time::sleep(GATHERING).await;
            self.publish_now();
        }
    }

    fn publish_now(&self) {
        // Made and stored under one lock: an older one never follows a newer.
        let state = self.state.lock();
        let snapshot = state.snapshot();
        if snapshot.policies.generation != self.current.load().policies.generation {
            let all = snapshot.policies.entries();
            let invalid = all.iter().filter(|entry| matches!(entry, PolicyEntry::Invalid(_))).count();
            tracing::info!(
                policies = all.len(),
                invalid,
                "other policies, or namespaces of theirs, are in force"
            );
        }
        self.current.store(Arc::new(snapshot));
    }

    /// Takes a change in. A complete list is in the snapshot before it is said to be there.
    fn take<T>(&self, watched: Watched, change: Change<T>, put: impl FnOnce(&mut State, Change<T>) -> bool) {
        if let Change::Lost(error) | Change::Refused(error) = &change {
            return self.watched(watched, Some(error));
        }
        let is_all = matches!(change, Change::All(_));
        let changed = put(&mut self.state.lock(), change);
        if is_all {
            self.publish_now();
            self.listed(watched);
        } else if changed {
            self.changed.notify_one();
        }
        self.watched(watched, None);
    }

    async fn follow_policies(&self, client: &Client, watched: Watched, kind: &'static str, reach: Reach) {
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("bonafide.dev", "v1alpha1", kind),
            watched.as_str(),
        );
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let convert = |object| self.policy(kind, object);
        watch::follow(watcher::watcher(objects, watch::settings()), convert, |change| {
            self.take_policies(watched, reach, change);
        })
        .await;
    }

    async fn follow_namespaces(&self, client: &Client) {
        let objects: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
        let events = watcher::watcher(objects, watch::settings());
        watch::follow(events, labels, |change| {
            self.take(Watched::Namespaces, change, |state, change| match change {
                Change::All(all) => state.all_namespaces(all),
                Change::One(one) => state.one_namespace(one),
                Change::Gone((name, _)) => state.namespace_gone(&name),
                Change::Lost(_) | Change::Refused(_) => false,
            });
        })
        .await;
    }

    async fn follow_nodes(&self, client: &Client) {
        let objects: Api<PartialObjectMeta<NodeObject>> = Api::all(client.clone());
        let events = watcher::watcher(objects, watch::settings());
        let convert = |object: PartialObjectMeta<NodeObject>| {
            let (name, labels) = labels(object);
            Node { name, labels }
        };
        watch::follow(events, convert, |change| {
            self.take(Watched::Nodes, change, |state, change| match change {
                Change::All(all) => state.all_nodes(all),
                Change::One(node) => state.one_node(node),
                Change::Gone(node) => state.node_gone(&node.name),
                Change::Lost(_) | Change::Refused(_) => false,
            });
        })
        .await;
    }

    async fn follow_runtime_classes(&self, client: &Client) {
        let objects: Api<RuntimeClass> = Api::all(client.clone());
        let convert = |object: RuntimeClass| {
            let selector = object.scheduling.and_then(|scheduling| scheduling.node_selector);
            (object.metadata.name.unwrap_or_default(), selector.unwrap_or_default())
        };
        watch::follow(watcher::watcher(objects, watch::settings()), convert, |change| {
            self.take(Watched::RuntimeClasses, change, |state, change| match change {
                Change::All(all) => state.all_runtime_classes(all),
                Change::One(one) => state.one_runtime_class(one),
                Change::Gone((name, _)) => state.runtime_class_gone(&name),
                Change::Lost(_) | Change::Refused(_) => false,
            });
        })
        .await;
    }
}

impl Inventory for ClusterInventory {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

fn labels<K>(object: PartialObjectMeta<K>) -> (String, LabelMap) {
    (object.metadata.name.unwrap_or_default(), object.metadata.labels.unwrap_or_default())
}

/// What the condition `Ready` of a status says.
pub(super) fn reported(status: &Value) -> Option<Reported> {
    let conditions = status.get("conditions")?.as_array()?;
    let ready = conditions.iter().find(|condition| condition.get("type").is_some_and(|is| is == "Ready"))?;
    Some(Reported {
        generation: ready.get("observedGeneration")?.as_i64()?,
        ready: ready.get("status")? == "True",
        message: ready.get("message")?.as_str()?.to_owned(),
        since: ready.get("lastTransitionTime").and_then(Value::as_str).map(ToOwned::to_owned),
    })
}
