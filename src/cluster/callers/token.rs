//! A token of an API server: a JWT (RFC 7519) that it issues to itself, bound to one of our webhook configurations (KEP-6060).
//!
//! The audience alone proves nothing. Whoever may create a pod may mount a token of its service account for any audience. A token that is
//! bound to a webhook configuration is issued only to accounts that may `attest` for the API groups that it names.

use std::collections::BTreeMap;

use aws_lc_rs::{
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
        EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};

/// The longest token that is read.
const LONGEST: usize = 16 << 10;
/// How many keys of an issuer are read.
const MAX_KEYS: usize = 64;
/// How many seconds clocks may differ.
const LEEWAY: i64 = 30;
/// The claim that says about which API groups reviews may be.
const API_GROUPS: &str = "admissionReviewAPIGroups";
/// Every API group: only `kube-apiserver` itself is given that.
const EVERY_GROUP: &str = "*";

/// Which of the two configurations an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigurationKind {
    /// `ValidatingWebhookConfiguration`.
    Validating,
    /// `MutatingWebhookConfiguration`.
    Mutating,
}

impl ConfigurationKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "ValidatingWebhookConfiguration",
            Self::Mutating => "MutatingWebhookConfiguration",
        }
    }
}

/// What a token must say.
#[derive(Debug)]
pub struct Expected<'a> {
    /// The issuer.
    pub issuer: &'a str,
    /// Who we are, by the entry's path.
    pub audience: &'a str,
    /// The name of the configuration that it must be bound to.
    pub name: &'a str,
    /// Of which kind that may be, with the UID where there is such a configuration.
    pub configurations: &'a [(ConfigurationKind, Option<&'a str>)],
    /// Subjects whose tokens count without being bound to a configuration.
    pub subjects: &'a [String],
    /// The time, in seconds.
    pub now: i64,
}

/// Why a token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token of this kind.
    #[error("it cannot be read: {0}")]
    Malformed(&'static str),
    /// It is signed with a key that is not known (any more, or yet).
    #[error("the API server has no key by the name that it gives")]
    UnknownKey,
    /// The signature does not hold.
    #[error("its signature does not verify")]
    Signature,
    /// One of its claims is not as it must be.
    #[error("{0}")]
    Claim(String),
    /// It is bound to an object that has our configuration's name and another UID.
    #[error("it is bound to another object with the name of this webhook configuration")]
    OtherUid,
}

/// A key of the issuer.
#[derive(Debug, Clone)]
pub struct SigningKey {
    id: String,
    key: KeyMaterial,
}

#[derive(Debug, Clone)]
enum KeyMaterial {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { curve: Curve, point: Vec<u8> },
}

/// The curves that API servers sign with (RFC 7518, section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    fn named(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            _ => None,
        }
    }

    const fn algorithm(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::P384 => "ES384",
            Self::P521 => "ES512",
        }
    }

    fn verifier(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }

    /// How many bytes a coordinate has.
    const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

#[derive(Deserialize)]
struct KeySetIn {
    keys: Vec<KeyIn>,
}

#[derive(Deserialize)]
struct KeyIn {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct HeaderIn {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ClaimsIn {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    nbf: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<KubernetesIn>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct KubernetesIn {
    validatingwebhookconfiguration: Option<ObjectIn>,
    mutatingwebhookconfiguration: Option<ObjectIn>,
    #[serde(default)]
    attestations: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct ObjectIn {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
}

/// The keys of a JSON Web Key Set (RFC 7517) with which RS256, ES256, ES384 and ES512 are verified; others are passed over.
///
/// # Errors
/// Where it is no such set.
pub fn read_keys(json: &str) -> Result<Vec<SigningKey>, serde_json::Error> {
    let set: KeySetIn = serde_json::from_str(json)?;
    Ok(set.keys.into_iter().filter_map(read_key).take(MAX_KEYS).collect())
}

fn read_key(key: KeyIn) -> Option<SigningKey> {
    if key.usage.is_some_and(|usage| usage != "sig") {
        return None;
    }
    let (alg, material) = match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => ("RS256", KeyMaterial::Rsa { n: decode(&key.n?)?, e: decode(&key.e?)? }),
        ("EC", Some(curve)) => {
            let curve = Curve::named(curve)?;
            let (x, y) = (decode(&key.x?)?, decode(&key.y?)?);
            if (x.len(), y.len()) != (curve.size(), curve.size()) {
                return None;
            }
            // The uncompressed form of a point (SEC 1, section 2.3.3).
            let point = [&[4], x.as_slice(), y.as_slice()].concat();
            (curve.algorithm(), KeyMaterial::Ec { curve, point })
        }
        _ => return None,
    };
    if key.alg.is_some_and(|stated| stated != alg) {
        return None;
    }
    Some(SigningKey { id: key.kid?, key: material })
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

impl SigningKey {
    /// Its algorithm is the key's, and never a choice of the token's.
    const fn algorithm(&self) -> &'static str {
        match self.key {
            KeyMaterial::Rsa { .. } => "RS256",
            KeyMaterial::Ec { curve, .. } => curve.algorithm(),
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        let verified = match &self.key {
            KeyMaterial::Rsa { n, e } => {
                PublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            KeyMaterial::Ec { curve, point } => {
                UnparsedPublicKey::new(curve.verifier(), point).verify(message, signature)
            }
        };
        verified.map_err(|_| TokenError::Signature)
    }
}

/// Verifies a token; until when it counts, in seconds.
///
/// # Errors
/// See [`TokenError`].
pub fn verify(token: &str, keys: &[SigningKey], expected: &Expected<'_>) -> Result<i64, TokenError> {
    if token.len() > LONGEST {
        return Err(TokenError::Malformed("it is too long"));
    }
    let malformed = TokenError::Malformed("it is not a signed JWT");
    let (message, signature) = token.rsplit_once('.').ok_or_else(|| malformed.clone())?;
    let (header, claims) = message.split_once('.').ok_or_else(|| malformed.clone())?;
    let header: HeaderIn = read(header, "its header is not what it must be")?;
    if header.crit.is_some() {
        return Err(TokenError::Malformed("its header asks for something that is not understood"));
    }
    let id = header.kid.ok_or(TokenError::Malformed("its header names no key"))?;
    let key = keys.iter().find(|key| key.id == id).ok_or(TokenError::UnknownKey)?;
    if header.alg != key.algorithm() {
        return Err(TokenError::Malformed("its algorithm is not that of the key that it names"));
    }
    let signature = decode(signature).ok_or(malformed)?;
    key.verify(message.as_bytes(), &signature)?;
    // Only now is anything in it believed.
    check(&read(claims, "its claims are not what they must be")?, expected)
}

fn read<'a, T: for<'de> Deserialize<'de>>(part: &'a str, what: &'static str) -> Result<T, TokenError> {
    let bytes = decode(part).ok_or(TokenError::Malformed(what))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed(what))
}

fn check(claims: &ClaimsIn, expected: &Expected<'_>) -> Result<i64, TokenError> {
    let claim = |why: String| Err(TokenError::Claim(why));
    if claims.iss != expected.issuer {
        return claim("it is from another issuer".to_owned());
    }
    let is_for_us = match &claims.aud {
        Audience::One(one) => one == expected.audience,
        Audience::Several(all) => all.iter().any(|one| one == expected.audience),
    };
    if !is_for_us {
        return claim(format!("it is not for the audience {}", expected.audience));
    }
    if claims.exp.saturating_add(LEEWAY) <= expected.now {
        return claim("it has expired".to_owned());
    }
    if claims.nbf.is_some_and(|begin| begin.saturating_sub(LEEWAY) > expected.now) {
        return claim("it is not valid yet".to_owned());
    }
    if !expected.subjects.contains(&claims.sub) {
        check_binding(claims.kubernetes.as_ref(), expected)?;
    }
    Ok(claims.exp)
}

/// Whether it is bound to our configuration, for reviews about all API groups.
fn check_binding(claims: Option<&KubernetesIn>, expected: &Expected<'_>) -> Result<(), TokenError> {
    let claim = |why: String| Err(TokenError::Claim(why));
    let bound = expected.configurations.iter().find_map(|(kind, uid)| {
        let claims = claims?;
        let bound = match kind {
            ConfigurationKind::Validating => claims.validatingwebhookconfiguration.as_ref()?,
            ConfigurationKind::Mutating => claims.mutatingwebhookconfiguration.as_ref()?,
        };
        (bound.name == expected.name).then_some((claims, bound, *uid))
    });
    let Some((claims, bound, uid)) = bound else {
        let kinds: Vec<&str> = expected.configurations.iter().map(|(kind, _)| kind.as_str()).collect();
        return claim(format!("it is not bound to the {} {}", kinds.join(" or "), expected.name));
    };
    if uid.is_none_or(|uid| uid != bound.uid) {
        return Err(TokenError::OtherUid);
    }
    let groups = claims.attestations.get(API_GROUPS);
    if !groups.is_some_and(|groups| groups.iter().any(|group| group == EVERY_GROUP)) {
        return claim(format!("it is not for reviews about all API groups ({API_GROUPS})"));
    }
    Ok(())
}

/// The time of now, as tokens count it.
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

#[cfg(test)]
pub(super) mod tests;
