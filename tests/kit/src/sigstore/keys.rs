//! Signing keys: ECDSA on P-256 (logs, leaves, timestamps) and P-384 (certificate authorities), the
//! curves that Sigstore's public instance has for the same parts.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::der;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Curve {
    P256,
    P384,
}

/// A key pair made for this run.
#[derive(Debug)]
pub(super) struct Key {
    pair: EcdsaKeyPair,
    curve: Curve,
}

impl Key {
    pub(super) fn generate(curve: Curve) -> Self {
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        };
        Self { pair: EcdsaKeyPair::generate(algorithm).unwrap(), curve }
    }

    /// An ASN.1 signature, over SHA-256 of the message for P-256 and SHA-384 for P-384.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// The `SubjectPublicKeyInfo`.
    pub(super) fn spki(&self) -> Vec<u8> {
        AsDer::<PublicKeyX509Der<'_>>::as_der(self.pair.public_key()).unwrap().as_ref().to_vec()
    }

    /// The identifier of a log: SHA-256 of its `SubjectPublicKeyInfo`.
    pub(super) fn id(&self) -> [u8; 32] {
        sha256(&self.spki())
    }

    /// The `AlgorithmIdentifier` of signatures by this key.
    pub(super) fn signature_algorithm(&self) -> Vec<u8> {
        der::sequence(&[&der::oid(match self.curve {
            Curve::P256 => "1.2.840.10045.4.3.2",
            Curve::P384 => "1.2.840.10045.4.3.3",
        })])
    }

    /// The point alone, of which RFC 5280 hashes make key identifiers.
    pub(super) fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
}

pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref().try_into().unwrap()
}

/// A key identifier of 20 bytes: SHA-1 of the point, as Fulcio writes it.
pub(super) fn key_identifier(key: &Key) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, key.point()).as_ref().to_vec()
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
