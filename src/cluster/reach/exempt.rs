//! Namespaces that are never reviewed, and policies that are for them all the same.

use std::collections::BTreeSet;

use crate::domain::policy::{LabelSelector, LabelTest, NAME_LABEL, PolicyEntry};

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
        let named = match (policy, &policy.id().namespace) {
            (_, Some(namespace)) => vec![namespace.clone()],
            (PolicyEntry::Valid(policy), None) => named(&policy.namespaces),
            (PolicyEntry::Invalid(policy), None) => policy.namespaces.as_ref().map(named).unwrap_or_default(),
        };
        let count = named.len();
        let namespaces: Vec<String> = named.into_iter().filter(|name| exempt.contains(name)).collect();
        let is_all = namespaces.len() == count;
        (!namespaces.is_empty()).then_some(Self { namespaces, is_all })
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
