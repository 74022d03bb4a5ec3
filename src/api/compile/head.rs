//! What stands around a policy's spec: version, kind, name and namespace. A slip here must not turn a policy into none.

use serde_json::Value;

use super::fields::Fields;
use crate::{api::v1alpha1::API_VERSION, domain::policy::PolicyId};

/// The namespace of a `ProvenancePolicy` that names none: `kubectl` would take that of its context, which a file does not know.
pub const DEFAULT_NAMESPACE: &str = "default";

const GROUP: &str = "bonafide.dev";
const NAMESPACED: &str = "ProvenancePolicy";
const CLUSTER: &str = "ClusterProvenancePolicy";
const NAMESPACE: &str = "metadata.namespace";
/// The fields beside `spec` that an object may have.
const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Whether an object is of this group, and so must compile. One that has the kind of a policy is, whatever its group says: a
/// misspelt group is an error to be told, and not an object of somebody else's.
pub fn is_ours(object: &Value) -> bool {
    let text = |field| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").split('/').next().unwrap_or_default();
    group.eq_ignore_ascii_case(GROUP)
        || [NAMESPACED, CLUSTER].iter().any(|kind| text("kind").eq_ignore_ascii_case(kind))
}

/// Whether objects of this kind are policies.
pub fn is_policy(group: &str, kind: &str) -> bool {
    group == GROUP && [NAMESPACED, CLUSTER].contains(&kind)
}

/// The policy's name, and whether it is of the namespaced kind.
pub fn head(fields: &mut Fields, object: &Value) -> (PolicyId, bool) {
    let text = |field| object.get(field).and_then(Value::as_str);
    let version = text("apiVersion").unwrap_or_default();
    if version != API_VERSION {
        fields.error("apiVersion", text("apiVersion"), format!("is not {API_VERSION}"));
    }
    let kind = text("kind").unwrap_or_default();
    match kind {
        NAMESPACED | CLUSTER => {}
        "TrustRoot" => {
            fields.error(
                "kind",
                Some(kind),
                "is not supported yet; --trust-root NAME=FILE adds a trust root",
            );
        }
        _ => fields.error("kind", text("kind"), format!("is neither {NAMESPACED} nor {CLUSTER}")),
    }
    for field in object.as_object().into_iter().flat_map(|object| object.keys()) {
        if !FIELDS.contains(&field.as_str()) {
            fields.error(field, None, "is no field of a policy; what it says belongs below spec");
        }
    }
    let name = name(fields, object);
    let namespace = match kind {
        NAMESPACED => own_namespace(fields, object),
        CLUSTER => {
            if given_namespace(object).is_some() {
                let message = "a ClusterProvenancePolicy has none; spec.namespaceSelector narrows it";
                fields.error(NAMESPACE, None, message);
            }
            None
        }
        _ => None,
    };
    (PolicyId { namespace, name }, kind == NAMESPACED)
}

fn name(fields: &mut Fields, object: &Value) -> String {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let labels = name.split('.').all(is_label);
    match name {
        "" => fields.error("metadata.name", None, "is missing"),
        _ if labels && name.len() <= 253 => {}
        _ => fields.error(
            "metadata.name",
            Some(name),
            "is no name of an object: lower-case letters, digits, - and .",
        ),
    }
    name.to_owned()
}

fn given_namespace(object: &Value) -> Option<&Value> {
    object.pointer("/metadata/namespace").filter(|given| !given.is_null())
}

/// The namespace that a namespaced policy is for. Where it cannot be read, it is every one: that fails closed.
fn own_namespace(fields: &mut Fields, object: &Value) -> Option<String> {
    match given_namespace(object) {
        None => {
            let message = format!("is missing: the policy is for the namespace {DEFAULT_NAMESPACE}");
            fields.warn(NAMESPACE, None, message);
            Some(DEFAULT_NAMESPACE.to_owned())
        }
        Some(Value::String(name)) if is_label(name) && name.len() <= 63 => Some(name.clone()),
        Some(other) => {
            let message = "is no name of a namespace: lower-case letters, digits and -";
            fields.error(NAMESPACE, other.as_str(), message);
            None
        }
    }
}

/// A label of a DNS name (RFC 1123), as Kubernetes takes it.
fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().zip(text.bytes().last());
    ends.is_some_and(|(first, last)| plain(first) && plain(last))
        && text.bytes().all(|b| plain(b) || b == b'-')
}
