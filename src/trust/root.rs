//! A trust root: the authorities and logs that vouch for signatures, ready for use.

use jiff::Timestamp;
use sigstore_crypto::Keyring;
use sigstore_trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TimeRange, TrustedRoot};
use sigstore_verify::Verifier;

use super::{chain::Authorities, sct::CtLogs};
use crate::domain::{digest::Digest, identity::TrustRootName};

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
    Authority(#[from] webpki::Error),
}

/// One trust root.
pub(super) struct Root {
    pub(super) name: TrustRootName,
    pub(super) verifier: Verifier,
    pub(super) authorities: Authorities,
    pub(super) ct_logs: CtLogs,
    pub(super) logs: Keyring,
    pub(super) fingerprint: Digest,
    pub(super) validity: RootValidity,
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

    /// A trust root in the format of Sigstore's `trusted_root.json`.
    pub(super) fn from_json(name: TrustRootName, json: &str) -> Result<Self, RootError> {
        let root = TrustedRoot::from_json(json)?;
        Ok(Self {
            name,
            verifier: Verifier::new(&root)?,
            authorities: Authorities::of(&root)?,
            ct_logs: CtLogs::of(&root)?,
            logs: root.rekor_keys()?,
            fingerprint: Digest::of(json.as_bytes()),
            validity: RootValidity::of(&root),
        })
    }
}

impl RootValidity {
    fn of(root: &TrustedRoot) -> Self {
        let authorities: Vec<_> =
            root.certificate_authorities.iter().map(|authority| authority.valid_for).collect();
        let logs: Vec<_> = root.tlogs.iter().map(|log| log.public_key.valid_for).collect();
        let ct_logs: Vec<_> = root.ctlogs.iter().map(|log| log.public_key.valid_for).collect();
        let parts = [authorities, logs, ct_logs];
        let newest = parts.iter().flatten().flatten().map(|window| window.start).max();
        Self { newest, ends: parts.iter().filter_map(|windows| last_end(windows)).min() }
    }
}

/// The end of the last of these windows; `None` where one is open.
fn last_end(windows: &[Option<TimeRange>]) -> Option<Timestamp> {
    let ends: Option<Vec<_>> = windows.iter().map(|window| window.and_then(|window| window.end)).collect();
    ends?.into_iter().max()
}
