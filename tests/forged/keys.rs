//! Signatures with keys: by the key that the policy names, and logged where it wants that.

use bonafide::{
    domain::{
        identity::TrustRootName,
        verdict::{Outcome, Reason, SignedBy},
    },
    trust::Roots,
};
use bonafide_kit::sigstore::{BundleVersion, Defect, EntryKind, KeyKind, SigningKey};
use serde_json::{Value, json};

use crate::{
    form::{By, FORMS, Form, Kept, World, denied, judge, statement},
    trust_support::{bundle, layer},
};

fn keyed() -> impl Iterator<Item = Form> {
    FORMS.into_iter().filter(|form| form.is_keyed())
}

/// The policy with another signer in place of its own.
fn naming(world: &World, key: &SigningKey, log: &str) -> Value {
    let mut policy = world.policy();
    policy["spec"]["signers"][0]["publicKey"] = json!({"pem": key.public_pem(), "transparencyLog": log});
    if log == "Optional" {
        policy["spec"]["signers"][0].as_object_mut().unwrap().remove("trustRoot");
    }
    policy
}

#[test]
fn no_other_key_will_do() {
    let others = KeyKind::ALL.map(SigningKey::generate);
    for form in keyed() {
        let world = World::of(form);
        let raw = form.of(&world.signing().sign(statement()));
        for log in ["Required", "Optional"] {
            let verdict = judge(&world.roots, &naming(&world, &world.key, log), &raw);
            assert_eq!(verdict.outcome, Outcome::Allow, "{form:?}");
            for other in &others {
                let verdict = judge(&world.roots, &naming(&world, other, log), &raw);
                let words = "its signature is not by the key of ci";
                denied(&verdict, Reason::UntrustedSignature, words, &(form, log));
                let is_ed25519 = other.kind() == KeyKind::Ed25519;
                assert_eq!(verdict.problems[0].found.contains("Ed25519ph"), is_ed25519, "{form:?}");
            }
        }
    }
}

#[test]
fn a_log_is_wanted_unless_the_policy_says_otherwise() {
    for form in keyed() {
        let world = World::of(form);
        for defect in Defect::ALL.into_iter().filter(|defect| defect.is_of_log() || defect.is_of_timestamp())
        {
            let raw = form.of(&world.signing().defect(defect).sign(statement()));
            let optional = judge(&world.roots, &naming(&world, &world.key, "Optional"), &raw);
            assert_eq!(optional.outcome, Outcome::Allow, "{form:?} {defect:?}");
            // Where the log does not vouch, neither does a root.
            let required = judge(&world.roots, &world.policy(), &raw);
            let logged = required.outcome == Outcome::Allow;
            assert_eq!(optional.proofs[0].trust_root.is_some(), logged, "{form:?} {defect:?}");
        }
        let raw = form.of(&world.signing().defect(Defect::NoLogEntry).sign(statement()));
        let words = "it is signed with the key of ci, but it has no transparency log entry";
        denied(&judge(&world.roots, &world.policy(), &raw), Reason::UntrustedSignature, words, &form);
    }
}

#[test]
fn what_is_proved_is_the_key_and_the_time_that_the_log_states() {
    for form in keyed() {
        let world = World::of(form);
        let signed = world.signing().sign(statement());
        let verdict = world.judge(&signed);
        let SignedBy::Key { kind, logged, at, .. } = &verdict.proofs[0].signed_by else { panic!("{form:?}") };
        assert_eq!(By::Key(kit_kind(*kind)), form.by);
        assert!(*logged);
        assert!(at.is_some(), "{form:?}");
        if let Some(time) = signed.integrated_time() {
            assert_eq!(*at, Some(time), "{form:?}");
        }
    }
}

fn kit_kind(kind: bonafide::domain::key::KeyKind) -> KeyKind {
    use bonafide::domain::key::KeyKind as Ours;
    match kind {
        Ours::P256 => KeyKind::P256,
        Ours::P384 => KeyKind::P384,
        Ours::P521 => KeyKind::P521,
        Ours::Rsa(2048) => KeyKind::Rsa2048,
        Ours::Rsa(3072) => KeyKind::Rsa3072,
        Ours::Rsa(bits) => panic!("{bits}"),
        Ours::Ed25519 => KeyKind::Ed25519,
    }
}

#[test]
fn a_key_is_no_certificate_and_a_certificate_no_key() {
    for entry in [EntryKind::Dsse001, EntryKind::Intoto002] {
        for kept in [Kept::Bundle(BundleVersion::V03), Kept::Att] {
            let certified = World::of(Form { by: By::Certificate, kept, entry: Some(entry) });
            let keyed = World::of(Form { by: By::Key(KeyKind::P256), kept, entry: Some(entry) });
            let by_certificate = certified.form.of(&certified.signing().sign(statement()));
            let by_key = keyed.form.of(&keyed.signing().sign(statement()));
            assert_eq!(judge(&certified.roots, &certified.policy(), &by_certificate).outcome, Outcome::Allow);
            assert_eq!(judge(&keyed.roots, &keyed.policy(), &by_key).outcome, Outcome::Allow);
            let verdict = judge(&certified.roots, &keyed.policy(), &by_certificate);
            denied(&verdict, Reason::WrongSigner, "with a certificate, not with the key", &(entry, kept));
            let verdict = judge(&keyed.roots, &certified.policy(), &by_key);
            denied(
                &verdict,
                Reason::UntrustedSignature,
                "signed with a key, and the policy names none",
                &(entry, kept),
            );
        }
    }
}

#[test]
fn one_of_several_signatures_in_a_layer_is_enough_and_there_are_not_very_many() {
    let form = Form { by: By::Key(KeyKind::P256), kept: Kept::Att, entry: Some(EntryKind::Dsse001) };
    let world = World::of(form);
    let (envelope, annotations) = world.signing().sign(statement()).cosign_att_layer();
    let other = World::of(form);
    let (theirs, _) = other.signing().sign(statement()).cosign_att_layer();
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let (mut ours, theirs) = (parse(&envelope), parse(&theirs));
    let judge = |envelope: &Value| {
        let raw = layer(envelope.to_string().into_bytes(), annotations.clone());
        judge(&world.roots, &world.policy(), &raw)
    };
    assert_eq!(judge(&ours).outcome, Outcome::Allow);
    let signature = |envelope: &Value| envelope["signatures"][0].clone();
    ours["signatures"] = json!([signature(&theirs), signature(&ours)]);
    assert_eq!(judge(&ours).outcome, Outcome::Allow);
    let mut only_theirs = ours.clone();
    only_theirs["signatures"] = json!([signature(&theirs)]);
    denied(&judge(&only_theirs), Reason::UntrustedSignature, "is not by the key", &"theirs alone");
    ours["signatures"] = Value::Array(vec![signature(&ours); 17]);
    denied(&judge(&ours), Reason::MalformedAttestation, "17 signatures; at most 16", &"many");
    ours["signatures"] = json!([]);
    denied(&judge(&ours), Reason::MalformedAttestation, "has no signature", &"none");
}

#[test]
fn the_hint_in_a_bundle_is_no_proof() {
    let form = Form {
        by: By::Key(KeyKind::P256),
        kept: Kept::Bundle(BundleVersion::V03),
        entry: Some(EntryKind::Dsse001),
    };
    let world = World::of(form);
    let signed = world.signing().sign(statement());
    let with_hint = |hint: &str| {
        let mut json = signed.bundle(BundleVersion::V03);
        json["verificationMaterial"]["publicKey"]["hint"] = json!(hint);
        bundle(json.to_string().into_bytes())
    };
    for hint in ["", "another key", "AAAA"] {
        assert_eq!(judge(&world.roots, &world.policy(), &with_hint(hint)).outcome, Outcome::Allow);
    }
    // Nor does the right hint help a key that is not the one that signed.
    let other = World::of(form);
    let verdict = judge(&world.roots, &other.policy(), &with_hint("key"));
    denied(&verdict, Reason::UntrustedSignature, "is not by the key", &"another key");
}

#[test]
fn without_a_log_the_claimed_time_is_all_there_is() {
    let form = Form { by: By::Key(KeyKind::P256), kept: Kept::Att, entry: Some(EntryKind::Dsse001) };
    let world = World::of(form);
    let (envelope, _) = world.signing().sign(statement()).cosign_att_layer();
    let raw = layer(envelope, std::collections::BTreeMap::new());
    let mut policy = naming(&world, &world.key, "Optional");
    policy["spec"]["provenance"] = json!({"maxAge": "1000000h"});
    assert_eq!(judge(&world.roots, &policy, &raw).outcome, Outcome::Allow);
    // The same without a claim has no time at all.
    let timeless = statement().replace("finishedOn", "x").replace("startedOn", "y");
    let (envelope, _) = world.signing().sign(&timeless).cosign_att_layer();
    let raw = layer(envelope, std::collections::BTreeMap::new());
    let words = "nothing proves or claims when it was built";
    denied(&judge(&world.roots, &policy, &raw), Reason::ProvenanceTooOld, words, &"no time");
    // And nobody needs to know any root for it.
    let roots = Roots::from_json(TrustRootName::github(), &World::of(FORMS[11]).sigstore.trusted_root_json())
        .unwrap();
    policy["spec"]["provenance"] = json!({});
    assert_eq!(judge(&roots, &policy, &raw).outcome, Outcome::Allow);
}
