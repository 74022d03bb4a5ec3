//! `verify --type`: attestations of other types than provenance, each asked for in the words of cosign.

use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle},
    registry::Registry,
    sigstore::{Build, BundleVersion, Identity, KeyKind, SigningKey, Sigstore, statement_v1},
};
use serde_json::{Value, json};

use crate::{Ran, bonafide, file};

const REPO: &str = "example/app";
const SPDX: &str = "https://spdx.dev/Document";
const TYPES: &[(&str, &str)] = &[
    ("spdx", SPDX),
    ("spdxjson", SPDX),
    ("cyclonedx", "https://cyclonedx.org/bom"),
    ("link", "https://in-toto.io/Link/v1"),
    ("vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ("openvex", "https://openvex.dev/ns"),
    ("custom", "https://cosign.sigstore.dev/attestation/v1"),
    ("https://example.com/report/v2", "https://example.com/report/v2"),
];

struct World {
    registry: Registry,
    image: Pushed,
    sigstore: Sigstore,
    root: String,
}

impl World {
    async fn new() -> Self {
        let registry = Registry::start().await;
        let image = Image::single("linux/amd64").push(&registry, REPO, "v1");
        let sigstore = Sigstore::new();
        let root = file("trusted_root.json", &sigstore.trusted_root_json());
        Self { registry, image, sigstore, root: root.to_str().unwrap().to_owned() }
    }

    fn identity(repository: &str) -> Identity {
        Identity::github(repository, ".github/workflows/build.yml", "refs/heads/main", "push")
    }

    /// Attaches a report of this type about `digest`, by a workflow of `repository`.
    fn attach(&self, digest: &str, predicate_type: &str, repository: &str) {
        let signed =
            self.sigstore.sign_statement(&Self::identity(repository), statement(digest, predicate_type));
        attach_bundle(&self.registry, REPO, &self.image.digest, signed.bundle_json(BundleVersion::V03));
    }

    async fn verify(&self, flags: &[&str]) -> Ran {
        let reference = self.registry.reference(REPO, &self.image.digest);
        let line = ["verify", &reference, "--trust-root", &self.root];
        let line: Vec<String> = line.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        tokio::task::spawn_blocking(move || bonafide(&line)).await.unwrap()
    }
}

fn statement(digest: &str, predicate_type: &str) -> String {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "app", "digest": {"sha256": digest.trim_start_matches("sha256:")}}],
        "predicateType": predicate_type,
        "predicate": {"said": predicate_type},
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_is_admitted_where_it_is_attached_and_no_other_serves() {
    let world = World::new().await;
    let by = ["--repository", "example/app"];
    for (name, uri) in TYPES {
        // Of `spdx` and `spdxjson` the second is there already.
        if *name != "spdxjson" {
            let ran = world.verify(&[&by[..], &["--type", name, "--output", "json"]].concat()).await;
            assert_eq!((ran.code, ran.reasons()), (1, vec!["NoProvenance".to_owned()]), "{name}: {ran:?}");
        }
        world.attach(&world.image.digest, uri, "example/app");
        let ran = world.verify(&[&by[..], &["--type", name, "--output", "json"]].concat()).await;
        assert_eq!(ran.code, 0, "{name}: {ran:?}");
        let proof = &ran.json()["images"][0]["proofs"][0];
        assert_eq!((proof["predicateType"].as_str(), &proof["provenance"]), (Some(*uri), &Value::Null));
        let ran = world.verify(&[&by[..], &["--type", name, "--print-provenance"]].concat()).await;
        let printed: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(printed, json!({"said": uri}), "{ran:?}");
    }
    // None of all these is provenance, which is what is asked for where nothing is said.
    for flags in [&[][..], &["--type", "slsaprovenance"]] {
        let ran = world.verify(&[&by[..], flags, &["--output", "json"]].concat()).await;
        assert_eq!((ran.code, ran.reasons()), (1, vec!["NoProvenance".to_owned()]), "{flags:?}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_and_whatever_it_is_about_must_be_right() {
    let world = World::new().await;
    let told = async |flags: &[&str]| {
        let ran = world.verify(&[&["--type", "spdx"], flags].concat()).await;
        (ran.code, ran.out.replace(&world.registry.reference(REPO, &world.image.digest), "IMAGE"))
    };
    let ours = ["--repository", "example/app"];
    // Provenance is there, by the right signer: it is no list of parts.
    let digest = world.image.digest.trim_start_matches("sha256:");
    let provenance = statement_v1(&[("app", digest)], &Build::of(&World::identity("example/app")));
    let signed = world.sigstore.sign_statement(&World::identity("example/app"), provenance.to_string());
    attach_bundle(&world.registry, REPO, &world.image.digest, signed.bundle_json(BundleVersion::V03));
    let (code, out) = told(&ours).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("of type https://slsa.dev/provenance/v1"), "{out}");
    assert!(out.contains("expected: an attestation of type https://spdx.dev/Document, signed by"), "{out}");
    assert!(out.contains("hint: ") && !out.contains("attest-build-provenance"), "{out}");
    // One about another image.
    world.attach(&format!("sha256:{}", "0".repeat(64)), SPDX, "example/app");
    let (code, out) = told(&ours).await;
    assert!(code == 1 && out.contains("about another digest, sha256:0000"), "{out}");
    // One by somebody else.
    world.attach(&world.image.digest, SPDX, "example/other");
    let (code, out) = told(&ours).await;
    assert!(code == 1 && out.contains("WrongSigner"), "{out}");
    world.attach(&world.image.digest, SPDX, "example/app");
    for (flags, code) in [
        (&ours[..], 0),
        (&["--source-uri", "github.com/example/app"], 0),
        (&["--source-uri", "github.com/example/app", "--source-branch", "main"], 0),
        (&["--source-uri", "github.com/example/app", "--source-branch", "other"], 1),
        (&["--repository", "example/app", "--workflow", ".github/workflows/build.yml"], 0),
        (&["--repository", "example/app", "--workflow", ".github/workflows/other.yml"], 1),
    ] {
        let (found, out) = told(flags).await;
        assert_eq!(found, code, "{flags:?}: {out}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_signs_other_types_too() {
    let world = World::new().await;
    let (key, other) = (SigningKey::generate(KeyKind::P256), SigningKey::generate(KeyKind::P256));
    let signed = world.sigstore.signing_with(&key).sign(statement(&world.image.digest, SPDX));
    attach_att(&world.registry, REPO, &world.image.digest, &[signed.cosign_att_layer()]);
    for (key, code) in [(&key, 0), (&other, 1)] {
        let key = file("key.pub", &key.public_pem());
        let ran = world.verify(&["--key", key.to_str().unwrap(), "--type", "spdx"]).await;
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.out.contains("predicate   https://spdx.dev/Document"), code == 0, "{ran:?}");
        assert!(!ran.out.contains("claimed by the provenance"), "{ran:?}");
    }
}

#[test]
fn what_only_provenance_can_answer_is_not_asked_of_others() {
    let key = file("key.pub", &SigningKey::generate(KeyKind::P256).public_pem());
    let by = ["--source-uri", "github.com/o/r"];
    let builder = ["--builder-id", "https://example.com/builder"];
    for (flags, words) in [
        ([&by[..], &builder, &["--type", "spdx"]].concat(), "--builder-id asks what SLSA provenance claims"),
        (
            [&by[..], &["--build-workflow-input", "a=b", "--type", "vuln"]].concat(),
            "--build-workflow-input asks",
        ),
        (
            [&by[..], &["--key", key.to_str().unwrap(), "--type", "openvex"]].concat(),
            "--source-uri asks what SLSA provenance claims, and --type openvex is none",
        ),
        ([&by[..], &["--type", "sbom"]].concat(), "--type sbom is neither a known type nor a URI"),
        (
            [&by[..], &["--type", "https://slsa.dev/verification_summary/v1"]].concat(),
            "a policy's vsa says which verifier is believed",
        ),
        (vec!["--type", "spdx"], "who must have signed the image is not said"),
    ] {
        let ran = bonafide(&[&["verify", "ghcr.io/o/r"][..], &flags].concat());
        assert_eq!(ran.code, 64, "{flags:?}: {ran:?}");
        assert!(ran.err.contains(words), "{words}: {ran:?}");
    }
}
