//! What stands around a spec: version, kind, name and namespace. A slip here must not turn a policy into none.

use serde_json::Value;

use super::fields::Fields;
use crate::{api::v1alpha1::API_VERSION, domain::policy::PolicyId};

/// The namespace of a `ProvenancePolicy` that names none: `kubectl` would take that of its context, which a file does not know.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The group of the objects here.
pub const GROUP: &str = "bonafide.dev";
const NAMESPACED: &str = "ProvenancePolicy";
const CLUSTER: &str = "ClusterProvenancePolicy";
const TRUST_ROOT: &str = "TrustRoot";
const NAMESPACE: &str = "metadata.namespace";
/// The trust roots that are built in.
const RESERVED: [&str; 2] = ["sigstore", "github"];
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

/// Whether objects of this kind are trust roots.
pub fn is_trust_root(group: &str, kind: &str) -> bool {
    group == GROUP && kind == TRUST_ROOT
}

/// Whether this object is a trust root.
pub fn is_root(object: &Value) -> bool {
    let text = |field| object.get(field).and_then(Value::as_str).unwrap_or_default();
    is_trust_root(text("apiVersion").split('/').next().unwrap_or_default(), text("kind"))
}

/// The policy's name, and whether it is of the namespaced kind.
pub fn head(fields: &mut Fields, object: &Value) -> (PolicyId, bool) {
    let text = |field| object.get(field).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default();
    if ![NAMESPACED, CLUSTER].contains(&kind) {
        fields.error("kind", text("kind"), format!("is neither {NAMESPACED} nor {CLUSTER} nor {TRUST_ROOT}"));
    }
    let name = outside(fields, object, "a policy");
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

/// The name of a trust root.
pub fn root_name(fields: &mut Fields, object: &Value) -> String {
    let name = outside(fields, object, "a TrustRoot");
    if given_namespace(object).is_some() {
        fields.error(NAMESPACE, None, "a TrustRoot has none: it is the cluster's");
    }
    if RESERVED.contains(&name.as_str()) {
        let message = "is built in, and policies that name it were written for that one; the flag --trust-root replaces it, an object does not";
        fields.error("metadata.name", Some(&name), message);
    }
    name
}

/// What stands around the spec of every object, and its name.
fn outside(fields: &mut Fields, object: &Value, what: &str) -> String {
    let version = object.get("apiVersion").and_then(Value::as_str);
    if version != Some(API_VERSION) {
        fields.error("apiVersion", version, format!("is not {API_VERSION}"));
    }
    for field in object.as_object().into_iter().flat_map(|object| object.keys()) {
        if !FIELDS.contains(&field.as_str()) {
            fields.error(field, None, format!("is no field of {what}; what it says belongs below spec"));
        }
    }
    name(fields, object)
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
