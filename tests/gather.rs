//! What is asked of a registry, how often and in how many rounds; what is kept, and what an outage does. The ports are played
//! here, so that each case is exact; the real client and real signatures have tests of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bonafide::{
    domain::{
        digest::Digest,
        evidence::{Attestation, FetchError, FetchErrorKind, Finding, Verified},
        glob::{AnchoredRegex, Glob},
        identity::{Certificate, Signer, SignerIdentity, SubjectMatcher, TrustRootName},
        plan::Stage,
        policy::{
            ImageSelector, LabelSelector, Mode, Policy, PolicyEntry, PolicyId, PolicySet, ProvenanceRules,
            SubjectRule, TagRule, UncoveredRule,
        },
        provenance::{Provenance, SLSA_V1, Statement},
        reference::{Reference, Repository},
        verdict::{Outcome, Reason},
        workload::{ImageRole, Placement, Workload, WorkloadImage},
    },
    gather::{
        ports::{
            Attestations, Images, Manifest, RawAttestation, RawContent, Referrer, Snapshot, TrustRoots,
            Unobserved,
        },
        review::Review,
        reviewer::Reviewer,
    },
};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

const ROUND: Duration = Duration::from_millis(30);
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry in memory in which every request takes one [`ROUND`], so that the time counts the rounds.
#[derive(Default)]
struct World {
    content: Mutex<HashMap<Digest, Bytes>>,
    tags: Mutex<HashMap<String, Digest>>,
    referrers: Mutex<HashMap<Digest, Vec<Digest>>>,
    failure: Mutex<Option<FetchErrorKind>>,
    /// Fails only what this text is part of.
    failing: Mutex<String>,
    log: Mutex<Vec<String>>,
}

impl World {
    fn put(&self, value: &Value) -> Digest {
        let bytes = Bytes::from(value.to_string());
        let digest = Digest::of(&bytes);
        self.content.lock().insert(digest, bytes);
        digest
    }

    fn image(&self, name: &str) -> Digest {
        let config = self.put(&json!({"os": "linux", "architecture": "amd64", "name": name}));
        self.put(&json!({"mediaType": OCI_MANIFEST, "config": {"digest": config}, "layers": []}))
    }

    fn index(&self, platforms: &[(&str, Digest)]) -> Digest {
        let manifests: Vec<Value> = platforms
            .iter()
            .map(|(architecture, digest)| {
                json!({"mediaType": OCI_MANIFEST, "digest": digest, "platform": {"os": "linux", "architecture": architecture}})
            })
            .collect();
        self.put(&json!({"mediaType": OCI_INDEX, "manifests": manifests}))
    }

    /// The played trust root believes the text `signed SUBJECT`.
    fn attest_by_referrer(&self, subject: Digest) {
        let bundle = self.put(&json!(format!("signed {subject}")));
        let size = self.content.lock()[&bundle].len();
        let layer = json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "digest": bundle, "size": size});
        let holder = self.put(&json!({"mediaType": OCI_MANIFEST, "layers": [layer]}));
        self.referrers.lock().entry(subject).or_default().push(holder);
    }

    fn attest_by_tag(&self, subject: Digest) {
        let envelope = self.put(&json!(format!("signed {subject}")));
        let size = self.content.lock()[&envelope].len();
        let layer =
            json!({"mediaType": "application/vnd.dsse.envelope.v1+json", "digest": envelope, "size": size});
        let holder = self.put(&json!({"mediaType": OCI_MANIFEST, "layers": [layer]}));
        self.tags.lock().insert(format!("sha256-{}.att", subject.hex()), holder);
    }

    async fn ask(&self, what: String) -> Result<(), FetchError> {
        tokio::time::sleep(ROUND).await;
        self.log.lock().push(what.clone());
        match *self.failure.lock() {
            Some(kind) if what.contains(self.failing.lock().as_str()) => {
                Err(FetchError { kind, detail: what })
            }
            _ => Ok(()),
        }
    }

    fn get(&self, digest: Digest) -> Result<Bytes, FetchError> {
        let found = self.content.lock().get(&digest).cloned();
        found.ok_or_else(|| FetchError { kind: FetchErrorKind::NotFound, detail: format!("no {digest}") })
    }

    fn requests(&self) -> usize {
        self.log.lock().len()
    }

    fn fail(&self, kind: Option<FetchErrorKind>, what: &str) {
        *self.failure.lock() = kind;
        what.clone_into(&mut self.failing.lock());
    }
}

impl Images for World {
    fn resolve<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Digest, FetchError>> {
        async move {
            let tag = reference.tag().unwrap().to_owned();
            self.ask(format!("HEAD {tag}")).await?;
            let digest = self.tags.lock().get(&tag).copied();
            digest.ok_or(FetchError { kind: FetchErrorKind::NotFound, detail: format!("no {tag}") })
        }
        .boxed()
    }

    fn manifest<'a>(
        &'a self,
        _: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, FetchError>> {
        async move {
            self.ask(format!("manifest {digest}")).await?;
            let media_type = OCI_MANIFEST.to_owned();
            Ok(Manifest { digest: *digest, media_type, bytes: self.get(*digest)? })
        }
        .boxed()
    }

    fn blob<'a>(
        &'a self,
        _: &'a Repository,
        digest: &'a Digest,
        limit: usize,
    ) -> BoxFuture<'a, Result<Bytes, FetchError>> {
        async move {
            self.ask(format!("blob {digest}")).await?;
            Ok(self.get(*digest)?).filter_size(limit)
        }
        .boxed()
    }
}

trait FilterSize {
    fn filter_size(self, limit: usize) -> Result<Bytes, FetchError>;
}

impl FilterSize for Result<Bytes, FetchError> {
    fn filter_size(self, limit: usize) -> Result<Bytes, FetchError> {
        let too_large = FetchError { kind: FetchErrorKind::Malformed, detail: "too large".into() };
        self.and_then(|bytes| if bytes.len() > limit { Err(too_large) } else { Ok(bytes) })
    }
}

impl Attestations for World {
    fn referrers<'a>(
        &'a self,
        _: &'a Repository,
        subject: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Referrer>, FetchError>> {
        async move {
            self.ask(format!("referrers {subject}")).await?;
            let listed = self.referrers.lock().get(subject).cloned().unwrap_or_default();
            Ok(listed.into_iter().map(|digest| Referrer { digest, artifact_type: None }).collect())
        }
        .boxed()
    }

    fn tagged<'a>(
        &'a self,
        repository: &'a Repository,
        tag: &'a str,
    ) -> BoxFuture<'a, Result<Option<Manifest>, FetchError>> {
        async move {
            self.ask(format!("tag {tag} of {repository}")).await?;
            let digest = self.tags.lock().get(tag).copied();
            let manifest = |digest| {
                self.get(digest).map(|bytes| Manifest { digest, media_type: OCI_MANIFEST.into(), bytes })
            };
            digest.map(manifest).transpose()
        }
        .boxed()
    }
}

/// Believes every attestation that says `signed DIGEST`, and counts how often it is asked.
#[derive(Default)]
struct Believing {
    asked: AtomicU64,
    generation: AtomicU64,
}

impl TrustRoots for Believing {
    fn verify(&self, raw: &RawAttestation, _: Timestamp) -> Attestation {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let bytes = match &raw.content {
            RawContent::Bundle(bytes) | RawContent::CosignLayer { envelope: bytes, .. } => bytes,
        };
        let text: String = serde_json::from_slice(bytes).unwrap();
        let subject = text.strip_prefix("signed ").unwrap().parse().unwrap();
        let finding = Finding::Verified(Box::new(Verified {
            trust_root: TrustRootName::default(),
            certificate: Certificate {
                subject: "builder".into(),
                issuer: "https://issuer".into(),
                ..Certificate::default()
            },
            statement: Statement {
                subjects: vec![subject],
                predicate_type: SLSA_V1.into(),
                provenance: Some(Provenance::default()),
            },
        }));
        Attestation { layout: raw.layout, found_at: raw.found_at, finding }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

struct Setup {
    world: Arc<World>,
    trust: Arc<Believing>,
    reviewer: Arc<Reviewer>,
    snapshot: Arc<Snapshot>,
}

fn setup() -> Setup {
    setup_with(|_| ())
}

fn setup_with(change: impl FnOnce(&mut Policy)) -> Setup {
    let subject = SubjectMatcher::Regex(AnchoredRegex::new("builder").unwrap());
    let mut policy = Policy {
        id: PolicyId { namespace: None, name: "all".into() },
        namespaces: LabelSelector::default(),
        mode: Mode::Enforce,
        images: ImageSelector { include: vec![Glob::new("r.example/**").unwrap()], exclude: Vec::new() },
        subject: SubjectRule::Any,
        uncovered: UncoveredRule::Deny,
        tags: TagRule::Allow,
        signers: vec![Signer {
            name: "s".into(),
            identity: SignerIdentity::Certificate { issuer: "https://issuer".into(), subject },
            trust_root: TrustRootName::default(),
        }],
        provenance: ProvenanceRules::default(),
    };
    change(&mut policy);
    let policies = PolicySet::new(vec![PolicyEntry::Valid(Arc::new(policy))], 1);
    let platforms = vec!["linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap()];
    let (world, trust) = (Arc::new(World::default()), Arc::new(Believing::default()));
    let reviewer =
        Arc::new(Reviewer::new(Arc::clone(&world) as _, Arc::clone(&trust) as _, Arc::new(Unobserved)));
    Setup {
        world,
        trust,
        reviewer,
        snapshot: Arc::new(Snapshot { policies, platforms, ..Snapshot::default() }),
    }
}

fn pod(images: &[String]) -> Workload {
    let image = |(at, image): (usize, &String)| WorkloadImage {
        name: format!("c{at}"),
        role: ImageRole::Container,
        field: format!("spec.containers[{at}].image"),
        image: image.clone(),
    };
    Workload {
        kind: "Pod".into(),
        namespace: "n".into(),
        name: "p".into(),
        images: images.iter().enumerate().map(image).collect(),
        placement: Placement::default(),
    }
}

impl Setup {
    async fn review(&self, images: &[String]) -> Review {
        self.review_within(images, Duration::from_secs(10)).await
    }

    async fn review_within(&self, images: &[String], time: Duration) -> Review {
        self.reviewer.review(&self.snapshot, &pod(images), Stage::Final, Instant::now() + time).await
    }

    /// The outcome, and in how many rounds and requests it was had.
    async fn measured(&self, image: &str) -> (Outcome, u128, usize) {
        let (start, before) = (Instant::now(), self.world.requests());
        let review = self.review(&[image.to_owned()]).await;
        let rounds = start.elapsed().as_millis() / ROUND.as_millis();
        (review.outcome, rounds, self.world.requests() - before)
    }
}

fn at(digest: Digest) -> String {
    format!("r.example/app@{digest}")
}

fn reasons(review: &Review) -> Vec<Reason> {
    review
        .images
        .iter()
        .flat_map(|image| image.verdict.problems.iter().map(|problem| problem.reason))
        .collect()
}

#[tokio::test]
async fn a_cold_review_takes_as_many_rounds_as_its_layout_needs_and_a_warm_one_none() {
    let setup = setup();
    let by_tag = setup.world.image("by tag");
    setup.world.attest_by_tag(by_tag);
    let by_referrer = setup.world.image("by referrer");
    setup.world.attest_by_referrer(by_referrer);
    let leaves = [("amd64", setup.world.image("amd64")), ("arm64", setup.world.image("arm64"))];
    let index = setup.world.index(&leaves);
    for (_, leaf) in &leaves {
        setup.world.attest_by_referrer(*leaf);
    }

    // Manifest, referrers and .att tag at once; then the configuration and the layer.
    assert_eq!(setup.measured(&at(by_tag)).await, (Outcome::Allow, 2, 5));
    assert_eq!(setup.measured(&at(by_referrer)).await, (Outcome::Allow, 3, 6));
    // The index has nothing: then both leaves at once, each with list, manifest and bundle.
    assert_eq!(setup.measured(&at(index)).await, (Outcome::Allow, 4, 3 + 2 * 4));
    for warm in [by_tag, by_referrer, index] {
        assert_eq!(setup.measured(&at(warm)).await, (Outcome::Allow, 0, 0));
    }
}

#[tokio::test]
async fn an_attested_index_is_not_asked_leaf_by_leaf() {
    let setup = setup();
    let index = setup.world.index(&[("amd64", setup.world.image("a")), ("arm64", setup.world.image("b"))]);
    setup.world.attest_by_tag(index);
    assert_eq!(setup.measured(&at(index)).await, (Outcome::Allow, 2, 4));
}

#[tokio::test]
async fn two_hundred_first_reviews_and_three_containers_ask_once() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_referrer(image);
    let images = vec![at(image); 3];
    let reviews = futures::future::join_all((0..200).map(|_| setup.review(&images))).await;
    assert!(reviews.iter().all(|review| review.outcome == Outcome::Allow && review.images.len() == 3));
    assert_eq!(setup.world.requests(), 6);
    assert_eq!(setup.trust.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_was_verified_goes_on_being_admitted_while_the_registry_is_down() {
    let setup = setup();
    let (known, unknown) = (setup.world.image("known"), setup.world.image("unknown"));
    setup.world.attest_by_tag(known);
    setup.world.attest_by_tag(unknown);
    assert_eq!(setup.review(&[at(known)]).await.outcome, Outcome::Allow);
    setup.world.fail(Some(FetchErrorKind::Unavailable), "");
    assert_eq!(setup.review(&[at(known)]).await.outcome, Outcome::Allow);
    let review = setup.review(&[at(unknown)]).await;
    assert_eq!(
        (review.outcome, reasons(&review)),
        (Outcome::Unverifiable, vec![Reason::RegistryUnavailable])
    );
    // Images that no policy covers are nobody's concern.
    assert_eq!(setup.review(&["other.example/x".to_owned()]).await.outcome, Outcome::Allow);
    // A change of policy is decided again from the facts at hand.
    let mut snapshot = Snapshot::clone(&setup.snapshot);
    snapshot.policies.generation = 2;
    let review = setup
        .reviewer
        .review(&Arc::new(snapshot), &pod(&[at(known)]), Stage::Final, Instant::now() + ROUND)
        .await;
    assert_eq!(review.outcome, Outcome::Allow);
    // And when the registry is back, so are the answers.
    setup.world.fail(None, "");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(setup.review(&[at(unknown)]).await.outcome, Outcome::Allow);
}

#[tokio::test]
async fn each_failure_keeps_its_name_and_a_part_that_failed_is_no_definite_no() {
    for (kind, outcome, reason) in [
        (FetchErrorKind::NotFound, Outcome::Deny, Reason::ImageNotFound),
        (FetchErrorKind::Denied, Outcome::Unverifiable, Reason::RegistryDenied),
        (FetchErrorKind::Throttled(None), Outcome::Unverifiable, Reason::RegistryThrottled),
        (FetchErrorKind::Unavailable, Outcome::Unverifiable, Reason::RegistryUnavailable),
    ] {
        let setup = setup();
        let image = setup.world.image("x");
        setup.world.fail(Some(kind), "manifest");
        let review = setup.review(&[at(image)]).await;
        assert_eq!((review.outcome, reasons(&review)), (outcome, vec![reason]));
    }
    // The list of referrers cannot be had: with the .att tag it is a yes, without it nobody knows.
    for (attested, outcome) in [(true, Outcome::Allow), (false, Outcome::Unverifiable)] {
        let setup = setup();
        let image = setup.world.image("x");
        if attested {
            setup.world.attest_by_tag(image);
        }
        setup.world.fail(Some(FetchErrorKind::Unavailable), "referrers");
        assert_eq!(setup.review(&[at(image)]).await.outcome, outcome);
    }
}

#[tokio::test]
async fn too_little_time_is_said_and_the_work_is_not_lost() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_referrer(image);
    let review = setup.review_within(&[at(image)], ROUND / 2).await;
    assert_eq!((review.outcome, reasons(&review)), (Outcome::Unverifiable, vec![Reason::DeadlineExceeded]));
    tokio::time::sleep(ROUND * 5).await;
    let before = setup.world.requests();
    assert_eq!(setup.review_within(&[at(image)], ROUND / 2).await.outcome, Outcome::Allow);
    assert_eq!(setup.world.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn a_no_is_kept_for_seconds_and_a_yes_for_good() {
    let setup = setup();
    let image = setup.world.image("x");
    let review = setup.review(&[at(image)]).await;
    assert_eq!((review.outcome, reasons(&review)), (Outcome::Deny, vec![Reason::NoProvenance]));
    // The attestation arrives after the push.
    setup.world.attest_by_tag(image);
    let before = setup.world.requests();
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Deny);
    assert_eq!(setup.world.requests(), before);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Allow);
    let before = setup.world.requests();
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Allow);
    assert_eq!(setup.world.requests(), before);
}

#[tokio::test(start_paused = true)]
async fn a_moved_tag_is_another_image_and_each_answer_is_about_one_digest() {
    let setup = setup();
    let (good, bad) = (setup.world.image("good"), setup.world.image("bad"));
    setup.world.attest_by_tag(good);
    setup.world.tags.lock().insert("v1".into(), good);
    let tagged = ["r.example/app:v1".to_owned()];
    let review = setup.review(&tagged).await;
    assert_eq!((review.outcome, review.images[0].verdict.digest), (Outcome::Allow, Some(good)));
    setup.world.tags.lock().insert("v1".into(), bad);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let review = setup.review(&tagged).await;
    assert_eq!((review.outcome, review.images[0].verdict.digest), (Outcome::Deny, Some(bad)));
    // Within one review the tag is looked up once, however many containers name it.
    setup.world.tags.lock().insert("v1".into(), good);
    tokio::time::sleep(Duration::from_secs(3)).await;
    setup.world.log.lock().clear();
    let review = setup.review(&vec![tagged[0].clone(); 3]).await;
    assert_eq!(review.outcome, Outcome::Allow);
    assert_eq!(setup.world.log.lock().iter().filter(|asked| asked.starts_with("HEAD")).count(), 1);
}

#[tokio::test]
async fn facts_of_other_trust_roots_are_not_used() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_tag(image);
    setup.review(&[at(image)]).await;
    setup.trust.generation.fetch_add(1, Ordering::SeqCst);
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Allow);
    assert_eq!(setup.trust.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_verdict_ends_with_the_provenances_age() {
    let setup = setup_with(|policy| policy.provenance.max_age = Some(Duration::from_hours(1)));
    let image = setup.world.image("x");
    setup.world.attest_by_tag(image);
    // The played certificate is of 1970.
    assert_eq!(reasons(&setup.review(&[at(image)]).await), [Reason::ProvenanceTooOld]);
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused() {
    let setup = setup();
    let image = setup.world.image("x");
    let both = json!({"mediaType": OCI_INDEX, "manifests": [], "config": {"digest": image}, "layers": []});
    let contradicting = json!({"mediaType": OCI_MANIFEST, "manifests": [{"digest": image}]});
    // Go folds the case of keys, and the last one wins: what is read here is not what runs.
    let linux = json!({"os": "linux", "architecture": "amd64"});
    let folded =
        json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image, "platform": linux}], "Manifests": []});
    let folded_below =
        json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image, "Digest": image, "platform": linux}]});
    let long_s = json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image}], "manife\u{17f}ts": []});
    let respelt = json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image, "platform": {"os": "linux", "architecture": "x86_64"}}]});
    let no_index = json!({"mediaType": OCI_INDEX, "manifests": [{"mediaType": OCI_INDEX, "digest": image, "platform": linux}]});
    for body in [
        folded,
        folded_below,
        long_s,
        respelt,
        no_index,
        both,
        contradicting,
        json!({}),
        json!([1]),
        json!({"manifests": 1}),
    ] {
        let digest = setup.world.put(&body);
        setup.world.attest_by_tag(digest);
        let review = setup.review(&[at(digest)]).await;
        assert_eq!(
            (review.outcome, reasons(&review)),
            (Outcome::Deny, vec![Reason::MalformedImage]),
            "{body}"
        );
    }
    let twin = json!({"mediaType": OCI_INDEX, "manifests": [{"digest": image, "platform": {"os": "linux", "architecture": "amd64"}}]});
    let digest = setup.world.put(&twin);
    setup.world.attest_by_tag(digest);
    assert_eq!(setup.review(&[at(digest)]).await.outcome, Outcome::Allow);
}

#[tokio::test]
async fn an_index_without_end_is_refused() {
    let setup = setup();
    let many: Vec<(&str, Digest)> = (0..1001).map(|_| ("amd64", Digest::of(b"x"))).collect();
    let wide = setup.world.index(&many);
    let mut deep = setup.world.index(&[("amd64", setup.world.image("x"))]);
    for _ in 0..5 {
        deep = setup
            .world
            .put(&json!({"mediaType": OCI_INDEX, "manifests": [{"mediaType": OCI_INDEX, "digest": deep}]}));
    }
    for digest in [wide, deep] {
        setup.world.attest_by_tag(digest);
        assert_eq!(reasons(&setup.review(&[at(digest)]).await), [Reason::MalformedImage]);
    }
}

#[tokio::test]
async fn many_attestations_are_looked_at_and_too_many_are_told() {
    for (layers, outcome, words) in
        [(200, Outcome::Allow, ""), (300, Outcome::Deny, "more than 256 attestations")]
    {
        let setup = setup();
        let image = setup.world.image("x");
        let signed = |subject: Digest| {
            let envelope = setup.world.put(&json!(format!("signed {subject}")));
            json!({"digest": envelope, "size": setup.world.content.lock()[&envelope].len()})
        };
        // The right one is the last.
        let others = (1..layers).map(|n: u32| signed(Digest::of(&n.to_be_bytes())));
        let layers: Vec<Value> = others.chain([signed(image)]).collect();
        let holder = setup.world.put(&json!({"mediaType": OCI_MANIFEST, "layers": layers}));
        setup.world.tags.lock().insert(format!("sha256-{}.att", image.hex()), holder);
        let review = setup.review(&[at(image)]).await;
        assert_eq!(review.outcome, outcome);
        let found: String =
            review.images[0].verdict.problems.iter().map(|problem| problem.found.clone()).collect();
        assert!(found.contains(words), "{found}");
    }
}

#[tokio::test]
async fn policies_of_a_namespace_are_not_answered_from_anothers_cache() {
    let setup = setup();
    let image = setup.world.image("x");
    setup.world.attest_by_tag(image);
    assert_eq!(setup.review(&[at(image)]).await.outcome, Outcome::Allow);
    let mut snapshot = Snapshot::clone(&setup.snapshot);
    let PolicyEntry::Valid(policy) = &snapshot.policies.entries()[0] else { panic!("valid") };
    let mut own = Policy::clone(policy);
    own.id = PolicyId { namespace: Some("strict".into()), name: "own".into() };
    own.signers[0].trust_root = TrustRootName("other".into());
    snapshot.policies =
        PolicySet::new(vec![snapshot.policies.entries()[0].clone(), PolicyEntry::Valid(Arc::new(own))], 1);
    let snapshot = Arc::new(snapshot);
    let mut workload = pod(&[at(image)]);
    for (namespace, outcome) in [("n", Outcome::Allow), ("strict", Outcome::Deny), ("n", Outcome::Allow)] {
        namespace.clone_into(&mut workload.namespace);
        let review =
            setup.reviewer.review(&snapshot, &workload, Stage::Final, Instant::now() + ROUND * 20).await;
        assert_eq!(review.outcome, outcome, "{namespace}");
    }
}
