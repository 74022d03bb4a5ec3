//! Attestations in other repositories than the image's: for the policies that name these, in one more place at once, with
//! credentials of their own, and for nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{sync::Arc, time::Duration};

use bonafide::{
    api::manifest,
    domain::{
        identity::TrustRootName,
        policy::{PolicySet, Scope},
        verdict::{ImageVerdict, Outcome, Reason},
        workload::Platforms,
    },
    gather::{
        ports::{Snapshot, Unobserved},
        reviewer::Reviewer,
    },
    registry::{Client, ClientConfig, DockerConfig},
    trust::Roots,
};
use bonafide_kit::{
    image::{Image, Pushed, Referrer, attach_bundle, attach_signature},
    registry::{Fault, On, Registry},
    scenario::{SOURCE, WORKFLOW, bundle, signer},
    sigstore::{BundleVersion, Identity, Sigstore, statement_cosign_sign},
};
use serde_json::{Value, json};
use tokio::time::Instant;

const REPO: &str = "acme/app";
const OTHER: &str = "acme/attestations";
const SLSA: &str = "https://slsa.dev/provenance/v1";

struct World {
    registry: Registry,
    sigstore: Sigstore,
    reviewer: Reviewer,
    /// Policies are told from each other by it.
    generation: std::sync::atomic::AtomicU64,
}

fn hex(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn reviewer(sigstore: &Sigstore, credentials: DockerConfig) -> Reviewer {
    let roots = Roots::from_json(TrustRootName::default(), &sigstore.trusted_root_json()).unwrap();
    let client = Client::new(ClientConfig { credentials, ..ClientConfig::default() }).unwrap();
    Reviewer::new(Arc::new(client), Arc::new(roots), Arc::new(Unobserved))
}

impl World {
    async fn new() -> Self {
        let sigstore = Sigstore::new();
        let reviewer = reviewer(&sigstore, DockerConfig::default());
        Self { registry: Registry::start().await, sigstore, reviewer, generation: 1.into() }
    }

    fn image(&self) -> Pushed {
        Image::index(&["linux/amd64"]).push(&self.registry, REPO, "")
    }

    /// Good provenance about the manifest, in a repository.
    fn attest(&self, repo: &str, image: &Pushed) {
        let leaf = image.platform("linux/amd64");
        attach_bundle(&self.registry, repo, leaf, bundle(&self.sigstore, &signer(), "app", leaf));
    }

    fn sign(&self, repo: &str, digest: &str) {
        let statement = statement_cosign_sign(&[("", hex(digest))]).to_string();
        let signed = self.sigstore.sign_statement(&signer(), statement);
        attach_signature(&self.registry, repo, digest, signed.bundle_json(BundleVersion::V03));
    }

    fn policy(&self, name: &str, repositories: &[String]) -> Value {
        json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": name},
            "spec": {
                "images": {"include": [format!("{}/**", self.registry.host())]}, "tags": "Allow",
                "signers": [{"name": "ci", "github": {"repository": SOURCE, "workflow": WORKFLOW}}],
                "attestations": {"repositories": repositories},
            },
        })
    }

    fn other(&self) -> String {
        format!("{}/{OTHER}", self.registry.host())
    }

    async fn judge(&self, image: &Pushed, policies: &[Value]) -> ImageVerdict {
        self.judge_with(&self.reviewer, image, policies).await
    }

    async fn judge_with(&self, reviewer: &Reviewer, image: &Pushed, policies: &[Value]) -> ImageVerdict {
        let entries = policies.iter().flat_map(|policy| manifest::policies(&policy.to_string()).unwrap());
        let entries = entries.map(|document| {
            assert!(document.compiled.errors.is_empty(), "{:?}", document.compiled.errors);
            document.compiled.entry
        });
        let generation = self.generation.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let policies = PolicySet::new(entries.collect(), generation);
        let snapshot = Arc::new(Snapshot { policies, ..Snapshot::default() });
        let platforms = Platforms::These(vec!["linux/amd64".parse().unwrap()]);
        let reference = self.registry.reference(REPO, &image.digest);
        let deadline = Instant::now() + Duration::from_secs(20);
        let verdict = reviewer.verify_image(&snapshot, Scope::Everywhere, &reference, &platforms, deadline);
        Arc::unwrap_or_clone(verdict.await)
    }
}

fn reasons(verdict: &ImageVerdict) -> Vec<(String, Reason)> {
    let of = |problem: &bonafide::domain::verdict::Problem| {
        (problem.policy.as_ref().unwrap().name.clone(), problem.reason)
    };
    verdict.problems.iter().map(of).collect()
}

#[tokio::test]
async fn what_is_in_a_named_repository_counts_for_who_names_it_and_for_nobody_else() {
    let world = World::new().await;
    let named = [world.other()];
    let image = world.image();
    world.attest(OTHER, &image);
    let (with, without) = (world.policy("with", &named), world.policy("without", &[]));
    let elsewhere = world.policy("elsewhere", &[format!("{}/acme/other", world.registry.host())]);
    let denied = |name: &str| vec![(name.to_owned(), Reason::NoProvenance)];
    // In this order and in the other: what one policy has had found is not known to another.
    for _ in 0..2 {
        let verdict = world.judge(&image, std::slice::from_ref(&with)).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
        assert_eq!(verdict.proofs[0].predicate_type, SLSA);
        assert_eq!(reasons(&world.judge(&image, std::slice::from_ref(&without)).await), denied("without"));
        assert_eq!(
            reasons(&world.judge(&image, std::slice::from_ref(&elsewhere)).await),
            denied("elsewhere")
        );
        let all = [with.clone(), without.clone()];
        assert_eq!(reasons(&world.judge(&image, &all).await), denied("without"));
    }
    // It is united with what is at home.
    let both = world.image();
    world.attest(REPO, &both);
    let verdict = world.judge(&both, &[with.clone(), without.clone()]).await;
    assert_eq!(verdict.outcome, Outcome::Allow);

    // There, as here: by whom the policy names, and about this image.
    let stranger = world.image();
    let leaf = stranger.platform("linux/amd64");
    let mallory = Identity::github("mallory/shop", WORKFLOW, "refs/heads/main", "push");
    attach_bundle(&world.registry, OTHER, leaf, bundle(&world.sigstore, &mallory, "app", leaf));
    let verdict = world.judge(&stranger, std::slice::from_ref(&with)).await;
    assert_eq!(reasons(&verdict), [("with".to_owned(), Reason::WrongSigner)]);
    assert_eq!(verdict.problems[0].looked_at[0].spot.repository.as_ref().unwrap().to_string(), world.other());
    // Whoever does not name it is not told of it, not even where the very same is at home.
    let here = world.image();
    let leaf = here.platform("linux/amd64");
    let strange = bundle(&world.sigstore, &mallory, "app", leaf);
    for repo in [REPO, OTHER] {
        attach_bundle(&world.registry, repo, leaf, strange.clone());
    }
    let verdict = world.judge(&here, &[with.clone(), without.clone()]).await;
    let told = |at: usize| verdict.problems[at].looked_at.iter().any(|one| one.spot.repository.is_some());
    assert_eq!((told(0), told(1)), (true, false), "{:?}", verdict.problems);
    let copied = world.image();
    let of_another = bundle(&world.sigstore, &signer(), "app", image.platform("linux/amd64"));
    attach_bundle(&world.registry, OTHER, copied.platform("linux/amd64"), of_another);
    assert_eq!(reasons(&world.judge(&copied, &[with]).await), denied("with"));
}

#[tokio::test]
async fn a_repository_that_is_down_is_a_gap_for_who_names_it() {
    let world = World::new().await;
    let (with, without) = (world.policy("with", &[world.other()]), world.policy("without", &[]));
    let (good, bare) = (world.image(), world.image());
    world.attest(REPO, &good);
    world.registry.fault(On::any().repo(OTHER), Fault::Status(503));
    // Where something else suffices, it does not matter.
    let verdict = world.judge(&good, &[with.clone(), without.clone()]).await;
    assert_eq!(verdict.outcome, Outcome::Allow, "{:?}", verdict.problems);
    let verdict = world.judge(&bare, std::slice::from_ref(&with)).await;
    assert_eq!(verdict.outcome, Outcome::Unverifiable);
    assert_eq!(reasons(&verdict), [("with".to_owned(), Reason::RegistryUnavailable)]);
    assert!(verdict.problems[0].found.contains(OTHER), "{}", verdict.problems[0].found);
    let verdict = world.judge(&bare, &[without]).await;
    assert_eq!(reasons(&verdict), [("without".to_owned(), Reason::NoProvenance)]);
    // When it is back, so is the answer.
    world.registry.clear_faults();
    world.attest(OTHER, &bare);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(world.judge(&bare, &[with]).await.outcome, Outcome::Allow);
}

#[tokio::test]
async fn a_signature_elsewhere_vouches_for_what_is_in_the_index_here() {
    let world = World::new().await;
    let with = world.policy("with", &[world.other()]);
    let without = world.policy("without", &[]);
    for signs_index in [true, false] {
        let image = Image::index(&["linux/amd64"]).buildkit(SLSA).push(&world.registry, REPO, "");
        let signed = if signs_index { &image.digest } else { &image.attestations[0].1 };
        world.sign(OTHER, signed);
        let verdict = world.judge(&image, std::slice::from_ref(&with)).await;
        assert_eq!(verdict.outcome, Outcome::Allow, "{signs_index}: {:?}", verdict.problems);
        let verdict = world.judge(&image, std::slice::from_ref(&without)).await;
        assert_eq!(reasons(&verdict), [("without".to_owned(), Reason::UnsignedProvenance)]);
        let unsigned = Image::index(&["linux/amd64"]).buildkit(SLSA).push(&world.registry, REPO, "");
        let verdict = world.judge(&unsigned, std::slice::from_ref(&with)).await;
        assert_eq!(reasons(&verdict), [("with".to_owned(), Reason::UnsignedProvenance)]);
    }
}

#[tokio::test]
async fn another_place_takes_no_further_rounds() {
    let world = World::new().await;
    let rounds = |image: &Pushed, repositories: Vec<String>| {
        let (image, policy) = (image.clone(), world.policy("p", &repositories));
        let world = &world;
        async move {
            let reviewer = reviewer(&world.sigstore, DockerConfig::default());
            world.registry.clear_requests();
            let verdict = world.judge_with(&reviewer, &image, &[policy]).await;
            (verdict.outcome, world.registry.sequential_rounds(), world.registry.count())
        }
    };
    world.registry.set_latency(Duration::from_millis(40));
    let (here, there) = (world.image(), world.image());
    world.attest(REPO, &here);
    world.attest(OTHER, &there);
    let (outcome, alone, requests) = rounds(&here, Vec::new()).await;
    assert_eq!(outcome, Outcome::Allow);
    assert_eq!(rounds(&here, vec![world.other()]).await, (Outcome::Allow, alone, requests + 4));
    assert_eq!(rounds(&there, vec![world.other()]).await, (Outcome::Allow, alone, requests + 4));
}

#[tokio::test]
async fn each_repository_is_asked_with_its_own_credential() {
    let world = World::new().await;
    let image = world.image();
    world.attest(OTHER, &image);
    world.registry.require_basic_for(REPO, "here", "h");
    world.registry.require_basic_for(OTHER, "there", "t");
    let auth = |user: &str, password: &str| json!({"username": user, "password": password});
    let host = world.registry.host();
    let (home, other) = (format!("{host}/{REPO}"), world.other());
    for (of_other, outcome) in [
        (Some(auth("there", "t")), Outcome::Allow),
        (Some(auth("here", "h")), Outcome::Unverifiable),
        (None, Outcome::Unverifiable),
    ] {
        let mut auths = json!({&home: auth("here", "h")});
        if let Some(of_other) = of_other {
            auths[&other] = of_other;
        }
        let config = DockerConfig::from_json(&json!({"auths": auths}).to_string()).unwrap();
        let reviewer = reviewer(&world.sigstore, config);
        let policy = world.policy("with", &[world.other()]);
        let verdict = world.judge_with(&reviewer, &image, &[policy]).await;
        assert_eq!(verdict.outcome, outcome, "{:?}", verdict.problems);
    }
}

#[tokio::test]
async fn there_are_not_very_many_of_them() {
    let world = World::new().await;
    let repository = |n: usize| format!("{}/acme/r{n}", world.registry.host());
    let image = world.image();
    Referrer::bundle("not json").attach(&world.registry, REPO, image.platform("linux/amd64"));
    world.attest("acme/r16", &image);
    for (first, outcome) in [(1, Outcome::Allow), (0, Outcome::Unverifiable)] {
        let policies: Vec<Value> = [(first, 8), (8, 16), (16, 17)]
            .iter()
            .map(|&(from, to)| {
                let named: Vec<String> = (from..to).map(repository).collect();
                let mut policy = world.policy(&format!("p{from:02}"), &named);
                policy["spec"]["mode"] = json!(if from == 16 { "Enforce" } else { "Audit" });
                policy
            })
            .collect();
        let verdict = world.judge(&image, &policies).await;
        assert_eq!(verdict.outcome, outcome, "{first}: {:?}", verdict.problems);
        if outcome == Outcome::Unverifiable {
            let problem = &verdict.problems[0];
            assert_eq!(problem.reason, Reason::NotAllInspected, "{problem:?}");
            let text = format!("{problem:?}");
            assert!(text.contains("the policies name more than 16"), "{text}");
        }
    }
}
