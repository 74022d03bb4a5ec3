//! Build systems as signers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    super::{MAX_LIST, MAX_PATTERN},
    GITHUB_ISSUER, GITLAB_ISSUER, ISSUER,
};

const NUMBER: &str = "^[0-9]+$";
const OWNER_AND_REPOSITORY: &str = "^[A-Za-z0-9._-]+/[A-Za-z0-9._*?-]+$";
const WORKFLOW: &str = r"^([^/@*?]+/[^/@*?]+/)?\.github/workflows/[^/@*?]+\.ya?ml$";
const REF: &str = "^refs/.+$";
const REF_OR_COMMIT: &str = "^(refs/.+|[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$";
const PROJECT: &str = "^([A-Za-z0-9._-]+/)+[A-Za-z0-9._*?-]+$";
const CONFIG: &str = r"^([^/@*?]+(/[^/@*?]+)+//)?([^/@*?]+/)*[^/@*?]+\.ya?ml$";
const SLUG: &str = "^[A-Za-z0-9_-]+$";
const SLUG_GLOB: &str = "^[A-Za-z0-9_*?-]+$";
const SERVICE_ACCOUNT: &str = r"^[a-z0-9.-]+@([a-z0-9-]+\.)+gserviceaccount\.com$";
const CLOUD_PROJECT: &str = "^[a-z][a-z0-9-]*[a-z0-9]$";
const ENVIRONMENT: &str = r"^[^*?\x00-\x1f]+$";
/// How long the name of an environment may be.
const MAX_ENVIRONMENT: usize = 255;

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
    /// The events that may set off the build, such as push; none: push, `workflow_dispatch`, schedule, release, create, `merge_group` and `repository_dispatch`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = 64), regex(pattern = "^[a-z_]+$")))]
    pub triggers: Vec<String>,
    /// The runner that the build must have run on; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<Runner>,
    /// The environments that the job may deploy to, such as production; none: any, and no environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_ENVIRONMENT), regex(pattern = ENVIRONMENT)))]
    pub environments: Vec<String>,
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

/// A GitLab pipeline as a signer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["project"], "x-kubernetes-validations" = [{
    "rule": "has(self.config) || !has(self.configRefs) || self.configRefs.size() == 0",
    "message": "belongs to a config, and none is named",
    "fieldPath": ".configRefs",
}]))]
pub struct Gitlab {
    /// The source project, `group/subgroup/project`; the last part may be a glob, the groups not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 3, max = MAX_PATTERN), regex(pattern = PROJECT))]
    pub project: String,
    /// The source project's immutable id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), regex(pattern = NUMBER))]
    pub project_id: Option<String>,
    /// The immutable id of the namespace that the source project is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20), regex(pattern = NUMBER))]
    pub namespace_id: Option<String>,
    /// The file that defines the pipeline: its path, or `group/project//path` of another project. Without it, any file of the source project.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_PATTERN), regex(pattern = CONFIG))]
    pub config: Option<String>,
    /// The refs (globs) or full commits that this file may be of; none: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = REF_OR_COMMIT)))]
    pub config_refs: Vec<String>,
    /// The source refs, as globs, or with `${image.tag}` for the tag that was asked for; none: every branch and tag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = REF)))]
    pub refs: Vec<String>,
    /// Whether it must be built from a branch or from a tag; none: either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_type: Option<RefType>,
    /// What may set off the pipeline, such as push; none: anything but a merge request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = 64), regex(pattern = "^[a-z_]+$")))]
    pub triggers: Vec<String>,
    /// The runner that the build must have run on; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<GitlabRunner>,
    /// The environments that the job may deploy to, such as production; none: any, and no environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_ENVIRONMENT), regex(pattern = ENVIRONMENT)))]
    pub environments: Vec<String>,
    /// The OIDC issuer: the URL of the GitLab instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 512), regex(pattern = ISSUER), extend("default" = GITLAB_ISSUER))]
    pub issuer: Option<String>,
}

/// What a build is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RefType {
    /// A branch.
    Branch,
    /// A tag.
    Tag,
}

/// The runner that the build must have run on; none: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GitlabRunner {
    /// GitLab's own machines.
    GitlabHosted,
    /// Anybody's.
    SelfHosted,
}

/// A Buildkite pipeline as a signer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("required" = ["organization", "pipeline"]))]
pub struct Buildkite {
    /// The organization's slug.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 128), regex(pattern = SLUG))]
    pub organization: String,
    /// The pipeline's slug, as a glob.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 128), regex(pattern = SLUG_GLOB))]
    pub pipeline: String,
    /// The refs, as globs, or with `${image.tag}` for the tag that was asked for; none: any, pull requests too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = MAX_PATTERN), regex(pattern = REF)))]
    pub refs: Vec<String>,
    /// What may set off the build, such as webhook; none: anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_LIST), inner(length(min = 1, max = 64), regex(pattern = "^[a-z_]+$")))]
    pub triggers: Vec<String>,
    /// The runner that the build must have run on; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<BuildkiteRunner>,
}

/// The runner that the build must have run on; none: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BuildkiteRunner {
    /// Buildkite's own machines.
    BuildkiteHosted,
    /// Anybody's.
    SelfHosted,
}

/// A service account of Google Cloud as a signer: exactly one of serviceAccount and project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.serviceAccount) != has(self.project)",
    "message": "has exactly one of serviceAccount and project",
}]))]
pub struct GoogleCloudBuild {
    /// The address of the service account that runs the build.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = SERVICE_ACCOUNT))]
    pub service_account: Option<String>,
    /// The project, each of whose service accounts may sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 30), regex(pattern = CLOUD_PROJECT))]
    pub project: Option<String>,
}
