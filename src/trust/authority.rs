//! Signatures under an authority alone, which is no Fulcio: no log of either kind, and a timestamp authority or, where the trust root says
//! so, nobody who states the time.
//!
//! Held: the certificate's chain, purpose and validity at the time of signing, and the envelope's signature. Log entries are passed over: they
//! are of logs that the root does not know.

use jiff::Timestamp;
use sigstore_types::{DerCertificate, DsseEnvelope, TimestampToken};

use super::{certificate, legacy, log::CLOCK_SKEW, refusal::Refusal, root::Root};
use crate::domain::identity::Certificate;

/// What is different about the root of an authority alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alone {
    /// The issuer of certificates that name none.
    pub(super) issuer: Option<String>,
    /// Nobody states the time.
    pub(super) timeless: bool,
}

/// Verifies that the holder of a certificate signed an envelope.
pub(super) fn verify(
    root: &Root,
    alone: &Alone,
    (envelope, der): (&DsseEnvelope, &DerCertificate),
    stamps: &[TimestampToken],
    now: Timestamp,
) -> Result<Certificate, Refusal> {
    let certificate = certificate::read(der.as_bytes(), alone.issuer.as_deref())?;
    // Where nobody says when, it is as if it had been at once: not by the clock of this moment, for facts are kept.
    let times =
        if alone.timeless { vec![certificate.not_before] } else { times(root, envelope, stamps, now)? };
    for time in times {
        if time < certificate.not_before || time > certificate.not_after {
            return Err(Refusal::CertificateTime(time));
        }
        root.authorities.verify(der.as_bytes(), &[], time, &root.name.0)?;
    }
    legacy::signature(envelope, der)?;
    Ok(certificate)
}

/// The times that the root's timestamp authorities vouch for: at least one.
fn times(
    root: &Root,
    envelope: &DsseEnvelope,
    stamps: &[TimestampToken],
    now: Timestamp,
) -> Result<Vec<Timestamp>, Refusal> {
    let (mut times, mut refusal) = (Vec::new(), Refusal::NoTime);
    for stamp in stamps {
        match root.timestamp_authorities.time(stamp, &envelope.signature.sig) {
            Ok(time) => times.push(time),
            Err(why) => refusal = why,
        }
    }
    match times.iter().find(|time| time.duration_since(now) > CLOCK_SKEW) {
        Some(time) => Err(Refusal::Future(*time)),
        None if times.is_empty() => Err(refusal),
        None => Ok(times),
    }
}
