//! Certificates and keys as they stand in the Secret, read once into what is known of them.

use std::fmt;

use const_oid::db::rfc4519::CN;
use der::{
    Decode as _, Encode as _, Tag, Tagged as _,
    pem::{self, LineEnding},
};
use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_cert::{Certificate, ext::pkix::BasicConstraints};

/// The most that a value of the Secret may be long; ours are below 4 KiB.
const VALUE_LIMIT: usize = 64 * 1024;
/// The most authorities that a bundle may have; ours has three at most.
const AUTHORITY_LIMIT: usize = 16;

/// Why something in the Secret is of no use; reads after its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is malformed: {1}")]
    Malformed(&'static str, String),
    #[error("{0} does not go with {1}")]
    Mismatch(&'static str, &'static str),
    #[error("{0} is no certificate authority")]
    NoAuthority(&'static str),
    #[error("{0} is not valid for {1}")]
    Name(&'static str, String),
    #[error("{0} is valid from {1} until {2}")]
    Time(&'static str, Timestamp, Timestamp),
    #[error("{0} is not signed by an authority in {1} that is valid now")]
    Untrusted(&'static str, &'static str),
}

/// A certificate, and when it is valid.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) der: Vec<u8>,
    /// The same as PEM, always in one form.
    pub(super) pem: String,
    /// Its public key: the SPKI, DER.
    pub(super) key: Vec<u8>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// The subject's common name, where the subject is that and nothing more: the form of the authorities that are made here.
    pub(super) common_name: Option<String>,
    pub(super) is_authority: bool,
}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} until {}", self.common_name, self.not_after)
    }
}

impl Parsed {
    fn from_der(der: &[u8]) -> Result<Self, String> {
        let certificate = Certificate::from_der(der).map_err(|error| error.to_string())?;
        let body = certificate.tbs_certificate();
        let time = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        };
        let constraints = body
            .get_extension::<BasicConstraints>()
            .map_err(|error| error.to_string())?
            .map(|(_, found)| found);
        Ok(Self {
            der: der.to_vec(),
            pem: pem::encode_string("CERTIFICATE", LineEnding::LF, der).map_err(|error| error.to_string())?,
            key: body.subject_public_key_info().to_der().map_err(|error| error.to_string())?,
            not_before: time(body.validity().not_before),
            not_after: time(body.validity().not_after),
            common_name: common_name(body.subject()),
            is_authority: constraints.is_some_and(|constraints| constraints.ca),
        })
    }

    /// The certificates of a value, in order; at least one.
    pub(super) fn all(name: &'static str, value: Option<&Vec<u8>>) -> Result<Vec<Self>, Fault> {
        let value = bounded(name, value)?;
        let malformed = |why: String| Fault::Malformed(name, why);
        let mut found = Vec::new();
        for block in CertificateDer::pem_slice_iter(value) {
            let der = block.map_err(|error| malformed(error.to_string()))?;
            found.push(Self::from_der(&der).map_err(malformed)?);
            if found.len() > AUTHORITY_LIMIT {
                return Err(malformed(format!("it holds more than {AUTHORITY_LIMIT} certificates")));
            }
        }
        if found.is_empty() {
            return Err(malformed("it holds no PEM certificate".to_owned()));
        }
        Ok(found)
    }

    /// The authorities of a value.
    pub(super) fn authorities(name: &'static str, value: Option<&Vec<u8>>) -> Result<Vec<Self>, Fault> {
        let all = Self::all(name, value)?;
        if all.iter().all(|one| one.is_authority) { Ok(all) } else { Err(Fault::NoAuthority(name)) }
    }

    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

/// A private key of a value.
pub(super) fn key_pair(name: &'static str, value: Option<&Vec<u8>>) -> Result<KeyPair, Fault> {
    let malformed = |why: &dyn fmt::Display| Fault::Malformed(name, why.to_string());
    let text = std::str::from_utf8(bounded(name, value)?).map_err(|error| malformed(&error))?;
    KeyPair::from_pem(text).map_err(|error| malformed(&error))
}

/// Whether a key is that of a certificate.
pub(super) fn belongs(key: &KeyPair, certificate: &Parsed) -> bool {
    key.subject_public_key_info() == certificate.key
}

fn bounded<'a>(name: &'static str, value: Option<&'a Vec<u8>>) -> Result<&'a [u8], Fault> {
    let value = value.filter(|value| !value.is_empty()).ok_or(Fault::Missing(name))?;
    if value.len() > VALUE_LIMIT {
        return Err(Fault::Malformed(name, format!("it is longer than {VALUE_LIMIT} bytes")));
    }
    Ok(value)
}

fn common_name(subject: &x509_cert::name::Name) -> Option<String> {
    let mut parts = subject.iter();
    let (Some(part), None) = (parts.next(), parts.next()) else { return None };
    let is_text = part.oid == CN && part.value.tag() == Tag::Utf8String;
    is_text.then(|| String::from_utf8(part.value.value().to_vec()).ok()).flatten()
}
