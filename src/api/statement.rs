//! In-toto statements, v0.1 and v1, as they are on the wire, and their way into the domain.
//!
//! What decides is read strictly: a field that is read and occurs twice is refused, so that no two readers of one signed payload can see two
//! statements. What cannot be read is an error, and never an empty statement. A part that nobody asks for may hold anything: it is passed
//! over in its text, and takes no memory.

mod lenient;
mod slsa;
mod source;
mod subjects;
mod vsa;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::{
    digest::Digest,
    predicate::Predicate,
    provenance::{Provenance, SLSA_V0_2, SLSA_V1, Statement},
    repeated_keys::{MAX_DEPTH, is_too_deep},
    summary::{Summary, VSA_V0_2, VSA_V1},
};
use subjects::Subjects;

/// The `_type` of in-toto statements v0.1.
pub const STATEMENT_V0_1: &str = "https://in-toto.io/Statement/v0.1";
/// The `_type` of in-toto statements v1.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
/// The payload type of a DSSE envelope that holds a statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// How many subjects a statement may have.
const MAX_SUBJECTS: usize = 4096;

/// Why a payload is no statement.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// It is nested too deeply.
    #[error("its payload is nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// It is not JSON, or of another shape, or a field that is read occurs twice.
    #[error("its payload is not an in-toto statement ({0})")]
    Shape(#[source] serde_json::Error),
    /// The `_type` is not one that is known.
    #[error("its payload is of type {0:?}, not an in-toto statement v0.1 or v1")]
    Type(String),
    /// There are too many subjects.
    #[error("its statement has {0} subjects; at most {MAX_SUBJECTS} are read")]
    Subjects(usize),
    /// The predicate is not the verification summary that its type says.
    #[error("its predicate is not a verification summary of the type that it states ({0})")]
    Summary(#[source] serde_json::Error),
    /// The predicate is not what its type says.
    #[error("its predicate is not SLSA provenance of the type {kind} that it states ({error})")]
    Predicate {
        /// The predicate's type.
        kind: &'static str,
        /// What differs.
        #[source]
        error: serde_json::Error,
    },
}

/// A statement on the wire.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireStatement<'a> {
    /// The version of the format.
    #[serde(rename = "_type")]
    pub type_: String,
    /// What it is about.
    pub subject: Subjects,
    /// The predicate's type URI.
    pub predicate_type: String,
    /// What it says, as it is written there; `None`: nothing.
    #[serde(borrow, default)]
    pub predicate: Option<&'a RawValue>,
}

impl<'a> WireStatement<'a> {
    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// Where it is not JSON, not of a statement's shape, or holds a field twice that is read.
    pub fn from_slice(payload: &'a [u8]) -> Result<Self, StatementError> {
        if is_too_deep(payload) {
            return Err(StatementError::Depth);
        }
        serde_json::from_slice(payload).map_err(StatementError::Shape)
    }

    /// Whether it is of a version whose meaning is known.
    ///
    /// # Errors
    /// Where it is not.
    pub fn check_type(&self) -> Result<(), StatementError> {
        if self.type_ == STATEMENT_V0_1 || self.type_ == STATEMENT_V1 {
            return Ok(());
        }
        Err(StatementError::Type(self.type_.chars().take(100).collect()))
    }

    /// The digests of the subjects that can be checked here.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.subject.digests.iter().copied()
    }
}

impl TryFrom<WireStatement<'_>> for Statement {
    type Error = StatementError;

    fn try_from(wire: WireStatement<'_>) -> Result<Self, StatementError> {
        wire.check_type()?;
        if wire.subject.count > MAX_SUBJECTS {
            return Err(StatementError::Subjects(wire.subject.count));
        }
        let subjects = wire.digests().collect();
        let predicate = wire.predicate.map_or("null", RawValue::get);
        let (mut provenance_of, mut summary, mut other) = (None, None, None);
        match wire.predicate_type.as_str() {
            VSA_V0_2 | VSA_V1 => summary = Some(verification_summary(&wire.predicate_type, predicate)?),
            SLSA_V0_2 | SLSA_V1 => provenance_of = Some(provenance(&wire.predicate_type, predicate)?),
            _ => other = Some(Predicate::of_text(predicate)),
        }
        Ok(Self { subjects, predicate_type: wire.predicate_type, provenance: provenance_of, summary, other })
    }
}

/// Reads the payload of an envelope into the domain's statement.
///
/// # Errors
/// Where it is no statement, or states a type of SLSA provenance and is not of that shape.
pub fn parse(payload: &[u8]) -> Result<Statement, StatementError> {
    WireStatement::from_slice(payload)?.try_into()
}

fn verification_summary(predicate_type: &str, predicate: &str) -> Result<Summary, StatementError> {
    let read = if predicate_type == VSA_V0_2 { vsa::v0_2(predicate) } else { vsa::v1(predicate) };
    read.map_err(StatementError::Summary)
}

fn provenance(predicate_type: &str, predicate: &str) -> Result<Provenance, StatementError> {
    let (kind, read) = if predicate_type == SLSA_V0_2 {
        (SLSA_V0_2, slsa::v0_2(predicate))
    } else {
        (SLSA_V1, slsa::v1(predicate))
    };
    read.map_err(|error| StatementError::Predicate { kind, error })
}

#[cfg(test)]
mod tests;
