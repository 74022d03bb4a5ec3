//! Whether a signature is by a key. The Sigstore library knows every kind of key but P-521, which is verified here.

use aws_lc_rs::{
    digest::{self, Digest},
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
        ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_FIXED, ParsedPublicKey, VerificationAlgorithm,
    },
};
use const_oid::db::rfc5912::{ID_EC_PUBLIC_KEY, SECP_521_R_1};
use der::{Decode, Encode};
use sigstore_crypto::{KeyAlgorithm, sha256, sha384, sha512, verify_signature, verify_signature_prehashed};
use sigstore_types::{
    Artifact, DerCertificate, DerPublicKey, HashAlgorithm, SignatureBytes, bundle::MessageSignature,
};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::{certificate, refusal::Refusal};

/// What is known of a key before it verifies anything.
enum Kind {
    /// A kind that the library verifies with.
    Known(KeyAlgorithm),
    /// ECDSA on P-521.
    P521,
}

/// The public key of a certificate.
pub(super) fn key_of(certificate: &DerCertificate) -> Result<DerPublicKey, Refusal> {
    let parsed = certificate::parse(certificate.as_bytes())?;
    let key = parsed.tbs_certificate().subject_public_key_info().to_der();
    let key = DerPublicKey::new(
        key.map_err(|error| Refusal::unreadable("its certificate cannot be read", &error))?,
    );
    match kind(&key) {
        Ok(_) => Ok(key),
        Err(why) => Err(Refusal::unreadable("its certificate cannot be read", &why)),
    }
}

/// Whether `signature` is by this key over `message`, with the hash that belongs to the kind of key. Of ECDSA it is in ASN.1.
///
/// # Errors
/// [`Refusal::Signature`].
pub(super) fn verify(key: &DerPublicKey, message: &[u8], signature: &SignatureBytes) -> Result<(), Refusal> {
    let refused = || Refusal::Signature;
    match kind(key).map_err(|_| refused())? {
        Kind::Known(algorithm) => {
            verify_signature(key, message, signature, algorithm.default_signing_scheme())
                .map_err(|_| refused())
        }
        Kind::P521 => verify_with(&ECDSA_P521_SHA512_ASN1, key, message, signature),
    }
}

/// The same with the two numbers of ECDSA side by side, as signers outside of Sigstore write them.
///
/// # Errors
/// [`Refusal::Signature`].
pub(super) fn verify_fixed(
    key: &DerPublicKey,
    message: &[u8],
    signature: &SignatureBytes,
) -> Result<(), Refusal> {
    match kind(key) {
        Ok(Kind::Known(KeyAlgorithm::EcdsaP256)) => {
            verify_with(&ECDSA_P256_SHA256_FIXED, key, message, signature)
        }
        Ok(Kind::Known(KeyAlgorithm::EcdsaP384)) => {
            verify_with(&ECDSA_P384_SHA384_FIXED, key, message, signature)
        }
        Ok(Kind::P521) => verify_with(&ECDSA_P521_SHA512_FIXED, key, message, signature),
        Ok(Kind::Known(_)) | Err(_) => Err(Refusal::Signature),
    }
}

/// Whether `signed` is by this key over the artifact. The hash is the one that the bundle states, else the one of the kind of key.
///
/// # Errors
/// [`Refusal::Artifact`] where the bundle states the digest of something else; [`Refusal::Signature`].
pub(super) fn verify_artifact(
    key: &DerPublicKey,
    signed: &MessageSignature,
    artifact: &Artifact<'_>,
) -> Result<(), Refusal> {
    let stated = signed.message_digest.as_ref();
    if let Some(stated) = stated
        && digest_of(artifact, stated.algorithm)?.as_slice() != stated.digest.as_bytes()
    {
        return Err(Refusal::Artifact);
    }
    let kind = kind(key).map_err(|_| Refusal::Signature)?;
    match (kind, artifact.blob()) {
        (Kind::Known(algorithm), blob) => {
            let scheme = match stated {
                Some(stated) => {
                    algorithm.resolve_signing_scheme(stated.algorithm).map_err(|_| Refusal::Signature)?
                }
                None => algorithm.default_signing_scheme(),
            };
            let verified = match (scheme.hash_algorithm(), blob) {
                (Some(hash), _) => {
                    let digest = digest_of(artifact, hash)?;
                    verify_signature_prehashed(key, &digest, &signed.signature, scheme)
                }
                (None, Some(blob)) => verify_signature(key, blob, &signed.signature, scheme),
                (None, None) => {
                    return Err(Refusal::Other(
                        "its kind of key signs the artifact itself, of which only the digest is known"
                            .to_owned(),
                    ));
                }
            };
            verified.map_err(|_| Refusal::Signature)
        }
        (Kind::P521, _) => {
            let hash = stated.map_or(HashAlgorithm::Sha2512, |stated| stated.algorithm);
            let (scheme, algorithm): (&dyn VerificationAlgorithm, _) = match hash {
                HashAlgorithm::Sha2256 => (&ECDSA_P521_SHA256_ASN1, &digest::SHA256),
                HashAlgorithm::Sha2384 => (&ECDSA_P521_SHA384_ASN1, &digest::SHA384),
                HashAlgorithm::Sha2512 => (&ECDSA_P521_SHA512_ASN1, &digest::SHA512),
                _ => return Err(Refusal::Signature),
            };
            let digest = digest_of(artifact, hash)?;
            let digest = Digest::import_less_safe(&digest, algorithm).map_err(|_| Refusal::Signature)?;
            ParsedPublicKey::new(scheme, key.as_bytes())
                .map_err(|_| Refusal::Signature)?
                .verify_digest_sig(&digest, signed.signature.as_bytes())
                .map_err(|_| Refusal::Signature)
        }
    }
}

/// The digest of an artifact, where it can be known.
pub(super) fn digest_of(artifact: &Artifact<'_>, algorithm: HashAlgorithm) -> Result<Vec<u8>, Refusal> {
    match (artifact.blob(), artifact.digest()) {
        (Some(blob), _) => match algorithm {
            HashAlgorithm::Sha2256 => Ok(sha256(blob).as_bytes().to_vec()),
            HashAlgorithm::Sha2384 => Ok(sha384(blob).as_bytes().to_vec()),
            HashAlgorithm::Sha2512 => Ok(sha512(blob).as_bytes().to_vec()),
            _ => Err(Refusal::Other("its hash algorithm is not supported".to_owned())),
        },
        (None, Some(digest)) if digest.algorithm() == algorithm => Ok(digest.as_bytes().to_vec()),
        (None, _) => Err(Refusal::Other(format!(
            "it signs the {} digest of the artifact, of which another digest is known",
            algorithm.as_rekor_str()
        ))),
    }
}

fn verify_with(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &DerPublicKey,
    message: &[u8],
    signature: &SignatureBytes,
) -> Result<(), Refusal> {
    ParsedPublicKey::new(algorithm, key.as_bytes())
        .map_err(|_| Refusal::Signature)?
        .verify_sig(message, signature.as_bytes())
        .map_err(|_| Refusal::Signature)
}

fn kind(key: &DerPublicKey) -> Result<Kind, String> {
    let spki = SubjectPublicKeyInfoRef::from_der(key.as_bytes()).map_err(|error| error.to_string())?;
    let is_p521 = spki.algorithm.oid == ID_EC_PUBLIC_KEY
        && spki.algorithm.parameters_oid().is_ok_and(|curve| curve == SECP_521_R_1);
    if !is_p521 {
        return KeyAlgorithm::from_spki(key).map(Kind::Known).map_err(|error| error.to_string());
    }
    // Uncompressed, as the library has it for the other curves.
    match spki.subject_public_key.as_bytes() {
        Some([4, ..]) => Ok(Kind::P521),
        _ => Err("a P-521 key that is not an uncompressed point".to_owned()),
    }
}
