//! The canonical bodies of log entries: keys in order, no spaces.

use serde_json::json;

use super::keys::{KeyKind, base64, sha256, sha384};
use super::signed::{EntryKind, Envelope, Verifier};
use super::signing::pae;

/// The body of an entry about an envelope that a key of this kind signed.
pub(super) fn canonical_body(
    kind: EntryKind,
    envelope: &Envelope,
    verifier: &Verifier,
    key: KeyKind,
) -> Vec<u8> {
    let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex::encode(sha256(bytes)) });
    let envelope_hash = hash(&envelope.to_bytes());
    let payload_hash = hash(&envelope.payload);
    let signature = base64(&envelope.signature);
    let pem = base64(verifier.pem().as_bytes());
    let spec = match kind {
        EntryKind::Dsse001 => json!({
            "envelopeHash": envelope_hash,
            "payloadHash": payload_hash,
            "signatures": [{ "signature": signature, "verifier": pem }],
        }),
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
                "signatures": [{ "content": signature, "verifier": verifier.json() }],
            },
        }),
        EntryKind::HashedRekord002 => {
            let signed = pae(&envelope.payload_type, &envelope.payload);
            let (algorithm, digest) = match key {
                KeyKind::P384 => ("SHA2_384", base64(&sha384(&signed))),
                KeyKind::P256 | KeyKind::Ed25519 | KeyKind::Rsa2048 => ("SHA2_256", base64(&sha256(&signed))),
            };
            json!({
                "hashedRekordV002": {
                    "data": { "algorithm": algorithm, "digest": digest },
                    "signature": { "content": signature, "verifier": verifier.json() },
                },
            })
        }
    };
    let (name, version) = kind.names();
    json!({ "apiVersion": version, "kind": name, "spec": spec }).to_string().into_bytes()
}
