//! The registry of the kit, asked by a plain HTTP client. What fails here would make tests of Bonafide lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bonafide_kit::image::{BUNDLE_TYPE, EMPTY_TYPE, Image, Referrer, attach_att, attach_bundle};
use bonafide_kit::registry::{
    DOCKER_LIST, DOCKER_MANIFEST, Layout, OCI_INDEX, OCI_MANIFEST, Registry, Target, TokenAuth, digest_of,
};
use reqwest::StatusCode;
use support::{client, digests, get, header, json, next_page};

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bonafide-kit-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&path).ok();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn vectors(name: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/images").join(name);
    if !dir.exists() {
        println!("SKIPPED: {} is not there", dir.display());
    }
    dir.exists().then_some(dir)
}

#[tokio::test]
async fn serves_manifests_and_blobs_by_tag_and_digest() {
    let registry = Registry::start().await;
    let repo = "a/manifests/c";
    let image = Image::index(&["linux/amd64", "linux/arm64/v8"]).push(&registry, repo, "v1");
    assert_eq!(get(&registry, "/v2/").await.status(), StatusCode::OK);
    for reference in ["v1", &image.digest] {
        let path = format!("/v2/{repo}/manifests/{reference}");
        let head = client().head(format!("{}{path}", registry.url())).send().await.unwrap();
        assert_eq!(header(&head, "docker-content-digest"), image.digest);
        assert_eq!(header(&head, "content-type"), OCI_INDEX);
        let length: usize = header(&head, "content-length").parse().unwrap();
        let body = get(&registry, &path).await.bytes().await.unwrap();
        assert_eq!((digest_of(&body), body.len()), (image.digest.clone(), length));
    }
    let arm = registry.manifest(repo, image.platform("linux/arm64/v8")).unwrap().json();
    let config = arm["config"]["digest"].as_str().unwrap();
    let config = json(get(&registry, &format!("/v2/{repo}/blobs/{config}")).await).await;
    assert_eq!((&config["architecture"], &config["variant"]), (&"arm64".into(), &"v8".into()));
    let missing = get(&registry, &format!("/v2/{repo}/manifests/v2")).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(json(missing).await["errors"][0]["code"], "MANIFEST_UNKNOWN");
    assert_eq!(json(get(&registry, "/v2/no/manifests/v2").await).await["errors"][0]["code"], "NAME_UNKNOWN");
}

#[tokio::test]
async fn tags_move_and_manifests_can_be_deleted() {
    let registry = Registry::start().await;
    let first = Image::single("linux/amd64").push(&registry, "app", "v1");
    let second = Image::single("linux/amd64").push(&registry, "app", "");
    assert_ne!(first.digest, second.digest);
    registry.tag("app", "v1", &second.digest);
    assert_eq!(header(&get(&registry, "/v2/app/manifests/v1").await, "docker-content-digest"), second.digest);
    registry.delete("app", &second.digest);
    assert_eq!(get(&registry, "/v2/app/manifests/v1").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(get(&registry, &format!("/v2/app/manifests/{}", first.digest)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn lists_referrers_in_pages_and_filters_when_asked() {
    let registry = Registry::start().await;
    let image = Image::single("linux/amd64").push(&registry, "app", "v1");
    let attach = |n| attach_bundle(&registry, "app", &image.digest, format!("{{\"n\":{n}}}"));
    let bundles: Vec<_> = (0..5).map(attach).collect();
    let other = Referrer::artifact("application/spdx+json", "{}").attach(&registry, "app", &image.digest);
    let path = format!("/v2/app/referrers/{}", image.digest);

    let all = get(&registry, &path).await;
    assert_eq!((header(&all, "content-type").as_str(), header(&all, "link").as_str()), (OCI_INDEX, ""));
    assert_eq!(header(&all, "oci-filters-applied"), "");
    let all = json(all).await;
    assert_eq!(digests(&all), [bundles.clone(), vec![other]].concat());
    assert_eq!(all["manifests"][0]["artifactType"], BUNDLE_TYPE);
    assert_eq!(all["manifests"][0]["annotations"]["dev.sigstore.bundle.content"], "dsse-envelope");

    registry.set_page_size(Some(2));
    for absolute in [false, true] {
        registry.set_absolute_links(absolute);
        let mut next = format!("{path}?artifactType={}", BUNDLE_TYPE.replace('+', "%2B"));
        let mut found = Vec::new();
        for _ in 0..3 {
            let page = get(&registry, &next).await;
            assert_eq!(header(&page, "oci-filters-applied"), "artifactType");
            next = next_page(&page);
            assert_eq!(next.starts_with("http://"), absolute && !next.is_empty());
            next = next.replace(&registry.url(), "");
            found.extend(digests(&json(page).await));
        }
        assert_eq!((found, next.as_str()), (bundles.clone(), ""));
    }
    let unknown = json(get(&registry, &format!("/v2/app/referrers/{}", digest_of(b"none"))).await).await;
    assert!(digests(&unknown).is_empty());
}

#[tokio::test]
async fn stands_in_for_a_registry_without_referrers_api() {
    let registry = Registry::start().await;
    registry.set_referrers_api(false);
    let image = Image::single("linux/amd64").push(&registry, "app", "v1");
    let one = Referrer::bundle("{\"n\":1}").attach_by_fallback_tag(&registry, "app", &image.digest);
    let two = Referrer::bundle("{\"n\":2}").listed_as(None);
    let two = two.attach_by_fallback_tag(&registry, "app", &image.digest);
    let api = get(&registry, &format!("/v2/app/referrers/{}", image.digest)).await;
    assert_eq!(api.status(), StatusCode::NOT_FOUND);
    let tag = image.digest.replace(':', "-");
    let index = json(get(&registry, &format!("/v2/app/manifests/{tag}")).await).await;
    assert_eq!(digests(&index), [one.clone(), two]);
    assert_eq!(index["manifests"][0]["artifactType"], EMPTY_TYPE);
    assert!(index["manifests"][1].get("artifactType").is_none());
    assert_eq!(registry.manifest("app", &one).unwrap().json()["subject"]["digest"], image.digest.as_str());
    assert_eq!(registry.count_of(Target::FallbackTag), 1);
}

#[tokio::test]
async fn builds_the_shapes_that_occur() {
    let registry = Registry::start().await;
    let platforms = ["linux/amd64", "linux/arm64/v8"];
    let docker = Image::index(&platforms).docker().push(&registry, "docker", "v1");
    assert_eq!(docker.media_type, DOCKER_LIST);
    let amd = registry.manifest("docker", docker.platform("linux/amd64")).unwrap();
    assert_eq!(amd.media_type, DOCKER_MANIFEST);

    let built =
        Image::index(&platforms).buildkit("https://slsa.dev/provenance/v1").push(&registry, "built", "v1");
    let index = registry.manifest("built", "v1").unwrap().json();
    let note = &index["manifests"][2];
    assert_eq!(note["platform"]["os"], "unknown");
    assert_eq!(note["annotations"]["vnd.docker.reference.digest"], built.platform("linux/amd64"));
    assert_eq!(note["digest"], built.attestations[0].1.as_str());
    let layer = registry.manifest("built", &built.attestations[1].1).unwrap().json()["layers"][0].clone();
    assert_eq!(layer["annotations"]["in-toto.io/predicate-type"], "https://slsa.dev/provenance/v1");
    let statement = registry.blob("built", layer["digest"].as_str().unwrap()).unwrap();
    let arm_hex = built.platform("linux/arm64/v8").trim_start_matches("sha256:");
    assert!(String::from_utf8_lossy(&statement).contains(arm_hex));

    let nested = Image::index(&platforms).nested().push(&registry, "nested", "v1");
    let index = registry.manifest("nested", "v1").unwrap().json();
    let inner = registry.manifest("nested", &digests(&index)[1]).unwrap();
    assert_eq!(inner.media_type, OCI_INDEX);
    assert_eq!(digests(&inner.json()), [nested.platform("linux/arm64/v8")]);

    let bare =
        Image::index(&platforms).without_platform_in_index("linux/amd64").push(&registry, "bare", "v1");
    let index = registry.manifest("bare", &bare.digest).unwrap().json();
    assert!(index["manifests"][0].get("platform").is_none());
    assert_eq!(index["manifests"][1]["platform"]["variant"], "v8");

    let same = || Image::single("linux/amd64").seed("same").push(&registry, "same", "").digest;
    assert_eq!(same(), same());
    assert_eq!(Image::single("linux/amd64").push(&registry, "one", "v1").media_type, OCI_MANIFEST);
}

#[tokio::test]
async fn counts_requests_rounds_and_concurrency() {
    let registry = Registry::start().await;
    registry.set_latency(Duration::from_millis(50));
    Image::single("linux/amd64").push(&registry, "app", "v1");
    let client = client();
    let url = format!("{}/v2/app/manifests/v1?x=%2Fy", registry.url());
    let ask = || async {
        let response = client.get(&url).header("authorization", "Basic eA==").send().await.unwrap();
        response.bytes().await.unwrap()
    };
    ask().await;
    futures::future::join_all((0..4).map(|_| ask())).await;
    ask().await;
    assert_eq!((registry.count(), registry.sequential_rounds(), registry.max_concurrency()), (6, 3, 4));
    let seen = &registry.requests()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/v2/app/manifests/v1"));
    assert_eq!((seen.host.as_str(), seen.authorization.as_deref()), (registry.host(), Some("Basic eA==")));
    assert_eq!((seen.status, seen.query_values("x")), (Some(200), vec!["/y".to_owned()]));
    assert!(seen.ended.unwrap() - seen.at >= Duration::from_millis(50));
    registry.clear_requests();
    assert_eq!((registry.count(), registry.sequential_rounds(), registry.max_concurrency()), (0, 0, 0));
}

#[tokio::test]
async fn hands_out_tokens_that_open_one_repository_for_a_while() {
    let registry = Registry::start().await;
    for repo in ["team/a", "team/b", "other"] {
        Image::single("linux/amd64").push(&registry, repo, "v1");
    }
    let auth = TokenAuth::anonymous().credential("team", "u", "p:w").refresh_token("refresh");
    registry.require_token(auth.lifetime(Duration::from_secs(1)));
    let refused = get(&registry, "/v2/team/a/manifests/v1").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let realm = format!("{}/token", registry.url());
    let expected =
        format!("Bearer realm=\"{realm}\",service=\"kit.registry\",scope=\"repository:team/a:pull\"");
    assert_eq!(header(&refused, "www-authenticate"), expected);

    let client = client();
    let url = |scope: &str| format!("{realm}?service=kit.registry&scope={scope}");
    for request in [client.get(url("")), client.get(url("")).basic_auth("u", Some("wrong"))] {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    let token = async |scope: &str| {
        let response = client.get(url(scope)).basic_auth("u", Some("p:w")).send().await.unwrap();
        json(response).await["token"].as_str().unwrap().to_owned()
    };
    let ask = async |repo: &str, token: &str| {
        let url = format!("{}/v2/{repo}/manifests/v1", registry.url());
        client.get(url).bearer_auth(token).send().await.unwrap()
    };
    let good = token("repository%3Ateam%2Fa%3Apull").await;
    assert_eq!(ask("team/a", &good).await.status(), StatusCode::OK);
    let elsewhere = ask("team/b", &good).await;
    assert_eq!(elsewhere.status(), StatusCode::UNAUTHORIZED);
    assert!(header(&elsewhere, "www-authenticate").contains("insufficient_scope"));
    let foreign = token("repository:other:pull").await;
    assert_eq!(ask("other", &foreign).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(registry.token_count(), 4);

    let form = "grant_type=refresh_token&scope=repository%3Aother%3Apull&refresh_token=refresh";
    let posted = json(client.post(&realm).body(form).send().await.unwrap()).await;
    assert_eq!(posted["expires_in"], 1);
    assert_eq!(ask("other", posted["access_token"].as_str().unwrap()).await.status(), StatusCode::OK);

    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(ask("team/a", &good).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn asks_for_basic_credentials_by_repository() {
    let registry = Registry::start().await;
    Image::single("linux/amd64").push(&registry, "a", "v1");
    Image::single("linux/amd64").push(&registry, "b", "v1");
    registry.require_basic_for("a", "u", "p");
    let ask = async |repo: &str, password: &str| {
        let url = format!("{}/v2/{repo}/manifests/v1", registry.url());
        client().get(url).basic_auth("u", Some(password)).send().await.unwrap().status().as_u16()
    };
    assert_eq!((ask("a", "p").await, ask("b", "p").await, ask("a", "q").await), (200, 403, 401));
    let refused = get(&registry, "/v2/a/manifests/v1").await;
    assert!(header(&refused, "www-authenticate").starts_with("Basic "));
    registry.require_nothing();
    assert_eq!(get(&registry, "/v2/a/manifests/v1").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn goes_down_and_comes_back_on_the_same_port() {
    let registry = Registry::start().await;
    Image::single("linux/amd64").push(&registry, "app", "v1");
    let client = client();
    let url = format!("{}/v2/app/manifests/v1", registry.url());
    assert!(client.get(&url).send().await.is_ok());
    registry.stop().await;
    assert!(client.get(&url).send().await.is_err());
    registry.resume().await;
    assert_eq!(client.get(&url).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(registry.count(), 2);
    drop(registry);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(client.get(&url).send().await.is_err());
}

#[tokio::test]
async fn layouts_survive_the_way_out_and_in() {
    let registry = Registry::start().await;
    let image = Image::index(&["linux/amd64", "linux/arm64"]).buildkit("https://slsa.dev/provenance/v0.2");
    let image = image.push(&registry, "app", "v1");
    let arm = image.platform("linux/arm64");
    let layer =
        |content: &str| [(content.as_bytes().to_vec(), BTreeMap::from([("k".to_owned(), "v".to_owned())]))];
    attach_att(&registry, "app", &image.digest, &layer("{\"a\":1}"));
    let att = attach_att(&registry, "app", &image.digest, &layer("{\"a\":2}"));
    let arm_att = attach_att(&registry, "app", arm, &layer("{\"a\":3}"));
    let bundle = attach_bundle(&registry, "app", arm, "{\"bundle\":1}");
    let att_tag = |digest: &str| format!("{}.att", digest.replace(':', "-"));

    for form in [Layout::Plain, Layout::Cosign] {
        let plain = form == Layout::Plain;
        let folder = Folder::new(&format!("layout-{form:?}"));
        registry.write_layout(&folder.0, "app", "v1", form);
        let again = Registry::start().await;
        let loaded = again.load_layout("copy", &folder.0);
        assert_eq!((loaded.images.len(), &loaded.images[0]), (1, &image.digest), "{form:?}");
        assert_eq!(loaded.tags.get(&att_tag(&image.digest)), Some(&att));
        assert_eq!(loaded.tags.get(&att_tag(arm)), plain.then_some(&arm_att));
        assert_eq!(loaded.tags.get("v1"), plain.then_some(&image.digest));
        assert_eq!(again.manifest("copy", &bundle).is_some(), plain);
        let referrers = json(get(&again, &format!("/v2/copy/referrers/{arm}")).await).await;
        assert_eq!(digests(&referrers).len(), usize::from(plain));
        for (_, digest) in image.platforms.iter().chain(&image.attestations) {
            assert!(again.manifest("copy", digest).is_some());
        }
        let layers = again.manifest("copy", &att).unwrap().json()["layers"].as_array().unwrap().clone();
        assert_eq!(layers.len(), 2, "the second attestation joins the first");
        assert!(layers.iter().all(|layer| again.blob("copy", layer["digest"].as_str().unwrap()).is_some()));
    }
}

#[tokio::test]
async fn loads_the_layouts_of_real_tools() {
    let registry = Registry::start().await;
    for version in ["v1.4.0", "v1.5.0", "v2.1.0"] {
        let Some(dir) = vectors(&format!("slsa-github-generator-{version}")) else { return };
        let loaded = registry.load_layout(version, dir);
        let image = &loaded.images[0];
        let att = format!("/v2/{version}/manifests/{}.att", image.replace(':', "-"));
        let att = get(&registry, &att).await;
        assert_eq!((loaded.images.len(), att.status()), (1, StatusCode::OK));
        assert_eq!(json(att).await["layers"][0]["mediaType"], "application/vnd.dsse.envelope.v1+json");
        let root = get(&registry, &format!("/v2/{version}/manifests/{image}")).await;
        let expected = if version == "v1.4.0" { DOCKER_MANIFEST } else { OCI_INDEX };
        assert_eq!(header(&root, "content-type"), expected);
        assert_eq!(&digest_of(&root.bytes().await.unwrap()), image);
    }
    let Some(dir) = vectors("buildkit-multiarch-unsigned") else { return };
    let loaded = registry.load_layout("buildkit", dir);
    let children = digests(&registry.manifest("buildkit", &loaded.images[0]).unwrap().json());
    assert_eq!(children.len(), 4);
    assert!(children.iter().all(|digest| registry.manifest("buildkit", digest).is_some()));
}

#[tokio::test]
async fn loads_a_folder_of_raw_manifests() {
    let Some(dir) = vectors("docker-signed-attestation-manifest-raw") else { return };
    let registry = Registry::start().await;
    let loaded = registry.load_layout("docker", dir);
    assert_eq!((loaded.blobs, loaded.images.len()), (3, 2));
    let signatures = loaded.images.iter().map(|digest| format!("/v2/docker/referrers/{digest}"));
    let mut found = Vec::new();
    for path in signatures {
        found.extend(digests(&json(get(&registry, &path).await).await));
    }
    assert_eq!(found.len(), 1, "the bundle is a referrer of the attestation manifest");
    assert!(loaded.images.contains(&found[0]));
}
