//! The answer: per image what was decided and why, in words that are stable and documented.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    digest::Digest,
    identity::{Certificate, TrustRootName},
    key::{KeyId, KeyKind},
    level::BuildLevel,
    looked_at::{LookedAt, Spot},
    platform::Platform,
    policy::{Mode, PolicyId},
    predicate::Predicate,
    provenance::Provenance,
    summary::Summary,
};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $summary:literal),* $(,)?) => {
        /// Why something is not simply allowed. The words are an interface: they are in messages, metrics and JSON.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// One line on what it means.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }
        }
    };
}

reasons! {
    /// No attestation with SLSA provenance names the image.
    NoProvenance = "no attestation with SLSA provenance names this image",
    /// Provenance is there and nobody signed it.
    UnsignedProvenance = "provenance is present, but nobody signed it",
    /// No chain to the trust root, or signature, SCT, log or time do not hold.
    UntrustedSignature = "an attestation is there, but its signature cannot be trusted",
    /// Issuer, subject or signing workflow differ.
    WrongSigner = "the provenance is signed by somebody else than the policy names",
    /// Repository, ref, trigger or runner of the source differ.
    WrongSource = "the signer is right, but built from another source than the policy names",
    /// Builder id, build type or claimed source differ.
    WrongBuilder = "the provenance claims another builder, build type or source than the policy names",
    /// A verification summary is there, and does not say what the policy asks.
    WrongSummary = "a verification summary is there, but does not say what the policy asks",
    /// A condition of the policy does not hold.
    ConditionFailed = "a condition of the policy does not hold for the provenance",
    /// The build is older than the policy's `maxAge`.
    ProvenanceTooOld = "the build is older than the policy accepts",
    /// Some platforms are covered and this one is not.
    PlatformNotCovered = "other platforms of the image are covered by provenance, this one is not",
    /// The image has no manifest for the platform.
    PlatformMissing = "the image has no manifest for a platform the pod can land on",
    /// The registry says that there is no such image.
    ImageNotFound = "the registry says that there is no such image",
    /// The manifest or index cannot be read.
    MalformedImage = "the image's manifest or index cannot be read, or can be read in more than one way",
    /// The registry refuses the credentials.
    RegistryDenied = "the registry refuses access with the credentials at hand",
    /// The registry cannot be reached, or gives no usable answer.
    RegistryUnavailable = "the registry cannot be reached or gives no usable answer",
    /// The registry asks to come back later.
    RegistryThrottled = "the registry limits the rate of requests",
    /// There was not enough time.
    DeadlineExceeded = "there was not enough time to find out",
    /// More attestations are attached than are inspected, and those that were do not suffice.
    NotAllInspected = "more attestations are attached than are inspected, and those inspected do not suffice",
    /// An attestation cannot be read as what it claims to be.
    MalformedAttestation = "an attestation is there, but cannot be read",
    /// The image reference does not parse.
    InvalidReference = "the image reference cannot be parsed",
    /// The workload names more distinct images than are judged.
    TooManyImages = "the workload names more images than are judged",
    /// A policy that names the image does not compile.
    InvalidPolicy = "a policy that names this image is invalid, and fails closed",
    /// The reference has no digest.
    UnpinnedTag = "the image is named by a tag, which can be moved",
    /// No policy names the image, and `--unmatched-images` does not allow that.
    UnmatchedImage = "no policy names this image",
}

impl Reason {
    /// Whether something could not be found out: 503 instead of 403.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::RegistryDenied
                | Self::RegistryUnavailable
                | Self::RegistryThrottled
                | Self::DeadlineExceeded
                | Self::NotAllInspected
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is answered, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Admitted.
    Allow,
    /// A definite no: 403.
    Deny,
    /// Could not be verified: 503.
    Unverifiable,
}

/// One thing that speaks against an image (or, in `Warn` and `Audit` mode, would).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The reason's word.
    pub reason: Reason,
    /// The policy that is not satisfied; `None` where no policy is involved.
    pub policy: Option<PolicyId>,
    /// What it does: only `Enforce` denies.
    pub mode: Mode,
    /// The platform it is about.
    pub platform: Option<Platform>,
    /// The digest it is about.
    pub digest: Option<Digest>,
    /// What was found, in a sentence without the reason's word.
    pub found: String,
    /// The attestations that were looked at, the closest first: a few of them.
    pub looked_at: Vec<LookedAt>,
    /// How many there are beside these.
    pub looked_at_more: usize,
    /// What the policy expected.
    pub expected: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether it denies nothing because the pod is kept away from the platform it is about.
    pub avoided: bool,
    /// Seconds after which asking again makes sense, where the registry said.
    pub retry_after: Option<u64>,
}

/// A platform of an image and whether it is covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformCoverage {
    /// The platform; `None` for a manifest that states none.
    pub platform: Option<Platform>,
    /// The manifest a runtime would pick.
    pub digest: Digest,
    /// Whether every enforced policy accepts an attestation for it.
    pub covered: bool,
}

/// An attestation that satisfied a policy.
#[derive(Debug, Clone)]
pub struct Proof {
    /// The policy it satisfied.
    pub policy: PolicyId,
    /// The signer of that policy that it fits.
    pub signer: String,
    /// The trust root that the signer names, and that vouches for it; none vouches for a key whose signature is not logged.
    pub trust_root: Option<TrustRootName>,
    /// The level that the policy gives to builds by this signer with this builder.
    pub level: BuildLevel,
    /// The digest its statement names.
    pub subject: Digest,
    /// Where it was found.
    pub spot: Spot,
    /// The predicate's type.
    pub predicate_type: String,
    /// Proved.
    pub signed_by: SignedBy,
    /// Claimed; nothing, where a summary stands in its place.
    pub provenance: Provenance,
    /// The verification summary that stands in its place: claimed too.
    pub summary: Option<Summary>,
    /// The predicate that was asked for in place of provenance: claimed too.
    pub other: Option<Predicate>,
}

/// Who signed, as it is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBy {
    /// The holder of a certificate.
    Certificate(Box<Certificate>),
    /// The holder of a key.
    Key {
        /// The key.
        id: KeyId,
        /// Its kind.
        kind: KeyKind,
        /// Whether a log of the signer's trust root has the signature.
        logged: bool,
        /// When it was signed at the latest, where a log says.
        at: Option<Timestamp>,
    },
}

impl SignedBy {
    /// Whether a trust root vouches for it.
    pub const fn is_vouched_for(&self) -> bool {
        match self {
            Self::Certificate(_) => true,
            Self::Key { logged, .. } => *logged,
        }
    }

    /// The time that is proved: it was not built later. Of a certificate, the start of its validity.
    pub fn proved_time(&self) -> Option<Timestamp> {
        match self {
            Self::Certificate(certificate) => Some(certificate.not_before),
            Self::Key { at, .. } => *at,
        }
    }
}

/// The decision about one image.
#[derive(Debug, Clone)]
pub struct ImageVerdict {
    /// The reference as it was written.
    pub reference: String,
    /// The digest it stood for in this review, where that could be found out.
    pub digest: Option<Digest>,
    /// What is answered.
    pub outcome: Outcome,
    /// Coverage per candidate.
    pub platforms: Vec<PlatformCoverage>,
    /// What speaks against it, worst first.
    pub problems: Vec<Problem>,
    /// What is worth a warning although the image is admitted (missing platforms, tags, `Warn` policies).
    pub warnings: Vec<Problem>,
    /// `Audit` findings: recorded, not shown to the person who applies.
    pub audit: Vec<Problem>,
    /// What it was admitted on.
    pub proofs: Vec<Proof>,
    /// Whether any policy names the image.
    pub matched: bool,
    /// When the verdict ends to hold by itself (`maxAge`).
    pub valid_until: Option<Timestamp>,
    /// The platforms the pod must be kept to for the verdict to hold (`uncoveredPlatforms: Constrain`).
    pub constrained: Option<Vec<Platform>>,
    /// What the audit log is told of it, as JSON, once somebody has written it: one verdict answers many reviews.
    pub told: OnceLock<Option<Arc<RawValue>>>,
}
