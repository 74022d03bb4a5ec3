//! The timestamping authority's endpoint (RFC 3161 over HTTP).

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderName, header::CONTENT_TYPE},
};
use jiff::Timestamp;

use super::{Refused, Shared};
use crate::sigstore::{der, truncated};

/// `POST /api/v1/timestamp`
pub(super) async fn stamp(
    State(sigstore): State<Shared>,
    query: Bytes,
) -> Result<([(HeaderName, &'static str); 1], Vec<u8>), Refused> {
    let hash = imprint(&query).ok_or(Refused("the query is none, or not of a SHA-256"))?;
    let tsa = &sigstore.trusted.tsa;
    let response = tsa.stamp_hash(hash, truncated(Timestamp::now()), &tsa.signer.key);
    Ok(([(CONTENT_TYPE, "application/timestamp-reply")], response))
}

/// The hash that a `TimeStampReq` is about: it stands behind the version, and behind the name of its algorithm.
fn imprint(query: &[u8]) -> Option<&[u8]> {
    let query = der::within_sequence(query)?;
    let hash = der::within_sequence(query.get(1)?.whole)?.get(1)?.contents;
    (hash.len() == 32).then_some(hash)
}
