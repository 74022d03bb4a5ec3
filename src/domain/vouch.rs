//! Provenance that `BuildKit` puts into an index: it signs none of it, so that a statement there is worth as much as whoever
//! signed the attestation manifest that holds it, or an index that lists that manifest.
//!
//! A digest vouches for the bytes below it: whoever signs a manifest signs its layers, whoever signs an index signs the manifests that it
//! lists. What is said is said by the signer then, and authorised as theirs; annotations are not read for it.

use std::collections::HashMap;

use super::{
    digest::Digest,
    evidence::{Attestation, FetchError, Finding, Keyed, Layout, SubjectEvidence, Verified},
    identity::TrustRootName,
    provenance::{SIGNATURE, Statement},
};

/// How many pairs of a statement and a signature are judged for one manifest, per trust root that vouches for the signature. Signatures with
/// keys have a limit of their own. One limit for all would let the signatures under one root push out those under another.
const MAX_PAIRS: usize = 32;

/// A statement in an attestation manifest; else why it is none.
#[derive(Debug, Clone)]
pub struct Said {
    /// The layer that holds it.
    pub found_at: Digest,
    /// What it says.
    pub statement: Result<Statement, String>,
}

/// The signatures that vouch for `digest` among what is attached to it. Only who signs it, or says to have built it, stands by what is in it;
/// a report or a list of parts may be by somebody who only looked.
pub fn signatures<'a>(
    digest: &'a Digest,
    evidence: &'a SubjectEvidence,
) -> impl Iterator<Item = &'a Attestation> {
    let vouches = |statement: &Statement| {
        statement.subjects.contains(digest)
            && (statement.predicate_type == SIGNATURE || statement.provenance.is_some())
    };
    evidence.attestations.iter().map(AsRef::as_ref).filter(move |attestation| match &attestation.finding {
        Finding::Verified(verified) => vouches(&verified.statement),
        Finding::Keyed(keyed) => vouches(&keyed.statement),
        Finding::Unsigned { .. } | Finding::Untrusted(_) | Finding::Malformed(_) => false,
    })
}

/// How many pairs were judged so far, by the trust root that vouches; under `None`, by keys.
#[derive(Default)]
struct Pairs<'a>(HashMap<Option<&'a TrustRootName>, usize>);

impl<'a> Pairs<'a> {
    /// Whether one more is within the limit of this root.
    fn admit(&mut self, root: Option<&'a TrustRootName>) -> bool {
        let count = self.0.entry(root).or_default();
        *count = count.saturating_add(1);
        *count <= MAX_PAIRS
    }
}

/// What is said in the attestation manifest `holder` about `subject`, by each of those who vouch for it, and what a limit leaves open of it.
/// Only provenance counts there.
pub fn attributed(
    holder: Digest,
    said: &[Said],
    subject: Digest,
    signatures: &[&Attestation],
) -> (Vec<Attestation>, Option<FetchError>) {
    let found = |found_at, finding| Attestation { layout: Layout::InIndex, found_at, finding };
    let (mut all, mut pairs, mut too_many) = (Vec::new(), Pairs::default(), false);
    for Said { found_at, statement } in said {
        let statement = match statement {
            Ok(statement) if statement.provenance.is_none() => continue,
            Ok(statement) => about(statement, subject),
            Err(why) => {
                all.push(found(*found_at, Finding::Malformed(why.clone())));
                continue;
            }
        };
        for signature in signatures {
            let finding = match &signature.finding {
                Finding::Verified(by) => {
                    let mut readings = by.readings.iter().collect::<Vec<_>>();
                    readings.retain(|reading| pairs.admit(Some(&reading.trust_root)));
                    too_many |= readings.len() < by.readings.len();
                    let readings: Vec<_> = readings.into_iter().cloned().collect();
                    (!readings.is_empty()).then(|| {
                        Finding::Verified(Box::new(Verified { readings, statement: statement.clone() }))
                    })
                }
                Finding::Keyed(by) => {
                    let is_within = pairs.admit(None);
                    too_many |= !is_within;
                    let (fingerprint, statement) = (by.fingerprint, statement.clone());
                    is_within.then(|| Finding::Keyed(Box::new(Keyed { fingerprint, statement })))
                }
                Finding::Unsigned { .. } | Finding::Untrusted(_) | Finding::Malformed(_) => None,
            };
            all.extend(finding.map(|finding| found(holder, finding)));
        }
    }
    let open = too_many.then(|| {
        FetchError::not_inspected(format!(
            "more than {MAX_PAIRS} pairs of statement and signature under one trust root are in the index"
        ))
    });
    (all, open)
}

/// The statement, as far as it is about `subject`; where it is about others only, about the first of them. It may name thousands.
fn about(statement: &Statement, subject: Digest) -> Statement {
    let named = statement.subjects.contains(&subject).then_some(subject);
    let named = named.or_else(|| statement.subjects.first().copied());
    Statement { subjects: named.into_iter().collect(), ..statement.clone() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{
        evidence::{CertificateReading, FetchErrorKind},
        identity::Certificate,
        provenance::Provenance,
    };

    fn signature(statement: Statement, n: usize) -> Attestation {
        let fingerprint = Digest::of(&n.to_be_bytes());
        let finding = Finding::Keyed(Box::new(Keyed { fingerprint, statement }));
        Attestation { layout: Layout::Referrer, found_at: fingerprint, finding }
    }

    fn said(subjects: Vec<Digest>) -> Said {
        let provenance = Some(Provenance::default());
        let predicate_type = "p".to_owned();
        let statement = Statement { subjects, predicate_type, provenance, summary: None, other: None };
        Said { found_at: Digest::of(b"layer"), statement: Ok(statement) }
    }

    #[test]
    fn what_signs_a_digest_vouches_for_it_and_what_reports_on_it_does_not() {
        let (signed, other) = (Digest::of(b"index"), Digest::of(b"other"));
        let report = Statement { predicate_type: "report".to_owned(), ..Statement::signature_of(signed) };
        let built = Statement { provenance: Some(Provenance::default()), ..report.clone() };
        for (statement, vouches) in [
            (Statement::signature_of(signed), true),
            (built, true),
            (Statement::signature_of(other), false),
            (report, false),
        ] {
            let attestations = vec![Arc::new(signature(statement.clone(), 0))];
            let evidence = SubjectEvidence { attestations, gaps: Vec::new() };
            assert_eq!(signatures(&signed, &evidence).count(), usize::from(vouches), "{statement:?}");
        }
    }

    #[test]
    fn each_pair_is_one_and_there_are_not_very_many() {
        let (holder, subject, other) = (Digest::of(b"holder"), Digest::of(b"subject"), Digest::of(b"other"));
        let count = |signatures: usize, statements: usize| {
            let signed = |n| signature(Statement::signature_of(holder), n);
            let signatures: Vec<Attestation> = (0..signatures).map(signed).collect();
            let said = vec![said(vec![other, subject]); statements];
            let (all, open) = attributed(holder, &said, subject, &signatures.iter().collect::<Vec<_>>());
            for one in &all {
                if let Finding::Keyed(keyed) = &one.finding {
                    // Of many subjects the one that matters is kept.
                    assert_eq!(keyed.statement.subjects, [subject]);
                }
            }
            (all.len(), usize::from(open.is_some_and(|open| open.kind == FetchErrorKind::Incomplete)))
        };
        // What is no provenance is said by nobody, and takes no place.
        let not_provenance = said(vec![subject]);
        let summary = Said {
            statement: not_provenance.statement.map(|statement| Statement { provenance: None, ..statement }),
            ..not_provenance
        };
        let signed = signature(Statement::signature_of(holder), 0);
        assert!(attributed(holder, &[summary], subject, &[&signed]).0.is_empty());
        assert_eq!(count(0, 3), (0, 0));
        assert_eq!(count(3, 1), (3, 0));
        assert_eq!(count(16, 2), (32, 0));
        assert_eq!(count(33, 1), (32, 1));
        assert_eq!(count(1, 33), (32, 1));
    }

    #[test]
    fn a8_signatures_under_one_root_do_not_push_out_those_under_another() {
        let (holder, subject) = (Digest::of(b"holder"), Digest::of(b"subject"));
        let (ours, other) = (TrustRootName::default(), TrustRootName::github());
        let by = |roots: &[&TrustRootName], n: usize| {
            let readings = roots.iter().map(|root| CertificateReading {
                trust_root: (*root).clone(),
                certificate: Certificate::default(),
            });
            let verified =
                Verified { readings: readings.collect(), statement: Statement::signature_of(holder) };
            let finding = Finding::Verified(Box::new(verified));
            Attestation { layout: Layout::Referrer, found_at: Digest::of(&n.to_be_bytes()), finding }
        };
        let under = |signatures: &[Attestation], root: &TrustRootName| {
            let all =
                attributed(holder, &[said(vec![subject])], subject, &signatures.iter().collect::<Vec<_>>());
            let vouches = |one: &&Attestation| matches!(&one.finding, Finding::Verified(verified) if verified.under(root).is_some());
            all.0.iter().filter(vouches).count()
        };
        // Many of another root before the one that counts.
        let mut signatures: Vec<Attestation> = (0..40).map(|n| by(&[&other], n)).collect();
        signatures.push(by(&[&ours], 40));
        assert_eq!((under(&signatures, &ours), under(&signatures, &other)), (1, MAX_PAIRS));
        // What is beyond the limit under one root is not let in by the other.
        let mut signatures: Vec<Attestation> = (0..MAX_PAIRS).map(|n| by(&[&ours], n)).collect();
        signatures.push(by(&[&ours, &other], MAX_PAIRS));
        assert_eq!((under(&signatures, &ours), under(&signatures, &other)), (MAX_PAIRS, 1));
    }
}
