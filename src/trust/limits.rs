//! What is refused for its size before anything reads it. Whoever may push to a repository chooses these bytes.

use sigstore_types::{
    TransparencyLogEntry,
    bundle::{VerificationMaterial, VerificationMaterialContent},
};

use super::refusal::Refusal;

/// The largest envelope or bundle.
const MAX_BYTES: usize = 16 << 20;
/// The largest payload of an envelope.
const MAX_PAYLOAD_BYTES: usize = 8 << 20;
/// The largest annotation that is read.
const MAX_ANNOTATION_BYTES: usize = 1 << 20;
/// How many values JSON may hold: parsed, each takes at least 32 bytes, however short its text. An object counts as so many: it takes
/// hundreds of bytes, whatever is in it.
const MAX_JSON_VALUES: usize = 80_000;
const VALUES_OF_OBJECT: usize = 4;
/// How many log entries a bundle may have.
const MAX_LOG_ENTRIES: usize = 8;
/// How many RFC 3161 timestamps a bundle may have.
const MAX_TIMESTAMPS: usize = 8;
/// How many certificates a chain may have.
const MAX_CERTIFICATES: usize = 10;
/// The largest certificate, and the largest RFC 3161 timestamp.
const MAX_DER_BYTES: usize = 64 << 10;
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

/// The payload of an envelope.
pub(super) fn payload(json: &[u8]) -> Result<(), Refusal> {
    if json.len() > MAX_PAYLOAD_BYTES {
        return Err(Refusal::Malformed(format!(
            "its payload is larger than {} MiB",
            MAX_PAYLOAD_BYTES >> 20
        )));
    }
    values(json)
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

/// The signatures of an envelope.
pub(super) fn signatures(count: usize) -> Result<(), Refusal> {
    if count > MAX_SIGNATURES {
        return Err(Refusal::Malformed(format!(
            "its envelope has {count} signatures; at most {MAX_SIGNATURES} are read"
        )));
    }
    Ok(())
}

/// The parts of a bundle; `entries` are all its log entries, whether or not they are in `material`.
pub(super) fn material<'a>(
    material: &VerificationMaterial,
    entries: impl Iterator<Item = &'a TransparencyLogEntry>,
) -> Result<(), Refusal> {
    let timestamps = &material.timestamp_verification_data.rfc3161_timestamps;
    let entries: Vec<_> = entries.collect();
    at_most(MAX_LOG_ENTRIES, entries.len(), "log entries")?;
    at_most(MAX_TIMESTAMPS, timestamps.len(), "timestamps")?;
    for timestamp in timestamps {
        der(timestamp.signed_timestamp.as_bytes())?;
    }
    for entry in entries {
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

/// An upper bound of the number of values: one behind each opening bracket and each comma, those in texts included.
fn values(json: &[u8]) -> Result<(), Refusal> {
    let weight = |byte: &u8| match byte {
        b',' | b'[' => 1,
        b'{' => VALUES_OF_OBJECT,
        _ => 0,
    };
    let count: usize = json.iter().map(weight).sum();
    if count > MAX_JSON_VALUES {
        return Err(Refusal::Malformed(format!("its JSON holds more than {MAX_JSON_VALUES} values")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_in_great_number_are_refused() {
        let many = format!("[{}1]", "1,".repeat(MAX_JSON_VALUES));
        assert!(document(many.as_bytes()).is_err());
        let objects = format!("[{}1]", "{},".repeat(MAX_JSON_VALUES / 4));
        assert!(document(objects.as_bytes()).is_err());
        let fewer = format!("[{}1]", "1,".repeat(MAX_JSON_VALUES - 10));
        assert!(document(fewer.as_bytes()).is_ok());
    }

    #[test]
    fn sizes_and_counts_are_bounded() {
        assert!(document(&vec![b' '; MAX_BYTES + 1]).is_err());
        assert!(document(&vec![b' '; MAX_BYTES]).is_ok());
        assert!(payload(&vec![b' '; MAX_PAYLOAD_BYTES + 1]).is_err());
        assert!(der(&vec![0; MAX_DER_BYTES + 1]).is_err());
        assert!(at_most(2, 3, "x").is_err() && at_most(2, 2, "x").is_ok());
    }
}
