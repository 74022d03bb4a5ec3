//! The webhook configurations in a real API server, with nobody behind them: what asks is refused, so whatever goes through was not
//! asked about.

use std::process::Command;

use bonafide_kit::plane::{Client, Namespace, Ran, eventually};
use serde_json::{Value, json};

use crate::{definitions::install, shared::alone};

/// Both configurations, of a Service that is not there; without `--pinning` the mutating one asks nobody.
fn configure(client: &Client, flags: &[&str]) {
    let usual = [
        "manifests",
        "webhook",
        "--namespace=nowhere",
        "--exempt-namespace=kube-system",
        "--exempt-namespace=exempt",
        "--opt-out-label=example.com/review",
    ];
    let printed = Command::new(env!("CARGO_BIN_EXE_bonafide")).args(usual).args(flags).output().unwrap();
    client.apply(&String::from_utf8(printed.stdout).unwrap()).ok();
    eventually("the configurations to be in force", || {
        let refused = client.kubectl_reading(
            &["--namespace=default", "create", "--dry-run=server", "-f", "-"],
            &object("v1", "Pod", "probe", &pod_spec()).to_string(),
        );
        if is_asked(&refused, "pods") || is_asked(&refused, "workloads") {
            Ok(())
        } else {
            Err(refused.out + &refused.err)
        }
    });
}

/// Whether the API server tried to ask one of the webhooks, and failed.
fn is_asked(ran: &Ran, webhook: &str) -> bool {
    !ran.worked && ran.err.contains(&format!("failed calling webhook \"{webhook}.bonafide.dev\""))
}

/// A pod that no node fits.
fn pod_spec() -> Value {
    json!({"containers": [{"name": "main", "image": "example.com/a"}], "nodeSelector": {"nowhere": "yes"}})
}

fn object(version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn template(restart: &str) -> Value {
    let mut spec = pod_spec();
    spec["restartPolicy"] = json!(restart);
    json!({"metadata": {"labels": {"app": "x"}}, "spec": spec})
}

/// An object of each kind that names images, without any pods of its own, and where its containers are.
fn objects() -> Vec<(Value, &'static str)> {
    let selector = json!({"matchLabels": {"app": "x"}});
    let replicated = json!({"replicas": 0, "selector": selector, "template": template("Always")});
    let job = json!({"suspend": true, "template": template("Never")});
    let containers = "/spec/template/spec/containers";
    let of_each_node = json!({"selector": selector, "template": template("Always")});
    let mut controller = replicated.clone();
    controller["selector"] = json!({"app": "x"});
    let scheduled = json!({"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": job}});
    let pod_template = json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template("Always")});
    vec![
        (object("v1", "Pod", "x", &pod_spec()), "/spec/containers"),
        (pod_template, "/template/spec/containers"),
        (object("v1", "ReplicationController", "x", &controller), containers),
        (object("apps/v1", "Deployment", "x", &replicated), containers),
        (object("apps/v1", "ReplicaSet", "x", &replicated), containers),
        (object("apps/v1", "StatefulSet", "x", &replicated), containers),
        (object("apps/v1", "DaemonSet", "x", &of_each_node), containers),
        (object("batch/v1", "Job", "x", &job), containers),
        (object("batch/v1", "CronJob", "x", &scheduled), "/spec/jobTemplate/spec/template/spec/containers"),
    ]
}

/// Patches an object, without anything coming of it.
fn patch(namespace: &Namespace<'_>, kind: &str, operations: &Value, flags: &[&str]) -> Ran {
    let operations = operations.to_string();
    let patch = ["patch", kind, "x", "--dry-run=server", "--type=json", "--patch", &operations];
    namespace.kubectl(&[&patch[..], flags].concat())
}

#[test]
fn what_changes_neither_images_nor_placement_goes_through_while_nobody_can_be_asked() {
    let Some(plane) = alone() else { return };
    let namespace = plane.namespace("spared");
    for (object, _) in objects() {
        namespace.apply(&object.to_string()).ok();
    }
    configure(&plane, &["--pinning"]);
    for (object, containers) in objects() {
        let kind = object["kind"].as_str().unwrap();
        let webhook = if kind == "Pod" { "pods" } else { "workloads" };
        let changed = |operations: Value| patch(&namespace, kind, &operations, &[]);
        changed(json!([{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}])).ok();
        changed(json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/f"]}])).ok();
        if object.pointer("/spec/replicas").is_some() {
            changed(json!([{"op": "replace", "path": "/spec/replicas", "value": 3}])).ok();
        }
        if object.pointer("/spec/suspend").is_some() && kind == "CronJob" {
            changed(json!([{"op": "replace", "path": "/spec/suspend", "value": false}])).ok();
        }
        let image =
            json!([{"op": "replace", "path": format!("{containers}/0/image"), "value": "example.com/b"}]);
        let ran = changed(image);
        // The template of a job is never changed; the API server says so by itself.
        let refused =
            if kind == "Job" { ran.err.contains("field is immutable") } else { is_asked(&ran, webhook) };
        assert!(!ran.worked && refused, "{kind}: {}{}", ran.out, ran.err);
        if kind != "Job" && kind != "Pod" {
            let spec = containers.trim_end_matches("/containers");
            let elsewhere =
                json!([{"op": "replace", "path": format!("{spec}/nodeSelector/nowhere"), "value": "no"}]);
            let ran = changed(elsewhere);
            assert!(is_asked(&ran, "workloads"), "{kind}: {}{}", ran.out, ran.err);
        }
        let mut fresh = object.clone();
        fresh["metadata"]["name"] = json!("fresh");
        let ran = plane.kubectl_reading(
            &["--namespace=spared", "create", "--dry-run=server", "-f", "-"],
            &fresh.to_string(),
        );
        assert!(is_asked(&ran, webhook), "{kind}: {}{}", ran.out, ran.err);
    }
}

#[test]
fn containers_that_come_later_and_nodes_that_are_chosen_are_asked_about() {
    let Some(plane) = alone() else { return };
    let namespace = plane.namespace("later");
    let node = plane.node("later", "amd64");
    namespace.apply(&object("v1", "Pod", "x", &pod_spec()).to_string()).ok();
    configure(&plane, &[]);
    let debugger = json!([{"op": "add", "path": "/spec/ephemeralContainers",
        "value": [{"name": "debugger", "image": "example.com/b", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]}]);
    let ran = patch(&namespace, "Pod", &debugger, &["--subresource=ephemeralcontainers"]);
    assert!(is_asked(&ran, "workloads"), "{}{}", ran.out, ran.err);
    let image = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "example.com/b"}]);
    let ran = patch(&namespace, "Pod", &image, &[]);
    assert!(is_asked(&ran, "workloads"), "{}{}", ran.out, ran.err);
    namespace.kubectl(&["annotate", "pod", "x", "a=b"]).ok();
    let nothing = json!([{"op": "add", "path": "/spec/ephemeralContainers", "value": []}]);
    patch(&namespace, "Pod", &nothing, &["--subresource=ephemeralcontainers"]).ok();

    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "x"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node.name()}});
    for path in ["/api/v1/namespaces/later/pods/x/binding", "/api/v1/namespaces/later/bindings"] {
        let ran = plane.kubectl_reading(&["create", "--raw", path, "-f", "-"], &binding.to_string());
        assert!(is_asked(&ran, "bindings"), "{path}: {}{}", ran.out, ran.err);
    }
}

#[test]
fn nobody_is_asked_about_exempt_namespaces_nor_waited_for_with_a_policy() {
    let Some(plane) = alone() else { return };
    install(&plane);
    let (exempt, opted_out) = (plane.namespace("exempt"), plane.namespace("opted-out"));
    let other = plane.namespace("opted-in");
    plane.kubectl(&["label", "namespace", "opted-out", "example.com/review=disabled"]).ok();
    plane.kubectl(&["label", "namespace", "opted-in", "example.com/review=enabled"]).ok();
    configure(&plane, &["--pinning"]);
    let pod = object("v1", "Pod", "x", &pod_spec()).to_string();
    exempt.apply(&pod).ok();
    opted_out.apply(&pod).ok();
    let ran = other.apply(&pod);
    assert!(is_asked(&ran, "pods"), "{}{}", ran.out, ran.err);

    let policy = object(
        "bonafide.dev/v1alpha1",
        "ProvenancePolicy",
        "x",
        &json!({"images": {"include": ["ghcr.io/o/a"]}, "signers": [{"github": {"repository": "o/a"}}]}),
    );
    other.apply(&policy.to_string()).ok();
}
