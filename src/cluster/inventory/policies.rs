//! The policies of an inventory: what their objects are to a review, and what becomes of them when keys that they reference change.

use std::sync::Arc;

use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::Value;

use super::{ClusterInventory, Watched, reported};
use crate::{
    api::compile::compile_object,
    cluster::{
        keys::{KeyObjects, Wanted},
        state::{Keyed, KnownPolicy, Reach},
        watch::Change,
    },
    domain::policy::{PolicyEntry, PolicyId},
};

impl ClusterInventory {
    /// Takes a change of policies in.
    pub(in crate::cluster) fn take_policies(
        &self,
        watched: Watched,
        reach: Reach,
        change: Change<(PolicyId, KnownPolicy)>,
    ) {
        self.take(watched, change, |state, change| match change {
            Change::All(all) => state.all_policies(reach, all),
            Change::One((id, policy)) => state.one_policy(id, policy),
            Change::Gone((id, policy)) => state.policy_gone(&id, &policy.uid),
            Change::Lost(_) | Change::Absent(_) => false,
        });
        self.policies_changed.notify_one();
        self.keys.referenced();
    }

    /// What a policy object is to a review. One that does not compile stays, and fails closed.
    pub(in crate::cluster) fn policy(
        &self,
        kind: &'static str,
        mut object: DynamicObject,
    ) -> (PolicyId, KnownPolicy) {
        let status = object.data.get("status").and_then(reported);
        let (uid, generation) =
            (object.uid().unwrap_or_default(), object.metadata.generation.unwrap_or_default());
        object.metadata.managed_fields = None;
        let json = serde_json::to_value(&object).unwrap_or_default();
        let (entry, keyed) = compiled(kind, json, self.pinning, &self.keys);
        let id =
            PolicyId { namespace: object.metadata.namespace, name: object.metadata.name.unwrap_or_default() };
        (id, KnownPolicy { uid, generation, entry, reported: status, keyed })
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
            let (entry, keyed) = compiled(keyed.kind, keyed.object.clone(), self.pinning, &self.keys);
            changed |= self.state.lock().policy_anew(&id, KnownPolicy { entry, keyed, ..policy });
        }
        if changed {
            self.publish_now();
            self.policies_changed.notify_one();
        }
    }
}

fn compiled(
    kind: &'static str,
    mut object: Value,
    pinning: bool,
    keys: &KeyObjects,
) -> (PolicyEntry, Option<Arc<Keyed>>) {
    // Known before it is compiled: keys that change meanwhile have it compiled once more.
    let revision = keys.revision();
    let compiled = compile_object(kind, &mut object, pinning, keys);
    if let PolicyEntry::Invalid(policy) = &compiled.entry {
        tracing::error!(
            policy = policy.id.to_string(),
            errors = policy.errors.join("; "),
            "an invalid policy is in force and denies what it covers"
        );
    }
    let objects = compiled.key_objects;
    let keyed = (!objects.is_empty()).then(|| Arc::new(Keyed { kind, object, objects, revision }));
    (compiled.entry, keyed)
}
