//! What the services are handed to verify a signature with: a public key or a certificate, in PEM.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::sigstore::der;

/// A public key.
#[derive(Clone, Debug)]
pub(super) struct Presented {
    /// `SubjectPublicKeyInfo`.
    pub(super) spki: Vec<u8>,
}

impl Presented {
    /// From PEM.
    pub(super) fn from_pem(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix("-----BEGIN ")?;
        let (label, rest) = text.split_once("-----")?;
        let (contents, _) = rest.split_once("-----END ")?;
        let der = STANDARD.decode(contents.split_whitespace().collect::<String>()).ok()?;
        match label {
            "PUBLIC KEY" => Some(Self { spki: der }),
            "CERTIFICATE" => Self::from_certificate(&der),
            _ => None,
        }
    }

    /// From a certificate, DER. Its key follows version, serial number, algorithm, issuer, validity and subject.
    pub(super) fn from_certificate(der: &[u8]) -> Option<Self> {
        let parts = der::within_sequence(der)?;
        let spki = der::within_sequence(parts.first()?.whole)?.get(6)?.whole.to_vec();
        Some(Self { spki })
    }

    /// Whether a signature is by the key, as its kind signs in Sigstore.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Some(algorithm) = algorithm_of(&self.spki) else { return false };
        UnparsedPublicKey::new(algorithm, &self.spki).verify(message, signature).is_ok()
    }

    /// The same where only the hash of the message is known.
    pub(super) fn has_signed_digest(&self, hash: &Digest, signature: &[u8]) -> bool {
        let Some(algorithm) = algorithm_of(&self.spki) else { return false };
        UnparsedPublicKey::new(algorithm, &self.spki).verify_digest(hash, signature).is_ok()
    }
}

/// How a key of this kind signs.
fn algorithm_of(spki: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
    let parts = der::within_sequence(spki)?;
    let stated = parts.first()?.whole;
    let curve = |oid: &str| der::sequence(&[&der::oid("1.2.840.10045.2.1"), &der::oid(oid)]);
    let known: [(Vec<u8>, &'static dyn VerificationAlgorithm); 4] = [
        (curve("1.2.840.10045.3.1.7"), &ECDSA_P256_SHA256_ASN1),
        (curve("1.3.132.0.34"), &ECDSA_P384_SHA384_ASN1),
        (der::sequence(&[&der::oid("1.2.840.113549.1.1.1"), &der::null()]), &RSA_PKCS1_2048_8192_SHA256),
        (der::sequence(&[&der::oid("1.3.101.112")]), &ED25519),
    ];
    known.into_iter().find(|(algorithm, _)| algorithm == stated).map(|(_, algorithm)| algorithm)
}
