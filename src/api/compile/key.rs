//! Public keys in PEM, read strictly: what is accepted verifies signatures, and nothing else is.

use base64::{Engine, engine::general_purpose::STANDARD};
use const_oid::{
    ObjectIdentifier,
    db::{
        rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1, SECP_521_R_1},
        rfc8410::ID_ED_25519,
    },
};
use der::{Decode, Reader, SliceReader, asn1::UintRef};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::domain::key::{KeyKind, PublicKey};

/// The longest PEM that is read; RSA of 8192 bits takes some 1500.
pub const MAX_PEM: usize = 16 << 10;
const ACCEPTED: &str = "P-256, P-384, P-521, RSA from 2048 bits and Ed25519 are accepted";

/// Reads a public key.
///
/// # Errors
/// What is wrong with it, to stand behind a field's name. It never repeats the text, which may be a private key.
pub fn public_key(pem: &str) -> Result<PublicKey, String> {
    let spki = contents(pem)?;
    let kind = kind(&spki)?;
    Ok(PublicKey::new(kind, spki))
}

/// The contents of the one block.
fn contents(pem: &str) -> Result<Vec<u8>, String> {
    const FORM: &str =
        "is no public key in PEM: -----BEGIN PUBLIC KEY-----, base64, -----END PUBLIC KEY-----";
    if pem.len() > MAX_PEM {
        return Err(format!("is longer than {MAX_PEM} bytes"));
    }
    let rest = pem.trim().strip_prefix("-----BEGIN ").ok_or(FORM)?;
    let (label, rest) = rest.split_once("-----").ok_or(FORM)?;
    match label {
        "PUBLIC KEY" => {}
        label if label.ends_with("PRIVATE KEY") => {
            return Err("is a private key, and whoever can read the policy has it now: make a new pair, and write the public half"
                .to_owned());
        }
        "CERTIFICATE" => {
            return Err(
                "is a certificate; its key alone is written by: openssl x509 -in FILE -noout -pubkey"
                    .to_owned(),
            );
        }
        "RSA PUBLIC KEY" => {
            return Err("is in the older form of RSA keys; the other is written by: openssl rsa -RSAPublicKey_in -in FILE -pubout"
                .to_owned());
        }
        _ => return Err(FORM.to_owned()),
    }
    let (body, behind) = rest.split_once("-----END PUBLIC KEY-----").ok_or(FORM)?;
    if behind.contains("-----BEGIN ") {
        return Err("holds more than one key; each is a signer of its own".to_owned());
    }
    if !behind.trim().is_empty() {
        return Err("has something behind its last line".to_owned());
    }
    let base64: String = body.split_ascii_whitespace().collect();
    STANDARD
        .decode(base64)
        .map_err(|_| "is no public key in PEM: what stands between its lines is not base64".to_owned())
}

fn kind(spki: &[u8]) -> Result<KeyKind, String> {
    const UNREADABLE: &str = "holds something else than a public key";
    let parsed = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| UNREADABLE)?;
    let bits = parsed.subject_public_key.as_bytes().ok_or(UNREADABLE)?;
    match parsed.algorithm.oid {
        ID_EC_PUBLIC_KEY => elliptic(parsed.algorithm.parameters_oid().map_err(|_| UNREADABLE)?, bits),
        RSA_ENCRYPTION => rsa(bits),
        ID_ED_25519 if parsed.algorithm.parameters.is_none() && bits.len() == 32 => {
            valid(&aws_lc_rs::signature::ED25519, bits, KeyKind::Ed25519)
        }
        other => Err(format!("is a key of the kind {other}; {ACCEPTED}")),
    }
}

fn elliptic(curve: ObjectIdentifier, point: &[u8]) -> Result<KeyKind, String> {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1};
    match curve {
        SECP_256_R_1 | SECP_384_R_1 | SECP_521_R_1 if matches!(point.first(), Some(2 | 3)) => {
            Err("has its point in compressed form; the other is written by: openssl ec -pubin -in FILE -conv_form uncompressed"
                .to_owned())
        }
        SECP_256_R_1 => valid(&ECDSA_P256_SHA256_ASN1, point, KeyKind::P256),
        SECP_384_R_1 => valid(&ECDSA_P384_SHA384_ASN1, point, KeyKind::P384),
        SECP_521_R_1 => valid(&ECDSA_P521_SHA512_ASN1, point, KeyKind::P521),
        other => Err(format!("is on the curve {other}; {ACCEPTED}")),
    }
}

fn rsa(key: &[u8]) -> Result<KeyKind, String> {
    const UNREADABLE: &str = "holds something else than an RSA key";
    let modulus = SliceReader::new(key)
        .and_then(|mut reader| {
            reader.sequence(|inner: &mut SliceReader<'_>| {
                let modulus: UintRef<'_> = inner.decode()?;
                let _exponent: UintRef<'_> = inner.decode()?;
                Ok::<_, der::Error>(modulus.as_bytes().to_vec())
            })
        })
        .map_err(|_| UNREADABLE)?;
    let leading = modulus.first().map_or(0, |first| first.leading_zeros());
    let bits = modulus.len().saturating_mul(8).saturating_sub(usize::try_from(leading).unwrap_or(0));
    match bits {
        2048..=8192 => valid(&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256, key, KeyKind::Rsa(bits)),
        8193.. => {
            Err(format!("is an RSA key of {bits} bits, which takes long to verify with; 8192 are the most"))
        }
        _ => Err(format!("is an RSA key of {bits} bits, which can be broken; 2048 are the least")),
    }
}

/// That it can be verified with: a point on its curve, a usable exponent.
fn valid(
    algorithm: &'static dyn aws_lc_rs::signature::VerificationAlgorithm,
    bytes: &[u8],
    kind: KeyKind,
) -> Result<KeyKind, String> {
    match aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, bytes).parse() {
        Ok(_) => Ok(kind),
        Err(_) => Err(format!("is no valid {kind} key")),
    }
}

#[cfg(test)]
mod tests;
