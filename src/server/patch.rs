//! What `/mutate` changes of a pod (JSON Patch, RFC 6902): tags become the digests that were verified in this very review, and
//! where a policy says so, the pod is kept to the architectures that are covered.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    domain::{
        platform::Platform,
        reference::Reference,
        verdict::{ImageVerdict, Outcome},
        workload::Placement,
    },
    gather::review::{Review, ReviewedImage},
};

const ARCH: &str = "kubernetes.io/arch";
const OS: &str = "kubernetes.io/os";

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operation {
    op: &'static str,
    path: String,
    value: Value,
}

/// The changes that the answer to a draft of a pod asks for; none where it is not admitted as it stands.
///
/// Applied twice they change nothing more: what has a digest is not pinned again, what is kept to platforms can land on no other.
pub fn patch(review: &Review, affinity: Option<&Affinity>, placement: &Placement) -> Vec<Operation> {
    if review.outcome != Outcome::Allow {
        return Vec::new();
    }
    let mut operations: Vec<Operation> = review.images.iter().filter_map(pin).collect();
    if let (Some(platforms), Some(affinity)) = (kept_to(review), affinity)
        && placement.node_name.is_none()
    {
        operations.extend(affinity.keep_to(&platforms));
    }
    operations
}

/// The platforms that every image is covered on, where one must be constrained at all. Empty: there is none.
pub fn kept_to(review: &Review) -> Option<Vec<Platform>> {
    let mut all: Option<Vec<Platform>> = None;
    for platforms in review.images.iter().filter_map(|image| image.verdict.constrained.as_ref()) {
        all = Some(match all {
            None => platforms.clone(),
            Some(all) => all.into_iter().filter(|platform| platforms.contains(platform)).collect(),
        });
    }
    all
}

fn pin(ReviewedImage { image, verdict }: &ReviewedImage) -> Option<Operation> {
    let pinned = pinned(&image.image, verdict)?;
    Some(Operation { op: "replace", path: pointer(&image.field), value: pinned.into() })
}

/// The reference with the digest that was verified, its tag kept for people and for `${image.tag}`.
fn pinned(image: &str, verdict: &ImageVerdict) -> Option<String> {
    let digest =
        verdict.digest.filter(|_| !verdict.proofs.is_empty() && verdict.outcome == Outcome::Allow)?;
    let reference: Reference = image.parse().ok()?;
    if reference.digest().is_some() {
        return None;
    }
    let tag = reference.tag()?;
    // What is written without a tag means one all the same.
    let written =
        if image.ends_with(&format!(":{tag}")) { image.to_owned() } else { format!("{image}:{tag}") };
    Some(format!("{written}@{digest}"))
}

/// `spec.containers[0].image` as a JSON Pointer (RFC 6901): names in fields need no escape.
fn pointer(field: &str) -> String {
    format!("/{}", field.replace('[', "/").replace(']', "").replace('.', "/"))
}

/// What a pod has of a node affinity, as it was written: it is kept but for what is added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Affinity(Value);

impl Affinity {
    /// `spec.affinity` of a pod.
    pub const fn new(affinity: Value) -> Self {
        Self(affinity)
    }

    /// The affinity with a requirement in each of its terms: terms are alternatives. One that fits no node stays as it is.
    fn keep_to(&self, platforms: &[Platform]) -> Option<Operation> {
        let terms = self
            .0
            .pointer("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms")
            .and_then(Value::as_array);
        let kept: Vec<Value> = match terms {
            None => narrowed(&json!({}), platforms),
            Some(terms) => terms
                .iter()
                .flat_map(
                    |term| if fits_nothing(term) { vec![term.clone()] } else { narrowed(term, platforms) },
                )
                .collect(),
        };
        let mut affinity = self.0.clone();
        let mut at = &mut affinity;
        for name in ["nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"] {
            if !at.is_object() {
                *at = json!({});
            }
            at = at.as_object_mut()?.entry(name).or_insert(Value::Null);
        }
        *at = json!({"nodeSelectorTerms": kept});
        Some(Operation { op: "add", path: "/spec/affinity".to_owned(), value: affinity })
    }
}

/// A term without requirements.
fn fits_nothing(term: &Value) -> bool {
    let is_empty = |name: &str| term.get(name).and_then(Value::as_array).is_none_or(Vec::is_empty);
    is_empty("matchFields") && is_empty("matchExpressions")
}

/// A term that asks for one of the platforms; one for each operating system among them.
fn narrowed(term: &Value, platforms: &[Platform]) -> Vec<Value> {
    let systems: BTreeSet<&str> = platforms.iter().map(Platform::os).collect();
    let expressions = |os: &&str| {
        let of = platforms.iter().filter(|platform| platform.os() == *os).map(Platform::architecture);
        let architectures: BTreeSet<&str> = of.collect();
        let mut asked = vec![json!({"key": ARCH, "operator": "In", "values": architectures})];
        if systems.len() > 1 {
            asked.push(json!({"key": OS, "operator": "In", "values": [os]}));
        }
        asked
    };
    let with = |added: Vec<Value>| {
        let mut term = term.clone();
        let mut all = term.get("matchExpressions").and_then(Value::as_array).cloned().unwrap_or_default();
        all.extend(added);
        if let Some(fields) = term.as_object_mut() {
            fields.insert("matchExpressions".to_owned(), all.into());
        }
        term
    };
    systems.iter().map(expressions).map(with).collect()
}

#[cfg(test)]
mod tests;
