//! One instance does not stand for another: what is verified under one trust root satisfies no signer that names another.

use bonafide::domain::{
    identity::TrustRootName,
    verdict::{Outcome, Reason},
};
use bonafide::trust::{RootError, Roots};
use bonafide_kit::sigstore::{EntryKind, Sigstore};
use serde_json::json;

use crate::form::{By, FORMS, Form, Kept, World, denied, judge, statement};
use bonafide_kit::sigstore::{BundleVersion, Defect, KeyKind};

#[test]
fn another_instance_of_the_same_names_is_not_trusted_in_any_form() {
    let statement = statement();
    for form in FORMS {
        let (ours, theirs) = (World::of(form), World::of(form));
        let signed = theirs.signing().sign(&statement);
        theirs.admitted(&signed);
        // With the key of the other, what is left is the log.
        let policy = theirs.policy();
        let verdict = judge(&ours.roots, &policy, &form.of(&signed));
        let by_timestamp_alone =
            form.entry.is_none() && !matches!(form.by, By::Key(_)) && !matches!(form.kept, Kept::Att);
        let words = if by_timestamp_alone {
            "its timestamp (RFC 3161) does not verify"
        } else {
            "of a log that the trust root sigstore does not know"
        };
        denied(&verdict, Reason::UntrustedSignature, words, &form);
    }
}

#[test]
fn a_signer_is_satisfied_under_the_root_it_names_and_under_no_other() {
    let statement = statement();
    for form in FORMS {
        let world = World::of(form);
        let raw = form.of(&world.signing().sign(&statement));
        let root = world.sigstore.trusted_root_json();
        let under = |names: &[&str]| {
            let mut all = Roots::embedded().unwrap();
            for name in names {
                all = all.with(TrustRootName((*name).to_owned()), &root).unwrap();
            }
            all
        };
        let wanting = |name: &str| {
            let mut policy = world.policy();
            policy["spec"]["signers"][0]["trustRoot"] = json!(name);
            policy
        };
        assert_eq!(judge(&under(&["corp"]), &wanting("corp"), &raw).outcome, Outcome::Allow, "{form:?}");
        let both = under(&["corp", "lab"]);
        for name in ["corp", "lab"] {
            let verdict = judge(&both, &wanting(name), &raw);
            assert_eq!(verdict.outcome, Outcome::Allow, "{form:?}");
            assert_eq!(verdict.proofs[0].trust_root, Some(TrustRootName(name.to_owned())));
        }
        // The same attestation, the same roots, a signer that names one that did not vouch.
        for name in ["sigstore", "other"] {
            let verdict = judge(&under(&["corp"]), &wanting(name), &raw);
            let (reason, words) = if form.is_keyed() {
                (
                    Reason::UntrustedSignature,
                    format!("its log entry is of the trust root corp, not of {name}"),
                )
            } else {
                (Reason::WrongSigner, format!("signed under the trust root corp, not under {name}"))
            };
            denied(&verdict, reason, &words, &(form, name));
        }
    }
}

#[test]
fn a_root_asks_for_what_it_has() {
    let statement = statement();
    let certificate = Form { by: By::Certificate, kept: Kept::Bundle(BundleVersion::V03), entry: None };
    let private = World::of(certificate);
    let signed = private.signing().sign(&statement);
    private.admitted(&signed);

    // The same authorities with a log beside them: what is not logged is not enough any more.
    let logged = Sigstore::new().trusted_root();
    let mut root = private.sigstore.trusted_root();
    root["tlogs"] = logged["tlogs"].clone();
    let with_log = Roots::from_json(TrustRootName::github(), &root.to_string()).unwrap();
    let verdict = judge(&with_log, &private.policy(), &certificate.of(&signed));
    denied(&verdict, Reason::UntrustedSignature, "(SCT)", &"a root with a log");
    root["tlogs"] = json!([]);
    root["ctlogs"] = logged["ctlogs"].clone();
    let with_ct = Roots::from_json(TrustRootName::github(), &root.to_string()).unwrap();
    let verdict = judge(&with_ct, &private.policy(), &certificate.of(&signed));
    denied(&verdict, Reason::UntrustedSignature, "(SCT)", &"a root with a certificate-transparency log");

    // What is logged is not believed by a root that knows no log.
    let public = World::of(Form { entry: Some(EntryKind::Dsse001), ..certificate });
    let signed = public.signing().with_timestamp().sign(&statement);
    public.admitted(&signed);
    let mut root = public.sigstore.trusted_root();
    (root["tlogs"], root["ctlogs"]) = (json!([]), json!([]));
    let without = Roots::from_json(TrustRootName::default(), &root.to_string()).unwrap();
    let verdict = judge(&without, &public.policy(), &public.form.of(&signed));
    denied(
        &verdict,
        Reason::UntrustedSignature,
        "of a log that the trust root sigstore does not know",
        &"no log",
    );

    // Without a log and without a timestamp authority there is no time, and no root.
    root["timestampAuthorities"] = json!([]);
    let timeless = Roots::from_json(TrustRootName::default(), &root.to_string());
    assert!(matches!(timeless, Err(RootError::NoTime)));
}

#[test]
fn layers_of_an_instance_without_a_log_have_no_time() {
    let form = Form { by: By::Certificate, kept: Kept::Att, entry: None };
    let world = World::of(form);
    let verdict = world.judge(&world.signing().sign(statement()));
    denied(&verdict, Reason::UntrustedSignature, "nothing vouches for the time of signing", &form);
    // Its twin is of an instance with a log.
    let logged = World::of(Form { entry: Some(EntryKind::Dsse001), ..form });
    logged.admitted(&logged.signing().sign(statement()));
}

#[test]
fn a_log_that_is_retired_vouches_for_nothing_new() {
    let statement = statement();
    for entry in [EntryKind::HashedRekord002, EntryKind::Dsse002] {
        for by in [By::Certificate, By::Key(KeyKind::P256)] {
            let form = Form { by, kept: Kept::Bundle(BundleVersion::V03), entry: Some(entry) };
            let world = World::of(form);
            let signed = world.signing().sign(&statement);
            world.admitted(&signed);
            let mut root = world.sigstore.trusted_root();
            root["tlogs"][1]["publicKey"]["validFor"]["end"] = json!("2026-01-01T00:00:00Z");
            let retired = Roots::from_json(TrustRootName::default(), &root.to_string()).unwrap();
            let verdict = judge(&retired, &world.policy(), &form.of(&signed));
            denied(&verdict, Reason::UntrustedSignature, "does not know at that time", &form);
        }
    }
}

/// A time that no log signed says nothing, whatever the bundle states: it makes nothing good and nothing bad.
#[test]
fn a10_an_unsigned_time_decides_no_window() {
    let statement = statement();
    let retired = |world: &World, log: usize| {
        let mut root = world.sigstore.trusted_root();
        root["tlogs"][log]["publicKey"]["validFor"]["end"] = json!("2026-01-01T00:00:00Z");
        Roots::from_json(TrustRootName::default(), &root.to_string()).unwrap()
    };
    for entry in [EntryKind::Dsse001, EntryKind::Intoto002, EntryKind::HashedRekord002, EntryKind::Dsse002] {
        for by in [By::Certificate, By::Key(KeyKind::P256)] {
            let form = Form { by, kept: Kept::Bundle(BundleVersion::V03), entry: Some(entry) };
            let world = World::of(form);
            let signed = world.signing().with_timestamp().sign(&statement);
            let stating = |time: Option<&str>| {
                let mut json = signed.bundle(BundleVersion::V03);
                let entry = json["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap();
                entry.remove("inclusionPromise");
                entry.remove("integratedTime");
                entry.extend(time.map(|time| ("integratedTime".to_owned(), json!(time))));
                crate::trust_support::bundle(json.to_string().into_bytes())
            };
            let retired = retired(&world, usize::from(entry.is_v2()));
            // While the log was in use, before it was, long after, and not at all.
            for time in [Some("1767225599"), Some("1"), Some("4102444800"), None] {
                let raw = stating(time);
                let verdict = judge(&world.roots, &world.policy(), &raw);
                assert_eq!(verdict.outcome, Outcome::Allow, "{form:?} {time:?}: {:?}", verdict.problems);
                let verdict = judge(&retired, &world.policy(), &raw);
                denied(&verdict, Reason::UntrustedSignature, "does not know at that time", &(form, time));
            }
        }
    }
}

#[test]
fn a10_a_log_that_is_retired_vouches_for_nothing_that_has_no_time() {
    let statement = statement();
    for entry in [EntryKind::Dsse001, EntryKind::HashedRekord002, EntryKind::Dsse002] {
        let by = By::Key(KeyKind::P256);
        let form = Form { by, kept: Kept::Bundle(BundleVersion::V03), entry: Some(entry) };
        let world = World::of(form);
        let signed = world.signing().defect(Defect::TimestampMissing).sign(&statement);
        let mut json = signed.bundle(BundleVersion::V03);
        json["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap().remove("inclusionPromise");
        let raw = crate::trust_support::bundle(json.to_string().into_bytes());
        // Of a key the time need not be known.
        assert_eq!(judge(&world.roots, &world.policy(), &raw).outcome, Outcome::Allow, "{form:?}");
        let mut root = world.sigstore.trusted_root();
        let log = usize::from(entry.is_v2());
        root["tlogs"][log]["publicKey"]["validFor"]["end"] = json!("2026-01-01T00:00:00Z");
        let retired = Roots::from_json(TrustRootName::default(), &root.to_string()).unwrap();
        let verdict = judge(&retired, &world.policy(), &raw);
        let words =
            "nothing says when it was signed or logged, and the trust root sigstore no longer uses the log";
        denied(&verdict, Reason::UntrustedSignature, words, &form);
    }
}
