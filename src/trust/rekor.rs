//! Entries of transparency logs as bundles hold them, of Rekor v1 and v2: what the entry's own log vouches for.
//!
//! Rekor v1 signs entry and time (the signed entry timestamp, SET) and can prove the entry by a checkpoint. Rekor v2 signs no time: an RFC
//! 3161 timestamp says when the signature was made. A time that nobody signed is not read.

use jiff::Timestamp;
use serde_json::{Value, json};
use sigstore_merkle::{hash_leaf, verify_inclusion_proof};
use sigstore_types::{Bundle, KindVersion, Sha256Hash, SignatureBytes, TransparencyLogEntry};

use super::{
    entry::{EntryKind, Signed, describes},
    limits,
    log::set_payload,
    refusal::Refusal,
    root::Root,
};

/// An entry that is not yet believed.
pub(super) struct LogEntry<'a> {
    /// The kind that the bundle states.
    pub(super) kind: EntryKind,
    pub(super) entry: &'a TransparencyLogEntry,
}

/// A bundle, and which of its entries are of the kind `dsse` 0.0.2, for which the type has no name.
pub(super) struct ParsedBundle {
    pub(super) bundle: Bundle,
    /// How many entries at the end of the bundle's are of that kind.
    pub(super) dsse_002: usize,
}

/// Reads a bundle.
pub(super) fn parse(json: &[u8]) -> Result<ParsedBundle, serde_json::Error> {
    match serde_json::from_slice::<Bundle>(json) {
        Ok(bundle) => Ok(ParsedBundle { bundle, dsse_002: 0 }),
        Err(error) => parse_dsse_002(json).unwrap_or(Err(error)),
    }
}

/// Reads a bundle with entries of the kind `dsse` 0.0.2. `None` where it has none.
fn parse_dsse_002(json: &[u8]) -> Option<Result<ParsedBundle, serde_json::Error>> {
    let mut document: Value = serde_json::from_slice(json).ok()?;
    let entries = document.pointer_mut("/verificationMaterial/tlogEntries")?.as_array_mut()?;
    let (mut ours, others): (Vec<Value>, Vec<Value>) =
        std::mem::take(entries).into_iter().partition(is_dsse_002);
    let dsse_002 = ours.len();
    if dsse_002 == 0 {
        return None;
    }
    for entry in &mut ours {
        // The type has no name for this kind, and is otherwise right.
        if let Some(kind) = entry.pointer_mut("/kindVersion") {
            *kind = json!({"kind": "hashedrekord", "version": "0.0.2"});
        }
    }
    *entries = others;
    entries.append(&mut ours);
    Some(serde_json::from_value(document).map(|bundle| ParsedBundle { bundle, dsse_002 }))
}

fn is_dsse_002(entry: &Value) -> bool {
    entry.pointer("/kindVersion/kind").and_then(Value::as_str) == Some("dsse")
        && entry.pointer("/kindVersion/version").and_then(Value::as_str) == Some("0.0.2")
}

impl ParsedBundle {
    /// The log entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = LogEntry<'_>> {
        let entries = &self.bundle.verification_material.tlog_entries;
        let others = entries.len().saturating_sub(self.dsse_002);
        entries.iter().enumerate().map(move |(at, entry)| {
            let kind = match entry.kind_version {
                _ if at >= others => EntryKind::Dsse002,
                KindVersion::HashedRekordV001 => EntryKind::HashedRekord001,
                KindVersion::HashedRekordV002 => EntryKind::HashedRekord002,
                KindVersion::DsseV001 => EntryKind::Dsse001,
                KindVersion::IntotoV002 => EntryKind::Intoto002,
                _ => EntryKind::Unknown,
            };
            LogEntry { kind, entry }
        })
    }
}

impl LogEntry<'_> {
    /// Whether a log vouches for it in any way.
    pub(super) const fn is_bare(&self) -> bool {
        self.entry.inclusion_promise.is_none() && self.entry.inclusion_proof.is_none()
    }

    /// Whether the root knows its log, at whatever time.
    pub(super) fn is_of(&self, root: &Root) -> bool {
        self.log().is_some_and(|log| root.logs.key(&log).is_some())
    }

    /// Verifies all that its own log vouches for, and gives the time where the log signed one.
    pub(super) fn verify(&self, root: &Root) -> Result<Option<Timestamp>, Refusal> {
        if self.is_bare() {
            return Err(Refusal::EntryUnproved);
        }
        self.verify_proof(root)?;
        self.verify_promise(root)
    }

    /// That the entry is about `signed`.
    pub(super) fn describes(&self, signed: &Signed<'_>) -> Result<(), Refusal> {
        let body = self.entry.canonicalized_body.as_bytes();
        limits::entry_body(body)?;
        describes(body, Some(self.kind), signed)
    }

    /// That the log of an entry without a time of its own was in use at each of these times: a key that is retired vouches for nothing new.
    /// Where nothing says when it was signed, the log must be in use now.
    pub(super) fn is_in_use(&self, root: &Root, times: &[Timestamp], now: Timestamp) -> Result<(), Refusal> {
        let known = |time: &Timestamp| self.log().is_some_and(|log| root.logs.key_at(&log, *time).is_some());
        match times {
            [] if known(&now) => Ok(()),
            [] => Err(Refusal::RetiredLog(root.name.0.clone())),
            times if times.iter().all(known) => Ok(()),
            _ => Err(unknown_log(root)),
        }
    }

    /// The log that it names.
    fn log(&self) -> Option<Sha256Hash> {
        Sha256Hash::try_from(self.entry.log_id.key_id.as_bytes()).ok()
    }

    /// The inclusion proof, by a checkpoint that the entry's own log signed.
    fn verify_proof(&self, root: &Root) -> Result<(), Refusal> {
        let Some(proof) = &self.entry.inclusion_proof else { return Ok(()) };
        let checkpoint = proof.checkpoint.checkpoint().ok_or(Refusal::Checkpoint)?;
        // What the proof of Rekor v2 repeats of the entry and of the checkpoint, nobody signed: it is not read.
        let (index, size) = if self.kind.is_v2() {
            (self.entry.log_index.get(), checkpoint.tree_size())
        } else {
            (proof.log_index.get(), proof.tree_size)
        };
        let leaf = hash_leaf(self.entry.canonicalized_body.as_bytes());
        verify_inclusion_proof(&leaf, index, size, &proof.hashes, checkpoint.root_hash())
            .map_err(|_| Refusal::InclusionProof)?;
        let log = self.log().ok_or_else(|| unknown_log(root))?;
        let key = root.logs.key(&log).ok_or_else(|| unknown_log(root))?;
        let is_signed = checkpoint.signatures().iter().any(|signature| {
            log.as_bytes().starts_with(signature.key_id.as_bytes())
                && key.verify(checkpoint.signed_data(), &signature.signature).is_ok()
        });
        if is_signed { Ok(()) } else { Err(Refusal::Checkpoint) }
    }

    /// The signed entry timestamp, by the key that the entry's own log had at that time.
    fn verify_promise(&self, root: &Root) -> Result<Option<Timestamp>, Refusal> {
        let Some(promise) = &self.entry.inclusion_promise else { return Ok(None) };
        let time =
            self.entry.integrated_time.filter(|_| !self.kind.is_v2()).ok_or(Refusal::EntryTimestamp)?;
        let log = self.log().ok_or_else(|| unknown_log(root))?;
        let key = root.logs.key_at(&log, time).ok_or_else(|| unknown_log(root))?;
        let body = self.entry.canonicalized_body.as_bytes();
        let payload = set_payload(body, time, &log, self.entry.log_index.get());
        let signature = SignatureBytes::new(promise.signed_entry_timestamp.as_bytes().to_vec());
        key.verify(payload, &signature).map_err(|_| Refusal::EntryTimestamp)?;
        Ok(Some(time))
    }
}

fn unknown_log(root: &Root) -> Refusal {
    Refusal::UnknownLog(root.name.0.clone())
}
