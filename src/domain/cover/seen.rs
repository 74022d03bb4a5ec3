//! An attestation as it is seen before any policy is asked: who signed, what it says, which digests of the image it names.

use std::collections::HashSet;

use crate::domain::{
    authorize::Mismatch,
    digest::Digest,
    evidence::{Attestation, Finding, Keyed, Verified},
    policy::Policy,
    provenance::{Provenance, SIGNATURE, Statement},
    summary::Summary,
    verdict::Reason,
};

/// An attestation, as far as no policy matters.
pub(super) struct Seen<'a> {
    /// Who signed; nobody, where it is refused.
    pub(super) signed: Option<Signed<'a>>,
    /// What it says.
    pub(super) provenance: Option<&'a Provenance>,
    /// What it says in place of provenance.
    pub(super) summary: Option<&'a Summary>,
    /// Which digests of the image it names.
    pub(super) subjects: Vec<Digest>,
    /// What there is to say of it where it is no provenance of the manifest in question.
    pub(super) otherwise: Mismatch,
}

/// A signature.
pub(super) enum Signed<'a> {
    /// That holds, by the holder of a certificate.
    Certificate(&'a Verified),
    /// By a key that is to be told.
    Key(&'a Keyed),
}

impl<'a> Signed<'a> {
    pub(super) const fn statement(&self) -> &'a Statement {
        match self {
            Self::Certificate(verified) => &verified.statement,
            Self::Key(keyed) => &keyed.statement,
        }
    }
}

impl<'a> Seen<'a> {
    pub(super) fn new(attestation: &'a Attestation, ours: &HashSet<Digest>) -> Self {
        let other = |reason, found: String| Self {
            signed: None,
            provenance: None,
            summary: None,
            subjects: Vec::new(),
            otherwise: Mismatch::new(reason, found),
        };
        let signed = match &attestation.finding {
            Finding::Verified(verified) => Signed::Certificate(verified),
            Finding::Keyed(keyed) => Signed::Key(keyed),
            Finding::Unsigned { predicate_type } => {
                let found =
                    format!("BuildKit provenance ({predicate_type}) is in the index, but nobody signed it");
                return other(Reason::UnsignedProvenance, found);
            }
            Finding::Untrusted(why) => return other(Reason::UntrustedSignature, why.clone()),
            Finding::Malformed(why) => return other(Reason::MalformedAttestation, why.clone()),
        };
        let statement = signed.statement();
        let found = match (&statement.provenance, statement.subjects.first()) {
            (None, _) if statement.predicate_type == SIGNATURE => {
                "it is a signature, and says nothing of how the image was built".to_owned()
            }
            (None, _) => {
                format!("a signed attestation is there, but of type {}", statement.predicate_type)
            }
            (Some(_), Some(other)) => {
                format!("signed provenance is attached, but it is about another digest, {other}")
            }
            (Some(_), None) => "signed provenance is attached, but it names no digest".to_owned(),
        };
        Self {
            provenance: statement.provenance.as_ref(),
            summary: statement.summary.as_ref(),
            subjects: statement.subjects.iter().filter(|subject| ours.contains(subject)).copied().collect(),
            otherwise: Mismatch::new(Reason::NoProvenance, found),
            signed: Some(signed),
        }
    }

    /// What becomes of it where nobody signed it: unsigned provenance is nothing that is missed where something else is asked for.
    pub(super) fn unsigned(&self, policy: &Policy) -> Option<Mismatch> {
        let is_provenance = self.otherwise.reason == Reason::UnsignedProvenance;
        (is_provenance && policy.in_place_of_provenance.is_some())
            .then(|| Mismatch::new(Reason::NoProvenance, &self.otherwise.found))
    }

    /// Why its statement is not what is wanted in place of provenance.
    pub(super) fn is_other_than(&self, wanted: &str, statement: &Statement) -> Option<Mismatch> {
        let is_wanted = statement.predicate_type == wanted;
        let found = match statement.subjects.first() {
            _ if is_wanted && !self.subjects.is_empty() => return None,
            _ if !is_wanted => {
                format!("a signed attestation is there, but of type {}", statement.predicate_type)
            }
            Some(other) => {
                format!("one of type {wanted} is attached, but it is about another digest, {other}")
            }
            None => format!("one of type {wanted} is attached, but it names no digest"),
        };
        Some(Mismatch::new(Reason::NoProvenance, found))
    }
}
