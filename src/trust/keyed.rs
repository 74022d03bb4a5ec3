//! Attestations that are signed with a key which they do not carry: read without being believed, and held against the
//! keys that policies name.
//!
//! The signature and the log are told apart, for a policy may do without the second. Where a log vouches, it is for this
//! very signature by this very key: see `entry`.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::Deserialize;
use sigstore_types::{
    Artifact, DerPublicKey, DsseEnvelope, DsseSignature, KeyId as SignatureKeyId, PayloadBytes,
    SignatureBytes,
};

use super::{
    Subject,
    bundle::SigstoreBundle,
    entry::{Content, Signed, Verifier, describes},
    legacy::{self, LOG_ENTRY},
    limits,
    log::LoggedEntry,
    refusal::Refusal,
    root::Root,
    signature,
};
use crate::{
    api::statement,
    domain::{
        key::{KeyCheck, Logged, PublicKey},
        provenance::Statement,
    },
    gather::ports::RawContent,
};

/// A DSSE envelope as it is on the wire. Whoever has several keys signs once with each.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    payload_type: String,
    payload: PayloadBytes,
    signatures: Vec<WireSignature>,
}

#[derive(Debug, Deserialize)]
struct WireSignature {
    sig: SignatureBytes,
}

/// The envelope of a layer with the first of its signatures, and the others. One payload is held, however many have signed it.
fn envelope(bytes: &[u8]) -> Result<(DsseEnvelope, impl Iterator<Item = DsseSignature>), Refusal> {
    limits::document(bytes)?;
    let wire: Wire = serde_json::from_slice(bytes)
        .map_err(|error| Refusal::unreadable("it is not a DSSE envelope", &error))?;
    limits::signatures(wire.signatures.len())?;
    let Wire { payload_type, payload, signatures } = wire;
    let one = |signature: WireSignature| DsseSignature::new(signature.sig, SignatureKeyId::default());
    let mut signatures = signatures.into_iter().map(one);
    let first =
        signatures.next().ok_or_else(|| Refusal::Malformed("its envelope has no signature".to_owned()))?;
    let envelope = DsseEnvelope::new(payload_type, payload, first);
    legacy::payload_type(&envelope)?;
    limits::payload(envelope.payload.as_bytes())?;
    Ok((envelope, signatures))
}

/// What a layer says. Nothing of it is believed yet.
pub(super) fn statement_of_layer(bytes: &[u8]) -> Result<Statement, Refusal> {
    let (envelope, _) = envelope(bytes)?;
    Ok(statement::parse(envelope.payload.as_bytes())?)
}

/// Holds an attestation against a key.
pub(super) fn check(roots: &[Arc<Root>], content: &RawContent, key: &PublicKey, now: Timestamp) -> KeyCheck {
    let key = DerPublicKey::new(key.spki().to_vec());
    let checked = match content {
        RawContent::Bundle(json) => check_bundle(roots, json, &key, now),
        RawContent::CosignLayer { envelope, annotations } => {
            check_layer(roots, envelope, annotations, &key, now)
        }
    };
    checked.unwrap_or_else(|refusal| KeyCheck::refused(refusal.to_string()))
}

fn check_bundle(
    roots: &[Arc<Root>],
    json: &[u8],
    key: &DerPublicKey,
    now: Timestamp,
) -> Result<KeyCheck, Refusal> {
    let read = SigstoreBundle::parse(json)?;
    let (Some(envelope), Some(statement)) = (read.envelope(), read.statement()?) else {
        return Err(Refusal::Malformed("it is a signature of an artifact, not an attestation".to_owned()));
    };
    signature(envelope, key)?;
    let artifact = statement.digests().next().ok_or_else(|| {
        Refusal::Malformed("its statement names no sha256 or sha512 digest of a subject".to_owned())
    })?;
    Ok(in_logs(roots, |root| logged(&read, root, &Subject::Digest(&artifact).to_library()?, key, now)))
}

fn check_layer(
    roots: &[Arc<Root>],
    bytes: &[u8],
    annotations: &BTreeMap<String, String>,
    key: &DerPublicKey,
    now: Timestamp,
) -> Result<KeyCheck, Refusal> {
    let (mut envelope, mut others) = envelope(bytes)?;
    while signature(&envelope, key).is_err() {
        envelope.signature = others.next().ok_or(Refusal::KeySignature)?;
    }
    let entry = legacy::annotation(annotations, LOG_ENTRY)
        .and_then(|text| text.map(LoggedEntry::parse).transpose())
        .and_then(|entry| entry.ok_or(Refusal::LogEntryMissing));
    Ok(in_logs(roots, |root| {
        let entry = entry.as_ref().map_err(Clone::clone)?;
        let time = entry.verify(&root.logs, now, &root.name.0)?;
        let content = Content::Envelope { envelope: &envelope, bytes: Some(bytes) };
        describes(entry.body(), None, &Signed { content, verifier: Verifier::Key(key) })?;
        Ok(Some(time))
    }))
}

/// The logs that vouch, among those of all roots; the signature holds.
fn in_logs(roots: &[Arc<Root>], logged: impl Fn(&Root) -> Result<Option<Timestamp>, Refusal>) -> KeyCheck {
    let mut check =
        KeyCheck { signature: Ok(()), logged: Vec::new(), unlogged: String::new(), may_change: false };
    let mut closest: Option<Refusal> = None;
    for root in roots.iter().filter(|root| root.demands.log) {
        match logged(root) {
            Ok(at) => check.logged.push(Logged { trust_root: root.name.clone(), at }),
            Err(refusal) => {
                check.may_change |= matches!(refusal, Refusal::Future(_));
                if closest.as_ref().is_none_or(Refusal::is_of_another_root) {
                    closest = Some(refusal);
                }
            }
        }
    }
    check.unlogged = closest.unwrap_or(Refusal::LogEntryMissing).to_string();
    check
}

/// Verifies that a log of the root has the bundle's signature by the key, and gives the time by which it was made, where
/// somebody vouches for one.
pub(super) fn logged(
    read: &SigstoreBundle,
    root: &Root,
    artifact: &Artifact<'_>,
    key: &DerPublicKey,
    now: Timestamp,
) -> Result<Option<Timestamp>, Refusal> {
    let times = read.times(root, true, now)?;
    let refusal = |refusal| if refusal == Refusal::Signature { Refusal::KeySignature } else { refusal };
    read.check_content(key, artifact, Verifier::Key(key)).map_err(refusal)?;
    Ok(times.into_iter().min())
}

/// Whether the envelope's signature is by the key. Of ECDSA it is in ASN.1, or the two numbers side by side, as signers
/// outside of Sigstore write it.
fn signature(envelope: &DsseEnvelope, key: &DerPublicKey) -> Result<(), Refusal> {
    let (signed, signature) = (envelope.pae(), &envelope.signature.sig);
    signature::verify(key, &signed, signature)
        .or_else(|_| signature::verify_fixed(key, &signed, signature))
        .map_err(|_| Refusal::KeySignature)
}
