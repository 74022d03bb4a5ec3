//! Trust roots that differ in one thing: when a log or an authority was in use, and who else is in the root.

use bonafide_kit::sigstore::{BundleVersion, EntryKind, Sigstore};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::own::{Client, fails, identity, statement};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The bundle under the root after a change of it.
fn verify(root: &Value, bundle: &Value) -> Result<(), String> {
    Client::of(&root.to_string()).verify(bundle)
}

#[test]
fn the_end_of_a_logs_or_an_authoritys_time_belongs_to_it() {
    let at = Timestamp::from_second(Timestamp::now().as_second() - 3600).unwrap();
    let sigstore = Sigstore::new();
    let sign =
        |kind| sigstore.signing(&identity()).at(at).entry(kind).sign(statement()).bundle(BundleVersion::V03);
    let (v1, v2) = (sign(EntryKind::Dsse001), sign(EntryKind::HashedRekord002));
    for (list, bundle, key) in [
        ("tlogs", &v1, "/0/publicKey/validFor"),
        ("tlogs", &v2, "/1/publicKey/validFor"),
        ("timestampAuthorities", &v2, "/0/validFor"),
        ("certificateAuthorities", &v1, "/0/validFor"),
    ] {
        for (bound, inside, outside) in [("end", at, at - SECOND), ("start", at, at + SECOND)] {
            let with = |time: Timestamp| {
                let mut root = sigstore.trusted_root();
                *root.pointer_mut(&format!("/{list}{key}/{bound}")).unwrap() = json!(time.to_string());
                verify(&root, bundle)
            };
            with(inside).unwrap_or_else(|reason| panic!("{list} {bound}: {reason}"));
            fails(with(outside), "");
        }
    }
}

#[test]
fn a_root_that_says_half_is_no_root() {
    let sigstore = Sigstore::new();
    let bundle = sigstore.sign_statement(&identity(), statement()).bundle(BundleVersion::V03);
    verify(&sigstore.trusted_root(), &bundle).unwrap();
    let mut root = sigstore.trusted_root();
    root["tlogs"][0]["publicKey"]["validFor"].as_object_mut().unwrap().remove("start");
    fails(verify(&root, &bundle), "not a Sigstore trusted root");
    let mut root = sigstore.trusted_root();
    root["timestampAuthorities"][0]["certChain"]["certificates"] = json!([]);
    fails(verify(&root, &bundle), "cannot be used");
    for list in ["tlogs", "certificateAuthorities", "ctlogs"] {
        let mut root = sigstore.trusted_root();
        root[list] = json!([]);
        fails(verify(&root, &bundle), "");
    }
}

#[test]
fn another_certificate_transparency_log_will_not_do() {
    let (sigstore, other) = (Sigstore::new(), Sigstore::new());
    let bundle = sigstore.sign_statement(&identity(), statement()).bundle(BundleVersion::V03);
    let mut root = sigstore.trusted_root();
    root["ctlogs"] = other.trusted_root()["ctlogs"].clone();
    fails(verify(&root, &bundle), "(SCT) does not verify");
    // Both may be there.
    root["ctlogs"].as_array_mut().unwrap().push(sigstore.trusted_root()["ctlogs"][0].clone());
    verify(&root, &bundle).unwrap();
}

#[test]
fn an_authority_of_the_same_name_does_not_stand_in_the_way() {
    let (sigstore, other) = (Sigstore::new(), Sigstore::new());
    let bundle = sigstore.sign_statement(&identity(), statement()).bundle(BundleVersion::V03);
    let mut root = sigstore.trusted_root();
    let decoy = other.trusted_root()["certificateAuthorities"][0].clone();
    root["certificateAuthorities"].as_array_mut().unwrap().insert(0, decoy.clone());
    verify(&root, &bundle).unwrap();
    root["certificateAuthorities"] = json!([decoy]);
    fails(verify(&root, &bundle), "does not chain");
}

#[test]
fn an_authoritys_time_is_not_another_ones() {
    let at = Timestamp::from_second(Timestamp::now().as_second() - 3600).unwrap();
    let (sigstore, other) = (Sigstore::new(), Sigstore::new());
    let signing = || sigstore.signing(&identity()).at(at).entry(EntryKind::HashedRekord002);
    let bundle = signing().sign(statement()).bundle(BundleVersion::V03);
    let mut root = sigstore.trusted_root();
    root["timestampAuthorities"][0]["validFor"]["end"] = json!((at - SECOND).to_string());
    fails(verify(&root, &bundle), "by an authority that the trust root does not know at that time");
    // One that was in use then, and did not make the timestamp.
    let borrowed = other.trusted_root()["timestampAuthorities"][0].clone();
    root["timestampAuthorities"].as_array_mut().unwrap().push(borrowed);
    fails(verify(&root, &bundle), "by an authority that the trust root does not know at that time");
    root["timestampAuthorities"][0]["validFor"]["end"] = json!(at.to_string());
    verify(&root, &bundle).unwrap();
}

#[test]
fn each_of_several_timestamps_must_hold() {
    let sigstore = Sigstore::new();
    let root = sigstore.trusted_root();
    let kind = EntryKind::HashedRekord002;
    let mut bundle = sigstore.signing(&identity()).entry(kind).sign(statement()).bundle(BundleVersion::V03);
    let place = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
    let own = bundle.pointer(place).unwrap()[0].clone();
    let add = |bundle: &mut Value, stamp: &Value| {
        bundle.pointer_mut(place).unwrap().as_array_mut().unwrap().push(stamp.clone());
    };
    add(&mut bundle, &own);
    verify(&root, &bundle).unwrap();
    let other = sigstore.signing(&identity()).entry(kind).sign(statement()).bundle(BundleVersion::V03);
    add(&mut bundle, &other.pointer(place).unwrap()[0]);
    fails(verify(&root, &bundle), "its timestamp (RFC 3161) does not verify");
    // Both genuine, and one of a time when the certificate was not valid any more.
    let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let stamped = |again: Timestamp| {
        let signing = sigstore.signing(&identity()).at(now - hour - hour).entry(kind);
        signing.also_stamped_at(again).sign(statement()).bundle(BundleVersion::V03)
    };
    verify(&root, &stamped(now - hour - hour + SECOND)).unwrap();
    fails(verify(&root, &stamped(now - hour)), "was not valid at the time of signing");
}
