//! Reviews that arrive before the cluster was listed.

use std::sync::Arc;

use bonafide::gather::ports::Snapshot;
use serde_json::{Value, json};

use crate::stand_in::{Server, create, pod, with};

/// A review for each endpoint, and for each way that a review is answered without a judge.
fn reviews() -> Vec<(&'static str, Value)> {
    let good = create(&pod(&["good"]));
    let odd = json!({"group": "example.com", "version": "v1", "kind": "Oddity"});
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "good"}]}}}});
    let deployment =
        json!({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}, "object": template});
    let binding = json!({
        "kind": {"group": "", "version": "v1", "kind": "Binding"},
        "object": {"metadata": {"name": "web"}, "target": {"kind": "Node", "name": "n1"}},
    });
    let policy = json!({
        "kind": {"group": "bonafide.dev", "version": "v1alpha1", "kind": "ProvenancePolicy"},
        "object": {
            "apiVersion": "bonafide.dev/v1alpha1",
            "kind": "ProvenancePolicy",
            "metadata": {"name": "p"},
            "spec": {
                "images": {"include": ["ghcr.io/o/**"]},
                "signers": [{"name": "ci", "github": {"repository": "o/r"}}],
            },
        },
    });
    vec![
        ("validate", good.clone()),
        ("validate", with(good.clone(), &deployment)),
        ("validate", with(good.clone(), &json!({"kind": odd}))),
        ("validate", with(good.clone(), &json!({"operation": "UPDATE", "oldObject": pod(&["good"])}))),
        ("mutate", good.clone()),
        ("bind", with(good.clone(), &binding)),
        ("validate-policy", with(good, &policy)),
    ]
}

#[tokio::test]
async fn a1_every_review_is_denied_until_the_cluster_was_listed() {
    let server = Server::starting();
    for (webhook, review) in reviews() {
        let answer = server.ask(webhook, "", &review).await;
        assert_eq!(answer["allowed"], false, "{webhook}: {review}");
        assert_eq!(answer["status"]["code"], 503, "{webhook}: {review}");
        assert_eq!(answer.get("patch"), None);
    }
    assert_eq!(server.judged(), 0);
    assert!(server.pods.0.lock().is_empty(), "what was denied is not remembered");
    server.counted(r#"bonafide_reviews_total{verdict="unverifiable",reason="Unlisted"} 7"#);
    insta::assert_json_snapshot!(server.review(&create(&pod(&["good"]))).await);

    *server.inventory.snapshot.lock() = Some(Arc::new(Snapshot::default()));
    for (webhook, review) in reviews() {
        let answer = server.ask(webhook, "", &review).await;
        assert_eq!(answer["allowed"], true, "{webhook}: {answer}");
    }
}
