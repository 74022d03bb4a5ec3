//! What was looked at, in JSON: where each attestation was found, and what came of it.

use bonafide_kit::{
    image::{Image, attach_att, attach_bundle},
    registry::{Registry, digest_of},
    sigstore::{Build, BundleVersion, Identity, Sigstore, statement_v1},
};
use serde_json::{Value, json};

use crate::{bonafide, bonafide_reading, file, generator_policy, vectors};

const REPO: &str = "example/app";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attestation_is_told_with_its_outcome() {
    let (registry, sigstore) = (Registry::start().await, Sigstore::new());
    let image = Image::single("linux/amd64").push(&registry, REPO, "v1");
    let root = file("trusted_root.json", &sigstore.trusted_root_json());
    let reference = registry.reference(REPO, &image.digest);
    let flags = ["--trust-root", root.to_str().unwrap(), "--output", "json", "--repository", "example/app"];
    let line: Vec<String> =
        ["verify", &reference].iter().chain(&flags).map(|&flag| flag.to_owned()).collect();
    let looked_at = async || {
        let line = line.clone();
        let ran = tokio::task::spawn_blocking(move || bonafide(&line)).await.unwrap();
        let json = ran.json()["images"][0].clone();
        assert_eq!(json["lookedAtMore"], 0, "{json}");
        (ran.code, json["lookedAt"].clone())
    };
    let by = |repository: &str| {
        let identity = Identity::github(repository, ".github/workflows/b.yml", "refs/heads/main", "push");
        let digest = image.digest.trim_start_matches("sha256:");
        let statement = statement_v1(&[("app", digest)], &Build::of(&identity));
        sigstore.sign_statement(&identity, statement.to_string())
    };
    assert_eq!(looked_at().await, (1, json!([])));
    attach_bundle(&registry, REPO, &image.digest, "not json");
    attach_att(&registry, REPO, &image.digest, &[by("mallory/app").cosign_att_layer()]);
    let (code, found) = looked_at().await;
    assert_eq!(code, 1);
    let hex = |text: &str| text.trim_start_matches("sha256:").to_owned();
    let layer = hex(found[0]["digest"].as_str().unwrap());
    let names =
        [(hex(&image.digest), "IMAGE"), (hex(&digest_of(b"not json")), "MALFORMED"), (layer, "LAYER")];
    let told = |value: &Value| {
        let text = serde_json::to_string_pretty(value).unwrap();
        names.iter().fold(text, |text, (digest, name)| text.replace(digest.as_str(), name))
    };
    insta::assert_snapshot!("denied", told(&found));
    // One that is right: what serves is told, and nothing of what does not any more.
    let right = by(REPO).bundle_json(BundleVersion::V03);
    attach_bundle(&registry, REPO, &image.digest, right.clone());
    let (code, found) = looked_at().await;
    let served = json!([{
        "policy": "command-line", "digest": digest_of(right.as_bytes()), "of": image.digest, "layout": "referrer", "repository": null,
        "predicateType": "https://slsa.dev/provenance/v1", "outcome": "ok", "message": null,
    }]);
    assert_eq!((code, found), (0, served));
}

#[test]
fn a_review_tells_it_of_every_manifest() {
    let Some(layout) = vectors("images/buildkit-multiarch-unsigned") else { return };
    let policy = generator_policy("\n", "\n");
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: one}, spec: {containers: [{name: app, image: ghcr.io/example/app:v1}]}}";
    let line = ["review", "-f", "-", "--layout", layout.to_str().unwrap(), "--output", "json"];
    let line = [&line[..], &["--policies", policy.to_str().unwrap(), "--namespace", "elsewhere"]].concat();
    let ran = bonafide_reading(&line, pod);
    assert_eq!(ran.code, 1, "{ran:?}");
    insta::assert_json_snapshot!("review", ran.json()["images"][0]["lookedAt"]);
}
