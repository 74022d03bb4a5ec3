//! What a Fulcio certificate says, read strictly (Fulcio's `docs/oid-info.md`). It says nothing on whether the
//! certificate is genuine: see `chain` and `sct`.
//!
//! A certificate that can be read in two ways is refused: an extension that occurs twice, more than one subject
//! alternative name, a legacy extension that says something else than its modern successor.

use std::collections::BTreeSet;

use const_oid::ObjectIdentifier;
use der::{Decode, asn1::Utf8StringRef};
use jiff::Timestamp;
use x509_cert::ext::{
    Extension,
    pkix::{SubjectAltName, name::GeneralName},
};

use super::refusal::{Refusal, quoted};
use crate::domain::{identity::Certificate, repository_name::is_same_repository};

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// The user names of issuers that have neither e-mail addresses nor URIs.
const USER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// Reads the certificate of a signer. `usual` is the issuer of one that names none; without it, such a one is refused.
pub(super) fn read(certificate: &[u8], usual: Option<&str>) -> Result<Certificate, Refusal> {
    let parsed = parse(certificate)?;
    let tbs = parsed.tbs_certificate();
    let extensions = tbs.extensions().map(Vec::as_slice).unwrap_or_default();
    let mut seen = BTreeSet::new();
    if !extensions.iter().all(|extension| seen.insert(extension.extn_id)) {
        return Err(says("holds an extension twice"));
    }
    let claims = Claims { extensions };
    // It is the type of a user name among the subject alternative names; as an extension it would be a second subject.
    if claims.raw(7).is_some() {
        return Err(says("holds a user name (7) as an extension"));
    }
    let validity = Validity::of(&parsed)?;
    let issuer = claims.either(8, 1)?.or_else(|| usual.map(ToOwned::to_owned));
    let issuer = issuer.ok_or_else(|| says("names no OIDC issuer"))?;
    let of_github =
        issuer.strip_prefix(GITHUB_ISSUER).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    Ok(Certificate {
        subject: subject(extensions)?,
        workflow_name: claims.legacy(4)?,
        build_signer_uri: claims.modern(9)?,
        build_signer_digest: claims.modern(10)?,
        runner: claims.modern(11)?,
        source_repository: claims.repository(&issuer, of_github)?,
        source_digest: claims.either(13, 3)?,
        source_ref: claims.either(14, 6)?,
        source_repository_id: claims.modern(15)?,
        source_owner: claims.modern(16)?,
        source_owner_id: claims.modern(17)?,
        build_config_uri: claims.modern(18)?,
        build_config_digest: claims.modern(19)?,
        trigger: claims.either(20, 2)?,
        run_uri: claims.modern(21)?,
        source_visibility: claims.modern(22)?,
        environment: claims.modern(23)?,
        token_subject: claims.modern(24)?,
        not_before: validity.not_before,
        not_after: validity.not_after,
        issuer,
    })
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Validity {
    /// What a certificate says of itself.
    pub(super) fn of(certificate: &x509_cert::Certificate) -> Result<Self, Refusal> {
        let time = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).map_err(|_| says("has a validity that is out of range"))
        };
        let validity = certificate.tbs_certificate().validity();
        Ok(Self { not_before: time(validity.not_before)?, not_after: time(validity.not_after)? })
    }

    /// Whether the certificate was valid at this time.
    pub(super) fn contains(&self, time: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }
}

/// Parses a certificate; nothing may stand behind it.
pub(super) fn parse(certificate: &[u8]) -> Result<x509_cert::Certificate, Refusal> {
    x509_cert::Certificate::from_der(certificate)
        .map_err(|error| Refusal::unreadable("its certificate cannot be read", &error))
}

fn says(what: &str) -> Refusal {
    Refusal::Certificate(what.to_owned())
}

/// The one subject alternative name: a URI, an e-mail address, or a user name as Fulcio writes it.
fn subject(extensions: &[Extension]) -> Result<String, Refusal> {
    let extension = extensions
        .iter()
        .find(|extension| extension.extn_id == SUBJECT_ALT_NAME)
        .ok_or_else(|| says("has no subject alternative name"))?;
    let names = SubjectAltName::from_der(extension.extn_value.as_bytes())
        .map_err(|_| says("has a subject alternative name that cannot be read"))?;
    let name = match names.0.as_slice() {
        [GeneralName::UniformResourceIdentifier(name) | GeneralName::Rfc822Name(name)] => name.as_str(),
        [GeneralName::OtherName(name)] if name.type_id == USER_NAME => {
            let text = name.value.decode_as::<Utf8StringRef<'_>>();
            return match text {
                Ok(text) => plain(text.as_str(), "subject alternative name").map(str::to_owned),
                Err(_) => Err(says("has a subject alternative name that cannot be read")),
            };
        }
        [_] => {
            return Err(says(
                "has a subject alternative name that is neither a URI, nor an e-mail address, nor a user name",
            ));
        }
        _ => return Err(says("has more than one subject alternative name, or none")),
    };
    plain(name, "subject alternative name").map(str::to_owned)
}

/// The extensions under Fulcio's arc, `1.3.6.1.4.1.57264.1`.
struct Claims<'a> {
    extensions: &'a [Extension],
}

impl<'a> Claims<'a> {
    fn raw(&self, number: u32) -> Option<&'a [u8]> {
        let arcs = [1, 3, 6, 1, 4, 1, 57264, 1, number];
        self.extensions
            .iter()
            .find(|extension| extension.extn_id.arcs().eq(arcs))
            .map(|extension| extension.extn_value.as_bytes())
    }

    /// From 8 on: the DER of a `UTF8String`.
    fn modern(&self, number: u32) -> Result<Option<String>, Refusal> {
        let Some(bytes) = self.raw(number) else { return Ok(None) };
        let text = Utf8StringRef::from_der(bytes)
            .map_err(|_| says(&format!("has an extension {number} that is not a UTF8String")))?;
        let text = plain(text.as_str(), &format!("extension {number}"))?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// Up to 6: the bare text.
    fn legacy(&self, number: u32) -> Result<Option<String>, Refusal> {
        let Some(bytes) = self.raw(number) else { return Ok(None) };
        let text = std::str::from_utf8(bytes)
            .map_err(|_| says(&format!("has an extension {number} that is not text")))?;
        let text = plain(text, &format!("extension {number}"))?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// The modern extension, else the legacy one of the same meaning; both, where they agree.
    fn either(&self, modern: u32, legacy: u32) -> Result<Option<String>, Refusal> {
        match (self.modern(modern)?, self.legacy(legacy)?) {
            (Some(new), Some(old)) if new != old => Err(contradiction(modern, legacy)),
            (new, old) => Ok(new.or(old)),
        }
    }

    /// 12 is a URI; 5 is `owner/repo`, and was GitHub's alone.
    fn repository(&self, issuer: &str, of_github: bool) -> Result<Option<String>, Refusal> {
        match (self.modern(12)?, self.legacy(5)?) {
            (Some(uri), Some(short)) if !is_of(&uri, &short, issuer) => Err(contradiction(12, 5)),
            (Some(uri), _) => Ok(Some(uri)),
            (None, Some(short)) if of_github => Ok(Some(format!("https://github.com/{short}"))),
            (None, _) => Ok(None),
        }
    }
}

fn contradiction(modern: u32, legacy: u32) -> Refusal {
    says(&format!("contradicts itself: its extensions {modern} and {legacy} differ"))
}

/// Whether `https://host/owner/repo` is of the repository `owner/repo`.
fn is_of(uri: &str, short: &str, issuer: &str) -> bool {
    let path = uri.strip_prefix("https://").and_then(|rest| rest.split_once('/')).map(|(_, path)| path);
    let host = path.and_then(|path| uri.strip_suffix(path));
    host.is_some_and(|host| is_same_repository(uri, &format!("{host}{short}"), Some(issuer)))
}

fn plain<'a>(text: &'a str, what: &str) -> Result<&'a str, Refusal> {
    if text.chars().any(char::is_control) {
        return Err(says(&format!("holds control characters in its {what}, {}", quoted(text))));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>, extensions: &[(u64, &[u8])]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.custom_extensions = extensions
            .iter()
            .map(|(number, value)| {
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, *number], value.to_vec())
            })
            .collect();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn refusal(certificate: &[u8]) -> String {
        read(certificate, None).unwrap_err().to_string()
    }

    #[test]
    fn one_name_and_no_more() {
        let issuer: &[(u64, &[u8])] = &[(1, b"https://issuer.example")];
        let one = read(&certificate(vec![uri("https://a.example/b")], issuer), None).unwrap();
        assert_eq!(
            (one.subject.as_str(), one.issuer.as_str()),
            ("https://a.example/b", "https://issuer.example")
        );
        let address = SanType::Rfc822Name("a@b.example".try_into().unwrap());
        for names in [vec![uri("https://a"), uri("https://b")], vec![uri("https://a"), address]] {
            assert!(refusal(&certificate(names, issuer)).contains("more than one"));
        }
        let host = SanType::DnsName("a.example".try_into().unwrap());
        assert!(refusal(&certificate(vec![host], issuer)).contains("neither a URI, nor an e-mail address"));
        assert!(refusal(&certificate(Vec::new(), issuer)).contains("no subject alternative name"));
    }

    #[test]
    fn what_stands_behind_a_certificate_or_a_value_is_refused() {
        let mut bytes = certificate(vec![uri("https://a")], &[(8, b"\x0c\x09https://i")]);
        assert_eq!(read(&bytes, None).unwrap().issuer, "https://i");
        bytes.push(0);
        assert!(matches!(read(&bytes, None), Err(Refusal::Malformed(_))));
        let longer = certificate(vec![uri("https://a")], &[(8, b"\x0c\x09https://i!")]);
        assert!(refusal(&longer).contains("not a UTF8String"));
        let latin = certificate(vec![uri("https://a")], &[(1, b"https://\xe9")]);
        assert!(refusal(&latin).contains("not text"));
    }

    #[test]
    fn every_extension_has_its_field() {
        let number = |n: u64| format!("value {n}");
        let der = |n: u64| [&[0x0c, u8::try_from(number(n).len()).unwrap()], number(n).as_bytes()].concat();
        let raw = |n: u64| number(n).into_bytes();
        // Of the legacy ones, those that say what no modern one says.
        let mut values: Vec<(u64, Vec<u8>)> = (8..=24).map(|n| (n, der(n))).collect();
        values.push((4, raw(4)));
        let with = |values: &[(u64, Vec<u8>)]| {
            let borrowed: Vec<(u64, &[u8])> =
                values.iter().map(|(n, value)| (*n, value.as_slice())).collect();
            certificate(vec![uri("https://a")], &borrowed)
        };
        let read = read(&with(&values), None).unwrap();
        let found = [
            (4, &read.workflow_name),
            (8, &Some(read.issuer.clone())),
            (9, &read.build_signer_uri),
            (10, &read.build_signer_digest),
            (11, &read.runner),
            (12, &read.source_repository),
            (13, &read.source_digest),
            (14, &read.source_ref),
            (15, &read.source_repository_id),
            (16, &read.source_owner),
            (17, &read.source_owner_id),
            (18, &read.build_config_uri),
            (19, &read.build_config_digest),
            (20, &read.trigger),
            (21, &read.run_uri),
            (22, &read.source_visibility),
            (23, &read.environment),
            (24, &read.token_subject),
        ];
        for (n, value) in found {
            assert_eq!(value.as_deref(), Some(number(n).as_str()), "{n}");
        }
        // Each of them bare, as text of another kind, and with something behind it.
        for at in 0..17 {
            let n = values[at].0;
            let printable = [&[0x13], &der(n)[1..]].concat();
            for spoilt in [raw(n), printable, [&der(n)[..], b"x"].concat()] {
                let mut values = values.clone();
                values[at].1 = spoilt;
                assert!(refusal(&with(&values)).contains(&format!("extension {n} that is not a UTF8String")));
            }
        }
        values.push((7, der(7)));
        assert!(refusal(&with(&values)).contains("a user name (7) as an extension"));
    }

    #[test]
    fn an_extension_occurs_once() {
        let once = certificate(vec![uri("https://a")], &[(1, b"https://i")]);
        assert!(read(&once, None).is_ok());
        let twice = certificate(vec![uri("https://a")], &[(1, b"https://i"), (1, b"https://i")]);
        assert!(refusal(&twice).contains("an extension twice"));
    }

    #[test]
    fn the_usual_issuer_is_for_certificates_that_name_none() {
        let usual = Some("https://pki.example");
        let silent = certificate(vec![uri("https://a")], &[]);
        assert_eq!(read(&silent, usual).unwrap().issuer, "https://pki.example");
        assert!(refusal(&silent).contains("names no OIDC issuer"));
        let own = certificate(vec![uri("https://a")], &[(1, b"https://i")]);
        assert_eq!(read(&own, usual).unwrap().issuer, "https://i");
    }
}
