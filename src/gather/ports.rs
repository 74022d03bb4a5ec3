//! The ports: what a review needs of the world. `registry`, `trust` and `cluster` implement them; tests do too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use serde_json::Value;

pub use crate::domain::policy::Unmatched;
use crate::domain::{
    digest::{Digest, Hasher},
    evidence::{Attestation, FetchError, KnownRoots, Layout},
    identity::TrustRootName,
    key::{KeyCheck, PublicKey},
    platform::Platform,
    policy::{PolicyEntry, PolicyId, PolicySet},
    provenance::Statement,
    reference::{Reference, Repository},
    verdict::Reason,
    workload::{Node, Workload},
};

/// A manifest as the registry gave it: its bytes hash to its digest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The media type: of the body where it states one, else of the `Content-Type` header. A hint.
    pub media_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

/// A manifest that refers to a subject, as a registry lists it. All but the digest is a hint.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// The manifest's digest.
    pub digest: Digest,
    /// The artifact type as listed; often wrong in fallback tags.
    pub artifact_type: Option<String>,
}

/// The referrers of a digest, as far as they could be listed.
#[derive(Debug, Clone, Default)]
pub struct ReferrerList {
    /// Those that were listed, the likeliest to hold provenance first.
    pub referrers: Vec<Referrer>,
    /// Why there may be others: while this is not empty, "there is no other" cannot be said.
    pub unlisted: Vec<FetchError>,
}

impl ReferrerList {
    /// All of them.
    ///
    /// # Errors
    /// Why there may be others.
    pub fn complete(self) -> Result<Vec<Referrer>, FetchError> {
        match self.unlisted.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(self.referrers),
        }
    }
}

impl From<Result<Vec<Referrer>, FetchError>> for ReferrerList {
    fn from(listed: Result<Vec<Referrer>, FetchError>) -> Self {
        match listed {
            Ok(referrers) => Self { referrers, unlisted: Vec::new() },
            Err(error) => Self { referrers: Vec::new(), unlisted: vec![error] },
        }
    }
}

/// Images in a registry, or in a folder that stands for one.
///
/// Every call is bounded in bytes and classifies its failures; none has a deadline of its own beyond the transport's:
/// callers drop the future when their time is over.
pub trait Images: Send + Sync {
    /// The digest a tag stands for now.
    fn resolve<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Digest, FetchError>>;

    /// A manifest by digest, at most 4 MiB, checked against the digest.
    fn manifest<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
    ) -> BoxFuture<'a, Result<Manifest, FetchError>>;

    /// A blob by digest, at most `limit` bytes, checked against the digest.
    fn blob<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &'a Digest,
        limit: usize,
    ) -> BoxFuture<'a, Result<Bytes, FetchError>>;

    /// What may be told of a failure: of one at a private address nothing but that it could not be reached.
    fn tell(&self, _repository: &Repository, error: FetchError) -> FetchError {
        error
    }

    /// How many bytes each of its caches holds.
    fn cache_bytes(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// What is attached to an image.
pub trait Attestations: Images {
    /// Every manifest that refers to `subject`: the referrers API with all its pages, else the fallback tag. None: an empty list.
    fn referrers<'a>(
        &'a self,
        repository: &'a Repository,
        subject: &'a Digest,
    ) -> BoxFuture<'a, Result<Vec<Referrer>, FetchError>>;

    /// The same, as far as they can be listed: a part of them may suffice.
    fn list_referrers<'a>(
        &'a self,
        repository: &'a Repository,
        subject: &'a Digest,
    ) -> BoxFuture<'a, ReferrerList> {
        async move { self.referrers(repository, subject).await.into() }.boxed()
    }

    /// The manifest under a tag such as `sha256-<hex>.att`; `None` where the registry says that there is none.
    fn tagged<'a>(
        &'a self,
        repository: &'a Repository,
        tag: &'a str,
    ) -> BoxFuture<'a, Result<Option<Manifest>, FetchError>>;
}

/// An attestation as it was found, not yet believed.
#[derive(Debug, Clone)]
pub struct RawAttestation {
    /// Where it was found.
    pub layout: Layout,
    /// The digest of the blob, for messages and as the key of the cache of verifications.
    pub found_at: Digest,
    /// What it is supposed to be.
    pub content: RawContent,
}

impl RawAttestation {
    /// How many bytes it holds.
    pub fn size(&self) -> usize {
        match &self.content {
            RawContent::Bundle(bytes) => bytes.len(),
            RawContent::CosignLayer { envelope, annotations } => {
                annotations.values().map(String::len).fold(envelope.len(), usize::saturating_add)
            }
        }
    }

    /// A digest over all that verification looks at.
    pub fn fingerprint(&self) -> Digest {
        let mut content = Hasher::default();
        let mut add = |part: &[u8]| {
            content.add(&part.len().to_be_bytes());
            content.add(part);
        };
        match &self.content {
            RawContent::Bundle(bytes) => add(bytes),
            RawContent::CosignLayer { envelope, annotations } => {
                add(b"att");
                add(envelope);
                for (key, value) in annotations {
                    add(key.as_bytes());
                    add(value.as_bytes());
                }
            }
        }
        content.digest()
    }
}

/// The forms in which signed attestations come.
#[derive(Debug, Clone)]
pub enum RawContent {
    /// A Sigstore bundle (any version), JSON.
    Bundle(Bytes),
    /// A layer of a cosign `.att` manifest: a DSSE envelope, with certificate, chain and log entry in annotations.
    CosignLayer {
        /// The envelope, JSON.
        envelope: Bytes,
        /// The layer's annotations.
        annotations: BTreeMap<String, String>,
    },
}

/// The trust roots and what they verify.
pub trait TrustRoots: Send + Sync {
    /// Verifies an attestation under every root that could vouch for it. Synchronous and expensive (0.5–2 ms): run it off the
    /// async workers. `now` is used for nothing but refusing times in the future.
    fn verify(&self, raw: &RawAttestation, now: Timestamp) -> Attestation;

    /// Holds an attestation that is signed with a key against one that a policy names. As synchronous and expensive as
    /// [`TrustRoots::verify`]. Roots that know no keys accept none.
    fn check_key(&self, _raw: &RawAttestation, _key: &PublicKey, _now: Timestamp) -> KeyCheck {
        KeyCheck::refused("keys are not checked")
    }

    /// Reads a statement that nobody has signed by itself, within the limits for signed ones. As expensive as
    /// [`TrustRoots::verify`]. Roots that read none believe none.
    ///
    /// # Errors
    /// Why it is no statement.
    fn read_statement(&self, _payload: &[u8]) -> Result<Statement, String> {
        Err("statements are not read".to_owned())
    }

    /// Which roots there are.
    fn known(&self) -> Option<Arc<KnownRoots>> {
        None
    }

    /// Changes with the roots; facts learnt under another generation are not used.
    fn generation(&self) -> u64;
}

/// How it is with the trust root that an object describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootReport {
    /// Whether it is in force.
    pub ready: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

/// Who keeps the trust roots that objects describe.
pub trait RootKeeper: Send + Sync {
    /// These are all the `TrustRoot` objects there are.
    fn keep(&self, objects: &[Value]);

    /// How it is with the root of an object that is kept, and what of it has ended by this time or will soon.
    fn report(&self, name: &TrustRootName, now: Timestamp) -> Option<RootReport>;

    /// Which roots there are.
    fn known(&self) -> Arc<KnownRoots>;
}

/// Labels, or a selector of them.
pub type LabelMap = BTreeMap<String, String>;

/// What is known of the cluster (or of the folder and flags that stand for one), at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The policies in force; their generation changes also with the namespaces' labels and with `unmatched`: with all that
    /// says what an image must satisfy.
    pub policies: PolicySet,
    /// The nodes.
    pub nodes: Arc<[Arc<Node>]>,
    /// Platforms of nodes that are not there yet.
    pub platforms: Vec<Platform>,
    /// The labels of each namespace that is known.
    pub namespaces: Arc<BTreeMap<String, LabelMap>>,
    /// The `scheduling.nodeSelector` of each `RuntimeClass` that is known.
    pub runtime_classes: Arc<BTreeMap<String, LabelMap>>,
    /// Changes with nodes, platforms and runtime classes: with all that says where a pod can land.
    pub landscape: u64,
    /// What images get that no policy names.
    pub unmatched: Unmatched,
    /// Whether pods go through `/mutate`, which pins tags and constrains placement.
    pub pinning: bool,
}

/// A resource that was not listed since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    /// The resource's plural name.
    pub resource: &'static str,
    /// What the API server said, where the list failed.
    pub error: Option<String>,
}

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{} cannot be listed: {error}", self.resource),
            None => write!(f, "{} are not listed yet", self.resource),
        }
    }
}

/// There is no complete snapshot yet: a verdict would miss policies, or what they depend on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", unlisted(.0))]
pub struct Incomplete(pub Vec<Unlisted>);

fn unlisted(all: &[Unlisted]) -> String {
    let resources: Vec<&str> = all.iter().map(|unlisted| unlisted.resource).collect();
    format!("bonafide has not listed {} since it started", resources.join(", "))
}

/// The inventory: policies, nodes, namespaces.
pub trait Inventory: Send + Sync {
    /// The current snapshot; cheap.
    ///
    /// # Errors
    /// [`Incomplete`] until everything that a verdict depends on was listed once. From then on there is always a snapshot.
    fn snapshot(&self) -> Result<Arc<Snapshot>, Incomplete>;

    /// Looks up a node of which the snapshot does not say what it is. If there is one, the next snapshot has it.
    fn look_up_node<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Why it cannot be known what a pod runs.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct PodLookupError(pub String);

/// The pods that are on their way to a node.
pub trait Pods: Send + Sync {
    /// What a pod runs, as the API server stores it; `None` where there is no such pod.
    fn find<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
        uid: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<Workload>>, PodLookupError>>;
}

/// A docker configuration (JSON) that a pull secret holds. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PullSecret {
    /// The text.
    pub config: Arc<str>,
}

impl fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(pull secret)")
    }
}

/// The pull secrets of workloads.
pub trait Keychain: Send + Sync {
    /// What a workload's images are pulled with, the first to be tried first. What cannot be had is left out.
    fn of<'a>(&'a self, workload: &'a Workload) -> BoxFuture<'a, Vec<PullSecret>>;
}

/// A registry as it shows itself to whoever has a credential.
#[derive(Clone)]
pub struct Acting {
    /// What tells the credential from others, without being it: what is learnt with one is not told to another.
    pub credential: Digest,
    /// What is seen with it.
    pub source: Arc<dyn Attestations>,
}

/// Registries that can be asked in others' names.
pub trait Agents: Send + Sync {
    /// A repository's registry as the first of these that has a credential for it sees it; `None` where none has.
    fn acting_for(&self, secrets: &[PullSecret], repository: &Repository) -> Option<Acting>;

    /// How many bytes of secrets are kept.
    fn bytes(&self) -> u64 {
        0
    }
}

/// The entries of the webhook configurations: what the API server sends for review.
pub trait WebhookEntries: Send + Sync {
    /// Has the API server send what a policy is about that is not stored yet. An error, in words, is no reason to refuse the policy: the
    /// leader does the same once it is stored.
    fn widen<'a>(&'a self, policy: &'a PolicyEntry) -> BoxFuture<'a, Result<(), String>>;

    /// The namespaces that are never sent.
    fn exempt(&self) -> &BTreeSet<String>;
}

/// How registries are asked in the name of a workload.
#[derive(Clone)]
pub struct Pulling {
    /// What workloads pull with.
    pub keychain: Arc<dyn Keychain>,
    /// Who asks with it.
    pub agents: Arc<dyn Agents>,
}

/// What was found under a policy about one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyFinding<'a> {
    /// The policy.
    pub policy: &'a PolicyId,
    /// What was found, in one word.
    pub reason: Reason,
    /// The object's kind.
    pub kind: &'a str,
    /// The object's namespace.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
}

/// The events on policies: what was denied, what was found although nothing was denied for it, and what could not be found out.
pub trait Findings: Send + Sync {
    /// Something was found; `note` says what, where it is wanted.
    fn found(&self, finding: &PolicyFinding<'_>, note: &dyn Fn() -> String);
}

/// What happens in `gather` and below, for metrics. Every method is cheap and never fails.
pub trait Observer: Send + Sync {
    /// A request to a registry ended. `outcome` is a word of a fixed set: `ok`, `not_found`, `denied`, `throttled`, `unavailable`, `malformed`.
    fn registry_request(&self, registry: &str, outcome: &'static str, took: Duration);
    /// A cache was asked. `cache` is one of `facts`, `verdicts`, `tags`, `tokens`.
    fn cache(&self, cache: &'static str, hit: bool);
}

/// An observer that does not look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn registry_request(&self, _: &str, _: &'static str, _: Duration) {}
    fn cache(&self, _: &'static str, _: bool) {}
}
