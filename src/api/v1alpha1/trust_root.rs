//! Whom signers' certificates and logs are believed by, beside what is built in.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PolicyStatus;

/// How long a trust root may be; Sigstore's public one has some 7000 characters.
const MAX_ROOT: usize = 256 * 1024;
/// How long a list of certificates may be.
const MAX_CERTIFICATES: usize = 64 * 1024;
/// What is not within printable ASCII has no place in JSON that machines write, nor in PEM.
const DOCUMENT: &str = r"^\s*\{[\s\S]*\}\s*$";
const PEM: &str = r"^\s*-----BEGIN CERTIFICATE-----[\s\S]+-----END CERTIFICATE-----\s*$";
const URL: &str = "^https?://[^ ]+$";
const ISSUER: &str = "^https://.+$";
/// A path below the mirror's folder of targets, none of whose parts is `..`.
const TARGET: &str = r"^[A-Za-z0-9_-]([A-Za-z0-9_/-]|\.[A-Za-z0-9_-])*$";

/// What a `TrustRoot` says: an instance of Sigstore, or an authority, that signers may name as their `trustRoot`. Exactly one of trustedRoot, tuf, certificateAuthority.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(has(self.trustedRoot) ? 1 : 0) + (has(self.tuf) ? 1 : 0) + (has(self.certificateAuthority) ? 1 : 0) == 1",
        "message": "is exactly one of trustedRoot, tuf, certificateAuthority",
    },
    {
        "rule": "has(self.certificateAuthority) || !((has(self.unsafeSkipTransparencyLog) && self.unsafeSkipTransparencyLog) || (has(self.unsafeSkipTimestamp) && self.unsafeSkipTimestamp))",
        "message": "nothing is skipped under a root that says itself what it has",
    },
    {
        "rule": "!has(self.certificateAuthority) || (has(self.unsafeSkipTransparencyLog) && self.unsafeSkipTransparencyLog)",
        "message": "an authority alone has no log: unsafeSkipTransparencyLog must be true",
        "fieldPath": ".unsafeSkipTransparencyLog",
    },
    {
        "rule": "!has(self.certificateAuthority) || has(self.certificateAuthority.timestampAuthority) != (has(self.unsafeSkipTimestamp) && self.unsafeSkipTimestamp)",
        "message": "is either a timestampAuthority or unsafeSkipTimestamp: true",
    },
]))]
#[kube(
    group = "bonafide.dev",
    version = "v1alpha1",
    kind = "TrustRoot",
    plural = "trustroots",
    shortname = "troot",
    category = "bonafide",
    status = "PolicyStatus",
    doc = "A TrustRoot is an instance of Sigstore, or a certificate authority, that signers of policies may name as their trustRoot. Without it nothing that it would vouch for is believed.",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
pub struct TrustRootSpec {
    /// A Sigstore instance: its `trusted_root.json`, as text. What it demands of a signature follows from what it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = MAX_ROOT), regex(pattern = DOCUMENT))]
    pub trusted_root: Option<String>,
    /// A Sigstore instance whose trust root is fetched from a TUF repository, and followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuf: Option<Tuf>,
    /// A certificate authority that is no Fulcio: it has no logs, and its certificates need not name an OIDC issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_authority: Option<CertificateAuthority>,
    /// Believe signatures that no log has, so that nobody sees a misused key. Only for an authority alone, which has no log, and needed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsafe_skip_transparency_log: Option<bool>,
    /// Believe signatures of which nobody says when they were made: whoever gets hold of a key can use it after its certificate has ended. Only for an authority alone that has no timestamp authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsafe_skip_timestamp: Option<bool>,
}

/// A TUF repository that has a `trusted_root.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["mirror", "root"]))]
pub struct Tuf {
    /// Where it is: an https URL.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 9, max = 1024), regex(pattern = URL))]
    pub mirror: String,
    /// A `root.json` of it, of any version: what everything fetched is verified by.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 2, max = MAX_ROOT), regex(pattern = DOCUMENT))]
    pub root: String,
    /// The target that is the trust root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = TARGET), extend("default" = "trusted_root.json"))]
    pub target: Option<String>,
}

/// A certificate authority that is no Fulcio.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["certificates"]))]
pub struct CertificateAuthority {
    /// The authority's certificates, PEM: roots and intermediates, each of which may issue.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = MAX_CERTIFICATES), regex(pattern = PEM))]
    pub certificates: String,
    /// The issuer that signers name for certificates which name none of their own, such as `https://pki.example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512), regex(pattern = ISSUER))]
    pub issuer: Option<String>,
    /// The certificates of a timestamp authority (RFC 3161), PEM: its own, then those above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_CERTIFICATES), regex(pattern = PEM))]
    pub timestamp_authority: Option<String>,
}
