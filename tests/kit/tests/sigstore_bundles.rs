//! The kit's bundles against an independent judge: `sigstore-verify` accepts the right ones under the
//! kit's trust root, and refuses each defect by the check that the defect is meant for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use bonafide_kit::sigstore::{
    Build, BundleVersion, Defect, EntryKind, GITHUB_ISSUER, Identity, KeyKind, San, Signed, SigningKey,
    Sigstore, statement_cosign_sign, statement_v1, statement_v02,
};
use jiff::{SignedDuration, Timestamp};
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, DerPublicKey, Sha256Hash};
use sigstore_verify::{PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult, Verifier};

const DIGEST: &str = "234e2c830c2fb31ac5671789d22adfe44d30c3ee831d01beae5e237841a13122";

fn builder() -> Identity {
    Identity::github("acme/app", ".github/workflows/build.yml", "refs/heads/main", "push")
}

fn statement() -> String {
    statement_v1(&[("ghcr.io/acme/app", DIGEST)], &Build::of(&builder())).to_string()
}

fn verify(
    sigstore: &Sigstore,
    signed: &Signed,
    version: BundleVersion,
) -> Result<VerificationResult, String> {
    verify_with(sigstore, signed, version, &VerificationPolicy::any_identity())
}

fn verify_with(
    sigstore: &Sigstore,
    signed: &Signed,
    version: BundleVersion,
    policy: &VerificationPolicy,
) -> Result<VerificationResult, String> {
    let root = TrustedRoot::from_json(&sigstore.trusted_root_json()).map_err(|error| error.to_string())?;
    let verifier = Verifier::new(&root).map_err(|error| error.to_string())?;
    let bundle = Bundle::from_json(&signed.bundle_json(version)).map_err(|error| error.to_string())?;
    let digest = Sha256Hash::from_hex(DIGEST).unwrap();
    verifier.verify(digest, &bundle, policy).map_err(|error| error.to_string())
}

#[test]
fn right_bundles_of_every_version_and_entry_kind_verify() {
    let sigstore = Sigstore::new();
    for version in BundleVersion::ALL {
        for kind in [EntryKind::Dsse001, EntryKind::Intoto002] {
            let signed = sigstore.signing(&builder()).entry(kind).sign(statement());
            let result =
                verify(&sigstore, &signed, version).unwrap_or_else(|e| panic!("{version:?} {kind:?}: {e}"));
            assert!(result.certificate_verified() && result.sct_verified() && result.tlog_verified());
            assert_eq!(result.integrated_time(), signed.integrated_time());
            let stamped = sigstore.signing(&builder()).entry(kind).with_timestamp().sign(statement());
            let result = verify(&sigstore, &stamped, version).unwrap();
            assert_eq!(result.verified_timestamps().len(), 2, "the log's time and the authority's");
        }
    }
}

#[test]
fn certificates_state_the_identity() {
    let sigstore = Sigstore::new();
    let reusable = builder().signed_by("acme/workflows/.github/workflows/image.yml@refs/tags/v1");
    let person = Identity::email("build@partner.example", "https://accounts.google.com");
    for (identity, name, issuer) in [
        (builder(), "https://github.com/acme/app/.github/workflows/build.yml@refs/heads/main", GITHUB_ISSUER),
        (
            reusable,
            "https://github.com/acme/workflows/.github/workflows/image.yml@refs/tags/v1",
            GITHUB_ISSUER,
        ),
        (person, "build@partner.example", "https://accounts.google.com"),
    ] {
        assert_eq!(identity.subject(), name);
        let signed = sigstore.sign_statement(&identity, statement());
        let policy = VerificationPolicy::new(name, issuer);
        verify_with(&sigstore, &signed, BundleVersion::V03, &policy).unwrap();
    }
    let legacy = Identity::github_legacy("acme/app", ".github/workflows/build.yml", "refs/tags/v1", "push");
    assert_eq!((legacy.value(6), legacy.value(14)), (Some("refs/tags/v1".to_owned()), None));
    verify(&sigstore, &sigstore.sign_statement(&legacy, statement()), BundleVersion::V02).unwrap();
    let nameless = builder().san(San::None);
    let result =
        verify(&sigstore, &sigstore.sign_statement(&nameless, statement()), BundleVersion::V03).unwrap();
    assert!(result.identity().is_none());
}

#[test]
fn certificates_carry_the_claims_of_github_actions() {
    let sigstore = Sigstore::new();
    let signed = sigstore.sign_statement(&builder().commit(&"c".repeat(40)), statement());
    let result = verify(&sigstore, &signed, BundleVersion::V03).unwrap();
    let claims = format!("{:?}", result.certificate().unwrap().ci_claims);
    for text in ["https://github.com/acme/app", "refs/heads/main", "github-hosted", "push", &"c".repeat(40)] {
        assert!(claims.contains(text), "{text} in {claims}");
    }
}

#[test]
fn old_signatures_verify() {
    let sigstore = Sigstore::new();
    let then = Timestamp::now() - SignedDuration::from_hours(3 * 365 * 24);
    let signed = sigstore.signing(&builder()).at(then).with_timestamp().sign(statement());
    let result = verify(&sigstore, &signed, BundleVersion::V03).unwrap();
    assert_eq!(result.integrated_time().unwrap().as_second(), then.as_second());
}

#[test]
fn statements_of_each_kind_verify() {
    let sigstore = Sigstore::new();
    let build = Build::of(&builder()).ran("2025-02-25T21:00:00Z", "2025-02-25T21:10:00Z");
    let subjects = [("other", "00".repeat(32)), ("ghcr.io/acme/app", DIGEST.to_owned())];
    let subjects: Vec<(&str, &str)> = subjects.iter().map(|(name, hex)| (*name, hex.as_str())).collect();
    for value in
        [statement_v02(&subjects, &build), statement_v1(&subjects, &build), statement_cosign_sign(&subjects)]
    {
        let signed = sigstore.sign_statement(&builder(), value.to_string());
        assert_eq!(signed.predicate_type().as_deref(), value["predicateType"].as_str());
        verify(&sigstore, &signed, BundleVersion::V03).unwrap();
    }
}

/// The words of `sigstore-verify` for the check that finds the defect.
fn expected(defect: Defect) -> &'static [&'static str] {
    match defect {
        Defect::SignatureInvalid | Defect::PayloadSwapped | Defect::PayloadTypeSwapped => {
            &["DSSE signature verification failed"]
        }
        Defect::ChainOfAnotherAuthority | Defect::CertificateSignatureInvalid => {
            &["InvalidSignatureForPublicKey", "UnknownIssuer"]
        }
        Defect::CertificateExpired => &["xpired"],
        Defect::CertificateNotYetValid | Defect::TimestampOutsideCertificate => {
            &["NotValidYet", "not yet valid"]
        }
        Defect::WrongExtendedKeyUsage | Defect::NoExtendedKeyUsage => &["RequiredEkuNotFound"],
        Defect::CertificateIsAuthority => &["CaUsedAsEndEntity"],
        Defect::SctMissing => &["missing SCT"],
        Defect::SctByUnknownLog
        | Defect::SctSignatureInvalid
        | Defect::SctOfAnotherCertificate
        | Defect::SctOfAnotherIssuer => &["SCT signature verification failed"],
        Defect::NoLogEntry => &["must have an inclusion p"],
        Defect::LogEntryByUnknownLog => &["No log key", "nknown"],
        Defect::LogEntryOfAnotherEnvelope => &["payload hash"],
        Defect::LogEntryOfAnotherSignature => &["DSSE signature in bundle does not match"],
        Defect::LogEntryOfAnotherCertificate => &["verifier"],
        Defect::LogEntryOfTheOtherVerifier => &["certificate PEM", "no certificate"],
        Defect::LogEntryKindWrong => &["parse Rekor body", "kind"],
        Defect::SetMissing => &["No verified timestamp", "inclusion promise"],
        Defect::SetInvalid | Defect::IntegratedTimeChanged | Defect::LogEntryNamesAnotherLog => {
            &["SET verification failed"]
        }
        Defect::IntegratedTimeInFuture => &["in the future"],
        Defect::InclusionProofMissing => &["inclusion proof"],
        Defect::InclusionProofInvalid | Defect::InclusionProofOfAnotherEntry => {
            &["inclusion proof verification failed"]
        }
        Defect::CheckpointSignatureInvalid => &["No valid Rekor signature"],
        Defect::CheckpointByUnknownLog => &["No matching Rekor key"],
        Defect::CheckpointRootWrong => &["root hash"],
        Defect::TimestampInvalid
        | Defect::TimestampOfAnotherSignature
        | Defect::TimestampByUnknownAuthority => &["TSA timestamp verification failed"],
        Defect::ExtensionMissing(_) | Defect::TimestampMissing => &[],
    }
}

#[test]
fn every_defect_is_found_by_its_own_check() {
    let sigstore = Sigstore::new();
    let mut failures = Vec::new();
    for kind in [EntryKind::Dsse001, EntryKind::Intoto002] {
        for defect in Defect::ALL {
            for version in BundleVersion::ALL {
                let signed = sigstore.signing(&builder()).entry(kind).defect(defect).sign(statement());
                // The library compares the keys alone. Bonafide does not.
                let is_missed = kind == EntryKind::Intoto002 && defect == Defect::LogEntryOfTheOtherVerifier;
                let spoils = defect.spoils_bundle(version) && !is_missed;
                match (verify(&sigstore, &signed, version), spoils) {
                    (Ok(_), false) => {}
                    (Err(error), true) if expected(defect).iter().any(|words| error.contains(words)) => {}
                    (Err(error), _) => failures.push(format!("{kind:?} {version:?} {defect:?}: {error}")),
                    (Ok(_), true) => failures.push(format!("{kind:?} {version:?} {defect:?}: accepted")),
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn entries_of_rekor_v2_verify_by_their_timestamp_and_not_without() {
    let sigstore = Sigstore::new();
    let signing = || sigstore.signing(&builder()).entry(EntryKind::HashedRekord002);
    for version in [BundleVersion::V02, BundleVersion::V03] {
        let signed = signing().sign(statement());
        let result = verify(&sigstore, &signed, version).unwrap();
        assert!(result.tlog_verified() && result.integrated_time().is_none());
        for defect in [
            Defect::TimestampMissing,
            Defect::LogEntryOfAnotherEnvelope,
            Defect::LogEntryOfAnotherSignature,
            Defect::LogEntryOfAnotherCertificate,
            Defect::InclusionProofInvalid,
            Defect::CheckpointSignatureInvalid,
            Defect::CheckpointByUnknownLog,
        ] {
            verify(&sigstore, &signing().defect(defect).sign(statement()), version).unwrap_err();
        }
    }
}

#[test]
fn what_is_signed_with_a_key_verifies_with_it_and_with_no_other() {
    let sigstore = Sigstore::new();
    let root = TrustedRoot::from_json(&sigstore.trusted_root_json()).unwrap();
    let verifier = Verifier::new(&root).unwrap();
    for kind in KeyKind::ALL {
        let (key, other) = (SigningKey::generate(kind), SigningKey::generate(kind));
        for entry in [EntryKind::Dsse001, EntryKind::Intoto002, EntryKind::HashedRekord002] {
            // The library knows no other key there, and P-521 nowhere.
            if (entry == EntryKind::HashedRekord002 && kind != KeyKind::P256) || kind == KeyKind::P521 {
                continue;
            }
            let signed = sigstore.signing_with(&key).entry(entry).sign(statement());
            let bundle = Bundle::from_json(&signed.bundle_json(BundleVersion::V03)).unwrap();
            let verify = |key: &SigningKey| {
                let key = DerPublicKey::from_pem(&key.public_pem()).unwrap();
                let digest = Sha256Hash::from_hex(DIGEST).unwrap();
                verifier.verify(digest, &bundle, &PublicKeyVerificationPolicy::new(key))
            };
            verify(&key).unwrap_or_else(|error| panic!("{kind:?} {entry:?}: {error}"));
            verify(&other).unwrap_err();
        }
    }
}

#[test]
fn a_missing_extension_is_for_the_policy_to_refuse() {
    let sigstore = Sigstore::new();
    let signed = sigstore.sign_with_defect(&builder(), statement(), Defect::ExtensionMissing(12));
    let result = verify(&sigstore, &signed, BundleVersion::V03).unwrap();
    let claims = format!("{:?}", result.certificate().unwrap().ci_claims);
    assert!(claims.contains("source_repository_uri: None"), "{claims}");
}

#[test]
fn another_instance_is_not_trusted() {
    let (one, other) = (Sigstore::new(), Sigstore::new());
    let signed = other.sign_statement(&builder(), statement());
    verify(&other, &signed, BundleVersion::V03).unwrap();
    verify(&one, &signed, BundleVersion::V03).unwrap_err();
}

#[test]
fn an_instance_of_timestamps_only_verifies_without_its_logs() {
    let sigstore = Sigstore::builder().timestamps_only().build();
    let signed = sigstore.sign_statement(&builder(), statement());
    let lenient = VerificationPolicy::any_identity().skip_tlog_unsafe().skip_sct();
    verify_with(&sigstore, &signed, BundleVersion::V03, &lenient).unwrap();
    verify(&sigstore, &signed, BundleVersion::V03).unwrap_err();
}
