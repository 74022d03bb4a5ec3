//! How large an attestation may be, and how many parts it may have. Each limit has a twin that just keeps to it and is believed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod trust_support;

use std::fmt::Write as _;

use bonafide::{
    domain::{evidence::Finding, identity::TrustRootName},
    gather::ports::{RawAttestation, TrustRoots},
    trust::Roots,
};
use bonafide_kit::{
    scenario::signer,
    sigstore::{Build, BundleVersion, Signed, Sigstore, statement_v1},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use trust_support::{bundle, layer};

const MIB: usize = 1 << 20;

fn statement() -> Value {
    statement_v1(&[("app", &"ab".repeat(32))], &Build::of(&signer()))
}

fn signed(sigstore: &Sigstore, statement: impl AsRef<[u8]>) -> Signed {
    sigstore.signing(&signer()).with_timestamp().sign(statement)
}

/// The bundle with so many of what an array of it has.
fn many(sigstore: &Sigstore, version: BundleVersion, array: &str, count: usize) -> RawAttestation {
    let mut json = signed(sigstore, statement().to_string()).bundle(version);
    let items = json.pointer_mut(array).unwrap().as_array_mut().unwrap();
    let one = items[0].clone();
    items.resize(count, one);
    bundle(json.to_string().into())
}

fn of_statement(sigstore: &Sigstore, statement: impl AsRef<[u8]>) -> RawAttestation {
    bundle(signed(sigstore, statement).bundle_json(BundleVersion::V03).into())
}

/// An attestation that is so large in one way.
type Made = fn(&Sigstore, usize) -> RawAttestation;

/// What is limited, by how much, and how to make it.
const LIMITS: [(&str, usize, Made); 8] = [
    ("the bytes of a bundle", 16 * MIB, |sigstore, size| {
        let mut json = signed(sigstore, statement().to_string()).bundle_json(BundleVersion::V03).into_bytes();
        json.resize(size, b' ');
        bundle(json)
    }),
    ("the bytes of a payload", 8 * MIB, |sigstore, size| {
        let mut payload = statement().to_string().into_bytes();
        payload.resize(size, b' ');
        of_statement(sigstore, payload)
    }),
    // The statement and its predicate are two of them.
    ("the depth of a payload", 128, |sigstore, depth| {
        let mut statement = statement();
        let nested = (2..depth).fold(json!(0), |inner, _| json!([inner]));
        statement["predicate"]["nested"] = nested;
        of_statement(sigstore, statement.to_string())
    }),
    ("the subjects of a statement", 4096, |sigstore, count| {
        let mut statement = statement();
        let one = statement["subject"][0].clone();
        statement["subject"].as_array_mut().unwrap().resize(count, one);
        of_statement(sigstore, statement.to_string())
    }),
    ("the log entries of a bundle", 8, |sigstore, count| {
        many(sigstore, BundleVersion::V03, "/verificationMaterial/tlogEntries", count)
    }),
    ("the timestamps of a bundle", 8, |sigstore, count| {
        let array = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
        many(sigstore, BundleVersion::V03, array, count)
    }),
    ("the signatures of a checkpoint", 16, |sigstore, count| {
        let mut json = signed(sigstore, statement().to_string()).bundle(BundleVersion::V03);
        let envelope = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
        let envelope = json.pointer_mut(envelope).unwrap();
        let mut text = envelope.as_str().unwrap().to_owned();
        let line = text.lines().last().unwrap().to_owned();
        for _ in 1..count {
            writeln!(text, "{line}").unwrap();
        }
        *envelope = json!(text);
        bundle(json.to_string().into())
    }),
    ("the bytes of an annotation", MIB, |sigstore, size| {
        let (envelope, mut annotations) = signed(sigstore, statement().to_string()).cosign_att_layer();
        let entry = annotations.get_mut("dev.sigstore.cosign/bundle").unwrap();
        *entry = format!("{entry}{}", " ".repeat(size - entry.len()));
        layer(envelope, annotations)
    }),
];

#[test]
fn each_is_believed_at_its_limit_and_refused_beyond() {
    let sigstore = Sigstore::new();
    let roots = Roots::from_json(TrustRootName::default(), &sigstore.trusted_root_json()).unwrap();
    let find = |raw: &RawAttestation| roots.verify(raw, Timestamp::now()).finding;
    let mut messages = String::new();
    for (what, most, made) in LIMITS {
        match find(&made(&sigstore, most)) {
            Finding::Verified(_) => {}
            other => panic!("{what}, {most}: {other:?}"),
        }
        match find(&made(&sigstore, most + 1)) {
            Finding::Malformed(why) => writeln!(messages, "{what}: {why}").unwrap(),
            other => panic!("{what}, one more than {most}: {other:?}"),
        }
    }
    insta::assert_snapshot!(messages);
}

/// A chain of the bundle's own is read where the root has the rest of it.
#[test]
fn a_chain_has_so_many_certificates() {
    let sigstore = Sigstore::new();
    let roots = Roots::from_json(TrustRootName::default(), &sigstore.trusted_root_json()).unwrap();
    let found = |count| {
        let array = "/verificationMaterial/x509CertificateChain/certificates";
        let raw = many(&sigstore, BundleVersion::V02, array, count);
        match roots.verify(&raw, Timestamp::now()).finding {
            Finding::Malformed(why) => why,
            other => format!("{other:?}"),
        }
    };
    assert!(found(1).starts_with("Verified"));
    assert!(!found(10).contains("at most"), "{}", found(10));
    assert_eq!(found(11), "the bundle has 11 certificates; at most 10 are read");
}
