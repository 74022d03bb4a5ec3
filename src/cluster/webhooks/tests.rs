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
        binding_failure_policy: None,
        reach: WebhookReach::EVERYTHING,
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
fn b8_kube_system_and_the_own_namespace_are_exempt_and_what_is_asked_for_is_added() {
    for (added, exempt) in [
        (vec![], vec!["kube-system", "security"]),
        (vec!["calico".to_owned(), "security".to_owned()], vec!["calico", "kube-system", "security"]),
    ] {
        let all = webhooks(&WebhookSettings { exempt_namespaces: added, opt_out_label: None, ..settings() });
        let expression = json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt});
        let of_workloads = all.iter().filter(|webhook| webhook["name"] != "policies.bonafide.dev");
        for webhook in of_workloads {
            assert_eq!(webhook["namespaceSelector"], json!({"matchExpressions": [expression]}));
        }
    }
    let policies = webhooks(&settings()).into_iter().find(|one| one["name"] == "policies.bonafide.dev");
    // A policy is looked at wherever it is: the release namespace too, from which the webhook looks whether it is reached.
    assert_eq!(policies.unwrap()["namespaceSelector"], json!({}));
}

fn narrowed(namespaces: &[&str], fragments: &[&str]) -> WebhookReach {
    let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let images =
        if fragments.is_empty() { ImageReach::Every } else { ImageReach::Containing(all(fragments)) };
    WebhookReach::Workloads { namespaces: NamespaceReach::Named(all(namespaces)), images }
}

#[test]
fn b8_bindings_are_narrowed_by_namespace_alone_and_have_a_failure_policy_of_their_own() {
    let reach = narrowed(&["a", "kube-system"], &["ghcr.io/acme/"]);
    let settings =
        WebhookSettings { binding_failure_policy: Some(FailurePolicy::Ignore), reach, ..settings() };
    for webhook in webhooks(&settings) {
        let conditions: Vec<&str> = webhook["matchConditions"]
            .as_array()
            .map(|all| all.iter().map(|one| one["name"].as_str().unwrap()).collect())
            .unwrap_or_default();
        let expected: (&[&str], &str) = match webhook["name"].as_str().unwrap() {
            "policies.bonafide.dev" | "bindings.bonafide.dev" => (&[], "Ignore"),
            _ => (&["images-or-placement-may-have-changed", "images-that-policies-can-name"], "Fail"),
        };
        assert_eq!(
            (conditions.as_slice(), webhook["failurePolicy"].as_str().unwrap()),
            expected,
            "{webhook}"
        );
        if webhook["name"] != "policies.bonafide.dev" {
            let name = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]});
            assert_eq!(webhook["namespaceSelector"]["matchExpressions"][0], name);
        }
    }
}

#[test]
fn b8_without_anything_to_review_workloads_for_the_entry_for_policies_is_left() {
    let names: Vec<Value> = webhooks(&settings().reaching(WebhookReach::Nothing))
        .into_iter()
        .map(|webhook| webhook["name"].clone())
        .collect();
    assert_eq!(names, ["policies.bonafide.dev"]);
}

#[test]
fn b8_what_entries_select_is_read_back() {
    for reach in
        [narrowed(&["a", "b"], &[]), narrowed(&["a"], &["ghcr.io/acme/", "nginx"]), WebhookReach::EVERYTHING]
    {
        let settings = settings().reaching(reach.clone());
        let entry = validating(&settings).webhooks.unwrap().remove(0);
        let conditions = entry.match_conditions.unwrap_or_default();
        let read = |selector: &LabelSelector| selected(selector, &conditions, &settings.exempt());
        let selector = entry.namespace_selector.unwrap();
        assert_eq!(read(&selector), Some(reach));
        assert_eq!(read(&LabelSelector::default()), None);
    }
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
