//! The chart, as it renders: nobody is asked who runs a cluster. What a cluster makes of it is told in `tests/cluster`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    clippy::missing_panics_doc
)]

mod files;
mod helm;
mod pods;
mod rights;
mod values;

use helm::{Helm, of_kind};
use serde_json::Value;

const ISSUED: &[&str] = &["certificates.mode=certManager"];
const BY_AN_ISSUER: &[&str] = &["certificates.mode=certManager", "certificates.certManager.issuerRef.name=x"];
const PROVIDED: &[&str] = &["certificates.mode=provided", "certificates.provided.secretName=mine"];

#[test]
fn lint_has_nothing_to_say() {
    let Some(helm) = Helm::find() else { return };
    for set in [&[][..], ISSUED, PROVIDED] {
        helm.run(&["lint", "--strict"], set).unwrap();
    }
}

/// What is rendered, each as KIND/NAME.
fn names(objects: &[Value]) -> Vec<String> {
    let name = |object: &Value| {
        format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
    };
    objects.iter().map(name).collect()
}

/// Helm prints them in the order in which it installs them: the webhook configurations last.
#[test]
fn by_default_nothing_else_is_needed() {
    let Some(helm) = Helm::find() else { return };
    assert_eq!(
        names(&helm.render(&[])),
        [
            "NetworkPolicy/bonafide",
            "ResourceQuota/bonafide-priority",
            "PodDisruptionBudget/bonafide",
            "ServiceAccount/bonafide",
            "Secret/bonafide-tls",
            "ClusterRole/bonafide",
            "ClusterRoleBinding/bonafide",
            "Role/bonafide",
            "RoleBinding/bonafide",
            "Service/bonafide",
            "Deployment/bonafide",
            "MutatingWebhookConfiguration/bonafide",
            "ValidatingWebhookConfiguration/bonafide",
            "Pod/bonafide-test",
        ]
    );
}

/// What a value adds and takes away.
#[test]
fn values_switch_objects_on_and_off() {
    let Some(helm) = Helm::find() else { return };
    let default = names(&helm.render(&[]));
    let difference = |set: &[&str]| {
        let there = names(&helm.render(set));
        let added = there.iter().filter(|name| !default.contains(name)).map(|name| format!("+{name}"));
        let gone = default.iter().filter(|name| !there.contains(name)).map(|name| format!("-{name}"));
        added.chain(gone).collect::<Vec<_>>().join(" ")
    };
    for (set, expected) in [
        (&["networkPolicy.enabled=false"][..], "-NetworkPolicy/bonafide"),
        (&["priorityClassName=mine"], "-ResourceQuota/bonafide-priority"),
        (&["priorityClassQuota=false"], "-ResourceQuota/bonafide-priority"),
        (&["podDisruptionBudget.enabled=false"], "-PodDisruptionBudget/bonafide"),
        (&["serviceAccount.create=false", "serviceAccount.name=mine"], "-ServiceAccount/bonafide"),
        (&["serviceMonitor.enabled=true"], "+ServiceMonitor/bonafide"),
        (&["prometheusRule.enabled=true"], "+PrometheusRule/bonafide"),
        (&["dashboard.enabled=true"], "+ConfigMap/bonafide-dashboard"),
        (
            &["rbac.create=false"],
            "-ClusterRole/bonafide -ClusterRoleBinding/bonafide -Role/bonafide -RoleBinding/bonafide",
        ),
        (
            ISSUED,
            "+Certificate/bonafide-cert-manager-ca +Certificate/bonafide +Issuer/bonafide-cert-manager-self-signed \
             +Issuer/bonafide-cert-manager-ca -Secret/bonafide-tls",
        ),
        (BY_AN_ISSUER, "+Certificate/bonafide -Secret/bonafide-tls"),
        (PROVIDED, "-Secret/bonafide-tls"),
        // Both configurations stay: the leader empties the one that is not needed.
        (&["pinning.enabled=false"], ""),
    ] {
        assert_eq!(difference(set), expected, "{set:?}");
    }
}

/// What the leader writes is nobody else's: an upgrade that named these fields would take them from it.
#[test]
fn what_the_leader_fills_in_is_left_out() {
    let Some(helm) = Helm::find() else { return };
    for set in [&[][..], ISSUED, PROVIDED, &["pinning.enabled=false"]] {
        let objects = helm.render(set);
        for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
            let configuration = of_kind(&objects, kind);
            let fields: Vec<&String> = configuration.as_object().unwrap().keys().collect();
            assert_eq!(fields, ["apiVersion", "kind", "metadata"], "{set:?}");
        }
        for secret in objects.iter().filter(|object| object["kind"] == "Secret") {
            assert!(secret.get("data").is_none() && secret.get("stringData").is_none(), "{secret}");
        }
        assert!(objects.iter().all(|object| object["kind"] != "Lease"), "{set:?}");
    }
}

/// A plain `kubectl apply -f` of what is rendered puts nothing into another namespace than the one that was named.
#[test]
fn everything_that_has_a_namespace_names_it() {
    let Some(helm) = Helm::find() else { return };
    for set in [
        &["dashboard.enabled=true", "serviceMonitor.enabled=true", "prometheusRule.enabled=true"][..],
        ISSUED,
    ] {
        for object in helm.render(set) {
            let kind = object["kind"].as_str().unwrap();
            let whole = kind.starts_with("ClusterRole") || kind.ends_with("WebhookConfiguration");
            assert_eq!(object["metadata"]["namespace"] == "prod", !whole, "{kind}");
        }
    }
}

#[test]
fn names_follow_the_release() {
    let Some(helm) = Helm::find() else { return };
    for (release, set, expected) in [
        ("bonafide", "", "bonafide"),
        ("bonafide-eu", "", "bonafide-eu"),
        ("eu", "", "eu-bonafide"),
        ("eu", "nameOverride=gate", "eu-gate"),
        ("eu", "fullnameOverride=gate", "gate"),
        (
            "a-release-with-quite-a-long-name",
            "nameOverride=and-a-long-name-of-its-own",
            "a-release-with-quite-a-long-name-and-a-long-name-of",
        ),
    ] {
        let set: Vec<&str> = Some(set).filter(|set| !set.is_empty()).into_iter().collect();
        let objects = helm.render_as(release, &set);
        assert_eq!(of_kind(&objects, "Service")["metadata"]["name"], expected);
        let deployment = of_kind(&objects, "Deployment").to_string();
        assert!(deployment.contains(&format!("\"--name={expected}\"")), "{release}: {deployment}");
    }
}
