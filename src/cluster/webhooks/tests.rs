//! The configurations as they are installed, and what must hold of them whatever the settings are.

use serde_json::{Value, json};

use super::*;
use crate::api::workload;

fn settings() -> WebhookSettings {
    WebhookSettings {
        name: "bonafide".to_owned(),
        namespace: "security".to_owned(),
        service_port: 443,
        failure_policy: FailurePolicy::Fail,
        timeout_seconds: 10,
        exempt_namespaces: vec!["security".to_owned(), "kube-system".to_owned()],
        opt_out_label: Some("bonafide.dev/review".to_owned()),
        pinning: true,
        ca_bundle: Some(b"PEM".to_vec()),
    }
}

/// Every webhook of both configurations.
fn webhooks(settings: &WebhookSettings) -> Vec<Value> {
    let both = [
        serde_json::to_value(validating(settings)).unwrap(),
        serde_json::to_value(mutating(settings)).unwrap(),
    ];
    both.iter().flat_map(|one| one["webhooks"].as_array().unwrap().clone()).collect()
}

#[test]
fn the_validating_configuration() {
    insta::assert_json_snapshot!(validating(&settings()));
}

#[test]
fn the_mutating_configuration() {
    insta::assert_json_snapshot!(mutating(&settings()));
}

#[test]
fn without_pinning_no_pod_is_changed() {
    let without = WebhookSettings { pinning: false, ..settings() };
    assert_eq!(mutating(&without).webhooks, Some(Vec::new()));
    assert_eq!(validating(&without), validating(&settings()));
}

#[test]
fn a_policy_never_waits_for_the_webhook_and_a_workload_does_where_that_is_asked() {
    for (asked, word) in [(FailurePolicy::Fail, "Fail"), (FailurePolicy::Ignore, "Ignore")] {
        let all = webhooks(&WebhookSettings { failure_policy: asked, ..settings() });
        assert_eq!(all.len(), 4);
        for webhook in all {
            let expected = if webhook["name"] == "policies.bonafide.dev" { "Ignore" } else { word };
            assert_eq!(webhook["failurePolicy"], expected, "{}", webhook["name"]);
        }
    }
}

#[test]
fn nobody_is_exempt_unless_that_is_asked() {
    let all = webhooks(&WebhookSettings { exempt_namespaces: Vec::new(), opt_out_label: None, ..settings() });
    assert!(all.iter().all(|webhook| webhook["namespaceSelector"] == json!({})));
    let policies = webhooks(&settings()).into_iter().find(|one| one["name"] == "policies.bonafide.dev");
    // A policy is looked at wherever it is: the release namespace too, from which the webhook looks whether it is reached.
    assert_eq!(policies.unwrap()["namespaceSelector"], json!({}));
}

#[test]
fn what_other_controllers_fill_in_is_left_out() {
    let without = WebhookSettings { ca_bundle: None, ..settings() };
    assert!(webhooks(&without).iter().all(|webhook| webhook["clientConfig"].get("caBundle").is_none()));
}

/// What the API server asks about is what can be read, and what can be read is asked about.
#[test]
fn every_kind_that_is_asked_about_is_known_and_its_updates_are_compared() {
    let kinds = [
        ("pods", "Pod"),
        ("pods/ephemeralcontainers", "Pod"),
        ("replicationcontrollers", "ReplicationController"),
        ("podtemplates", "PodTemplate"),
        ("deployments", "Deployment"),
        ("replicasets", "ReplicaSet"),
        ("statefulsets", "StatefulSet"),
        ("daemonsets", "DaemonSet"),
        ("jobs", "Job"),
        ("cronjobs", "CronJob"),
    ];
    let workloads = webhooks(&settings()).remove(0);
    let mut asked = 0;
    for rule in workloads["rules"].as_array().unwrap() {
        for resource in rule["resources"].as_array().unwrap() {
            let (_, kind) = kinds.iter().find(|(name, _)| resource == name).unwrap();
            assert!(workload::is_known(rule["apiGroups"][0].as_str().unwrap(), kind), "{kind}");
            assert!(MAY_HAVE_CHANGED.contains(&format!("'{kind}'")), "{kind}");
            asked += 1;
        }
    }
    assert_eq!(asked, kinds.len());
}
