//! Why an attestation is not believed, in sentences for the developer who meets them in a denial.
//!
//! Text that the attestation's author chose is escaped and cut; nothing is formatted for debugging.

use jiff::Timestamp;

use crate::{api::statement::StatementError, domain::evidence::Finding};

/// How much of a text that someone else chose is repeated.
const QUOTED_CHARS: usize = 160;

/// Why an attestation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read as what it claims to be.
    #[error("{0}")]
    Malformed(String),
    /// The signature.
    #[error("its signature does not verify with the key of its certificate")]
    Signature,
    /// The signature, held against a key.
    #[error("its signature does not verify with the key")]
    KeySignature,
    /// It is signed with a key, and asked about as if with a certificate.
    #[error("it is signed with a key and has no certificate")]
    Key,
    /// The chain.
    #[error("its certificate does not chain to {0} as one for signing code")]
    Chain(String),
    /// The authority's time.
    #[error("no authority of the trust root {root} issued certificates at the time of signing, {time}")]
    AuthorityTime {
        /// The root.
        root: String,
        /// The time.
        time: Timestamp,
    },
    /// The extended key usage.
    #[error("its certificate is not for signing code")]
    Usage,
    /// The certificate's time.
    #[error("its certificate was not valid at the time of signing, {0}")]
    CertificateTime(Timestamp),
    /// What the certificate says.
    #[error("its certificate {0}")]
    Certificate(String),
    /// It has a certificate, and is held against a key.
    #[error("it is signed with a certificate, not with the key")]
    NotKey,
    /// No certificate-transparency timestamp.
    #[error("its certificate carries no timestamp of a certificate-transparency log (SCT)")]
    SctMissing,
    /// The certificate-transparency timestamp.
    #[error("its certificate's timestamp of a certificate-transparency log (SCT) does not verify")]
    Sct,
    /// No log entry.
    #[error("it has no transparency log entry")]
    LogEntryMissing,
    /// A log entry by a log that the root does not know.
    #[error("its transparency log entry is of a log that the trust root {0} does not know at that time")]
    UnknownLog(String),
    /// A log entry without a time, by a log that has ended.
    #[error(
        "nothing says when it was signed or logged, and the trust root {0} no longer uses the log of its transparency log entry"
    )]
    RetiredLog(String),
    /// The signed entry timestamp.
    #[error("its log entry's signed timestamp (SET) does not verify")]
    EntryTimestamp,
    /// Neither a signed entry timestamp nor a proof.
    #[error("its log entry has neither a signed timestamp (SET) nor an inclusion proof")]
    EntryUnproved,
    /// The inclusion proof.
    #[error("its log entry's inclusion proof does not verify")]
    InclusionProof,
    /// The checkpoint.
    #[error("the checkpoint of its log entry's inclusion proof does not verify")]
    Checkpoint,
    /// The entry is about something else.
    #[error("its log entry does not describe this signature by this signer")]
    EntryMismatch,
    /// The time of logging.
    #[error("it was signed or logged in the future, at {0}")]
    Future(Timestamp),
    /// An RFC 3161 timestamp.
    #[error("its timestamp (RFC 3161) does not verify")]
    Timestamp,
    /// The time of the timestamp's authority.
    #[error(
        "its timestamp (RFC 3161), of {0}, is by an authority that the trust root does not know at that time"
    )]
    TimestampAuthority(Timestamp),
    /// No time of signing.
    #[error("nothing vouches for the time of signing: it has neither a signed log entry nor a timestamp")]
    NoTime,
    /// The artifact.
    #[error("it is not about this artifact")]
    Artifact,
    /// What a library found, of no kind above.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// The envelope, bundle or one of its parts does not parse.
    pub(super) fn unreadable(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self::Malformed(format!("{what} ({})", quoted(&error.to_string())))
    }

    /// The certificate is not of the root of this name.
    pub(super) fn chain(root: &str) -> Self {
        Self::Chain(format!("the trust root {root}"))
    }

    /// Whether it says no more than that the attestation is not of the root it was held against.
    pub(super) const fn is_of_another_root(&self) -> bool {
        matches!(self, Self::Chain(_) | Self::UnknownLog(_))
    }

    /// The bundle is not of the shape that its version demands.
    pub(super) fn of_shape(error: &sigstore_bundle::Error) -> Self {
        use sigstore_bundle::Error;
        match error {
            Error::MissingSigningTimeEvidence | Error::MissingTimestamp => Self::NoTime,
            Error::CheckpointRootMismatch | Error::MissingCheckpoint => Self::Checkpoint,
            Error::MissingInclusionProof(_) | Error::LogIndexOutOfRange { .. } => Self::InclusionProof,
            Error::MissingInclusionPromise(_) => Self::EntryTimestamp,
            error => Self::unreadable("the bundle is not well formed", error),
        }
    }
}

impl From<StatementError> for Refusal {
    fn from(error: StatementError) -> Self {
        let mut text = error.to_string();
        // Where in the predicate, which nobody sees by itself, says nothing.
        let of_predicate = matches!(error, StatementError::Summary(_) | StatementError::Predicate { .. });
        if let Some(at) = text.rfind(" at line ").filter(|_| of_predicate) {
            text.truncate(at);
            text.push(')');
        }
        Self::Malformed(quoted(&text))
    }
}

impl From<Refusal> for Finding {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed(reason) => Self::Malformed(reason),
            other => Self::Untrusted(other.to_string()),
        }
    }
}

/// Text that someone else chose: printable, and not long. What is printable is ASCII: look-alikes and marks that turn
/// the direction of text have no business in a denial.
pub(super) fn quoted(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars().take(QUOTED_CHARS) {
        if character.is_ascii_graphic() || character == ' ' {
            safe.push(character);
        } else {
            safe.extend(character.escape_unicode());
        }
    }
    if text.chars().nth(QUOTED_CHARS).is_some() {
        safe.push('…');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_escaped_and_cut() {
        assert_eq!(quoted("a\nb\u{202e}c"), "a\\u{a}b\\u{202e}c");
        assert!(quoted(&"x".repeat(1000)).chars().count() <= QUOTED_CHARS + 1);
        assert!(quoted(&"\u{10ffff}".repeat(1000)).len() <= QUOTED_CHARS * 10 + 3);
    }
}
