//! Making authorities and certificates, and the contents of the Secret with them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::{
    Lifetimes,
    authority::Parsed,
    content::{AUTHORITIES, AUTHORITY_KEY, CERTIFICATE, Content, KEY, NEXT_KEY, Names, PREVIOUS, Signer},
};

/// How long before it is made a certificate begins to be valid: clocks differ.
pub(super) const BACKDATED: Duration = Duration::from_hours(1);

/// How many certificates of authorities before are remembered.
const PREVIOUS_LIMIT: usize = 4;

/// Makes the contents of the Secret.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker<'a> {
    pub(super) names: &'a Names,
    pub(super) lifetimes: Lifetimes,
    pub(super) now: Timestamp,
}

impl Maker<'_> {
    /// A new authority and a certificate of it, and nothing of what was there.
    pub(super) fn begin(&self) -> Result<Content, rcgen::Error> {
        let (name, certificate, key) = self.authority()?;
        let end = later(self.now, self.lifetimes.authority);
        let mut content = Content::default();
        content.set(AUTHORITIES, certificate);
        content.set(AUTHORITY_KEY, key.serialize_pem());
        self.sign(&mut content, &name, &key, end)?;
        Ok(content)
    }

    /// A new certificate of the authority that signs.
    pub(super) fn certify(&self, before: &Content, signer: &Signer) -> Result<Content, rcgen::Error> {
        let mut content = before.clone();
        self.sign(&mut content, &signer.name, &signer.key, signer.authority.not_after)?;
        Ok(content)
    }

    /// A new authority that is only trusted as yet.
    pub(super) fn announce(&self, before: &Content) -> Result<Content, rcgen::Error> {
        let (_, certificate, key) = self.authority()?;
        let mut content = before.clone();
        let mut bundle: String =
            before.authorities(self.now).unwrap_or_default().iter().map(|one| one.pem.as_str()).collect();
        bundle.push_str(&certificate);
        content.set(AUTHORITIES, bundle);
        content.set(NEXT_KEY, key.serialize_pem());
        Ok(content)
    }

    /// The announced authority begins to sign; the one before is still trusted.
    pub(super) fn promote(&self, before: &Content, next: &Signer) -> Result<Content, rcgen::Error> {
        let mut content = before.clone();
        let ended = [CERTIFICATE, PREVIOUS].into_iter().flat_map(|key| Parsed::all(key, before.get(key)));
        // Nobody replaces authorities so fast that more than a few count.
        content.set(PREVIOUS, self.living(ended.flatten()).take(PREVIOUS_LIMIT).map(|one| one.pem).collect());
        content.remove(NEXT_KEY);
        content.set(AUTHORITY_KEY, next.key.serialize_pem());
        self.sign(&mut content, &next.name, &next.key, next.authority.not_after)?;
        Ok(content)
    }

    /// Only these authorities are trusted from now on.
    pub(super) fn forget(&self, before: &Content, kept: &[Parsed]) -> Content {
        let mut content = before.clone();
        content.set(AUTHORITIES, kept.iter().map(|authority| authority.pem.as_str()).collect());
        let previous = Parsed::all(PREVIOUS, before.get(PREVIOUS)).unwrap_or_default();
        let living: String = self.living(previous.into_iter()).map(|one| one.pem).collect();
        if living.is_empty() {
            content.remove(PREVIOUS);
        } else {
            content.set(PREVIOUS, living);
        }
        content
    }

    fn living(&self, certificates: impl Iterator<Item = Parsed>) -> impl Iterator<Item = Parsed> {
        let now = self.now;
        certificates.filter(move |one| now < one.not_after)
    }

    /// A new authority: its name, its certificate and its key.
    fn authority(&self) -> Result<(String, String, KeyPair), rcgen::Error> {
        // Two authorities of one name would only be told apart by trying.
        let name = format!("bonafide-ca {}", self.now);
        let mut params = self.params(&name, Vec::new(), later(self.now, self.lifetimes.authority))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok((name, certificate, key))
    }

    fn sign(
        &self,
        content: &mut Content,
        authority: &str,
        authority_key: &KeyPair,
        authority_end: Timestamp,
    ) -> Result<(), rcgen::Error> {
        // A certificate that outlives its authority would be a promise that nobody can keep.
        let end = later(self.now, self.lifetimes.certificate).min(authority_end);
        let mut params = self.params("bonafide", self.names.all().to_vec(), end)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut issuer = CertificateParams::default();
        issuer.distinguished_name = named(authority);
        issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &Issuer::from_params(&issuer, authority_key))?;
        content.set(CERTIFICATE, certificate.pem());
        content.set(KEY, key.serialize_pem());
        Ok(())
    }

    fn params(
        &self,
        name: &str,
        names: Vec<String>,
        end: Timestamp,
    ) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(name);
        let begin = self.now.checked_sub(BACKDATED).unwrap_or(self.now);
        params.not_before = SystemTime::from(begin).into();
        params.not_after = SystemTime::from(end).into();
        Ok(params)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}
