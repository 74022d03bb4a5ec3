//! A throwaway Sigstore made in memory: certificate authority, certificate-transparency log,
//! transparency logs (Rekor v1 and v2) and RFC 3161 timestamping authority, the trust root that describes
//! them, and signatures of their making — right ones, and wrong ones with one [`Defect`] each.
//!
//! It must not depend on Bonafide or on a library that Bonafide verifies with: formats are written
//! here from their specifications, so that a misreading on one side does not pass on both.
//!
//! ```
//! use bonafide_kit::sigstore::{Build, BundleVersion, Defect, EntryKind, Identity, Sigstore, statement_v1};
//!
//! let sigstore = Sigstore::new();
//! let trusted_root = sigstore.trusted_root_json();
//! let builder = Identity::github("acme/app", ".github/workflows/build.yml", "refs/heads/main", "push");
//! let statement = statement_v1(&[("ghcr.io/acme/app", &"ab".repeat(32))], &Build::of(&builder));
//!
//! let good = sigstore.sign_statement(&builder, statement.to_string());
//! let bundle = good.bundle_json(BundleVersion::V03);
//! let legacy = sigstore.signing(&builder).entry(EntryKind::Intoto001).sign(statement.to_string());
//! let (layer, annotations) = legacy.cosign_att_layer();
//! let forged = sigstore.sign_with_defect(&builder, statement.to_string(), Defect::SctMissing);
//! # let _ = (trusted_root, bundle, layer, annotations, forged);
//! ```

mod body;
mod ca;
mod defect;
mod der;
mod identity;
mod keys;
mod rekor;
pub mod services;
mod signed;
mod signing;
mod statement;
mod tsa;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub use defect::Defect;
pub use identity::{GITHUB_ISSUER, Identity, San};
pub(crate) use keys::{hexadecimal, pem};
pub use signed::{BundleVersion, DSSE_MEDIA_TYPE, EntryKind, Signed};
use signing::Signer;
pub use signing::{IN_TOTO, Signing};
pub use statement::{
    Build, COSIGN_SIGN, SLSA_V1, SLSA_V02, statement_cosign_sign, statement_v1, statement_v02,
};

use ca::{Authority, Validities};
use keys::{Key, base64};
pub use keys::{KeyKind, SigningKey};
use rekor::Log;
use tsa::Tsa;

/// How a Sigstore differs from the usual.
#[derive(Clone, Debug)]
pub struct Builder {
    organisation: String,
    rekor_host: String,
    valid_from: Timestamp,
    valid_until: Timestamp,
    sct: bool,
    log: bool,
    authority_keys: KeyKind,
    certificates: Vec<(AuthorityCertificate, Timestamp, Timestamp)>,
}

/// One of the certificates of a trust root's authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityCertificate {
    /// The root of the certificate authority.
    Root,
    /// The intermediate that issues.
    Intermediate,
    /// The root of the timestamp authority.
    TimestampRoot,
    /// The certificate that signs timestamps.
    TimestampSigner,
}

/// One set of keys. A Sigstore has two: the one that its trust root describes, and a stranger's with
/// the same names, for what must not be trusted.
#[derive(Debug)]
struct Parts {
    authority: Authority,
    ct_key: Key,
    log: Log,
    log_v2: Log,
    tsa: Tsa,
}

/// A Sigstore instance of its own.
#[derive(Debug)]
pub struct Sigstore {
    settings: Builder,
    trusted: Parts,
    stranger: Parts,
}

impl Default for Builder {
    fn default() -> Self {
        let decade = SignedDuration::from_hours(10 * 365 * 24);
        let now = truncated(Timestamp::now());
        Self {
            organisation: "throwaway.example".to_owned(),
            rekor_host: "rekor.throwaway.example".to_owned(),
            valid_from: now - decade,
            valid_until: now + decade,
            sct: true,
            log: true,
            authority_keys: KeyKind::P384,
            certificates: Vec::new(),
        }
    }
}

impl Builder {
    /// The organisation in the certificates' names.
    #[must_use]
    pub fn organisation(mut self, name: &str) -> Self {
        name.clone_into(&mut self.organisation);
        self
    }

    /// The host name of the transparency log, which its checkpoints bear.
    #[must_use]
    pub fn rekor_host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.rekor_host);
        self
    }

    /// The validity of the authorities' certificates and of every key in the trust root; otherwise ten
    /// years before and after now.
    #[must_use]
    pub fn valid_between(mut self, from: Timestamp, until: Timestamp) -> Self {
        (self.valid_from, self.valid_until) = (truncated(from), truncated(until));
        self
    }

    /// The validity of this certificate; the trust root says of the authority what it says.
    #[must_use]
    pub fn certificate_valid_between(
        mut self,
        certificate: AuthorityCertificate,
        from: Timestamp,
        until: Timestamp,
    ) -> Self {
        self.certificates.push((certificate, truncated(from), truncated(until)));
        self
    }

    /// The kind of the certificate authority's keys; otherwise P-384.
    #[must_use]
    pub fn authority_keys(mut self, kind: KeyKind) -> Self {
        self.authority_keys = kind;
        self
    }

    /// As GitHub's own instance is: no certificate-transparency log, no transparency log, and a
    /// timestamp with each signature.
    #[must_use]
    pub fn timestamps_only(mut self) -> Self {
        (self.sct, self.log) = (false, false);
        self
    }

    /// Make the keys and certificates.
    pub fn build(self) -> Sigstore {
        let (trusted, stranger) = (self.parts(), self.parts());
        Sigstore { settings: self, trusted, stranger }
    }

    fn parts(&self) -> Parts {
        let validity = |of: AuthorityCertificate| {
            let own = self.certificates.iter().find(|(certificate, ..)| *certificate == of);
            own.map_or((self.valid_from, self.valid_until), |(_, from, until)| (*from, *until))
        };
        let authority = Validities {
            root: validity(AuthorityCertificate::Root),
            lower: validity(AuthorityCertificate::Intermediate),
        };
        let tsa = Validities {
            root: validity(AuthorityCertificate::TimestampRoot),
            lower: validity(AuthorityCertificate::TimestampSigner),
        };
        Parts {
            authority: Authority::new(&self.organisation, "throwaway", self.authority_keys, authority),
            ct_key: Key::generate(KeyKind::P256),
            log: Log::new(&self.rekor_host),
            log_v2: Log::v2(&format!("log2025-1.{}", self.rekor_host)),
            tsa: Tsa::new(&self.organisation, tsa),
        }
    }
}

impl Default for Sigstore {
    fn default() -> Self {
        Self::new()
    }
}

impl Sigstore {
    /// An instance like the public one in its parts.
    pub fn new() -> Self {
        Builder::default().build()
    }

    /// An instance that differs.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Sign with everything right, as of now.
    pub fn sign_statement(&self, identity: &Identity, statement: impl AsRef<[u8]>) -> Signed {
        self.signing(identity).sign(statement)
    }

    /// Sign with this wrong, as of now.
    pub fn sign_with_defect(
        &self,
        identity: &Identity,
        statement: impl AsRef<[u8]>,
        defect: Defect,
    ) -> Signed {
        self.signing(identity).defect(defect).sign(statement)
    }

    /// Sign, with a choice of time, log entry, timestamp and defect.
    pub fn signing(&self, identity: &Identity) -> Signing<'_> {
        Signing::new(self, Signer::Identity(Box::new(identity.clone())))
    }

    /// The same with a key in place of a certificate.
    pub fn signing_with<'a>(&'a self, key: &'a SigningKey) -> Signing<'a> {
        Signing::new(self, Signer::Key(&key.0))
    }

    /// A certificate for somebody's key, then the intermediate and the root that issued it; PEM.
    pub fn certificates_for(&self, identity: &Identity, key: &SigningKey) -> [String; 3] {
        let Authority { intermediate, root } = &self.trusted.authority;
        let leaf = self.signing(identity).certificate_for(&key.0);
        [&leaf, &intermediate.certificate, &root.certificate].map(|der| pem("CERTIFICATE", der))
    }

    /// The trust root, in the format of Sigstore's `trusted_root.json`.
    pub fn trusted_root_json(&self) -> String {
        self.trusted_root().to_string()
    }

    /// The same, to be edited.
    pub fn trusted_root(&self) -> Value {
        let Parts { authority, ct_key, log, log_v2, tsa } = &self.trusted;
        let chain = [&authority.intermediate, &authority.root];
        let mut tlogs: Vec<Value> = [log, log_v2]
            .map(|log| self.log_json(&format!("https://{}", log.host), &log.key, &log.id()))
            .to_vec();
        let mut ctlogs = vec![self.log_json("https://ctfe.throwaway.example/log", ct_key, &ct_key.id())];
        if !self.settings.log {
            tlogs.clear();
        }
        if !self.settings.sct {
            ctlogs.clear();
        }
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": tlogs,
            "certificateAuthorities": [self.authority_json("throwaway", "https://fulcio.throwaway.example", &chain)],
            "ctlogs": ctlogs,
            "timestampAuthorities": [self.authority_json(
                "throwaway-tsa",
                "https://timestamp.throwaway.example/api/v1/timestamp",
                &[&tsa.signer, &tsa.root],
            )],
        })
    }

    fn log_json(&self, url: &str, key: &Key, id: &[u8; 32]) -> Value {
        json!({
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": base64(&key.spki()),
                "keyDetails": key.kind.details(),
                "validFor": self.window_json(),
            },
            "logId": { "keyId": base64(id) },
        })
    }

    fn authority_json(&self, name: &str, uri: &str, chain: &[&ca::Issuer]) -> Value {
        let certificates: Vec<Value> =
            chain.iter().map(|issuer| json!({ "rawBytes": base64(&issuer.certificate) })).collect();
        json!({
            "subject": { "organization": self.settings.organisation, "commonName": name },
            "uri": uri,
            "certChain": { "certificates": certificates },
            "validFor": self.window_json(),
        })
    }

    fn window_json(&self) -> Value {
        json!({
            "start": self.settings.valid_from.to_string(),
            "end": self.settings.valid_until.to_string(),
        })
    }
}

/// Certificates and logs know whole seconds only.
fn truncated(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_may_be_shared_between_threads() {
        fn shared<T: Send + Sync + 'static>(_: &T) {}
        shared(&Sigstore::new());
    }

    #[test]
    fn proofs_hold_for_trees_of_every_size() {
        let log = Log::new("rekor.example");
        for index in 0..40_u64 {
            let body = index.to_be_bytes();
            let proof = log.append(&body);
            assert_eq!(proof.tree_size, proof.tree_index + 1);
            assert_ne!(proof.log_index, proof.tree_index);
            // The newest leaf is rightmost, so that every sibling is to its left.
            let leaf = keys::sha256(&[&[0], body.as_slice()].concat());
            let root = proof
                .hashes
                .iter()
                .fold(leaf, |right, left| keys::sha256(&[&[1], left.as_slice(), &right].concat()));
            assert_eq!(root, proof.root);
        }
    }

    #[test]
    fn defects_are_listed_once() {
        let all: std::collections::HashSet<_> = Defect::ALL.into_iter().collect();
        assert_eq!(all.len(), Defect::ALL.len());
    }
}
