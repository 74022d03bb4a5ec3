//! Bundles of our own making, each beside one that verifies and differs in one thing.

use bonafide_kit::sigstore::{
    Build, BundleVersion, Defect, EntryKind, GITHUB_ISSUER, Identity, KeyKind, SigningKey, Sigstore,
    statement_v1,
};
use serde_json::{Value, json};

use crate::{file, verify_bundle};

const ARTIFACT: &str = "an artifact";
/// Of something else.
const DIGEST: &str = "sha256:9c1184a562fe0b4f3d3a4e2a2ca9a8b5d3e6d4ae4a2d8a6d5b4f0f6f2d8c9a10";

pub fn identity() -> Identity {
    Identity::github("acme/app", ".github/workflows/build.yml", "refs/heads/main", "push")
}

/// The hexadecimal SHA-256 of the artifact.
pub fn digest() -> String {
    bonafide::domain::digest::Digest::of(ARTIFACT.as_bytes()).hex()
}

pub fn statement() -> String {
    statement_v1(&[("artifact", &digest())], &Build::of(&identity())).to_string()
}

/// A client that trusts one Sigstore and wants the usual identity.
pub struct Client {
    root: String,
    artifact: String,
}

impl Client {
    pub fn of(root: &str) -> Self {
        let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
        Self { root: path(file("root.json", root)), artifact: path(file("artifact", ARTIFACT)) }
    }

    pub fn verify(&self, bundle: &Value) -> Result<(), String> {
        self.verify_text(&bundle.to_string())
    }

    pub fn verify_text(&self, bundle: &str) -> Result<(), String> {
        let subject = identity().subject().to_owned();
        let who = ["--certificate-identity", &subject, "--certificate-oidc-issuer", GITHUB_ISSUER];
        self.run(bundle, &who, &self.artifact)
    }

    fn with_key(&self, bundle: &Value, key: &SigningKey) -> Result<(), String> {
        let key = file("key.pub", key.public_pem());
        self.run(&bundle.to_string(), &["--key", key.to_str().unwrap()], &self.artifact)
    }

    fn run(&self, bundle: &str, who: &[&str], artifact: &str) -> Result<(), String> {
        let bundle = file("bundle.json", bundle);
        let fixed = ["--bundle", bundle.to_str().unwrap(), "--trusted-root", &self.root];
        verify_bundle(&[&fixed, who, &[artifact]].concat())
    }
}

#[track_caller]
pub fn fails(outcome: Result<(), String>, words: &str) {
    let reason = outcome.expect_err(words);
    assert!(reason.contains(words), "{reason}");
}

const KINDS: [EntryKind; 4] =
    [EntryKind::Dsse001, EntryKind::Intoto002, EntryKind::HashedRekord002, EntryKind::Dsse002];

#[test]
fn the_command_line_says_who_must_have_signed_what() {
    let sigstore = Sigstore::new();
    let client = Client::of(&sigstore.trusted_root_json());
    let identity = identity();
    let bundle = sigstore.sign_statement(&identity, statement()).bundle_json(BundleVersion::V03);
    client.verify_text(&bundle).unwrap();
    let who = ["--certificate-identity", identity.subject(), "--certificate-oidc-issuer", GITHUB_ISSUER];
    let digest = format!("sha256:{}", digest());
    client.run(&bundle, &who, &digest).unwrap();
    fails(client.run(&bundle, &who, DIGEST), "it is not about this artifact");
    let other = file("other", "another artifact");
    fails(client.run(&bundle, &who, other.to_str().unwrap()), "it is not about this artifact");
    fails(client.run(&bundle, &who, "nowhere"), "nowhere");
    let key = file("key.pub", SigningKey::generate(KeyKind::P256).public_pem());
    let key = ["--key", key.to_str().unwrap()];
    for (who, words) in [
        (vec![], "neither an identity with its issuer nor a key is given"),
        ([&who[..], &key[..]].concat(), "cannot be used with"),
        (key.to_vec(), "signed with a certificate, not with the key"),
        (who[..2].to_vec(), "required"),
        (vec![who[0], "https://github.com/acme", who[2], who[3]], "it is signed by"),
        (vec![who[0], who[1], who[2], "https://issuer.example"], "not by https://issuer.example"),
    ] {
        fails(client.run(&bundle, &who, &digest), words);
    }
}

#[test]
fn every_version_and_kind_of_entry_verifies_and_a_swapped_entry_does_not() {
    let sigstore = Sigstore::new();
    let client = Client::of(&sigstore.trusted_root_json());
    for kind in KINDS {
        let versions = if kind.is_v2() { &BundleVersion::ALL[1..] } else { &BundleVersion::ALL[..] };
        for version in versions {
            let sign = || sigstore.signing(&identity()).entry(kind).sign(statement()).bundle(*version);
            let (mut bundle, other) = (sign(), sign());
            client.verify(&bundle).unwrap_or_else(|reason| panic!("{kind:?} {version:?}: {reason}"));
            // CVE-2022-36056: a genuine entry of the same signer, about another signature.
            bundle["verificationMaterial"]["tlogEntries"] =
                other["verificationMaterial"]["tlogEntries"].clone();
            fails(client.verify(&bundle), "does not describe");
        }
        for defect in
            Defect::ALL.into_iter().filter(|defect| !defect.is_of_log_time() && !defect.is_of_timestamp())
        {
            let forged = sigstore.signing(&identity()).entry(kind).defect(defect).sign(statement());
            client.verify(&forged.bundle(BundleVersion::V03)).expect_err("a defect");
        }
    }
}

#[test]
fn a_key_in_place_of_an_identity() {
    let sigstore = Sigstore::new();
    let client = Client::of(&sigstore.trusted_root_json());
    let (key, other) = (SigningKey::generate(KeyKind::P256), SigningKey::generate(KeyKind::P256));
    for kind in KINDS {
        let signed = sigstore.signing_with(&key).entry(kind).sign(statement());
        let bundle = signed.bundle(BundleVersion::V03);
        client.with_key(&bundle, &key).unwrap_or_else(|reason| panic!("{kind:?}: {reason}"));
        fails(client.with_key(&bundle, &other), "");
        fails(client.verify(&bundle), "it is signed with a key");
        let bare = sigstore.signing_with(&key).entry(kind).defect(Defect::NoLogEntry).sign(statement());
        fails(client.with_key(&bare.bundle(BundleVersion::V03), &key), "no transparency log entry");
    }
}

/// A change to a bundle of Rekor v1 that verifies, and what is said then.
type Change = (&'static str, fn(&mut Value), &'static str);

#[test]
fn parts_that_are_missing_or_of_another_kind_are_refused() {
    let sigstore = Sigstore::new();
    let client = Client::of(&sigstore.trusted_root_json());
    let good = sigstore.signing(&identity()).with_timestamp().sign(statement()).bundle(BundleVersion::V03);
    client.verify(&good).unwrap();
    let changes: [Change; 14] = [
        (
            "media type",
            |b| b["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=9.1"),
            "not a Sigstore bundle",
        ),
        ("no content", |b| drop(b.as_object_mut().unwrap().remove("dsseEnvelope")), "not a Sigstore bundle"),
        ("no signature", |b| b["dsseEnvelope"]["signatures"] = json!([]), "exactly one signature"),
        (
            "two signatures",
            |b| {
                let one = b["dsseEnvelope"]["signatures"][0].clone();
                b["dsseEnvelope"]["signatures"] = json!([one, one]);
            },
            "exactly one signature",
        ),
        (
            "payload type",
            |b| b["dsseEnvelope"]["payloadType"] = json!("text/plain"),
            "not an in-toto statement",
        ),
        ("no entry", |b| b["verificationMaterial"]["tlogEntries"] = json!([]), "no transparency log entry"),
        (
            "a kind",
            |b| b["verificationMaterial"]["tlogEntries"][0]["kindVersion"]["kind"] = json!("mashedrekord"),
            "not a Sigstore bundle",
        ),
        (
            "a version",
            |b| b["verificationMaterial"]["tlogEntries"][0]["kindVersion"]["version"] = json!("3.0.0"),
            "not a Sigstore bundle",
        ),
        (
            "a body",
            |b| b["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"] = json!("e30="),
            "does not verify",
        ),
        (
            "a log",
            |b| b["verificationMaterial"]["tlogEntries"][0]["logId"]["keyId"] = json!("AAAA"),
            "does not know",
        ),
        (
            "an empty timestamp",
            |b| {
                b["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"] =
                    json!("");
            },
            "timestamp (RFC 3161) does not verify",
        ),
        (
            "a timestamp that is none",
            |b| {
                b["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"] =
                    json!("MAA=");
            },
            "timestamp (RFC 3161) does not verify",
        ),
        (
            "a certificate",
            |b| b["verificationMaterial"]["certificate"]["rawBytes"] = json!("MAA="),
            "its certificate cannot be read",
        ),
        (
            "an empty chain",
            |b| {
                let material = b["verificationMaterial"].as_object_mut().unwrap();
                material.remove("certificate");
                material.insert("x509CertificateChain".to_owned(), json!({"certificates": []}));
            },
            "has no certificate",
        ),
    ];
    for (what, change, words) in changes {
        let mut bundle = good.clone();
        change(&mut bundle);
        let reason = client.verify(&bundle).expect_err(what);
        assert!(reason.contains(words), "{what}: {reason}");
    }
    let text = good.to_string();
    fails(client.verify_text(&text[..text.len() - 100]), "it is not a Sigstore bundle");
}

/// Until v0.2, issuers may come with the signature, and end at one of the root's. Since v0.3 there is one certificate.
#[test]
fn a_chain_leads_to_the_root_and_is_none_of_its_own() {
    let (sigstore, other) = (Sigstore::new(), Sigstore::new());
    let mut root = sigstore.trusted_root();
    let issuers = "/certificateAuthorities/0/certChain/certificates";
    let issuers = root.pointer_mut(issuers).unwrap();
    let (whole, own) = (issuers.clone(), issuers[1].clone());
    // The root alone, so that the intermediate must come from elsewhere.
    *issuers = json!([own]);
    let client = Client::of(&root.to_string());
    let stranger = Client::of(&other.trusted_root_json());
    for version in BundleVersion::ALL {
        let good = sigstore.signing(&identity()).sign(statement()).bundle(version);
        let material = &good["verificationMaterial"];
        let leaf = match version {
            BundleVersion::V03 => &material["certificate"],
            _ => &material["x509CertificateChain"]["certificates"][0],
        };
        let with = |certificates: &[&Value]| {
            let mut bundle = good.clone();
            let material = bundle["verificationMaterial"].as_object_mut().unwrap();
            material.remove("certificate");
            material.insert("x509CertificateChain".to_owned(), json!({"certificates": certificates}));
            bundle
        };
        let (short, long) = (with(&[leaf, &whole[0]]), with(&[leaf, &whole[0], &whole[1]]));
        for chain in [short, long] {
            if version == BundleVersion::V03 {
                fails(client.verify(&chain), "has one certificate");
                continue;
            }
            client.verify(&chain).unwrap_or_else(|reason| panic!("{version:?}: {reason}"));
            fails(stranger.verify(&chain), "");
        }
        if version == BundleVersion::V03 {
            continue;
        }
        fails(client.verify(&with(&[leaf])), "does not chain to the trust root");
        fails(client.verify(&with(&[&whole[0], leaf])), "");
    }
}

#[test]
fn statements_of_no_known_version_are_not_read_as_one() {
    let sigstore = Sigstore::new();
    let client = Client::of(&sigstore.trusted_root_json());
    let key = SigningKey::generate(KeyKind::P256);
    let mut without: Value = serde_json::from_str(&statement()).unwrap();
    without.as_object_mut().unwrap().remove("_type");
    let unknown = statement().replace("in-toto.io/Statement/v1", "in-toto.io/Statement/v2");
    for (statement, words) in
        [(without.to_string(), "not an in-toto statement"), (unknown, "not an in-toto statement")]
    {
        let bundle = sigstore.sign_statement(&identity(), &statement).bundle(BundleVersion::V03);
        fails(client.verify(&bundle), words);
        let bundle = sigstore.signing_with(&key).sign(&statement).bundle(BundleVersion::V03);
        fails(client.with_key(&bundle, &key), words);
    }
}

#[test]
fn witnesses_beside_the_log_do_no_harm_and_do_not_replace_it() {
    let (sigstore, other) = (Sigstore::new(), Sigstore::new());
    let client = Client::of(&sigstore.trusted_root_json());
    for kind in KINDS {
        let note = |sigstore: &Sigstore| {
            let bundle =
                sigstore.signing(&identity()).entry(kind).sign(statement()).bundle(BundleVersion::V03);
            let place = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
            (bundle.pointer(place).unwrap().as_str().unwrap().to_owned(), bundle, place)
        };
        let (ours, mut bundle, place) = note(&sigstore);
        let (theirs, ..) = note(&other);
        let witness = theirs.lines().last().unwrap().to_owned();
        let text = ours.split("\n\n").next().unwrap();
        let log = ours.lines().last().unwrap();
        for (lines, verifies) in [
            (vec![log], true),
            (vec![log, &witness], true),
            (vec![&witness, log], true),
            (vec![&witness], false),
            (vec![], false),
        ] {
            let note = format!("{text}\n\n{}\n", lines.join("\n"));
            *bundle.pointer_mut(place).unwrap() = json!(note);
            let outcome = client.verify(&bundle);
            assert_eq!(outcome.is_ok(), verifies, "{kind:?} {lines:?}: {outcome:?}");
            if let Err(reason) = outcome {
                assert!(reason.contains("checkpoint"), "{reason}");
            }
        }
    }
}
