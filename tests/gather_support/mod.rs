//! A registry and a trust root that are played in memory, for the tests of `gather`: each case is exact, and the time counts the rounds.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bonafide::{
    domain::{
        digest::Digest,
        evidence::{Attestation, CertificateReading, FetchError, FetchErrorKind, Finding, Layout, Verified},
        glob::{AnchoredRegex, Glob},
        identity::{Certificate, Signer, SignerIdentity, SubjectMatcher, TrustRootName},
        level::BuildLevel,
        plan::Stage,
        policy::{
            ImageSelector, LabelSelector, Mode, Policy, PolicyEntry, PolicyId, PolicySet, ProvenanceRules,
            SubjectRule, TagRule, UncoveredRule,
        },
        predicate::Predicate,
        provenance::{Provenance, SLSA_V1, Statement},
        reference::{Reference, Repository},
        verdict::{Outcome, Reason},
        workload::{ImageRole, Placement, PullWith, Workload, WorkloadImage},
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

pub const ROUND: Duration = Duration::from_millis(30);
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry in memory in which every request takes one [`ROUND`], so that the time counts the rounds.
#[derive(Default)]
pub struct World {
    pub content: Mutex<HashMap<Digest, Bytes>>,
    pub tags: Mutex<HashMap<String, Digest>>,
    pub referrers: Mutex<HashMap<Digest, Vec<Digest>>>,
    pub failure: Mutex<Option<FetchErrorKind>>,
    /// Fails only what this text is part of.
    pub failing: Mutex<String>,
    pub log: Mutex<Vec<String>>,
    /// Never answers what this text is part of.
    pub hanging: Mutex<Option<String>>,
    /// Takes so long about what this text is part of.
    pub slow: Mutex<Option<(String, Duration)>>,
    /// How many requests are under way, and how many ever were at once.
    pub under_way: AtomicUsize,
    pub most_under_way: AtomicUsize,
}

impl World {
    pub fn put(&self, value: &Value) -> Digest {
        let bytes = Bytes::from(value.to_string());
        let digest = Digest::of(&bytes);
        self.content.lock().insert(digest, bytes);
        digest
    }

    pub fn image(&self, name: &str) -> Digest {
        let config = self.put(&json!({"os": "linux", "architecture": "amd64", "name": name}));
        self.put(&json!({"mediaType": OCI_MANIFEST, "config": {"digest": config}, "layers": []}))
    }

    pub fn index(&self, platforms: &[(&str, Digest)]) -> Digest {
        let manifests: Vec<Value> = platforms
            .iter()
            .map(|(architecture, digest)| {
                json!({"mediaType": OCI_MANIFEST, "digest": digest, "platform": {"os": "linux", "architecture": architecture}})
            })
            .collect();
        self.put(&json!({"mediaType": OCI_INDEX, "manifests": manifests}))
    }

    /// An index of one manifest with an attestation manifest for it.
    pub fn buildkit_index(&self, leaf: Digest) -> (Digest, Digest) {
        let index = self.buildkit_index_about(leaf, &[leaf], 1);
        let entries: Value = serde_json::from_slice(&self.content.lock()[&index]).unwrap();
        (index, entries["manifests"][1]["digest"].as_str().unwrap().parse().unwrap())
    }

    /// The same with so many statements in each attestation manifest, one about each of these.
    pub fn buildkit_index_about(&self, leaf: Digest, about: &[Digest], in_each: usize) -> Digest {
        let layer = |subject: &Digest| {
            let statement = self.put(&json!(format!("said {subject}")));
            let size = self.content.lock()[&statement].len();
            json!({"mediaType": "application/vnd.in-toto+json", "digest": statement, "size": size,
                "annotations": {"in-toto.io/predicate-type": SLSA_V1}})
        };
        let mut entries = vec![
            json!({"mediaType": OCI_MANIFEST, "digest": leaf, "platform": {"os": "linux", "architecture": "amd64"}}),
        ];
        for about in about.chunks(in_each) {
            let layers: Vec<Value> = about.iter().map(layer).collect();
            let holder = self.put(&json!({"mediaType": OCI_MANIFEST, "layers": layers}));
            let notes = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": leaf});
            entries.push(json!({"mediaType": OCI_MANIFEST, "digest": holder, "annotations": notes,
                "platform": {"os": "unknown", "architecture": "unknown"}}));
        }
        self.put(&json!({"mediaType": OCI_INDEX, "manifests": entries}))
    }

    /// The played trust root believes the text `signed SUBJECT`.
    pub fn attest_by_referrer(&self, subject: Digest) {
        self.attest_with(subject, subject);
    }

    /// Attaches to one digest what is about another.
    pub fn attest_with(&self, subject: Digest, about: Digest) {
        let bundle = self.put(&json!(format!("signed {about}")));
        let size = self.content.lock()[&bundle].len();
        let layer = json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "digest": bundle, "size": size});
        let holder = self.put(&json!({"mediaType": OCI_MANIFEST, "layers": [layer]}));
        self.referrers.lock().entry(subject).or_default().push(holder);
    }

    pub fn attest_by_tag(&self, subject: Digest) {
        let envelope = self.put(&json!(format!("signed {subject}")));
        let size = self.content.lock()[&envelope].len();
        let layer =
            json!({"mediaType": "application/vnd.dsse.envelope.v1+json", "digest": envelope, "size": size});
        let holder = self.put(&json!({"mediaType": OCI_MANIFEST, "layers": [layer]}));
        self.tags.lock().insert(format!("sha256-{}.att", subject.hex()), holder);
    }

    pub async fn ask(&self, what: String) -> Result<(), FetchError> {
        let _ended = Ended(&self.under_way);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        if self.hanging.lock().as_ref().is_some_and(|text| what.contains(text)) {
            return std::future::pending().await;
        }
        let slow = self.slow.lock().clone().filter(|(text, _)| what.contains(text));
        tokio::time::sleep(slow.map_or(ROUND, |(_, time)| time)).await;
        self.log.lock().push(what.clone());
        match *self.failure.lock() {
            Some(kind) if what.contains(self.failing.lock().as_str()) => {
                Err(FetchError { kind, detail: what })
            }
            _ => Ok(()),
        }
    }

    pub fn get(&self, digest: Digest) -> Result<Bytes, FetchError> {
        let found = self.content.lock().get(&digest).cloned();
        found.ok_or_else(|| FetchError { kind: FetchErrorKind::NotFound, detail: format!("no {digest}") })
    }

    pub fn requests(&self) -> usize {
        self.log.lock().len()
    }

    pub fn fail(&self, kind: Option<FetchErrorKind>, what: &str) {
        *self.failure.lock() = kind;
        what.clone_into(&mut self.failing.lock());
    }
}

struct Ended<'a>(&'a AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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

pub trait FilterSize {
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
pub struct Believing {
    pub asked: AtomicU64,
    pub generation: AtomicU64,
    /// How long each takes.
    pub pause: Mutex<Duration>,
    /// How much each predicate says.
    pub predicate_bytes: AtomicUsize,
    /// How many other subjects each names before its own.
    pub more_subjects: AtomicU64,
}

impl TrustRoots for Believing {
    fn verify(&self, raw: &RawAttestation, _: Timestamp) -> Attestation {
        self.asked.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(*self.pause.lock());
        let bytes = match &raw.content {
            RawContent::Bundle(bytes) | RawContent::CosignLayer { envelope: bytes, .. } => bytes,
        };
        let text: String = serde_json::from_slice(bytes).unwrap();
        let subject = text.strip_prefix("signed ").unwrap().parse().unwrap();
        let predicate = "x".repeat(self.predicate_bytes.load(Ordering::SeqCst));
        let finding = verified(vec![subject], predicate);
        Attestation { layout: raw.layout, found_at: raw.found_at, finding }
    }

    fn read_statement(&self, payload: &[u8]) -> Result<Statement, String> {
        let text: String = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        let subject = text.strip_prefix("said ").ok_or("it says nothing")?.parse().unwrap();
        Ok(Statement {
            subjects: vec![subject],
            predicate_type: SLSA_V1.into(),
            provenance: Some(Provenance::default()),
            summary: None,
            other: None,
        })
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

/// By the builder, about these.
pub fn attestation(subjects: Vec<Digest>) -> Attestation {
    Attestation {
        layout: Layout::Referrer,
        found_at: Digest::of(b"found"),
        finding: verified(subjects, String::new()),
    }
}

fn verified(subjects: Vec<Digest>, predicate: String) -> Finding {
    let predicate = Predicate::from(Value::from(predicate));
    Finding::Verified(Box::new(Verified {
        readings: vec![CertificateReading {
            trust_root: TrustRootName::default(),
            certificate: Certificate {
                subject: "builder".into(),
                issuer: "https://issuer".into(),
                ..Certificate::default()
            },
        }],
        statement: Statement {
            subjects,
            predicate_type: SLSA_V1.into(),
            provenance: Some(Provenance { predicate, ..Provenance::default() }),
            summary: None,
            other: None,
        },
    }))
}

pub struct Setup {
    pub world: Arc<World>,
    pub trust: Arc<Believing>,
    pub reviewer: Arc<Reviewer>,
    pub snapshot: Arc<Snapshot>,
}

pub fn setup() -> Setup {
    setup_with(|_| ())
}

/// For every image here, signed by the builder.
pub fn policy() -> Policy {
    let subject = SubjectMatcher::Regex(AnchoredRegex::new("builder").unwrap());
    Policy {
        id: PolicyId { namespace: None, name: "all".into() },
        namespaces: LabelSelector::default(),
        mode: Mode::Enforce,
        images: ImageSelector { include: vec![Glob::new("r.example/**").unwrap()], exclude: Vec::new() },
        subject: SubjectRule::Any,
        uncovered: UncoveredRule::Deny,
        tags: TagRule::Allow,
        signers: vec![Signer {
            name: "s".into(),
            identity: SignerIdentity::Certificate {
                issuer: "https://issuer".into(),
                subject,
                triggers: Vec::new(),
            },
            trust_root: TrustRootName::default(),
            builder_ids: Vec::new(),
            level: BuildLevel::default(),
        }],
        provenance: ProvenanceRules::default(),
        attestation_repositories: Vec::new(),
        summaries: None,
        in_place_of_provenance: None,
    }
}

pub fn setup_with(change: impl FnOnce(&mut Policy)) -> Setup {
    let mut policy = policy();
    change(&mut policy);
    setup_of(vec![policy])
}

pub fn setup_of(policies: Vec<Policy>) -> Setup {
    let policies = policies.into_iter().map(|policy| PolicyEntry::Valid(Arc::new(policy)));
    let policies = PolicySet::new(policies.collect(), 1);
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

pub fn pod(images: &[String]) -> Workload {
    let image = |(at, image): (usize, &String)| {
        let image = WorkloadImage {
            name: format!("c{at}"),
            role: ImageRole::Container,
            field: format!("spec.containers[{at}].image"),
            image: image.clone(),
        };
        Arc::new(image)
    };
    Workload {
        kind: "Pod".into(),
        namespace: "n".into(),
        name: "p".into(),
        images: images.iter().enumerate().map(image).collect(),
        placement: Placement::default(),
        pull: PullWith::default(),
    }
}

impl Setup {
    pub async fn review(&self, images: &[String]) -> Review {
        self.review_within(images, Duration::from_secs(10)).await
    }

    pub async fn review_within(&self, images: &[String], time: Duration) -> Review {
        self.reviewer.review(&self.snapshot, &pod(images), Stage::Final, Instant::now() + time).await
    }

    /// A review in another namespace than most.
    pub async fn review_in(&self, namespace: &str, images: &[String], time: Duration) -> Review {
        let workload = Workload { namespace: namespace.to_owned(), ..pod(images) };
        self.reviewer.review(&self.snapshot, &workload, Stage::Final, Instant::now() + time).await
    }

    pub fn cache_bytes(&self, wanted: &str) -> u64 {
        self.reviewer.cache_bytes().into_iter().find(|(cache, _)| *cache == wanted).unwrap().1
    }

    /// The outcome, and in how many rounds and requests it was had.
    pub async fn measured(&self, image: &str) -> (Outcome, u128, usize) {
        let (start, before) = (Instant::now(), self.world.requests());
        let review = self.review(&[image.to_owned()]).await;
        let rounds = start.elapsed().as_millis() / ROUND.as_millis();
        (review.outcome, rounds, self.world.requests() - before)
    }
}

pub fn at(digest: Digest) -> String {
    format!("r.example/app@{digest}")
}

pub fn reasons(review: &Review) -> Vec<Reason> {
    review
        .images
        .iter()
        .flat_map(|image| image.verdict.problems.iter().map(|problem| problem.reason))
        .collect()
}
