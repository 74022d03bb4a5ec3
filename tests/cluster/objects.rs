//! Manifests that several tests apply.

use bonafide::cluster::{
    reach::WebhookReach,
    webhooks::{FailurePolicy, WebhookSettings},
};
use serde_json::{Value, json};

/// A pod of one container.
pub fn pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": image}]}})
}

/// A Deployment of one pod of one container.
pub fn deployment(name: &str, image: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": image}]},
        }},
    })
}

/// A Service through which the API server reaches this machine.
pub fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "ExternalName", "externalName": "localhost"}})
}

/// The settings of a webhook without pinning whose Service is in `namespace`.
pub fn webhook_settings(namespace: &str, port: u16) -> WebhookSettings {
    WebhookSettings {
        name: "bonafide".to_owned(),
        namespace: namespace.to_owned(),
        service_port: port,
        failure_policy: FailurePolicy::Fail,
        binding_failure_policy: None,
        timeout_seconds: 10,
        exempt_namespaces: Vec::new(),
        reach: WebhookReach::EVERYTHING,
        opt_out_label: None,
        pinning: false,
        ca_bundle: None,
    }
}
