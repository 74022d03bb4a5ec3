//! Provenance that `BuildKit` puts into an index: it signs none of it, so that a statement there is worth as much as whoever
//! signed the attestation manifest that holds it, or an index that lists that manifest.
//!
//! A digest vouches for the bytes below it: whoever signs a manifest signs its layers, whoever signs an index signs the manifests that it
//! lists. What is said is said by the signer then, and authorised as theirs; annotations are not read for it.

use super::{
    digest::Digest,
    evidence::{Attestation, Finding, Keyed, Layout, SubjectEvidence, Verified},
    provenance::{SIGNATURE, Statement},
};

/// How many pairs of a statement and a signature are looked at for one manifest. Each is judged like an attestation.
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

/// What is said in the attestation manifest `holder` about `subject`, by each of those who vouch for it.
pub fn attributed(
    holder: Digest,
    said: &[Said],
    subject: Digest,
    signatures: &[&Attestation],
) -> Vec<Attestation> {
    let found = |found_at, finding| Attestation { layout: Layout::InIndex, found_at, finding };
    let mut all = Vec::new();
    for Said { found_at, statement } in said {
        let statement = match statement {
            Ok(statement) => about(statement, subject),
            Err(why) => {
                all.push(found(*found_at, Finding::Malformed(why.clone())));
                continue;
            }
        };
        for signature in signatures {
            if all.len() >= MAX_PAIRS {
                let why = format!(
                    "more than {MAX_PAIRS} pairs of statement and signature are in the index, and the others are not looked at"
                );
                all.push(found(holder, Finding::Malformed(why)));
                return all;
            }
            let finding = match &signature.finding {
                Finding::Verified(by) => {
                    let (trust_roots, certificate) = (by.trust_roots.clone(), by.certificate.clone());
                    let verified = Verified { trust_roots, certificate, statement: statement.clone() };
                    Finding::Verified(Box::new(verified))
                }
                Finding::Keyed(by) => {
                    let (fingerprint, statement) = (by.fingerprint, statement.clone());
                    Finding::Keyed(Box::new(Keyed { fingerprint, statement }))
                }
                Finding::Unsigned { .. } | Finding::Untrusted(_) | Finding::Malformed(_) => continue,
            };
            all.push(found(holder, finding));
        }
    }
    all
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
    use crate::domain::provenance::Provenance;

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
            let all = attributed(holder, &said, subject, &signatures.iter().collect::<Vec<_>>());
            let told = all.iter().filter(|one| matches!(one.finding, Finding::Malformed(_))).count();
            for one in &all {
                if let Finding::Keyed(keyed) = &one.finding {
                    // Of many subjects the one that matters is kept.
                    assert_eq!(keyed.statement.subjects, [subject]);
                }
            }
            (all.len() - told, told)
        };
        assert_eq!(count(0, 3), (0, 0));
        assert_eq!(count(3, 1), (3, 0));
        assert_eq!(count(16, 2), (32, 0));
        assert_eq!(count(33, 1), (32, 1));
        assert_eq!(count(1, 33), (32, 1));
    }
}
