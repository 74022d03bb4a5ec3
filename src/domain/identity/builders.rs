//! The build systems that a policy can name as signers, each with what its certificates prove.

use super::{RefPattern, SubjectMatcher};
use crate::domain::{glob::Glob, repository_name::RepositoryGlob};

/// A GitHub Actions workflow as a signer. Empty lists ask for nothing, except `refs` and `triggers`: see there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubIdentity {
    /// The OIDC issuer, exactly.
    pub issuer: String,
    /// The source repository, `owner/repo`, as a glob.
    pub repository: RepositoryGlob,
    /// The source repository's id.
    pub repository_id: Option<String>,
    /// The source repository owner's id.
    pub owner_id: Option<String>,
    /// The signing workflow; `None`: any workflow of the source repository.
    pub workflow: Option<SigningWorkflow>,
    /// The whole subject, in place of `workflow` and `workflow_refs`; only the command line gives it.
    pub subject: Option<SubjectMatcher>,
    /// The refs or commits that the signing workflow may be called at.
    pub workflow_refs: Vec<RefPattern>,
    /// The source refs; where none is given, every branch and tag, and never a pull request.
    pub refs: Vec<RefPattern>,
    /// The events that may set off the build; where none is given, [`DEFAULT_TRIGGERS`].
    pub triggers: Vec<String>,
    /// The runner environment.
    pub runner: Option<String>,
    /// The environments that the job may deploy to.
    pub environments: Vec<String>,
}

/// The events of GitHub Actions that may set off a build where a policy names none: those that only people with write access cause.
/// Others, such as `pull_request_target` and `issue_comment`, run on the default branch when an outsider wishes.
pub const DEFAULT_TRIGGERS: [&str; 7] =
    ["push", "workflow_dispatch", "schedule", "release", "create", "merge_group", "repository_dispatch"];

/// Whether this is an issuer of GitHub Actions' identities: everybody's, an enterprise's, or that of an enterprise with a host of its own.
pub fn is_github_issuer(issuer: &str) -> bool {
    let slug = |rest: &str| {
        rest.strip_prefix('/').is_some_and(|slug| {
            !slug.is_empty() && slug.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        })
    };
    let tenant = issuer.strip_prefix("https://token.actions.").and_then(|rest| rest.strip_suffix(".ghe.com"));
    issuer
        .strip_prefix("https://token.actions.githubusercontent.com")
        .is_some_and(|rest| rest.is_empty() || slug(rest))
        || tenant.is_some_and(|tenant| !tenant.is_empty() && !tenant.contains(['/', '.']))
}

/// Whether this is an issuer of GitHub Actions' identities, or has the form of one of GitHub Enterprise Server
/// (`https://HOST/_services/token`). The events of both are the same.
pub fn has_github_triggers(issuer: &str) -> bool {
    let server = issuer.strip_prefix("https://").and_then(|rest| rest.split_once('/'));
    is_github_issuer(issuer)
        || server.is_some_and(|(_, path)| path.trim_end_matches('/').ends_with("_services/token"))
}

impl GithubIdentity {
    /// What stands before `owner/repo` in the certificates of its issuer: an enterprise with data residency has a host of its own.
    pub fn host(&self) -> String {
        let tenant =
            self.issuer.strip_prefix("https://token.actions.").filter(|rest| rest.ends_with(".ghe.com"));
        format!("https://{}/", tenant.unwrap_or("github.com"))
    }
}

/// A signing workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningWorkflow {
    /// `owner/repo` where the workflow is of another repository than the source.
    pub repository: Option<String>,
    /// The workflow file: `.github/workflows/build.yml`.
    pub path: String,
}

/// A GitLab pipeline as a signer. Empty lists ask for nothing, except `refs` and `triggers`: see there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitlabIdentity {
    /// The OIDC issuer, exactly: the URL of the GitLab instance.
    pub issuer: String,
    /// The source project, `group/subgroup/project`, as a glob.
    pub project: RepositoryGlob,
    /// The source project's id.
    pub project_id: Option<String>,
    /// The id of the namespace that the project is in.
    pub namespace_id: Option<String>,
    /// The file that defines the pipeline; `None`: any of the source project.
    pub config: Option<PipelineConfig>,
    /// The refs that this file may be of.
    pub config_refs: Vec<RefPattern>,
    /// The source refs; where none is given, every branch and tag.
    pub refs: Vec<RefPattern>,
    /// Whether it must be built from a branch or from a tag.
    pub ref_type: Option<RefType>,
    /// What may set off the pipeline; where nothing is given, anything but a merge request.
    pub triggers: Vec<String>,
    /// The runner environment.
    pub runner: Option<String>,
    /// The environments that the job may deploy to.
    pub environments: Vec<String>,
}

/// The file that defines a GitLab pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineConfig {
    /// Its project, where that is another than the source.
    pub project: Option<String>,
    /// Its path: `.gitlab-ci.yml`.
    pub path: String,
}

/// What a build is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefType {
    /// A branch.
    Branch,
    /// A tag.
    Tag,
}

impl RefType {
    /// What refs of this type begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Branch => "refs/heads/",
            Self::Tag => "refs/tags/",
        }
    }
}

/// A Buildkite pipeline as a signer. Empty lists ask for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildkiteIdentity {
    /// The organization's slug.
    pub organization: String,
    /// The pipeline's slug, as a glob.
    pub pipeline: Glob,
    /// The refs that the build may be of.
    pub refs: Vec<RefPattern>,
    /// What may set off the build.
    pub triggers: Vec<String>,
    /// The runner environment.
    pub runner: Option<String>,
}

/// Which service accounts of Google Cloud may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceAccounts {
    /// This one, by its address.
    One(String),
    /// Every one that belongs to this project.
    OfProject(String),
}

impl ServiceAccounts {
    /// The issuer of service accounts' identities.
    pub const ISSUER: &'static str = "https://accounts.google.com";

    /// Whether the address is one of them.
    pub fn fit(&self, address: &str) -> bool {
        match self {
            Self::One(account) => account == address,
            Self::OfProject(project) => address.split_once('@').is_some_and(|(name, domain)| {
                !name.is_empty() && domain.strip_suffix(".iam.gserviceaccount.com") == Some(project)
            }),
        }
    }
}

impl BuildkiteIdentity {
    /// The issuer of Buildkite's identities.
    pub const ISSUER: &'static str = "https://agent.buildkite.com";
}
