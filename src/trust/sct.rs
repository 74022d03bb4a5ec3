//! The timestamp of a certificate-transparency log that is embedded in a certificate (RFC 6962, sections 3.2 and 3.3).
//!
//! The log signed the certificate as it was before the timestamp was put in: the same bytes without that extension.

use const_oid::{ObjectIdentifier, db::rfc6962::CT_PRECERT_SCTS};
use der::{
    Decode, Encode, Reader, SliceReader, Tag, TagNumber, Tagged,
    asn1::{AnyRef, OctetStringRef},
};
use jiff::Timestamp;
use sigstore_crypto::{Keyring, SigningScheme, sha256};
use sigstore_trust_root::TrustedRoot;
use sigstore_types::{Sha256Hash, SignatureBytes};

use super::{certificate, refusal::Refusal};

/// The certificate-transparency logs of a trust root, by the scheme that they sign with.
pub(super) struct CtLogs(Vec<(u16, Keyring)>);

/// TLS's numbers of hash and signature algorithms (RFC 5246, section 7.4.1.4.1).
const SCHEMES: [(u16, SigningScheme); 5] = [
    (0x0403, SigningScheme::EcdsaP256Sha256),
    (0x0503, SigningScheme::EcdsaP384Sha384),
    (0x0401, SigningScheme::RsaPkcs1Sha256),
    (0x0501, SigningScheme::RsaPkcs1Sha384),
    (0x0601, SigningScheme::RsaPkcs1Sha512),
];

impl CtLogs {
    pub(super) fn of(root: &TrustedRoot) -> Result<Self, sigstore_trust_root::Error> {
        let keyring = |(number, scheme)| Ok((number, root.ctfe_keys(scheme)?));
        SCHEMES.into_iter().map(keyring).collect::<Result<_, _>>().map(Self)
    }

    /// Verifies the one timestamp of the certificate. `issuer` is the issuer's public key (SPKI, DER).
    pub(super) fn verify(&self, certificate: &[u8], issuer: &[u8]) -> Result<(), Refusal> {
        let list = embedded(certificate)?.ok_or(Refusal::SctMissing)?;
        let sct = Sct::parse(&list).ok_or(Refusal::Sct)?;
        let precertificate = precertificate(certificate).map_err(|_| Refusal::Sct)?;
        let signed = sct.signed(sha256(issuer).as_bytes(), &precertificate).ok_or(Refusal::Sct)?;
        let time = i64::try_from(sct.milliseconds).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let (_, keys) = self.0.iter().find(|(number, _)| *number == sct.scheme).ok_or(Refusal::Sct)?;
        let signature = SignatureBytes::new(sct.signature.to_vec());
        keys.verify_with_key_id_at(&Sha256Hash::new(sct.log), time.ok_or(Refusal::Sct)?, signed, &signature)
            .map_err(|_| Refusal::Sct)
    }
}

/// Whether a certificate carries such timestamps.
pub(super) fn is_embedded(certificate: &[u8]) -> Result<bool, Refusal> {
    embedded(certificate).map(|list| list.is_some())
}

fn embedded(certificate: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
    let certificate = certificate::parse(certificate)?;
    let extensions = certificate.tbs_certificate().extensions().map(Vec::as_slice).unwrap_or_default();
    let Some(extension) = extensions.iter().find(|extension| extension.extn_id == CT_PRECERT_SCTS) else {
        return Ok(None);
    };
    let list: &OctetStringRef =
        Decode::from_der(extension.extn_value.as_bytes()).map_err(|_| Refusal::Sct)?;
    Ok(Some(list.as_bytes().to_vec()))
}

/// One `SignedCertificateTimestamp`.
struct Sct<'a> {
    log: [u8; 32],
    milliseconds: u64,
    extensions: &'a [u8],
    scheme: u16,
    signature: &'a [u8],
}

impl<'a> Sct<'a> {
    /// The one timestamp of a list. More than one, or anything left over, is refused: Fulcio writes one.
    fn parse(list: &'a [u8]) -> Option<Self> {
        let list = whole(list)?;
        let mut rest = whole(list)?;
        let [0] = take::<1>(&mut rest)? else { return None };
        let log = take(&mut rest)?;
        let milliseconds = u64::from_be_bytes(take(&mut rest)?);
        let extensions = vector(&mut rest)?;
        let scheme = u16::from_be_bytes(take(&mut rest)?);
        let signature = whole(rest)?;
        Some(Self { log, milliseconds, extensions, scheme, signature })
    }

    /// What the log signed: `digitally-signed struct` of RFC 6962, section 3.2, for a precertificate.
    fn signed(&self, issuer_key_hash: &[u8], precertificate: &[u8]) -> Option<Vec<u8>> {
        let [0, length @ ..] = u32::try_from(precertificate.len()).ok()?.to_be_bytes() else { return None };
        let extensions_length = u16::try_from(self.extensions.len()).ok()?.to_be_bytes();
        Some(
            [
                &[0, 0],
                self.milliseconds.to_be_bytes().as_slice(),
                &[0, 1],
                issuer_key_hash,
                &length,
                precertificate,
                &extensions_length,
                self.extensions,
            ]
            .concat(),
        )
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

/// A vector with two bytes of length.
fn vector<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(u16::from_be_bytes(take(bytes)?));
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// Such a vector with nothing behind it.
fn whole(mut bytes: &[u8]) -> Option<&[u8]> {
    let vector = vector(&mut bytes)?;
    bytes.is_empty().then_some(vector)
}

/// The `TBSCertificate` without the extension that holds the timestamps; every other byte as it is.
fn precertificate(certificate: &[u8]) -> der::Result<Vec<u8>> {
    const EXTENSIONS: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(3) };
    let certificate = AnyRef::from_der(certificate)?;
    let tbs: AnyRef<'_> = SliceReader::new(certificate.value())?.decode()?;
    let mut kept = Vec::new();
    for field in items(tbs.value())? {
        if field.tag() == EXTENSIONS {
            let list = AnyRef::from_der(field.value())?;
            let mut extensions = Vec::new();
            for extension in items(list.value())? {
                let name: ObjectIdentifier = SliceReader::new(extension.value())?.decode()?;
                if name != CT_PRECERT_SCTS {
                    extension.encode_to_vec(&mut extensions)?;
                }
            }
            let list = AnyRef::new(Tag::Sequence, &extensions)?.to_der()?;
            AnyRef::new(EXTENSIONS, &list)?.encode_to_vec(&mut kept)?;
        } else {
            field.encode_to_vec(&mut kept)?;
        }
    }
    AnyRef::new(Tag::Sequence, &kept)?.to_der()
}

fn items(contents: &[u8]) -> der::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(contents)?;
    let mut items = Vec::new();
    while !reader.is_finished() {
        items.push(reader.decode()?);
    }
    Ok(items)
}
