//! Namespaces that are never reviewed, and policies that are for them all the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::policy::{LabelSelector, LabelTest, Labels, NAME_LABEL, PolicyEntry};

/// Nothing in it waits for Bonafide, however Bonafide is installed.
const KUBE_SYSTEM: &str = "kube-system";

/// The exempt namespaces: `kube-system`, Bonafide's own, and those that the operator adds.
pub fn exempt_namespaces<'a>(own: &str, added: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let always = [KUBE_SYSTEM, own].map(ToOwned::to_owned);
    always.into_iter().chain(added.into_iter().cloned()).collect()
}

/// The exempt namespaces that a policy is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExemptReach {
    namespaces: Vec<String>,
    is_all: bool,
}

impl ExemptReach {
    /// Those that a policy is for by name. A selector that names no namespace is for those that are not exempt.
    pub fn of(policy: &PolicyEntry, exempt: &BTreeSet<String>) -> Option<Self> {
        let named = match (&policy.id().namespace, selector(policy)) {
            (Some(namespace), _) => vec![namespace.clone()],
            (None, selector) => selector.map(named).unwrap_or_default(),
        };
        let count = named.len();
        let namespaces: Vec<String> = named.into_iter().filter(|name| exempt.contains(name)).collect();
        let is_all = namespaces.len() == count;
        (!namespaces.is_empty()).then_some(Self { namespaces, is_all })
    }

    /// The same, and those that a policy is for by other labels, which the namespaces have. `labels`: those of each namespace that is known.
    pub fn of_labels(
        policy: &PolicyEntry,
        exempt: &BTreeSet<String>,
        labels: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Option<Self> {
        let by_name = Self::of(policy, exempt);
        let (None, None, Some(selector)) = (&by_name, &policy.id().namespace, selector(policy)) else {
            return by_name;
        };
        // What only leaves some out is for those that are not exempt.
        let asks_for_labels = selector.0.iter().any(|requirement| {
            requirement.key != NAME_LABEL && matches!(requirement.test, LabelTest::In(_) | LabelTest::Exists)
        });
        let is_for =
            |name: &&String| labels.get(*name).is_some_and(|labels| selector.selects(Labels::All(labels)));
        let namespaces: Vec<String> = exempt.iter().filter(is_for).cloned().collect();
        // Another namespace can have the labels, now or later.
        (asks_for_labels && !namespaces.is_empty()).then_some(Self { namespaces, is_all: false })
    }

    /// Whether the policy is for no other namespace, and so has no effect.
    pub const fn is_all(&self) -> bool {
        self.is_all
    }
}

impl std::fmt::Display for ExemptReach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.namespaces.join(", ");
        let (noun, verb) =
            if self.namespaces.len() == 1 { ("namespace", "is") } else { ("namespaces", "are") };
        let effect = if self.is_all { "has no effect" } else { "has no effect there" };
        write!(f, "the policy {effect}: the {noun} {names} {verb} exempt from review")
    }
}

/// The namespaces that a policy of the whole cluster is for; `None` where that cannot be read.
fn selector(policy: &PolicyEntry) -> Option<&LabelSelector> {
    match policy {
        PolicyEntry::Valid(policy) => Some(&policy.namespaces),
        PolicyEntry::Invalid(policy) => policy.namespaces.as_ref(),
    }
}

/// The names that a selector gives.
fn named(selector: &LabelSelector) -> Vec<String> {
    let of_name = selector.0.iter().filter(|requirement| requirement.key == NAME_LABEL);
    let names: BTreeSet<&String> = of_name
        .filter_map(|requirement| match &requirement.test {
            LabelTest::In(names) => Some(names),
            LabelTest::NotIn(_) | LabelTest::Exists | LabelTest::DoesNotExist => None,
        })
        .flatten()
        .collect();
    names.into_iter().filter(|name| can_be(selector, name)).cloned().collect()
}

/// Whether what a selector says of names allows this one.
fn can_be(selector: &LabelSelector, name: &String) -> bool {
    let of_name = selector.0.iter().filter(|requirement| requirement.key == NAME_LABEL);
    of_name.map(|requirement| &requirement.test).all(|test| match test {
        LabelTest::In(names) => names.contains(name),
        LabelTest::NotIn(names) => !names.contains(name),
        LabelTest::Exists => true,
        LabelTest::DoesNotExist => false,
    })
}
