//! What whoever applies a policy is told of it.

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use bonafide::{
    api::compile::{GivenKeys, NoKeys, compile},
    gather::ports::Snapshot,
};
use serde_json::{Value, json};

use crate::stand_in::{Server, body, to};

const WEBHOOK: &str = "validate-policy";

fn policy() -> Value {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ProvenancePolicy", "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "images": {"include": ["ghcr.io/o/a"]},
            "signers": [{"github": {"repository": "o/a", "refs": ["refs/heads/main"], "triggers": ["push"]}}],
        },
    })
}

fn with(place: &str, value: Value) -> Value {
    let mut policy = policy();
    *policy.pointer_mut(place).unwrap() = value;
    policy
}

fn review(operation: &str, object: &Value, before: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": operation, "name": "p", "namespace": "n",
            "kind": {"group": "bonafide.dev", "version": "v1alpha1", "kind": "ProvenancePolicy"},
            "object": object, "oldObject": before,
        },
    })
}

async fn create(policy: &Value) -> Value {
    Server::new().ask(WEBHOOK, "", &review("CREATE", policy, &Value::Null)).await
}

#[tokio::test]
async fn what_is_right_is_taken_without_a_word() {
    let answer = create(&policy()).await;
    assert_eq!(answer, json!({"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true}));
}

#[tokio::test]
async fn e6_a_signer_whose_trust_root_is_not_there_is_warned_of() {
    let mut policy = policy();
    policy["spec"]["signers"][0]["trustRoot"] = json!("corp");
    let answer = create(&policy).await;
    assert_eq!(answer["allowed"], true);
    insta::assert_json_snapshot!(answer["warnings"]);
}

#[tokio::test]
async fn b8_the_entries_are_widened_for_a_policy_before_it_is_taken_and_not_in_a_dry_run() {
    let mut dry = review("CREATE", &policy(), &Value::Null);
    dry["request"]["dryRun"] = json!(true);
    let wrong = review("CREATE", &with("/spec/signers", json!([])), &Value::Null);
    let relabelled = review("UPDATE", &policy(), &policy());
    let changed = review("UPDATE", &policy(), &with("/spec/images/include", json!(["ghcr.io/o/b"])));
    for (asked, is_allowed, widened) in [
        (review("CREATE", &policy(), &Value::Null), true, vec!["n/p"]),
        (changed, true, vec!["n/p"]),
        (dry, true, vec![]),
        (wrong, false, vec![]),
        (relabelled, true, vec![]),
    ] {
        let server = Server::new();
        let answer = server.ask(WEBHOOK, "", &asked).await;
        assert_eq!(answer["allowed"], is_allowed, "{answer}");
        assert_eq!(*server.selected.policies.lock(), widened, "{asked}");
    }
}

#[tokio::test]
async fn b8_a_policy_that_is_not_selected_yet_or_never_is_taken_with_a_warning() {
    let server = Server::new();
    server.selected.fails.store(true, Ordering::Relaxed);
    let not_yet = server.ask(WEBHOOK, "", &review("CREATE", &policy(), &Value::Null)).await;
    let mut of_system = review("CREATE", &policy(), &Value::Null);
    of_system["request"]["namespace"] = json!("kube-system");
    of_system["request"]["object"]["metadata"]["namespace"] = json!("kube-system");
    let never = Server::new().ask(WEBHOOK, "", &of_system).await;
    insta::assert_json_snapshot!([not_yet, never]);
}

#[tokio::test]
async fn every_error_is_told_at_its_field() {
    let mut wrong = with("/spec/signers/0/github/refs", json!(["main", "refs/tags/${image.tg}"]));
    wrong["spec"]["images"]["include"][0] = json!("nginx");
    wrong["spec"]["mode"] = json!("enforce");
    insta::assert_json_snapshot!(create(&wrong).await);
}

/// Whatever says it, it is the same.
#[tokio::test]
async fn the_words_are_those_of_policy_check() {
    let wrong = with("/spec/signers/0/github/refs/0", json!("main"));
    let told: Vec<String> = compile(&wrong, &NoKeys).errors.iter().map(ToString::to_string).collect();
    assert_eq!(create(&wrong).await["status"]["message"], told.join("\n"));
}

#[tokio::test]
async fn what_is_wider_than_it_looks_is_taken_with_a_warning() {
    let wide = with("/spec/images/include/0", json!("ghcr.io/o/app*"));
    insta::assert_json_snapshot!(create(&wide).await);
}

#[tokio::test]
async fn a_rule_that_needs_the_mutating_webhook_is_refused_where_there_is_none() {
    let mut constraining = policy();
    constraining["spec"]["uncoveredPlatforms"] = json!("Constrain");
    let review = review("CREATE", &constraining, &Value::Null);
    for pinning in [true, false] {
        let server = Server::knowing(Snapshot { pinning, ..Snapshot::default() });
        assert_eq!(server.ask(WEBHOOK, "", &review).await["allowed"], pinning);
    }
}

#[tokio::test]
async fn the_namespace_is_that_of_the_request() {
    let mut policy = policy();
    policy["metadata"] = json!({"name": "p"});
    assert_eq!(create(&policy).await.get("warnings"), None);
}

#[tokio::test]
async fn a_wrong_policy_can_be_labelled_and_let_go_but_not_changed_into_another_wrong_one() {
    let server = Server::new();
    let wrong = with("/spec/signers", json!([]));
    let mut labelled = wrong.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut ending = with("/spec/signers", json!([{}]));
    ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let otherwise = with("/spec/signers", json!([{}]));
    for (operation, object, before, allowed) in [
        ("UPDATE", &labelled, &wrong, true),
        ("UPDATE", &ending, &wrong, true),
        ("DELETE", &Value::Null, &wrong, true),
        ("UPDATE", &policy(), &wrong, true),
        ("UPDATE", &otherwise, &wrong, false),
        ("UPDATE", &wrong, &policy(), false),
        ("CREATE", &wrong, &Value::Null, false),
        ("CREATE", &wrong, &wrong, false),
    ] {
        let answer = server.ask(WEBHOOK, "", &review(operation, object, before)).await;
        assert_eq!(answer["allowed"], allowed, "{operation} {object} after {before}");
    }
    assert_eq!(server.judged(), 0);
}

#[tokio::test]
async fn there_are_no_more_errors_than_can_be_read() {
    let refs = vec!["main"; 60];
    let mut wrong = with("/spec/signers/0/github/refs", json!(refs));
    let told = |answer: &Value| {
        let message = answer["status"]["message"].as_str().unwrap().to_owned();
        (message.lines().count(), answer["status"]["details"]["causes"].as_array().unwrap().len(), message)
    };
    let (lines, causes, message) = told(&create(&wrong).await);
    assert_eq!((lines, causes), (51, 50));
    assert!(message.ends_with("… and 10 more errors"), "{message}");
    // A list without end is one error, and what is beyond its bound is not looked at.
    wrong["spec"]["signers"][0]["github"]["refs"] = json!(vec!["refs/heads/*"; 70_000]);
    let (lines, causes, message) = told(&create(&wrong).await);
    assert_eq!((lines, causes), (1, 1), "{message}");
}

#[tokio::test]
async fn what_is_no_review_of_a_policy_is_refused_with_what_is_wrong() {
    let server = Server::new();
    let good = review("CREATE", &policy(), &Value::Null);
    let mut pod = good.clone();
    pod["request"]["kind"] = json!({"group": "", "version": "v1", "kind": "Pod"});
    let mut other_group = good.clone();
    other_group["request"]["kind"]["group"] = json!("example.com");
    let no_object = review("CREATE", &Value::Null, &Value::Null);
    let mut told = Vec::new();
    for text in [String::new(), "{}".to_owned(), good.to_string()[..200].to_owned()] {
        let response = server.send(to(WEBHOOK, "", text)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        told.push(String::from_utf8(body(response).await.to_vec()).unwrap());
    }
    for review in [pod, other_group, no_object] {
        let answer = server.ask(WEBHOOK, "", &review).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(400)));
        told.push(format!("{}\n", answer["status"]["message"].as_str().unwrap()));
    }
    insta::assert_snapshot!(told.concat());
    assert_eq!(server.send(to(WEBHOOK, "", good.to_string())).await.status(), StatusCode::OK);
}

/// A trust root goes the same way.
#[tokio::test]
async fn a_trust_root_is_compiled_as_policy_check_compiles_it() {
    let root = |spec: Value| {
        let object = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "p"}, "spec": spec});
        let mut review = review("CREATE", &object, &Value::Null);
        review["request"]["kind"]["kind"] = json!("TrustRoot");
        review["request"].as_object_mut().unwrap().remove("namespace");
        (object, review)
    };
    let (_, right) =
        root(json!({"trustedRoot": bonafide_kit::sigstore::Sigstore::new().trusted_root_json()}));
    assert_eq!(Server::new().ask(WEBHOOK, "", &right).await["allowed"], true);
    let (object, wrong) = root(json!({"trustedRoot": "{}"}));
    let errors = bonafide::trust::compile_trust_root(&object).errors;
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let answer = Server::new().ask(WEBHOOK, "", &wrong).await;
    assert_eq!(answer["status"]["message"], told.join("\n"));
    assert!(told.join("").starts_with("spec.trustedRoot: cannot be used: "), "{told:?}");
}

#[tokio::test]
async fn a_key_that_is_not_there_yet_is_a_warning_and_one_that_is_never_read_a_refusal() {
    let of = |key: Value| with("/spec/signers", json!([{"publicKey": key}]));
    let missing = create_knowing(GivenKeys::default(), &of(json!({"secretRef": {"name": "cosign"}}))).await;
    assert_eq!(missing["allowed"], true, "{missing}");
    assert_eq!(
        missing["warnings"],
        json!(["spec.signers[0].publicKey.secretRef: Secret n/cosign is not there"])
    );
    // What lies with the policy itself is refused all the same.
    let wrong = create_knowing(GivenKeys::default(), &of(json!({"secretRef": {"name": "Cosign"}}))).await;
    assert_eq!(wrong["allowed"], false, "{wrong}");
    let unread = create(&of(json!({"secretRef": {"name": "cosign"}}))).await;
    assert_eq!(unread["allowed"], false, "{unread}");
    assert!(
        unread["status"]["message"].as_str().unwrap().contains("Secret n/cosign is not read"),
        "{unread}"
    );
}

async fn create_knowing(keys: GivenKeys, policy: &Value) -> Value {
    Server::with_keys(keys).ask(WEBHOOK, "", &review("CREATE", policy, &Value::Null)).await
}
