//! Reviews that meet a limit, or are broken: each whose `uid` can be read is answered by a denial, and none takes another's room away.

use std::{io, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Request, Response, StatusCode},
};
use futures::{StreamExt as _, future::join_all, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::stand_in::{Server, body, create, pod, post, to, with};

const MIB: usize = 1 << 20;
const UID: &str = "0df28fbd-5f5f-11e8-bc74-36e6bb280816";

/// A review as the API server writes it: the `uid` comes first.
fn text(review: &Value) -> String {
    let mut review = review.clone();
    let uid = review["request"].as_object_mut().unwrap().remove("uid").unwrap();
    let request = review["request"].to_string();
    format!(
        r#"{{"kind":{},"apiVersion":{},"request":{{"uid":{uid},{}}}"#,
        review["kind"],
        review["apiVersion"],
        &request[1..]
    )
}

fn good() -> String {
    text(&create(&pod(&["good"])))
}

type Pieces = Vec<Result<Bytes, io::Error>>;

/// A body that arrives piece by piece, and then never ends.
fn stalled(pieces: Vec<Bytes>) -> Body {
    let pieces: Pieces = pieces.into_iter().map(Ok).collect();
    Body::from_stream(stream::iter(pieces).chain(stream::pending()))
}

fn blank(length: usize) -> Bytes {
    Bytes::from(vec![b' '; length])
}

/// The start of a review of a namespace, which is a string that does not end.
fn start_of(namespace: &str, length: usize) -> Vec<Bytes> {
    let start = good();
    let start = start.replace("\"namespace\":\"team\"", &format!("\"namespace\":\"{namespace}\""));
    let start =
        start.replacen("\"uid\":", "\"namespace\":\"NAMESPACE\",\"uid\":", 1).replace("NAMESPACE", namespace);
    let mut pieces = vec![Bytes::from(start.split("\"object\"").next().unwrap().to_owned())];
    pieces.extend((0..length.div_ceil(64 << 10)).map(|_| blank(64 << 10)));
    pieces
}

async fn denied(response: Response<Body>, code: u16) -> String {
    assert_eq!(response.status(), StatusCode::OK, "an HTTP error is admitted with failurePolicy Ignore");
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!(UID), &json!(false)), "{answer}");
    assert_eq!(response["status"]["code"], code, "{answer}");
    response["status"]["message"].as_str().unwrap().to_owned()
}

const WEBHOOKS: [&str; 4] = ["validate", "mutate", "bind", "validate-policy"];

#[tokio::test(start_paused = true)]
async fn a2_whatever_is_wrong_with_a_review_it_is_denied_with_its_uid() {
    let server = Server::new();
    let start = good();
    let start = &start[..start.find("\"object\"").unwrap()];
    let mut not_text = start.as_bytes().to_vec();
    not_text.extend(b"\"object\":\"\xff\xfe\"}}");
    let mut messages = Vec::new();
    for webhook in WEBHOOKS {
        let bodies: Vec<(&str, u16, Body)> = vec![
            ("it ends early", 400, start.to_owned().into()),
            ("nonsense follows", 400, format!("{start}]]]").into()),
            ("it is not UTF-8", 400, not_text.clone().into()),
            ("its object is none", 400, format!("{start}\"object\":null}}}}").into()),
            (
                "its version is another",
                400,
                good().replace("admission.k8s.io/v1", "admission.k8s.io/v9").into(),
            ),
            ("it is too deep", 400, format!("{start}\"object\":{}", "[".repeat(100_000)).into()),
            ("it does not end", 503, stalled(vec![Bytes::from(start.to_owned())])),
            (
                "it breaks off",
                400,
                Body::from_stream(stream::iter([
                    Ok(Bytes::from(start.to_owned())),
                    Err(io::Error::other("gone")),
                ])),
            ),
            ("it is too long", 413, {
                let pieces: Pieces = std::iter::once(Bytes::from(start.to_owned()))
                    .chain((0..40).map(|_| blank(MIB)))
                    .map(Ok)
                    .collect();
                Body::from_stream(stream::iter(pieces))
            }),
        ];
        for (what, code, body) in bodies {
            let message = denied(server.send(to(webhook, "", body)).await, code).await;
            if webhook == "validate" {
                messages.push(format!("{what}: {message}"));
            }
        }
        let request =
            |kind: &str| Request::post(format!("/{webhook}")).header("content-type", kind.to_owned());
        let stated = request("application/json").header("content-length", 40 * MIB);
        let response = server.send(stated.body(stalled(start_of("team", 8192))).unwrap()).await;
        messages.push(denied(response, 413).await);
        let response = server.send(request("text/plain").body(good().into()).unwrap()).await;
        messages.push(denied(response, 415).await);
        let put = Request::put(format!("/{webhook}")).header("content-type", "application/json");
        messages.push(denied(server.send(put.body(good().into()).unwrap()).await, 405).await);
    }
    messages.push(denied(server.send(to("elsewhere", "", good())).await, 404).await);
    for webhook in ["bind", "validate-policy"] {
        messages.push(denied(server.send(to(webhook, "", good())).await, 400).await);
    }
    messages.dedup();
    messages.sort();
    messages.dedup();
    insta::assert_snapshot!(messages.join("\n"));
    assert_eq!(server.judged(), 0);
    assert_eq!(
        server.review(&create(&pod(&["good"]))).await["allowed"],
        true,
        "the twin of which nothing is wrong"
    );
}

#[tokio::test(start_paused = true)]
async fn a2_without_a_uid_there_is_nothing_but_a_status() {
    let server = Server::new();
    let without = good().replace(UID, "");
    assert_eq!(server.send(post("", without)).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(server.send(post("", stalled(Vec::new()))).await.status(), StatusCode::REQUEST_TIMEOUT);
    server.counted(r#"bonafide_requests_refused_total{code="408"} 1"#);
}

/// A pod with an annotation of so many `<`, as the API server writes it.
fn escaped(image: &str, count: usize) -> String {
    let mut object = pod(&[image]);
    object["metadata"]["annotations"] = json!({"a": "PLACE"});
    object.to_string().replace("PLACE", &"\\u003c".repeat(count))
}

#[tokio::test]
async fn a2_a_review_that_escaping_makes_long_is_judged() {
    let server = Server::new();
    for (image, allowed) in [("good", true), ("unsigned", false)] {
        let review = text(&with(create(&pod(&[])), &json!({"object": "OBJECT"})));
        let review = review.replace("\"OBJECT\"", &escaped(image, 1_400_000));
        let response = server.send(post("", review)).await;
        let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
        assert_eq!(answer["response"]["allowed"], allowed, "{image}");
    }
    // An update of the largest object that the API server takes.
    let largest = 3 * MIB - 1024;
    let change = json!({"operation": "UPDATE", "object": "OBJECT", "oldObject": "BEFORE"});
    let review = text(&with(create(&pod(&[])), &change));
    let review = review.replace("\"BEFORE\"", &escaped("good", largest));
    let review = review.replace("\"OBJECT\"", &escaped("unsigned", largest));
    assert!(review.len() > 35 * MIB);
    let message = denied(server.send(post("", review)).await, 403).await;
    assert!(message.contains("NoProvenance"), "{message}");
    server.counted(r#"bonafide_pool_bytes{pool="bodies"} 0"#);
    server.counted(r#"bonafide_pool_bytes{pool="large_bodies"} 0"#);
}

#[tokio::test(start_paused = true)]
async fn b3_requests_that_send_nothing_take_no_room() {
    let server = Server::new();
    let silent = join_all((0..600).map(|_| server.send(post("", stalled(Vec::new())))));
    let begun = Instant::now();
    let honest = async {
        tokio::task::yield_now().await;
        // With and without a length, small and larger than most.
        for review in [good(), text(&with(create(&pod(&["good"])), &json!({"options": "x".repeat(MIB)})))] {
            let pieces: Pieces =
                review.as_bytes().chunks(9000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let response = server.send(post("", Body::from_stream(stream::iter(pieces)))).await;
            let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
            assert_eq!(answer["response"]["allowed"], true);
        }
        begun.elapsed()
    };
    let (answers, took) = tokio::join!(silent, honest);
    assert_eq!(took, Duration::ZERO);
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::REQUEST_TIMEOUT));
}

#[tokio::test(start_paused = true)]
async fn b3_large_reviews_leave_room_for_small_ones_and_are_denied_where_there_is_none() {
    let server = Server::new();
    // Each of another namespace: what a review says of that may be made up.
    let large =
        join_all((0..200).map(|n| server.send(post("", stalled(start_of(&format!("n{n}"), 2 * MIB))))));
    let honest = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = Instant::now();
        for _ in 0..50 {
            assert_eq!(server.review(&create(&pod(&["good"]))).await["allowed"], true);
        }
        begun.elapsed()
    };
    let begun = Instant::now();
    let (answers, took) = tokio::join!(large, honest);
    assert_eq!(took, Duration::ZERO, "nobody waited");
    assert_eq!(begun.elapsed(), Duration::from_secs(2), "a body has so much time");
    for answer in answers {
        denied(answer, 503).await;
    }
    server.counted(r#"bonafide_pool_bytes{pool="bodies"} 0"#);
}

#[tokio::test(start_paused = true)]
async fn b3_a_large_review_waits_for_room_and_is_judged() {
    let server = Server::new();
    let holding =
        join_all((0..20).map(|n| server.send(post("", stalled(start_of(&format!("n{n}"), 4 * MIB))))));
    let late = async {
        tokio::time::sleep(Duration::from_millis(1900)).await;
        let review = text(&with(create(&pod(&["good"])), &json!({"options": "x".repeat(20 * MIB)})));
        let response = server.send(post("", review)).await;
        serde_json::from_slice::<Value>(&body(response).await).unwrap()
    };
    let (_, answer) = tokio::join!(holding, late);
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn b7_a_review_that_waits_keeps_its_workload_and_not_its_body() {
    let server = Server::new();
    let mut object = pod(&["stuck"]);
    object["metadata"]["annotations"] = json!({"a": "x".repeat(400 * 1024)});
    let review = create(&object).to_string();
    let waiting = join_all((0..200).map(|_| server.send(post("?timeout=10s", review.clone()))));
    let looking = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        server.counted(r#"bonafide_pool_bytes{pool="bodies"} 0"#);
        server.counted(r#"bonafide_pool_bytes{pool="large_bodies"} 0"#);
        server.counted("bonafide_reviews_in_flight 200");
    };
    let (answers, ()) = tokio::join!(waiting, looking);
    for answer in answers {
        denied(answer, 503).await;
    }
    server.counted(r#"bonafide_pool_bytes{pool="reviews"} 0"#);
}

#[tokio::test(start_paused = true)]
async fn b7_one_namespace_that_waits_for_registries_leaves_room_for_another() {
    let server = Server::new();
    let stuck = create(&pod(&["stuck"])).to_string();
    let waiting = join_all((0..400).map(|_| server.send(post("?timeout=10s", stuck.clone()))));
    let other = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        let review = with(create(&pod(&["good"])), &json!({"namespace": "other"}));
        assert_eq!(server.review(&review).await["allowed"], true);
        // The twin of the namespace whose share is taken waits until it is denied.
        let same = server.send(post("?timeout=1s", create(&pod(&["good"])).to_string())).await;
        let message = denied(same, 503).await;
        assert!(message.contains("too many reviews"), "{message}");
        begun.elapsed()
    };
    let (answers, took) = tokio::join!(waiting, other);
    assert_eq!(took, Duration::from_millis(900));
    for answer in answers {
        denied(answer, 503).await;
    }
}

#[tokio::test]
async fn b7_lists_without_end_are_denied_and_not_held() {
    let server = Server::new();
    let many = |count: usize| {
        let containers = vec![json!({"name": "a", "image": "good"}); count];
        json!({"kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": containers}})
    };
    let message = denied(server.send(post("", text(&create(&many(20_000))))).await, 400).await;
    assert!(message.contains("more than 16384 entries"), "{message}");
    assert_eq!(server.review(&create(&many(200))).await["allowed"], true, "the twin that fits");
    let mut selecting = pod(&["good"]);
    let labels: serde_json::Map<_, _> = (0..30_000).map(|n| (format!("label-{n}"), json!("x"))).collect();
    selecting["spec"]["nodeSelector"] = labels.into();
    let message = denied(server.send(post("", text(&create(&selecting)))).await, 400).await;
    assert!(message.contains("a selector or an affinity is longer"), "{message}");
}
