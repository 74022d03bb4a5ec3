//! The answer of a Rekor v1 log as cosign keeps it in an annotation: the entry, and the log's signature on the entry
//! and the time at which it took it (the signed entry timestamp, SET).

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sigstore_crypto::Keyring;
use sigstore_types::{Sha256Hash, SignatureBytes};

use super::{limits, refusal::Refusal};

/// How far ahead of ours the clock of a log may be.
pub(super) const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// A log entry that is not yet believed.
#[derive(Debug)]
pub(super) struct LoggedEntry {
    body: Vec<u8>,
    time: Timestamp,
    index: u64,
    log: Sha256Hash,
    signature: SignatureBytes,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(rename = "SignedEntryTimestamp")]
    signed_entry_timestamp: String,
    #[serde(rename = "Payload")]
    payload: WirePayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePayload {
    body: String,
    integrated_time: i64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

impl LoggedEntry {
    /// Reads the annotation `dev.sigstore.cosign/bundle`.
    pub(super) fn parse(annotation: &str) -> Result<Self, Refusal> {
        let unreadable =
            |error: &dyn std::fmt::Display| Refusal::unreadable("its log entry cannot be read", error);
        let wire: Wire = serde_json::from_str(annotation).map_err(|error| unreadable(&error))?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|error| unreadable(&error));
        let mut log = [0; 32];
        hex::decode_to_slice(&wire.payload.log_id, &mut log).map_err(|error| unreadable(&error))?;
        let body = decode(&wire.payload.body)?;
        limits::entry_body(&body)?;
        Ok(Self {
            body,
            time: Timestamp::from_second(wire.payload.integrated_time).map_err(|error| unreadable(&error))?,
            index: wire.payload.log_index,
            log: Sha256Hash::new(log),
            signature: SignatureBytes::new(decode(&wire.signed_entry_timestamp)?),
        })
    }

    /// Verifies the log's signature with the key that the log had at the time, and gives that time.
    pub(super) fn verify(&self, logs: &Keyring, now: Timestamp, root: &str) -> Result<Timestamp, Refusal> {
        if self.signature.as_bytes().is_empty() {
            return Err(Refusal::NoTime);
        }
        let key = logs.key_at(&self.log, self.time).ok_or_else(|| Refusal::UnknownLog(root.to_owned()))?;
        let signed = set_payload(&self.body, self.time, &self.log, self.index);
        key.verify(signed, &self.signature).map_err(|_| Refusal::EntryTimestamp)?;
        if self.time.duration_since(now) > CLOCK_SKEW {
            return Err(Refusal::Future(self.time));
        }
        Ok(self.time)
    }

    /// The entry's body. It says something once [`Self::verify`] has succeeded.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// The canonical JSON (RFC 8785) of an entry and its time, which the log signed. No text in it needs escaping.
pub(super) fn set_payload(body: &[u8], time: Timestamp, log: &Sha256Hash, index: u64) -> String {
    let (body, time, log) = (STANDARD.encode(body), time.as_second(), log.to_hex());
    format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log}","logIndex":{index}}}"#)
}
