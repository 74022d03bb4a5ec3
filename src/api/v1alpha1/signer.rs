//! Who may sign.

mod builders;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GLOB, MAX_LIST, MAX_PATTERN};
pub use builders::{
    Buildkite, BuildkiteRunner, Github, Gitlab, GitlabRunner, GoogleCloudBuild, RefType, Runner,
};

/// The issuer of GitHub Actions' identities.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
/// The issuer of GitLab's identities.
pub const GITLAB_ISSUER: &str = "https://gitlab.com";

/// What a name is made of.
const NAME: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";
/// What an object's name is made of (RFC 1123).
const OBJECT_NAME: &str = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
/// What the keys of an object's data are made of.
const DATA_KEY: &str = "^[-._a-zA-Z0-9]+$";
const ISSUER: &str = "^https://.+$";
const PEM: &str = r"^-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\r\n]+-----END PUBLIC KEY-----[\r\n]*$";

/// Somebody who may sign: exactly one of github, gitlab, buildkite, googleCloudBuild, certificate, publicKey.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.github) ? 1 : 0) + (has(self.gitlab) ? 1 : 0) + (has(self.buildkite) ? 1 : 0) + (has(self.googleCloudBuild) ? 1 : 0) + (has(self.certificate) ? 1 : 0) + (has(self.publicKey) ? 1 : 0) == 1",
    "message": "is exactly one of github, gitlab, buildkite, googleCloudBuild, certificate, publicKey",
}]))]
pub struct Signer {
    /// A name for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAME))]
    pub name: Option<String>,
    /// A GitHub Actions workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github: Option<Github>,
    /// A GitLab pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<Gitlab>,
    /// A Buildkite pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buildkite: Option<Buildkite>,
    /// A service account that runs builds of Google Cloud Build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_cloud_build: Option<GoogleCloudBuild>,
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
    /// The builder ids that its provenance may claim, as globs; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = GLOB)))]
    pub builder_ids: Vec<String>,
    /// The SLSA build level of what it builds, from 1 to 3, as you know it: no certificate proves one. None: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub level: Option<i32>,
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
    /// What may set off the build, such as push; none: any, and for an issuer of GitHub's push, `workflow_dispatch`, schedule, release, create, `merge_group` and `repository_dispatch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = 64), regex(pattern = "^[a-z_]+$")))]
    pub triggers: Vec<String>,
}

/// A public key as a signer: exactly one of pem, secretRef, configMapRef.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.pem) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) + (has(self.configMapRef) ? 1 : 0) == 1",
    "message": "has exactly one of pem, secretRef, configMapRef",
}]))]
pub struct PublicKey {
    /// The key, PEM (`SubjectPublicKeyInfo`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8192), regex(pattern = PEM))]
    pub pem: Option<String>,
    /// The Secret that has the key: of the policy's own namespace; of Bonafide's for a cluster policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
    /// The config map that has it, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,
    /// Whether the signature must be in the transparency log: Required or Optional.
    #[serde(default)]
    pub transparency_log: TransparencyLog,
}

/// An entry of an object, which holds a public key in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct KeyRef {
    /// The object's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The entry of its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY), extend("default" = "cosign.pub"))]
    pub key: Option<String>,
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
