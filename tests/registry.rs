//! The registry client against an in-process registry that fails on request, and the layout folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod registry_support;

use std::{path::Path, sync::Arc, time::Duration};

use bonafide::{
    domain::{
        digest::Digest,
        evidence::{FetchError, FetchErrorKind},
        reference::{Reference, Repository},
    },
    gather::ports::{Attestations, Images},
    registry::Layout,
};
use bonafide_kit::{
    image::{Image, Referrer, attach_att, attach_bundle},
    registry::{Fault, On, Registry, Target, TokenAuth},
};
use registry_support::{REPO, setup, setup_with};

#[tokio::test]
async fn what_is_there_is_had_and_what_is_not_is_not_found() {
    let setup = setup().await;
    assert_eq!(setup.client.resolve(&setup.tagged("v1")).await.unwrap(), setup.digest);
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    assert_eq!(setup.client.resolve(&setup.tagged("v2")).await.unwrap_err().kind, FetchErrorKind::NotFound);
    let blob = setup.registry.push_blob(REPO, "hello");
    let blob: Digest = blob.parse().unwrap();
    assert_eq!(setup.client.blob(&setup.repository, &blob, 5).await.unwrap(), "hello");
    assert_eq!(
        setup.client.blob(&setup.repository, &blob, 4).await.unwrap_err().kind,
        FetchErrorKind::Malformed
    );
    let other = Digest::of(b"other");
    assert_eq!(
        setup.client.manifest(&setup.repository, &other).await.unwrap_err().kind,
        FetchErrorKind::NotFound
    );
    assert!(setup.client.tagged(&setup.repository, "sha256-00.att").await.unwrap().is_none());
    assert_eq!(setup.referrers().await, Ok(vec![]));
}

#[tokio::test]
async fn every_failure_keeps_its_kind() {
    use FetchErrorKind::{Denied, Malformed, NotFound, Throttled, Unavailable};
    let setup = setup().await;
    let cases = [
        (Fault::Status(401), Denied),
        (Fault::Status(403), Denied),
        (Fault::Status(404), NotFound),
        (Fault::Status(429), Throttled(None)),
        (Fault::throttled(30), Throttled(Some(Duration::from_secs(30)))),
        (Fault::Status(500), Unavailable),
        (Fault::Status(503), Unavailable),
        (Fault::Close, Unavailable),
        (Fault::Truncated, Unavailable),
        (Fault::WrongBytes, Unavailable),
        (Fault::Endless, Malformed),
        (Fault::RedirectLoop, Unavailable),
        (Fault::RedirectTo("http://169.254.169.254/latest".into()), Unavailable),
        (Fault::RedirectTo("file:///etc/passwd".into()), Unavailable),
    ];
    for (fault, kind) in cases {
        setup.registry.clear_faults();
        setup.registry.fault(On::manifests(), fault.clone());
        assert_eq!(setup.manifest().await, Err(kind), "{fault:?}");
    }
    setup.registry.clear_faults();
    setup.registry.fault(On::manifests(), Fault::ContentType("text/html".into()));
    assert_eq!(setup.manifest().await, Ok(setup.digest), "the type is a hint");
    setup.registry.stop().await;
    assert_eq!(setup.manifest().await, Err(Unavailable));
}

#[tokio::test]
async fn an_error_says_who_and_what_and_nothing_it_was_told() {
    let setup = setup().await;
    setup.registry.fault(On::manifests(), Fault::Status(500));
    let error: FetchError = setup.client.manifest(&setup.repository, &setup.digest).await.unwrap_err();
    let detail = error.detail.replace(setup.registry.host(), "HOST");
    let expected = format!(
        "HOST answered 500 Internal Server Error to the request for the manifest {} of {REPO}",
        setup.digest
    );
    assert_eq!(detail, expected);
}

#[tokio::test]
async fn a_hiccup_is_tried_again_once_and_a_wish_to_wait_is_honoured() {
    let setup = setup().await;
    setup.registry.fault_times(On::manifests(), Fault::Status(500), 1);
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    setup.registry.fault_times(On::manifests(), Fault::Close, 1);
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    setup.registry.fault_times(On::manifests(), Fault::throttled(1), 1);
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    setup.registry.fault_times(On::manifests(), Fault::Status(404), 1);
    assert_eq!(setup.manifest().await, Err(FetchErrorKind::NotFound));
}

#[tokio::test]
async fn a_tag_without_a_digest_header_is_hashed() {
    let setup = setup().await;
    setup.registry.fault(On::manifests().method("HEAD"), Fault::DigestHeader(None));
    assert_eq!(setup.client.resolve(&setup.tagged("v1")).await.unwrap(), setup.digest);
    setup.registry.clear_faults();
    setup.registry.fault(On::manifests().method("HEAD"), Fault::Status(405));
    assert_eq!(setup.client.resolve(&setup.tagged("v1")).await.unwrap(), setup.digest);
}

#[tokio::test]
async fn referrers_come_in_pages_and_end() {
    let setup = setup().await;
    let mut attached: Vec<String> = (0..7)
        .map(|n| attach_bundle(&setup.registry, REPO, &setup.image.digest, format!("{{\"n\":{n}}}")))
        .collect();
    setup.registry.set_page_size(Some(2));
    let mut listed = setup.referrers().await.unwrap();
    attached.sort();
    listed.sort();
    assert_eq!(listed, attached);
    setup.registry.fault(On::referrers(), Fault::EndlessPaging);
    assert_eq!(setup.referrers().await, Err(FetchErrorKind::Incomplete));
    setup.registry.clear_faults();
    setup.registry.set_page_size(None);
    let elsewhere = Registry::start().await;
    setup.registry.fault(On::referrers(), Fault::NextPage(format!("{}/v2/x", elsewhere.url())));
    assert_eq!(setup.referrers().await, Err(FetchErrorKind::Incomplete));
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn an_entry_that_cannot_be_used_hides_none_of_the_others() {
    let setup = setup().await;
    let good = attach_bundle(&setup.registry, REPO, &setup.image.digest, "{}");
    let odd = format!("sha384:{}", "0".repeat(96));
    let list = format!(r#"{{"manifests":[{{"digest":"{odd}"}},{{"digest":"{good}"}},{{"digest":"x"}}]}}"#);
    setup.registry.fault(On::referrers(), Fault::Body(list.clone().into()));
    assert_eq!(setup.referrers().await, Ok(vec![good.clone()]));

    let setup = self::setup().await;
    setup.registry.set_referrers_api(false);
    let tag = setup.image.digest.replace(':', "-");
    setup.registry.push_manifest(REPO, Some(&tag), "application/vnd.oci.image.index.v1+json", list);
    assert_eq!(setup.referrers().await, Ok(vec![good]));
}

#[tokio::test]
async fn without_the_api_the_fallback_tag_serves_and_the_lack_is_remembered() {
    for fault in [
        Fault::Status(404),
        Fault::Status(400),
        Fault::Status(405),
        Fault::Status(406),
        Fault::RedirectLoop,
        Fault::ContentType("text/html".to_owned()),
    ] {
        let setup = setup().await;
        let attached =
            Referrer::bundle("{}").attach_by_fallback_tag(&setup.registry, REPO, &setup.image.digest);
        setup.registry.fault(On::referrers(), fault.clone());
        setup.registry.fault(On::referrers(), Fault::Body("<html>".into()));
        assert_eq!(setup.referrers().await, Ok(vec![attached.clone()]), "{fault:?}");
        // It is certain once the manifest is known to be there.
        assert_eq!(setup.manifest().await, Ok(setup.digest));
        setup.registry.clear_requests();
        assert_eq!(setup.referrers().await, Ok(vec![attached]), "{fault:?}");
        let asked_again = setup.registry.count_of(Target::Referrers) > 0;
        assert_eq!(asked_again, matches!(fault, Fault::RedirectLoop), "{fault:?}");
    }
    for (fault, kind) in [
        (Fault::Status(403), FetchErrorKind::Denied),
        (Fault::throttled(30), FetchErrorKind::Throttled(Some(Duration::from_secs(30)))),
        (Fault::Status(500), FetchErrorKind::Unavailable),
        (Fault::MalformedJson, FetchErrorKind::Unavailable),
    ] {
        let setup = setup().await;
        setup.registry.fault(On::referrers(), fault.clone());
        assert_eq!(setup.referrers().await, Err(kind), "{fault:?}: is no lack");
        if matches!(fault, Fault::MalformedJson) {
            continue;
        }
        setup.registry.clear_faults();
        setup.registry.set_referrers_api(false);
        setup.registry.fault(On::fallback_tags(), fault.clone());
        assert_eq!(setup.referrers().await, Err(kind), "{fault:?}: is no empty list");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_kept_for_its_life() {
    let setup = setup().await;
    setup.registry.set_latency(Duration::from_millis(10));
    setup.registry.require_token(TokenAuth::anonymous());
    let client = Arc::new(setup.client);
    let asked = (0..20).map(|_| client.manifest(&setup.repository, &setup.digest));
    assert!(futures::future::join_all(asked).await.iter().all(Result::is_ok));
    assert_eq!(setup.registry.token_count(), 1);
    setup.registry.clear_requests();
    client.manifest(&setup.repository, &setup.digest).await.unwrap();
    assert_eq!(setup.registry.count(), 1, "the challenge and the token are remembered");
    // A token that is no longer good is asked for again, once.
    setup.registry.revoke_tokens();
    setup.registry.clear_requests();
    let asked = (0..20).map(|_| client.manifest(&setup.repository, &setup.digest));
    assert!(futures::future::join_all(asked).await.iter().all(Result::is_ok));
    assert_eq!(setup.registry.token_count(), 1);
}

#[tokio::test]
async fn a_registry_that_asks_for_no_token_any_more_is_let_off() {
    let setup = setup().await;
    setup.registry.require_token(TokenAuth::anonymous().announce(Some(5)));
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    setup.registry.require_nothing();
    assert_eq!(setup.manifest().await, Ok(setup.digest));
}

#[tokio::test]
async fn a_token_is_not_used_past_its_life() {
    let setup = setup().await;
    // Five seconds are kept back of any life.
    setup.registry.require_token(TokenAuth::anonymous().announce(Some(5)));
    setup.manifest().await.unwrap();
    setup.manifest().await.unwrap();
    assert_eq!(setup.registry.token_count(), 2);
}

#[tokio::test]
async fn credentials_open_their_own_door_alone() {
    let config = r#"{"auths": {"HOST/team": {"username": "u", "password": "p"}}}"#;
    let setup = setup_with(config).await;
    setup.registry.require_token(TokenAuth::for_user("u", "p"));
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    Image::single("linux/amd64").push(&setup.registry, "other/app", "v1");
    let other: Reference = format!("{}/other/app:v1", setup.registry.host()).parse().unwrap();
    setup.registry.clear_requests();
    assert_eq!(setup.client.resolve(&other).await.unwrap_err().kind, FetchErrorKind::Denied);
    let basic = setup.registry.requests().into_iter().filter_map(|request| request.authorization);
    assert!(
        basic.filter(|value| value.starts_with("Basic")).count() == 0,
        "the credential of team/ was used for other/"
    );

    let setup = setup_with(config).await;
    setup.registry.require_basic("u", "p");
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    setup.registry.require_nothing();
    setup.registry.require_basic("u", "changed");
    assert_eq!(setup.manifest().await, Err(FetchErrorKind::Denied));
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let setup = setup_with(r#"{"auths": {"HOST": {"identitytoken": "refresh"}}}"#).await;
    setup.registry.require_token(TokenAuth::for_user("u", "p").refresh_token("refresh"));
    assert_eq!(setup.manifest().await, Ok(setup.digest));
}

#[tokio::test]
async fn a_token_for_the_registry_is_shown_as_it_is() {
    for (token, expected) in [("t", Ok(())), ("other", Err(FetchErrorKind::Denied))] {
        let config = format!(r#"{{"auths": {{"HOST": {{"registrytoken": "{token}"}}}}}}"#);
        let setup = setup_with(&config).await;
        setup.registry.require_token(TokenAuth::for_user("u", "p").fixed_token("t"));
        assert_eq!(setup.manifest().await.map(|_| ()), expected);
        assert_eq!(setup.registry.token_count(), 0);
        assert_eq!(setup.registry.count(), 1, "what was refused is not shown again");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_with_the_scope_that_the_registry_states() {
    use FetchErrorKind::Denied;
    for (scope, expected) in [
        ("repository:REPO:pull", Ok(())),
        ("", Ok(())),
        ("repository:tenant/REPO:pull", Ok(())),
        ("registry:catalog:*", Ok(())),
        // Nothing is asked for that is another's.
        ("repository:other/REPO-of-theirs:pull", Err(Denied)),
    ] {
        for config in ["{}", r#"{"auths": {"HOST": {"identitytoken": "refresh"}}}"#] {
            let setup = setup_with(config).await;
            let auth = match config {
                "{}" => TokenAuth::anonymous(),
                _ => TokenAuth::for_user("u", "p").refresh_token("refresh"),
            };
            setup.registry.require_token(auth.scope(scope));
            assert_eq!(setup.manifest().await.map(|_| ()), expected, "{scope} {config}");
            // The next repository is not asked for with the scope of this one.
            Image::single("linux/amd64").push(&setup.registry, "team/second", "v1");
            let second: Reference = format!("{}/team/second:v1", setup.registry.host()).parse().unwrap();
            let resolved = setup.client.resolve(&second).await;
            assert_eq!(resolved.map(|_| ()).map_err(|error| error.kind), expected, "{scope} {config}");
        }
    }
}

#[tokio::test]
async fn a_credential_does_not_follow_to_another_host() {
    let setup = setup_with(r#"{"auths": {"HOST": {"username": "u", "password": "p"}}}"#).await;
    setup.registry.require_basic("u", "p");
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    let cdn = setup.registry.start_mirror().await;
    cdn.require_nothing();
    setup.registry.fault(On::manifests(), Fault::Redirect(cdn.url()));
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    assert_eq!(cdn.requests().len(), 1);
    assert!(cdn.requests().iter().all(|request| request.authorization.is_none()));
}

#[tokio::test]
async fn a_host_that_is_redirected_to_cannot_ask_for_the_credential() {
    let setup = setup_with(r#"{"auths": {"HOST": {"username": "u", "password": "p"}}}"#).await;
    setup.registry.require_token(TokenAuth::for_user("u", "p"));
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    let (cdn, thief) = (setup.registry.start_mirror().await, Registry::start().await);
    cdn.require_token(TokenAuth::anonymous().realm(format!("{}/token", thief.url())));
    setup.registry.fault(On::manifests(), Fault::Redirect(cdn.url()));
    assert_eq!(setup.manifest().await, Err(FetchErrorKind::Denied));
    assert_eq!(thief.count(), 0, "{:?}", thief.requests());
    // Nor is what it asked for remembered as the registry's word.
    setup.registry.clear_faults();
    setup.registry.revoke_tokens();
    assert_eq!(setup.manifest().await, Ok(setup.digest));
    assert_eq!(thief.count(), 0, "{:?}", thief.requests());
}

#[tokio::test]
async fn a_token_server_elsewhere_must_speak_https() {
    let setup = setup().await;
    setup.registry.require_token(TokenAuth::anonymous().realm("http://tokens.example/token"));
    assert_eq!(setup.manifest().await, Err(FetchErrorKind::Unavailable));
    for (fault, kind) in [
        (Fault::Status(403), FetchErrorKind::Denied),
        (Fault::MalformedJson, FetchErrorKind::Unavailable),
        (Fault::Status(500), FetchErrorKind::Unavailable),
    ] {
        let setup = self::setup().await;
        setup.registry.require_token(TokenAuth::anonymous());
        setup.registry.fault(On::token(), fault.clone());
        assert_eq!(setup.manifest().await, Err(kind), "{fault:?}");
    }
}

#[tokio::test]
async fn what_takes_long_is_given_up_by_the_caller_alone() {
    let setup = setup().await;
    setup.registry.fault(On::manifests(), Fault::Hang);
    let asked = tokio::time::timeout(Duration::from_millis(100), setup.manifest()).await;
    assert!(asked.is_err());
}

#[tokio::test]
async fn a_layout_folder_stands_for_a_registry_in_both_forms() {
    let setup = setup().await;
    let annotations = std::collections::BTreeMap::new();
    attach_att(&setup.registry, REPO, &setup.image.digest, &[(b"{}".to_vec(), annotations)]);
    let bundle = attach_bundle(&setup.registry, REPO, &setup.image.digest, "{}");
    let att = format!("sha256-{}.att", setup.digest.hex());
    for (form, referrers) in [
        (bonafide_kit::registry::Layout::Plain, vec![bundle]),
        (bonafide_kit::registry::Layout::Cosign, vec![]),
    ] {
        let folder =
            std::env::temp_dir().join(format!("bonafide-layout-{}-{}", std::process::id(), referrers.len()));
        setup.registry.write_layout(&folder, REPO, "v1", form);
        let layout = Layout::open(&folder).unwrap();
        assert_eq!(layout.image().unwrap(), setup.digest);
        assert_eq!(layout.resolve(&setup.tagged("anything")).await.unwrap(), setup.digest);
        assert!(layout.tagged(&setup.repository, &att).await.unwrap().is_some());
        assert!(layout.tagged(&setup.repository, "sha256-00.att").await.unwrap().is_none());
        let listed = layout.referrers(&setup.repository, &setup.digest).await.unwrap();
        assert_eq!(listed.iter().map(|referrer| referrer.digest.to_string()).collect::<Vec<_>>(), referrers);
        let file = folder.join("blobs/sha256").join(setup.digest.hex());
        std::fs::write(&file, "other").unwrap();
        let error = layout.manifest(&setup.repository, &setup.digest).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::Malformed);
        std::fs::remove_file(&file).unwrap();
        let error = layout.manifest(&setup.repository, &setup.digest).await.unwrap_err();
        assert_eq!(error.kind, FetchErrorKind::NotFound);
        std::fs::remove_dir_all(&folder).unwrap();
    }
    assert!(Layout::open("/nowhere").is_err());
}

#[tokio::test]
async fn the_real_layouts_have_one_image_each() {
    let images = Path::new("../shared/vectors/images");
    if !images.exists() {
        println!("skipped: {} is not there", images.display());
        return;
    }
    for (name, digest, attested) in [
        ("slsa-github-generator-v1.4.0", "sha256:a74d89d8", true),
        ("slsa-github-generator-v1.5.0", "sha256:6091ab41", true),
        ("slsa-github-generator-v2.1.0", "sha256:234e2c83", true),
        ("buildkit-multiarch-unsigned", "sha256:5ac2d3ac", false),
    ] {
        let layout = Layout::open(images.join(name)).unwrap();
        let image = layout.image().unwrap();
        assert!(image.to_string().starts_with(digest), "{name}");
        let repository: Repository = "ghcr.io/o/a".parse().unwrap();
        let att = layout.tagged(&repository, &format!("sha256-{}.att", image.hex())).await.unwrap();
        assert_eq!(att.is_some(), attested, "{name}");
    }
}
