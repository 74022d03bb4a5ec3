//! The kit's Sigstore over HTTP, asked as signing clients ask it: what it hands out verifies by an independent judge, and a
//! signature that does not hold is neither certified nor logged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::Arc;

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bonafide_kit::sigstore::{
    Build, GITHUB_ISSUER, IN_TOTO, Identity, Sigstore,
    services::{Services, github_claims, token},
    statement_v1,
};
use serde_json::{Value, json};
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Bundle, Sha256Hash};
use sigstore_verify::{VerificationPolicy, Verifier};

const DIGEST: &str = "234e2c830c2fb31ac5671789d22adfe44d30c3ee831d01beae5e237841a13122";
const WHO: [&str; 4] = ["acme/app", ".github/workflows/build.yml", "refs/heads/main", "push"];

/// A client with a key, and the services that it asks.
struct Client {
    sigstore: Arc<Sigstore>,
    services: Services,
    key: EcdsaKeyPair,
}

impl Client {
    async fn new() -> Self {
        let sigstore = Arc::new(Sigstore::new());
        let services = Services::start(Arc::clone(&sigstore)).await;
        Self { sigstore, services, key: new_key() }
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let [repository, workflow, git_ref, trigger] = WHO;
        let token = token(&github_claims(repository, workflow, git_ref, trigger));
        let request = support::client()
            .post(format!("{}{path}", self.services.url()))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// Asks for a certificate for the key, which `prover` proves to hold.
    async fn certificate(&self, prover: &EcdsaKeyPair) -> Result<String, Value> {
        let spki: PublicKeyX509Der<'_> = self.key.public_key().as_der().unwrap();
        let proof = sign(prover, format!("repo:{}:ref:{}", WHO[0], WHO[2]).as_bytes());
        let request = json!({"publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": pem("PUBLIC KEY", spki.as_ref())},
            "proofOfPossession": proof,
        }});
        let (status, answer) = self.post("/api/v2/signingCert", request).await;
        let chain = &answer["signedCertificateEmbeddedSct"]["chain"]["certificates"];
        if status == 200 { Ok(chain[0].as_str().unwrap().to_owned()) } else { Err(answer) }
    }

    fn verify(&self, bundle: &Value) {
        let root = TrustedRoot::from_json(&self.sigstore.trusted_root_json()).unwrap();
        let verifier = Verifier::new(&root).unwrap();
        let bundle = Bundle::from_json(&bundle.to_string()).unwrap();
        let name = format!("https://github.com/{}/{}@{}", WHO[0], WHO[1], WHO[2]);
        let policy = VerificationPolicy::new(name, GITHUB_ISSUER);
        let result = verifier.verify(Sha256Hash::from_hex(DIGEST).unwrap(), &bundle, &policy).unwrap();
        assert!(result.certificate_verified() && result.sct_verified() && result.tlog_verified());
    }
}

fn new_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()
}

fn sign(key: &EcdsaKeyPair, message: &[u8]) -> String {
    STANDARD.encode(key.sign(&SystemRandom::new(), message).unwrap())
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// The contents of PEM, in base64.
fn contents(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn statement() -> String {
    let [repository, workflow, git_ref, trigger] = WHO;
    let build = Build::of(&Identity::github(repository, workflow, git_ref, trigger));
    statement_v1(&[("ghcr.io/acme/app", DIGEST)], &build).to_string()
}

fn pae(statement: &str) -> String {
    format!("DSSEv1 {} {IN_TOTO} {} {statement}", IN_TOTO.len(), statement.len())
}

fn envelope(signature: &str) -> Value {
    json!({
        "payload": STANDARD.encode(statement()),
        "payloadType": IN_TOTO,
        "signatures": [{"sig": signature}],
    })
}

fn bundle(certificate: &str, entry: &Value, stamps: &[String], envelope: &Value) -> Value {
    let stamps: Vec<Value> = stamps.iter().map(|stamp| json!({"signedTimestamp": stamp})).collect();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "certificate": {"rawBytes": contents(certificate)},
            "tlogEntries": [entry],
            "timestampVerificationData": {"rfc3161Timestamps": stamps},
        },
        "dsseEnvelope": envelope,
    })
}

#[tokio::test]
async fn a_certificate_is_for_who_proves_to_hold_the_key() {
    let client = Client::new().await;
    client.certificate(&client.key).await.unwrap();
    let refused = client.certificate(&new_key()).await.unwrap_err();
    assert!(refused["message"].as_str().unwrap().contains("could not be verified"), "{refused}");
}

#[tokio::test]
async fn what_the_first_rekor_logs_verifies_and_what_is_not_signed_it_does_not_log() {
    let client = Client::new().await;
    let certificate = client.certificate(&client.key).await.unwrap();
    let propose = |envelope: Value| {
        let verifiers = [STANDARD.encode(&certificate)];
        let content = json!({"envelope": envelope.to_string(), "verifiers": verifiers});
        let entry = json!({"kind": "dsse", "apiVersion": "0.0.1", "spec": {"proposedContent": content}});
        client.post("/api/v1/log/entries", entry)
    };
    let good = envelope(&sign(&client.key, pae(&statement()).as_bytes()));
    let (status, answer) = propose(good.clone()).await;
    assert_eq!(status, 201, "{answer}");
    let logged = answer.as_object().unwrap().values().next().unwrap();
    let proof = &logged["verification"]["inclusionProof"];
    let base64 = |hex_text: &Value| json!(STANDARD.encode(hex::decode(hex_text.as_str().unwrap()).unwrap()));
    let entry = json!({
        "logIndex": logged["logIndex"].to_string(),
        "logId": {"keyId": base64(&logged["logID"])},
        "kindVersion": {"kind": "dsse", "version": "0.0.1"},
        "integratedTime": logged["integratedTime"].to_string(),
        "inclusionPromise": {"signedEntryTimestamp": logged["verification"]["signedEntryTimestamp"]},
        "inclusionProof": {
            "logIndex": proof["logIndex"].to_string(),
            "treeSize": proof["treeSize"].to_string(),
            "rootHash": base64(&proof["rootHash"]),
            "hashes": proof["hashes"].as_array().unwrap().iter().map(base64).collect::<Vec<_>>(),
            "checkpoint": {"envelope": proof["checkpoint"]},
        },
        "canonicalizedBody": logged["body"],
    });
    client.verify(&bundle(&certificate, &entry, &[], &good));

    let (status, answer) = propose(envelope(&sign(&new_key(), pae(&statement()).as_bytes()))).await;
    assert_eq!((status, &answer["message"]), (400, &json!("could not verify envelope")));
}

#[tokio::test]
async fn what_the_second_rekor_logs_verifies_with_a_timestamp_and_what_is_not_signed_it_does_not_log() {
    let client = Client::new().await;
    let certificate = client.certificate(&client.key).await.unwrap();
    let hash = digest(&SHA256, pae(&statement()).as_bytes());
    let propose = |signature: String| {
        let verifier = json!({
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "x509Certificate": {"rawBytes": contents(&certificate)},
        });
        let signature = json!({"content": signature, "verifier": verifier});
        let entry = json!({"digest": STANDARD.encode(hash), "signature": signature});
        client.post("/api/v2/log/entries", json!({"hashedRekordRequestV002": entry}))
    };
    let signature = sign(&client.key, pae(&statement()).as_bytes());
    let (status, entry) = propose(signature.clone()).await;
    assert_eq!(status, 201, "{entry}");

    // TimeStampReq: version 1, then the imprint: SHA-256 and the hash.
    let stamped = digest(&SHA256, &STANDARD.decode(&signature).unwrap());
    let head = hex::decode("30360201013031300d060960864801650304020105000420").unwrap();
    let query = [&head, stamped.as_ref()].concat();
    let answer = support::client().post(client.services.timestamp_url()).body(query).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/timestamp-reply");
    let stamp = STANDARD.encode(answer.bytes().await.unwrap());
    client.verify(&bundle(&certificate, &entry, &[stamp], &envelope(&signature)));

    let (status, answer) = propose(sign(&new_key(), pae(&statement()).as_bytes())).await;
    assert_eq!((status, &answer["message"]), (400, &json!("invalid signature")));
}
