//! Whether an attestation is genuine: Sigstore verification under a trust root.
//!
//! What comes out verified says who signed (proved) and what was said (claimed). Whether that signer may sign for an
//! image is not decided here, and neither is whether the statement is about it: see `domain`.
//!
//! Nothing here but `tuf` does I/O or knows an async runtime. The bytes come from whoever may push to a registry: they are
//! bounded before they are read, and whatever they are, they give a [`Finding`] and never a panic.

mod authority;
mod bundle;
mod certificate;
mod chain;
mod ends;
mod entry;
mod keeper;
mod keyed;
mod legacy;
mod limits;
mod log;
mod object;
mod refusal;
mod rekor;
mod root;
mod sct;
mod signature;
mod tsa;
pub mod tuf;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use jiff::Timestamp;
use sigstore_types::{Artifact, ArtifactDigest, DerCertificate, DerPublicKey, HashAlgorithm};

pub use keeper::{Followed, Keeper};
pub use object::{CompiledTrustRoot, compile as compile_trust_root};
pub use refusal::Refusal;
pub use root::{RootError, RootValidity};

use crate::{
    api::statement,
    domain::{
        digest::Digest,
        evidence::{Attestation, CertificateReading, Finding, Keyed, Verified},
        identity::{Certificate, TrustRootName},
        key::{KeyCheck, PublicKey},
        provenance::Statement,
    },
    gather::ports::{RawAttestation, RawContent, TrustRoots},
};
use bundle::SigstoreBundle;
use legacy::Layer;
use root::Root;

/// The trust roots in force, `sigstore` first. Each vouches for itself alone: what one of them accepts, no other does
/// because of it.
pub struct Roots {
    roots: Vec<Arc<Root>>,
    /// A digest over all that is in them.
    contents: Digest,
}

/// What a signature is held against.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// The bytes themselves.
    Bytes(&'a [u8]),
    /// Their digest.
    Digest(&'a Digest),
}

impl Roots {
    fn of(roots: Vec<Arc<Root>>) -> Self {
        let mut all = Vec::new();
        for root in &roots {
            all.extend_from_slice(root.name.0.as_bytes());
            all.push(0);
            all.extend_from_slice(root.fingerprint.bytes());
        }
        Self { roots, contents: Digest::of(&all) }
    }

    /// The roots that are embedded in the program: Sigstore's public-good instance, and GitHub's for private repositories.
    ///
    /// # Errors
    /// Where an embedded root is not usable, which a test rules out.
    pub fn embedded() -> Result<Self, RootError> {
        Ok(Self::of(vec![Root::public_good()?.into(), Root::github()?.into()]))
    }

    /// Sigstore's public-good instance alone.
    ///
    /// # Errors
    /// As [`Roots::embedded`].
    pub fn public_good() -> Result<Self, RootError> {
        Ok(Self::of(vec![Root::public_good()?.into()]))
    }

    /// One root in the format of Sigstore's `trusted_root.json`, and no other.
    ///
    /// # Errors
    /// Where it does not parse, or holds a key or certificate that is not one.
    pub fn from_json(name: TrustRootName, json: &str) -> Result<Self, RootError> {
        Ok(Self::of(vec![Root::from_json(name, json)?.into()]))
    }

    /// These and one more; it takes the place of one of the same name.
    ///
    /// # Errors
    /// As [`Roots::from_json`].
    pub fn with(mut self, name: TrustRootName, json: &str) -> Result<Self, RootError> {
        let root = Arc::new(Root::from_json(name, json)?);
        match self.roots.iter_mut().find(|known| known.name == root.name) {
            Some(known) => *known = root,
            None => self.roots.push(root),
        }
        Ok(Self::of(self.roots))
    }

    /// The names of the roots, and in which time each is of use.
    pub fn validities(&self) -> impl Iterator<Item = (&TrustRootName, RootValidity)> {
        self.roots.iter().map(|root| (&root.name, root.validity))
    }

    /// Verifies a Sigstore bundle about an artifact – a signature or an attestation – and gives its signer. Whether
    /// that signer may sign is not asked.
    ///
    /// # Errors
    /// The first check that does not hold.
    pub fn verify_artifact(
        &self,
        bundle: &[u8],
        artifact: Subject<'_>,
        now: Timestamp,
    ) -> Result<Certificate, Refusal> {
        unless_it_panics(|| {
            let read = SigstoreBundle::parse(bundle)?;
            read.statement()?;
            let verify = |root: &Root| read.verify(root, &artifact.to_library()?, now);
            let readings = self.under_each(read.certificates(), verify)?;
            let first = readings.into_iter().next().map(|reading| reading.certificate);
            first.ok_or_else(|| Refusal::Other("no trust root vouches for it".to_owned()))
        })
    }

    /// Verifies that the holder of a key signed an artifact, or a statement about it, and that a log has it.
    ///
    /// # Errors
    /// The first check that does not hold.
    pub fn verify_artifact_with_key(
        &self,
        bundle: &[u8],
        artifact: Subject<'_>,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        unless_it_panics(|| {
            let read = SigstoreBundle::parse(bundle)?;
            read.statement()?;
            if read.certificate()?.is_some() {
                return Err(Refusal::NotKey);
            }
            let key = DerPublicKey::new(key.spki().to_vec());
            let mut closest: Option<Refusal> = None;
            for root in self.roots.iter().filter(|root| root.demands.log) {
                match keyed::logged(&read, root, &artifact.to_library()?, &key, now) {
                    Ok(_) => return Ok(()),
                    Err(refusal) if closest.as_ref().is_none_or(Refusal::is_of_another_root) => {
                        closest = Some(refusal);
                    }
                    Err(_) => {}
                }
            }
            Err(closest.unwrap_or(Refusal::LogEntryMissing))
        })
    }

    fn find(&self, raw: &RawAttestation, now: Timestamp) -> Result<Finding, Refusal> {
        let keyed = |statement| Finding::Keyed(Box::new(Keyed { fingerprint: raw.fingerprint(), statement }));
        let verified = |readings, statement| Finding::Verified(Box::new(Verified { readings, statement }));
        match &raw.content {
            RawContent::Bundle(json) => {
                let read = SigstoreBundle::parse(json)?;
                let Some(statement) = read.statement()? else {
                    // The digest is the one that the bundle states, and that is verified.
                    let signed = read.signed_digest()?;
                    let artifact = Subject::Digest(&signed).to_library()?;
                    let verify = |root: &Root| read.verify(root, &artifact, now);
                    let readings = self.under_each(read.certificates(), verify)?;
                    return Ok(verified(readings, Statement::signature_of(signed)));
                };
                if read.certificate()?.is_none() {
                    return Ok(keyed(statement.try_into()?));
                }
                // The library wants to be told an artifact. It is told one that the statement names: that it is the
                // image's is found out from the subjects, which come from the very payload that is verified.
                let artifact = statement.digests().next().ok_or_else(|| {
                    Refusal::Malformed(
                        "its statement names no sha256 or sha512 digest of a subject".to_owned(),
                    )
                })?;
                let verify = |root: &Root| read.verify(root, &Subject::Digest(&artifact).to_library()?, now);
                let readings = self.under_each(read.certificates(), verify)?;
                Ok(verified(readings, statement.try_into()?))
            }
            RawContent::CosignLayer { envelope, annotations } if legacy::is_keyed(annotations) => {
                Ok(keyed(keyed::statement_of_layer(envelope)?))
            }
            RawContent::CosignLayer { envelope, annotations } => {
                let layer = Layer::parse(envelope, annotations)?;
                let verify = |root: &Root| layer.verify(root, now);
                let readings = self.under_each(std::iter::once(&layer.certificate), verify)?;
                Ok(verified(readings, layer.statement()?))
            }
        }
    }

    /// Verifies under every root that could have issued one of these certificates, and gives what each that vouches reads of it. Where
    /// none does, the refusal is of the one that comes closest.
    fn under_each<'a>(
        &self,
        certificates: impl Iterator<Item = &'a DerCertificate>,
        verify: impl Fn(&Root) -> Result<Certificate, Refusal>,
    ) -> Result<Vec<CertificateReading>, Refusal> {
        let certificates: Vec<&DerCertificate> = certificates.collect();
        let (mut readings, mut closest) = (Vec::new(), None);
        for root in &self.roots {
            if !certificates
                .iter()
                .any(|certificate| root.authorities.may_have_issued(certificate.as_bytes()))
            {
                continue;
            }
            match verify(root) {
                Ok(certificate) => {
                    readings.push(CertificateReading { trust_root: root.name.clone(), certificate });
                }
                Err(refusal) => {
                    if closest.as_ref().is_none_or(Refusal::is_of_another_root) {
                        closest = Some(refusal);
                    }
                }
            }
        }
        match closest {
            _ if !readings.is_empty() => Ok(readings),
            Some(refusal) => Err(refusal),
            None => Err(self.of_no_root(&certificates)),
        }
    }

    /// None of the roots has issued it; but first, it may not even be a certificate.
    fn of_no_root(&self, certificates: &[&DerCertificate]) -> Refusal {
        let unreadable = certificates.iter().find_map(|der| certificate::parse(der.as_bytes()).err());
        let names: Vec<&str> = self.roots.iter().map(|root| root.name.0.as_str()).collect();
        match (unreadable, certificates, names.as_slice()) {
            (Some(refusal), _, _) => refusal,
            (None, [], _) => Refusal::Key,
            (None, _, [one]) => Refusal::chain(one),
            (None, _, several) => Refusal::Chain(format!("any of the trust roots {}", several.join(", "))),
        }
    }
}

impl<'a> Subject<'a> {
    fn to_library(self) -> Result<Artifact<'a>, Refusal> {
        match self {
            Self::Bytes(bytes) => Ok(Artifact::from_blob(bytes)),
            Self::Digest(digest) => {
                let sha512 = digest.algorithm() == "sha512";
                let algorithm = if sha512 { HashAlgorithm::Sha2512 } else { HashAlgorithm::Sha2256 };
                ArtifactDigest::new(algorithm, digest.bytes().to_vec())
                    .map(Artifact::from_digest)
                    .map_err(|error| Refusal::unreadable("the digest cannot be used", &error))
            }
        }
    }
}

impl TrustRoots for Roots {
    fn verify(&self, raw: &RawAttestation, now: Timestamp) -> Attestation {
        let finding = unless_it_panics(|| self.find(raw, now)).unwrap_or_else(Finding::from);
        Attestation { layout: raw.layout, found_at: raw.found_at, finding }
    }

    fn check_key(&self, raw: &RawAttestation, key: &PublicKey, now: Timestamp) -> KeyCheck {
        unless_it_panics(|| Ok(keyed::check(&self.roots, &raw.content, key, now)))
            .unwrap_or_else(|refusal| KeyCheck::refused(refusal.to_string()))
    }

    fn read_statement(&self, payload: &[u8]) -> Result<Statement, String> {
        let read = || {
            limits::payload(payload)?;
            Ok(statement::parse(payload)?)
        };
        unless_it_panics(read).map_err(|refusal: Refusal| refusal.to_string())
    }

    fn generation(&self) -> u64 {
        self.contents.bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// What a Fulcio certificate (DER) says. Whether it is genuine is not asked: that is for [`Roots`].
///
/// # Errors
/// Where it is no certificate, or one that can be read in two ways.
pub fn claims(certificate: &[u8]) -> Result<Certificate, Refusal> {
    unless_it_panics(|| certificate::read(certificate, None))
}

/// The parsers below are other people's, the bytes are an attacker's: should one of them panic, it is a refusal.
fn unless_it_panics<T>(verify: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let outcome = catch_unwind(AssertUnwindSafe(verify));
    outcome.unwrap_or_else(|_| Err(Refusal::Malformed("verifying it ended in an internal error".to_owned())))
}
