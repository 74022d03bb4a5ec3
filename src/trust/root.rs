//! A trust root: the authorities and logs that vouch for signatures, ready for use.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::json;
use sigstore_crypto::Keyring;
use sigstore_trust_root::{SIGSTORE_GITHUB_TRUSTED_ROOT, SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot};
use sigstore_verify::Verifier;

use super::{
    authority::Alone, chain::Authorities, ends::Ends, refusal::Refusal, sct::CtLogs,
    tsa::TimestampAuthorities,
};
use crate::{
    api::compile::AuthoritySource,
    domain::{digest::Digest, identity::TrustRootName},
};

/// Why a trust root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The file is not a trusted root.
    #[error("this is not a Sigstore trusted root: {0}")]
    Unreadable(#[from] sigstore_trust_root::Error),
    /// A key or certificate in it is not one.
    #[error("the trusted root holds a key or certificate that cannot be used: {0}")]
    Unusable(#[from] sigstore_verify::Error),
    /// An authority's certificate cannot be used.
    #[error("the trusted root holds an authority's certificate that cannot be used: {0}")]
    Authority(#[from] Refusal),
    /// Under it, no signature has a time.
    #[error(
        "the trusted root has neither a transparency log nor a timestamp authority: nothing could say when a signature was made"
    )]
    NoTime,
}

/// One trust root.
pub(super) struct Root {
    pub(super) name: TrustRootName,
    pub(super) authorities: Authorities,
    pub(super) ct_logs: CtLogs,
    pub(super) logs: Keyring,
    pub(super) timestamp_authorities: TimestampAuthorities,
    pub(super) demands: Demands,
    /// Where it is an authority alone.
    pub(super) alone: Option<Alone>,
    pub(super) fingerprint: Digest,
    pub(super) validity: RootValidity,
    pub(super) ends: Ends,
}

/// What every signature under a root must have, which follows from what the root has: nobody can ask for less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demands {
    /// An entry in a transparency log. A root without one (GitHub's own instance) has timestamp authorities instead.
    pub(super) log: bool,
    /// A certificate-transparency timestamp. Only where there are no logs of either kind, there is none to ask for.
    pub(super) sct: bool,
}

/// In which time a trust root is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootValidity {
    /// When the newest of its keys and authorities came into use: a trust root is at least as old as it looks from here.
    pub newest: Option<Timestamp>,
    /// When it no longer vouches for new signatures, because all its logs or all its authorities have ended;
    /// `None`: no end is known. What was signed before stays good.
    pub ends: Option<Timestamp>,
}

impl Root {
    /// The public-good instance, as embedded in the library.
    pub(super) fn public_good() -> Result<Self, RootError> {
        Self::from_json(TrustRootName::default(), SIGSTORE_PRODUCTION_TRUSTED_ROOT)
    }

    /// GitHub's own instance, for the attestations of private repositories, as embedded in the library.
    pub(super) fn github() -> Result<Self, RootError> {
        Self::from_json(TrustRootName::github(), SIGSTORE_GITHUB_TRUSTED_ROOT)
    }

    /// A trust root in the format of Sigstore's `trusted_root.json`.
    pub(super) fn from_json(name: TrustRootName, json: &str) -> Result<Self, RootError> {
        let root = TrustedRoot::from_json(json)?;
        if root.tlogs.is_empty() && root.timestamp_authorities.is_empty() {
            return Err(RootError::NoTime);
        }
        Self::new(name, &root, Digest::of(json.as_bytes()))
    }

    /// An authority that is no Fulcio.
    pub(super) fn authority(name: TrustRootName, source: &AuthoritySource) -> Result<Self, RootError> {
        let chain = |certificates: &[Vec<u8>]| {
            let each = certificates.iter().map(|der| json!({"rawBytes": STANDARD.encode(der)}));
            json!({"subject": {}, "uri": "", "certChain": {"certificates": each.collect::<Vec<_>>()}})
        };
        let json = json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "certificateAuthorities": [chain(&source.certificates)],
            "timestampAuthorities": source.timestamp_authority.as_deref().map(chain).into_iter().collect::<Vec<_>>(),
        });
        let json = json.to_string();
        // What tells it from an instance of the same certificates is part of what it is known by.
        let known_by = format!("{json}{:?}", source.issuer);
        let root = Self::new(name, &TrustedRoot::from_json(&json)?, Digest::of(known_by.as_bytes()))?;
        if source.timestamp_authority.is_some() && root.timestamp_authorities.is_empty() {
            return Err(RootError::NoTime);
        }
        let alone = Alone { issuer: source.issuer.clone(), timeless: source.timestamp_authority.is_none() };
        Ok(Self { alone: Some(alone), ..root })
    }

    fn new(name: TrustRootName, root: &TrustedRoot, fingerprint: Digest) -> Result<Self, RootError> {
        let log = !root.tlogs.is_empty();
        // Refuses keys that cannot be used, logs that are there twice, windows that end before they start.
        Verifier::new(root)?;
        let ends = Ends::of(root)?;
        Ok(Self {
            name,
            authorities: Authorities::of(root)?,
            ct_logs: CtLogs::of(root)?,
            logs: root.rekor_keys()?,
            timestamp_authorities: TimestampAuthorities::of(root)?,
            demands: Demands { log, sct: log || !root.ctlogs.is_empty() },
            alone: None,
            fingerprint,
            validity: RootValidity::of(root, &ends),
            ends,
        })
    }
}

impl RootValidity {
    fn of(root: &TrustedRoot, ends: &Ends) -> Self {
        let authorities = root.certificate_authorities.iter().map(|authority| authority.valid_for);
        let logs = root.tlogs.iter().map(|log| log.public_key.valid_for);
        let logs = logs.chain(root.ctlogs.iter().map(|log| log.public_key.valid_for));
        // A root without logs lives by its timestamp authorities.
        let timestamps = root.timestamp_authorities.iter().map(|authority| authority.valid_for);
        let timestamps = timestamps.filter(|_| root.tlogs.is_empty());
        let windows = authorities.chain(logs).chain(timestamps);
        let newest = windows.flatten().map(|window| window.start).max();
        Self { newest, ends: ends.last() }
    }
}
