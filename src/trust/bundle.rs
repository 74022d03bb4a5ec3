//! Sigstore bundles v0.1–v0.3, verified by `sigstore-verify`, with what it leaves to its caller: limits, the kinds of log
//! entries it does not know, the certificate's contents, and times in the future.
//!
//! The library accepts any identity here. Who may sign is for the policies, which have the certificate's contents.

use jiff::Timestamp;
use sigstore_crypto::sha256;
use sigstore_tsa::verify_timestamp_for_authority;
use sigstore_types::{
    Artifact, Bundle, DerCertificate, DsseEnvelope, HashAlgorithm, KindVersion, MediaType, SignatureBytes,
    SignatureContent, TransparencyLogEntry, bundle::VerificationMaterialContent,
};
use sigstore_verify::VerificationPolicy;

use super::{
    authority::{self, Alone},
    certificate,
    entry::{Signed, Verifier, describes},
    legacy, limits,
    log::CLOCK_SKEW,
    refusal::Refusal,
    rekor2,
    root::Root,
    sct,
};
use crate::{
    api::statement::WireStatement,
    domain::{digest::Digest, identity::Certificate},
};

/// A bundle that was read and is not yet believed.
pub(super) struct SigstoreBundle {
    pub(super) bundle: Bundle,
    /// Log entries that the library does not know, and that are not in its bundle.
    pub(super) others: Vec<rekor2::Entry>,
    /// Whether it is one of v0.3 with a chain, which by its specification has one certificate.
    is_chained: bool,
}

impl SigstoreBundle {
    /// Reads a bundle, within limits.
    pub(super) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        limits::document(json)?;
        let unreadable =
            |error: &serde_json::Error| Refusal::unreadable("it is not a Sigstore bundle", error);
        let (mut bundle, mut others) = match serde_json::from_slice::<Bundle>(json) {
            Ok(bundle) => (bundle, Vec::new()),
            Err(error) => match rekor2::take_out(json) {
                Some(read) => read.map_err(|error| unreadable(&error))?,
                None => return Err(unreadable(&error)),
            },
        };
        others.extend(rekor2::take_out_other_keys(&mut bundle));
        if bundle.media_type == MediaType::Bundle0_1 {
            // In v0.1 the signed entry timestamp is what counts. A proof without a checkpoint proves nothing, and the
            // library refuses a bundle for it that is genuine without.
            for entry in &mut bundle.verification_material.tlog_entries {
                let worthless =
                    |proof: &mut sigstore_types::bundle::InclusionProof| proof.checkpoint.is_empty();
                if entry.inclusion_promise.is_some() {
                    entry.inclusion_proof.take_if(worthless);
                }
            }
        }
        let is_chained = bundle.media_type == MediaType::Bundle0_3 && has_chain(&bundle);
        let read = Self { bundle, others, is_chained };
        limits::material(&read.bundle.verification_material, read.entries())?;
        Ok(read)
    }

    /// The certificate of the signer; none where it is signed with a key that it does not carry.
    pub(super) fn certificate(&self) -> Result<Option<&DerCertificate>, Refusal> {
        match &self.bundle.verification_material.content {
            VerificationMaterialContent::PublicKey(_) => Ok(None),
            _ => match self.bundle.signing_certificate() {
                Some(certificate) => Ok(Some(certificate)),
                None => Err(Refusal::Malformed("the bundle has neither a certificate nor a key".to_owned())),
            },
        }
    }

    /// The certificate and what of its chain the bundle brings along.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &DerCertificate> {
        let chain = match &self.bundle.verification_material.content {
            VerificationMaterialContent::X509CertificateChain { certificates } => certificates.as_slice(),
            _ => &[],
        };
        let one = self.bundle.signing_certificate().filter(|_| chain.is_empty());
        chain.iter().map(|certificate| &certificate.raw_bytes).chain(one)
    }

    /// The envelope, where it holds an attestation.
    pub(super) fn envelope(&self) -> Option<&DsseEnvelope> {
        match &self.bundle.content {
            SignatureContent::DsseEnvelope(envelope) => Some(envelope),
            _ => None,
        }
    }

    /// The statement of an attestation, as it is signed and not yet believed.
    pub(super) fn statement(&self) -> Result<Option<WireStatement<'_>>, Refusal> {
        let Some(envelope) = self.envelope() else { return Ok(None) };
        legacy::payload_type(envelope)?;
        limits::payload(envelope.payload.as_bytes())?;
        let statement = WireStatement::from_slice(envelope.payload.as_bytes())?;
        statement.check_type()?;
        Ok(Some(statement))
    }

    /// The digest that is signed without a statement around it, as the bundle says and nobody yet believes.
    pub(super) fn signed_digest(&self) -> Result<Digest, Refusal> {
        let stated = match &self.bundle.content {
            SignatureContent::MessageSignature(message) => message.message_digest.as_ref(),
            _ => None,
        };
        let sha256 = stated.filter(|stated| stated.algorithm == HashAlgorithm::Sha2256);
        let digest = sha256.and_then(|stated| stated.digest.as_bytes().try_into().ok()).map(Digest::sha256);
        digest.ok_or_else(|| {
            Refusal::Malformed("it signs something, and does not state the sha256 digest of it".to_owned())
        })
    }

    /// Verifies that the holder of the certificate signed `artifact`, or a statement about it.
    pub(super) fn verify(
        &self,
        root: &Root,
        artifact: &Artifact<'_>,
        now: Timestamp,
    ) -> Result<Certificate, Refusal> {
        let der = self.certificate()?.ok_or(Refusal::Key)?;
        if let Some(alone) = &root.alone {
            return self.verify_alone(root, alone, artifact, der, now);
        }
        if self.is_chained {
            // cosign writes it for authorities of one's own (`--certificate-chain`), of which no Sigstore knows.
            let reason = "a bundle of v0.3 has one certificate; with a chain it is believed under a certificateAuthority alone";
            return Err(Refusal::Malformed(reason.to_owned()));
        }
        let certificate = certificate::read(der.as_bytes(), None)?;
        if root.demands.sct && !sct::is_embedded(der.as_bytes())? {
            return Err(Refusal::SctMissing);
        }
        self.check_entries(root, root.demands.log, now)?;
        let by_library = !self.bundle.verification_material.tlog_entries.is_empty();
        let mut policy = VerificationPolicy::any_identity();
        if !by_library {
            policy = policy.skip_tlog_unsafe();
        }
        if !root.demands.sct {
            policy = policy.skip_sct();
        }
        let verifier = Verifier::Certificate(der);
        let result = root.verifier.verify(artifact.clone(), &self.bundle, &policy).map_err(|error| {
            let refusal = Refusal::of_library(&error, &root.name.0);
            self.dated(self.explained(refusal, artifact, verifier), root, &certificate)
        })?;
        self.check_others(root, verifier)?;
        self.check_times(root, result.verified_timestamps(), now)?;
        // The policy above asks for all of it; should it ever not, nothing is believed.
        let logged = (by_library && result.tlog_verified()) || !self.others.is_empty() || !root.demands.log;
        if result.certificate_verified() && (result.sct_verified() || !root.demands.sct) && logged {
            Ok(certificate)
        } else {
            Err(Refusal::Other("not every check of it was made".to_owned()))
        }
    }

    /// The same, under an authority alone.
    fn verify_alone(
        &self,
        root: &Root,
        alone: &Alone,
        artifact: &Artifact<'_>,
        der: &DerCertificate,
        now: Timestamp,
    ) -> Result<Certificate, Refusal> {
        let envelope = self.envelope().ok_or_else(|| {
            Refusal::Other("under an authority alone, attestations are verified and nothing else".to_owned())
        })?;
        let data = &self.bundle.verification_material.timestamp_verification_data;
        let stamps: Vec<_> =
            data.rfc3161_timestamps.iter().map(|stamp| stamp.signed_timestamp.clone()).collect();
        let certificate = authority::verify(root, alone, (envelope, der), &stamps, now)?;
        if self.names(artifact) { Ok(certificate) } else { Err(Refusal::Artifact) }
    }

    /// What a log entry must be before the library looks at it: there, of a log of the root, proved, not of the future.
    pub(super) fn check_entries(&self, root: &Root, wanted: bool, now: Timestamp) -> Result<(), Refusal> {
        let future = |time: &Timestamp| time.duration_since(now) > CLOCK_SKEW;
        if let Some(time) = self.entries().filter_map(|entry| entry.integrated_time).find(future) {
            return Err(Refusal::Future(time));
        }
        if wanted && self.entries().next().is_none() {
            return Err(Refusal::LogEntryMissing);
        }
        // Tells a log of another instance from a signature that does not hold, which the library does not.
        let known = |entry: &TransparencyLogEntry| {
            rekor2::log_of(entry).is_some_and(|log| match signed_time(entry) {
                Some(time) => root.logs.key_at(&log, time).is_some(),
                None => root.logs.key(&log).is_some(),
            })
        };
        if !self.entries().all(known) {
            return Err(Refusal::UnknownLog(root.name.0.clone()));
        }
        let bare = |entry: &TransparencyLogEntry| {
            entry.inclusion_promise.is_none() && entry.inclusion_proof.is_none()
        };
        if self.entries().any(bare) { Err(Refusal::EntryUnproved) } else { Ok(()) }
    }

    /// The entries that the library does not see.
    pub(super) fn check_others(&self, root: &Root, verifier: Verifier<'_>) -> Result<(), Refusal> {
        if self.others.is_empty() {
            return Ok(());
        }
        let envelope = self.envelope().ok_or(Refusal::EntryMismatch)?;
        // The entries here do not bind the envelope's JSON.
        let signed = Signed { bytes: &[], envelope, verifier };
        self.others.iter().try_for_each(|entry| rekor2::verify(entry, root, &signed))
    }

    /// The times that were verified: none in the future, and each one at which the logs were in use.
    pub(super) fn check_times(
        &self,
        root: &Root,
        times: &[Timestamp],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if let Some(time) = times.iter().find(|time| time.duration_since(now) > CLOCK_SKEW) {
            return Err(Refusal::Future(*time));
        }
        let timeless = self.entries().filter(|entry| signed_time(entry).is_none());
        timeless.into_iter().try_for_each(|entry| rekor2::in_use(entry, root, times))
    }

    fn entries(&self) -> impl Iterator<Item = &TransparencyLogEntry> {
        let others = self.others.iter().map(|other| &other.entry);
        self.bundle.verification_material.tlog_entries.iter().chain(others)
    }

    /// To the library, an entry that is about something else may be unreadable, or the artifact the wrong one.
    pub(super) fn explained(
        &self,
        refusal: Refusal,
        artifact: &Artifact<'_>,
        verifier: Verifier<'_>,
    ) -> Refusal {
        let differs = match &refusal {
            Refusal::Artifact => self.names(artifact),
            Refusal::Malformed(_) => self.envelope().is_some_and(|envelope| {
                let signed = Signed { bytes: &[], envelope, verifier };
                self.entries().any(|entry| {
                    describes(entry.canonicalized_body.as_bytes(), &signed) == Err(Refusal::EntryMismatch)
                })
            }),
            _ => false,
        };
        if differs { Refusal::EntryMismatch } else { refusal }
    }

    /// Whether it says of itself that it is about this artifact.
    pub(super) fn names(&self, artifact: &Artifact<'_>) -> bool {
        let hash = match (artifact.blob(), artifact.digest()) {
            (Some(blob), _) => sha256(blob).as_bytes().to_vec(),
            (None, Some(digest)) => digest.as_bytes().to_vec(),
            (None, None) => return false,
        };
        match &self.bundle.content {
            SignatureContent::MessageSignature(message) => {
                message.message_digest.as_ref().is_some_and(|digest| digest.digest.as_bytes() == hash)
            }
            _ => self.statement().is_ok_and(|statement| {
                statement.is_some_and(|statement| statement.digests().any(|digest| digest.bytes() == hash))
            }),
        }
    }

    /// To the library, a certificate that had run out is a chain that does not hold. Names the time instead.
    fn dated(&self, refusal: Refusal, root: &Root, certificate: &Certificate) -> Refusal {
        let Refusal::Chain(_) = refusal else { return refusal };
        let validity = certificate.not_before..=certificate.not_after;
        let mut times = self.entries().filter_map(signed_time).chain(self.timestamps(root));
        times.find(|time| !validity.contains(time)).map_or(refusal, Refusal::CertificateTime)
    }

    /// The times of the RFC 3161 timestamps that authorities of the root vouch for.
    fn timestamps(&self, root: &Root) -> Vec<Timestamp> {
        let signature: &SignatureBytes = match &self.bundle.content {
            SignatureContent::DsseEnvelope(envelope) => &envelope.signature.sig,
            SignatureContent::MessageSignature(message) => &message.signature,
            _ => return Vec::new(),
        };
        let stamps = &self.bundle.verification_material.timestamp_verification_data.rfc3161_timestamps;
        let time = |stamp: &sigstore_types::bundle::Rfc3161Timestamp| {
            root.timestamp_authorities.iter().find_map(|authority| {
                verify_timestamp_for_authority(&stamp.signed_timestamp, signature, authority).ok()
            })
        };
        stamps.iter().filter_map(time).collect()
    }
}

fn has_chain(bundle: &Bundle) -> bool {
    matches!(bundle.verification_material.content, VerificationMaterialContent::X509CertificateChain { .. })
}

/// The time that an entry's log signed. Rekor v2 signs none, whatever the bundle states.
fn signed_time(entry: &TransparencyLogEntry) -> Option<Timestamp> {
    entry.integrated_time.filter(|_| entry.kind_version != KindVersion::HashedRekordV002)
}
