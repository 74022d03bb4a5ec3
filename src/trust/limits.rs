//! What is refused for its size before anything reads it. Whoever may push to a repository chooses these bytes.

use super::refusal::Refusal;

/// The largest envelope or bundle.
const MAX_BYTES: usize = 16 << 20;
/// The largest payload of an envelope.
const MAX_PAYLOAD_BYTES: usize = 8 << 20;
/// The largest annotation that is read.
const MAX_ANNOTATION_BYTES: usize = 1 << 20;
/// How many values JSON may hold: parsed, each takes at least 32 bytes, however short its text.
const MAX_JSON_VALUES: usize = 400_000;
/// How many log entries a bundle may have.
const MAX_LOG_ENTRIES: usize = 8;
/// How many RFC 3161 timestamps a bundle may have.
const MAX_TIMESTAMPS: usize = 8;
/// How many certificates a chain may have.
const MAX_CERTIFICATES: usize = 10;

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

/// The parts of a bundle.
pub(super) fn parts(entries: usize, timestamps: usize, certificates: usize) -> Result<(), Refusal> {
    let check = |count: usize, most: usize, what: &str| {
        if count > most {
            Err(Refusal::Malformed(format!("the bundle has {count} {what}; at most {most} are read")))
        } else {
            Ok(())
        }
    };
    check(entries, MAX_LOG_ENTRIES, "log entries")?;
    check(timestamps, MAX_TIMESTAMPS, "timestamps")?;
    check(certificates, MAX_CERTIFICATES, "certificates")
}

/// An upper bound of the number of values: one behind each opening bracket and each comma, those in texts included.
fn values(json: &[u8]) -> Result<(), Refusal> {
    let count = json.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
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
        let fewer = format!("[{}1]", "1,".repeat(MAX_JSON_VALUES - 10));
        assert!(document(fewer.as_bytes()).is_ok());
    }

    #[test]
    fn sizes_and_counts_are_bounded() {
        assert!(document(&vec![b' '; MAX_BYTES + 1]).is_err());
        assert!(document(&vec![b' '; MAX_BYTES]).is_ok());
        assert!(payload(&vec![b' '; MAX_PAYLOAD_BYTES + 1]).is_err());
        assert!(parts(9, 0, 1).is_err() && parts(1, 9, 1).is_err() && parts(1, 1, 11).is_err());
        assert!(parts(8, 8, 10).is_ok());
    }
}
