//! Sigstore bundles v0.1–v0.3. The Sigstore libraries parse them and check their shape; signatures, chains, times and log entries are
//! verified here, in one order for every kind of entry and of key.
//!
//! Any identity is accepted here. Who may sign is for the policies, which have the certificate's contents.

use jiff::Timestamp;
use sigstore_bundle::{ValidationOptions, validate_bundle_with_options};
use sigstore_types::{
    Artifact, Bundle, DerCertificate, DerPublicKey, DsseEnvelope, HashAlgorithm, MediaType, SignatureBytes,
    SignatureContent, bundle::VerificationMaterialContent,
};

use super::{
    authority::{self, Alone},
    certificate,
    entry::{Content, Signed, Verifier},
    legacy, limits,
    log::CLOCK_SKEW,
    refusal::Refusal,
    rekor::{self, LogEntry, ParsedBundle},
    root::Root,
    sct, signature,
};
use crate::{
    api::statement::WireStatement,
    domain::{digest::Digest, identity::Certificate},
};

/// A bundle that was read and is not yet believed.
pub(super) struct SigstoreBundle {
    parsed: ParsedBundle,
    /// Whether it is one of v0.3 with a chain, which by its specification has one certificate.
    is_chained: bool,
}

impl SigstoreBundle {
    /// Reads a bundle, within limits.
    pub(super) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        limits::document(json)?;
        let mut parsed =
            rekor::parse(json).map_err(|error| Refusal::unreadable("it is not a Sigstore bundle", &error))?;
        if parsed.bundle.media_type == MediaType::Bundle0_1 {
            // In v0.1 the signed entry timestamp is what counts. A proof without a checkpoint proves nothing, and the
            // library refuses a bundle for it that is genuine without.
            for entry in &mut parsed.bundle.verification_material.tlog_entries {
                let worthless =
                    |proof: &mut sigstore_types::bundle::InclusionProof| proof.checkpoint.is_empty();
                if entry.inclusion_promise.is_some() {
                    entry.inclusion_proof.take_if(worthless);
                }
            }
        }
        limits::material(&parsed.bundle.verification_material)?;
        let is_chained = parsed.bundle.media_type == MediaType::Bundle0_3 && has_chain(&parsed.bundle);
        Ok(Self { parsed, is_chained })
    }

    const fn bundle(&self) -> &Bundle {
        &self.parsed.bundle
    }

    /// The certificate of the signer; none where it is signed with a key that it does not carry.
    pub(super) fn certificate(&self) -> Result<Option<&DerCertificate>, Refusal> {
        match &self.bundle().verification_material.content {
            VerificationMaterialContent::PublicKey(_) => Ok(None),
            _ => match self.bundle().signing_certificate() {
                Some(certificate) => Ok(Some(certificate)),
                None => Err(Refusal::Malformed("the bundle has neither a certificate nor a key".to_owned())),
            },
        }
    }

    /// The certificate and what of its chain the bundle brings along.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &DerCertificate> {
        let chain = match &self.bundle().verification_material.content {
            VerificationMaterialContent::X509CertificateChain { certificates } => certificates.as_slice(),
            _ => &[],
        };
        let one = self.bundle().signing_certificate().filter(|_| chain.is_empty());
        chain.iter().map(|certificate| &certificate.raw_bytes).chain(one)
    }

    /// The envelope, where it holds an attestation.
    pub(super) fn envelope(&self) -> Option<&DsseEnvelope> {
        match &self.bundle().content {
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
        let stated = match &self.bundle().content {
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
        let key = signature::key_of(der)?;
        // Every time that was signed counts: one that is in the certificate's validity does not make up for one that is not.
        let brought: Vec<_> = self.certificates().skip(1).collect();
        let mut issuer = None;
        for time in self.times(root, root.demands.log, now)? {
            if time < certificate.not_before || time > certificate.not_after {
                return Err(Refusal::CertificateTime(time));
            }
            issuer = Some(root.authorities.verify(der.as_bytes(), &brought, time, &root.name.0)?);
        }
        let issuer = issuer.ok_or(Refusal::NoTime)?;
        if root.demands.sct {
            root.ct_logs.verify(der.as_bytes(), &issuer)?;
        }
        self.check_content(&key, artifact, Verifier::Certificate(der))?;
        Ok(certificate)
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
        let data = &self.bundle().verification_material.timestamp_verification_data;
        let stamps: Vec<_> =
            data.rfc3161_timestamps.iter().map(|stamp| stamp.signed_timestamp.clone()).collect();
        let certificate = authority::verify(root, alone, (envelope, der), &stamps, now)?;
        if self.names(artifact) { Ok(certificate) } else { Err(Refusal::Artifact) }
    }

    /// The times that logs and timestamp authorities of the root signed. Every entry and every timestamp must hold; `wanted` says whether
    /// there must be an entry.
    pub(super) fn times(&self, root: &Root, wanted: bool, now: Timestamp) -> Result<Vec<Timestamp>, Refusal> {
        if wanted && self.entries().next().is_none() {
            return Err(Refusal::LogEntryMissing);
        }
        if !self.entries().all(|entry| entry.is_of(root)) {
            return Err(Refusal::UnknownLog(root.name.0.clone()));
        }
        if self.entries().any(|entry| entry.is_bare()) {
            return Err(Refusal::EntryUnproved);
        }
        let options =
            ValidationOptions::new().with_require_inclusion_proof(wanted).with_require_timestamp(false);
        validate_bundle_with_options(self.bundle(), &options).map_err(|error| Refusal::of_shape(&error))?;
        let mut times = Vec::new();
        let data = &self.bundle().verification_material.timestamp_verification_data;
        for stamp in &data.rfc3161_timestamps {
            times.push(root.timestamp_authorities.time(&stamp.signed_timestamp, self.signature()?)?);
        }
        let mut timeless: Vec<LogEntry<'_>> = Vec::new();
        for entry in self.entries() {
            match entry.verify(root)? {
                Some(time) => times.push(time),
                None => timeless.push(entry),
            }
        }
        if let Some(time) = times.iter().find(|time| time.duration_since(now) > CLOCK_SKEW) {
            return Err(Refusal::Future(*time));
        }
        timeless.iter().try_for_each(|entry| entry.is_in_use(root, &times, now))?;
        Ok(times)
    }

    /// That the key signed the artifact, or a statement about it, and that every log entry is about this very signature by this verifier.
    pub(super) fn check_content(
        &self,
        key: &DerPublicKey,
        artifact: &Artifact<'_>,
        verifier: Verifier<'_>,
    ) -> Result<(), Refusal> {
        let content = match &self.bundle().content {
            SignatureContent::DsseEnvelope(envelope) => {
                signature::verify(key, &envelope.pae(), &envelope.signature.sig)?;
                if !self.names(artifact) {
                    return Err(Refusal::Artifact);
                }
                Content::Envelope { envelope, bytes: None }
            }
            SignatureContent::MessageSignature(message) => {
                signature::verify_artifact(key, message, artifact)?;
                Content::Artifact { artifact, signature: &message.signature }
            }
            _ => return Err(Refusal::Malformed("the bundle has no signature".to_owned())),
        };
        let signed = Signed { content, verifier };
        self.entries().try_for_each(|entry| entry.describes(&signed))
    }

    fn signature(&self) -> Result<&SignatureBytes, Refusal> {
        match &self.bundle().content {
            SignatureContent::DsseEnvelope(envelope) => Ok(&envelope.signature.sig),
            SignatureContent::MessageSignature(message) => Ok(&message.signature),
            _ => Err(Refusal::Malformed("the bundle has no signature".to_owned())),
        }
    }

    fn entries(&self) -> impl Iterator<Item = LogEntry<'_>> {
        self.parsed.entries()
    }

    /// Whether its statement says that it is about this artifact.
    fn names(&self, artifact: &Artifact<'_>) -> bool {
        let digests = [HashAlgorithm::Sha2256, HashAlgorithm::Sha2512]
            .map(|algorithm| signature::digest_of(artifact, algorithm).ok());
        let is_named =
            |digest: Digest| digests.iter().flatten().any(|known| known.as_slice() == digest.bytes());
        self.statement()
            .is_ok_and(|statement| statement.is_some_and(|statement| statement.digests().any(is_named)))
    }
}

fn has_chain(bundle: &Bundle) -> bool {
    matches!(bundle.verification_material.content, VerificationMaterialContent::X509CertificateChain { .. })
}
