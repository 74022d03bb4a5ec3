//! The policies of an inventory: what their objects are to a review, and what becomes of them when keys that they reference change.

use std::{collections::BTreeSet, fmt, sync::Arc};

use futures::future::BoxFuture;
use kube::Client;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::{ClusterInventory, Watched};
use crate::{
    api::compile::compile_object,
    cluster::{
        call,
        follow::{Sent, list},
        install::PolicyCensus,
        keys::Wanted,
        objects::{self, ApiObject},
        reach::{ReachRule, WebhookReach},
        state::{Keyed, KnownPolicy, Reach, Reported},
        watch::Change,
    },
    domain::policy::{PolicyEntry, PolicyId},
};

/// The kind of policies of a namespace.
pub(super) const NAMESPACED: &str = "ProvenancePolicy";
/// The kind of policies of the cluster.
pub(super) const CLUSTER: &str = "ClusterProvenancePolicy";

/// Where the policies of a kind are.
pub(super) fn path(watched: Watched) -> String {
    format!("/apis/bonafide.dev/v1alpha1/{watched}")
}

/// Holds the policies that are known against those that the API server lists.
pub struct ListedPolicies {
    client: Client,
    inventory: Arc<ClusterInventory>,
}

impl fmt::Debug for ListedPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListedPolicies").finish_non_exhaustive()
    }
}

/// A policy object as it is written: its id, its uid and its generation.
type Version = (PolicyId, String, i64);

impl ListedPolicies {
    /// Nothing is listed yet.
    pub fn new(client: Client, inventory: Arc<ClusterInventory>) -> Arc<Self> {
        Arc::new(Self { client, inventory })
    }

    async fn list(&self) -> Result<BTreeSet<Version>, kube::Error> {
        let mut all = BTreeSet::new();
        for watched in [Watched::Policies, Watched::ClusterPolicies] {
            let (path, read) = (path(watched), objects::version);
            match call::within(call::LIMIT, list(&self.client, &path, Sent::Metadata, read)).await {
                // There is no such kind.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                listed => all.extend(listed?.0.into_iter().map(|(namespace, name, uid, generation)| {
                    (PolicyId { namespace, name }, uid, generation)
                })),
            }
        }
        Ok(all)
    }
}

impl PolicyCensus for ListedPolicies {
    fn is_current(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let listed = match self.list().await {
                Ok(listed) => listed,
                Err(error) => {
                    tracing::warn!(error = call::words(&error), "the policies cannot be listed");
                    return false;
                }
            };
            let known = self.inventory.policies().into_iter();
            let known = known.map(|(id, policy)| (id, policy.uid, policy.generation));
            known.collect::<BTreeSet<_>>() == listed
        })
    }
}

impl ClusterInventory {
    /// Takes a change of policies in.
    pub(in crate::cluster) fn take_policies(
        &self,
        watched: Watched,
        reach: Reach,
        change: Change<(PolicyId, KnownPolicy)>,
    ) {
        let has_room = match &change {
            Change::All(all) => self.budget.lock().retain(|id| {
                !reach.is_of(id) || all.iter().any(|(known, policy)| known == id && !policy.beyond_budget)
            }),
            Change::Gone((id, _)) => self.budget.lock().release(id),
            Change::One(_) => true,
            Change::Lost(_) | Change::Absent(_) => false,
        };
        self.take(watched, change, |state, change| match change {
            Change::All(all) => state.all_policies(reach, all),
            Change::One((id, policy)) => state.one_policy(id, policy),
            Change::Gone((id, policy)) => state.policy_gone(&id, &policy.uid),
            Change::Lost(_) | Change::Absent(_) => false,
        });
        // A change may have made a policy smaller.
        if has_room && self.state.lock().has_beyond_budget(reach) {
            self.room_for(reach).notify_one();
        }
        self.policies_changed.notify_one();
        self.policy_revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        self.keys.referenced();
    }

    pub(super) const fn room_for(&self, reach: Reach) -> &Notify {
        let [of_namespaces, of_cluster] = &self.room;
        match reach {
            Reach::Namespace => of_namespaces,
            Reach::Cluster => of_cluster,
        }
    }

    /// What a policy object is to a review. One that does not compile stays, and fails closed.
    pub(in crate::cluster) fn policy(
        &self,
        kind: &'static str,
        object: ApiObject,
    ) -> (PolicyId, KnownPolicy) {
        let ApiObject { name, namespace, uid, generation, object: json, status } = object;
        let status = status.as_ref().and_then(Reported::of);
        let id = PolicyId { namespace, name };
        let (entry, keyed, beyond_budget) = self.compiled(&id, kind, json);
        (id, KnownPolicy { uid, generation, entry, reported: status, keyed, beyond_budget })
    }

    /// Whether there is a complete list of policies of either kind.
    pub(in crate::cluster) fn lists_policies(&self) -> bool {
        self.unlisted_of(&[Watched::Policies, Watched::ClusterPolicies]).is_empty()
    }

    /// What the policies reference.
    pub(in crate::cluster) fn wanted_keys(&self) -> Wanted {
        let mut wanted = Wanted::new();
        let state = self.state.lock();
        let keyed = state.policies().filter_map(|(_, policy)| policy.keyed.as_deref());
        for object in keyed.flat_map(|keyed| &keyed.objects) {
            wanted.entry(object.holder.clone()).or_default().insert(object.key.clone());
        }
        wanted
    }

    /// Compiles the policies anew whose keys are others than they were compiled with.
    pub(in crate::cluster) fn compile_anew(&self) {
        let of = |(id, policy): (&PolicyId, &KnownPolicy)| {
            let keyed = policy.keyed.as_ref()?;
            let is_outdated = self.keys.have_changed(&keyed.objects, keyed.revision);
            is_outdated.then(|| (id.clone(), policy.clone(), Arc::clone(keyed)))
        };
        let all: Vec<_> = self.state.lock().policies().filter_map(of).collect();
        let mut changed = false;
        for (id, policy, keyed) in all {
            tracing::info!(policy = id.to_string(), "keys that it references are others than before");
            let (entry, keyed, beyond_budget) = self.compiled(&id, keyed.kind, keyed.object.clone());
            let policy = KnownPolicy { entry, keyed, beyond_budget, ..policy };
            changed |= self.state.lock().policy_anew(&id, policy);
        }
        if changed {
            self.publish_now();
            self.policies_changed.notify_one();
            self.policy_revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        }
    }

    /// Tells what the policies need the webhook configurations to select, forever; nothing until there is a complete list of them.
    pub async fn tell_reach(self: Arc<Self>, rule: ReachRule, needed: watch::Sender<Option<WebhookReach>>) {
        let mut revision = self.policy_revision.subscribe();
        loop {
            revision.borrow_and_update();
            if self.lists_policies() {
                let entries: Vec<PolicyEntry> =
                    self.state.lock().policies().map(|(_, policy)| policy.entry.clone()).collect();
                let rule = rule.clone();
                // Thousands of policies take their time.
                if let Ok(reach) = tokio::task::spawn_blocking(move || rule.reach(&entries)).await {
                    let reach = Some(reach);
                    needed.send_if_modified(|known| {
                        let changed = *known != reach;
                        if changed {
                            *known = reach;
                        }
                        changed
                    });
                }
            }
            if revision.changed().await.is_err() {
                return;
            }
        }
    }

    /// What an object compiles to, what it is compiled anew from, and whether there is no room for it.
    fn compiled(
        &self,
        id: &PolicyId,
        kind: &'static str,
        mut object: Value,
    ) -> (PolicyEntry, Option<Arc<Keyed>>, bool) {
        // Known before it is compiled: keys that change meanwhile have it compiled once more.
        let revision = self.keys.revision();
        let mut compiled = compile_object(kind, &mut object, self.pinning, self.keys.as_ref());
        let room = self.budget.lock().admit(id, compiled.bytes);
        let beyond_budget = room.is_err();
        if let Err(why) = room {
            compiled.refuse_for_room(why);
        }
        if let PolicyEntry::Invalid(policy) = &compiled.entry {
            tracing::error!(
                policy = policy.id.to_string(),
                errors = policy.errors.join("; "),
                mode = ?policy.mode,
                "a policy is invalid; in mode Enforce it denies what it is for"
            );
        }
        let objects = compiled.key_objects;
        let is_keyed = !objects.is_empty() && !beyond_budget;
        let keyed = is_keyed.then(|| Arc::new(Keyed { kind, object, objects, revision }));
        (compiled.entry, keyed, beyond_budget)
    }
}
