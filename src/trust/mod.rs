//! Whether an attestation is genuine: Sigstore verification under a trust root.
//!
//! What comes out verified says who signed (proved) and what was said (claimed). Whether that signer may sign for an
//! image is not decided here, and neither is whether the statement is about it: see `domain`.
//!
//! Nothing here does I/O or knows an async runtime. The bytes come from whoever may push to a registry: they are
//! bounded before they are read, and whatever they are, they give a [`Finding`] and never a panic.

mod bundle;
mod certificate;
mod chain;
mod entry;
mod legacy;
mod limits;
mod log;
mod refusal;
mod root;
mod sct;

use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::Timestamp;

pub use refusal::Refusal;
pub use root::{RootError, RootValidity};

use crate::{
    domain::{
        digest::Digest,
        evidence::{Attestation, Finding, Verified},
        identity::{Certificate, TrustRootName},
    },
    gather::ports::{RawAttestation, RawContent, TrustRoots},
};
use root::Root;

/// The trust roots in force.
pub struct Roots {
    root: Root,
}

impl Roots {
    /// Sigstore's public-good instance, as embedded in the program.
    ///
    /// # Errors
    /// Where the embedded root is not usable, which a test rules out.
    pub fn public_good() -> Result<Self, RootError> {
        Root::public_good().map(|root| Self { root })
    }

    /// One root in the format of Sigstore's `trusted_root.json`, in place of the embedded one.
    ///
    /// # Errors
    /// Where it does not parse, or holds a key or certificate that is not one.
    pub fn from_json(name: TrustRootName, json: &str) -> Result<Self, RootError> {
        Root::from_json(name, json).map(|root| Self { root })
    }

    /// In which time the root is of use, for metrics.
    pub fn validity(&self) -> RootValidity {
        self.root.validity
    }

    /// The digest of the root's JSON.
    pub fn fingerprint(&self) -> Digest {
        self.root.fingerprint
    }

    /// Verifies a Sigstore bundle about an artifact – a signature or an attestation – and gives its signer. Whether
    /// that signer may sign is not asked.
    ///
    /// # Errors
    /// The first check that does not hold.
    pub fn verify_artifact(
        &self,
        bundle: &[u8],
        artifact: &Digest,
        now: Timestamp,
    ) -> Result<Certificate, Refusal> {
        unless_it_panics(|| bundle::verify_artifact(&self.root, bundle, artifact, now))
    }

    fn find(&self, raw: &RawAttestation, now: Timestamp) -> Result<Verified, Refusal> {
        match &raw.content {
            RawContent::Bundle(json) => bundle::verify(&self.root, json, now),
            RawContent::CosignLayer { envelope, annotations } => {
                legacy::verify(&self.root, envelope, annotations, now)
            }
        }
    }
}

impl TrustRoots for Roots {
    fn verify(&self, raw: &RawAttestation, now: Timestamp) -> Attestation {
        let finding = match unless_it_panics(|| self.find(raw, now)) {
            Ok(verified) => Finding::Verified(Box::new(verified)),
            Err(refusal) => refusal.into(),
        };
        Attestation { layout: raw.layout, found_at: raw.found_at, finding }
    }

    fn generation(&self) -> u64 {
        let bytes = self.root.fingerprint;
        bytes.bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// The parsers below are other people's, the bytes are an attacker's: should one of them panic, it is a refusal.
fn unless_it_panics<T>(verify: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let outcome = catch_unwind(AssertUnwindSafe(verify));
    outcome.unwrap_or_else(|_| Err(Refusal::Malformed("verifying it ended in an internal error".to_owned())))
}
