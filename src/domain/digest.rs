//! Content digests, parsed once. A [`Digest`] that exists is well formed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The digest of content in a registry (OCI image specification, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(Bytes);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Bytes {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// Content that is hashed piece by piece, and held nowhere.
pub struct Hasher(aws_lc_rs::digest::Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }
}

impl Hasher {
    /// The next piece.
    pub fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The SHA-256 digest of all pieces.
    pub fn digest(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest(Bytes::Sha256(bytes))
    }
}

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("digest {0:?} has no algorithm, such as sha256:")]
    NoAlgorithm(String),
    /// The algorithm is not one that can be checked here.
    #[error("digest algorithm {0:?} is not supported; sha256 and sha512 are")]
    Unsupported(String),
    /// The hexadecimal part has the wrong length or a wrong character.
    #[error("digest {0:?} is not {1} lower-case hexadecimal digits")]
    Hex(String, usize),
}

impl Digest {
    /// The SHA-256 digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.add(content);
        hasher.digest()
    }

    /// Whether `content` hashes to this digest.
    pub fn is_of(&self, content: &[u8]) -> bool {
        let algorithm = match self.0 {
            Bytes::Sha256(_) => &aws_lc_rs::digest::SHA256,
            Bytes::Sha512(_) => &aws_lc_rs::digest::SHA512,
        };
        aws_lc_rs::digest::digest(algorithm, content).as_ref() == self.bytes()
    }

    /// A SHA-256 digest from its bytes.
    pub const fn sha256(bytes: [u8; 32]) -> Self {
        Self(Bytes::Sha256(bytes))
    }

    /// The name of the algorithm, as in front of the colon: also the key in an in-toto subject.
    pub const fn algorithm(&self) -> &'static str {
        match self.0 {
            Bytes::Sha256(_) => "sha256",
            Bytes::Sha512(_) => "sha512",
        }
    }

    /// The hash itself.
    pub const fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Sha256(bytes) => bytes,
            Bytes::Sha512(bytes) => bytes,
        }
    }

    /// The part behind the colon.
    pub fn hex(&self) -> String {
        hex::encode(self.bytes())
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        fn decode<const N: usize>(text: &str, digits: &str) -> Result<[u8; N], DigestError> {
            let wrong = || DigestError::Hex(text.to_owned(), N.saturating_mul(2));
            if digits.bytes().any(|b| b.is_ascii_uppercase()) {
                return Err(wrong());
            }
            let mut bytes = [0; N];
            hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong())?;
            Ok(bytes)
        }
        match text.split_once(':') {
            Some(("sha256", digits)) => Ok(Self(Bytes::Sha256(decode(text, digits)?))),
            Some(("sha512", digits)) => Ok(Self(Bytes::Sha512(decode(text, digits)?))),
            Some((algorithm, _)) => Err(DigestError::Unsupported(algorithm.to_owned())),
            None => Err(DigestError::NoAlgorithm(text.to_owned())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digests are in every answer and every line of log: written at once rather than byte by byte.
        let mut digits = [0; 128];
        let length = self.bytes().len().saturating_mul(2);
        let written = digits.get_mut(..length).ok_or(fmt::Error)?;
        hex::encode_to_slice(self.bytes(), written).map_err(|_| fmt::Error)?;
        f.write_str(self.algorithm())?;
        f.write_str(":")?;
        f.write_str(std::str::from_utf8(written).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn is_what_the_algorithm_gives() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert!(EMPTY.parse::<Digest>().unwrap().is_of(b""));
        assert!(!EMPTY.parse::<Digest>().unwrap().is_of(b"x"));
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        for text in ["", "sha256", "sha256:", "sha256:00", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(EMPTY.to_uppercase().replace("SHA256", "sha256").parse::<Digest>().is_err());
        assert!(format!("{EMPTY}0").parse::<Digest>().is_err());
    }
}
