//! Rekor v1: takes `dsse` 0.0.1, verifies the signatures in it, and answers with the entry and what vouches for it.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::ETAG},
    response::IntoResponse,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refused, Shared, presented::Presented};
use crate::sigstore::{
    Sigstore,
    body::{dsse_001, entry_body},
    hexadecimal,
    keys::base64,
    rekor::{checkpoint, set_payload},
    signed::{Entry, EntryKind},
    signing::pae,
    truncated,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proposed {
    kind: String,
    api_version: String,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    proposed_content: Content,
}

#[derive(Deserialize)]
struct Content {
    /// The envelope, JSON in a string: its hash is of these very bytes.
    envelope: String,
    verifiers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

/// `POST /api/v1/log/entries`
pub(super) async fn create(
    State(sigstore): State<Shared>,
    Json(proposed): Json<Proposed>,
) -> Result<impl IntoResponse, Refused> {
    if (proposed.kind.as_str(), proposed.api_version.as_str()) != EntryKind::Dsse001.names() {
        return Err(Refused("only dsse 0.0.1 is taken"));
    }
    let body = body_of(&proposed.spec.proposed_content)?;
    let entry = enter(&sigstore, body);
    let id = hexadecimal(&entry.body);
    let answer = BTreeMap::from([(id.clone(), as_answer(&entry))]);
    Ok((StatusCode::CREATED, [(ETAG, id)], Json(answer)))
}

/// The canonical body of what is proposed, whose signatures must hold.
fn body_of(content: &Content) -> Result<Vec<u8>, Refused> {
    let envelope: Envelope =
        serde_json::from_str(&content.envelope).map_err(|_| Refused("the envelope is none"))?;
    let payload = STANDARD.decode(&envelope.payload).map_err(|_| Refused("the payload is no base64"))?;
    let verifiers: Vec<String> = content
        .verifiers
        .iter()
        .filter_map(|verifier| String::from_utf8(STANDARD.decode(verifier).ok()?).ok())
        .collect();
    let signed = pae(&envelope.payload_type, &payload);
    let verified = |signature: &Signature| {
        let bytes = STANDARD.decode(&signature.sig).ok()?;
        let pem = verifiers.iter().find(|pem| {
            Presented::from_pem(pem).is_some_and(|presented| presented.has_signed(&signed, &bytes))
        })?;
        Some((signature.sig.clone(), pem.clone()))
    };
    let signatures: Option<BTreeMap<String, String>> = envelope.signatures.iter().map(verified).collect();
    let signatures =
        signatures.filter(|signatures| !signatures.is_empty()).ok_or(Refused("could not verify envelope"))?;
    Ok(entry_body(EntryKind::Dsse001, &dsse_001(content.envelope.as_bytes(), &payload, &signatures)))
}

/// Puts an entry into the log.
fn enter(sigstore: &Sigstore, body: Vec<u8>) -> Entry {
    let log = &sigstore.trusted.log;
    let at = truncated(Timestamp::now());
    let inclusion = log.append(&body);
    let (log_id, log_index) = (log.id(), inclusion.log_index);
    let note = checkpoint(log, inclusion.tree_size, &inclusion.root, &log.key, log_id);
    let set = log.key.sign(set_payload(&body, at, &log_id, log_index).as_bytes());
    Entry {
        kind: EntryKind::Dsse001,
        stated_kind: EntryKind::Dsse001,
        body,
        log_id,
        log_index,
        integrated: Some(at),
        set: Some(set),
        proof: Some((inclusion, note)),
    }
}

fn as_answer(entry: &Entry) -> Value {
    let (inclusion, checkpoint) = entry.proof.as_ref().unwrap();
    json!({
        "body": base64(&entry.body),
        "integratedTime": entry.integrated.unwrap().as_second(),
        "logID": hex::encode(entry.log_id),
        "logIndex": entry.log_index,
        "verification": {
            "inclusionProof": {
                "checkpoint": checkpoint,
                "hashes": inclusion.hashes.iter().map(hex::encode).collect::<Vec<_>>(),
                "logIndex": inclusion.tree_index,
                "rootHash": hex::encode(inclusion.root),
                "treeSize": inclusion.tree_size,
            },
            "signedEntryTimestamp": base64(entry.set.as_deref().unwrap()),
        },
    })
}
