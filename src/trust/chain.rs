//! Whether a certificate was issued, for signing code, by an authority of the trust root, at a given time.

use std::{sync::LazyLock, time::Duration};

use const_oid::db::rfc5280::ID_KP_CODE_SIGNING;
use der::{Decode, Encode, Tag, asn1::AnyRef};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use sigstore_crypto::WEBPKI_VERIFICATION_ALGS;
use sigstore_trust_root::{TimeRange, TrustedRoot};
use sigstore_types::DerCertificate;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs};

use super::{
    certificate::{self, Validity},
    refusal::Refusal,
};

/// What certificates may be signed with: what the Sigstore library knows, and what OpenSSL makes with SHA-512 and P-521.
static ALGORITHMS: LazyLock<Vec<&'static dyn SignatureVerificationAlgorithm>> = LazyLock::new(|| {
    let more = [
        aws_lc_rs::ECDSA_P521_SHA512,
        aws_lc_rs::ECDSA_P521_SHA384,
        aws_lc_rs::ECDSA_P521_SHA256,
        aws_lc_rs::ECDSA_P384_SHA512,
        aws_lc_rs::ECDSA_P256_SHA512,
    ];
    WEBPKI_VERIFICATION_ALGS.iter().copied().chain(more).collect()
});

/// The authorities of a trust root, each with the time in which it issued.
pub(super) struct Authorities(Vec<Authority>);

/// One certificate of an authority. It is an anchor, whether or not it is a root.
struct Authority {
    anchor: TrustAnchor<'static>,
    /// When the trust root says that it issued.
    issued: Option<TimeRange>,
    /// When its own certificate is valid.
    validity: Validity,
    /// Those among all certificates that may have issued its own, by their names.
    issuers: Vec<usize>,
}

impl Authorities {
    /// Intermediates are anchors too: the trust root vouches for each certificate in it, so that none from the
    /// attestation is needed for the chain.
    pub(super) fn of(root: &TrustedRoot) -> Result<Self, Refusal> {
        let unusable = |error| Refusal::unreadable("an authority's certificate cannot be used", &error);
        let mut all = Vec::new();
        for authority in &root.certificate_authorities {
            let first = all.len();
            let chain = &authority.cert_chain.certificates;
            let names = chain.iter().map(|entry| Names::of(entry.raw_bytes.as_bytes()));
            let names: Vec<Names> = names.collect::<Result<_, _>>()?;
            for (entry, own) in chain.iter().zip(&names) {
                let der = CertificateDer::from(entry.raw_bytes.as_bytes());
                let above =
                    |(_, other): &(usize, &Names)| !own.is_self_issued() && other.subject == own.issuer;
                let issuers = names.iter().enumerate().filter(above);
                all.push(Authority {
                    anchor: anchor_from_trusted_cert(&der).map_err(unusable)?.to_owned(),
                    issued: authority.valid_for,
                    validity: Validity::of(&certificate::parse(&der)?)?,
                    issuers: issuers.map(|(at, _)| first.saturating_add(at)).collect(),
                });
            }
        }
        Ok(Self(all))
    }

    /// Whether an authority issued at this time: the trust root says so, its own certificate was valid, and so was the certificate of one
    /// that issued its own. `depth` ends a circle of names.
    fn was_in_force(&self, authority: &Authority, time: Timestamp, depth: usize) -> bool {
        let mut issuers = authority.issuers.iter().filter_map(|at| self.0.get(*at));
        authority.issued.is_none_or(|issued| issued.contains(time))
            && authority.validity.contains(time)
            && (authority.issuers.is_empty()
                || depth
                    .checked_sub(1)
                    .is_some_and(|depth| issuers.any(|issuer| self.was_in_force(issuer, time, depth))))
    }

    /// Whether one of these has the key of one of those.
    pub(super) fn share_a_key(&self, others: &Self) -> bool {
        let key = |authority: &Authority| authority.anchor.subject_public_key_info.clone();
        self.0.iter().any(|own| others.0.iter().any(|other| key(own) == key(other)))
    }

    /// Whether a certificate says that one of these authorities issued it. It proves nothing, and tells at little cost
    /// which root could vouch for it.
    pub(super) fn may_have_issued(&self, certificate: &[u8]) -> bool {
        !self.named_by(certificate).is_empty()
    }

    fn named_by(&self, certificate: &[u8]) -> Vec<&Authority> {
        // An anchor holds the contents of its name's SEQUENCE without the SEQUENCE.
        let Ok(Names { issuer, .. }) = Names::of(certificate) else { return Vec::new() };
        let Ok(name) = AnyRef::from_der(&issuer) else { return Vec::new() };
        self.0.iter().filter(|authority| authority.anchor.subject.as_ref() == name.value()).collect()
    }

    fn has_the_key_of(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(parsed) = EndEntityCert::try_from(certificate) else { return false };
        let key = parsed.subject_public_key_info();
        // An anchor holds the contents of its key's SEQUENCE without the SEQUENCE.
        AnyRef::from_der(key.as_ref()).is_ok_and(|key| {
            self.0.iter().any(|authority| authority.anchor.subject_public_key_info.as_ref() == key.value())
        })
    }

    /// Verifies the chain at `time` and gives the public key (SPKI, DER) of the certificate's issuer: the one whose
    /// signature was verified, and not one that only bears its name. `brought` are issuers that came with the certificate. They prove
    /// nothing unless they lead to an authority.
    pub(super) fn verify(
        &self,
        certificate: &[u8],
        brought: &[&DerCertificate],
        time: Timestamp,
        root: &str,
    ) -> Result<Vec<u8>, Refusal> {
        let chain = || Refusal::chain(root);
        let was_in_force = |authority: &&Authority| self.was_in_force(authority, time, MAX_DEPTH);
        let anchors: Vec<_> =
            self.0.iter().filter(was_in_force).map(|authority| authority.anchor.clone()).collect();
        // An anchor vouches in its own time: the same key in a certificate that was brought along must not make up for that.
        let brought: Vec<_> = brought.iter().map(|der| CertificateDer::from(der.as_bytes())).collect();
        let brought: Vec<_> = brought.into_iter().filter(|der| !self.has_the_key_of(der)).collect();
        let der = CertificateDer::from(certificate);
        let leaf = EndEntityCert::try_from(&der)
            .map_err(|error| Refusal::unreadable("its certificate cannot be read", &error))?;
        let seconds = u64::try_from(time.as_second()).map_err(|_| Refusal::CertificateTime(time))?;
        let path = leaf
            .verify_for_usage(
                &ALGORITHMS,
                &anchors,
                &brought,
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
                _ => {
                    let named = self.named_by(certificate);
                    let out_of_force = !named.is_empty() && !named.iter().any(was_in_force);
                    let root = root.to_owned();
                    if out_of_force { Refusal::AuthorityTime { root, time } } else { chain() }
                }
            })?;
        if let Some(issuer) = path.intermediate_certificates().next() {
            return Ok(issuer.subject_public_key_info().as_ref().to_vec());
        }
        // An anchor holds the contents of its key's SEQUENCE without the SEQUENCE.
        let key = path.anchor().subject_public_key_info.as_ref();
        AnyRef::new(Tag::Sequence, key).and_then(|key| key.to_der()).map_err(|_| chain())
    }
}

/// The longest chain of authorities. A longer one, or a circle of names, is not in force.
const MAX_DEPTH: usize = 10;

/// The names in a certificate, DER.
#[derive(PartialEq)]
struct Names {
    subject: Vec<u8>,
    issuer: Vec<u8>,
}

impl Names {
    fn of(certificate: &[u8]) -> Result<Self, Refusal> {
        let certificate = certificate::parse(certificate)?;
        let tbs = certificate.tbs_certificate();
        let der = |name: &x509_cert::name::Name| {
            name.to_der().map_err(|error| Refusal::unreadable("its certificate cannot be read", &error))
        };
        Ok(Self { subject: der(tbs.subject())?, issuer: der(tbs.issuer())? })
    }

    fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }
}
