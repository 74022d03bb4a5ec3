//! What stands beside the table: certificates and payloads that can be read in two ways, bundles with too little or too much
//! in them, and what is not even close.

use bonafide::{domain::evidence::Finding, gather::ports::TrustRoots, trust::Roots};
use bonafide_kit::sigstore::{
    Build, BundleVersion, EntryKind, GITHUB_ISSUER, Identity, San, Signing, Sigstore, statement_cosign_sign,
    statement_v1, statement_v02,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    form::{By, Form, Kept},
    trust_support::{bundle, layer, refused, verified},
};

const REPOSITORY: &str = "https://github.com/acme/app";

fn identity() -> Identity {
    Identity::github("acme/app", ".github/workflows/build.yml", "refs/heads/main", "push")
}

fn statement(identity: &Identity) -> Value {
    statement_v1(&[("ghcr.io/acme/app", &"ab".repeat(32))], &Build::of(identity))
}

fn roots(sigstore: &Sigstore) -> Roots {
    crate::form::roots("sigstore", sigstore)
}

fn certified(kept: Kept, entry: EntryKind) -> Form {
    Form { by: By::Certificate, kept, entry: Some(entry) }
}

fn finding_of(sigstore: &Sigstore, identity: &Identity, statement: &str) -> Finding {
    let sign = |signing: Signing<'_>| signing.sign(statement);
    let bundle =
        certified(Kept::Bundle(BundleVersion::V03), EntryKind::Dsse001).of(&sign(sigstore.signing(identity)));
    let legacy = EntryKind::Intoto001;
    let layer = certified(Kept::Att, legacy).of(&sign(sigstore.signing(identity).entry(legacy)));
    let [bundle, layer] = [bundle, layer].map(|raw| roots(sigstore).verify(&raw, Timestamp::now()).finding);
    assert_eq!(std::mem::discriminant(&bundle), std::mem::discriminant(&layer), "{bundle:?} {layer:?}");
    if let (Finding::Untrusted(a), Finding::Untrusted(b)) = (&bundle, &layer) {
        assert_eq!(a, b);
    }
    bundle
}

#[test]
fn a_certificate_that_can_be_read_in_two_ways_is_refused() {
    let sigstore = Sigstore::new();
    let good = identity();
    let statement = statement(&good).to_string();
    assert!(matches!(finding_of(&sigstore, &good, &statement), Finding::Verified(_)));
    let cases = [
        (good.clone().extension(5, "acme/other"), "its extensions 12 and 5 differ"),
        (good.clone().extension(6, "refs/heads/other"), "its extensions 14 and 6 differ"),
        (good.clone().extension(2, "pull_request"), "its extensions 20 and 2 differ"),
        (good.clone().extension(3, &"00".repeat(20)), "its extensions 13 and 3 differ"),
        (good.clone().extension(1, "https://issuer.example"), "its extensions 8 and 1 differ"),
        (
            good.clone().raw_extension(14, b"refs/heads/main".to_vec()),
            "extension 14 that is not a UTF8String",
        ),
        (good.clone().extension(14, "refs/heads/main\0"), "control characters"),
        (good.clone().without_extension(1).without_extension(8), "names no OIDC issuer"),
        (good.clone().san(San::None), "no subject alternative name"),
    ];
    for (identity, expected) in cases {
        match finding_of(&sigstore, &identity, &statement) {
            Finding::Untrusted(reason) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn c4_two_spellings_of_one_repository_in_a_certificate_are_no_contradiction() {
    let sigstore = Sigstore::new();
    let statement = statement(&identity()).to_string();
    for (short, is_verified) in [("Acme/APP", true), ("Acme/APPs", false), ("Acme/App/", false)] {
        let finding = finding_of(&sigstore, &identity().extension(5, short), &statement);
        assert_eq!(matches!(finding, Finding::Verified(_)), is_verified, "{short}: {finding:?}");
    }
    // Of a host that is not known nobody knows.
    let elsewhere = |short: &str| {
        let uri = "https://git.example/acme/app";
        let identity = identity().extension(12, uri).extension(5, short);
        matches!(finding_of(&sigstore, &identity, &statement), Finding::Verified(_))
    };
    assert_eq!((elsewhere("acme/app"), elsewhere("Acme/app")), (true, false));
}

#[test]
fn legacy_extensions_stand_for_the_modern_ones() {
    let sigstore = Sigstore::new();
    let find = |identity: &Identity| {
        let Finding::Verified(found) = finding_of(&sigstore, identity, &statement(identity).to_string())
        else {
            panic!("not verified");
        };
        found.readings[0].certificate.clone()
    };
    let legacy = find(&Identity::github_legacy("acme/app", "w.yml", "refs/heads/main", "push"));
    let modern = find(&Identity::github("acme/app", "w.yml", "refs/heads/main", "push"));
    assert_eq!(legacy.issuer, GITHUB_ISSUER);
    assert_eq!(legacy.source_repository.as_deref(), Some(REPOSITORY));
    assert_eq!(
        (
            &legacy.subject,
            &legacy.source_repository,
            &legacy.source_ref,
            &legacy.source_digest,
            &legacy.trigger
        ),
        (
            &modern.subject,
            &modern.source_repository,
            &modern.source_ref,
            &modern.source_digest,
            &modern.trigger
        )
    );
    assert!(legacy.runner.is_none() && modern.runner.is_some());

    // Of another issuer, `owner/repo` is of another host.
    let elsewhere = find(
        &Identity::github_legacy("acme/app", "w.yml", "refs/heads/main", "push")
            .issuer("https://ghes.example"),
    );
    assert!(elsewhere.source_repository.is_none());

    let person = find(&Identity::email("dev@acme.example", "https://accounts.example"));
    assert_eq!(
        (person.subject.as_str(), person.issuer.as_str()),
        ("dev@acme.example", "https://accounts.example")
    );
}

#[test]
fn a_genuine_v0_1_bundle_needs_no_checkpoint() {
    let sigstore = Sigstore::new();
    let identity = identity();
    let signed = sigstore.sign_statement(&identity, statement(&identity).to_string());
    let without_checkpoint = |version| {
        let mut json = signed.bundle(version);
        let proof = &mut json["verificationMaterial"]["tlogEntries"][0]["inclusionProof"];
        proof.as_object_mut().unwrap().remove("checkpoint").unwrap();
        roots(&sigstore).verify(&bundle(json.to_string().into_bytes()), Timestamp::now())
    };
    verified(without_checkpoint(BundleVersion::V01));
    assert!(refused(&without_checkpoint(BundleVersion::V02)).1.contains("checkpoint"));
}

#[test]
fn an_entry_without_any_proof_does_not_ride_along() {
    let sigstore = Sigstore::new();
    let identity = identity();
    let signed = sigstore.sign_statement(&identity, statement(&identity).to_string());
    let with_second = |strip: &[&str]| {
        let mut json = signed.bundle(BundleVersion::V03);
        let entries = json["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap();
        let mut second = entries[0].clone();
        for field in strip {
            second.as_object_mut().unwrap().remove(*field).unwrap();
        }
        entries.push(second);
        roots(&sigstore).verify(&bundle(json.to_string().into_bytes()), Timestamp::now())
    };
    verified(with_second(&[]));
    verified(with_second(&["inclusionPromise"]));
    let (_, reason) = refused(&with_second(&["inclusionPromise", "inclusionProof"]));
    assert!(reason.contains("neither a signed timestamp (SET) nor an inclusion proof"), "{reason}");
}

#[test]
fn other_payloads_are_malformed_and_other_predicates_are_no_provenance() {
    let sigstore = Sigstore::new();
    let identity = identity();
    let find = |payload: &str| finding_of(&sigstore, &identity, payload);

    let sign = statement_cosign_sign(&[("ghcr.io/acme/app", &"ab".repeat(32))]).to_string();
    let Finding::Verified(found) = find(&sign) else { panic!("not verified") };
    assert!(found.statement.provenance.is_none());
    assert_eq!(found.statement.subjects[0].hex(), "ab".repeat(32));

    let good = statement_v02(&[("x", &"cd".repeat(32))], &Build::of(&identity)).to_string();
    let Finding::Verified(found) = find(&good) else { panic!("not verified") };
    assert!(found.statement.provenance.is_some());

    let twice = good.replacen('{', r#"{"predicateType":"other","#, 1);
    let mislabelled = good.replace("provenance/v0.2", "provenance/v1");
    assert!(good != twice && good != mislabelled);
    for bad in ["not json", "{}", &twice, &mislabelled] {
        assert!(matches!(find(bad), Finding::Malformed(_)), "{bad}");
    }

    let signing = sigstore.signing(&identity).payload_type("text/plain\u{7}");
    let raw = certified(Kept::Bundle(BundleVersion::V03), EntryKind::Dsse001).of(&signing.sign(&good));
    let (kind, reason) = refused(&roots(&sigstore).verify(&raw, Timestamp::now()));
    assert_eq!(kind, "malformed");
    assert!(reason.contains(r"text/plain\u{7}"), "{reason}");
}

#[test]
fn what_is_not_even_close_is_malformed() {
    let sigstore = Sigstore::new();
    let identity = identity();
    let roots = roots(&sigstore);
    let signed = sigstore.sign_statement(&identity, statement(&identity).to_string());
    let (envelope, annotations) = signed.cosign_att_layer();
    for bytes in [&b""[..], b"{}", b"[]", b"\xff\xfe", b"{\"payload\":1}"] {
        for raw in [bundle(bytes.to_vec()), layer(bytes.to_vec(), annotations.clone())] {
            assert_eq!(refused(&roots.verify(&raw, Timestamp::now())).0, "malformed", "{bytes:?}");
        }
    }
    for name in ["dev.sigstore.cosign/certificate", "dev.sigstore.cosign/bundle"] {
        let mut annotations = annotations.clone();
        annotations.insert(name.to_owned(), "garbage".to_owned());
        let raw = layer(envelope.clone(), annotations);
        assert_eq!(refused(&roots.verify(&raw, Timestamp::now())).0, "malformed", "{name}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refused(&roots.verify(&bundle(deep.into_bytes()), Timestamp::now())).0, "malformed");
}

#[test]
fn a_bundle_with_very_many_parts_is_not_read() {
    let sigstore = Sigstore::new();
    let identity = identity();
    let signed = sigstore.sign_statement(&identity, statement(&identity).to_string());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut json = signed.bundle(BundleVersion::V01);
        change(&mut json["verificationMaterial"]);
        refused(&roots(&sigstore).verify(&bundle(json.to_string().into_bytes()), Timestamp::now())).1
    };
    let repeat = |list: &mut Value, times: usize| {
        let first = list[0].clone();
        *list = Value::Array(vec![first; times]);
    };
    let entries = with(&|material| repeat(&mut material["tlogEntries"], 9));
    assert!(entries.contains("9 log entries"), "{entries}");
    let chain = with(&|material| repeat(&mut material["x509CertificateChain"]["certificates"], 11));
    assert!(chain.contains("11 certificates"), "{chain}");
    let witnesses = with(&|material| {
        let note = &mut material["tlogEntries"][0]["inclusionProof"]["checkpoint"]["envelope"];
        let text = note.as_str().unwrap();
        let line = text.lines().last().unwrap();
        *note = format!("{text}{}", format!("{line}\n").repeat(20)).into();
    });
    assert!(witnesses.contains("21 signatures of a checkpoint"), "{witnesses}");
}
