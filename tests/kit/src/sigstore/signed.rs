//! A signed statement, and the forms in which registries hold one: a Sigstore bundle, and the layer
//! of a cosign `.att` image.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::keys::{KeyKind, base64, pem, sha256};
use super::rekor::Inclusion;

/// The media type of the layer of a cosign `.att` image.
pub const DSSE_MEDIA_TYPE: &str = "application/vnd.dsse.envelope.v1+json";

/// A version of Sigstore's bundle format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BundleVersion {
    /// v0.1: certificates as a chain, the signed entry timestamp required.
    V01,
    /// v0.2: certificates as a chain, the inclusion proof required.
    V02,
    /// v0.3: one certificate.
    V03,
}

impl BundleVersion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V01, Self::V02, Self::V03];

    /// The media type, which is the artifact type of the referrer too.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::V01 => "application/vnd.dev.sigstore.bundle+json;version=0.1",
            Self::V02 => "application/vnd.dev.sigstore.bundle+json;version=0.2",
            Self::V03 => "application/vnd.dev.sigstore.bundle.v0.3+json",
        }
    }
}

/// The kind of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// `dsse` 0.0.1: what attestations are logged as today.
    Dsse001,
    /// `intoto` 0.0.1: in `.att` layers until slsa-github-generator v1.9. Bundles never hold it.
    Intoto001,
    /// `intoto` 0.0.2: in bundles of its time.
    Intoto002,
    /// `dsse` 0.0.2, of Rekor v2: what cosign logged there at first.
    Dsse002,
    /// `hashedrekord` 0.0.2, of Rekor v2: over what the envelope's signature covers.
    HashedRekord002,
}

impl EntryKind {
    /// The kind and the version.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Dsse001 => ("dsse", "0.0.1"),
            Self::Intoto001 => ("intoto", "0.0.1"),
            Self::Intoto002 => ("intoto", "0.0.2"),
            Self::Dsse002 => ("dsse", "0.0.2"),
            Self::HashedRekord002 => ("hashedrekord", "0.0.2"),
        }
    }

    /// Whether the entry is in a log of Rekor v2.
    pub fn is_v2(self) -> bool {
        matches!(self, Self::Dsse002 | Self::HashedRekord002)
    }
}

/// A DSSE envelope with one signature.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) payload_type: String,
    pub(super) payload: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Envelope {
    /// The envelope as cosign writes it: fields in this order, no spaces.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Signature {
            keyid: &'static str,
            sig: String,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            payload_type: &'a str,
            payload: String,
            signatures: [Signature; 1],
        }
        let wire = Wire {
            payload_type: &self.payload_type,
            payload: base64(&self.payload),
            signatures: [Signature { keyid: "", sig: base64(&self.signature) }],
        };
        serde_json::to_vec(&wire).unwrap()
    }
}

/// What the log gave back.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    /// The kind that a bundle states.
    pub(super) stated_kind: EntryKind,
    pub(super) body: Vec<u8>,
    pub(super) log_id: [u8; 32],
    pub(super) log_index: u64,
    /// Rekor v2 states no time.
    pub(super) integrated: Option<Timestamp>,
    pub(super) set: Option<Vec<u8>>,
    /// The proof and its checkpoint.
    pub(super) proof: Option<(Inclusion, String)>,
}

/// What verifies the signature.
#[derive(Clone, Debug)]
pub(super) enum Verifier {
    /// A certificate, DER.
    Certificate(Vec<u8>),
    /// A public key (SPKI, DER), which nothing carries; and its kind.
    Key(Vec<u8>, KeyKind),
}

impl Verifier {
    /// PEM, as the log has it.
    pub(super) fn pem(&self) -> String {
        match self {
            Self::Certificate(der) => pem("CERTIFICATE", der),
            Self::Key(spki, _) => pem("PUBLIC KEY", spki),
        }
    }

    /// As Rekor v2 has it; `kind` is the kind of the key that signed.
    pub(super) fn json(&self, kind: KeyKind) -> Value {
        match self {
            Self::Certificate(der) => json!({
                "keyDetails": kind.details(),
                "x509Certificate": { "rawBytes": base64(der) },
            }),
            Self::Key(spki, kind) => {
                json!({ "keyDetails": kind.details(), "publicKey": { "rawBytes": base64(spki) } })
            }
        }
    }
}

/// A signed statement with everything that vouches for it.
#[derive(Clone, Debug)]
pub struct Signed {
    pub(super) envelope: Envelope,
    pub(super) verifier: Verifier,
    /// Intermediate and root.
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) entry: Option<Entry>,
    pub(super) timestamps: Vec<Vec<u8>>,
}

impl Signed {
    /// The DSSE envelope as JSON.
    pub fn envelope_bytes(&self) -> Vec<u8> {
        self.envelope.to_bytes()
    }

    /// The leaf certificate, where it is not signed with a key.
    pub fn certificate_der(&self) -> Option<&[u8]> {
        match &self.verifier {
            Verifier::Certificate(der) => Some(der),
            Verifier::Key(..) => None,
        }
    }

    /// The intermediate and the root as PEM, as cosign's annotation has them.
    pub fn chain_pem(&self) -> String {
        let text: String = self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
        text.trim_end().to_owned()
    }

    /// When the log says to have taken the entry.
    pub fn integrated_time(&self) -> Option<Timestamp> {
        self.entry.as_ref().and_then(|entry| entry.integrated)
    }

    /// The log entry's canonical body.
    pub fn entry_body(&self) -> Option<&[u8]> {
        self.entry.as_ref().map(|entry| entry.body.as_slice())
    }

    /// A Sigstore bundle.
    pub fn bundle_json(&self, version: BundleVersion) -> String {
        self.bundle(version).to_string()
    }

    /// The same, to be edited.
    pub fn bundle(&self, version: BundleVersion) -> Value {
        let stamps: Vec<Value> =
            self.timestamps.iter().map(|stamp| json!({ "signedTimestamp": base64(stamp) })).collect();
        let mut material = json!({
            "tlogEntries": self.entry.iter().map(tlog_entry).collect::<Vec<_>>(),
            "timestampVerificationData": { "rfc3161Timestamps": stamps },
        });
        match (&self.verifier, version) {
            (Verifier::Key(spki, _), _) => {
                material["publicKey"] = json!({ "hint": base64(&sha256(spki)) });
            }
            (Verifier::Certificate(der), BundleVersion::V01 | BundleVersion::V02) => {
                let certificate = json!({ "rawBytes": base64(der) });
                material["x509CertificateChain"] = json!({ "certificates": [certificate] });
            }
            (Verifier::Certificate(der), BundleVersion::V03) => {
                material["certificate"] = json!({ "rawBytes": base64(der) });
            }
        }
        json!({
            "mediaType": version.media_type(),
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": base64(&self.envelope.payload),
                "payloadType": self.envelope.payload_type,
                "signatures": [{ "sig": base64(&self.envelope.signature), "keyid": "" }],
            },
        })
    }

    /// The layer of a cosign `.att` image (of type [`DSSE_MEDIA_TYPE`]): its bytes and annotations.
    pub fn cosign_att_layer(&self) -> (Vec<u8>, BTreeMap<String, String>) {
        let mut annotations =
            BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), String::new())]);
        if let Verifier::Certificate(der) = &self.verifier {
            annotations.insert("dev.sigstore.cosign/certificate".to_owned(), pem("CERTIFICATE", der));
            annotations.insert("dev.sigstore.cosign/chain".to_owned(), self.chain_pem());
        }
        if let Some(entry) = &self.entry {
            annotations.insert("dev.sigstore.cosign/bundle".to_owned(), cosign_bundle(entry));
        }
        if let Some(stamp) = self.timestamps.first() {
            let value = json!({ "SignedRFC3161Timestamp": base64(stamp) }).to_string();
            annotations.insert("dev.sigstore.cosign/rfc3161timestamp".to_owned(), value);
        }
        // cosign writes the predicate's type since it logs `dsse` entries.
        let modern = self.entry.as_ref().is_none_or(|entry| entry.kind == EntryKind::Dsse001);
        if let Some(predicate) = self.predicate_type().filter(|_| modern) {
            annotations.insert("predicateType".to_owned(), predicate);
        }
        (self.envelope_bytes(), annotations)
    }

    /// The statement's predicate type, where the payload is a statement.
    pub fn predicate_type(&self) -> Option<String> {
        let statement: Value = serde_json::from_slice(&self.envelope.payload).ok()?;
        Some(statement.get("predicateType")?.as_str()?.to_owned())
    }
}

/// The entry as a bundle states it. Numbers are strings, as protobuf's JSON has it.
pub(super) fn tlog_entry(entry: &Entry) -> Value {
    let (kind, version) = entry.stated_kind.names();
    let mut value = json!({
        "logIndex": entry.log_index.to_string(),
        "logId": { "keyId": base64(&entry.log_id) },
        "kindVersion": { "kind": kind, "version": version },
        "canonicalizedBody": base64(&entry.body),
    });
    if let Some(time) = entry.integrated {
        value["integratedTime"] = json!(time.as_second().to_string());
    }
    if let Some(set) = &entry.set {
        value["inclusionPromise"] = json!({ "signedEntryTimestamp": base64(set) });
    }
    if let Some((inclusion, checkpoint)) = &entry.proof {
        value["inclusionProof"] = json!({
            "logIndex": inclusion.tree_index.to_string(),
            "treeSize": inclusion.tree_size.to_string(),
            "rootHash": base64(&inclusion.root),
            "hashes": inclusion.hashes.iter().map(|hash| base64(hash)).collect::<Vec<_>>(),
            "checkpoint": { "envelope": checkpoint },
        });
    }
    value
}

/// The annotation in which cosign keeps the log's answer.
fn cosign_bundle(entry: &Entry) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload {
        body: String,
        integrated_time: i64,
        log_index: u64,
        #[serde(rename = "logID")]
        log_id: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Wire {
        signed_entry_timestamp: String,
        payload: Payload,
    }
    let payload = Payload {
        body: base64(&entry.body),
        integrated_time: entry.integrated.map_or(0, Timestamp::as_second),
        log_index: entry.log_index,
        log_id: hex::encode(entry.log_id),
    };
    let set = entry.set.as_deref().unwrap_or_default();
    serde_json::to_string(&Wire { signed_entry_timestamp: base64(set), payload }).unwrap()
}
