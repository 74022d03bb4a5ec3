//! The canonical bodies of log entries: keys in order, no spaces.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::keys::{KeyKind, base64, sha256, sha384, sha512};
use super::signed::{EntryKind, Envelope, Verifier};
use super::signing::pae;

/// The body of an entry about an envelope that a key of this kind signed.
pub(super) fn canonical_body(
    kind: EntryKind,
    envelope: &Envelope,
    verifier: &Verifier,
    key: KeyKind,
) -> Vec<u8> {
    let envelope_hash = sha256_json(&envelope.to_bytes());
    let payload_hash = sha256_json(&envelope.payload);
    let signature = base64(&envelope.signature);
    let pem = base64(verifier.pem().as_bytes());
    let spec = match kind {
        EntryKind::Dsse001 => {
            let signatures = BTreeMap::from([(signature, verifier.pem())]);
            dsse_001(&envelope.to_bytes(), &envelope.payload, &signatures)
        }
        EntryKind::Intoto001 => json!({
            "content": { "hash": envelope_hash, "payloadHash": payload_hash },
            "publicKey": pem,
        }),
        EntryKind::Intoto002 => json!({
            "content": {
                "envelope": {
                    "payloadType": envelope.payload_type,
                    "signatures": [{ "publicKey": pem, "sig": base64(signature.as_bytes()) }],
                },
                "hash": envelope_hash,
                "payloadHash": payload_hash,
            },
        }),
        EntryKind::Dsse002 => json!({
            "dsseV002": {
                "payloadHash": { "algorithm": "SHA2_256", "digest": base64(&sha256(&envelope.payload)) },
                "signatures": [{ "content": signature, "verifier": verifier.json(key) }],
            },
        }),
        EntryKind::HashedRekord002 => {
            let signed = pae(&envelope.payload_type, &envelope.payload);
            let (algorithm, digest) = match key {
                KeyKind::P384 => ("SHA2_384", base64(&sha384(&signed))),
                KeyKind::P521 => ("SHA2_512", base64(&sha512(&signed))),
                KeyKind::P256 | KeyKind::Ed25519 | KeyKind::Rsa2048 | KeyKind::Rsa3072 => {
                    ("SHA2_256", base64(&sha256(&signed)))
                }
            };
            hashedrekord_002(algorithm, &digest, &signature, &verifier.json(key))
        }
    };
    entry_body(kind, &spec)
}

/// What `dsse` 0.0.1 says: signatures with the PEM of what verifies each, in the order of the signatures.
pub(super) fn dsse_001(envelope: &[u8], payload: &[u8], signatures: &BTreeMap<String, String>) -> Value {
    let signatures: Vec<Value> = signatures
        .iter()
        .map(|(signature, pem)| json!({ "signature": signature, "verifier": base64(pem.as_bytes()) }))
        .collect();
    json!({
        "envelopeHash": sha256_json(envelope),
        "payloadHash": sha256_json(payload),
        "signatures": signatures,
    })
}

/// What `hashedrekord` 0.0.2 says; digest and signature in base64.
pub(super) fn hashedrekord_002(algorithm: &str, digest: &str, signature: &str, verifier: &Value) -> Value {
    json!({
        "hashedRekordV002": {
            "data": { "algorithm": algorithm, "digest": digest },
            "signature": { "content": signature, "verifier": verifier },
        },
    })
}

/// The body of an entry that says this.
pub(super) fn entry_body(kind: EntryKind, spec: &Value) -> Vec<u8> {
    let (name, version) = kind.names();
    json!({ "apiVersion": version, "kind": name, "spec": spec }).to_string().into_bytes()
}

fn sha256_json(bytes: &[u8]) -> Value {
    json!({ "algorithm": "sha256", "value": hex::encode(sha256(bytes)) })
}
