//! The wire types of `bonafide.dev/v1alpha1`: what is written in a policy, and the bounds of it. The custom resource definitions are
//! made from these types, and [`super::compile`] holds what it is given against the same schema before it turns it into what is
//! decided with: a bound is written once, here.
//!
//! Every object refuses unknown fields: a misspelt field must not silently ask for less.

mod attestations;
mod provenance;
mod selector;
mod signer;
mod status;
mod trust_root;
mod vsa;

use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use attestations::Attestations;
pub use provenance::{Condition, PredicateType, Provenance, Source};
pub use selector::{LabelExpression, LabelOperator, LabelSelector};
pub use signer::{
    Buildkite, BuildkiteRunner, CertificateSigner, GITHUB_ISSUER, GITLAB_ISSUER, Github, Gitlab,
    GitlabRunner, GoogleCloudBuild, KeyRef, PublicKey, RefType, Runner, Signer, TransparencyLog,
};
pub use status::PolicyStatus;
pub use trust_root::{CertificateAuthority, TrustRoot, TrustRootSpec, Tuf};
pub use vsa::Vsa;

/// The group and version of the objects here.
pub const API_VERSION: &str = "bonafide.dev/v1alpha1";

/// How many entries a list may have. It keeps what the API server checks, and what a review costs, within bounds.
pub(super) const MAX_LIST: usize = 64;
/// How long a pattern may be.
const MAX_PATTERN: usize = 512;
/// What any glob is made of.
const GLOB: &str = r"^[^\[\]{}\\]+$";

/// What a `ProvenancePolicy` says: the images of its namespace that it names are admitted only with provenance, signed by somebody whom it names.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["images"]))]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.signers) || (has(self.vsa) && has(self.vsa.signers) && size(self.vsa.signers) > 0)",
    "message": "signers is missing: name who may sign provenance, or in vsa.signers who may sign summaries",
}]))]
#[kube(
    group = "bonafide.dev",
    version = "v1alpha1",
    kind = "ProvenancePolicy",
    plural = "provenancepolicies",
    shortname = "pp",
    category = "bonafide",
    namespaced,
    status = "PolicyStatus",
    doc = "A ProvenancePolicy says which images of its namespace need signed provenance, and who must have signed it. Policies only ever add requirements: all that name an image must be satisfied.",
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Images", "type": "string", "jsonPath": ".spec.images.include"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
pub struct PolicySpec {
    /// What its verdict does: Enforce denies, Warn admits with a warning, Audit records and says nothing to whoever applies.
    #[serde(default)]
    pub mode: Mode,
    /// Which images it is about.
    pub images: Images,
    /// Which digest an attestation must name: Any takes the manifest's own or that of an index which leads to it, Platform the manifest's own alone.
    #[serde(default)]
    pub subject: Subject,
    /// What becomes of a pod of whose platforms only some are covered: Deny denies it, Constrain keeps it on the covered ones.
    #[serde(default)]
    pub uncovered_platforms: UncoveredPlatforms,
    /// What a reference without digest gets: Allow nothing, Warn a warning, Deny a denial.
    #[serde(default)]
    pub tags: Tags,
    /// Who may sign provenance; any one suffices. Names must differ. It may be missing where `vsa.signers` names who may sign summaries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = MAX_LIST),
        extend("x-kubernetes-validations" = [{
            "rule": "self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && b.name == a.name))",
            "message": "two signers have the same name",
        }])
    )]
    pub signers: Vec<Signer>,
    /// What the verified statement must say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub provenance: Provenance,
    /// Where attestations are looked for, beside the image's own repository.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attestations: Attestations,
    /// Which verification summaries suffice in place of provenance, and who may sign them; none: no summary does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vsa: Option<Vsa>,
}

/// What a `ClusterProvenancePolicy` says: the same, and for which namespaces.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "bonafide.dev",
    version = "v1alpha1",
    kind = "ClusterProvenancePolicy",
    plural = "clusterprovenancepolicies",
    shortname = "cpp",
    category = "bonafide",
    status = "PolicyStatus",
    doc = "A ClusterProvenancePolicy says which images need signed provenance, and who must have signed it, in every namespace that it selects. Policies only ever add requirements: all that name an image must be satisfied.",
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Images", "type": "string", "jsonPath": ".spec.images.include"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
pub struct ClusterPolicySpec {
    /// What it says of images, signers and provenance.
    #[serde(flatten)]
    pub policy: PolicySpec,
    /// The namespaces that it is for, by their labels; without it, and where it is empty, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
}

/// What a policy's verdict does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Subject {
    /// The manifest's own or an index's that leads to it.
    #[default]
    Any,
    /// The manifest's own.
    Platform,
}

/// What becomes of a pod of whose platforms only some are covered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UncoveredPlatforms {
    /// It is denied.
    #[default]
    Deny,
    /// It is kept on the covered ones.
    Constrain,
}

/// What a reference without digest gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tags {
    /// Nothing.
    Allow,
    /// A warning.
    #[default]
    Warn,
    /// A denial.
    Deny,
}

/// How long a glob over repositories may be: as long as their names.
const MAX_REPOSITORY: usize = 255;

/// What is said of a pattern without a slash.
pub(super) const NO_REGISTRY: &str =
    "has no registry and path, so it matches nothing; write docker.io/library/NAME, or ghcr.io/owner/**";
/// What is said of a URL.
pub(super) const WITH_SCHEME: &str = "is matched against registry/path: write it without the scheme";
/// What is said of a whole reference.
pub(super) const WITH_TAG: &str = "a policy is about repositories: write it without tag and digest";
/// What is said of what no name has.
pub(super) const NOT_OF_NAMES: &str = "has a character that no repository's name has: it begins with a letter, a digit, * or ?, and may go on with . _ - : and /, all in lower case";

/// Whether a pattern over repositories may have it.
pub(super) const fn is_of_repository_glob(byte: u8) -> bool {
    byte.is_ascii_lowercase()
        || byte.is_ascii_digit()
        || matches!(byte, b'*' | b'?' | b'.' | b'_' | b'-' | b':' | b'/')
}

/// The schema of globs over repositories. What can never match would protect nothing: the API server refuses it when it is applied.
fn repository_globs() -> Value {
    let rule = |rule: &str, message: &str| json!({"rule": rule, "message": message});
    json!({
        "type": "array",
        "maxItems": MAX_LIST,
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_REPOSITORY,
            "x-kubernetes-validations": [
                rule("self.matches('^[a-z0-9*?][a-z0-9*?._:/-]*$')", NOT_OF_NAMES),
                // By a policy for `none`, which the webhook refuses, leaders of versions without probes see that the webhook is reached.
                rule("self.contains('/') || self.contains('**') || self == 'none'", NO_REGISTRY),
                rule("!self.contains('://')", WITH_SCHEME),
                rule("self.contains('://') || !self.matches('/.*:')", WITH_TAG),
                rule(
                    "!self.contains('/') || self.matches('^([^/]*[.:*?][^/]*|localhost)/')",
                    "matches nothing: it begins with no registry; Docker Hub's images are matched as docker.io/owner/NAME",
                ),
                rule(
                    "self.contains('**') || !self.matches('^docker[.]io/[^/]*$')",
                    "matches nothing: Docker Hub's own images are matched as docker.io/library/NAME",
                ),
            ],
        },
    })
}

fn globs_to_include(_: &mut SchemaGenerator) -> Schema {
    let mut schema = Schema::try_from(repository_globs()).unwrap_or_default();
    schema.insert("minItems".to_owned(), 1.into());
    schema
}

fn globs_to_exclude(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(repository_globs()).unwrap_or_default()
}

/// Which images a policy is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["include"]))]
pub struct Images {
    /// Globs over the normalised repository, such as `ghcr.io/org/**`: `*` stays within a segment, `**` crosses segments. Any one suffices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "globs_to_include")]
    pub include: Vec<String>,
    /// Globs that take images out again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "globs_to_exclude")]
    pub exclude: Vec<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
