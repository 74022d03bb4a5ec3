//! SLSA provenance as a policy sees it: one view over v0.2 and v1. All of it is **claimed**: as trustworthy as its signer.

use jiff::Timestamp;

use super::{digest::Digest, predicate::Predicate, summary::Summary};

/// The predicate type of SLSA provenance v0.2.
pub const SLSA_V0_2: &str = "https://slsa.dev/provenance/v0.2";
/// The predicate type of SLSA provenance v1.
pub const SLSA_V1: &str = "https://slsa.dev/provenance/v1";

/// The predicate type of a signature in the form of a statement, as cosign makes it: it says who signed, and nothing else. A bundle that
/// signs a digest without any statement is read as one.
pub const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A verified in-toto statement: what it is about and what it says.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The subjects' digests. A subject that names no digest that can be checked is not here.
    pub subjects: Vec<Digest>,
    /// The predicate's type URI.
    pub predicate_type: String,
    /// The provenance, where the predicate is SLSA provenance of a known version and well formed.
    pub provenance: Option<Provenance>,
    /// The verification summary, where the predicate is one of a known version and well formed.
    pub summary: Option<Summary>,
    /// A predicate that is neither, where whoever reads it wants to have it: it may be large.
    pub other: Option<Predicate>,
}

impl Statement {
    /// What a signature of a digest says.
    pub fn signature_of(digest: Digest) -> Self {
        let predicate_type = SIGNATURE.to_owned();
        Self { subjects: vec![digest], predicate_type, provenance: None, summary: None, other: None }
    }
}

/// What a SLSA provenance predicate claims.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    /// `builder.id` (v0.2), `runDetails.builder.id` (v1).
    pub builder_id: String,
    /// `buildType` (v0.2), `buildDefinition.buildType` (v1).
    pub build_type: String,
    /// The source repository's URI, without ref or commit.
    pub source: Option<String>,
    /// The source ref.
    pub source_ref: Option<String>,
    /// The source commit.
    pub commit: Option<String>,
    /// The workflow or entry point.
    pub workflow: Option<String>,
    /// The invocation: `invocationId`, in either spelling.
    pub invocation_id: Option<String>,
    /// When the build began.
    pub started_on: Option<Timestamp>,
    /// When the build ended.
    pub finished_on: Option<Timestamp>,
    /// What is stated as the beginning or the end and is no time, where neither is a time. A time has a zone.
    pub unreadable_time: Option<String>,
    /// The whole predicate, unknown fields included.
    pub predicate: Predicate,
}
