//! Signatures with keys, from the registry to the verdict: found in every layout, held against the keys of whatever policy
//! asks, each pair once, and without asking the registry again when policies change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bonafide::{
    api::compile::{NoKeys, compile},
    domain::{
        evidence::{Attestation, FetchErrorKind},
        identity::TrustRootName,
        key::{KeyCheck, PublicKey},
        policy::{PolicySet, Scope},
        verdict::{ImageVerdict, Outcome, Reason},
        workload::Platforms,
    },
    gather::{
        ports::{RawAttestation, Snapshot, TrustRoots, Unobserved},
        reviewer::Reviewer,
    },
    registry::{Client, ClientConfig},
    trust::Roots,
};
use bonafide_kit::{
    image::{Image, Pushed, attach_att, attach_bundle},
    registry::Registry,
    sigstore::{Build, BundleVersion, EntryKind, Identity, KeyKind, SigningKey, Sigstore, statement_v1},
};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

const REPO: &str = "acme/app";

/// Real roots that count how often they are asked about keys, and may take their time.
struct Counting {
    roots: Roots,
    checks: AtomicU64,
    pause: Duration,
}

impl TrustRoots for Counting {
    fn verify(&self, raw: &RawAttestation, now: Timestamp) -> Attestation {
        self.roots.verify(raw, now)
    }

    fn check_key(&self, raw: &RawAttestation, key: &PublicKey, now: Timestamp) -> KeyCheck {
        self.checks.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.pause);
        self.roots.check_key(raw, key, now)
    }

    fn generation(&self) -> u64 {
        self.roots.generation()
    }
}

struct World {
    registry: Registry,
    image: Pushed,
    sigstore: Sigstore,
    trust: Arc<Counting>,
    reviewer: Reviewer,
}

impl World {
    async fn new(pause: Duration) -> Self {
        let registry = Registry::start().await;
        let image = Image::index(&["linux/amd64", "linux/arm64"]).push(&registry, REPO, "v1");
        let sigstore = Sigstore::new();
        let roots = Roots::from_json(TrustRootName::default(), &sigstore.trusted_root_json()).unwrap();
        let trust = Arc::new(Counting { roots, checks: AtomicU64::new(0), pause });
        let client = Client::new(ClientConfig::default()).unwrap();
        let reviewer = Reviewer::new(Arc::new(client), Arc::clone(&trust) as _, Arc::new(Unobserved));
        Self { registry, image, sigstore, trust, reviewer }
    }

    fn statement(&self) -> String {
        let builder = Identity::github(REPO, ".github/workflows/b.yml", "refs/heads/main", "push");
        let digest = self.image.digest.trim_start_matches("sha256:");
        statement_v1(&[("app", digest)], &Build::of(&builder)).to_string()
    }

    fn attach_bundle(&self, key: &SigningKey) {
        let signed = self.sigstore.signing_with(key).sign(self.statement());
        attach_bundle(&self.registry, REPO, &self.image.digest, signed.bundle_json(BundleVersion::V03));
    }

    fn attach_layer(&self, key: &SigningKey) {
        let signed = self.sigstore.signing_with(key).entry(EntryKind::Intoto001).sign(self.statement());
        attach_att(&self.registry, REPO, &self.image.digest, &[signed.cosign_att_layer()]);
    }

    async fn judged_by(&self, keys: &[&SigningKey], generation: u64, within: Duration) -> Arc<ImageVerdict> {
        let signer = |(at, key): (usize, &&SigningKey)| json!({"name": format!("k{at}"), "publicKey": {"pem": key.public_pem()}});
        let signers: Vec<_> = keys.iter().enumerate().map(signer).collect();
        let compiled = compile(
            &json!({
                "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
                "spec": {"images": {"include": ["**"]}, "tags": "Allow", "signers": signers},
            }),
            &NoKeys,
        );
        assert!(compiled.errors.is_empty(), "{:?}", compiled.errors);
        let policies = PolicySet::new(vec![compiled.entry], generation);
        let snapshot = Arc::new(Snapshot { policies, ..Snapshot::default() });
        let image = self.registry.reference(REPO, &self.image.digest);
        let deadline = Instant::now() + within;
        self.reviewer.verify_image(&snapshot, Scope::Everywhere, &image, &Platforms::Unknown, deadline).await
    }

    async fn judge(&self, keys: &[&SigningKey], generation: u64) -> Arc<ImageVerdict> {
        self.judged_by(keys, generation, Duration::from_secs(10)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn found_in_every_layout_and_by_the_key_of_the_policy() {
    for kind in KeyKind::ALL {
        let (key, other) = (SigningKey::generate(kind), SigningKey::generate(KeyKind::P256));
        for attach in [World::attach_bundle, World::attach_layer] {
            let world = World::new(Duration::ZERO).await;
            attach(&world, &key);
            let verdict = world.judge(&[&key], 1).await;
            assert_eq!(verdict.outcome, Outcome::Allow, "{kind:?}: {:?}", verdict.problems);
            let verdict = world.judge(&[&other], 2).await;
            assert_eq!(verdict.outcome, Outcome::Deny);
            assert!(verdict.problems.iter().all(|problem| problem.reason == Reason::UntrustedSignature));
            assert_eq!(world.judge(&[&other, &key], 3).await.proofs[0].signer, "k1");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_is_held_against_each_attestation_once() {
    let (key, other) = (SigningKey::generate(KeyKind::P256), SigningKey::generate(KeyKind::Ed25519));
    let world = World::new(Duration::ZERO).await;
    world.attach_bundle(&key);
    assert_eq!(world.judge(&[&key], 1).await.outcome, Outcome::Allow);
    let checks = || world.trust.checks.load(Ordering::SeqCst);
    assert_eq!(checks(), 1);
    let requests = world.registry.requests().len();
    // Other policies with the same key: nothing is checked again, and the registry is not asked.
    assert_eq!(world.judge(&[&key], 2).await.outcome, Outcome::Allow);
    assert_eq!((checks(), world.registry.requests().len()), (1, requests));
    // One more key in the policy: one more check.
    assert_eq!(world.judge(&[&other, &key], 3).await.outcome, Outcome::Allow);
    assert_eq!((checks(), world.registry.requests().len()), (2, requests));
    assert_eq!(world.judge(&[&key], 4).await.outcome, Outcome::Allow);
    assert_eq!(checks(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_time_for_all_keys_nothing_is_said() {
    let key = SigningKey::generate(KeyKind::P256);
    let world = World::new(Duration::from_millis(400)).await;
    world.attach_bundle(&key);
    let verdict = world.judged_by(&[&key], 1, Duration::from_millis(300)).await;
    assert_eq!(verdict.outcome, Outcome::Unverifiable, "{:?}", verdict.problems);
    assert_eq!(verdict.problems[0].reason, Reason::DeadlineExceeded);
    assert!(FetchErrorKind::Deadline.is_transient());
    let verdict = world.judged_by(&[&key], 1, Duration::from_secs(20)).await;
    assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
}
