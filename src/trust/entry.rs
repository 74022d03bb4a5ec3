//! What a log entry is about. An entry vouches for the time of a signature only where it is about that very signature
//! by that very certificate or key over that very payload: else an old entry could vouch for a new signature
//! (CVE-2022-36056).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sigstore_crypto::sha256;
use sigstore_types::{
    Artifact, DerCertificate, DerPublicKey, DsseEnvelope, HashAlgorithm, PemContent, SignatureBytes,
};

use super::{
    refusal::{Refusal, quoted},
    signature::digest_of,
};

/// The kinds of entries, each with its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A signature of an artifact.
    HashedRekord001,
    /// A signature of an artifact or of an envelope, of Rekor v2.
    HashedRekord002,
    /// An envelope.
    Dsse001,
    /// An envelope, of Rekor v2.
    Dsse002,
    /// An envelope, by the hash of its JSON.
    Intoto001,
    /// An envelope, by its parts.
    Intoto002,
    /// Any other.
    Unknown,
}

impl EntryKind {
    fn of(kind: &str, version: &str) -> Self {
        match (kind, version) {
            ("hashedrekord", "0.0.1") => Self::HashedRekord001,
            ("hashedrekord", "0.0.2") => Self::HashedRekord002,
            ("dsse", "0.0.1") => Self::Dsse001,
            ("dsse", "0.0.2") => Self::Dsse002,
            ("intoto", "0.0.1") => Self::Intoto001,
            ("intoto", "0.0.2") => Self::Intoto002,
            _ => Self::Unknown,
        }
    }

    /// Whether logs of Rekor v2 hold it.
    pub(super) const fn is_v2(self) -> bool {
        matches!(self, Self::HashedRekord002 | Self::Dsse002)
    }
}

/// What an entry must be about.
pub(super) struct Signed<'a> {
    /// What is signed.
    pub(super) content: Content<'a>,
    /// What verifies it.
    pub(super) verifier: Verifier<'a>,
}

/// What is signed.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// An envelope; `bytes` is its JSON as it was signed, where that was kept.
    Envelope { envelope: &'a DsseEnvelope, bytes: Option<&'a [u8]> },
    /// An artifact, without an envelope around it.
    Artifact { artifact: &'a Artifact<'a>, signature: &'a SignatureBytes },
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
struct HashedRekord001 {
    data: HashedRekord001Data,
    signature: HashedRekord001Signature,
}

#[derive(Deserialize)]
struct HashedRekord001Data {
    hash: Hash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashedRekord001Signature {
    content: SignatureBytes,
    public_key: HashedRekord001Verifier,
}

#[derive(Deserialize)]
struct HashedRekord001Verifier {
    content: PemContent,
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

/// Whether the entry with this body is about `signed`: this content, this signature, and this very certificate or key. The body must have
/// been verified. `stated` is the kind that the bundle states.
///
/// # Errors
/// [`Refusal::EntryMismatch`], or that the entry is of another kind or cannot be read.
pub(super) fn describes(body: &[u8], stated: Option<EntryKind>, signed: &Signed<'_>) -> Result<(), Refusal> {
    let body: Body = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let kind = EntryKind::of(&body.kind, &body.api_version);
    // Who states another kind than the log has may mean another reading of it.
    if stated.is_some_and(|stated| stated != kind) {
        return Err(Refusal::Malformed("its log entry is of another kind than the bundle states".to_owned()));
    }
    let matches = match (kind, signed.content) {
        (EntryKind::Dsse001, Content::Envelope { envelope, .. }) => {
            signed.is_in_dsse_001(&spec(body.spec)?, envelope)
        }
        (EntryKind::Intoto001, Content::Envelope { envelope, bytes }) => {
            signed.is_in_intoto_001(&spec(body.spec)?, envelope, bytes)
        }
        (EntryKind::Intoto002, Content::Envelope { envelope, .. }) => {
            signed.is_in_intoto_002(&spec(body.spec)?, envelope)
        }
        (EntryKind::Dsse002, Content::Envelope { envelope, .. }) => {
            signed.is_in_dsse_002(&spec(body.spec)?, envelope)
        }
        (EntryKind::HashedRekord001, Content::Artifact { artifact, signature }) => {
            signed.is_in_hashedrekord_001(&spec(body.spec)?, artifact, signature)
        }
        (EntryKind::HashedRekord002, _) => signed.is_in_hashedrekord_002(&spec(body.spec)?),
        (_, content) => {
            let found = quoted(&format!("{} {}", body.kind, body.api_version));
            let expected = match content {
                Content::Envelope { .. } => "an attestation",
                Content::Artifact { .. } => "a signature of an artifact",
            };
            return Err(Refusal::Other(format!("its log entry is of the kind {found}, not of {expected}")));
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
    fn is_in_dsse_001(&self, entry: &Dsse001, envelope: &DsseEnvelope) -> bool {
        let [signature] = &entry.signatures;
        entry.payload_hash.is_of(envelope.payload.as_bytes())
            && signature.signature == envelope.signature.sig
            && self.is_verifier(&signature.verifier)
    }

    /// Here the hash of the whole envelope is all that binds the signature, so it must be of these very bytes.
    fn is_in_intoto_001(&self, entry: &Intoto001, envelope: &DsseEnvelope, bytes: Option<&[u8]>) -> bool {
        bytes.is_some_and(|bytes| entry.content.hash.is_of(bytes))
            && entry.content.payload_hash.as_ref().is_none_or(|hash| hash.is_of(envelope.payload.as_bytes()))
            && self.is_verifier(&entry.public_key)
    }

    fn is_in_intoto_002(&self, entry: &Intoto002, envelope: &DsseEnvelope) -> bool {
        let logged = &entry.content.envelope;
        let [signature] = &logged.signatures;
        // Rekor encodes the signature once more.
        let decoded = STANDARD.decode(signature.sig.as_bytes());
        entry.content.payload_hash.is_of(envelope.payload.as_bytes())
            && logged.payload_type == envelope.payload_type
            && decoded.is_ok_and(|decoded| decoded == envelope.signature.sig.as_bytes())
            && self.is_verifier(&signature.public_key)
    }

    fn is_in_dsse_002(&self, entry: &Dsse002, envelope: &DsseEnvelope) -> bool {
        let entry = &entry.dsse_v002;
        let [signature] = &entry.signatures;
        entry.payload_hash.is_of(envelope.payload.as_bytes())
            && self.is_signature(signature, &envelope.signature.sig)
    }

    fn is_in_hashedrekord_001(
        &self,
        entry: &HashedRekord001,
        artifact: &Artifact<'_>,
        signature: &SignatureBytes,
    ) -> bool {
        let Hash { algorithm, value } = &entry.data.hash;
        let algorithm = match algorithm.as_str() {
            "sha256" => HashAlgorithm::Sha2256,
            "sha384" => HashAlgorithm::Sha2384,
            "sha512" => HashAlgorithm::Sha2512,
            _ => return false,
        };
        digest_of(artifact, algorithm).is_ok_and(|digest| hex::encode(digest) == *value)
            && entry.signature.content == *signature
            && self.is_verifier(&entry.signature.public_key.content)
    }

    /// What is hashed is what the signature covers: of an envelope its payload and payload type.
    fn is_in_hashedrekord_002(&self, entry: &HashedRekord002) -> bool {
        let entry = &entry.hashed_rekord_v002;
        let (is_content, signature) = match self.content {
            Content::Envelope { envelope, .. } => {
                (entry.data.is_of(&envelope.pae()), &envelope.signature.sig)
            }
            Content::Artifact { artifact, signature } => (entry.data.is_of_artifact(artifact), signature),
        };
        is_content && self.is_signature(&entry.signature, signature)
    }

    fn is_signature(&self, logged: &Rekor2Signature, signature: &SignatureBytes) -> bool {
        let is = |bytes: &Rekor2Bytes, expected: &[u8]| {
            STANDARD.decode(&bytes.raw_bytes).is_ok_and(|bytes| bytes == expected)
        };
        let verifier = &logged.verifier;
        let is_verifier = match (&verifier.x509_certificate, &verifier.public_key, self.verifier) {
            (Some(bytes), None, Verifier::Certificate(certificate)) => is(bytes, certificate.as_bytes()),
            (None, Some(bytes), Verifier::Key(key)) => is(bytes, key.as_bytes()),
            _ => false,
        };
        logged.content == *signature && is_verifier
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
    fn algorithm(&self) -> Option<HashAlgorithm> {
        match self.algorithm.as_str() {
            "SHA2_256" => Some(HashAlgorithm::Sha2256),
            "SHA2_384" => Some(HashAlgorithm::Sha2384),
            "SHA2_512" => Some(HashAlgorithm::Sha2512),
            _ => None,
        }
    }

    fn is_of(&self, bytes: &[u8]) -> bool {
        self.is_of_artifact(&Artifact::from_blob(bytes))
    }

    fn is_of_artifact(&self, artifact: &Artifact<'_>) -> bool {
        let digest = self.algorithm().map(|algorithm| digest_of(artifact, algorithm));
        digest.is_some_and(|digest| digest.is_ok_and(|digest| STANDARD.encode(digest) == self.digest))
    }
}
