//! Signing keys: ECDSA on P-256 (logs, leaves, timestamps) and P-384 (certificate authorities), the
//! curves that Sigstore's public instance has for the same parts; Ed25519 (logs of Rekor v2); and RSA,
//! which people bring along.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::der;

/// The kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyKind {
    /// ECDSA on P-256, over SHA-256.
    P256,
    /// ECDSA on P-384, over SHA-384.
    P384,
    /// ECDSA on P-521, over SHA-512.
    P521,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 bits, PKCS #1 v1.5 over SHA-256.
    Rsa2048,
    /// The same of 3072 bits.
    Rsa3072,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::P256, Self::P384, Self::P521, Self::Ed25519, Self::Rsa2048, Self::Rsa3072];

    /// What protobuf-specs calls signatures by such a key.
    pub(super) fn details(self) -> &'static str {
        match self {
            Self::P256 => "PKIX_ECDSA_P256_SHA_256",
            Self::P384 => "PKIX_ECDSA_P384_SHA_384",
            Self::P521 => "PKIX_ECDSA_P521_SHA_512",
            Self::Ed25519 => "PKIX_ED25519",
            Self::Rsa2048 => "PKIX_RSA_PKCS1V15_2048_SHA256",
            Self::Rsa3072 => "PKIX_RSA_PKCS1V15_3072_SHA256",
        }
    }
}

/// A key that somebody signs with in place of a certificate.
#[derive(Debug)]
pub struct SigningKey(pub(super) Key);

impl SigningKey {
    /// Make one.
    pub fn generate(kind: KeyKind) -> Self {
        Self(Key::generate(kind))
    }

    /// A signature of a message, as its kind of key makes them.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        self.0.kind
    }

    /// The private half, PKCS #8 in PEM.
    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", &self.0.pkcs8())
    }

    /// The public half, PEM.
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &self.0.spki())
    }
}

#[derive(Debug)]
enum Pair {
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A key pair made for this run.
#[derive(Debug)]
pub(super) struct Key {
    pair: Pair,
    pub(super) kind: KeyKind,
}

impl Key {
    pub(super) fn generate(kind: KeyKind) -> Self {
        let ecdsa = |algorithm| Pair::Ecdsa(Box::new(EcdsaKeyPair::generate(algorithm).unwrap()));
        let rsa = |size| Pair::Rsa(Box::new(RsaKeyPair::generate(size).unwrap()));
        let pair = match kind {
            KeyKind::P256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyKind::P384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            KeyKind::P521 => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
            KeyKind::Ed25519 => Pair::Ed25519(Box::new(Ed25519KeyPair::generate().unwrap())),
            KeyKind::Rsa2048 => rsa(KeySize::Rsa2048),
            KeyKind::Rsa3072 => rsa(KeySize::Rsa3072),
        };
        Self { pair, kind }
    }

    /// A signature; of ECDSA, in ASN.1.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// The `SubjectPublicKeyInfo`.
    pub(super) fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der().unwrap(),
            Pair::Ed25519(pair) => pair.public_key().as_der().unwrap(),
            Pair::Rsa(pair) => pair.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    /// The whole pair in PKCS #8, version 1.
    fn pkcs8(&self) -> Vec<u8> {
        let rsa = |pair: &RsaKeyPair| -> Pkcs8V1Der<'static> { pair.as_der().unwrap() };
        match &self.pair {
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => rsa(pair).as_ref().to_vec(),
        }
    }

    /// The identifier of a log: SHA-256 of its `SubjectPublicKeyInfo`.
    pub(super) fn id(&self) -> [u8; 32] {
        sha256(&self.spki())
    }

    /// The `AlgorithmIdentifier` of signatures by this key.
    pub(super) fn signature_algorithm(&self) -> Vec<u8> {
        match self.kind {
            KeyKind::P256 => der::sequence(&[&der::oid("1.2.840.10045.4.3.2")]),
            KeyKind::P384 => der::sequence(&[&der::oid("1.2.840.10045.4.3.3")]),
            KeyKind::P521 => der::sequence(&[&der::oid("1.2.840.10045.4.3.4")]),
            KeyKind::Ed25519 => der::sequence(&[&der::oid("1.3.101.112")]),
            KeyKind::Rsa2048 | KeyKind::Rsa3072 => {
                der::sequence(&[&der::oid("1.2.840.113549.1.1.11"), &der::null()])
            }
        }
    }

    /// The key without its algorithm.
    pub(super) fn point(&self) -> &[u8] {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        }
    }
}

/// The SHA-256 of some bytes, in hexadecimal.
pub(crate) fn hexadecimal(data: &[u8]) -> String {
    hex::encode(sha256(data))
}

pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref().try_into().unwrap()
}

/// A key identifier of 20 bytes: SHA-1 of the point in a `SubjectPublicKeyInfo`, as Fulcio writes it.
pub(super) fn key_identifier(spki: &[u8]) -> Vec<u8> {
    let parts = der::within_sequence(spki).unwrap();
    // The first byte of a BIT STRING says how many bits of the last are unused.
    let point = &parts[1].contents[1..];
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, point).as_ref().to_vec()
}

pub(super) fn sha384(data: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, data).as_ref().to_vec()
}

pub(super) fn sha512(data: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, data).as_ref().to_vec()
}

pub(super) fn base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

/// A random serial number, positive as RFC 5280 asks.
pub(super) fn serial() -> Vec<u8> {
    let mut bytes = [0_u8; 20];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    bytes.to_vec()
}

/// PEM with lines of 64 and a final newline.
pub(crate) fn pem(label: &str, contents: &[u8]) -> String {
    let text = base64(contents);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(std::str::from_utf8(line).unwrap());
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}
