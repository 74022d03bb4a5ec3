//! What a log entry is about. An entry vouches for the time of a signature only where it is about that very signature
//! by that very certificate or key over that very payload: else an old entry could vouch for a new signature
//! (CVE-2022-36056).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sigstore_crypto::{sha256, sha384, sha512};
use sigstore_types::{DerCertificate, DerPublicKey, DsseEnvelope, PemContent, SignatureBytes};

use super::refusal::{Refusal, quoted};

/// What an entry must be about.
pub(super) struct Signed<'a> {
    /// The envelope, as it is in the registry.
    pub(super) bytes: &'a [u8],
    /// The same, parsed.
    pub(super) envelope: &'a DsseEnvelope,
    /// What verifies it.
    pub(super) verifier: Verifier<'a>,
}

/// What verifies a signature.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verifier<'a> {
    /// The key of a certificate. An entry must be of the certificate, and not of another one of the same key.
    Certificate(&'a DerCertificate),
    /// A key that the attestation does not carry.
    Key(&'a DerPublicKey),
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse002 {
    dsse_v002: Dsse002Content,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse002Content {
    payload_hash: Rekor2Hash,
    signatures: [Rekor2Signature; 1],
}

#[derive(Deserialize)]
struct Rekor2Hash {
    algorithm: String,
    digest: String,
}

#[derive(Deserialize)]
struct Rekor2Signature {
    content: SignatureBytes,
    verifier: Rekor2Verifier,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedRekord002 {
    hashed_rekord_v002: HashedRekord002Content,
}

#[derive(Deserialize)]
struct HashedRekord002Content {
    data: Rekor2Hash,
    signature: Rekor2Signature,
}

/// Exactly one of the two.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rekor2Verifier {
    #[serde(default)]
    x509_certificate: Option<Rekor2Bytes>,
    #[serde(default)]
    public_key: Option<Rekor2Bytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rekor2Bytes {
    raw_bytes: String,
}

/// Whether the entry with this body is about `signed`. The body must have been verified.
pub(super) fn describes(body: &[u8], signed: &Signed<'_>) -> Result<(), Refusal> {
    let body: Body = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let matches = match (body.kind.as_str(), body.api_version.as_str()) {
        ("dsse", "0.0.1") => signed.is_in_dsse_001(&spec(body.spec)?),
        ("intoto", "0.0.1") => signed.is_in_intoto_001(&spec(body.spec)?),
        ("intoto", "0.0.2") => signed.is_in_intoto_002(&spec(body.spec)?),
        ("dsse", "0.0.2") => signed.is_in_dsse_002(&spec(body.spec)?),
        ("hashedrekord", "0.0.2") => signed.is_in_hashedrekord_002(&spec(body.spec)?),
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
            && self.is_verifier(&signature.verifier)
    }

    /// Here the hash of the whole envelope is all that binds the signature, so it must be of these very bytes.
    fn is_in_intoto_001(&self, entry: &Intoto001) -> bool {
        entry.content.hash.is_of(self.bytes)
            && entry
                .content
                .payload_hash
                .as_ref()
                .is_none_or(|hash| hash.is_of(self.envelope.payload.as_bytes()))
            && self.is_verifier(&entry.public_key)
    }

    fn is_in_intoto_002(&self, entry: &Intoto002) -> bool {
        let envelope = &entry.content.envelope;
        let [signature] = &envelope.signatures;
        // Rekor encodes the signature once more.
        let decoded = STANDARD.decode(signature.sig.as_bytes());
        entry.content.payload_hash.is_of(self.envelope.payload.as_bytes())
            && envelope.payload_type == self.envelope.payload_type
            && decoded.is_ok_and(|decoded| decoded == self.envelope.signature.sig.as_bytes())
            && self.is_verifier(&signature.public_key)
    }

    fn is_in_dsse_002(&self, entry: &Dsse002) -> bool {
        let entry = &entry.dsse_v002;
        let [signature] = &entry.signatures;
        entry.payload_hash.is_of(self.envelope.payload.as_bytes()) && self.is_signature(signature)
    }

    /// What is hashed is what the signature covers: payload and payload type.
    fn is_in_hashedrekord_002(&self, entry: &HashedRekord002) -> bool {
        let entry = &entry.hashed_rekord_v002;
        entry.data.is_of(&self.envelope.pae()) && self.is_signature(&entry.signature)
    }

    fn is_signature(&self, logged: &Rekor2Signature) -> bool {
        let is = |bytes: &Rekor2Bytes, expected: &[u8]| {
            STANDARD.decode(&bytes.raw_bytes).is_ok_and(|bytes| bytes == expected)
        };
        let verifier = &logged.verifier;
        let is_verifier = match (&verifier.x509_certificate, &verifier.public_key, self.verifier) {
            (Some(bytes), None, Verifier::Certificate(certificate)) => is(bytes, certificate.as_bytes()),
            (None, Some(bytes), Verifier::Key(key)) => is(bytes, key.as_bytes()),
            _ => false,
        };
        logged.content == self.envelope.signature.sig && is_verifier
    }

    fn is_verifier(&self, pem: &PemContent) -> bool {
        let Ok(pem) = std::str::from_utf8(pem.as_bytes()) else { return false };
        match self.verifier {
            Verifier::Certificate(expected) => {
                DerCertificate::from_pem(pem).is_ok_and(|certificate| certificate == *expected)
            }
            Verifier::Key(expected) => DerPublicKey::from_pem(pem).is_ok_and(|key| key == *expected),
        }
    }
}

impl Hash {
    fn is_of(&self, bytes: &[u8]) -> bool {
        self.algorithm == "sha256" && self.value == sha256(bytes).to_hex()
    }
}

impl Rekor2Hash {
    fn is_of(&self, bytes: &[u8]) -> bool {
        let digest = match self.algorithm.as_str() {
            "SHA2_256" => STANDARD.encode(sha256(bytes)),
            "SHA2_384" => STANDARD.encode(sha384(bytes)),
            "SHA2_512" => STANDARD.encode(sha512(bytes)),
            _ => return false,
        };
        self.digest == digest
    }
}
