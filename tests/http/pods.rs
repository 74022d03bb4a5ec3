//! What happens to pods alone: they are pinned before they are judged, and judged again when they are bound to a node.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bonafide::{
    domain::{plan::Stage, workload::Node},
    gather::ports::Snapshot,
};
use serde_json::{Value, json};

use crate::stand_in::{DIGEST, Server, create, pod, with};

/// The changes of an answer.
fn patch(answer: &Value) -> Value {
    assert_eq!(answer["allowed"], true, "{answer}");
    let Some(patch) = answer.get("patch") else { return Value::Null };
    assert_eq!(answer["patchType"], "JSONPatch");
    serde_json::from_slice(&BASE64_STANDARD.decode(patch.as_str().unwrap()).unwrap()).unwrap()
}

async fn mutated(object: &Value) -> Value {
    patch(&Server::new().ask("mutate", "", &create(object)).await)
}

fn replaced(path: &str, image: &str) -> Value {
    json!({"op": "replace", "path": path, "value": image})
}

#[tokio::test]
async fn tags_are_pinned_to_what_was_verified() {
    let mut object = pod(&["good:v1", "good"]);
    object["spec"]["initContainers"] = json!([{"name": "init", "image": "good:v2"}]);
    object["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": "good:v3"}}]);
    assert_eq!(
        mutated(&object).await,
        json!([
            replaced("/spec/initContainers/0/image", &format!("good:v2@{DIGEST}")),
            replaced("/spec/containers/0/image", &format!("good:v1@{DIGEST}")),
            replaced("/spec/containers/1/image", &format!("good:latest@{DIGEST}")),
            replaced("/spec/volumes/0/image/reference", &format!("good:v3@{DIGEST}")),
        ])
    );
}

#[tokio::test]
async fn what_has_a_digest_stays_as_it_is() {
    assert_eq!(mutated(&pod(&[&format!("good:v1@{DIGEST}")])).await, Value::Null);
}

#[tokio::test]
async fn what_was_not_verified_is_neither_pinned_nor_refused_here() {
    // No policy names the second: nothing was verified.
    assert_eq!(
        mutated(&pod(&["good:v1", "other:v1"])).await,
        json!([replaced("/spec/containers/0/image", &format!("good:v1@{DIGEST}"))])
    );
    for denied in ["unsigned", "throttled", "panic"] {
        assert_eq!(mutated(&pod(&["good:v1", denied])).await, Value::Null, "{denied}");
    }
}

#[tokio::test]
async fn templates_are_left_as_they_were_written() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "good:v1"}]}});
    let job = json!({"kind": "Job", "metadata": {"name": "web"}, "spec": {"template": template}});
    let review = with(create(&job), &json!({"kind": {"group": "batch", "version": "v1", "kind": "Job"}}));
    let server = Server::new();
    assert_eq!(patch(&server.ask("mutate", "", &review).await), Value::Null);
    assert_eq!(server.judged(), 0);
}

#[tokio::test]
async fn a_pod_is_kept_to_the_covered_platforms_and_told_why() {
    let server = Server::new();
    let answer = server.ask("mutate", "", &create(&pod(&["partly"]))).await;
    let kept = json!([{"matchExpressions": [
        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]);
    let operations = patch(&answer);
    assert_eq!(operations[1]["path"], "/spec/affinity");
    assert_eq!(
        operations[1]["value"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"],
        kept
    );
    insta::assert_json_snapshot!(answer["warnings"]);
    // The kubelet takes what names its node, whatever the affinity says.
    let mut bound = pod(&["partly"]);
    bound["spec"]["nodeName"] = json!("n1");
    assert_eq!(mutated(&bound).await.as_array().unwrap().len(), 1, "only the image is pinned");
}

#[tokio::test]
async fn templates_are_drafts_only_where_pods_are_pinned() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "good:v1"}]}});
    let job = json!({"kind": "Job", "metadata": {"name": "web"}, "spec": {"template": template}});
    let job = with(create(&job), &json!({"kind": {"group": "batch", "version": "v1", "kind": "Job"}}));
    for (pinning, review, stage) in [
        (true, &job, Stage::Draft),
        (false, &job, Stage::Final),
        (true, &create(&pod(&["good:v1"])), Stage::Final),
    ] {
        let server = Server::knowing(Snapshot { pinning, ..Snapshot::default() });
        server.review(review).await;
        assert_eq!(server.judge.last.lock().as_ref().unwrap().1, stage);
    }
}

const UID: &str = "5d4f2b3e-0000-4000-8000-000000000001";

fn stored(images: &[&str]) -> Value {
    let mut object = pod(images);
    object["metadata"]["uid"] = json!(UID);
    object
}

fn binding(name: &str, node: &str) -> Value {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": "team", "uid": UID},
        "target": {"kind": "Node", "name": node},
    });
    with(create(&object), &json!({"name": name, "subResource": "binding"}))
}

/// A server that knows the node `n1`.
fn server() -> Server {
    let node = Node {
        name: "n1".to_owned(),
        labels: [("kubernetes.io/arch".to_owned(), "arm64".to_owned())].into(),
        platform: None,
    };
    Server::knowing(Snapshot { nodes: [Arc::new(node)].into(), ..Snapshot::default() })
}

#[tokio::test]
async fn a_binding_is_judged_by_what_the_pod_runs_and_the_node() {
    for (image, code) in [("good:v1", None), ("unsigned", Some(403)), ("throttled", Some(503))] {
        let server = server();
        server.pods.put(UID, &stored(&[image]));
        let answer = server.ask("bind", "", &binding("web", "n1")).await;
        assert_eq!(answer["allowed"], code.is_none(), "{image}: {answer}");
        assert_eq!(answer["status"].get("code").and_then(Value::as_u64), code);
        let (workload, stage) = server.judge.last.lock().clone().unwrap();
        assert_eq!(stage, Stage::Final);
        assert_eq!(workload.placement.node_name.as_deref(), Some("n1"));
        assert_eq!((workload.namespace.as_str(), workload.images[0].image.as_str()), ("team", image));
    }
}

#[tokio::test]
async fn e1_no_answer_to_a_binding_has_the_scheduler_sleep() {
    let server = server();
    server.pods.put(UID, &stored(&["unsigned"]));
    let no = server.ask("bind", "", &binding("web", "n1")).await;
    assert_eq!((&no["status"]["code"], no["status"].get("details")), (&json!(403), None));
    // A node that has just joined: nobody knows what it is yet.
    let unknown = server.ask("bind", "", &binding("web", "n2")).await;
    assert_eq!(unknown["status"]["code"], 503);
    assert_eq!(unknown["status"].get("details"), None, "the scheduler would sleep inside the call");
    let words =
        "node n2 is not known yet, or does not say its architecture: the pod can be bound to it once it does";
    assert_eq!(unknown["status"]["message"], words);
    let lost = server.ask("bind", "", &binding("lost", "n1")).await;
    assert_eq!(lost["status"]["code"], 503);
    assert_eq!(lost["status"].get("details"), None);
    assert_eq!(lost["status"]["message"], "what pod team/lost runs could not be found out: nobody answers");
    server.counted(r#"bonafide_reviews_total{verdict="unverifiable",reason="UnknownPod"} 1"#);
}

#[tokio::test]
async fn a5_what_a_review_says_of_a_pod_is_not_believed_when_it_is_bound() {
    let server = server();
    server.pods.put(UID, &stored(&["unsigned"]));
    // Anybody can send these.
    for (uid, operation, dry_run) in [(UID, "CREATE", false), ("", "CREATE", false), (UID, "UPDATE", true)] {
        let mut lie = stored(&["good:v1"]);
        lie["metadata"]["uid"] = json!(uid);
        let change = json!({"operation": operation, "dryRun": dry_run});
        assert_eq!(server.review(&with(create(&lie), &change)).await["allowed"], true);
    }
    assert_eq!(server.ask("bind", "", &binding("web", "n1")).await["status"]["code"], 403);
    server.pods.put(UID, &stored(&["good:v1"]));
    assert_eq!(server.ask("bind", "", &binding("web", "n1")).await["allowed"], true);
    server.pods.0.lock().clear();
    let gone = server.ask("bind", "", &binding("web", "n1")).await;
    assert_eq!(gone["allowed"], true, "there is no such pod");
}

#[tokio::test]
async fn what_is_no_binding_is_refused() {
    let mut of_pod = binding("web", "n1");
    of_pod["request"]["object"]["target"]["kind"] = json!("Rack");
    for (review, why) in [(create(&stored(&["good"])), "not of Pod"), (of_pod, "a Rack, not a Node")] {
        let answer = server().ask("bind", "", &review).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(400)));
        assert!(answer["status"]["message"].as_str().unwrap().contains(why), "{answer}");
    }
}

#[tokio::test]
async fn e7_owners_of_policies_are_told_what_was_found_and_what_could_not_be_found_out() {
    let server = server();
    for image in ["good:v1", "tagged", "noisy"] {
        server.review(&create(&pod(&[image]))).await;
    }
    assert_eq!(*server.events.0.lock(), Vec::<String>::new(), "there is nothing to tell");
    for image in ["audited", "throttled", "unsigned"] {
        server.review(&create(&pod(&[image]))).await;
    }
    insta::assert_json_snapshot!(*server.events.0.lock());
    // What is mutated is validated next: one pod is told of once.
    let before = server.events.0.lock().len();
    server.ask("mutate", "", &create(&pod(&["audited"]))).await;
    assert_eq!(server.events.0.lock().len(), before);
}

#[tokio::test]
async fn a3_a_binding_to_a_node_that_is_not_known_waits_until_it_is() {
    let server = server();
    server.pods.put(UID, &stored(&["good:v1"]));
    assert_eq!(server.ask("bind", "", &binding("web", "n2")).await["status"]["code"], 503);
    let node = |name: &str| Node {
        name: name.to_owned(),
        labels: [("kubernetes.io/arch".to_owned(), "amd64".to_owned())].into(),
        platform: None,
    };
    server.inventory.coming.lock().push(node("n2"));
    assert_eq!(server.ask("bind", "", &binding("web", "n2")).await["allowed"], true);
    assert_eq!(*server.inventory.looked_up.lock(), ["n2", "n2"]);
    // What no policy names is held up by nothing.
    server.pods.put(UID, &stored(&["unmatched"]));
    assert_eq!(server.ask("bind", "", &binding("web", "n3")).await["allowed"], true);
}

#[tokio::test]
async fn a3_nodes_that_a_pod_names_are_looked_up_before_it_is_judged() {
    let server = server();
    let mut named = pod(&["good:v1"]);
    named["spec"]["nodeName"] = json!("n2");
    let mut tied = pod(&["good:v1"]);
    tied["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]}]}}});
    for object in [pod(&["good:v1"]), named, tied] {
        server.review(&create(&object)).await;
        server.ask("mutate", "", &create(&object)).await;
    }
    assert_eq!(*server.inventory.looked_up.lock(), ["n2", "n2", "n3", "n3"]);
}

fn updated(before: &Value, after: &Value) -> Value {
    with(create(after), &json!({"operation": "UPDATE", "oldObject": before}))
}

#[tokio::test]
async fn c6_what_runs_already_is_neither_judged_nor_pinned_when_a_pod_is_updated() {
    let server = Server::new();
    let mut before = pod(&["unsigned", "good:v1"]);
    before["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": "good:v3"}}]);
    let mut debugged = before.clone();
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "good:v2"}]);
    let review = with(updated(&before, &debugged), &json!({"subResource": "ephemeralcontainers"}));
    assert_eq!(server.review(&review).await["allowed"], true);
    let pinned = json!([replaced("/spec/ephemeralContainers/0/image", &format!("good:v2@{DIGEST}"))]);
    assert_eq!(patch(&server.ask("mutate", "", &review).await), pinned);

    let mut denied = debugged.clone();
    denied["spec"]["ephemeralContainers"][0]["image"] = json!("unsigned");
    assert_eq!(server.review(&updated(&before, &denied)).await["allowed"], false);
    // Elsewhere other manifests are pulled, and without an object to compare with everything is judged.
    let mut gated = debugged.clone();
    gated["spec"]["nodeSelector"] = json!({"kubernetes.io/arch": "arm64"});
    assert_eq!(server.review(&updated(&before, &gated)).await["allowed"], false);
    assert_eq!(server.review(&updated(&Value::Null, &debugged)).await["allowed"], false);
    // A volume and the affinity of a pod that is there cannot be changed.
    let mut volume = before.clone();
    volume["spec"]["containers"] = json!([{"name": "c0", "image": "good:v9"}]);
    volume["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": "good:v4"}}]);
    let pinned = json!([replaced("/spec/containers/0/image", &format!("good:v9@{DIGEST}"))]);
    assert_eq!(patch(&server.ask("mutate", "", &updated(&before, &volume)).await), pinned);
    let partly = patch(&server.ask("mutate", "", &updated(&before, &pod(&["partly"]))).await);
    assert_eq!(partly.as_array().unwrap().len(), 1, "{partly}");
    assert_eq!(server.judge.last.lock().as_ref().unwrap().1, Stage::Tied);
}

#[tokio::test]
async fn c9_a_daemon_set_is_not_told_that_it_is_kept_to_platforms() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "partly"}]}});
    for (kind, words) in [("DaemonSet", "will be refused"), ("Deployment", "is kept to linux/amd64")] {
        let object = json!({"kind": kind, "metadata": {"name": "web"}, "spec": {"template": template}});
        let review =
            with(create(&object), &json!({"kind": {"group": "apps", "version": "v1", "kind": kind}}));
        let answer = Server::new().review(&review).await;
        assert_eq!(answer["allowed"], true);
        assert!(answer["warnings"][0].as_str().unwrap().contains(words), "{answer}");
    }
}

#[tokio::test]
async fn e7_a_dry_run_leaves_no_event_and_is_counted_apart() {
    let server = server();
    let denied = r#"{verdict="denied",reason="NoProvenance"} 1"#;
    let mut review = create(&pod(&["unsigned"]));
    review["request"]["dryRun"] = json!(true);
    server.review(&review).await;
    server.counted(&format!("bonafide_dry_run_reviews_total{denied}"));
    assert_eq!(*server.events.0.lock(), Vec::<String>::new());
    // Its twin is real.
    review["request"]["dryRun"] = json!(false);
    server.review(&review).await;
    server.counted(&format!("bonafide_reviews_total{denied}"));
    server.counted(&format!("bonafide_dry_run_reviews_total{denied}"));
    server.counted(r#"bonafide_problems_total{reason="NoProvenance",effect="deny"} 1"#);
    assert_eq!(server.events.0.lock().len(), 1);
}

#[tokio::test]
async fn e8_a_denied_pod_is_not_told_of_tags_and_an_admitted_one_is() {
    let server = server();
    let denied = server.review(&create(&pod(&["unsigned", "tagged"]))).await;
    assert_eq!((&denied["allowed"], denied.get("warnings")), (&json!(false), None), "{denied}");
    // A DaemonSet is told in words of its own, and no more.
    let template = pod(&["unsigned", "tagged"]);
    let object = json!({"kind": "DaemonSet", "metadata": {"name": "web"}, "spec": {"template": template}});
    let kind = json!({"kind": {"group": "apps", "version": "v1", "kind": "DaemonSet"}});
    let denied = server.review(&with(create(&object), &kind)).await;
    assert_eq!((&denied["allowed"], denied.get("warnings")), (&json!(false), None), "{denied}");
    let admitted = server.review(&create(&pod(&["good:v1", "tagged"]))).await;
    assert!(admitted["warnings"][0].as_str().unwrap().contains("UnpinnedTag"), "{admitted}");
}

#[tokio::test]
async fn e8_a_binding_that_waits_for_its_node_is_told_and_counted_as_such() {
    for image in ["good:v1", "unsigned"] {
        let server = server();
        server.pods.put(UID, &stored(&[image]));
        assert_eq!(server.ask("bind", "", &binding("web", "n2")).await["status"]["code"], 503);
        server.counted(r#"bonafide_reviews_total{verdict="unverifiable",reason="UnknownNode"} 1"#);
        // What would be found on any node is no finding about this one.
        assert_eq!(*server.events.0.lock(), Vec::<String>::new(), "{image}");
    }
}
