//! Every kind with its images, and what is no object of its kind.

use serde_json::{Value, json};

use super::*;

fn spec() -> Value {
    json!({
        "initContainers": [{"name": "i", "image": "i:1"}],
        "containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 1}]}, {"name": "b\n", "image": "b:\u{e4}"}],
        "ephemeralContainers": [{"name": "e", "image": "e:1", "targetContainerName": "a"}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "m", "image": {"reference": "m:1", "pullPolicy": "Always"}}],
        "nodeName": "n1", "nodeSelector": {"k": "v"}, "os": {"name": "linux"}, "runtimeClassName": "gvisor",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "x", "operator": "Gt", "values": ["1"]}],
             "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}}},
    })
}

fn read_value(group: &str, kind: &str, object: &Value) -> Object {
    read(group, kind, &object.to_string()).unwrap().unwrap()
}

#[test]
fn every_kind_has_its_images_at_its_place() {
    let metadata = json!({"name": "x", "namespace": "n"});
    let template = json!({"metadata": {}, "spec": spec()});
    let templated = json!({"metadata": metadata, "spec": {"template": template}});
    let cases = [
        ("", "Pod", json!({"metadata": metadata, "spec": spec()}), "spec"),
        ("apps", "Deployment", templated.clone(), "spec.template.spec"),
        ("apps", "ReplicaSet", templated.clone(), "spec.template.spec"),
        ("apps", "StatefulSet", templated.clone(), "spec.template.spec"),
        ("apps", "DaemonSet", templated.clone(), "spec.template.spec"),
        ("batch", "Job", templated.clone(), "spec.template.spec"),
        ("", "ReplicationController", templated.clone(), "spec.template.spec"),
        ("", "PodTemplate", json!({"metadata": metadata, "template": template}), "template.spec"),
        (
            "batch",
            "CronJob",
            json!({"metadata": metadata, "spec": {"jobTemplate": {"spec": {"template": template}}}}),
            "spec.jobTemplate.spec.template.spec",
        ),
    ];
    for (group, kind, object, prefix) in cases {
        let workload = read_value(group, kind, &object).workload;
        assert_eq!(
            (workload.kind.as_str(), workload.namespace.as_str(), workload.name.as_str()),
            (kind, "n", "x")
        );
        let found: Vec<(&str, &str)> =
            workload.images.iter().map(|i| (i.field.as_str(), i.image.as_str())).collect();
        let field = |rest: &str| format!("{prefix}.{rest}");
        assert_eq!(
            found,
            [
                (field("initContainers[0].image").as_str(), "i:1"),
                (field("containers[0].image").as_str(), "a:1"),
                (field("containers[1].image").as_str(), "b:ä"),
                (field("ephemeralContainers[0].image").as_str(), "e:1"),
                (field("volumes[1].image.reference").as_str(), "m:1"),
            ],
            "{kind}"
        );
        assert_eq!(workload.placement.node_name.as_deref(), Some("n1"));
        assert_eq!(workload.placement.os.as_deref(), Some("linux"));
        assert_eq!(workload.placement.runtime_class.as_deref(), Some("gvisor"));
        let terms = workload.placement.affinity.unwrap();
        assert_eq!((terms[0].labels[0].operator, terms[0].fields[0].values.len()), (NodeOperator::Gt, 1));
    }
}

#[test]
fn kinds_of_other_groups_are_not_ours() {
    for (group, kind) in [("", "Service"), ("x.example", "Deployment"), ("apps", "Pod"), ("", "pod")] {
        assert_eq!(read(group, kind, "{}").unwrap(), None);
    }
}

#[test]
fn a_container_without_an_image_is_still_an_image_to_be_judged() {
    let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "image": null}]}});
    let images = read_value("", "Pod", &pod).workload.images;
    assert_eq!(images.iter().map(|image| image.image.as_str()).collect::<Vec<_>>(), ["", ""]);
}

#[test]
fn what_is_no_pod_is_an_error_and_not_empty() {
    for pod in [
        "[]",
        "1",
        r#"{"spec":{"containers":{}}}"#,
        r#"{"spec":{"containers":[1]}}"#,
        r#"{"spec":{"containers":[{"image":1}]}}"#,
        r#"{"spec":{},"spec":{}}"#,
        r#"{"spec":{"containers":[],"containers":[]}}"#,
    ] {
        assert!(read("", "Pod", pod).is_err(), "{pod}");
    }
}

#[test]
fn an_update_is_unchanged_when_images_and_placement_are() {
    let pod = |image: &str, node: &str| {
        let object = json!({"spec": {"nodeName": node, "containers": [{"name": "a", "image": image}]}});
        read_value("", "Pod", &object).workload
    };
    assert!(is_unchanged(&pod("a", "n"), &pod("a", "n")));
    assert!(!is_unchanged(&pod("a", "n"), &pod("b", "n")));
    assert!(!is_unchanged(&pod("a", ""), &pod("a", "n")));
}

#[test]
fn c6_of_an_updated_pod_what_is_new_or_other_is_judged() {
    let pod = |init: &Value, regular: &Value, debug: &Value, node: &str| {
        let spec = json!({"nodeName": node, "initContainers": init, "containers": regular, "ephemeralContainers": debug});
        read_value("", "Pod", &json!({"spec": spec})).workload
    };
    let one = |name: &str, image: &str| json!([{"name": name, "image": image}]);
    let before = pod(&one("i", "x"), &one("a", "y"), &json!([]), "n");
    let judged = |before: &Workload, mut after: Workload| {
        keep_changed(before, &mut after);
        after.images.iter().map(|image| format!("{} {}", image.field, image.image)).collect::<Vec<_>>()
    };
    let debugged = pod(&one("i", "x"), &one("a", "y"), &one("d", "z"), "n");
    assert_eq!(judged(&before, debugged), ["spec.ephemeralContainers[0].image z"]);
    let set = pod(&one("i", "x"), &one("a", "w"), &json!([]), "n");
    assert_eq!(judged(&before, set), ["spec.containers[0].image w"]);
    let moved = pod(&one("i", "x"), &one("a", "y"), &json!([]), "m");
    assert_eq!(judged(&before, moved).len(), 2, "elsewhere other manifests are pulled");
    let renamed = pod(&one("i", "x"), &one("b", "y"), &json!([]), "n");
    assert_eq!(judged(&before, renamed), ["spec.containers[0].image y"]);
    // The same name in another list is another container.
    let swapped = pod(&one("a", "y"), &one("i", "x"), &json!([]), "n");
    assert_eq!(judged(&before, swapped).len(), 2);
    // A name that stood for two images tells nothing.
    let twice = json!([{"name": "a", "image": "y"}, {"name": "a", "image": "w"}]);
    let odd = pod(&json!([]), &twice, &json!([]), "n");
    assert_eq!(
        judged(&odd, pod(&json!([]), &one("a", "w"), &json!([]), "n")),
        ["spec.containers[0].image w"]
    );
    assert_eq!(judged(&before, before.clone()), Vec::<String>::new());
}
