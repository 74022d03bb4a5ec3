//! Layers of cosign `.att` manifests, verified by ourselves: `sigstore-verify` knows bundles only, and no log entries
//! of kind `intoto` 0.0.1, which slsa-github-generator wrote until v1.9.
//!
//! Held: the log's signature on entry and time, the certificate's chain, purpose and validity at that time, its
//! certificate-transparency timestamp, the envelope's signature, and that the entry is about all of these.
//! The annotation with the chain is not read: the trust root holds every intermediate.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sigstore_types::{DerCertificate, DsseEnvelope};

use super::{
    authority, certificate,
    entry::{Content, Signed, Verifier, describes},
    limits,
    log::LoggedEntry,
    refusal::{Refusal, quoted},
    root::Root,
    signature,
};
use crate::{
    api::statement::{self, PAYLOAD_TYPE},
    domain::{identity::Certificate, provenance::Statement},
};

const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
pub(super) const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";

/// A layer that was read and is not yet believed.
pub(super) struct Layer<'a> {
    bytes: &'a [u8],
    envelope: DsseEnvelope,
    pub(super) certificate: DerCertificate,
    entry: Option<LoggedEntry>,
}

/// Whether a layer is signed with a key that it does not carry.
pub(super) fn is_keyed(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(CERTIFICATE).is_none_or(String::is_empty)
}

impl<'a> Layer<'a> {
    /// Reads a layer, within limits.
    pub(super) fn parse(bytes: &'a [u8], annotations: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        limits::document(bytes)?;
        let envelope: DsseEnvelope = serde_json::from_slice(bytes)
            .map_err(|error| Refusal::unreadable("it is not a DSSE envelope with one signature", &error))?;
        payload_type(&envelope)?;
        limits::payload(envelope.payload.as_bytes())?;
        let pem = annotation(annotations, CERTIFICATE)?.ok_or(Refusal::Key)?;
        let certificate = DerCertificate::from_pem(pem)
            .map_err(|error| Refusal::unreadable("its certificate cannot be read", &error))?;
        limits::der(certificate.as_bytes())?;
        let entry = annotation(annotations, LOG_ENTRY)?.map(LoggedEntry::parse).transpose()?;
        Ok(Self { bytes, envelope, certificate, entry })
    }

    /// Verifies it. Under a root without a log nothing in a layer says when it was signed, so that none verifies.
    pub(super) fn verify(&self, root: &Root, now: Timestamp) -> Result<Certificate, Refusal> {
        let Self { bytes, envelope, certificate, entry } = self;
        if let Some(alone) = &root.alone {
            return authority::verify(root, alone, (envelope, certificate), &[], now);
        }
        let missing = if root.demands.log { Refusal::LogEntryMissing } else { Refusal::NoTime };
        let entry = entry.as_ref().ok_or(missing)?;
        let time = entry.verify(&root.logs, now, &root.name.0)?;
        let claims = certificate::read(certificate.as_bytes(), None)?;
        if time < claims.not_before || time > claims.not_after {
            return Err(Refusal::CertificateTime(time));
        }
        let issuer = root.authorities.verify(certificate.as_bytes(), &[], time, &root.name.0)?;
        if root.demands.sct {
            root.ct_logs.verify(certificate.as_bytes(), &issuer)?;
        }
        signature(envelope, certificate)?;
        let content = Content::Envelope { envelope, bytes: Some(bytes) };
        describes(entry.body(), None, &Signed { content, verifier: Verifier::Certificate(certificate) })?;
        Ok(claims)
    }

    /// What it says. It says something once [`Self::verify`] has succeeded.
    pub(super) fn statement(&self) -> Result<Statement, Refusal> {
        Ok(statement::parse(self.envelope.payload.as_bytes())?)
    }
}

/// That the envelope holds an in-toto statement.
pub(super) fn payload_type(envelope: &DsseEnvelope) -> Result<(), Refusal> {
    if envelope.payload_type != PAYLOAD_TYPE {
        let found = quoted(&envelope.payload_type);
        return Err(Refusal::Malformed(format!("its envelope holds {found}, not an in-toto statement")));
    }
    Ok(())
}

/// The annotation of this name, where it says something.
pub(super) fn annotation<'a>(
    annotations: &'a BTreeMap<String, String>,
    name: &str,
) -> Result<Option<&'a str>, Refusal> {
    let Some(text) = annotations.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    limits::annotation(text)?;
    Ok(Some(text))
}

/// That the envelope is signed with the certificate's key.
pub(super) fn signature(envelope: &DsseEnvelope, certificate: &DerCertificate) -> Result<(), Refusal> {
    let key = signature::key_of(certificate)?;
    signature::verify(&key, &envelope.pae(), &envelope.signature.sig)
}
