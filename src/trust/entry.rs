//! What a log entry is about. An entry vouches for the time of a signature only where it is about that very signature
//! by that very certificate over that very payload: else an old entry could vouch for a new signature (CVE-2022-36056).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sigstore_crypto::sha256;
use sigstore_types::{DerCertificate, DsseEnvelope, PemContent, SignatureBytes};

use super::refusal::{Refusal, quoted};

/// What an entry must be about.
pub(super) struct Signed<'a> {
    /// The envelope, as it is in the registry.
    pub(super) bytes: &'a [u8],
    /// The same, parsed.
    pub(super) envelope: &'a DsseEnvelope,
    /// The certificate whose key verifies it.
    pub(super) certificate: &'a DerCertificate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
    spec: Value,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse001 {
    payload_hash: Hash,
    signatures: [Dsse001Signature; 1],
}

#[derive(Deserialize)]
struct Dsse001Signature {
    signature: SignatureBytes,
    verifier: PemContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto001 {
    content: Intoto001Content,
    public_key: PemContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto001Content {
    hash: Hash,
    #[serde(default)]
    payload_hash: Option<Hash>,
}

#[derive(Deserialize)]
struct Intoto002 {
    content: Intoto002Content,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto002Content {
    envelope: Intoto002Envelope,
    payload_hash: Hash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto002Envelope {
    payload_type: String,
    signatures: [Intoto002Signature; 1],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto002Signature {
    sig: SignatureBytes,
    public_key: PemContent,
}

/// Whether the entry with this body is about `signed`. The body must have been verified.
pub(super) fn describes(body: &[u8], signed: &Signed<'_>) -> Result<(), Refusal> {
    let body: Body = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let matches = match (body.kind.as_str(), body.api_version.as_str()) {
        ("dsse", "0.0.1") => signed.is_in_dsse_001(&spec(body.spec)?),
        ("intoto", "0.0.1") => signed.is_in_intoto_001(&spec(body.spec)?),
        ("intoto", "0.0.2") => signed.is_in_intoto_002(&spec(body.spec)?),
        (kind, version) => {
            let found = quoted(&format!("{kind} {version}"));
            return Err(Refusal::Other(format!(
                "its log entry is of the kind {found}, not of an attestation"
            )));
        }
    };
    if matches { Ok(()) } else { Err(Refusal::EntryMismatch) }
}

fn spec<T: DeserializeOwned>(spec: Value) -> Result<T, Refusal> {
    serde_json::from_value(spec).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal::unreadable("its log entry cannot be read", error)
}

impl Signed<'_> {
    /// The hash of the whole envelope is left alone: it is of the JSON as it was handed in, which need not be the one
    /// that is kept. What counts of it is compared one by one.
    fn is_in_dsse_001(&self, entry: &Dsse001) -> bool {
        let [signature] = &entry.signatures;
        entry.payload_hash.is_of(self.envelope.payload.as_bytes())
            && signature.signature == self.envelope.signature.sig
            && self.is_certificate(&signature.verifier)
    }

    /// Here the hash of the whole envelope is all that binds the signature, so it must be of these very bytes.
    fn is_in_intoto_001(&self, entry: &Intoto001) -> bool {
        entry.content.hash.is_of(self.bytes)
            && entry
                .content
                .payload_hash
                .as_ref()
                .is_none_or(|hash| hash.is_of(self.envelope.payload.as_bytes()))
            && self.is_certificate(&entry.public_key)
    }

    fn is_in_intoto_002(&self, entry: &Intoto002) -> bool {
        let envelope = &entry.content.envelope;
        let [signature] = &envelope.signatures;
        // Rekor encodes the signature once more.
        let decoded = STANDARD.decode(signature.sig.as_bytes());
        entry.content.payload_hash.is_of(self.envelope.payload.as_bytes())
            && envelope.payload_type == self.envelope.payload_type
            && decoded.is_ok_and(|decoded| decoded == self.envelope.signature.sig.as_bytes())
            && self.is_certificate(&signature.public_key)
    }

    fn is_certificate(&self, pem: &PemContent) -> bool {
        std::str::from_utf8(pem.as_bytes())
            .ok()
            .and_then(|pem| DerCertificate::from_pem(pem).ok())
            .is_some_and(|certificate| certificate == *self.certificate)
    }
}

impl Hash {
    fn is_of(&self, bytes: &[u8]) -> bool {
        self.algorithm == "sha256" && self.value == sha256(bytes).to_hex()
    }
}
