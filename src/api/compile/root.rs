//! The one way from a `TrustRoot` object to what a root is made of. Whether keys and certificates in it can be used is for whoever
//! verifies with them: see `trust::object`.

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use url::{Host, Url};

use super::{
    fields::{Fields, Note},
    head, shape,
    wire::{self, TrustRootSpec},
};

/// The target that is the trust root, where none is named.
const TARGET: &str = "trusted_root.json";
/// How many certificates an authority may have.
const MOST_CERTIFICATES: usize = 16;

/// What a trust root is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RootSource {
    /// Sigstore's `trusted_root.json`.
    TrustedRoot(String),
    /// A repository that has one.
    Tuf(TufSource),
    /// An authority alone.
    Authority(AuthoritySource),
}

/// A TUF repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TufSource {
    /// Where it is; it ends with a slash.
    pub mirror: Url,
    /// What everything fetched is verified by: a `root.json`.
    pub root: String,
    /// The target that is the trust root.
    pub target: String,
}

/// An authority that is no Fulcio.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuthoritySource {
    /// Its certificates, DER.
    pub certificates: Vec<Vec<u8>>,
    /// The issuer of certificates that name none.
    pub issuer: Option<String>,
    /// The certificates of a timestamp authority, DER, its own first. None: nobody says when a signature was made.
    pub timestamp_authority: Option<Vec<Vec<u8>>>,
}

/// What a `TrustRoot` object became.
#[derive(Debug, Clone)]
pub struct CompiledRoot {
    /// The object's name.
    pub name: String,
    /// What the root is made of; nothing, where something is wrong with it.
    pub source: Option<RootSource>,
    /// What is wrong with it.
    pub errors: Vec<Note>,
    /// What is weaker than it may look.
    pub warnings: Vec<Note>,
}

/// Compiles a `TrustRoot` object, whatever it holds.
pub fn compile_root(object: &Value) -> CompiledRoot {
    let mut fields = Fields::default();
    let name = head::root_name(&mut fields, object);
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let source = if spec.is_null() {
        fields.error("spec", None, "is missing");
        None
    } else {
        let (sound, misshapen) = shape::sound(&mut fields, spec, &shape::TRUST_ROOT);
        let mut rest = Fields::default();
        let source = match serde_path_to_error::deserialize(&sound) {
            Ok(wire) => source(&mut rest, &wire),
            Err(error) => {
                rest.error(&format!("spec.{}", error.path()), None, error.inner().to_string());
                None
            }
        };
        fields.append(rest, |note| !misshapen.explains(&note.field));
        for note in misshapen.untold {
            fields.error_unless_told(note);
        }
        source
    };
    let (errors, warnings) = fields.into_notes();
    CompiledRoot { name, source: source.filter(|_| errors.is_empty()), errors, warnings }
}

fn source(fields: &mut Fields, spec: &TrustRootSpec) -> Option<RootSource> {
    match (&spec.trusted_root, &spec.tuf, &spec.certificate_authority) {
        (Some(json), None, None) => {
            nothing_skipped(fields, spec);
            document(fields, "spec.trustedRoot", json);
            Some(RootSource::TrustedRoot(json.clone()))
        }
        (None, Some(tuf), None) => {
            nothing_skipped(fields, spec);
            self::tuf(fields, tuf).map(RootSource::Tuf)
        }
        (None, None, Some(authority)) => {
            Some(RootSource::Authority(self::authority(fields, spec, authority)))
        }
        _ => {
            fields.error("spec", None, "is exactly one of trustedRoot, tuf, certificateAuthority");
            None
        }
    }
}

/// A root that says itself what it has takes no flag that asks for less.
fn nothing_skipped(fields: &mut Fields, spec: &TrustRootSpec) {
    for (name, skips) in [
        ("unsafeSkipTransparencyLog", spec.unsafe_skip_transparency_log),
        ("unsafeSkipTimestamp", spec.unsafe_skip_timestamp),
    ] {
        if skips == Some(true) {
            let message = "belongs to a certificateAuthority: what has a log is not believed without it, and what a Sigstore instance has its trusted root says";
            fields.error(&format!("spec.{name}"), Some("true"), message);
        }
    }
}

fn document(fields: &mut Fields, field: &str, json: &str) {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(json) {
        fields.error(field, None, format!("is no JSON: {error}"));
    }
}

fn tuf(fields: &mut Fields, wire: &wire::Tuf) -> Option<TufSource> {
    document(fields, "spec.tuf.root", &wire.root);
    let mirror = match mirror(&wire.mirror) {
        Ok(mirror) => Some(mirror),
        Err(message) => {
            fields.error("spec.tuf.mirror", Some(&wire.mirror), message);
            None
        }
    };
    Some(TufSource {
        mirror: mirror?,
        root: wire.root.clone(),
        target: wire.target.clone().unwrap_or_else(|| TARGET.to_owned()),
    })
}

/// The address of a TUF repository.
///
/// # Errors
/// What is wrong with it, to stand behind it.
pub fn mirror(text: &str) -> Result<Url, String> {
    let mut url: Url = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback) {
        return Err("is not an https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a credential, which whoever reads the object would have".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("is a folder, without ? and #".to_owned());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

fn authority(
    fields: &mut Fields,
    spec: &TrustRootSpec,
    wire: &wire::CertificateAuthority,
) -> AuthoritySource {
    const LOG: &str = "spec.unsafeSkipTransparencyLog";
    const TIME: &str = "spec.unsafeSkipTimestamp";
    if spec.unsafe_skip_transparency_log != Some(true) {
        let message = "is not true: an authority alone has no log, so nobody would see a misused key; one with a log is written as trustedRoot";
        fields.error(LOG, None, message);
    }
    let skips_time = spec.unsafe_skip_timestamp == Some(true);
    match (&wire.timestamp_authority, skips_time) {
        (None, false) => fields.error(
            "spec.certificateAuthority.timestampAuthority",
            None,
            "is missing: nothing would say when a signature was made; without one, unsafeSkipTimestamp must be true",
        ),
        (Some(_), true) => {
            fields.error(TIME, Some("true"), "is refused beside a timestampAuthority, which says the time");
        }
        (None, true) => {
            let message = "believes whoever has a key, also after its certificate has ended";
            fields.warn(TIME, Some("true"), message);
        }
        (Some(_), false) => {}
    }
    if wire.issuer.is_none() {
        let message = "is missing: certificates that name no OIDC issuer of their own satisfy no signer";
        fields.warn("spec.certificateAuthority.issuer", None, message);
    }
    let certificates =
        self::certificates(fields, "spec.certificateAuthority.certificates", &wire.certificates);
    let timestamp_authority = wire
        .timestamp_authority
        .as_ref()
        .map(|pem| self::certificates(fields, "spec.certificateAuthority.timestampAuthority", pem));
    AuthoritySource { certificates, issuer: wire.issuer.clone(), timestamp_authority }
}

/// The certificates of a PEM text. What else is in it, a key above all, is refused.
fn certificates(fields: &mut Fields, field: &str, pem: &str) -> Vec<Vec<u8>> {
    let blocks = pem.matches("-----BEGIN ").count();
    let read: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        _ if pem.contains("PRIVATE KEY-----") => {
            let message = "holds a private key, and whoever can read the object has it now: make a new pair, and write its certificate";
            fields.error(field, None, message);
        }
        Ok(all) if all.is_empty() || all.len() != blocks => {
            fields.error(field, None, "is not one certificate after the other in PEM: -----BEGIN CERTIFICATE-----, base64, -----END CERTIFICATE-----");
        }
        Ok(all) if all.len() > MOST_CERTIFICATES => {
            fields.error(
                field,
                None,
                format!("has {} certificates; at most {MOST_CERTIFICATES} are accepted", all.len()),
            );
        }
        Ok(all) => return all.into_iter().map(|certificate| certificate.to_vec()).collect(),
        Err(_) => fields.error(field, None, "is no PEM: what stands between its lines is not base64"),
    }
    Vec::new()
}

#[cfg(test)]
mod tests;
