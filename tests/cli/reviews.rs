//! `review`: manifests and admission reviews, against layouts.

use serde_json::json;

use crate::{Ran, bonafide_reading, file, generator_policy, vectors};

fn review(input: &str, layout: &str, more: &[&str]) -> Option<Ran> {
    let layout = vectors(&format!("images/{layout}"))?;
    let policy = generator_policy("\n", "\n");
    let mut line = vec!["review", "-f", "-", "--layout", layout.to_str().unwrap()];
    line.extend(["--policies", policy.to_str().unwrap(), "--namespace", "elsewhere"]);
    line.extend(more);
    Some(bonafide_reading(&line, input))
}

const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: one}
spec:
  containers: [{name: app, image: ghcr.io/example/app:v1}]
---
apiVersion: v1
kind: List
items:
  - apiVersion: apps/v1
    kind: Deployment
    metadata: {name: two}
    spec:
      template:
        spec:
          initContainers: [{name: init, image: docker.io/library/busybox}]
          containers: [{name: app, image: ghcr.io/example/app:v1}]
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: three}
";

#[test]
fn objects_are_answered_one_by_one() {
    let Some(ran) = review(MANIFESTS, "slsa-github-generator-v1.4.0", &["--output", "json"]) else { return };
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = ran.json();
    let names: Vec<&str> =
        json["objects"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert_eq!(json["objects"][2]["images"], json!([]));
    assert!(json["objects"][2]["skipped"].is_string());
    assert_eq!(json["allowed"], true);
    assert_eq!(json["images"][0]["proofs"][0]["policy"], "elsewhere/generator");
}

#[test]
fn one_denial_decides_and_another_namespace_has_other_policies() {
    let Some(ran) = review(MANIFESTS, "buildkit-multiarch-unsigned", &["--output", "json"]) else { return };
    assert_eq!(ran.code, 1, "{ran:?}");
    let object = &ran.json()["objects"][0];
    assert_eq!((object["allowed"].as_bool(), object["code"].as_u64()), (Some(false), Some(403)));
    assert!(object["message"].as_str().unwrap().contains("UnsignedProvenance"), "{ran:?}");
    let elsewhere = MANIFESTS.replace("{name: one}", "{name: one, namespace: other}");
    let ran = review(&elsewhere, "buildkit-multiarch-unsigned", &["--output", "json"]).unwrap();
    assert_eq!(ran.json()["objects"][0]["allowed"], true);
}

#[test]
fn images_that_no_policy_names_get_what_is_asked_for() {
    for (what, code) in [("allow", 0), ("warn", 0), ("deny", 1)] {
        let Some(ran) = review(MANIFESTS, "slsa-github-generator-v1.4.0", &["--unmatched-images", what])
        else {
            return;
        };
        assert_eq!(ran.code, code, "{what}: {ran:?}");
        assert_eq!(ran.out.contains("UnmatchedImage"), what != "allow", "{what}: {ran:?}");
    }
}

#[test]
fn nodes_say_where_a_pod_can_land() {
    let nodes = |architectures: &[&str]| {
        let items: Vec<_> = architectures
            .iter()
            .map(|architecture| {
                let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": architecture});
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": architecture, "labels": labels}})
            })
            .collect();
        file("nodes.json", &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
    };
    for (nodes, code, part) in [
        (nodes(&["amd64"]), 0, ""),
        (nodes(&["amd64", "arm64"]), 0, "linux/arm64"),
        (nodes(&["arm64"]), 1, "PlatformMissing"),
        // A cluster without nodes says nothing of where pods can land.
        (nodes(&[]), 0, ""),
        (file("no-nodes.yaml", "apiVersion: v1\nitems: []\nkind: List\n"), 0, ""),
    ] {
        let Some(ran) =
            review(MANIFESTS, "slsa-github-generator-v1.4.0", &["--nodes", nodes.to_str().unwrap()])
        else {
            return;
        };
        assert_eq!(ran.code, code, "{part}: {ran:?}");
        assert!(ran.out.contains(part), "{part}: {ran:?}");
    }
    let no_nodes = file("pods.yaml", MANIFESTS);
    let ran =
        review(MANIFESTS, "slsa-github-generator-v1.4.0", &["--nodes", no_nodes.to_str().unwrap()]).unwrap();
    assert_eq!(ran.code, 64, "{ran:?}");
}

#[test]
fn an_admission_review_is_answered_as_the_webhook_would() {
    let request = |operation: &str| {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "0a1b",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "namespace": "elsewhere",
                "name": "one",
                "operation": operation,
                "object": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "one"},
                    "spec": {"containers": [{"name": "app", "image": "ghcr.io/example/app:v1"}]},
                },
            },
        })
        .to_string()
    };
    for (operation, code) in [("CREATE", 1), ("DELETE", 0)] {
        let Some(ran) = review(&request(operation), "buildkit-multiarch-unsigned", &["--output", "json"])
        else {
            return;
        };
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.json()["objects"][0]["kind"], "Pod");
    }
    let no_uid = request("CREATE").replace("0a1b", "");
    assert_eq!(review(&no_uid, "buildkit-multiarch-unsigned", &[]).unwrap().code, 64);
}

#[test]
fn what_cannot_be_read_is_64_before_anything_is_judged() {
    let broken = format!("{MANIFESTS}\n---\nkind: [\n");
    for input in ["", "just text", "kind: [", &broken] {
        let Some(ran) = review(input, "slsa-github-generator-v1.4.0", &[]) else { return };
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{input:?}: {ran:?}");
    }
}

#[test]
fn an_object_that_is_not_of_its_kind_is_denied_as_the_webhook_denies_it() {
    let broken =
        MANIFESTS.replace("containers: [{name: app, image: ghcr.io/example/app:v1}]", "containers: app");
    let Some(ran) = review(&broken, "slsa-github-generator-v1.4.0", &["--output", "json"]) else { return };
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(ran.json()["objects"][0]["code"], 400, "{ran:?}");
    assert_eq!(ran.json()["objects"][2]["allowed"], true, "{ran:?}");
}

#[test]
fn texts() {
    let Some(ran) = review(
        MANIFESTS,
        "slsa-github-generator-v1.4.0",
        &["--platform", "linux/amd64", "--platform", "linux/arm64"],
    ) else {
        return;
    };
    insta::assert_snapshot!("review_admitted", ran.out);
    insta::assert_snapshot!(
        "review_denied",
        review(MANIFESTS, "buildkit-multiarch-unsigned", &[]).unwrap().out
    );
}
