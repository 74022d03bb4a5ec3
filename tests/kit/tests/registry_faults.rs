//! Each fault of the kit's registry does what it says, to the requests it is set for and to no others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bonafide_kit::image::{Image, attach_att};
use bonafide_kit::registry::{Fault, OCI_MANIFEST, On, Registry, Target, TokenAuth};
use reqwest::StatusCode;
use serde_json::Value;
use support::{client, get, header, json, next_page};

const V1: &str = "/v2/app/manifests/v1";

#[tokio::test]
async fn faults_replace_answers_for_as_many_requests_as_asked() {
    let registry = Registry::start().await;
    let image = Image::single("linux/amd64").push(&registry, "app", "v1");
    for status in [401, 403, 404, 405, 406, 500, 503] {
        registry.fault_times(On::manifests(), Fault::Status(status), 1);
        assert_eq!(get(&registry, V1).await.status().as_u16(), status);
    }
    let narrow = On::manifests().method("GET").repo("app").reference("v1");
    registry.fault_times(narrow, Fault::throttled(7), 2);
    let head = client().head(format!("{}{V1}", registry.url())).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(get(&registry, &format!("/v2/app/manifests/{}", image.digest)).await.status(), StatusCode::OK);
    for (status, after) in [(429, "7"), (429, "7"), (200, "")] {
        let response = get(&registry, V1).await;
        assert_eq!((response.status().as_u16(), header(&response, "retry-after").as_str()), (status, after));
    }
    let att = format!("/v2/app/manifests/{}.att", image.digest.replace(':', "-"));
    attach_att(&registry, "app", &image.digest, &[(b"{}".to_vec(), BTreeMap::new())]);
    registry.fault(On::att_tags().or(Target::Token), Fault::Status(500));
    assert_eq!(get(&registry, &att).await.status().as_u16(), 500);
    assert_eq!(get(&registry, V1).await.status(), StatusCode::OK);
    registry.clear_faults();
    assert_eq!(get(&registry, &att).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn redirects_to_another_host_and_in_circles() {
    let registry = Registry::start().await;
    let image = Image::single("linux/amd64").push(&registry, "app", "v1");
    let storage = registry.start_mirror().await;
    let layer = registry.manifest("app", &image.digest).unwrap().json()["layers"][0]["digest"].clone();
    let path = format!("/v2/app/blobs/{}", layer.as_str().unwrap());
    registry.fault(On::blobs(), Fault::Redirect(storage.url()));
    let redirect = get(&registry, &path).await;
    assert_eq!(redirect.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(header(&redirect, "location"), format!("{}{path}", storage.url()));
    assert_eq!(get(&storage, &path).await.status(), StatusCode::OK);
    registry.fault(On::manifests(), Fault::RedirectLoop);
    assert_eq!(header(&get(&registry, V1).await, "location"), V1);
    registry.fault(On::referrers(), Fault::RedirectTo("http://169.254.169.254/".to_owned()));
    let metadata = get(&registry, &format!("/v2/app/referrers/{}", image.digest)).await;
    assert_eq!(header(&metadata, "location"), "http://169.254.169.254/");
}

#[tokio::test]
async fn faults_spoil_bodies_and_headers() {
    let registry = Registry::start().await;
    let image = Image::single("linux/amd64").push(&registry, "app", "v1");
    let bytes = registry.manifest("app", "v1").unwrap().bytes;
    let spoiled = |fault| {
        registry.fault_times(On::manifests(), fault, 1);
        get(&registry, V1)
    };
    let truncated = spoiled(Fault::Truncated).await;
    assert_eq!(header(&truncated, "content-length"), bytes.len().to_string());
    assert!(truncated.bytes().await.is_err());

    let wrong = spoiled(Fault::WrongBytes).await;
    assert_eq!(header(&wrong, "docker-content-digest"), image.digest);
    let wrong = wrong.bytes().await.unwrap();
    assert_eq!(wrong.len(), bytes.len());
    assert_eq!(wrong.iter().zip(bytes.iter()).filter(|(a, b)| a != b).count(), 1);

    assert_eq!(spoiled(Fault::Body("{}".into())).await.bytes().await.unwrap(), "{}");
    assert_eq!(
        header(&spoiled(Fault::ContentType("text/html".to_owned())).await, "content-type"),
        "text/html"
    );
    assert_eq!(header(&spoiled(Fault::DigestHeader(None)).await, "docker-content-digest"), "");
    let malformed = spoiled(Fault::MalformedJson).await.bytes().await.unwrap();
    assert!(serde_json::from_slice::<Value>(&malformed).is_err());
    assert_eq!(get(&registry, V1).await.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn an_endless_body_goes_on_until_the_reader_has_enough() {
    let registry = Registry::start().await;
    Image::single("linux/amd64").push(&registry, "app", "v1");
    registry.fault(On::manifests(), Fault::Endless);
    let mut response = get(&registry, V1).await;
    let mut read = 0;
    while read < 3_000_000 {
        read += response.chunk().await.unwrap().unwrap().len();
    }
    assert_eq!(header(&response, "content-length"), "");
    assert!(registry.requests()[0].ended.is_none());
    drop(response);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = &registry.requests()[0];
    assert!(seen.ended.is_some() && seen.sent >= 3_000_000, "{seen:?}");
}

#[tokio::test]
async fn faults_take_time_or_never_answer() {
    let registry = Registry::start().await;
    let path = format!("/v2/app/blobs/{}", registry.push_blob("app", "0123456789"));
    let start = Instant::now();
    registry.fault_times(On::blobs(), Fault::Slow(Duration::from_millis(60)), 1);
    registry.fault_times(On::blobs(), Fault::Status(503), 1);
    assert_eq!(get(&registry, &path).await.status().as_u16(), 503);
    assert!(start.elapsed() >= Duration::from_millis(60));

    registry.fault_times(On::blobs(), Fault::Drip(Duration::from_millis(10)), 1);
    let start = Instant::now();
    assert_eq!(get(&registry, &path).await.bytes().await.unwrap(), "0123456789");
    assert!(start.elapsed() >= Duration::from_millis(100));

    registry.clear_requests();
    registry.fault_times(On::blobs(), Fault::Hang, 1);
    assert!(tokio::time::timeout(Duration::from_secs(1), get(&registry, &path)).await.is_err());
    registry.fault_times(On::blobs(), Fault::Close, 1);
    assert!(client().get(format!("{}{path}", registry.url())).send().await.is_err());
    assert_eq!(get(&registry, &path).await.status(), StatusCode::OK);
    let statuses: Vec<_> = registry.requests().iter().map(|request| request.status).collect();
    assert_eq!((statuses.first(), statuses.last()), (Some(&None), Some(&Some(200))));
    assert!(registry.requests().iter().all(|request| request.ended.is_some()), "whoever hung up is done");
}

#[tokio::test]
async fn pages_can_lead_astray_or_never_end() {
    let (registry, evil) = (Registry::start().await, Registry::start().await);
    let image = Image::single("linux/amd64").push(&registry, "app", "v1");
    let mut path = format!("/v2/app/referrers/{}", image.digest);
    let steal = format!("{}/v2/steal", evil.url());
    registry.fault_times(On::referrers(), Fault::NextPage(steal.clone()), 1);
    assert_eq!(next_page(&get(&registry, &path).await), steal);
    registry.fault(On::referrers(), Fault::EndlessPaging);
    for page in 1..=4 {
        path = next_page(&get(&registry, &path).await);
        assert!(path.ends_with(&format!("?last={page}")), "{path}");
    }
}

#[tokio::test]
async fn changes_spare_challenges_but_replacements_do_not() {
    let registry = Registry::start().await;
    Image::single("linux/amd64").push(&registry, "app", "v1");
    registry.require_token(TokenAuth::anonymous());
    registry.fault_times(On::manifests(), Fault::ContentType("text/html".to_owned()), 1);
    assert_eq!(header(&get(&registry, V1).await, "content-type"), "application/json");
    let token = json(get(&registry, "/token?scope=repository:app:pull").await).await;
    let token = token["token"].as_str().unwrap();
    let ask = async || {
        let request = client().get(format!("{}{V1}", registry.url())).bearer_auth(token);
        request.send().await.unwrap()
    };
    assert_eq!(header(&ask().await, "content-type"), "text/html");
    assert_eq!(header(&ask().await, "content-type"), OCI_MANIFEST);
    registry.revoke_tokens();
    assert_eq!(ask().await.status(), StatusCode::UNAUTHORIZED);
    registry.fault(On::any(), Fault::Status(503));
    assert_eq!(get(&registry, V1).await.status().as_u16(), 503);
}
