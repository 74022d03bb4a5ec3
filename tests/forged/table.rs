//! The table: each form with each defect. A defect that its form does not have, or that spoils nothing there, must leave
//! the attestation admitted; every other one is denied by the check that is for it.

use bonafide::domain::verdict::Reason;
use bonafide_kit::sigstore::{BundleVersion, Defect};

use crate::form::{FORMS, Form, Kept, World, denied, statement};

const MALFORMED: Reason = Reason::MalformedAttestation;

/// The reason and the words of the check that finds the defect; nothing, where there is nothing to find.
#[allow(clippy::match_same_arms)] // a row for each defect reads better than what they share
pub fn expected(defect: Defect, form: Form) -> Option<(Reason, &'static str)> {
    let untrusted = |words| Some((Reason::UntrustedSignature, words));
    let is_att = form.kept == Kept::Att;
    let is_v01 = form.kept == Kept::Bundle(BundleVersion::V01);
    let unsigned_time = "nothing vouches for the time of signing";
    if (form.is_keyed() && defect.is_of_certificate())
        || (form.entry.is_none() && (defect.is_of_sct() || defect.is_of_log()))
        || (form.is_v2() && defect.is_of_log_time())
        || (is_att && (defect.is_of_proof() || defect.is_of_timestamp()))
    {
        return None;
    }
    match defect {
        Defect::SignatureInvalid | Defect::PayloadSwapped | Defect::PayloadTypeSwapped => {
            untrusted(if form.is_keyed() {
                "its signature is not by the key of ci"
            } else {
                "its signature does not verify with the key of its certificate"
            })
        }
        Defect::ChainOfAnotherAuthority
        | Defect::CertificateSignatureInvalid
        | Defect::CertificateIsAuthority => untrusted("does not chain to the trust root"),
        Defect::CertificateExpired | Defect::CertificateNotYetValid | Defect::TimestampOutsideCertificate => {
            untrusted("not valid at the time of signing")
        }
        Defect::WrongExtendedKeyUsage | Defect::NoExtendedKeyUsage => untrusted("for signing code"),
        Defect::SctMissing => untrusted("carries no timestamp of a certificate-transparency log (SCT)"),
        Defect::SctByUnknownLog
        | Defect::SctSignatureInvalid
        | Defect::SctOfAnotherCertificate
        | Defect::SctOfAnotherIssuer => untrusted("(SCT) does not verify"),
        Defect::NoLogEntry => untrusted("it has no transparency log entry"),
        Defect::LogEntryByUnknownLog => untrusted("of a log that the trust root sigstore does not know"),
        Defect::LogEntryOfAnotherEnvelope
        | Defect::LogEntryOfAnotherSignature
        | Defect::LogEntryOfAnotherCertificate
        | Defect::LogEntryOfTheOtherVerifier => untrusted("does not describe this signature by this signer"),
        Defect::LogEntryNamesAnotherLog if is_att => untrusted("signed timestamp (SET) does not verify"),
        Defect::LogEntryNamesAnotherLog => {
            untrusted("the checkpoint of its log entry's inclusion proof does not verify")
        }
        // A layer states no kind.
        Defect::LogEntryKindWrong if is_att => None,
        Defect::LogEntryKindWrong => {
            let reason = if form.is_keyed() { Reason::UntrustedSignature } else { MALFORMED };
            Some((reason, "of another kind than the bundle states"))
        }
        Defect::SetMissing if is_v01 => untrusted("signed timestamp (SET) does not verify"),
        // Of a key the time of signing need not be known, and the proof is enough.
        Defect::SetMissing if form.is_keyed() && !is_att => None,
        Defect::SetMissing => untrusted(unsigned_time),
        Defect::SetInvalid | Defect::IntegratedTimeChanged => {
            untrusted("signed timestamp (SET) does not verify")
        }
        Defect::IntegratedTimeInFuture => untrusted("in the future"),
        Defect::InclusionProofMissing if is_v01 => None,
        Defect::InclusionProofMissing if form.is_v2() => {
            untrusted("neither a signed timestamp (SET) nor an inclusion proof")
        }
        // The checkpoint of Rekor v2 is what says the root.
        Defect::CheckpointRootWrong if form.is_v2() => untrusted("inclusion proof does not verify"),
        Defect::InclusionProofMissing
        | Defect::InclusionProofInvalid
        | Defect::InclusionProofOfAnotherEntry => untrusted("inclusion proof does not verify"),
        Defect::CheckpointSignatureInvalid | Defect::CheckpointByUnknownLog | Defect::CheckpointRootWrong => {
            untrusted("the checkpoint of its log entry's inclusion proof does not verify")
        }
        Defect::TimestampInvalid
        | Defect::TimestampOfAnotherSignature
        | Defect::TimestampByUnknownAuthority => untrusted("its timestamp (RFC 3161) does not verify"),
        // Rekor v1 states a time of its own, and of a key the time need not be known.
        Defect::TimestampMissing if form.is_keyed() || (form.entry.is_some() && !form.is_v2()) => None,
        Defect::TimestampMissing => untrusted(unsigned_time),
        Defect::ExtensionMissing(_) => unreachable!("for the policy to refuse"),
    }
}

#[test]
fn one_wrong_thing_is_enough_in_every_form() {
    let (mut cases, statement) = (0, statement());
    for form in FORMS {
        let world = World::of(form);
        world.admitted(&world.signing().sign(&statement));
        world.admitted(&world.signing().with_timestamp().sign(&statement));
        for defect in Defect::ALL {
            let forged = world.signing().defect(defect).sign(&statement);
            match expected(defect, form) {
                Some((reason, words)) => {
                    cases += 1;
                    denied(&world.judge(&forged), reason, words, &(form, defect));
                }
                None => world.admitted(&forged),
            }
        }
    }
    println!("{cases} forgeries denied");
    assert!(cases >= 150, "{cases}");
}

/// Whoever watches a log for what is signed in a name finds it by the certificate: an entry that does not name it hides the signer.
#[test]
fn a9_every_log_entry_names_this_certificate_or_this_key() {
    let (mut cases, statement) = (0, statement());
    for form in FORMS.into_iter().filter(|form| form.entry.is_some()) {
        let world = World::of(form);
        world.admitted(&world.signing().with_timestamp().sign(&statement));
        for defect in [Defect::LogEntryOfTheOtherVerifier, Defect::LogEntryOfAnotherCertificate] {
            if form.is_keyed() && defect.is_of_certificate() {
                continue;
            }
            cases += 1;
            let forged = world.signing().with_timestamp().defect(defect).sign(&statement);
            let words = "does not describe this signature by this signer";
            denied(&world.judge(&forged), Reason::UntrustedSignature, words, &(form, defect));
        }
    }
    assert!(cases >= 30, "{cases}");
}
