//! Log entries of Rekor v2 that `sigstore-verify` does not know: of kind `dsse` 0.0.2, which cosign wrote at first and at
//! which the library fails to parse the bundle; and `hashedrekord` 0.0.2 of other keys than P-256. They are taken out of
//! the bundle and verified here; what else is in the bundle is verified by the library.
//!
//! Rekor v2 signs no time: an RFC 3161 timestamp says when the signature was made, and the log only that it has it.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sigstore_merkle::{hash_leaf, verify_inclusion_proof};
use sigstore_types::{Bundle, KindVersion, Sha256Hash, SignatureContent, TransparencyLogEntry};

use super::{
    entry::{Signed, describes},
    limits,
    refusal::Refusal,
    root::Root,
};

/// The one kind of key that the library knows in such entries.
const KNOWN_KEY: &str = "PKIX_ECDSA_P256_SHA_256";

/// An entry that the library does not see.
pub(super) struct Entry {
    /// The kind that the bundle states.
    kind: &'static str,
    pub(super) entry: TransparencyLogEntry,
}

/// Reads a bundle of which the library refused the kinds of its entries. Nothing, where there is no entry to take out.
pub(super) fn take_out(json: &[u8]) -> Option<Result<(Bundle, Vec<Entry>), serde_json::Error>> {
    let mut document: Value = serde_json::from_slice(json).ok()?;
    let entries = document.pointer_mut("/verificationMaterial/tlogEntries")?.as_array_mut()?;
    let (ours, others): (Vec<Value>, Vec<Value>) = std::mem::take(entries).into_iter().partition(is_dsse_002);
    *entries = others;
    if ours.is_empty() {
        return None;
    }
    let read = || {
        let entry = |mut entry: Value| {
            // The type has no name for this kind, and is otherwise right.
            if let Some(kind) = entry.pointer_mut("/kindVersion") {
                *kind = json!({"kind": "hashedrekord", "version": "0.0.2"});
            }
            serde_json::from_value(entry).map(|entry| Entry { kind: "dsse", entry })
        };
        let taken = ours.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok((serde_json::from_value(document)?, taken))
    };
    Some(read())
}

fn is_dsse_002(entry: &Value) -> bool {
    entry.pointer("/kindVersion/kind").and_then(Value::as_str) == Some("dsse")
        && entry.pointer("/kindVersion/version").and_then(Value::as_str) == Some("0.0.2")
}

/// Takes the entries about an envelope that are of another key than the library knows out of a bundle that it could read.
pub(super) fn take_out_other_keys(bundle: &mut Bundle) -> Vec<Entry> {
    let SignatureContent::DsseEnvelope(_) = &bundle.content else { return Vec::new() };
    let entries = std::mem::take(&mut bundle.verification_material.tlog_entries);
    let (ours, others) = entries.into_iter().partition(|entry| {
        entry.kind_version == KindVersion::HashedRekordV002
            && key_details(entry.canonicalized_body.as_bytes()).is_some_and(|details| details != KNOWN_KEY)
    });
    bundle.verification_material.tlog_entries = others;
    let ours: Vec<TransparencyLogEntry> = ours;
    ours.into_iter().map(|entry| Entry { kind: "hashedrekord", entry }).collect()
}

fn key_details(body: &[u8]) -> Option<String> {
    // What is larger is refused behind this.
    limits::entry_body(body).ok()?;
    let body: Value = serde_json::from_slice(body).ok()?;
    let details = body.pointer("/spec/hashedRekordV002/signature/verifier/keyDetails")?;
    details.as_str().map(str::to_owned)
}

/// Verifies that the log has the entry, and that the entry is about `signed`.
pub(super) fn verify(entry: &Entry, root: &Root, signed: &Signed<'_>) -> Result<(), Refusal> {
    let Entry { kind, entry } = entry;
    let body = entry.canonicalized_body.as_bytes();
    let proof = entry.inclusion_proof.as_ref().ok_or(Refusal::EntryUnproved)?;
    let checkpoint = proof.checkpoint.checkpoint().ok_or(Refusal::Checkpoint)?;
    // What the proof repeats of the entry and of the checkpoint, nobody signed: it is not read.
    let (index, size) = (entry.log_index.get(), checkpoint.tree_size());
    verify_inclusion_proof(&hash_leaf(body), index, size, &proof.hashes, checkpoint.root_hash())
        .map_err(|_| Refusal::InclusionProof)?;
    let log = log_of(entry);
    let key =
        log.and_then(|log| root.logs.key(&log)).ok_or_else(|| Refusal::UnknownLog(root.name.0.clone()))?;
    let of_log = checkpoint.signatures().iter().any(|signature| {
        let hint = signature.key_id.as_bytes();
        log.is_some_and(|log| log.as_bytes().starts_with(hint))
            && key.verify(checkpoint.signed_data(), &signature.signature).is_ok()
    });
    if !of_log {
        return Err(Refusal::Checkpoint);
    }
    // Who states another kind than the log has may mean another reading of it.
    if !is_of_kind(body, kind) {
        return Err(Refusal::Malformed("its log entry is of another kind than the bundle states".to_owned()));
    }
    describes(body, signed)
}

fn is_of_kind(body: &[u8], expected: &str) -> bool {
    #[derive(Deserialize)]
    struct Head {
        kind: String,
    }
    serde_json::from_slice::<Head>(body).is_ok_and(|head| head.kind == expected)
}

/// That the log of an entry without a time of its own was in use at each of these times: a key that is retired vouches
/// for nothing new.
pub(super) fn in_use(entry: &TransparencyLogEntry, root: &Root, times: &[Timestamp]) -> Result<(), Refusal> {
    let known = |time: &Timestamp| log_of(entry).is_some_and(|log| root.logs.key_at(&log, *time).is_some());
    if times.iter().all(known) { Ok(()) } else { Err(Refusal::UnknownLog(root.name.0.clone())) }
}

/// The log that an entry names.
pub(super) fn log_of(entry: &TransparencyLogEntry) -> Option<Sha256Hash> {
    Sha256Hash::try_from(entry.log_id.key_id.as_bytes()).ok()
}
