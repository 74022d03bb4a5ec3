//! Whether a certificate was issued, for signing code, by an authority of the trust root, at a given time.

use std::time::Duration;

use const_oid::db::rfc5280::ID_KP_CODE_SIGNING;
use der::{Decode, Encode, Tag, asn1::AnyRef};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sigstore_crypto::WEBPKI_VERIFICATION_ALGS;
use sigstore_trust_root::{TimeRange, TrustedRoot};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{certificate, refusal::Refusal};

/// The authorities of a trust root, each with the time in which it issued.
pub(super) struct Authorities(Vec<(TrustAnchor<'static>, Option<TimeRange>)>);

impl Authorities {
    /// Intermediates are anchors too: the trust root vouches for each certificate in it, so that none from the
    /// attestation is needed for the chain.
    pub(super) fn of(root: &TrustedRoot) -> Result<Self, webpki::Error> {
        let mut anchors = Vec::new();
        for authority in &root.certificate_authorities {
            for entry in &authority.cert_chain.certificates {
                let certificate = CertificateDer::from(entry.raw_bytes.as_bytes());
                anchors.push((anchor_from_trusted_cert(&certificate)?.to_owned(), authority.valid_for));
            }
        }
        Ok(Self(anchors))
    }

    /// Whether one of these has the key of one of those.
    pub(super) fn share_a_key(&self, others: &Self) -> bool {
        let key = |(anchor, _): &(TrustAnchor<'static>, _)| anchor.subject_public_key_info.clone();
        self.0.iter().any(|own| others.0.iter().any(|other| key(own) == key(other)))
    }

    /// Whether a certificate says that one of these authorities issued it. It proves nothing, and tells at little cost
    /// which root could vouch for it.
    pub(super) fn may_have_issued(&self, certificate: &[u8]) -> bool {
        let issuer = certificate::parse(certificate).and_then(|certificate| {
            certificate.tbs_certificate().issuer().to_der().map_err(|_| Refusal::chain(""))
        });
        // An anchor holds the contents of its name's SEQUENCE without the SEQUENCE.
        let Ok(issuer) = issuer else { return false };
        AnyRef::from_der(&issuer)
            .is_ok_and(|name| self.0.iter().any(|(anchor, _)| anchor.subject.as_ref() == name.value()))
    }

    /// Verifies the chain at `time` and gives the public key (SPKI, DER) of the certificate's issuer: the one whose
    /// signature was verified, and not one that only bears its name.
    pub(super) fn verify(&self, certificate: &[u8], time: Timestamp, root: &str) -> Result<Vec<u8>, Refusal> {
        let chain = || Refusal::chain(root);
        let anchors: Vec<_> = self
            .0
            .iter()
            .filter(|(_, window)| window.is_none_or(|window| window.contains(time)))
            .map(|(anchor, _)| anchor.clone())
            .collect();
        let der = CertificateDer::from(certificate);
        let leaf = EndEntityCert::try_from(&der)
            .map_err(|error| Refusal::unreadable("its certificate cannot be read", &error))?;
        let seconds = u64::try_from(time.as_second()).map_err(|_| Refusal::CertificateTime(time))?;
        let path = leaf
            .verify_for_usage(
                WEBPKI_VERIFICATION_ALGS,
                &anchors,
                &[],
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                KeyUsage::required(ID_KP_CODE_SIGNING.as_bytes()),
                None,
                None,
            )
            .map_err(|error| match error {
                webpki::Error::RequiredEkuNotFoundContext(_) => Refusal::Usage,
                webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
                    Refusal::CertificateTime(time)
                }
                _ => chain(),
            })?;
        // An anchor holds the contents of its key's SEQUENCE without the SEQUENCE.
        let key = path.anchor().subject_public_key_info.as_ref();
        AnyRef::new(Tag::Sequence, key).and_then(|key| key.to_der()).map_err(|_| chain())
    }
}
