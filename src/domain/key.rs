//! Public keys that a policy names, and what became of a signature that was held against one.

use std::fmt;

use jiff::Timestamp;

use super::{digest::Digest, identity::TrustRootName};

/// The kinds of key that are accepted. Each verifies by one scheme: ECDSA with the curve's own hash, RSA by PKCS #1 v1.5 with
/// SHA-256, and Ed25519.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// RSA of so many bits.
    Rsa(usize),
    /// Ed25519.
    Ed25519,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::P521 => f.write_str("P-521"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

/// What a key is known by: the SHA-256 of its `SubjectPublicKeyInfo`, as cosign hints at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: KeyId,
    kind: KeyKind,
    spki: Vec<u8>,
}

impl PublicKey {
    /// The key of a `SubjectPublicKeyInfo` (DER) that was found to be of this kind.
    pub fn new(kind: KeyKind, spki: Vec<u8>) -> Self {
        Self { id: KeyId(Digest::of(&spki)), kind, spki }
    }

    /// What it is known by.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Its kind.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Its `SubjectPublicKeyInfo`, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }
}

/// Whether a signature must be in a transparency log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TransparencyLog {
    /// In a log of the signer's trust root: whoever misuses the key is seen.
    #[default]
    Required,
    /// The signature alone suffices.
    Optional,
}

/// Who holds the private half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyIdentity {
    /// The key.
    pub key: PublicKey,
    /// Whether its signatures must be logged.
    pub log: TransparencyLog,
}

/// What became of an attestation that was held against a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCheck {
    /// Whether the signature is by the key; else why not.
    pub signature: Result<(), String>,
    /// The trust roots whose log has this signature by this key.
    pub logged: Vec<Logged>,
    /// Why no log vouches for it, where none does.
    pub unlogged: String,
    /// Whether another look may give another answer: the clock of a log was ahead of ours.
    pub may_change: bool,
}

/// A log that vouches for a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The trust root that the log is of.
    pub trust_root: TrustRootName,
    /// When it was signed at the latest; a log that signs no time does not say.
    pub at: Option<Timestamp>,
}

impl KeyCheck {
    /// The signature is not by the key.
    pub fn refused(why: impl Into<String>) -> Self {
        Self { signature: Err(why.into()), logged: Vec::new(), unlogged: String::new(), may_change: false }
    }
}
