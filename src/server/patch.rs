//! What `/mutate` changes of a pod (JSON Patch, RFC 6902): tags become the digests that were verified in this very review, and
//! where a policy says so, the pod is kept to the architectures that are covered.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    domain::{
        platform::Platform,
        reference::Reference,
        verdict::{ImageVerdict, Outcome},
        workload::{ImageRole, Placement},
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
pub fn patch(
    review: &Review,
    affinity: Option<&Affinity>,
    placement: &Placement,
    is_update: bool,
) -> Vec<Operation> {
    if review.outcome != Outcome::Allow {
        return Vec::new();
    }
    // A volume cannot be changed once its pod is there.
    let can_be_pinned = |image: &&ReviewedImage| !is_update || image.image.role != ImageRole::Volume;
    let mut operations: Vec<Operation> = review.images.iter().filter(can_be_pinned).filter_map(pin).collect();
    // Where no platform is covered for all images there is none to keep the pod to, and `/validate` says why.
    let platforms = kept_to(review).filter(|platforms| !platforms.is_empty());
    if let (Some(platforms), Some(affinity)) = (platforms, affinity)
        && placement.node_name.is_none()
        && !is_update
    {
        operations.extend(affinity.keep_to(&platforms, &placement.node_selector));
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

    /// The affinity with a requirement in each of its terms, for terms are alternatives. A term that fits no node stays as it is, and so
    /// does one that asks for no other platforms already; none, where nothing has to be added.
    fn keep_to(&self, platforms: &[Platform], selector: &BTreeMap<String, String>) -> Option<Operation> {
        let required = self.0.pointer("/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution");
        let terms = match required.filter(|required| !required.is_null()) {
            None => vec![json!({})],
            // One without terms fits no node, and must not begin to.
            Some(required) => {
                required.get("nodeSelectorTerms")?.as_array().filter(|terms| !terms.is_empty())?.clone()
            }
        };
        let is_new = required.is_none_or(Value::is_null);
        let stays = |term: &Value| (!is_new && fits_nothing(term)) || is_kept(term, selector, platforms);
        if terms.iter().all(stays) {
            return None;
        }
        let narrow = |term: Value| if stays(&term) { vec![term] } else { narrowed(&term, platforms) };
        let kept: Vec<Value> = terms.into_iter().flat_map(narrow).collect();
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

/// Whether a term, with the pod's node selector, asks for none but these platforms.
fn is_kept(term: &Value, selector: &BTreeMap<String, String>, platforms: &[Platform]) -> bool {
    let asked = |key: &str| -> Option<Vec<String>> {
        if let Some(value) = selector.get(key) {
            return Some(vec![value.clone()]);
        }
        let expressions = term.get("matchExpressions").and_then(Value::as_array);
        let one_of = |expression: &&Value| {
            expression.get("key").is_some_and(|is| is == key)
                && expression.get("operator").is_some_and(|is| is == "In")
        };
        let values = expressions?.iter().find(one_of)?.get("values")?.as_array()?;
        values.iter().map(|value| value.as_str().map(ToOwned::to_owned)).collect()
    };
    let (Some(architectures), Some(systems)) = (asked(ARCH), asked(OS)) else { return false };
    systems.iter().all(|os| {
        let is_one = |architecture: &String| platforms.contains(&Platform::new(os, architecture, None));
        architectures.iter().all(is_one)
    })
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
        vec![
            json!({"key": ARCH, "operator": "In", "values": architectures}),
            json!({"key": OS, "operator": "In", "values": [os]}),
        ]
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
