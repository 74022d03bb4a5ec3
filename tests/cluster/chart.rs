//! The chart and the plain manifests, as the API server takes them. The webhook itself does not run here: what it would write is
//! written in its name.

use std::path::Path;

use bonafide_kit::plane::{Client, eventually};
use serde_json::{Value, json};

use crate::shared::alone;

const NAMESPACE: &str = "charted";
/// All that a release makes, and the ways that leave traces.
const KINDS: &str = "networkpolicy,resourcequota,poddisruptionbudget,serviceaccount,secret,configmap,clusterrole,\
    clusterrolebinding,role,rolebinding,service,deployment,mutatingwebhookconfiguration,validatingwebhookconfiguration";

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

fn helm(plane: &Client, command: &[&str], arguments: &[&str]) -> String {
    plane.helm(&[command, &["--namespace", NAMESPACE], arguments].concat()).ok()
}

/// A namespace in which only pods of the standard `restricted` may be.
fn namespace(plane: &Client) {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    plane
        .apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
                .to_string(),
        )
        .ok();
}

/// What the leading replica writes: an entry in each configuration, and the data of the Secret.
fn lead(plane: &Client) {
    for (kind, name) in
        [("ValidatingWebhookConfiguration", "workloads"), ("MutatingWebhookConfiguration", "pods")]
    {
        let entry = json!({
            "name": format!("{name}.bonafide.dev"),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
            "clientConfig": {"service": {"name": "bonafide", "namespace": NAMESPACE, "path": "/"}, "caBundle": "YQ=="},
        });
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": "bonafide"},
            "webhooks": [entry],
        });
        let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=bonafide", "-f", "-"];
        plane.kubectl_reading(&apply, &configuration.to_string()).ok();
    }
    let data = json!({"data": {"tls.crt": "YQ==", "tls.key": "Yg=="}}).to_string();
    let secret = ["patch", "secret", "bonafide-tls", "--namespace", NAMESPACE, "--field-manager=bonafide"];
    plane.kubectl(&[&secret[..], &["--type=merge", "--patch", &data]].concat()).ok();
}

/// What the leading replica has written, as it is now.
fn led(plane: &Client) -> Vec<Value> {
    let get = |kind: &str, field: &str| plane.get(&[kind, "bonafide"]).unwrap()[field].clone();
    vec![
        get("validatingwebhookconfiguration", "webhooks"),
        get("mutatingwebhookconfiguration", "webhooks"),
        plane.get(&["secret", "bonafide-tls", "--namespace", NAMESPACE]).unwrap()["data"].clone(),
    ]
}

/// A release's whole life. That everything is accepted is half of what is shown; the other, that nothing is taken from the leader.
#[test]
fn upgrades_leave_to_the_leader_what_is_its_own() {
    let Some(plane) = alone() else { return };
    let chart = repository("charts/bonafide");
    namespace(&plane);
    helm(&plane, &["install", "bonafide", &chart], &[]);
    assert_eq!(led(&plane), [Value::Null, Value::Null, Value::Null]);
    // The controllers make the pods: quota, priority class and pod security allow them.
    eventually("two pods", || {
        let status = plane.get(&["deployment", "bonafide", "--namespace", NAMESPACE])?["status"].clone();
        if status["replicas"] == 2 { Ok(()) } else { Err(status.to_string()) }
    });

    lead(&plane);
    let before = led(&plane);
    assert!(before.iter().all(|written| !written.is_null()), "{before:?}");
    let everything = [
        "replicas=3",
        "failurePolicy=Ignore",
        "optOutLabel=bonafide.dev/review",
        "platforms={linux/arm64}",
        "registries.credentialsSecret=mine",
        "trustRoot.configMap=mine",
        "podLabels.team=platform",
        "dashboard.enabled=true",
        "service.port=9443",
    ]
    .map(|value| format!("--set={value}"));
    let everything: Vec<&str> = everything.iter().map(String::as_str).collect();
    for arguments in [&everything[..], &["--server-side=false", "--set=replicas=1"], &["--server-side=true"]]
    {
        helm(&plane, &["upgrade", "bonafide", &chart], arguments);
        assert_eq!(led(&plane), before, "{arguments:?}");
    }
    helm(&plane, &["rollback", "bonafide", "1"], &[]);
    assert_eq!(led(&plane), before);

    // Deleted to get out, they come back empty, and not by themselves.
    plane
        .kubectl(&["delete", "validatingwebhookconfiguration,mutatingwebhookconfiguration", "bonafide"])
        .ok();
    helm(&plane, &["upgrade", "bonafide", &chart], &[]);
    assert_eq!(led(&plane), [Value::Null, Value::Null, before[2].clone()]);

    helm(&plane, &["uninstall", "bonafide"], &["--wait"]);
    let selector = "--selector=app.kubernetes.io/instance=bonafide";
    let left = plane.get(&[KINDS, selector, "--all-namespaces"]).unwrap();
    assert_eq!(left["items"], json!([]));
    plane
        .get(&["customresourcedefinition", "provenancepolicies.bonafide.dev"])
        .expect("policies outlive the release");
    plane.kubectl(&["delete", "namespace", NAMESPACE]).ok();
}

#[test]
fn e8_the_plain_manifests_and_the_policies_are_applied_as_they_are_and_definitions_outlive_them() {
    let Some(plane) = alone() else { return };
    let (manifests, policies) = (repository("deploy"), repository("policies"));
    let definitions = format!("{manifests}/crds.yaml");
    for _ in 0..2 {
        plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &definitions]).ok();
        plane.kubectl(&["apply", "--server-side", "-k", &manifests]).ok();
    }
    eventually("two pods", || {
        let status = plane.get(&["deployment", "bonafide", "--namespace=bonafide"])?["status"].clone();
        if status["replicas"] == 2 { Ok(()) } else { Err(status.to_string()) }
    });
    let established = ["wait", "--for=condition=Established", "--timeout=30s", "-f"];
    plane.kubectl(&[&established[..], &[&format!("{manifests}/crds.yaml")]].concat()).ok();
    let applied = plane.kubectl(&["apply", "-k", &policies]).ok();
    assert!(applied.contains("clusterprovenancepolicy.bonafide.dev/bonafide created"), "{applied}");

    plane.kubectl(&["delete", "-k", &policies]).ok();
    // The definitions stay, and so do everybody's policies.
    plane.kubectl(&["delete", "--timeout=60s", "-k", &manifests]).ok();
    plane.get(&["customresourcedefinition", "provenancepolicies.bonafide.dev"]).unwrap();
}
