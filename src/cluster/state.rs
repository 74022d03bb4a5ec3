//! What is known of the cluster, as the watches tell it, and the snapshot that reviews read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::objects;
use crate::{
    api::compile::KeyObject,
    domain::{
        platform::Platform,
        policy::{NAME_LABEL, PolicyEntry, PolicyId, PolicySet},
        workload::Node,
    },
    gather::ports::{LabelMap, Snapshot, Unmatched},
};

/// A policy object.
#[derive(Debug, Clone)]
pub struct KnownPolicy {
    /// The object's; another object of the same name has another.
    pub uid: String,
    /// Changes with the object's spec, and with nothing else.
    pub generation: i64,
    /// What it compiled to.
    pub entry: PolicyEntry,
    /// What its status says.
    pub reported: Option<Reported>,
    /// What it is compiled anew from, where it references keys.
    pub keyed: Option<Arc<Keyed>>,
    /// Whether it is invalid because there was no room for it.
    pub beyond_budget: bool,
}

/// A policy object that references keys.
#[derive(Debug)]
pub struct Keyed {
    /// Its kind.
    pub kind: &'static str,
    /// The object.
    pub object: Value,
    /// What it references.
    pub objects: BTreeSet<KeyObject>,
    /// Which keys it was compiled with, at least.
    pub revision: u64,
}

/// What the status of a policy object says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Of which generation.
    pub generation: i64,
    /// Whether it is in force as it is written.
    pub ready: bool,
    /// What is told about it.
    pub message: String,
    /// Since when (`lastTransitionTime`).
    pub since: Option<String>,
    /// The condition `Reviewed`, which policies have.
    pub reviewed: Option<Reviewed>,
}

impl Reported {
    /// What the conditions of a status say.
    pub(super) fn of(status: &Value) -> Option<Self> {
        let conditions = status.get("conditions")?.as_array()?;
        let of_type = |name: &str| {
            conditions.iter().find(|condition| condition.get("type").is_some_and(|found| *found == *name))
        };
        let text = |condition: &Value, field: &str| {
            condition.get(field).and_then(Value::as_str).map(ToOwned::to_owned)
        };
        let reviewed = of_type("Reviewed").and_then(|condition| {
            Some(Reviewed {
                is_true: condition.get("status")? == "True",
                reason: text(condition, "reason")?,
                message: text(condition, "message")?,
                since: text(condition, "lastTransitionTime"),
            })
        });
        let ready = of_type("Ready")?;
        Some(Self {
            generation: ready.get("observedGeneration")?.as_i64()?,
            ready: ready.get("status")? == "True",
            message: text(ready, "message")?,
            since: text(ready, "lastTransitionTime"),
            reviewed,
        })
    }
}

/// What the condition `Reviewed` of a policy's status says: whether the API server sends workloads to the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    /// Whether it does.
    pub is_true: bool,
    /// How, in one word.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// Since when (`lastTransitionTime`).
    pub since: Option<String>,
}

impl Reviewed {
    /// Whether this is what the condition should say.
    pub fn says(&self, wanted: &Self) -> bool {
        (self.is_true, &self.reason, &self.message) == (wanted.is_true, &wanted.reason, &wanted.message)
    }
}

impl Reported {
    /// Whether this is what the status should say; since when is nobody's wish.
    pub fn says(&self, wanted: &Self) -> bool {
        let is_reviewed = match (&self.reviewed, &wanted.reviewed) {
            (Some(known), Some(wanted)) => known.says(wanted),
            (known, wanted) => known.is_none() && wanted.is_none(),
        };
        self.generation == wanted.generation
            && self.ready == wanted.ready
            && self.message == wanted.message
            && is_reviewed
    }
}

/// Whether policies are namespaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// `ProvenancePolicy`
    Namespace,
    /// `ClusterProvenancePolicy`
    Cluster,
}

impl Reach {
    /// Whether a policy is of it.
    pub(super) fn is_of(self, id: &PolicyId) -> bool {
        id.namespace.is_some() == (self == Self::Namespace)
    }
}

/// What is known.
#[derive(Debug)]
pub struct State {
    platforms: Vec<Platform>,
    unmatched: Unmatched,
    pinning: bool,
    policies: BTreeMap<PolicyId, KnownPolicy>,
    namespaces: Arc<BTreeMap<String, LabelMap>>,
    nodes: BTreeMap<String, Arc<Node>>,
    runtime_classes: Arc<BTreeMap<String, LabelMap>>,
    /// How many times nodes have gone.
    nodes_gone: u64,
    /// Change with what a snapshot is made of.
    requirements: u64,
    landscape: u64,
}

impl State {
    /// Nothing is known yet.
    pub fn new(platforms: Vec<Platform>, unmatched: Unmatched, pinning: bool) -> Self {
        Self {
            platforms,
            unmatched,
            pinning,
            policies: BTreeMap::new(),
            namespaces: Arc::default(),
            nodes: BTreeMap::new(),
            runtime_classes: Arc::default(),
            nodes_gone: 0,
            requirements: 0,
            landscape: 0,
        }
    }

    /// What a review reads.
    pub fn snapshot(&self) -> Snapshot {
        let entries = self.policies.values().map(|policy| policy.entry.clone()).collect();
        Snapshot {
            policies: PolicySet::new(entries, self.requirements),
            nodes: self.nodes.values().cloned().collect(),
            platforms: self.platforms.clone(),
            namespaces: Arc::clone(&self.namespaces),
            runtime_classes: Arc::clone(&self.runtime_classes),
            landscape: self.landscape,
            unmatched: self.unmatched,
            pinning: self.pinning,
        }
    }

    /// The uid of a policy object.
    pub fn policy_uid(&self, id: &PolicyId) -> Option<&str> {
        self.policies.get(id).map(|policy| policy.uid.as_str())
    }

    /// Whether there is no room for some policy of a reach.
    pub fn has_beyond_budget(&self, reach: Reach) -> bool {
        self.policies.iter().any(|(id, policy)| policy.beyond_budget && reach.is_of(id))
    }

    /// The policies, in order.
    pub fn policies(&self) -> impl Iterator<Item = (&PolicyId, &KnownPolicy)> {
        self.policies.iter()
    }

    /// These are all the policies of a reach. Whether anything is different.
    pub fn all_policies(&mut self, reach: Reach, all: Vec<(PolicyId, KnownPolicy)>) -> bool {
        let there: BTreeSet<PolicyId> = all.iter().map(|(id, _)| id.clone()).collect();
        let before = self.policies.len();
        self.policies.retain(|id, _| !reach.is_of(id) || there.contains(id));
        let mut changed = self.policies.len() != before;
        for (id, policy) in all {
            changed |= self.put_policy(id, policy);
        }
        self.required(changed)
    }

    /// A policy is there. Whether it is another than before.
    pub fn one_policy(&mut self, id: PolicyId, policy: KnownPolicy) -> bool {
        let changed = self.put_policy(id, policy);
        self.required(changed)
    }

    /// A policy was compiled with other keys. Whether it is another than before.
    pub fn policy_anew(&mut self, id: &PolicyId, policy: KnownPolicy) -> bool {
        // Meanwhile there may be another spec, or another object.
        let is_of = |known: &KnownPolicy| known.uid == policy.uid && known.generation == policy.generation;
        let Some(known) = self.policies.get_mut(id).filter(|known| is_of(known)) else { return false };
        let changed = known.entry != policy.entry;
        (known.entry, known.keyed) = (policy.entry, policy.keyed);
        known.beyond_budget = policy.beyond_budget;
        self.required(changed)
    }

    /// A policy is gone.
    pub fn policy_gone(&mut self, id: &PolicyId, uid: &str) -> bool {
        // What is gone may have been made anew meanwhile.
        let is_known = self.policies.get(id).is_some_and(|known| known.uid == uid);
        let changed = is_known && self.policies.remove(id).is_some();
        self.required(changed)
    }

    fn put_policy(&mut self, id: PolicyId, policy: KnownPolicy) -> bool {
        match self.policies.get_mut(&id) {
            // What compiled is the same as long as the spec is; a status alone changes no verdict.
            // Only room makes a difference.
            Some(known)
                if known.uid == policy.uid
                    && known.generation == policy.generation
                    && known.beyond_budget == policy.beyond_budget =>
            {
                known.reported = policy.reported;
                false
            }
            _ => {
                self.policies.insert(id, policy);
                true
            }
        }
    }

    /// These are all the namespaces.
    pub fn all_namespaces(&mut self, all: Vec<(String, LabelMap)>) -> bool {
        let mut bytes = 0_usize;
        let has_room = |(name, labels): &(String, LabelMap)| {
            let needed = label_bytes(name, labels);
            let fits = needed <= SMALL_LABELS || bytes.saturating_add(needed) <= ALL_LABELS;
            bytes = bytes.saturating_add(if fits { needed } else { 0 });
            fits
        };
        let all: BTreeMap<String, LabelMap> = all.into_iter().map(labelled).filter(has_room).collect();
        let changed = *self.namespaces != all;
        self.namespaces = Arc::new(all);
        self.required(changed)
    }

    /// A namespace is there.
    pub fn one_namespace(&mut self, namespace: (String, LabelMap)) -> bool {
        let (name, labels) = labelled(namespace);
        let needed = label_bytes(&name, &labels);
        let others = self
            .label_bytes()
            .saturating_sub(self.namespaces.get(&name).map_or(0, |known| label_bytes(&name, known)));
        if needed > SMALL_LABELS && others.saturating_add(needed) > ALL_LABELS {
            return self.namespace_gone(&name);
        }
        let changed = self.namespaces.get(&name) != Some(&labels);
        if changed {
            Arc::make_mut(&mut self.namespaces).insert(name, labels);
        }
        self.required(changed)
    }

    /// The labels of each namespace.
    pub fn namespaces(&self) -> Arc<BTreeMap<String, LabelMap>> {
        Arc::clone(&self.namespaces)
    }

    /// How many bytes the labels of namespaces take.
    pub fn label_bytes(&self) -> usize {
        let each = self.namespaces.iter().map(|(name, labels)| label_bytes(name, labels));
        each.fold(0, usize::saturating_add)
    }

    /// A namespace is gone, or its labels are not known any more.
    pub fn namespace_gone(&mut self, name: &str) -> bool {
        let changed = Arc::make_mut(&mut self.namespaces).remove(name).is_some();
        self.required(changed)
    }

    /// These are all the nodes.
    pub fn all_nodes(&mut self, all: Vec<Node>) -> bool {
        let all = all.into_iter().map(|node| (node.name.clone(), Arc::new(self.with_platform(node))));
        let all: BTreeMap<String, Arc<Node>> = all.collect();
        let changed = self.nodes != all;
        self.nodes_gone = self.nodes_gone.saturating_add(1);
        self.nodes = all;
        self.landed(changed)
    }

    /// A node is there.
    pub fn one_node(&mut self, node: Node) -> bool {
        let node = self.with_platform(node);
        let changed = self.nodes.get(&node.name).is_none_or(|known| **known != node);
        if changed {
            self.nodes.insert(node.name.clone(), Arc::new(node));
        }
        self.landed(changed)
    }

    /// How many times nodes have gone.
    pub fn nodes_gone(&self) -> u64 {
        self.nodes_gone
    }

    /// A node was looked up when nodes had gone so many times. Whether anything is different: what was there then may be gone.
    pub fn found_node(&mut self, node: Node, gone: u64) -> bool {
        gone == self.nodes_gone && self.one_node(node)
    }

    /// A watch does not tell what the status of a node says: what was found out of it stays.
    fn with_platform(&self, node: Node) -> Node {
        let known = self.nodes.get(&node.name).and_then(|known| known.platform.clone());
        Node { platform: node.platform.or(known), ..node }
    }

    /// A node is gone.
    pub fn node_gone(&mut self, name: &str) -> bool {
        self.nodes_gone = self.nodes_gone.saturating_add(1);
        let changed = self.nodes.remove(name).is_some();
        self.landed(changed)
    }

    /// These are all the runtime classes.
    pub fn all_runtime_classes(&mut self, all: Vec<(String, LabelMap)>) -> bool {
        let all: BTreeMap<String, LabelMap> = all.into_iter().collect();
        let changed = *self.runtime_classes != all;
        self.runtime_classes = Arc::new(all);
        self.landed(changed)
    }

    /// A runtime class is there.
    pub fn one_runtime_class(&mut self, (name, selector): (String, LabelMap)) -> bool {
        let changed = self.runtime_classes.get(&name) != Some(&selector);
        if changed {
            Arc::make_mut(&mut self.runtime_classes).insert(name, selector);
        }
        self.landed(changed)
    }

    /// A runtime class is gone.
    pub fn runtime_class_gone(&mut self, name: &str) -> bool {
        let changed = Arc::make_mut(&mut self.runtime_classes).remove(name).is_some();
        self.landed(changed)
    }

    fn required(&mut self, changed: bool) -> bool {
        self.requirements = self.requirements.saturating_add(u64::from(changed));
        changed
    }

    fn landed(&mut self, changed: bool) -> bool {
        self.landscape = self.landscape.saturating_add(u64::from(changed));
        changed
    }
}

/// The most bytes that the labels of all namespaces take, and what each namespace may take in any case.
const ALL_LABELS: usize = 16 << 20;
const SMALL_LABELS: usize = 4 << 10;

fn label_bytes(name: &str, labels: &LabelMap) -> usize {
    objects::label_bytes(labels).saturating_add(name.len())
}

/// The API server gives each namespace the label with its name; nobody takes it away for us.
fn labelled((name, mut labels): (String, LabelMap)) -> (String, LabelMap) {
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    (name, labels)
}

#[cfg(test)]
mod tests;
