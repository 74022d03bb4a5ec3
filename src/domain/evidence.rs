//! What was learnt about an image: verified facts, rejected ones with the reason, and what could not be asked.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    digest::Digest,
    identity::{Certificate, TrustRootName},
    key::{KeyCheck, KeyId},
    platform::{IndexEntry, Platform},
    policy::Policy,
    provenance::Statement,
    reference::Repository,
};

/// Why something could not be had from a registry. The kinds are told apart up to the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// The kind of failure.
    pub kind: FetchErrorKind,
    /// What happened, for a person: names the registry and what was asked of it.
    pub detail: String,
}

impl FetchError {
    /// There is more than a limit lets be looked at; `why` says of what, and how many are looked at.
    pub fn not_inspected(why: impl Into<String>) -> Self {
        let detail = format!("not all attestations were inspected: {}", why.into());
        Self { kind: FetchErrorKind::Incomplete, detail }
    }
}

/// The kinds of failure of a registry request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The registry said that it does not have it (404). A definite answer.
    NotFound,
    /// The registry wants other credentials (401, 403).
    Denied,
    /// The registry asks to come back later (429), after so long where it said.
    Throttled(Option<Duration>),
    /// No answer, a server error (5xx), or an answer that does not hold (truncated, other bytes than the digest's).
    Unavailable,
    /// No time was left.
    Deadline,
    /// It is there and unusable: larger than the limit, not of the format. A definite answer.
    Malformed,
    /// There is more of it than is read. What is beyond the limit is not known.
    Incomplete,
}

impl FetchErrorKind {
    /// Whether it leaves open what there is: asking again may give another answer, or there is more than was read.
    pub const fn is_transient(self) -> bool {
        match self {
            Self::NotFound | Self::Malformed => false,
            Self::Denied | Self::Throttled(_) | Self::Unavailable | Self::Deadline | Self::Incomplete => true,
        }
    }
}

/// What a digest turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// A single image manifest, with the platform its configuration states (`None`: could not be read).
    Manifest(Option<Platform>),
    /// An index with its entries, nested indexes included.
    Index(Vec<IndexEntry>),
}

/// Where an attestation was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The referrers API or its fallback tag.
    Referrer,
    /// A cosign `.att` tag.
    AttTag,
    /// A BuildKit attestation manifest in the index.
    InIndex,
    /// A referrer of such an attestation manifest.
    InIndexReferrer,
}

/// One attestation that was looked at.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// Where it was found.
    pub layout: Layout,
    /// The digest of the blob or manifest that holds it, for messages.
    pub found_at: Digest,
    /// What became of it.
    pub finding: Finding,
}

/// What became of an attestation.
#[derive(Debug, Clone)]
pub enum Finding {
    /// Signature, certificate, log and time hold.
    Verified(Box<Verified>),
    /// It is signed with a key that it does not carry. Whether that is one the policy names is a matter of
    /// [`ImageFacts::key_checks`]; until then nothing in it is believed.
    Keyed(Box<Keyed>),
    /// It says something and nobody signed it.
    Unsigned {
        /// The predicate's type.
        predicate_type: String,
    },
    /// A check does not hold.
    Untrusted(String),
    /// It cannot be read as what it claims to be.
    Malformed(String),
}

/// A verified attestation.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The certificate as each trust root that vouches for it reads it: at least one reading, and one per root.
    pub readings: Vec<CertificateReading>,
    /// What was said, claimed.
    pub statement: Statement,
}

/// A certificate as one trust root reads it. Roots can differ in the issuer that they give to a certificate which names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateReading {
    /// The trust root that vouches.
    pub trust_root: TrustRootName,
    /// Who signed, proved.
    pub certificate: Certificate,
}

impl Verified {
    /// The certificate as this trust root reads it; `None` where the root does not vouch.
    pub fn under(&self, trust_root: &TrustRootName) -> Option<&Certificate> {
        let reading = self.readings.iter().find(|reading| reading.trust_root == *trust_root)?;
        Some(&reading.certificate)
    }
}

/// An attestation that is signed with a key, not yet held against one.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// The digest over all of it.
    pub fingerprint: Digest,
    /// What is said.
    pub statement: Statement,
}

/// All that was found out about one digest of one repository.
#[derive(Debug, Clone, Default)]
pub struct SubjectEvidence {
    /// The attestations found, in every layout.
    pub attestations: Vec<Arc<Attestation>>,
    /// What could not be asked: while this is not empty, "there is none" cannot be said.
    pub gaps: Vec<FetchError>,
}

impl SubjectEvidence {
    /// Nothing was found out, because of one error.
    pub fn unknown(error: FetchError) -> Self {
        Self { attestations: Vec::new(), gaps: vec![error] }
    }
}

/// The trust roots at the time when facts were learnt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownRoots {
    /// Those that are in force.
    pub in_force: BTreeSet<TrustRootName>,
    /// Those that somebody described and that are not, and why.
    pub failed: BTreeMap<TrustRootName, String>,
}

impl KnownRoots {
    /// What keeps a signer that names this root from being satisfied, whatever is signed; nothing, where the root is in force.
    pub fn lack(&self, name: &TrustRootName) -> Option<String> {
        match self.failed.get(name) {
            _ if self.in_force.contains(name) => None,
            Some(why) => Some(format!("the trust root {name} is not in force: {why}")),
            None => Some(format!("there is no trust root {name}")),
        }
    }
}

/// All that was found out about one image.
#[derive(Debug, Clone)]
pub struct ImageFacts {
    /// The digest the reference stands for.
    pub digest: Digest,
    /// What it is.
    pub root: Arc<Root>,
    /// Evidence by subject digest: the root's, and those of manifests that were asked about.
    pub evidence: HashMap<Digest, Arc<SubjectEvidence>>,
    /// The same as found in other repositories: for the policies that name them, and for no others.
    pub elsewhere: HashMap<Repository, HashMap<Digest, Arc<SubjectEvidence>>>,
    /// What became of attestations that were held against keys, by the key and the attestation's fingerprint.
    pub key_checks: HashMap<(KeyId, Digest), Arc<KeyCheck>>,
    /// The trust roots by which they were learnt; `None` where nobody knows, and every root may be there.
    pub trust_roots: Option<Arc<KnownRoots>>,
}

impl ImageFacts {
    /// The facts as `policy` may see them: with what was found in the repositories that it names.
    pub fn seen_by(&self, policy: &Policy) -> Cow<'_, Self> {
        let mut united: Option<Self> = None;
        for repository in &policy.attestation_repositories {
            let Some(found) = self.elsewhere.get(repository) else { continue };
            let united = united.get_or_insert_with(|| self.clone());
            for (digest, more) in found {
                let evidence = Arc::make_mut(united.evidence.entry(*digest).or_default());
                evidence.attestations.extend(more.attestations.iter().cloned());
                evidence.gaps.extend(more.gaps.iter().cloned());
            }
        }
        united.map_or(Cow::Borrowed(self), Cow::Owned)
    }

    /// The other repository that an attestation was found in which `policy` sees.
    pub fn found_elsewhere<'a>(
        &self,
        policy: &'a Policy,
        digest: &Digest,
        attestation: &Attestation,
    ) -> Option<&'a Repository> {
        let is_here = |evidence: &SubjectEvidence| {
            evidence.attestations.iter().any(|one| std::ptr::eq(one.as_ref(), attestation))
        };
        policy.attestation_repositories.iter().find(|repository| {
            let found = self.elsewhere.get(*repository).and_then(|found| found.get(digest));
            found.is_some_and(|evidence| is_here(evidence))
        })
    }
}
