//! What stands in the Secret, and whether it can be served with and signed with.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;
use rcgen::KeyPair;
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::authority::{Fault, Parsed, belongs, key_pair};

/// The authorities that are trusted: what goes into the `caBundle`.
pub(super) const AUTHORITIES: &str = "ca.crt";
/// The key of the authority that signs.
pub(super) const AUTHORITY_KEY: &str = "ca.key";
/// The key of the authority that will sign next; its certificate is in the bundle already.
pub(super) const NEXT_KEY: &str = "next-ca.key";
/// The serving certificate.
pub(super) const CERTIFICATE: &str = "tls.crt";
/// Its key.
pub(super) const KEY: &str = "tls.key";
/// The last serving certificate of the authority before: when it has ended, nothing of that authority is left.
pub(super) const PREVIOUS: &str = "previous.crt";

/// The keys of the Secret that are ours; any other is left as it is.
pub(super) const KEYS: [&str; 6] = [AUTHORITIES, AUTHORITY_KEY, NEXT_KEY, CERTIFICATE, KEY, PREVIOUS];

/// Our part of the Secret's data.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Content(BTreeMap<&'static str, Vec<u8>>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are nobody's business.
        f.debug_list().entries(self.0.iter().map(|(key, value)| (key, value.len()))).finish()
    }
}

impl Content {
    /// Takes our part out of a Secret's data.
    pub(super) fn of(mut value: impl FnMut(&'static str) -> Option<Vec<u8>>) -> Self {
        Self(KEYS.into_iter().filter_map(|key| Some((key, value(key)?))).collect())
    }

    pub(super) fn get(&self, key: &'static str) -> Option<&Vec<u8>> {
        self.0.get(key)
    }

    pub(super) fn set(&mut self, key: &'static str, value: String) {
        self.0.insert(key, value.into_bytes());
    }

    pub(super) fn remove(&mut self, key: &'static str) -> Option<Vec<u8>> {
        self.0.remove(key)
    }

    /// The authorities whose time is not over. A bundle with something malformed in it has none.
    pub(super) fn authorities(&self, now: Timestamp) -> Result<Vec<Parsed>, Fault> {
        let mut all = Parsed::authorities(AUTHORITIES, self.get(AUTHORITIES))?;
        all.retain(|authority| now < authority.not_after);
        Ok(all)
    }

    /// The pair to serve with, where a client that trusts the bundle accepts it now.
    pub(super) fn serving(&self, names: &Names, now: Timestamp) -> Result<Serving, Fault> {
        let chain = Parsed::all(CERTIFICATE, self.get(CERTIFICATE))?;
        let (Some(leaf), Some(key)) = (chain.first(), self.get(KEY)) else { return Err(Fault::Missing(KEY)) };
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| Fault::Malformed(KEY, error.to_string()))?;
        let ders = chain.iter().map(|one| CertificateDer::from(one.der.clone())).collect();
        CertifiedKey::from_der(ders, key, &aws_lc_rs::default_provider())
            .map_err(|_| Fault::Mismatch(CERTIFICATE, KEY))?;

        if !leaf.is_valid(now) {
            return Err(Fault::Time(CERTIFICATE, leaf.not_before, leaf.not_after));
        }
        let der = CertificateDer::from(leaf.der.as_slice());
        let verified = EndEntityCert::try_from(&der)
            .map_err(|error| Fault::Malformed(CERTIFICATE, error.to_string()))?;
        let has = |name: &str| {
            ServerName::try_from(name)
                .is_ok_and(|name| verified.verify_is_valid_for_subject_name(&name).is_ok())
        };
        if !has(&names.service) {
            return Err(Fault::Name(CERTIFICATE, names.service.clone()));
        }
        let authorities = self.authorities(now)?;
        let signer = authorities
            .iter()
            .find(|authority| chains(&verified, chain.get(1..).unwrap_or_default(), authority, now))
            .ok_or(Fault::Untrusted(CERTIFICATE, AUTHORITIES))?;
        Ok(Serving {
            has_every_name: names.all().iter().all(|name| has(name)),
            leaf: leaf.clone(),
            signer: signer.clone(),
            authorities,
        })
    }

    /// The authority of one of the bundle's keys, where it can sign now.
    pub(super) fn signer(&self, key: &'static str, now: Timestamp) -> Result<Signer, Fault> {
        let pair = key_pair(key, self.get(key))?;
        let mut authorities = self.authorities(now)?;
        let at = authorities.iter().position(|authority| belongs(&pair, authority));
        let authority = at.map(|at| authorities.swap_remove(at)).ok_or(Fault::Mismatch(key, AUTHORITIES))?;
        if !authority.is_valid(now) {
            return Err(Fault::Time(AUTHORITIES, authority.not_before, authority.not_after));
        }
        let name = authority.common_name.clone().ok_or_else(|| {
            Fault::Malformed(AUTHORITIES, "the authority's name is not one of ours".to_owned())
        })?;
        Ok(Signer { authority, name, key: pair })
    }
}

/// Whether an authority signed a certificate directly, and a client accepts that now.
pub(super) fn is_signed_by(leaf: &Parsed, authority: &Parsed, now: Timestamp) -> bool {
    let der = CertificateDer::from(leaf.der.as_slice());
    EndEntityCert::try_from(&der).is_ok_and(|leaf| chains(&leaf, &[], authority, now))
}

fn chains(leaf: &EndEntityCert<'_>, between: &[Parsed], authority: &Parsed, now: Timestamp) -> bool {
    let root = CertificateDer::from(authority.der.as_slice());
    let Ok(anchor) = anchor_from_trusted_cert(&root) else { return false };
    let between: Vec<_> = between.iter().map(|one| CertificateDer::from(one.der.as_slice())).collect();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let anchors = [anchor];
    leaf.verify_for_usage(algorithms, &anchors, &between, time, KeyUsage::server_auth(), None, None).is_ok()
}

/// The names that the certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The one that the API server asks for.
    pub(super) service: String,
    namespaced: String,
}

impl Names {
    pub(super) fn of(name: &str, namespace: &str) -> Self {
        Self { service: format!("{name}.{namespace}.svc"), namespaced: format!("{name}.{namespace}") }
    }

    pub(super) fn all(&self) -> [String; 3] {
        [self.service.clone(), format!("{}.cluster.local", self.service), self.namespaced.clone()]
    }
}

/// A pair that can be served with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Serving {
    pub(super) leaf: Parsed,
    /// The authority that signed it.
    pub(super) signer: Parsed,
    /// Every authority whose time is not over.
    pub(super) authorities: Vec<Parsed>,
    pub(super) has_every_name: bool,
}

impl Serving {
    /// The bundle as it is given to clients: always in one form, so that it can be compared.
    pub(super) fn bundle(&self) -> String {
        self.authorities.iter().map(|authority| authority.pem.as_str()).collect()
    }
}

/// An authority that can sign.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) authority: Parsed,
    pub(super) name: String,
    pub(super) key: KeyPair,
}
