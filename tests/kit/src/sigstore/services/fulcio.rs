//! Fulcio: a certificate for whoever shows a token and proves to hold a key.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header::AUTHORIZATION},
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Refused, Shared,
    presented::Presented,
    token::{claims_of, identity_of},
};
use crate::sigstore::{
    ca::{LeafPlan, SctPlan, Usage, short_validity},
    pem, truncated,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    public_key_request: KeyRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyRequest {
    public_key: PublicKey,
    proof_of_possession: String,
}

#[derive(Deserialize)]
struct PublicKey {
    content: String,
}

/// `POST /api/v2/signingCert`
pub(super) async fn signing_certificate(
    State(sigstore): State<Shared>,
    headers: HeaderMap,
    Json(request): Json<Request>,
) -> Result<Json<Value>, Refused> {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = token.and_then(claims_of).ok_or(Refused("there is no token"))?;
    let identity = identity_of(&claims).ok_or(Refused("the token lacks a claim"))?;
    let KeyRequest { public_key, proof_of_possession } = request.public_key_request;
    let key = Presented::from_pem(&public_key.content).ok_or(Refused("the public key is none"))?;
    let proof = STANDARD.decode(proof_of_possession).unwrap_or_default();
    let subject = claims["sub"].as_str().unwrap_or_default();
    if !key.has_signed(subject.as_bytes(), &proof) {
        return Err(Refused("the signature supplied in the request could not be verified"));
    }
    let now = truncated(Timestamp::now());
    let parts = &sigstore.trusted;
    let certificate = parts.authority.issue(&LeafPlan {
        identity: &identity,
        key: &key.spki,
        validity: short_validity(now),
        usage: Usage::CodeSigning,
        is_authority: false,
        sct: Some(SctPlan {
            log_id: parts.ct_key.id(),
            key: &parts.ct_key,
            issuer_key_hash: parts.authority.intermediate.key.id(),
            at: now,
            of_another_certificate: false,
        }),
        signature_invalid: false,
    });
    let chain = [&certificate, &parts.authority.intermediate.certificate, &parts.authority.root.certificate]
        .map(|certificate| pem("CERTIFICATE", certificate));
    Ok(Json(json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})))
}
