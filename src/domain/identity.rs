//! Who signed: what a certificate proves, and what a policy asks of it.

mod builders;

use std::fmt;

use jiff::Timestamp;

use super::{
    glob::{AnchoredRegex, Glob, SearchCost},
    key::{KeyIdentity, TransparencyLog},
    level::BuildLevel,
    repository_name::is_same_subject,
};
pub use builders::{
    BuildkiteIdentity, DEFAULT_TRIGGERS, GithubIdentity, GitlabIdentity, PipelineConfig, RefType,
    ServiceAccounts, SigningWorkflow, has_github_triggers, is_github_issuer,
};

/// What a Fulcio certificate says of the signer (Fulcio's `docs/oid-info.md`). All of it is **proved**
/// once the certificate is verified. URIs are as in the extensions; legacy extensions 2, 3, 5 and 6 fill the fields of
/// 20, 13, 12 and 14 where the certificate has no modern ones (5 as `https://github.com/OWNER/REPO`). Extension 7 is no field: it
/// marks a user name as the subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Certificate {
    /// The subject alternative name: for GitHub the signing workflow, `https://github.com/OWNER/REPO/PATH@REF`.
    pub subject: String,
    /// The OIDC issuer (extension 8, legacy 1).
    pub issuer: String,
    /// The name of the top-level workflow, which whoever writes it chooses (legacy 4).
    pub workflow_name: Option<String>,
    /// The signing workflow's URI with its ref (extension 9).
    pub build_signer_uri: Option<String>,
    /// The commit of the signing workflow (extension 10).
    pub build_signer_digest: Option<String>,
    /// `github-hosted` or `self-hosted` (extension 11).
    pub runner: Option<String>,
    /// The source repository's URI (extension 12, legacy 5).
    pub source_repository: Option<String>,
    /// The source commit (extension 13, legacy 3).
    pub source_digest: Option<String>,
    /// The source ref (extension 14, legacy 6).
    pub source_ref: Option<String>,
    /// The source repository's immutable id (extension 15).
    pub source_repository_id: Option<String>,
    /// The URI of the source repository's owner (extension 16).
    pub source_owner: Option<String>,
    /// The source repository owner's immutable id (extension 17).
    pub source_owner_id: Option<String>,
    /// The top-level workflow's URI with its ref (extension 18).
    pub build_config_uri: Option<String>,
    /// The commit of the top-level workflow (extension 19).
    pub build_config_digest: Option<String>,
    /// What set off the build (extension 20, legacy 2).
    pub trigger: Option<String>,
    /// The run (extension 21).
    pub run_uri: Option<String>,
    /// `public`, `private`, `internal` (extension 22).
    pub source_visibility: Option<String>,
    /// The environment that the job deploys to, with that environment's protection rules (extension 23).
    pub environment: Option<String>,
    /// The subject of the OIDC token that the certificate was asked for with (extension 24).
    pub token_subject: Option<String>,
    /// Start of the certificate's validity.
    pub not_before: Timestamp,
    /// End of the certificate's validity.
    pub not_after: Timestamp,
}

/// One signer that a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The name in the policy, for messages.
    pub name: String,
    /// Who it is.
    pub identity: SignerIdentity,
    /// The trust root that its certificate must chain to; of a key: whose log must have its signatures.
    pub trust_root: TrustRootName,
    /// The builder ids that its provenance may claim; empty: any.
    pub builder_ids: Vec<Glob>,
    /// The level of what it builds.
    pub level: BuildLevel,
}

impl Signer {
    /// The trust root without which nothing satisfies it; none, where its signatures need not be logged.
    pub fn root(&self) -> Option<&TrustRootName> {
        let needs = match &self.identity {
            SignerIdentity::PublicKey(key) => key.log == TransparencyLog::Required,
            SignerIdentity::Github(_)
            | SignerIdentity::Gitlab(_)
            | SignerIdentity::Buildkite(_)
            | SignerIdentity::GoogleCloudBuild(_)
            | SignerIdentity::Certificate { .. } => true,
        };
        needs.then_some(&self.trust_root)
    }
}

/// The name of a trust root: `sigstore`, `github`, or of a `TrustRoot` object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustRootName(pub String);

impl TrustRootName {
    /// GitHub's own Sigstore instance, which signs for private repositories.
    pub fn github() -> Self {
        Self("github".to_owned())
    }

    /// A name as it may be written: lower-case letters, digits, `-` and `.`, as Kubernetes names objects.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = text.bytes().next().zip(text.bytes().last());
        let is_name = ends.is_some_and(|(first, last)| plain(first) && plain(last))
            && text.len() <= 253
            && text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'.');
        is_name.then(|| Self(text.to_owned()))
    }
}

impl Default for TrustRootName {
    fn default() -> Self {
        Self("sigstore".to_owned())
    }
}

impl fmt::Display for TrustRootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kinds of identity a policy can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerIdentity {
    /// A GitHub Actions workflow.
    Github(Box<GithubIdentity>),
    /// A GitLab pipeline.
    Gitlab(Box<GitlabIdentity>),
    /// A Buildkite pipeline.
    Buildkite(Box<BuildkiteIdentity>),
    /// A service account that runs builds of Google Cloud Build.
    GoogleCloudBuild(ServiceAccounts),
    /// Whoever holds the private half of a key.
    PublicKey(Box<KeyIdentity>),
    /// Any certificate with this issuer and subject.
    Certificate {
        /// The OIDC issuer, exactly.
        issuer: String,
        /// The subject alternative name.
        subject: SubjectMatcher,
        /// What may set off the build. Where none is given: [`DEFAULT_TRIGGERS`] for an issuer of GitHub's, anything for others.
        triggers: Vec<String>,
    },
}

impl SignerIdentity {
    /// Whether who it is depends on the tag that the image is named by.
    pub fn depends_on_tag(&self) -> bool {
        let is_tagged =
            |patterns: &[RefPattern]| patterns.iter().any(|pattern| matches!(pattern, RefPattern::Tagged(_)));
        match self {
            Self::Github(github) => is_tagged(&github.refs) || is_tagged(&github.workflow_refs),
            Self::Gitlab(gitlab) => is_tagged(&gitlab.refs) || is_tagged(&gitlab.config_refs),
            Self::Buildkite(buildkite) => is_tagged(&buildkite.refs),
            Self::GoogleCloudBuild(_) | Self::PublicKey(_) | Self::Certificate { .. } => false,
        }
    }
}

/// What it costs to hold all of these against a text.
pub(super) fn cost_of_globs(globs: &[Glob]) -> SearchCost {
    globs.iter().map(Glob::cost).fold(0, usize::saturating_add)
}

impl Signer {
    /// What it costs to hold one attestation against it, roughly.
    pub fn cost(&self) -> SearchCost {
        let refs = |patterns: &[RefPattern]| {
            let globs = patterns.iter().map(|pattern| match pattern {
                RefPattern::Fixed(glob) => glob.cost(),
                RefPattern::Tagged(_) => 1,
            });
            globs.fold(0, usize::saturating_add)
        };
        let subject = |matcher: &SubjectMatcher| match matcher {
            SubjectMatcher::Exact(_) => 1,
            SubjectMatcher::Regex(regex) => regex.cost(),
        };
        let of_identity = match &self.identity {
            SignerIdentity::Github(github) => {
                let own = github.subject.as_ref().map_or(0, subject);
                own.saturating_add(refs(&github.refs)).saturating_add(refs(&github.workflow_refs))
            }
            SignerIdentity::Gitlab(gitlab) => refs(&gitlab.refs).saturating_add(refs(&gitlab.config_refs)),
            SignerIdentity::Buildkite(buildkite) => refs(&buildkite.refs),
            SignerIdentity::Certificate { subject: matcher, .. } => subject(matcher),
            SignerIdentity::GoogleCloudBuild(_) | SignerIdentity::PublicKey(_) => 1,
        };
        of_identity.saturating_add(cost_of_globs(&self.builder_ids))
    }
}

/// How a subject alternative name is matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectMatcher {
    /// The whole text; names of owners and repositories in any case.
    Exact(String),
    /// A regular expression over the whole text.
    Regex(AnchoredRegex),
}

impl SubjectMatcher {
    /// Whether the whole of a subject fits that this issuer vouches for.
    pub fn fits(&self, subject: &str, issuer: &str) -> bool {
        match self {
            Self::Exact(text) => is_same_subject(text, subject, issuer),
            Self::Regex(regex) => regex.matches(subject),
        }
    }
}

/// A pattern over refs that may contain `${image.tag}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefPattern {
    /// A glob without template.
    Fixed(Glob),
    /// What stands before and after each `${image.tag}`; the tag itself is never a pattern.
    Tagged(AroundTag),
}

/// A ref pattern around the tag asked for: the parts before and after one `${image.tag}`, taken literally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AroundTag {
    /// What stands before the tag.
    pub prefix: String,
    /// What stands after the tag.
    pub suffix: String,
}
