//! Objects and reviews, as small as they can be.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};

pub fn pod(images: &[&str]) -> Value {
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(n, image)| json!({"name": format!("c{n}"), "image": image}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "uid": "web"}, "spec": {"containers": containers}})
}

pub fn review(namespace: &str, object: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": {"group": "", "version": "v1", "kind": object["kind"]},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace, "name": "web", "operation": "CREATE", "userInfo": {"username": "somebody"},
            "object": object, "oldObject": null, "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

/// So many bytes of fields with empty values, as they stand in an object.
pub fn fields(bytes: usize) -> Bytes {
    let mut text = String::with_capacity(bytes + 16);
    for n in 0.. {
        if text.len() >= bytes {
            break;
        }
        write!(text, "\"{n:x}\":\"\",").unwrap();
    }
    text.pop();
    Bytes::from(text)
}

/// So many bytes of a text.
pub fn text(of: &str, bytes: usize) -> Bytes {
    Bytes::from(of.repeat(bytes / of.len()))
}
