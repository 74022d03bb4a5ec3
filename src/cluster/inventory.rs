//! The inventory of a cluster: policies, namespaces, nodes and runtime classes, each followed by a watch of its own.

mod course;
mod nodes;
mod policies;
mod watched;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use kube::Client;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::policies::ListedPolicies;
pub use self::watched::Watched;
use self::{course::Course, nodes::NodeLookups};
use super::{
    follow::{Sent, follow},
    keys::KeyObjects,
    objects::{self, ApiObject},
    state::{KnownPolicy, Reach, State},
    watch::Change,
};
use crate::{
    domain::{
        platform::Platform,
        policy::{PolicyEntry, PolicyId},
        policy_budget::PolicyBudget,
    },
    gather::ports::{Incomplete, Inventory, LabelMap, Snapshot, Unlisted, Unmatched},
};

/// How long changes are gathered before a snapshot is made of them: thousands of nodes come one by one.
const GATHERING: Duration = Duration::from_millis(10);

/// How long to wait before policies are listed again because there is room for more of them.
const BEFORE_LISTING_AGAIN: Duration = Duration::from_secs(10);

/// What is known of a cluster, followed for the process's life.
#[derive(Debug)]
pub struct ClusterInventory {
    pinning: bool,
    keys: Arc<KeyObjects>,
    state: Mutex<State>,
    courses: Mutex<BTreeMap<Watched, Course>>,
    /// Filled when everything that a verdict depends on was listed once, and never emptied.
    current: ArcSwapOption<Snapshot>,
    changed: Notify,
    /// Somebody writes the status of policies when they change.
    policies_changed: Notify,
    nodes: NodeLookups,
    /// How much room policies take.
    budget: Mutex<PolicyBudget>,
    /// There is room again for policies that there was none for.
    room: [Notify; 2],
    /// All policies were forgotten. Those that come back are listed: a watch that goes on does not tell of them.
    forgotten: [Notify; 2],
    /// Changes with the policies, or with whether they are listed.
    policy_revision: tokio::sync::watch::Sender<u64>,
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
        Arc::new(Self {
            pinning,
            keys,
            current: ArcSwapOption::empty(),
            state: Mutex::new(State::new(platforms, unmatched, pinning)),
            courses: Mutex::default(),
            changed: Notify::new(),
            policies_changed: Notify::new(),
            nodes: NodeLookups::default(),
            budget: Mutex::default(),
            room: [Notify::new(), Notify::new()],
            forgotten: [Notify::new(), Notify::new()],
            policy_revision: tokio::sync::watch::Sender::new(0),
        })
    }

    /// Follows everything for ever.
    pub async fn run(self: Arc<Self>, client: Client) {
        self.nodes.ask(client.clone());
        tokio::join!(
            self.follow_policies(&client, Watched::Policies, policies::NAMESPACED, Reach::Namespace),
            self.follow_policies(&client, Watched::ClusterPolicies, policies::CLUSTER, Reach::Cluster),
            self.follow_namespaces(&client),
            self.follow_nodes(&client),
            self.follow_runtime_classes(&client),
            self.look_up_unlabelled(),
            self.publish(),
        );
    }

    /// What there is no complete list of yet, and why.
    pub fn unlisted(&self) -> Vec<Unlisted> {
        let mut unlisted = self.missing();
        unlisted.extend(self.unlisted_of(&[Watched::Pods]));
        unlisted
    }

    /// What a verdict depends on and was not listed yet. Pods are not among it: a binding asks the API server where it must.
    fn missing(&self) -> Vec<Unlisted> {
        let mut missing = self.unlisted_of(&Watched::ALL);
        missing.retain(|unlisted| unlisted.resource != Watched::Pods.as_str());
        // The keys that policies reference are read when the policies are known.
        if missing.is_empty() && !self.keys.is_settled() {
            missing.push(Unlisted { resource: "keys", error: None });
        }
        missing
    }

    fn unlisted_of(&self, all: &[Watched]) -> Vec<Unlisted> {
        let courses = self.courses.lock();
        let unlisted = |watched: &Watched| {
            let course = courses.get(watched);
            let error = course.and_then(|course| course.lost.as_ref()).map(|lost| lost.error.clone());
            let is_listed = course.is_some_and(|course| course.listed);
            (!is_listed).then(|| Unlisted { resource: watched.as_str(), error })
        };
        all.iter().filter_map(unlisted).collect()
    }

    /// For how long something has not been followed; zero where it is.
    pub fn staleness(&self, watched: Watched) -> Duration {
        let mut courses = self.courses.lock();
        let Some(course) = courses.get_mut(&watched) else { return Duration::ZERO };
        course.lasts(watched)
    }

    /// The policy objects as they are known, in order.
    pub fn policies(&self) -> Vec<(PolicyId, KnownPolicy)> {
        self.state.lock().policies().map(|(id, policy)| (id.clone(), policy.clone())).collect()
    }

    /// The labels of each namespace.
    pub(super) fn namespaces(&self) -> Arc<BTreeMap<String, LabelMap>> {
        self.state.lock().namespaces()
    }

    /// How many bytes the labels of namespaces take.
    pub fn label_bytes(&self) -> u64 {
        u64::try_from(self.state.lock().label_bytes()).unwrap_or(u64::MAX)
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
            None => course.goes(watched),
            Some(error) => course.is_lost(watched, error),
        }
    }

    /// The API server does not have the kind. Whether that counts as a complete list without objects: at once where there was no list
    /// yet, and after [`ABSENT`] where objects may be known.
    pub(super) fn is_absent(&self, watched: Watched, error: &str) -> bool {
        let is_empty = watched.may_be_absent() && {
            let mut courses = self.courses.lock();
            courses.entry(watched).or_default().counts_as_empty()
        };
        if is_empty {
            // Told before the error is: what counts as listed keeps no review waiting.
            self.courses.lock().entry(watched).or_default().listed = true;
        }
        self.watched(watched, Some(error));
        is_empty
    }

    /// There is a complete list of it, which the state has already.
    pub(super) fn listed(&self, watched: Watched) {
        self.courses.lock().entry(watched).or_default().listed = true;
        self.publish_now();
    }

    /// What policies reference was read once.
    pub(super) fn keys_settled(&self) {
        self.publish_now();
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
        let before = self.current.load();
        if before.is_none() && !self.missing().is_empty() {
            return;
        }
        let snapshot = state.snapshot();
        if before.as_ref().is_none_or(|before| before.policies.generation != snapshot.policies.generation) {
            let all = snapshot.policies.entries();
            let invalid = all.iter().filter(|entry| matches!(entry, PolicyEntry::Invalid(_))).count();
            tracing::info!(
                policies = all.len(),
                invalid,
                "other policies, or namespaces of theirs, are in force"
            );
        }
        self.current.store(Some(Arc::new(snapshot)));
    }

    /// Takes a change in. A complete list is in the snapshot before it is said to be there.
    fn take<T>(&self, watched: Watched, change: Change<T>, put: impl FnOnce(&mut State, Change<T>) -> bool) {
        match &change {
            Change::Lost(error) => return self.watched(watched, Some(error)),
            Change::Absent(error) => {
                if self.is_absent(watched, error) {
                    let had_some = put(&mut self.state.lock(), Change::All(Vec::new()));
                    self.listed(watched);
                    if had_some {
                        self.forgotten(watched).into_iter().for_each(Notify::notify_one);
                    }
                }
                return;
            }
            Change::All(_) | Change::One(_) | Change::Gone(_) => {}
        }
        let is_all = matches!(change, Change::All(_));
        let changed = put(&mut self.state.lock(), change);
        if is_all {
            self.listed(watched);
        } else if changed {
            self.changed.notify_one();
        }
        self.watched(watched, None);
    }

    async fn follow_policies(&self, client: &Client, watched: Watched, kind: &'static str, reach: Reach) {
        let path = policies::path(watched);
        // Nothing is kept of a policy that there is no room for: it is listed again once there is.
        loop {
            let read = |json: &[u8]| ApiObject::read(json).map(|object| self.policy(kind, object));
            let following = follow(client, &path, Sent::Whole, read, |change| {
                self.take_policies(watched, reach, change);
            });
            tokio::select! {
                () = following => {}
                () = self.has_room(reach) => {}
                () = self.are_forgotten(watched) => {}
            }
        }
    }

    /// Where is told that all objects of a kind were forgotten.
    const fn forgotten(&self, watched: Watched) -> Option<&Notify> {
        let [of_namespaces, of_cluster] = &self.forgotten;
        match watched {
            Watched::Policies => Some(of_namespaces),
            Watched::ClusterPolicies => Some(of_cluster),
            _ => None,
        }
    }

    async fn are_forgotten(&self, watched: Watched) {
        match self.forgotten(watched) {
            Some(forgotten) => forgotten.notified().await,
            None => std::future::pending().await,
        }
    }

    async fn has_room(&self, reach: Reach) {
        self.room_for(reach).notified().await;
        tokio::time::sleep(BEFORE_LISTING_AGAIN).await;
    }

    async fn follow_namespaces(&self, client: &Client) {
        follow(client, "/api/v1/namespaces", Sent::Metadata, objects::labels, |change| {
            self.take(Watched::Namespaces, change, |state, change| match change {
                Change::All(all) => state.all_namespaces(known(all)),
                Change::One((name, Some(labels))) => state.one_namespace((name, labels)),
                Change::One((name, None)) | Change::Gone((name, _)) => state.namespace_gone(&name),
                Change::Lost(_) | Change::Absent(_) => false,
            });
        })
        .await;
    }

    async fn follow_nodes(&self, client: &Client) {
        follow(client, "/api/v1/nodes", Sent::Metadata, objects::node, |change| {
            self.take(Watched::Nodes, change, |state, change| match change {
                Change::All(all) => state
                    .all_nodes(all.into_iter().filter_map(|(node, known)| known.then_some(node)).collect()),
                Change::One((node, true)) => state.one_node(node),
                Change::One((node, false)) | Change::Gone((node, _)) => state.node_gone(&node.name),
                Change::Lost(_) | Change::Absent(_) => false,
            });
            self.nodes.changed();
        })
        .await;
    }

    async fn follow_runtime_classes(&self, client: &Client) {
        follow(
            client,
            "/apis/node.k8s.io/v1/runtimeclasses",
            Sent::Whole,
            objects::runtime_class,
            |change| {
                self.take(Watched::RuntimeClasses, change, |state, change| match change {
                    Change::All(all) => state.all_runtime_classes(known(all)),
                    Change::One((name, Some(selector))) => state.one_runtime_class((name, selector)),
                    Change::One((name, None)) | Change::Gone((name, _)) => state.runtime_class_gone(&name),
                    Change::Lost(_) | Change::Absent(_) => false,
                });
            },
        )
        .await;
    }
}

impl Inventory for ClusterInventory {
    fn snapshot(&self) -> Result<Arc<Snapshot>, Incomplete> {
        self.current.load_full().ok_or_else(|| Incomplete(self.missing()))
    }

    fn look_up_node<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.find_node(name))
    }
}

/// Those whose labels are known. What is not known may be anything to whoever looks at it.
fn known<T>(all: Vec<(String, Option<T>)>) -> Vec<(String, T)> {
    all.into_iter().filter_map(|(name, labels)| Some((name, labels?))).collect()
}

#[cfg(test)]
mod tests;
