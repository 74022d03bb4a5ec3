//! Answers of a registry that mislead, break off or drag on: what becomes of them, how they are counted, and what is said about them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod registry_support;

use std::{sync::Arc, time::Duration};

use bonafide::{
    domain::{digest::Digest, evidence::FetchErrorKind},
    gather::ports::{Attestations, Images, Observer},
};
use bonafide_kit::{
    image::{Referrer, attach_bundle},
    registry::{Fault, On, Registry, Target, TokenAuth},
};
use parking_lot::Mutex;
use registry_support::{REPO, setup, setup_of, setup_with};

#[tokio::test]
async fn a_made_up_digest_does_not_make_a_repository_one_without_the_api() {
    let setup = setup().await;
    let attached = attach_bundle(&setup.registry, REPO, &setup.image.digest, "{}");
    // As some registries answer about what they do not know.
    let made_up = Digest::of(b"made up");
    setup.registry.fault(On::referrers().reference(made_up.to_string()), Fault::Status(404));
    for _ in 0..3 {
        assert!(setup.client.referrers(&setup.repository, &made_up).await.unwrap().is_empty());
        assert!(setup.client.manifest(&setup.repository, &made_up).await.is_err());
    }
    setup.registry.clear_requests();
    assert_eq!(setup.referrers().await, Ok(vec![attached]));
    assert_eq!(setup.registry.count(), 1, "the tag was asked for first");
}

#[tokio::test]
async fn the_api_has_the_last_word_where_the_tag_has_nothing() {
    // A registry that answers 404 about an image without referrers, which the specification forbids.
    let setup = setup().await;
    setup.registry.fault_times(On::referrers(), Fault::Status(404), 1);
    assert_eq!(setup.referrers().await, Ok(vec![]));
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    let attached = attach_bundle(&setup.registry, REPO, &setup.image.digest, "{}");
    setup.registry.clear_requests();
    assert_eq!(setup.referrers().await, Ok(vec![attached.clone()]));
    assert_eq!(setup.registry.count_of(Target::FallbackTag), 1, "the lack was remembered");
    setup.registry.clear_requests();
    assert_eq!(setup.referrers().await, Ok(vec![attached]));
    assert_eq!(setup.registry.count_of(Target::FallbackTag), 0, "and is no more");
}

#[tokio::test]
async fn what_is_under_the_fallback_tag_and_no_list_is_no_empty_list() {
    for (body, expected) in [
        (r#"{"manifests":[]}"#, Ok(vec![])),
        (r#"{"layers":[]}"#, Err(FetchErrorKind::Malformed)),
        ("hello", Err(FetchErrorKind::Malformed)),
        (r#"{"manifests":{}}"#, Err(FetchErrorKind::Malformed)),
    ] {
        let setup = setup().await;
        setup.registry.set_referrers_api(false);
        let tag = setup.image.digest.replace(':', "-");
        setup.registry.push_manifest(REPO, Some(&tag), "application/vnd.oci.image.index.v1+json", body);
        assert_eq!(setup.referrers().await, expected, "{body}");
    }
    let setup = setup().await;
    setup.registry.set_referrers_api(false);
    assert_eq!(setup.referrers().await, Ok(vec![]));
    let attached = Referrer::bundle("{}").attach_by_fallback_tag(&setup.registry, REPO, &setup.image.digest);
    assert_eq!(setup.referrers().await, Ok(vec![attached]));
}

/// Whatever fails of the API: what the tag has may suffice, and what the API has stays open.
#[tokio::test]
async fn c2_where_the_api_fails_the_tag_is_read_and_the_failure_stays_an_open_question() {
    let elsewhere = Registry::start().await;
    let page = format!("{}/docs/unknown-path", elsewhere.url());
    let mut told: Vec<String> = Vec::new();
    for (fault, there) in [
        (Fault::RedirectTo(page.clone()), Some(Fault::throttled(600))),
        (Fault::RedirectTo(page.clone()), Some(Fault::Status(500))),
        (Fault::RedirectTo(page.clone()), Some(Fault::Status(401))),
        (Fault::RedirectTo(page), Some(Fault::Status(403))),
        (Fault::Status(401), None),
        (Fault::Status(403), None),
        (Fault::Status(500), None),
        (Fault::throttled(600), None),
        (Fault::Close, None),
        (Fault::Truncated, None),
        (Fault::MalformedJson, None),
        (Fault::Endless, None),
    ] {
        elsewhere.clear_faults();
        if let Some(fault) = there {
            elsewhere.fault(On::any(), fault);
        }
        let setup = setup().await;
        setup.registry.fault(On::referrers(), fault.clone());
        let (listed, open) = setup.listed().await;
        assert!(listed.is_empty() && open.len() == 1 && open[0].kind.is_transient(), "{fault:?}: {open:?}");
        let attached =
            Referrer::bundle("{}").attach_by_fallback_tag(&setup.registry, REPO, &setup.image.digest);
        let (listed, open) = setup.listed().await;
        assert_eq!((listed, open.len()), (vec![attached], 1), "{fault:?}: {open:?}");
        let line =
            open[0].detail.replace(elsewhere.host(), "ELSEWHERE").replace(setup.registry.host(), "HOST");
        told.push(line.replace(&setup.digest.to_string(), "DIGEST"));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn c7_a_list_goes_on_at_its_own_host_and_keeps_what_was_read() {
    let elsewhere = Registry::start().await;
    let setup = setup().await;
    let attached: Vec<String> = (0..5)
        .map(|n| attach_bundle(&setup.registry, REPO, &setup.image.digest, format!("{{\"n\":{n}}}")))
        .collect();
    let path = format!("/v2/{REPO}/referrers/{}", setup.digest);
    let encoded = path.replace(':', "%3A");
    let query = format!("?n=2&last={}", attached[1]);
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    for link in [
        format!("{}{path}{query}", setup.registry.url()),
        format!("{}{path}{query}", elsewhere.url()),
        format!("https://backend.internal:8443{path}{query}"),
        format!("{encoded}{query}"),
        format!("http://backend/internal{encoded}{query}"),
    ] {
        setup.registry.clear_faults();
        setup.registry.clear_requests();
        setup.registry.set_page_size(Some(2));
        setup.registry.fault_times(On::referrers(), Fault::NextPage(link.clone()), 1);
        let (listed, open) = setup.listed().await;
        assert_eq!((sorted(listed), open), (sorted(attached.clone()), vec![]), "{link}");
        assert_eq!((setup.registry.count_of(Target::Referrers), elsewhere.count()), (3, 0), "{link}");
    }
    // At another place it is not followed; what was read is kept, and there may be others.
    for link in
        [format!("{}/v2/other{query}", elsewhere.url()), "/v2/other/referrers/x?last=y".to_owned(), path]
    {
        setup.registry.clear_faults();
        setup.registry.fault(On::referrers(), Fault::NextPage(link.clone()));
        let (listed, open) = setup.listed().await;
        assert_eq!(sorted(listed), sorted(attached[..2].to_vec()), "{link}");
        let kinds: Vec<FetchErrorKind> = open.iter().map(|error| error.kind).collect();
        assert_eq!(kinds, [FetchErrorKind::Incomplete], "{link}");
        assert_eq!(elsewhere.count(), 0);
    }
    // A page that fails leaves what came before it.
    setup.registry.clear_faults();
    setup.registry.fault(On::referrers().matching(|request| request.query.is_some()), Fault::Status(500));
    let (listed, open) = setup.listed().await;
    assert_eq!((listed.len(), open.len()), (2, 1));
}

#[tokio::test]
async fn c8_a_list_that_is_null_is_empty() {
    let setup = setup().await;
    setup.registry.fault(On::referrers(), Fault::Body(r#"{"schemaVersion":2,"manifests":null}"#.into()));
    assert_eq!(setup.referrers().await, Ok(vec![]));
    let setup = self::setup().await;
    setup.registry.set_referrers_api(false);
    let tag = setup.image.digest.replace(':', "-");
    setup.registry.push_manifest(
        REPO,
        Some(&tag),
        "application/vnd.oci.image.index.v1+json",
        r#"{"manifests":null}"#,
    );
    assert_eq!(setup.referrers().await, Ok(vec![]));
}

#[tokio::test]
async fn c11_a_token_may_stand_in_either_field_and_bodies_come_as_they_are() {
    let setup = setup().await;
    setup.registry.require_token(TokenAuth::anonymous().fixed_token("t"));
    for body in [
        r#"{"token":"","access_token":"t","expires_in":"300.5"}"#,
        r#"{"token":"t","access_token":"","expires_in":0.5}"#,
    ] {
        setup.registry.clear_faults();
        setup.registry.fault(On::token(), Fault::Body(body.into()));
        assert_eq!(setup.manifest().await, Ok(setup.digest), "{body}");
    }
    let encodings = setup.registry.requests().into_iter().map(|request| request.accept_encoding);
    assert!(encodings.into_iter().all(|encoding| encoding.as_deref() == Some("identity")));
}

/// Remembers how requests ended.
#[derive(Default)]
struct Counting(Mutex<Vec<&'static str>>);

impl Observer for Counting {
    fn registry_request(&self, _: &str, outcome: &'static str, _: Duration) {
        self.0.lock().push(outcome);
    }

    fn cache(&self, _: &'static str, _: bool) {}
}

#[tokio::test]
async fn a_body_that_breaks_off_is_asked_for_once_more_and_each_answer_counts_as_what_it_was() {
    let counting = Arc::new(Counting::default());
    let observer = Arc::<Counting>::clone(&counting);
    let setup = setup_of("{}", |config| config.observer = observer).await;
    for (fault, times, expected, outcomes) in [
        (Fault::Truncated, 1, Ok(setup.digest), vec!["unavailable", "ok"]),
        (Fault::Truncated, 9, Err(FetchErrorKind::Unavailable), vec!["unavailable"; 2]),
        (Fault::WrongBytes, 1, Ok(setup.digest), vec!["unavailable", "ok"]),
        (Fault::WrongBytes, 9, Err(FetchErrorKind::Unavailable), vec!["unavailable"; 2]),
        (Fault::Endless, 1, Err(FetchErrorKind::Malformed), vec!["malformed"]),
        (Fault::Status(404), 1, Err(FetchErrorKind::NotFound), vec!["not_found"]),
        (Fault::Status(500), 9, Err(FetchErrorKind::Unavailable), vec!["unavailable"; 2]),
        (Fault::DigestHeader(None), 1, Ok(setup.digest), vec!["ok"]),
    ] {
        setup.registry.clear_faults();
        setup.registry.fault_times(On::manifests(), fault.clone(), times);
        assert_eq!(setup.manifest().await, expected, "{fault:?}");
        assert_eq!(std::mem::take(&mut *counting.0.lock()), outcomes, "{fault:?}");
    }
    // What the caller gives up was not had.
    setup.registry.clear_faults();
    setup.registry.fault(On::manifests(), Fault::Hang);
    assert!(tokio::time::timeout(Duration::from_millis(50), setup.manifest()).await.is_err());
    assert_eq!(*counting.0.lock(), ["unavailable"]);
}

#[tokio::test]
async fn a_body_that_drips_is_given_up() {
    let setup = setup_of("{}", |config| config.request_timeout = Duration::from_secs(2)).await;
    for (pause, expected) in
        [(Duration::ZERO, Ok(setup.digest)), (Duration::from_millis(100), Err(FetchErrorKind::Deadline))]
    {
        setup.registry.clear_faults();
        setup.registry.fault(On::manifests(), Fault::Drip(pause));
        let begun = std::time::Instant::now();
        assert_eq!(setup.manifest().await, expected);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    setup.registry.clear_faults();
    setup.registry.fault(On::manifests(), Fault::Hang);
    assert_eq!(setup.manifest().await, Err(FetchErrorKind::Deadline));
}

#[tokio::test]
async fn a_wish_to_come_back_can_be_a_date() {
    let setup = setup().await;
    let past = Fault::RetryAfter(429, "Wed, 21 Oct 2015 07:28:00 GMT".to_owned());
    setup.registry.fault_times(On::manifests(), past, 1);
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    let future = Fault::RetryAfter(429, "Fri, 31 Dec 2100 23:59:59 GMT".to_owned());
    setup.registry.fault_times(On::manifests(), future, 1);
    let told = Some(Duration::from_hours(1));
    assert_eq!(setup.manifest().await, Err(FetchErrorKind::Throttled(told)));
}

/// Everything that can go wrong says whose answer it was; and where access is refused, with what it was asked for.
#[tokio::test]
async fn every_failure_names_the_registry_and_the_repository() {
    let faults = [
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Close,
        Fault::Truncated,
        Fault::WrongBytes,
        Fault::Endless,
        Fault::RedirectLoop,
        Fault::RedirectTo("http://169.254.169.254/latest".to_owned()),
        Fault::RedirectTo("http://elsewhere.example/".to_owned()),
        Fault::NextPage("http://elsewhere.example/v2/x".to_owned()),
        Fault::EndlessPaging,
        Fault::MalformedJson,
    ];
    let mut told: Vec<String> = Vec::new();
    for fault in faults {
        let setup = setup().await;
        setup.registry.fault(On::any(), fault.clone());
        let manifest = setup.client.manifest(&setup.repository, &setup.digest).await.map(|_| ());
        let referrers = setup.client.referrers(&setup.repository, &setup.digest).await.map(|_| ());
        let resolved = setup.client.resolve(&setup.tagged("v1")).await.map(|_| ());
        for error in [manifest, referrers, resolved].into_iter().filter_map(Result::err) {
            assert!(error.detail.contains(setup.registry.host()), "{fault:?}: {error}");
            assert!(error.detail.contains(REPO), "{fault:?}: {error}");
            let line = error.detail.replace(setup.registry.host(), "HOST");
            told.push(
                line.replace(&setup.digest.to_string(), "DIGEST").replace(&setup.digest.hex().clone(), "HEX"),
            );
        }
    }
    told.sort();
    told.dedup();
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn a_refusal_says_whether_a_credential_was_shown() {
    let config = r#"{"auths": {"HOST": {"username": "u", "password": "p"}}}"#;
    let mut told: Vec<String> = Vec::new();
    for (config, auth) in [
        ("{}", None),
        (config, None),
        ("{}", Some(TokenAuth::for_user("u", "other"))),
        (config, Some(TokenAuth::for_user("u", "other"))),
        ("{}", Some(TokenAuth::anonymous())),
        (config, Some(TokenAuth::for_user("u", "p"))),
    ] {
        let setup = setup_with(config).await;
        let is_open = auth.is_some();
        if let Some(auth) = auth {
            setup.registry.require_token(auth);
        }
        // The token is had, or there is none to be had; what it opens is closed all the same.
        setup.registry.fault(
            On::manifests().matching(move |request| !is_open || request.authorization.is_some()),
            Fault::Status(403),
        );
        let error = setup.client.manifest(&setup.repository, &setup.digest).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Denied);
        let line = error.detail.replace(setup.registry.host(), "HOST");
        told.push(line.replace(&setup.digest.to_string(), "DIGEST"));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn large_bodies_that_never_end_take_so_much_room_and_small_ones_go_on() {
    let setup = setup_of("{}", |config| config.request_timeout = Duration::from_millis(1500)).await;
    let blob = |bytes: Vec<u8>| -> Digest { setup.registry.push_blob(REPO, bytes).parse().unwrap() };
    let stalled: Vec<Digest> = (0..4_u8).map(|n| blob(vec![n; 16 << 20])).collect();
    for digest in &stalled {
        setup.registry.fault(On::blobs().reference(digest.to_string()), Fault::Stalled);
    }
    let (large, small) = (blob(vec![7; 1 << 20]), blob(vec![8; 1 << 10]));
    let get = async |digest: Digest| {
        let bytes = setup.client.blob(&setup.repository, &digest, 16 << 20).await;
        bytes.map(|bytes| bytes.len()).map_err(|error| error.kind)
    };
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let begun = std::time::Instant::now();
        let large = async { (get(large).await, begun.elapsed()) };
        let small = async { (get(small).await, begun.elapsed()) };
        futures::future::join(large, small).await
    };
    let (ended, (waiting, passing)) =
        futures::future::join(futures::future::join_all(stalled.iter().map(|d| get(*d))), meanwhile).await;
    assert!(ended.iter().all(|result| *result == Err(FetchErrorKind::Deadline)), "{ended:?}");
    assert_eq!(passing.0, Ok(1 << 10));
    // It was its turn when the others were given up.
    assert_eq!(waiting.0, Ok(1 << 20));
    assert!(waiting.1 > passing.1 + Duration::from_millis(300), "{waiting:?} {passing:?}");
}
