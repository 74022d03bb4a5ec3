//! Sigstore bundles v0.1–v0.3, verified by `sigstore-verify`, with what it leaves to its caller: limits, what is
//! supported, the certificate's contents, and times in the future.
//!
//! The library accepts any identity here. Who may sign is for the policies, which have the certificate's contents.

use jiff::Timestamp;
use sigstore_types::{
    Artifact, ArtifactDigest, Bundle, DsseEnvelope, HashAlgorithm, KindVersion, MediaType, Sha256Hash,
    SignatureContent, bundle::VerificationMaterialContent,
};
use sigstore_verify::VerificationPolicy;

use super::{
    certificate,
    legacy::{self, KEY},
    limits,
    log::CLOCK_SKEW,
    refusal::Refusal,
    root::Root,
    sct,
};
use crate::{
    api::statement::WireStatement,
    domain::{digest::Digest, evidence::Verified, identity::Certificate},
};

/// Verifies a bundle that holds an attestation.
pub(super) fn verify(root: &Root, json: &[u8], now: Timestamp) -> Result<Verified, Refusal> {
    let bundle = parse(json)?;
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
        return Err(Refusal::Malformed("it is a signature of an artifact, not an attestation".to_owned()));
    };
    // The library wants to be told an artifact. It is told one that the statement names: that it is the image's is
    // found out from the subjects, which come from the very payload that is verified.
    let statement = read_statement(envelope)?;
    let artifact = statement.digests().next().ok_or_else(|| {
        Refusal::Malformed("its statement names no sha256 or sha512 digest of a subject".to_owned())
    })?;
    let certificate = check(root, &bundle, &artifact, now)?;
    Ok(Verified { trust_root: root.name.clone(), certificate, statement: statement.try_into()? })
}

/// Verifies a bundle of either kind – an attestation, or a signature of an artifact – about an artifact.
pub(super) fn verify_artifact(
    root: &Root,
    json: &[u8],
    artifact: &Digest,
    now: Timestamp,
) -> Result<Certificate, Refusal> {
    let bundle = parse(json)?;
    if let SignatureContent::DsseEnvelope(envelope) = &bundle.content {
        read_statement(envelope)?;
    }
    check(root, &bundle, artifact, now)
}

fn read_statement(envelope: &DsseEnvelope) -> Result<WireStatement, Refusal> {
    legacy::payload_type(envelope)?;
    limits::payload(envelope.payload.as_bytes())?;
    Ok(WireStatement::from_slice(envelope.payload.as_bytes())?)
}

fn parse(json: &[u8]) -> Result<Bundle, Refusal> {
    limits::document(json)?;
    let mut bundle: Bundle = serde_json::from_slice(json)
        .map_err(|error| Refusal::unreadable("it is not a Sigstore bundle", &error))?;
    if bundle.media_type == MediaType::Bundle0_1 {
        // In v0.1 the signed entry timestamp is what counts. A proof without a checkpoint proves nothing, and the
        // library refuses a bundle for it that is genuine without.
        for entry in &mut bundle.verification_material.tlog_entries {
            let worthless = |proof: &mut sigstore_types::bundle::InclusionProof| proof.checkpoint.is_empty();
            if entry.inclusion_promise.is_some() {
                entry.inclusion_proof.take_if(worthless);
            }
        }
    }
    Ok(bundle)
}

fn check(root: &Root, bundle: &Bundle, artifact: &Digest, now: Timestamp) -> Result<Certificate, Refusal> {
    supported(bundle)?;
    let der = bundle.signing_certificate().ok_or(Refusal::Unsupported(KEY))?;
    let certificate = certificate::read(der.as_bytes())?;
    if !sct::is_embedded(der.as_bytes())? {
        return Err(Refusal::SctMissing);
    }
    let future = |time: Timestamp| time.duration_since(now) > CLOCK_SKEW;
    let entries = &bundle.verification_material.tlog_entries;
    if let Some(time) = entries.iter().filter_map(|entry| entry.integrated_time).find(|time| future(*time)) {
        return Err(Refusal::Future(time));
    }
    known_logs(root, bundle)?;
    let result = root
        .verifier
        .verify(artifact_of(artifact)?, bundle, &VerificationPolicy::any_identity())
        .map_err(|error| dated(Refusal::of_library(&error, &root.name.0), bundle, &certificate))?;
    if let Some(time) = result.verified_timestamps().iter().find(|time| future(**time)) {
        return Err(Refusal::Future(*time));
    }
    // The policy above asks for all three; should it ever not, nothing is believed.
    if result.certificate_verified() && result.sct_verified() && result.tlog_verified() {
        Ok(certificate)
    } else {
        Err(Refusal::Other("not every check of it was made".to_owned()))
    }
}

/// To the library, a certificate that had run out is a chain that does not hold. Names the time instead.
fn dated(refusal: Refusal, bundle: &Bundle, certificate: &Certificate) -> Refusal {
    let validity = certificate.not_before..=certificate.not_after;
    let mut times =
        bundle.verification_material.tlog_entries.iter().filter_map(|entry| entry.integrated_time);
    match (refusal, times.find(|time| !validity.contains(time))) {
        (Refusal::Chain(_), Some(time)) => Refusal::CertificateTime(time),
        (refusal, _) => refusal,
    }
}

/// Tells a log of another instance from a signature that does not hold, which the library does not.
fn known_logs(root: &Root, bundle: &Bundle) -> Result<(), Refusal> {
    for entry in &bundle.verification_material.tlog_entries {
        let known = Sha256Hash::try_from(entry.log_id.key_id.as_bytes()).is_ok_and(|log| {
            match entry.integrated_time {
                Some(time) => root.logs.key_at(&log, time).is_some(),
                None => root.logs.key(&log).is_some(),
            }
        });
        if !known {
            return Err(Refusal::UnknownLog(root.name.0.clone()));
        }
    }
    Ok(())
}

/// What is genuine perhaps and left to a later release, and what the library does not insist on.
fn supported(bundle: &Bundle) -> Result<(), Refusal> {
    let material = &bundle.verification_material;
    limits::material(material)?;
    if !matches!(
        material.content,
        VerificationMaterialContent::Certificate(_)
            | VerificationMaterialContent::X509CertificateChain { .. }
    ) {
        return Err(Refusal::Unsupported(KEY));
    }
    let entries = &material.tlog_entries;
    let timestamps = material.timestamp_verification_data.rfc3161_timestamps.len();
    if entries.is_empty() && timestamps > 0 {
        return Err(Refusal::Unsupported(
            "it has a timestamp and no transparency log entry, as from GitHub's instance for private repositories",
        ));
    }
    if entries.is_empty() {
        return Err(Refusal::LogEntryMissing);
    }
    if entries.iter().any(|entry| entry.kind_version == KindVersion::HashedRekordV002) {
        return Err(Refusal::Unsupported("its log entry is of Rekor v2"));
    }
    if entries.iter().any(|entry| entry.inclusion_promise.is_none() && entry.inclusion_proof.is_none()) {
        return Err(Refusal::EntryUnproved);
    }
    Ok(())
}

fn artifact_of(digest: &Digest) -> Result<Artifact<'static>, Refusal> {
    let algorithm =
        if digest.algorithm() == "sha512" { HashAlgorithm::Sha2512 } else { HashAlgorithm::Sha2256 };
    ArtifactDigest::new(algorithm, digest.bytes().to_vec())
        .map(Artifact::from_digest)
        .map_err(|error| Refusal::unreadable("the digest cannot be used", &error))
}
