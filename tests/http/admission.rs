//! Reviews through the router, judged by a stand-in.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Request, StatusCode, Version},
};
use bonafide::server::log;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stand_in::{DIGEST, Server, body, create, pod, post, to, with};

#[tokio::test]
async fn a_good_image_is_admitted_and_what_was_verified_is_kept_for_the_audit_log() {
    let server = Server::new();
    let answer = server.review(&create(&pod(&["good", "good:2"]))).await;
    insta::assert_json_snapshot!(answer);
    server.counted(r#"bonafide_reviews_total{verdict="allowed",reason="none"} 1"#);
}

#[tokio::test]
async fn a_definite_no_is_403_with_the_whole_message() {
    let server = Server::new();
    let answer = server.review(&create(&pod(&["good", "unsigned"]))).await;
    insta::assert_json_snapshot!(answer);
    server.counted(r#"bonafide_reviews_total{verdict="denied",reason="NoProvenance"} 1"#);
}

#[tokio::test]
async fn e1_a_throttled_registry_is_503_and_has_no_client_sleep() {
    let server = Server::new();
    let answer = server.review(&create(&pod(&["throttled"]))).await;
    insta::assert_json_snapshot!(answer);
    for (webhook, image) in [("validate", "throttled"), ("validate", "stuck"), ("mutate", "throttled")] {
        let review = create(&pod(&[image]));
        let response = server.send(to(webhook, "?timeout=100ms", review.to_string())).await;
        assert_eq!(response.headers().get("retry-after"), None, "{webhook} {image}");
        let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
        assert!(!answer.to_string().contains("retryAfterSeconds"), "{answer}");
    }
    server.counted(r#"bonafide_reviews_total{verdict="unverifiable",reason="RegistryThrottled"} 2"#);
}

#[tokio::test]
async fn warnings_are_shown_and_audit_findings_only_kept() {
    let server = Server::new();
    let answer = server.review(&create(&pod(&["tagged", "audited"]))).await;
    insta::assert_json_snapshot!(answer);
}

#[tokio::test]
async fn warnings_stay_within_what_kubernetes_shows() {
    let server = Server::new();
    let answer = server.review(&create(&pod(&["noisy"]))).await;
    let warnings: Vec<&str> =
        answer["warnings"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert!(warnings.len() > 1);
    assert!(warnings.iter().all(|warning| warning.chars().count() <= 256), "{warnings:#?}");
    assert!(warnings.iter().map(|warning| warning.len()).sum::<usize>() <= 4096);
    // No digest is cut.
    let cut = warnings.iter().filter(|w| w.contains("sha256:") && !w.contains(DIGEST)).count();
    assert_eq!(cut, 0, "{warnings:#?}");
}

#[tokio::test]
async fn a_message_without_end_is_cut_at_a_line() {
    let server = Server::new();
    let answer = server.review(&create(&pod(&["endless", "unsigned"]))).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.len() < 20_000, "{}", message.len());
    assert!(message.contains("more lines"), "{message}");
    assert!(message.ends_with("1 more images"), "{message}");
    let digests = message.lines().filter(|line| line.contains("sha256:"));
    assert!(digests.clone().count() > 10 && digests.clone().all(|line| line.contains(DIGEST)));
}

#[tokio::test]
async fn a_connection_is_ended_by_an_answer_once_the_process_is_on_its_way_out() {
    let server = Server::new();
    let ask = async |version| {
        let mut request = to("validate", "", create(&pod(&["good"])).to_string());
        *request.version_mut() = version;
        server.send(request).await.headers().get("connection").cloned()
    };
    assert_eq!(ask(Version::HTTP_11).await, None);
    server.readiness.drain();
    assert_eq!(ask(Version::HTTP_11).await.unwrap(), "close");
    assert_eq!(ask(Version::HTTP_2).await, None, "it has words of its own for that");
}

#[tokio::test]
async fn a_panic_is_a_denial_and_the_server_goes_on() {
    let server = Server::new();
    let answer = server.review(&create(&pod(&["panic"]))).await;
    assert_eq!(server.review(&create(&pod(&["panic at once"]))).await, answer);
    insta::assert_json_snapshot!(answer);
    server.counted("bonafide_panics_total 2");
    server.counted("bonafide_reviews_in_flight 0");
    assert_eq!(server.review(&create(&pod(&["good"]))).await["allowed"], true);
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_does_not_come_back_is_not_waited_for() {
    let server = Server::new();
    let begun = Instant::now();
    let answer = server.post("?timeout=2s", &create(&pod(&["stuck"]))).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "the answer is ours, not the API server's");
    assert_eq!(answer["allowed"], false);
    assert_eq!(answer["status"]["code"], 503);
    assert!(answer["status"]["message"].as_str().unwrap().contains("DeadlineExceeded"));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_what_the_api_server_grants_less_a_margin() {
    let server = Server::new();
    for (query, want) in [
        ("", 9_500),
        ("?timeout=5s", 4_500),
        ("?timeout=1m", 29_500),
        ("?timeout=nonsense", 9_500),
        ("?a=b&timeout=500ms", 450),
    ] {
        server.post(query, &create(&pod(&["good"]))).await;
        assert_eq!(*server.judge.time_left.lock(), Some(Duration::from_millis(want)), "{query}");
    }
}

#[tokio::test]
async fn what_changes_nothing_is_admitted_without_a_judge() {
    let server = Server::new();
    let before = pod(&["unsigned"]);
    let mut relabelled = before.clone();
    relabelled["metadata"]["labels"] = json!({"a": "b"});
    let mut deleting = before.clone();
    deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let create = create(&before);
    let skipped = [
        (
            with(create.clone(), &json!({"operation": "DELETE", "object": null, "oldObject": before})),
            "Deleted",
        ),
        (
            with(create.clone(), &json!({"operation": "UPDATE", "object": deleting, "oldObject": before})),
            "Deleted",
        ),
        (
            with(create.clone(), &json!({"operation": "UPDATE", "object": relabelled, "oldObject": before})),
            "Unchanged",
        ),
        (
            with(
                create.clone(),
                &json!({"operation": "CONNECT", "object": {"kind": "PodExecOptions", "apiVersion": "v1"}}),
            ),
            "Operation",
        ),
    ];
    for (review, why) in &skipped {
        let answer = server.review(review).await;
        assert_eq!(answer["allowed"], true, "{why}");
    }
    for (why, count) in [("Deleted", 2), ("Unchanged", 1), ("Operation", 1)] {
        server.counted(&format!(r#"bonafide_reviews_total{{verdict="skipped",reason="{why}"}} {count}"#));
    }
    assert_eq!(server.judged(), 0);
}

#[tokio::test]
async fn what_changes_images_or_placement_is_judged() {
    let server = Server::new();
    let before = pod(&["good"]);
    let mut moved = before.clone();
    moved["spec"]["nodeSelector"] = json!({"kubernetes.io/arch": "arm64"});
    let mut more = pod(&["good", "unsigned"]);
    more["metadata"] = before["metadata"].clone();
    for (object, allowed) in [(moved, true), (more, false), (pod(&["unsigned"]), false)] {
        let change = json!({"operation": "UPDATE", "object": object, "oldObject": before});
        let answer = server.review(&with(create(&before), &change)).await;
        assert_eq!(answer["allowed"], allowed, "{object}");
    }
    assert_eq!(server.judged(), 3);
}

#[tokio::test]
async fn unknown_kinds_are_admitted_and_counted() {
    let server = Server::new();
    let object = json!({"apiVersion": "example.com/v1", "kind": "Oddity", "metadata": {"name": "x"}, "spec": {"image": "unsigned"}});
    let review =
        with(create(&object), &json!({"kind": {"group": "example.com", "version": "v1", "kind": "Oddity"}}));
    let answer = server.review(&review).await;
    assert_eq!(answer["allowed"], true);
    server.counted(r#"bonafide_unknown_kinds_total{group="example.com",kind="Oddity"} 1"#);
    assert_eq!(server.judged(), 0);
}

#[tokio::test]
async fn a_dry_run_gets_the_same_answer() {
    let server = Server::new();
    let review = create(&pod(&["unsigned"]));
    let wet = server.review(&review).await;
    let dry = server.review(&with(review, &json!({"dryRun": true}))).await;
    assert_eq!(wet, dry);
}

#[tokio::test]
async fn what_is_no_review_is_refused_with_what_is_wrong() {
    let server = Server::new();
    let good = create(&pod(&["good"]));
    let mut no_request = good.clone();
    no_request.as_object_mut().unwrap().remove("request");
    let mut other_version = good.clone();
    other_version["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut other_kind = good.clone();
    other_kind["kind"] = json!("Pod");
    let no_uid = with(good.clone(), &json!({"uid": ""}));
    let no_object = with(good.clone(), &json!({"object": null}));
    for (what, text) in [
        ("nothing", String::new()),
        ("no JSON", "{".to_owned()),
        ("half", good.to_string()[..200].to_owned()),
        ("a list", "[]".to_owned()),
        ("no request", no_request.to_string()),
        ("no uid", no_uid.to_string()),
        ("deep", "[".repeat(100_000)),
    ] {
        let response = server.send(post("", text)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{what}");
        let why = String::from_utf8(body(response).await.to_vec()).unwrap();
        assert!(why.len() > 10 && why.len() < 1000, "{what}: {why}");
    }
    assert_eq!(server.judged(), 0);
    server.counted(r#"bonafide_requests_refused_total{code="400"} 7"#);
    // Where the uid can be read, an HTTP error would be admitted by who ignores errors.
    for (what, review) in
        [("another version", other_version), ("another kind", other_kind), ("no object", no_object)]
    {
        let answer = server.review(&review).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(400)), "{what}");
    }
    server.counted(r#"bonafide_reviews_total{verdict="denied",reason="Unreadable"} 3"#);
    assert_eq!(server.review(&good).await["allowed"], true, "the twin that is one");
}

#[tokio::test]
async fn methods_content_types_and_paths_are_held_to() {
    let server = Server::new();
    let review = with(create(&pod(&["good"])), &json!({"uid": ""})).to_string();
    let good = create(&pod(&["good"])).to_string();
    let get = Request::get("/validate").body(Body::empty()).unwrap();
    assert_eq!(server.send(get).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    for kind in ["text/plain", "application/yaml", "application/jsonp"] {
        let request =
            Request::post("/validate").header("content-type", kind).body(review.clone().into()).unwrap();
        assert_eq!(server.send(request).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let without = Request::post("/validate").body(review.clone().into()).unwrap();
    assert_eq!(server.send(without).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let elsewhere =
        Request::post("/").header("content-type", "application/json").body(review.clone().into()).unwrap();
    assert_eq!(server.send(elsewhere).await.status(), StatusCode::NOT_FOUND);
    let charset = Request::post("/validate").header("content-type", "application/json; charset=utf-8");
    let response = server.send(charset.body(good.into()).unwrap()).await;
    let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
    assert_eq!(answer["response"]["allowed"], true);
}

#[tokio::test]
async fn bodies_are_limited_whether_they_say_how_long_they_are_or_not() {
    let server = Server::new();
    let mebibyte = Bytes::from(vec![b' '; 1 << 20]);
    let stated = Request::post("/validate")
        .header("content-type", "application/json")
        .header("content-length", (38_usize << 20).to_string())
        .body(Body::empty())
        .unwrap();
    assert_eq!(server.send(stated).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let pieces = |count: usize| {
        let pieces: Vec<_> = (0..count).map(|_| Ok::<_, std::io::Error>(mebibyte.clone())).collect();
        let review = Bytes::from(create(&pod(&["good"])).to_string());
        let whole = pieces.into_iter().chain([Ok(review)]);
        post("", Body::from_stream(futures::stream::iter(whole)))
    };
    assert_eq!(server.send(pieces(38)).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.send(pieces(36)).await.status(), StatusCode::OK, "the twin that fits");
    let broken = futures::stream::iter([Ok(mebibyte), Err(std::io::Error::other("gone"))]);
    assert_eq!(server.send(post("", Body::from_stream(broken))).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::new();
    let silent = futures::stream::pending::<Result<Bytes, std::io::Error>>();
    let response = server.send(post("?timeout=1s", Body::from_stream(silent))).await;
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    // However many there are, a review that says how long it is does not wait for them.
    let held: Vec<_> = (0..64)
        .map(|_| {
            let silent = futures::stream::pending::<Result<Bytes, std::io::Error>>();
            server.send(post("?timeout=1s", Body::from_stream(silent)))
        })
        .collect();
    let begun = Instant::now();
    let review = create(&pod(&["good"])).to_string();
    let stated = Request::post("/validate")
        .header("content-type", "application/json")
        .header("content-length", review.len())
        .body(Body::from(review))
        .unwrap();
    let good = async { (server.send(stated).await.status(), begun.elapsed()) };
    let (answers, (status, took)) = tokio::join!(futures::future::join_all(held), good);
    assert_eq!((status, took), (StatusCode::OK, Duration::ZERO));
    assert!(answers.iter().all(|answer| matches!(answer.status().as_u16(), 408 | 503)));
}

/// Runs a review and gives back its line of log.
async fn logged(format: log::Format, image: &str) -> String {
    let written: Arc<parking_lot::Mutex<Vec<u8>>> = Arc::default();
    let writer = Arc::clone(&written);
    let server = Server::new();
    let guard = tracing::dispatcher::set_default(&log::lines(format, move |line| {
        writer.lock().extend_from_slice(line);
    }));
    server.review(&create(&pod(&["good", image]))).await;
    drop(guard);
    String::from_utf8(written.lock().clone()).unwrap()
}

#[tokio::test]
async fn a_review_is_one_line_of_log() {
    let text = logged(log::Format::Text, "unsigned").await;
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in ["INFO review", "verdict=\"denied\"", "NoProvenance", "good→sha256:9f86", "total_us="] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let json: Value = serde_json::from_str(&logged(log::Format::Json, "unsigned").await).unwrap();
    assert_eq!(json["verdict"], "denied");
    assert_eq!(json["reasons"], "NoProvenance");
    assert_eq!(json["policies"], "team/release");
    assert!(json["denial"].as_str().unwrap().contains("nothing is attached"), "{json}");
    assert_eq!(json["namespace"], "team");
    assert_eq!(json["uid"], "0df28fbd-5f5f-11e8-bc74-36e6bb280816");
    assert!(json["total_us"].is_u64() && json["plan_us"].is_u64());
}

#[tokio::test]
async fn nobody_writes_lines_of_log_through_a_name() {
    let forged = "x\n2026-01-01T00:00:00Z  INFO review verdict=\"allowed\"\u{1b}[2K";
    for format in [log::Format::Text, log::Format::Json] {
        let text = logged(format, forged).await;
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

#[tokio::test]
async fn an_object_that_is_not_of_its_kind_is_denied_in_the_answer() {
    let server = Server::new();
    let object = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": "x".repeat(5000)}});
    let answer = server.review(&create(&object)).await;
    assert_eq!(answer["allowed"], false, "an HTTP error could be ignored by a webhook configuration");
    assert_eq!(answer["status"]["code"], 400);
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("the object cannot be read as a Pod") && message.len() < 1000, "{message}");
    server.counted(r#"bonafide_reviews_total{verdict="denied",reason="Malformed"} 1"#);
    assert_eq!(server.judged(), 0);
}

#[tokio::test]
async fn what_is_made_is_judged_whatever_it_says_of_its_end() {
    let server = Server::new();
    let mut object = pod(&["unsigned"]);
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(server.review(&create(&object)).await["allowed"], false);
}

#[tokio::test]
async fn every_kind_of_workload_is_judged() {
    let server = Server::new();
    let template = |image: &str| json!({"spec": {"containers": [{"name": "c", "image": image}]}});
    for image in ["good", "unsigned"] {
        let template = template(image);
        for (group, kind, object) in [
            ("", "Pod", template.clone()),
            ("", "PodTemplate", json!({"template": template})),
            ("", "ReplicationController", json!({"spec": {"template": template}})),
            ("apps", "Deployment", json!({"spec": {"template": template}})),
            ("apps", "ReplicaSet", json!({"spec": {"template": template}})),
            ("apps", "StatefulSet", json!({"spec": {"template": template}})),
            ("apps", "DaemonSet", json!({"spec": {"template": template}})),
            ("batch", "Job", json!({"spec": {"template": template}})),
            ("batch", "CronJob", json!({"spec": {"jobTemplate": {"spec": {"template": template}}}})),
        ] {
            let kind = json!({"kind": {"group": group, "version": "v1", "kind": kind}, "object": object});
            let answer = server.review(&with(create(&pod(&["good"])), &kind)).await;
            assert_eq!(answer["allowed"], image == "good", "{kind}");
        }
    }
    assert_eq!(server.judged(), 18);
}
