//! Verification summaries in place of provenance, through a registry: v1 and v0.2, by key and by certificate, each thing wrong alone.

use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle},
    registry::Registry,
    sigstore::{BundleVersion, Identity, KeyKind, SigningKey, Sigstore},
};
use serde_json::{Value, json};

use crate::{Ran, bonafide, file};

const REPO: &str = "example/app";
const VERIFIER: &str = "https://verifier.example/v1";
const POLICY: &str = "https://verifier.example/policies/images";
const ISSUER: &str = "https://accounts.example.com";
const V1: &str = "https://slsa.dev/verification_summary/v1";
const V0_2: &str = "https://slsa.dev/verification_summary/v0.2";

struct World {
    registry: Registry,
    sigstore: Sigstore,
    key: SigningKey,
    root: String,
}

/// A summary of `image`, as a verifier of today writes it, or as one of v0.2 does.
fn summary(predicate_type: &str, resource: &str, digest: &str) -> Value {
    let predicate = if predicate_type == V1 {
        json!({
            "verifier": {"id": VERIFIER}, "timeVerified": "2024-05-01T00:00:00Z", "resourceUri": resource,
            "policy": {"uri": POLICY}, "verificationResult": "PASSED", "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
            "slsaVersion": "1.0",
        })
    } else {
        json!({
            "verifier": {"id": VERIFIER}, "time_verified": "2024-05-01T00:00:00Z", "resource_uri": resource,
            "policy": {"uri": POLICY}, "verification_result": "PASSED", "policy_level": "SLSA_LEVEL_3",
            "dependency_levels": {},
        })
    };
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": resource, "digest": {"sha256": digest.trim_start_matches("sha256:")}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    })
}

impl World {
    async fn new() -> Self {
        let sigstore = Sigstore::new();
        let root = file("trusted_root.json", &sigstore.trusted_root_json());
        let root = root.to_str().unwrap().to_owned();
        let key = SigningKey::generate(KeyKind::P256);
        Self { registry: Registry::start().await, sigstore, key, root }
    }

    /// An image of its own for each case: nothing else is attached to it.
    fn image(&self) -> Pushed {
        Image::single("linux/amd64").push(&self.registry, REPO, "")
    }

    fn resource(&self) -> String {
        format!("{}/{REPO}", self.registry.host())
    }

    fn attach(&self, image: &Pushed, by_key: bool, statement: &Value) {
        if by_key {
            let signed = self.sigstore.signing_with(&self.key).sign(statement.to_string());
            attach_att(&self.registry, REPO, &image.digest, &[signed.cosign_att_layer()]);
        } else {
            let identity = Identity::email("verifier@example.com", ISSUER);
            let signed = self.sigstore.sign_statement(&identity, statement.to_string());
            attach_bundle(&self.registry, REPO, &image.digest, signed.bundle_json(BundleVersion::V03));
        }
    }

    async fn verify(&self, image: &Pushed, by_key: bool, more: &str) -> Ran {
        let signer = if by_key {
            json!({"name": "verifier", "publicKey": {"pem": self.key.public_pem()}})
        } else {
            json!({"name": "verifier", "certificate": {"issuer": ISSUER, "subject": "verifier@example.com"}})
        };
        let mut policy = json!({
            "apiVersion": "bonafide.dev/v1alpha1",
            "kind": "ClusterProvenancePolicy",
            "metadata": {"name": "verified"},
            "spec": {"images": {"include": [self.resource()]}, "tags": "Allow", "signers": [signer.clone()],
                "vsa": {"signers": [signer], "verifierIds": [VERIFIER], "minLevel": 3, "policyUris": [POLICY]}},
        });
        if more == "without vsa" {
            policy["spec"].as_object_mut().unwrap().remove("vsa");
        }
        let policy = file("policy.json", &policy.to_string());
        let reference = self.registry.reference(REPO, &image.digest);
        let line = [
            "verify",
            &reference,
            "--trust-root",
            &self.root,
            "--policy",
            policy.to_str().unwrap(),
            "--output",
        ];
        let form = if more == "text" { "text" } else { "json" };
        let line: Vec<String> = line.iter().chain(&[form]).map(|&flag| flag.to_owned()).collect();
        tokio::task::spawn_blocking(move || bonafide(&line)).await.unwrap()
    }
}

/// What is different, where it is in v1 and in v0.2, and what stands there.
type Difference<'a> = (&'a str, &'a str, &'a str, Value);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_requirement_alone_is_enough_to_deny() {
    let world = World::new().await;
    let differences: &[Difference<'_>] = &[
        ("verifier", "/predicate/verifier/id", "/predicate/verifier/id", json!("https://other.example")),
        ("result", "/predicate/verificationResult", "/predicate/verification_result", json!("FAILED")),
        ("level", "/predicate/verifiedLevels/0", "/predicate/policy_level", json!("SLSA_BUILD_LEVEL_2")),
        ("no level", "/predicate/verifiedLevels/0", "/predicate/policy_level", json!("FAILED")),
        ("policy", "/predicate/policy/uri", "/predicate/policy/uri", json!("https://other.example/policy")),
        ("no policy", "/predicate/policy", "/predicate/policy", json!({})),
        ("resource", "/predicate/resourceUri", "/predicate/resource_uri", json!("ghcr.io/example/other")),
        ("subject", "/subject/0/digest/sha256", "/subject/0/digest/sha256", json!("0".repeat(64))),
        ("time", "/predicate/timeVerified", "/predicate/time_verified", json!("2999-01-01T00:00:00Z")),
        ("no time", "/predicate/timeVerified", "/predicate/time_verified", json!("yesterday")),
    ];
    let mut told = Vec::new();
    for (predicate_type, by_key) in [(V1, false), (V1, true), (V0_2, false), (V0_2, true)] {
        let image = world.image();
        world.attach(&image, by_key, &summary(predicate_type, &world.resource(), &image.digest));
        let ran = world.verify(&image, by_key, "").await;
        assert_eq!(ran.code, 0, "{predicate_type} {by_key}: {ran:?}");
        let proof = &ran.json()["images"][0]["proofs"][0];
        assert_eq!((&proof["predicateType"], &proof["provenance"]), (&predicate_type.into(), &Value::Null));
        assert_eq!(
            (&proof["summary"]["verifierId"], &proof["summary"]["result"]),
            (&VERIFIER.into(), &"PASSED".into())
        );
        assert_eq!(proof["certificate"].is_null(), by_key, "{proof}");
        // The same is nothing where the policy does not ask for it.
        let ran = world.verify(&image, by_key, "without vsa").await;
        assert_eq!((ran.code, ran.reasons()), (1, vec!["NoProvenance".to_owned()]), "{ran:?}");
        for (what, v1, v0_2, value) in differences {
            let image = world.image();
            let mut statement = summary(predicate_type, &world.resource(), &image.digest);
            *statement.pointer_mut(if predicate_type == V1 { v1 } else { v0_2 }).unwrap() = value.clone();
            world.attach(&image, by_key, &statement);
            let ran = world.verify(&image, by_key, "text").await;
            assert_eq!(ran.code, 1, "{what} {predicate_type} {by_key}: {ran:?}");
            if !by_key {
                let line = ran.out.lines().find(|line| line.contains(&image.digest) && line.contains(" – "));
                let line = line.unwrap_or_else(|| panic!("{ran:?}")).trim().replace(&image.digest, "DIGEST");
                told.push(format!("{} {what}: {line}", predicate_type.rsplit('/').next().unwrap()));
            }
        }
        // By somebody else: of a key that the policy does not name, nothing is believed.
        let image = world.image();
        world.attach(&image, !by_key, &summary(predicate_type, &world.resource(), &image.digest));
        let ran = world.verify(&image, by_key, "").await;
        let reason = if by_key { "WrongSigner" } else { "UntrustedSignature" };
        assert_eq!((ran.code, ran.reasons()), (1, vec![reason.to_owned()]), "{ran:?}");
    }
    insta::assert_snapshot!("differences", told.join("\n"));
}
