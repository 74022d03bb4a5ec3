//! The certificate authority: a root and an intermediate like Fulcio's, and leaf certificates with an
//! embedded certificate-transparency timestamp (RFC 6962). Also the authority of timestamps, whose
//! certificates differ in their extended key usage only.

use jiff::{SignedDuration, Timestamp};

use super::der;
use super::identity::{Identity, San};
use super::keys::{Key, KeyKind, key_identifier, serial};

const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
const SCT_LIST: &str = "1.3.6.1.4.1.11129.2.4.2";

/// A certificate that can sign others.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) key: Key,
    pub(super) name: Vec<u8>,
    pub(super) certificate: Vec<u8>,
}

/// When each certificate of an authority is valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validities {
    pub(super) root: (Timestamp, Timestamp),
    /// Of the intermediate, or of the certificate that signs timestamps.
    pub(super) lower: (Timestamp, Timestamp),
}

/// A root with one intermediate below it.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) root: Issuer,
    pub(super) intermediate: Issuer,
}

/// The extended key usage of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    CodeSigning,
    ClientAuth,
    Absent,
}

/// How the embedded timestamp of the certificate-transparency log is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct SctPlan<'a> {
    /// The log that the timestamp names.
    pub(super) log_id: [u8; 32],
    /// The key that signs it.
    pub(super) key: &'a Key,
    /// SHA-256 of the issuer's public key that the precertificate is bound to.
    pub(super) issuer_key_hash: [u8; 32],
    /// When the log says to have seen it.
    pub(super) at: Timestamp,
    /// Sign other bytes than the certificate's.
    pub(super) of_another_certificate: bool,
}

/// What a leaf certificate is made of, beside its identity.
#[derive(Debug)]
pub(super) struct LeafPlan<'a> {
    pub(super) identity: &'a Identity,
    /// Its public key, a `SubjectPublicKeyInfo`.
    pub(super) key: &'a [u8],
    pub(super) validity: (Timestamp, Timestamp),
    pub(super) usage: Usage,
    pub(super) is_authority: bool,
    pub(super) sct: Option<SctPlan<'a>>,
    /// Spoil the issuer's signature.
    pub(super) signature_invalid: bool,
}

impl Authority {
    /// An authority with keys of this kind.
    pub(super) fn new(organisation: &str, name: &str, kind: KeyKind, validities: Validities) -> Self {
        let root = issue_root(organisation, name, kind, validities.root);
        let intermediate_name = format!("{name}-intermediate");
        let key = Key::generate(kind);
        let subject = distinguished_name(organisation, &intermediate_name);
        let extensions = vec![
            key_usage(0x06, 1),
            extended_key_usage(CODE_SIGNING, false),
            basic_constraints(Some(0)),
            subject_key_identifier(&key.spki()),
            authority_key_identifier(&root.key),
        ];
        let certificate = certify(&root, &subject, &key, validities.lower, &extensions);
        let intermediate = Issuer { key, name: subject, certificate };
        Self { root, intermediate }
    }

    /// A leaf certificate.
    pub(super) fn issue(&self, plan: &LeafPlan<'_>) -> Vec<u8> {
        let issuer = &self.intermediate;
        let mut extensions = vec![key_usage(0x80, 7)];
        match plan.usage {
            Usage::CodeSigning => extensions.push(extended_key_usage(CODE_SIGNING, false)),
            Usage::ClientAuth => extensions.push(extended_key_usage(CLIENT_AUTH, false)),
            Usage::Absent => {}
        }
        if plan.is_authority {
            extensions.push(basic_constraints(None));
        }
        extensions.push(subject_key_identifier(plan.key));
        extensions.push(authority_key_identifier(&issuer.key));
        extensions.extend(subject_alternative_name(&plan.identity.san));
        extensions.extend(plan.identity.encoded_extensions());
        let serial = serial();
        let empty_name = der::sequence(&[]);
        let body = |extensions: &[Vec<u8>]| {
            to_be_signed(issuer, &serial, &empty_name, plan.key, plan.validity, extensions)
        };
        if let Some(sct) = &plan.sct {
            let list = sct_list(sct, &body(&extensions));
            extensions.push(extension(SCT_LIST, false, &der::tlv(der::OCTET_STRING, &list)));
        }
        let tbs = body(&extensions);
        let signature = if plan.signature_invalid {
            issuer.key.sign(b"another certificate")
        } else {
            issuer.key.sign(&tbs)
        };
        der::sequence(&[&tbs, &issuer.key.signature_algorithm(), &der::bit_string(&signature)])
    }
}

/// A self-signed root.
fn issue_root(organisation: &str, name: &str, kind: KeyKind, validity: (Timestamp, Timestamp)) -> Issuer {
    let key = Key::generate(kind);
    let subject = distinguished_name(organisation, name);
    let extensions = vec![key_usage(0x06, 1), basic_constraints(None), subject_key_identifier(&key.spki())];
    let mut issuer = Issuer { key, name: subject.clone(), certificate: Vec::new() };
    issuer.certificate = certify(&issuer, &subject, &issuer.key, validity, &extensions);
    issuer
}

/// The root of a timestamping authority, and the certificate that signs its timestamps.
pub(super) fn timestamping_pair(organisation: &str, validities: Validities) -> (Issuer, Issuer) {
    let root = issue_root(organisation, "throwaway-tsa-root", KeyKind::P384, validities.root);
    let key = Key::generate(KeyKind::P256);
    let name = distinguished_name(organisation, "throwaway-tsa");
    let extensions = vec![
        key_usage(0x80, 7),
        extended_key_usage(TIME_STAMPING, true),
        subject_key_identifier(&key.spki()),
        authority_key_identifier(&root.key),
    ];
    let certificate = certify(&root, &name, &key, validities.lower, &extensions);
    (root, Issuer { key, name, certificate })
}

fn certify(
    issuer: &Issuer,
    subject: &[u8],
    key: &Key,
    validity: (Timestamp, Timestamp),
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    let tbs = to_be_signed(issuer, &serial(), subject, &key.spki(), validity, extensions);
    let signature = issuer.key.sign(&tbs);
    der::sequence(&[&tbs, &issuer.key.signature_algorithm(), &der::bit_string(&signature)])
}

fn to_be_signed(
    issuer: &Issuer,
    serial: &[u8],
    subject: &[u8],
    key: &[u8],
    validity: (Timestamp, Timestamp),
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    der::sequence(&[
        &der::context(0, &der::integer(&[2])),
        &der::integer(serial),
        &issuer.key.signature_algorithm(),
        &issuer.name,
        &der::sequence(&[&der::time(validity.0), &der::time(validity.1)]),
        subject,
        key,
        &der::context(3, &der::tlv(der::SEQUENCE, &extensions.concat())),
    ])
}

/// The `SignedCertificateTimestampList` of one timestamp over the precertificate.
fn sct_list(plan: &SctPlan<'_>, precertificate: &[u8]) -> Vec<u8> {
    let other;
    let precertificate = if plan.of_another_certificate {
        other = [precertificate, b"!"].concat();
        &other
    } else {
        precertificate
    };
    let timestamp = plan.at.as_millisecond().to_be_bytes();
    let mut signed = vec![0, 0];
    signed.extend(timestamp);
    signed.extend([0, 1]);
    signed.extend(plan.issuer_key_hash);
    signed.extend(&u32::try_from(precertificate.len()).unwrap().to_be_bytes()[1..]);
    signed.extend(precertificate);
    signed.extend([0, 0]);
    let signature = plan.key.sign(&signed);

    let mut sct = vec![0];
    sct.extend(plan.log_id);
    sct.extend(timestamp);
    // No extensions; then SHA-256 with ECDSA.
    sct.extend([0, 0, 4, 3]);
    sct.extend(prefixed(&signature));
    prefixed(&prefixed(&sct))
}

/// Bytes after their length in two bytes, as TLS writes vectors.
fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn distinguished_name(organisation: &str, common_name: &str) -> Vec<u8> {
    let part = |oid: &str, text: &str| {
        let pair = der::sequence(&[&der::oid(oid), &der::tlv(der::UTF8_STRING, text.as_bytes())]);
        der::set_of(vec![pair])
    };
    der::sequence(&[&part("2.5.4.10", organisation), &part("2.5.4.3", common_name)])
}

fn extension(oid: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::true_value() } else { Vec::new() };
    der::sequence(&[&der::oid(oid), &critical, &der::tlv(der::OCTET_STRING, value)])
}

fn key_usage(bits: u8, unused: u8) -> Vec<u8> {
    extension("2.5.29.15", true, &der::tlv(0x03, &[unused, bits]))
}

fn extended_key_usage(usage: &str, critical: bool) -> Vec<u8> {
    extension("2.5.29.37", critical, &der::sequence(&[&der::oid(usage)]))
}

fn basic_constraints(path_length: Option<u8>) -> Vec<u8> {
    let length = path_length.map_or_else(Vec::new, |length| der::integer(&[length]));
    extension("2.5.29.19", true, &der::sequence(&[&der::true_value(), &length]))
}

fn subject_key_identifier(key: &[u8]) -> Vec<u8> {
    extension("2.5.29.14", false, &der::tlv(der::OCTET_STRING, &key_identifier(key)))
}

fn authority_key_identifier(issuer: &Key) -> Vec<u8> {
    let identifier = der::context_primitive(0, &key_identifier(&issuer.spki()));
    extension("2.5.29.35", false, &der::sequence(&[&identifier]))
}

fn subject_alternative_name(san: &San) -> Option<Vec<u8>> {
    let name = match san {
        San::Uri(uri) => der::context_primitive(6, uri.as_bytes()),
        San::Email(address) => der::context_primitive(1, address.as_bytes()),
        San::None => return None,
    };
    Some(extension("2.5.29.17", true, &der::sequence(&[&name])))
}

/// The ten minutes that Fulcio gives, from a little before the signing.
pub(super) fn short_validity(signed_at: Timestamp) -> (Timestamp, Timestamp) {
    let not_before = signed_at - SignedDuration::from_secs(5);
    (not_before, not_before + SignedDuration::from_mins(10))
}
