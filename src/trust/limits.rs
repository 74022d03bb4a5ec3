//! What is refused for its size before anything reads it. Whoever may push to a repository chooses these bytes.

use sigstore_types::bundle::{VerificationMaterial, VerificationMaterialContent};

use super::refusal::Refusal;
use crate::domain::json_limits::{MAX_JSON_VALUES, has_too_many_values};

/// The largest envelope or bundle.
const MAX_BYTES: usize = 16 << 20;
/// The largest payload of an envelope.
const MAX_PAYLOAD_BYTES: usize = 8 << 20;
/// The largest annotation that is read.
const MAX_ANNOTATION_BYTES: usize = 1 << 20;
/// How many log entries a bundle may have.
const MAX_LOG_ENTRIES: usize = 8;
/// How many RFC 3161 timestamps a bundle may have.
const MAX_TIMESTAMPS: usize = 8;
/// How many certificates a chain may have.
const MAX_CERTIFICATES: usize = 10;
/// The largest certificate, and the largest RFC 3161 timestamp.
const MAX_DER_BYTES: usize = 64 << 10;
/// The largest body of a log entry: hashes, signatures and who made them.
const MAX_BODY_BYTES: usize = 256 << 10;
/// How many signatures a checkpoint may have: the log's and its witnesses'. Each costs a verification.
const MAX_CHECKPOINT_SIGNATURES: usize = 16;

/// How many signatures an envelope may have. Each costs a verification for every key.
const MAX_SIGNATURES: usize = 16;

/// An envelope or a bundle.
pub(super) fn document(json: &[u8]) -> Result<(), Refusal> {
    if json.len() > MAX_BYTES {
        return Err(Refusal::Malformed(format!("it is larger than {} MiB", MAX_BYTES >> 20)));
    }
    values(json)
}

/// The payload of an envelope. How many values it holds does not matter: what nobody asks for is not taken apart.
pub(super) fn payload(json: &[u8]) -> Result<(), Refusal> {
    if json.len() > MAX_PAYLOAD_BYTES {
        return Err(Refusal::Malformed(format!(
            "its payload is larger than {} MiB",
            MAX_PAYLOAD_BYTES >> 20
        )));
    }
    Ok(())
}

/// An annotation of a layer.
pub(super) fn annotation(text: &str) -> Result<(), Refusal> {
    if text.len() > MAX_ANNOTATION_BYTES {
        return Err(Refusal::Malformed("one of its annotations is larger than 1 MiB".to_owned()));
    }
    Ok(())
}

/// A certificate or a timestamp.
pub(super) fn der(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > MAX_DER_BYTES {
        let most = MAX_DER_BYTES >> 10;
        return Err(Refusal::Malformed(format!(
            "one of its certificates or timestamps is larger than {most} KiB"
        )));
    }
    Ok(())
}

/// The body of a log entry, which is JSON in base64: its values are not among those of what it is in.
pub(super) fn entry_body(json: &[u8]) -> Result<(), Refusal> {
    if json.len() > MAX_BODY_BYTES {
        let most = MAX_BODY_BYTES >> 10;
        return Err(Refusal::Malformed(format!(
            "the body of one of its log entries is larger than {most} KiB"
        )));
    }
    values(json)
}

/// The signatures of an envelope.
pub(super) fn signatures(count: usize) -> Result<(), Refusal> {
    if count > MAX_SIGNATURES {
        return Err(Refusal::Malformed(format!(
            "its envelope has {count} signatures; at most {MAX_SIGNATURES} are read"
        )));
    }
    Ok(())
}

/// The parts of a bundle.
pub(super) fn material(material: &VerificationMaterial) -> Result<(), Refusal> {
    let timestamps = &material.timestamp_verification_data.rfc3161_timestamps;
    let entries = &material.tlog_entries;
    at_most(MAX_LOG_ENTRIES, entries.len(), "log entries")?;
    at_most(MAX_TIMESTAMPS, timestamps.len(), "timestamps")?;
    for timestamp in timestamps {
        der(timestamp.signed_timestamp.as_bytes())?;
    }
    for entry in entries {
        entry_body(entry.canonicalized_body.as_bytes())?;
        let checkpoint = entry.inclusion_proof.as_ref().and_then(|proof| proof.checkpoint.checkpoint());
        let signatures = checkpoint.map_or(0, |checkpoint| checkpoint.signatures().len());
        at_most(MAX_CHECKPOINT_SIGNATURES, signatures, "signatures of a checkpoint")?;
    }
    match &material.content {
        VerificationMaterialContent::Certificate(certificate) => der(certificate.raw_bytes.as_bytes()),
        VerificationMaterialContent::X509CertificateChain { certificates } => {
            at_most(MAX_CERTIFICATES, certificates.len(), "certificates")?;
            certificates.iter().try_for_each(|certificate| der(certificate.raw_bytes.as_bytes()))
        }
        _ => Ok(()),
    }
}

fn at_most(most: usize, count: usize, what: &str) -> Result<(), Refusal> {
    if count > most {
        return Err(Refusal::Malformed(format!("the bundle has {count} {what}; at most {most} are read")));
    }
    Ok(())
}

fn values(json: &[u8]) -> Result<(), Refusal> {
    if has_too_many_values(json) {
        return Err(Refusal::Malformed(format!("its JSON holds more than {MAX_JSON_VALUES} values")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_are_bounded() {
        assert!(document(&vec![b' '; MAX_BYTES + 1]).is_err());
        assert!(document(&vec![b' '; MAX_BYTES]).is_ok());
        assert!(payload(&vec![b' '; MAX_PAYLOAD_BYTES + 1]).is_err());
        assert!(der(&vec![0; MAX_DER_BYTES + 1]).is_err());
        assert!(entry_body(&vec![b' '; MAX_BODY_BYTES + 1]).is_err());
        assert!(entry_body(&vec![b' '; MAX_BODY_BYTES]).is_ok());
        assert!(at_most(2, 3, "x").is_err() && at_most(2, 2, "x").is_ok());
    }
}
