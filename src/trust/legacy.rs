//! Layers of cosign `.att` manifests, verified by ourselves: `sigstore-verify` knows bundles only, and no log entries
//! of kind `intoto` 0.0.1, which slsa-github-generator wrote until v1.9.
//!
//! Held: the log's signature on entry and time, the certificate's chain, purpose and validity at that time, its
//! certificate-transparency timestamp, the envelope's signature, and that the entry is about all of these.
//! The annotation with the chain is not read: the trust root holds every intermediate.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sigstore_crypto::{parse_certificate_info, verify_signature};
use sigstore_types::{DerCertificate, DsseEnvelope};

use super::{
    certificate,
    entry::{Signed, describes},
    limits,
    log::LoggedEntry,
    refusal::{Refusal, quoted},
    root::Root,
};
use crate::{
    api::statement::{self, PAYLOAD_TYPE},
    domain::evidence::Verified,
};

const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";

/// Verifies a layer.
pub(super) fn verify(
    root: &Root,
    bytes: &[u8],
    annotations: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    limits::document(bytes)?;
    let envelope: DsseEnvelope = serde_json::from_slice(bytes)
        .map_err(|error| Refusal::unreadable("it is not a DSSE envelope with one signature", &error))?;
    payload_type(&envelope)?;
    limits::payload(envelope.payload.as_bytes())?;

    let pem = annotation(annotations, CERTIFICATE)?.ok_or(Refusal::Unsupported(KEY))?;
    let certificate = DerCertificate::from_pem(pem)
        .map_err(|error| Refusal::unreadable("its certificate cannot be read", &error))?;
    limits::der(certificate.as_bytes())?;
    let entry = annotation(annotations, LOG_ENTRY)?.ok_or(Refusal::LogEntryMissing)?;
    let entry = LoggedEntry::parse(entry)?;

    let time = entry.verify(&root.logs, now, &root.name.0)?;
    let claims = certificate::read(certificate.as_bytes())?;
    if time < claims.not_before || time > claims.not_after {
        return Err(Refusal::CertificateTime(time));
    }
    let issuer = root.authorities.verify(certificate.as_bytes(), time, &root.name.0)?;
    root.ct_logs.verify(certificate.as_bytes(), &issuer)?;
    signature(&envelope, &certificate)?;
    describes(entry.body(), &Signed { bytes, envelope: &envelope, certificate: &certificate })?;

    let statement = statement::parse(envelope.payload.as_bytes())?;
    Ok(Verified { trust_root: root.name.clone(), certificate: claims, statement })
}

/// What is signed with a key that the attestation does not carry.
pub(super) const KEY: &str = "it is signed with a key instead of a certificate";

/// That the envelope holds an in-toto statement.
pub(super) fn payload_type(envelope: &DsseEnvelope) -> Result<(), Refusal> {
    if envelope.payload_type != PAYLOAD_TYPE {
        let found = quoted(&envelope.payload_type);
        return Err(Refusal::Malformed(format!("its envelope holds {found}, not an in-toto statement")));
    }
    Ok(())
}

fn annotation<'a>(annotations: &'a BTreeMap<String, String>, name: &str) -> Result<Option<&'a str>, Refusal> {
    let Some(text) = annotations.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    limits::annotation(text)?;
    Ok(Some(text))
}

fn signature(envelope: &DsseEnvelope, certificate: &DerCertificate) -> Result<(), Refusal> {
    let key = parse_certificate_info(certificate)
        .map_err(|error| Refusal::unreadable("its certificate cannot be read", &error))?;
    let scheme = key.key_algorithm.default_signing_scheme();
    verify_signature(&key.public_key, &envelope.pae(), &envelope.signature.sig, scheme)
        .map_err(|_| Refusal::Signature)
}
