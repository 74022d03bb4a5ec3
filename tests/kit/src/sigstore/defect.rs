//! What can be made wrong with a signature. Each defect leaves all else valid, so that one check
//! alone can find it: a verifier that lets a defect pass lacks that check.

use super::signed::BundleVersion;

/// One thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// The envelope's signature is by another key than the certificate's.
    SignatureInvalid,
    /// The envelope's payload was changed after it was signed; the log entry describes it as it is now.
    PayloadSwapped,
    /// The signature was made over another payload type than the envelope states.
    PayloadTypeSwapped,

    /// The certificate and its chain come from another authority of the same name.
    ChainOfAnotherAuthority,
    /// The authority's signature on the certificate is of something else.
    CertificateSignatureInvalid,
    /// The certificate had run out an hour before the entry was logged.
    CertificateExpired,
    /// The certificate begins an hour after the entry was logged.
    CertificateNotYetValid,
    /// The certificate is for client authentication instead of code signing.
    WrongExtendedKeyUsage,
    /// The certificate says nothing of what its key is for.
    NoExtendedKeyUsage,
    /// The certificate is that of an authority.
    CertificateIsAuthority,
    /// A Fulcio extension is left out. The signature verifies: it is for the policy to refuse.
    ExtensionMissing(u8),

    /// The certificate carries no certificate-transparency timestamp.
    SctMissing,
    /// The timestamp is by a log that the trust root does not know.
    SctByUnknownLog,
    /// The timestamp names the known log and is signed by another key.
    SctSignatureInvalid,
    /// The timestamp is the known log's, for another certificate.
    SctOfAnotherCertificate,
    /// The timestamp is the known log's, for this certificate of another issuer.
    SctOfAnotherIssuer,

    /// There is no log entry; an RFC 3161 timestamp vouches for the time.
    NoLogEntry,
    /// The entry is in a log that the trust root does not know.
    LogEntryByUnknownLog,
    /// The entry is for another envelope by the same certificate.
    LogEntryOfAnotherEnvelope,
    /// The entry is for the same payload with another signature of the same key.
    LogEntryOfAnotherSignature,
    /// The entry is for the same envelope with another certificate of the same identity.
    LogEntryOfAnotherCertificate,
    /// The entry names the bare key of the certificate. Of a signature with a key: a certificate for that key.
    LogEntryOfTheOtherVerifier,
    /// The entry names another log that the trust root knows.
    LogEntryNamesAnotherLog,
    /// The bundle states another kind than the entry is of.
    LogEntryKindWrong,

    /// There is no signed entry timestamp; without an RFC 3161 timestamp the time is unknown.
    SetMissing,
    /// The signed entry timestamp names the known log and is signed by another key.
    SetInvalid,
    /// The time of logging was changed after the log had signed it; it stays in the certificate's.
    IntegratedTimeChanged,
    /// All of it is dated a day ahead.
    IntegratedTimeInFuture,

    /// There is no inclusion proof. Bundles v0.1 and `.att` layers may do without.
    InclusionProofMissing,
    /// A hash of the proof is wrong.
    InclusionProofInvalid,
    /// The proof and its checkpoint are the log's, for another entry.
    InclusionProofOfAnotherEntry,
    /// The checkpoint names the known log and is signed by another key.
    CheckpointSignatureInvalid,
    /// The checkpoint is by a log that the trust root does not know.
    CheckpointByUnknownLog,
    /// The checkpoint is the known log's, for a tree with another root than the proof's.
    CheckpointRootWrong,

    /// The RFC 3161 timestamp is in the authority's name and signed by another key.
    TimestampInvalid,
    /// The RFC 3161 timestamp is the authority's, for another signature.
    TimestampOfAnotherSignature,
    /// The RFC 3161 timestamp is by an authority of the same name that the trust root does not know.
    TimestampByUnknownAuthority,
    /// The RFC 3161 timestamp is valid and an hour before the certificate begins.
    TimestampOutsideCertificate,
    /// There is no RFC 3161 timestamp where nothing else states a time: of Rekor v2, and of instances without a
    /// log. Elsewhere there may be one or not.
    TimestampMissing,
}

impl Defect {
    /// Every defect that a verifier must refuse, whatever the policy.
    pub const ALL: [Self; 38] = [
        Self::SignatureInvalid,
        Self::PayloadSwapped,
        Self::PayloadTypeSwapped,
        Self::ChainOfAnotherAuthority,
        Self::CertificateSignatureInvalid,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::WrongExtendedKeyUsage,
        Self::NoExtendedKeyUsage,
        Self::CertificateIsAuthority,
        Self::SctMissing,
        Self::SctByUnknownLog,
        Self::SctSignatureInvalid,
        Self::SctOfAnotherCertificate,
        Self::SctOfAnotherIssuer,
        Self::NoLogEntry,
        Self::LogEntryByUnknownLog,
        Self::LogEntryOfAnotherEnvelope,
        Self::LogEntryOfAnotherSignature,
        Self::LogEntryOfAnotherCertificate,
        Self::LogEntryOfTheOtherVerifier,
        Self::LogEntryNamesAnotherLog,
        Self::LogEntryKindWrong,
        Self::SetMissing,
        Self::SetInvalid,
        Self::IntegratedTimeChanged,
        Self::IntegratedTimeInFuture,
        Self::InclusionProofMissing,
        Self::InclusionProofInvalid,
        Self::InclusionProofOfAnotherEntry,
        Self::CheckpointSignatureInvalid,
        Self::CheckpointByUnknownLog,
        Self::CheckpointRootWrong,
        Self::TimestampInvalid,
        Self::TimestampOfAnotherSignature,
        Self::TimestampByUnknownAuthority,
        Self::TimestampOutsideCertificate,
        Self::TimestampMissing,
    ];

    /// Whether the defect is one of the certificate, which nothing that is signed with a key has.
    pub fn is_of_certificate(self) -> bool {
        matches!(
            self,
            Self::ChainOfAnotherAuthority
                | Self::CertificateSignatureInvalid
                | Self::CertificateExpired
                | Self::CertificateNotYetValid
                | Self::WrongExtendedKeyUsage
                | Self::NoExtendedKeyUsage
                | Self::CertificateIsAuthority
                | Self::ExtensionMissing(_)
                | Self::SctMissing
                | Self::SctByUnknownLog
                | Self::SctSignatureInvalid
                | Self::SctOfAnotherCertificate
                | Self::SctOfAnotherIssuer
                | Self::TimestampOutsideCertificate
        )
    }

    /// Whether the defect is one of the certificate's timestamp, which instances without logs do not have.
    pub fn is_of_sct(self) -> bool {
        matches!(
            self,
            Self::SctMissing
                | Self::SctByUnknownLog
                | Self::SctSignatureInvalid
                | Self::SctOfAnotherCertificate
                | Self::SctOfAnotherIssuer
        )
    }

    /// Whether the defect is one of the log's entry or of how the log vouches for it.
    pub fn is_of_log(self) -> bool {
        self.is_of_proof()
            || self.is_of_log_time()
            || matches!(
                self,
                Self::NoLogEntry
                    | Self::LogEntryByUnknownLog
                    | Self::LogEntryOfAnotherEnvelope
                    | Self::LogEntryOfAnotherSignature
                    | Self::LogEntryOfAnotherCertificate
                    | Self::LogEntryOfTheOtherVerifier
                    | Self::LogEntryNamesAnotherLog
                    | Self::LogEntryKindWrong
            )
    }

    /// Whether the defect is one of the time that Rekor v1 signs, which Rekor v2 does not.
    pub fn is_of_log_time(self) -> bool {
        matches!(self, Self::SetMissing | Self::SetInvalid | Self::IntegratedTimeChanged)
    }

    /// Whether the defect is one of the inclusion proof or its checkpoint.
    pub fn is_of_proof(self) -> bool {
        matches!(
            self,
            Self::InclusionProofMissing
                | Self::InclusionProofInvalid
                | Self::InclusionProofOfAnotherEntry
                | Self::CheckpointSignatureInvalid
                | Self::CheckpointByUnknownLog
                | Self::CheckpointRootWrong
        )
    }

    /// Whether the defect is one of an RFC 3161 timestamp.
    pub fn is_of_timestamp(self) -> bool {
        matches!(
            self,
            Self::TimestampInvalid
                | Self::TimestampOfAnotherSignature
                | Self::TimestampByUnknownAuthority
                | Self::TimestampOutsideCertificate
                | Self::TimestampMissing
        )
    }

    /// Whether a bundle of this version with the defect must be refused, of Rekor v1.
    pub fn spoils_bundle(self, version: BundleVersion) -> bool {
        match self {
            Self::ExtensionMissing(_) | Self::TimestampMissing => false,
            Self::InclusionProofMissing => version != BundleVersion::V01,
            _ => true,
        }
    }

    /// Whether a cosign `.att` layer with the defect must be refused. A layer carries no inclusion
    /// proof; its RFC 3161 timestamp is one more annotation, which a verifier may leave alone.
    pub fn spoils_att_layer(self) -> bool {
        !(self.is_of_proof()
            || self.is_of_timestamp()
            || matches!(self, Self::ExtensionMissing(_) | Self::LogEntryKindWrong))
    }

    /// Whether the defect needs an RFC 3161 timestamp to be there at all.
    pub(super) fn needs_timestamp(self) -> bool {
        matches!(
            self,
            Self::NoLogEntry
                | Self::TimestampInvalid
                | Self::TimestampOfAnotherSignature
                | Self::TimestampByUnknownAuthority
                | Self::TimestampOutsideCertificate
        )
    }
}
