//! Rekor v2: takes `hashedrekord` 0.0.2, over what an envelope's signature covers, and states no time.

use aws_lc_rs::digest::{Digest, SHA256, SHA384};
use axum::{Json, extract::State, http::StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::{Refused, Shared, presented::Presented};
use crate::sigstore::{
    body::{entry_body, hashedrekord_002},
    rekor::checkpoint,
    signed::{Entry, EntryKind, tlog_entry},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    hashed_rekord_request_v002: HashedRekord,
}

#[derive(Deserialize)]
struct HashedRekord {
    digest: String,
    signature: Signature,
}

#[derive(Deserialize)]
struct Signature {
    content: String,
    verifier: Value,
}

/// `POST /api/v2/log/entries`
pub(super) async fn create(
    State(sigstore): State<Shared>,
    Json(request): Json<Request>,
) -> Result<(StatusCode, Json<Value>), Refused> {
    let HashedRekord { digest, signature } = request.hashed_rekord_request_v002;
    let bytes = |place: &str| STANDARD.decode(signature.verifier.pointer(place)?.as_str()?).ok();
    let key = match bytes("/x509Certificate/rawBytes") {
        Some(certificate) => Presented::from_certificate(&certificate),
        None => bytes("/publicKey/rawBytes").map(|spki| Presented { spki }),
    };
    let (algorithm, hash) = match STANDARD.decode(&digest).unwrap_or_default() {
        hash if hash.len() == 32 => ("SHA2_256", Digest::import_less_safe(&hash, &SHA256)),
        hash => ("SHA2_384", Digest::import_less_safe(&hash, &SHA384)),
    };
    let hash = hash.map_err(|_| Refused("the digest is none"))?;
    let signed = STANDARD.decode(&signature.content).unwrap_or_default();
    if !key.is_some_and(|key| key.has_signed_digest(&hash, &signed)) {
        return Err(Refused("invalid signature"));
    }
    let spec = hashedrekord_002(algorithm, &digest, &signature.content, &signature.verifier);
    let body = entry_body(EntryKind::HashedRekord002, &spec);

    let log = &sigstore.trusted.log_v2;
    let inclusion = log.append(&body);
    let note = checkpoint(log, inclusion.tree_size, &inclusion.root, &log.key, log.id());
    let entry = Entry {
        kind: EntryKind::HashedRekord002,
        stated_kind: EntryKind::HashedRekord002,
        body,
        log_id: log.id(),
        log_index: inclusion.log_index,
        integrated: None,
        set: None,
        proof: Some((inclusion, note)),
    };
    Ok((StatusCode::CREATED, Json(tlog_entry(&entry))))
}
