//! The wire types of `bonafide.dev/v1alpha1`: what is written in a policy. Nothing is checked here but the shape; [`super::compile`]
//! turns it into what is decided with.
//!
//! Every object refuses unknown fields: a misspelt field must not silently ask for less.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The group and version of the objects here.
pub const API_VERSION: &str = "bonafide.dev/v1alpha1";

/// What a `ProvenancePolicy` or a `ClusterProvenancePolicy` says.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    /// What its verdict does.
    #[serde(default)]
    pub mode: Mode,
    /// Which images it is about.
    pub images: Images,
    /// Which digest an attestation must name.
    #[serde(default)]
    pub subject: Subject,
    /// What becomes of a pod of whose platforms only some are covered.
    #[serde(default)]
    pub uncovered_platforms: UncoveredPlatforms,
    /// What a reference without digest gets.
    #[serde(default)]
    pub tags: Tags,
    /// Who may sign; any one suffices.
    #[serde(default)]
    pub signers: Vec<Signer>,
    /// What the verified statement must say.
    #[serde(default)]
    pub provenance: Provenance,
    /// The namespaces of a `ClusterProvenancePolicy`; an empty selector selects all.
    pub namespace_selector: Option<LabelSelector>,
}

/// What a policy's verdict does.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Denies.
    #[default]
    Enforce,
    /// Admits with a warning.
    Warn,
    /// Records.
    Audit,
}

/// Which digest an attestation must name.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub enum Subject {
    /// The manifest's own or an index's that leads to it.
    #[default]
    Any,
    /// The manifest's own.
    Platform,
}

/// What becomes of a pod of whose platforms only some are covered.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum UncoveredPlatforms {
    /// It is denied.
    #[default]
    Deny,
    /// It is kept on the covered ones.
    Constrain,
}

/// What a reference without digest gets.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub enum Tags {
    /// Nothing.
    Allow,
    /// A warning.
    #[default]
    Warn,
    /// A denial.
    Deny,
}

/// Which images a policy is about.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// Globs over the normalised repository, such as `ghcr.io/org/**`.
    #[serde(default)]
    pub include: Vec<String>,
    /// Globs that take images out again.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// Somebody who may sign: exactly one of `github`, `certificate`, `publicKey`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signer {
    /// A name for messages.
    pub name: Option<String>,
    /// A GitHub Actions workflow.
    pub github: Option<Github>,
    /// Any certificate with this issuer and subject.
    pub certificate: Option<CertificateSigner>,
    /// A public key.
    pub public_key: Option<serde_json::Value>,
    /// The trust root the certificate must chain to.
    pub trust_root: Option<String>,
}

/// A GitHub Actions workflow as a signer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Github {
    /// The source repository, `owner/repo`; the name may be a glob, the owner not.
    #[serde(default)]
    pub repository: String,
    /// The source repository's immutable id.
    pub repository_id: Option<String>,
    /// The immutable id of the source repository's owner.
    pub owner_id: Option<String>,
    /// The signing workflow: its path, or `owner/repo/path` of another repository.
    pub workflow: Option<String>,
    /// The refs or commits that the signing workflow may be called at.
    #[serde(default)]
    pub workflow_refs: Vec<String>,
    /// The source refs; none: every branch and tag, never a pull request.
    #[serde(default)]
    pub refs: Vec<String>,
    /// The events that may set off the build; none: any.
    #[serde(default)]
    pub triggers: Vec<String>,
    /// `github-hosted` or `self-hosted`.
    pub runner: Option<String>,
    /// The OIDC issuer.
    pub issuer: Option<String>,
}

/// A certificate's issuer and subject as a signer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateSigner {
    /// The OIDC issuer, exactly.
    #[serde(default)]
    pub issuer: String,
    /// The subject alternative name, exactly.
    pub subject: Option<String>,
    /// The subject alternative name, as a regular expression over the whole of it.
    pub subject_regex: Option<String>,
}

/// What the verified statement must say.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provenance {
    /// Accepted predicate types.
    #[serde(default)]
    pub types: Vec<String>,
    /// Accepted builder ids, as globs.
    #[serde(default)]
    pub builder_ids: Vec<String>,
    /// Accepted build types, as globs.
    #[serde(default)]
    pub build_types: Vec<String>,
    /// The claimed source.
    pub source: Option<Source>,
    /// How old the build may be, such as `2160h`.
    pub max_age: Option<String>,
    /// Conditions in CEL.
    #[serde(default)]
    pub conditions: Vec<serde_json::Value>,
}

/// The claimed source.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Its URI.
    pub repository: Option<String>,
    /// Its refs, as globs.
    #[serde(default)]
    pub refs: Vec<String>,
}

/// A label selector, as everywhere in Kubernetes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must be there with these values.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(default)]
    pub match_expressions: Vec<LabelExpression>,
}

/// A requirement of a label selector.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: LabelOperator,
    /// The values of `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// The operators of a label selector.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// One of the values.
    In,
    /// None of the values.
    NotIn,
    /// There.
    Exists,
    /// Not there.
    DoesNotExist,
}
