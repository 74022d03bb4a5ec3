//! Who may sign.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_LIST, MAX_PATTERN};

/// The issuer of GitHub Actions' identities.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// What a name is made of.
const NAME: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
/// What an object's name is made of (RFC 1123).
const OBJECT_NAME: &str = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
const ISSUER: &str = "^https://.+$";
const NUMBER: &str = "^[0-9]+$";
const OWNER_AND_REPOSITORY: &str = "^[A-Za-z0-9._-]+/[A-Za-z0-9._*?-]+$";
const WORKFLOW: &str = r"^([^/@*?]+/[^/@*?]+/)?\.github/workflows/[^/@*?]+\.ya?ml$";
const REF: &str = "^refs/.+$";
const REF_OR_COMMIT: &str = "^(refs/.+|[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$";
const PEM: &str = r"^-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\r\n]+-----END PUBLIC KEY-----[\r\n]*$";

/// Somebody who may sign: exactly one of github, certificate, publicKey.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.github) ? 1 : 0) + (has(self.certificate) ? 1 : 0) + (has(self.publicKey) ? 1 : 0) == 1",
    "message": "is exactly one of github, certificate, publicKey",
}]))]
pub struct Signer {
    /// A name for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: Option<String>,
    /// A GitHub Actions workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<Github>,
    /// Any certificate with this issuer and subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSigner>,
    /// A public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKey>,
    /// The trust root that the certificate must chain to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME), extend("default" = "sigstore"))]
    pub trust_root: Option<String>,
}

/// A GitHub Actions workflow as a signer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["repository"], "x-kubernetes-validations" = [{
    "rule": "has(self.workflow) || !has(self.workflowRefs) || self.workflowRefs.size() == 0",
    "message": "belongs to a workflow, and none is named",
    "fieldPath": ".workflowRefs",
}]))]
pub struct Github {
    /// The source repository, `owner/repo`; the name may be a glob, the owner not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 3, max = 256), regex(pattern = OWNER_AND_REPOSITORY))]
    pub repository: String,
    /// The source repository's immutable id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), regex(pattern = NUMBER))]
    pub repository_id: Option<String>,
    /// The immutable id of the source repository's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), regex(pattern = NUMBER))]
    pub owner_id: Option<String>,
    /// The signing workflow: its path, or `owner/repo/path` of another repository. Without it, any workflow of the source repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_PATTERN), regex(pattern = WORKFLOW))]
    pub workflow: Option<String>,
    /// The refs (globs) or full commits that the signing workflow may be called at; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = REF_OR_COMMIT)))]
    pub workflow_refs: Vec<String>,
    /// The source refs, as globs, or with `${image.tag}` for the tag that was asked for; none: every branch and tag, never a pull request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = REF)))]
    pub refs: Vec<String>,
    /// The events that may set off the build, such as push; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = 64), regex(pattern = "^[a-z_]+$")))]
    pub triggers: Vec<String>,
    /// The runner that the build must have run on; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<Runner>,
    /// The OIDC issuer; an enterprise has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512), regex(pattern = ISSUER), extend("default" = GITHUB_ISSUER))]
    pub issuer: Option<String>,
}

/// The runner that the build must have run on; none: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// GitHub's own machines.
    GithubHosted,
    /// Anybody's.
    SelfHosted,
}

/// A certificate's issuer and subject as a signer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["issuer"], "x-kubernetes-validations" = [{
    "rule": "has(self.subject) != has(self.subjectRegex)",
    "message": "has exactly one of subject and subjectRegex",
}]))]
pub struct CertificateSigner {
    /// The OIDC issuer, exactly.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 9, max = 512), regex(pattern = ISSUER))]
    pub issuer: String,
    /// The subject alternative name, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject: Option<String>,
    /// The subject alternative name, as a regular expression over the whole of it: it is anchored at both ends, whatever it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub subject_regex: Option<String>,
}

/// A public key as a signer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicKey {
    /// The key, PEM (`SubjectPublicKeyInfo`).
    #[schemars(length(min = 1, max = 8192), regex(pattern = PEM))]
    pub pem: String,
    /// Whether the signature must be in the transparency log: Required or Optional.
    #[serde(default)]
    pub transparency_log: TransparencyLog,
}

/// Whether a signature must be in the transparency log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TransparencyLog {
    /// It must.
    #[default]
    Required,
    /// It need not.
    Optional,
}
