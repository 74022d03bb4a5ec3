//! Authorities that are no Fulcio: what a `TrustRoot` of one accepts, and what it does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;

use bonafide::{
    domain::{
        digest::Digest,
        evidence::{Finding, Layout, Verified},
    },
    gather::ports::{RawAttestation, RawContent, RootKeeper as _, TrustRoots as _},
    trust::{Keeper, Roots, compile_trust_root},
};
use bonafide_kit::sigstore::{Build, BundleVersion, Defect, Identity, San, Signed, Sigstore, statement_v1};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const ISSUER: &str = "https://pki.example";

/// An authority with a timestamp authority and no logs.
fn sigstore() -> Sigstore {
    Sigstore::builder().timestamps_only().build()
}

/// A certificate of somebody whom no OIDC issuer vouches for.
fn somebody() -> Identity {
    let builder = Identity::email("builds@corp.example", ISSUER);
    builder.without_extension(1).without_extension(8)
}

fn statement() -> String {
    let github = Identity::github("acme/app", ".github/workflows/build.yml", "refs/heads/main", "push");
    statement_v1(&[("ghcr.io/acme/app", &"ab".repeat(32))], &Build::of(&github)).to_string()
}

/// The certificates of a part of a trust root, PEM.
fn pem(sigstore: &Sigstore, part: &str) -> String {
    let root = sigstore.trusted_root();
    let chain = root[part][0]["certChain"]["certificates"].as_array().unwrap().clone();
    let one = |entry: &Value| {
        let base64 = entry["rawBytes"].as_str().unwrap();
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    };
    chain.iter().map(one).collect()
}

fn object(sigstore: &Sigstore, with_timestamps: bool) -> Value {
    let mut authority = json!({"certificates": pem(sigstore, "certificateAuthorities"), "issuer": ISSUER});
    let mut spec = json!({"unsafeSkipTransparencyLog": true});
    if with_timestamps {
        authority["timestampAuthority"] = pem(sigstore, "timestampAuthorities").into();
    } else {
        spec["unsafeSkipTimestamp"] = true.into();
    }
    spec["certificateAuthority"] = authority;
    json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "corp"}, "spec": spec})
}

fn finding(object: &Value, content: RawContent) -> Finding {
    assert_eq!(compile_trust_root(object).errors, []);
    let keeper = Keeper::new(Roots::embedded().unwrap());
    keeper.keep(std::slice::from_ref(object));
    let raw = RawAttestation { layout: Layout::Referrer, found_at: Digest::of(b""), content };
    keeper.verify(&raw, Timestamp::now()).finding
}

fn bundle(signed: &Signed) -> RawContent {
    RawContent::Bundle(Bytes::from(signed.bundle_json(BundleVersion::V03)))
}

fn layer(signed: &Signed) -> RawContent {
    let (envelope, annotations): (Vec<u8>, BTreeMap<String, String>) = signed.cosign_att_layer();
    RawContent::CosignLayer { envelope: Bytes::from(envelope), annotations }
}

#[track_caller]
fn verified(finding: Finding) -> Box<Verified> {
    match finding {
        Finding::Verified(verified) => verified,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn untrusted(finding: &Finding, words: &str) {
    match finding {
        Finding::Untrusted(why) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stamped_signature_is_good_under_its_own_authority_alone() {
    let (ours, theirs) = (sigstore(), sigstore());
    let signed = ours.signing(&somebody()).sign(statement());
    let verified = verified(finding(&object(&ours, true), bundle(&signed)));
    assert_eq!(
        verified.readings.iter().map(|reading| reading.trust_root.to_string()).collect::<Vec<_>>(),
        ["corp"]
    );
    let certificate = &verified.readings[0].certificate;
    assert_eq!((certificate.issuer.as_str(), certificate.subject.as_str()), (ISSUER, "builds@corp.example"));
    // Another authority of the same names.
    let by_another = finding(&object(&theirs, true), bundle(&signed));
    untrusted(&by_another, "its timestamp (RFC 3161) does not verify");
    untrusted(&finding(&object(&theirs, false), bundle(&signed)), "does not chain to the trust root corp");
}

#[test]
fn an_issuer_of_its_own_stays() {
    let ours = sigstore();
    let signed = ours.signing(&Identity::new(San::Email("a@b.example".to_owned()), "https://own.example"));
    let verified = verified(finding(&object(&ours, true), bundle(&signed.sign(statement()))));
    assert_eq!(verified.readings[0].certificate.issuer, "https://own.example");
}

#[test]
fn without_a_timestamp_only_a_root_that_skips_it_accepts() {
    let ours = sigstore();
    let mut bare: Value =
        serde_json::from_str(&ours.signing(&somebody()).sign(statement()).bundle_json(BundleVersion::V03))
            .unwrap();
    bare["verificationMaterial"]["timestampVerificationData"] = json!({"rfc3161Timestamps": []});
    let bare = RawContent::Bundle(Bytes::from(bare.to_string()));
    untrusted(&finding(&object(&ours, true), bare.clone()), "nothing vouches for the time of signing");
    verified(finding(&object(&ours, false), bare));
}

#[test]
fn layers_bring_no_time_of_their_own() {
    let ours = sigstore();
    let signed = ours.signing(&somebody()).sign(statement());
    untrusted(&finding(&object(&ours, true), layer(&signed)), "nothing vouches for the time of signing");
    verified(finding(&object(&ours, false), layer(&signed)));
}

/// Of what is left to check, nothing is skipped.
#[test]
fn each_defect_is_found() {
    let ours = sigstore();
    for timed in [true, false] {
        let object = object(&ours, timed);
        verified(finding(&object, bundle(&ours.signing(&somebody()).sign(statement()))));
        for (defect, words) in [
            (Defect::SignatureInvalid, "its signature does not verify"),
            (Defect::CertificateSignatureInvalid, "does not chain to the trust root corp"),
            (Defect::NoExtendedKeyUsage, "its certificate is not for signing code"),
        ] {
            let signed = ours.signing(&somebody()).defect(defect).sign(statement());
            untrusted(&finding(&object, bundle(&signed)), words);
        }
    }
}

#[test]
fn a_certificate_that_had_ended_is_refused_by_the_stamp_and_by_nothing_else() {
    let ours = sigstore();
    let now = Timestamp::now();
    let hours = |count| now - SignedDuration::from_hours(count);
    for (until, ended) in [(now + SignedDuration::from_hours(1), false), (hours(1), true)] {
        let signed = ours.signing(&somebody().valid_between(hours(2), until)).at(now).sign(statement());
        let found = finding(&object(&ours, true), bundle(&signed));
        if ended {
            untrusted(&found, "its certificate was not valid at the time of signing");
        } else {
            verified(found);
        }
        // Which is what `unsafeSkipTimestamp` says.
        verified(finding(&object(&ours, false), bundle(&signed)));
    }
}

/// The certificates of an instance with a log, written down as an authority alone, would be that instance without its log.
#[test]
fn the_authority_of_a_built_in_root_is_no_authority_alone() {
    let public = include_str!("authorities_data/fulcio_intermediate.pem");
    let mut object = object(&sigstore(), false);
    assert_eq!(compile_trust_root(&object).errors, []);
    object["spec"]["certificateAuthority"]["certificates"] = public.into();
    let errors: Vec<String> = compile_trust_root(&object).errors.iter().map(ToString::to_string).collect();
    let told = "spec.certificateAuthority: holds a key of the trust root sigstore, which has a log: what has one is not believed without it";
    assert_eq!(errors, [told]);
}
