//! Trust roots beside each other: what a policy decides depends on the root that it names, and on no other.

use std::collections::HashMap;

use bonafide::{
    domain::{
        identity::TrustRootName,
        verdict::{Outcome, Reason},
    },
    gather::ports::RootKeeper as _,
    trust::{Keeper, Roots, compile_trust_root},
};
use bonafide_kit::sigstore::{BundleVersion, Identity, Sigstore};
use serde_json::{Value, json};

use crate::{
    form::{denied, judge, statement},
    trust_support::{bundle, layer},
};

pub const ISSUERS: [&str; 2] = ["https://one.example", "https://two.example"];
pub const PERSON: &str = "builds@corp.example";

fn object(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": name}, "spec": spec})
}

fn instance(name: &str, sigstore: &Sigstore) -> Value {
    object(name, &json!({"trustedRoot": sigstore.trusted_root_json()}))
}

fn pem(sigstore: &Sigstore, part: &str) -> String {
    let root = sigstore.trusted_root();
    let chain = root[part][0]["certChain"]["certificates"].as_array().unwrap().clone();
    let one = |entry: &Value| {
        let base64 = entry["rawBytes"].as_str().unwrap();
        format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")
    };
    chain.iter().map(one).collect()
}

/// An authority alone that gives this issuer to certificates which name none.
pub fn authority(name: &str, sigstore: &Sigstore, issuer: &str, with_timestamps: bool) -> Value {
    let mut authority = json!({"certificates": pem(sigstore, "certificateAuthorities"), "issuer": issuer});
    let mut spec = json!({"unsafeSkipTransparencyLog": true});
    if with_timestamps {
        authority["timestampAuthority"] = pem(sigstore, "timestampAuthorities").into();
    } else {
        spec["unsafeSkipTimestamp"] = true.into();
    }
    spec["certificateAuthority"] = authority;
    object(name, &spec)
}

/// Somebody whose certificate names no OIDC issuer.
pub fn nameless() -> Identity {
    Identity::email(PERSON, ISSUERS[0]).without_extension(1).without_extension(8)
}

pub fn policy(root: &str, issuer: &str, subject: &str) -> Value {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
        "spec": {"images": {"include": ["ghcr.io/acme/app"]}, "tags": "Allow", "signers": [
            {"name": "ci", "trustRoot": root, "certificate": {"issuer": issuer, "subject": subject}},
        ]},
    })
}

fn keeper(objects: &[&Value]) -> Keeper {
    let keeper = Keeper::new(Roots::public_good().unwrap());
    let objects: Vec<Value> = objects.iter().map(|object| (*object).clone()).collect();
    for object in &objects {
        assert_eq!(compile_trust_root(object).errors, []);
    }
    keeper.keep(&objects);
    keeper
}

/// Every set of roots, every attestation, every policy: only the root that the policy names has a say.
#[test]
fn a8_another_root_never_changes_what_a_policy_decides() {
    let (corp, lab) = (Sigstore::builder().timestamps_only().build(), Sigstore::new());
    let nameless = nameless();
    let person = Identity::email(PERSON, ISSUERS[1]);
    let mut found = Vec::new();
    for identity in [&nameless, &person] {
        let signed = corp.signing(identity).sign(statement());
        found.push(bundle(signed.bundle_json(BundleVersion::V03).into_bytes()));
        let (envelope, annotations) = signed.cosign_att_layer();
        found.push(layer(envelope, annotations));
    }
    let logged = lab.signing(&person).with_timestamp().sign(statement());
    found.push(bundle(logged.bundle_json(BundleVersion::V03).into_bytes()));
    let (envelope, annotations) = logged.cosign_att_layer();
    found.push(layer(envelope, annotations));
    let roots = [
        ("one", authority("one", &corp, ISSUERS[0], true)),
        ("two", authority("two", &corp, ISSUERS[1], true)),
        ("instance", instance("instance", &lab)),
        ("without-log", authority("without-log", &lab, ISSUERS[0], true)),
    ];
    let sets: Vec<Keeper> = (0_usize..1 << roots.len())
        .map(|set| {
            let these = roots.iter().enumerate().filter(|(bit, _)| set & (1 << bit) != 0);
            keeper(&these.map(|(_, (_, object))| object).collect::<Vec<_>>())
        })
        .collect();
    let mut decided: HashMap<Outcome, usize> = HashMap::new();
    for (own, (name, _)) in roots.iter().enumerate() {
        for issuer in ISSUERS {
            let policy = policy(name, issuer, PERSON);
            for (at, raw) in found.iter().enumerate() {
                let alone = judge(&sets[1 << own], &policy, raw).outcome;
                *decided.entry(alone).or_default() += 1;
                for (set, roots) in sets.iter().enumerate().filter(|(set, _)| set & (1 << own) != 0) {
                    let outcome = judge(roots, &policy, raw).outcome;
                    assert_eq!(outcome, alone, "{name} {issuer} {at} {set:b}");
                }
            }
        }
    }
    assert!(decided[&Outcome::Allow] >= 6 && decided[&Outcome::Deny] >= 6, "{decided:?}");
}

#[test]
fn a8_a_certificate_has_the_issuer_that_the_root_of_the_signer_gives_it() {
    let corp = Sigstore::builder().timestamps_only().build();
    let nameless = nameless();
    let raw = bundle(corp.signing(&nameless).sign(statement()).bundle_json(BundleVersion::V03).into_bytes());
    let both = [authority("one", &corp, ISSUERS[0], true), authority("two", &corp, ISSUERS[1], true)];
    for (own, other) in [(0, 1), (1, 0)] {
        let name = ["one", "two"][own];
        for objects in [[&both[0], &both[1]], [&both[1], &both[0]]] {
            let verdict = judge(&keeper(&objects), &policy(name, ISSUERS[own], PERSON), &raw);
            assert_eq!(verdict.outcome, Outcome::Allow, "{name}");
            assert_eq!(verdict.proofs[0].trust_root, Some(TrustRootName(name.to_owned())));
            let verdict = judge(&keeper(&objects), &policy(name, ISSUERS[other], PERSON), &raw);
            denied(&verdict, Reason::WrongSigner, ISSUERS[own], &name);
        }
    }
}
