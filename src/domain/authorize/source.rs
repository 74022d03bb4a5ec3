//! What a policy asks of the source that a certificate names: from its extensions alone, never from its subject.

use super::Mismatch;
use crate::domain::{
    identity::{
        Certificate, DEFAULT_TRIGGERS, GithubIdentity, GitlabIdentity, RefPattern, has_github_triggers,
    },
    repository_name::RepositoryGlob,
    verdict::Reason,
};

/// What GitLab calls pipelines of merge requests: the ref in their certificates is the merged branch, whose name anybody chooses.
const MERGE_REQUESTS: [&str; 2] = ["merge_request_event", "external_pull_request_event"];

/// What is asked of a source. Empty lists ask for nothing, except `refs`: every branch and tag.
pub struct Source<'a> {
    /// What stands before the repository's name in its URI.
    pub hosts: Vec<String>,
    /// Its name at one of those hosts.
    pub repository: &'a RepositoryGlob,
    /// The repository's, the owner's.
    pub ids: [Option<&'a String>; 2],
    /// The refs.
    pub refs: &'a [RefPattern],
    /// What all refs begin with.
    pub ref_prefix: &'static str,
    /// What may set off the build.
    pub triggers: &'a [String],
    /// What may, where the policy names nothing.
    pub default_triggers: DefaultTriggers,
    /// The runner environment.
    pub runner: Option<&'a String>,
    /// The deployment environments.
    pub environments: &'a [String],
}

impl<'a> From<&'a GithubIdentity> for Source<'a> {
    fn from(github: &'a GithubIdentity) -> Self {
        Self {
            hosts: vec![github.host()],
            repository: &github.repository,
            ids: [github.repository_id.as_ref(), github.owner_id.as_ref()],
            refs: &github.refs,
            ref_prefix: "",
            triggers: &github.triggers,
            default_triggers: DefaultTriggers::Only { field: "github", accepted: &DEFAULT_TRIGGERS },
            runner: github.runner.as_ref(),
            environments: &github.environments,
        }
    }
}

impl<'a> From<&'a GitlabIdentity> for Source<'a> {
    fn from(gitlab: &'a GitlabIdentity) -> Self {
        Self {
            // Fulcio's templates write gitlab.com for every instance that does not say better; which one it is, its issuer says.
            hosts: vec![format!("{}/", gitlab.issuer), "https://gitlab.com/".to_owned()],
            repository: &gitlab.project,
            ids: [gitlab.project_id.as_ref(), gitlab.namespace_id.as_ref()],
            refs: &gitlab.refs,
            ref_prefix: gitlab.ref_type.map_or("", |kind| kind.prefix()),
            triggers: &gitlab.triggers,
            default_triggers: DefaultTriggers::AllBut(&MERGE_REQUESTS),
            runner: gitlab.runner.as_ref(),
            environments: &gitlab.environments,
        }
    }
}

impl Source<'_> {
    /// The name of the certificate's source repository, where it is at one of the hosts.
    pub fn name<'c>(&self, certificate: &'c Certificate) -> Option<&'c str> {
        let uri = certificate.source_repository.as_deref()?;
        self.hosts.iter().find_map(|host| uri.strip_prefix(host.as_str()))
    }

    /// Whether a repository of this name is asked for: the name fits, or the certificate has the id that the policy gives beside one
    /// name, and the repository was renamed.
    pub fn accepts(&self, name: &str, certificate: &Certificate) -> bool {
        let [id, _] = self.ids;
        let is_renamed = self.repository.is_literal()
            && id.is_some_and(|id| certificate.source_repository_id.as_ref() == Some(id));
        self.repository.matches(name) || is_renamed
    }

    /// Whether the certificate's source is what is asked for.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn check(&self, certificate: &Certificate, tag: Option<&str>) -> Result<(), Mismatch> {
        match self.name(certificate) {
            Some(name) if self.accepts(name, certificate) => {}
            _ => return wrong("repository", certificate.source_repository.as_deref()),
        }
        let [repository_id, owner_id] = self.ids;
        for (what, expected, found) in [
            ("repository id", repository_id, &certificate.source_repository_id),
            ("owner id", owner_id, &certificate.source_owner_id),
            ("runner", self.runner, &certificate.runner),
        ] {
            if expected.is_some() && expected != found.as_ref() {
                return wrong(what, found.as_deref());
            }
        }
        match certificate.source_ref.as_deref() {
            Some(git_ref) if git_ref.starts_with(self.ref_prefix) && ref_fits(self.refs, git_ref, tag) => {}
            found => return wrong("ref", found),
        }
        check_trigger(self.triggers, self.default_triggers, certificate)?;
        match certificate.environment.as_ref() {
            _ if self.environments.is_empty() => Ok(()),
            Some(found) if self.environments.contains(found) => Ok(()),
            Some(found) => differs(format!("the certificate's deployment environment is {found}")),
            None => differs("the certificate names no deployment environment".to_owned()),
        }
    }
}

/// What may set off a build where a policy names nothing.
#[derive(Debug, Clone, Copy)]
pub enum DefaultTriggers {
    /// Anything: certificates of this kind do not always say.
    Any,
    /// Anything but these.
    AllBut(&'static [&'static str]),
    /// These alone.
    Only {
        /// The field of the signer in which a policy names others.
        field: &'static str,
        /// Those.
        accepted: &'static [&'static str],
    },
}

impl DefaultTriggers {
    /// Those of a signer that is any certificate of this issuer's.
    pub fn of_issuer(issuer: &str) -> Self {
        if has_github_triggers(issuer) {
            Self::Only { field: "certificate", accepted: &DEFAULT_TRIGGERS }
        } else {
            Self::Any
        }
    }
}

/// Whether what set off the build may.
///
/// # Errors
/// It may not, or is not known where it matters.
pub fn check_trigger(
    accepted: &[String],
    default: DefaultTriggers,
    certificate: &Certificate,
) -> Result<(), Mismatch> {
    let found = certificate.trigger.as_deref();
    if !accepted.is_empty() {
        return match found {
            Some(trigger) if accepted.iter().any(|accepted| accepted == trigger) => Ok(()),
            found => wrong("trigger", found),
        };
    }
    match (default, found) {
        (DefaultTriggers::Any, _) => Ok(()),
        (DefaultTriggers::AllBut(others), Some(trigger)) if !others.contains(&trigger) => Ok(()),
        (DefaultTriggers::Only { accepted, .. }, Some(trigger)) if accepted.contains(&trigger) => Ok(()),
        (DefaultTriggers::Only { field, accepted }, Some(trigger)) => {
            differs(unnamed(field, accepted, trigger))
        }
        (_, found) => wrong("trigger", found),
    }
}

/// A trigger that counts only where a policy names it, and the line that does.
fn unnamed(field: &str, accepted: &[&str], trigger: &str) -> String {
    let found = format!("the build was triggered by {trigger}, and the policy names no triggers");
    let is_word = !trigger.is_empty() && trigger.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if !is_word {
        return found;
    }
    format!(
        "{found}; to accept it, add this line to the signer's {field}: triggers: [{}, {trigger}]",
        accepted.join(", ")
    )
}

/// The source differs in this.
pub fn wrong(what: &str, found: Option<&str>) -> Result<(), Mismatch> {
    differs(match found {
        Some(found) => format!("the certificate's source {what} is {found}"),
        None => format!("the certificate names no source {what}"),
    })
}

fn differs(found: String) -> Result<(), Mismatch> {
    Err(Mismatch::new(Reason::WrongSource, found))
}

/// Whether a source ref fits; without patterns, every branch and tag does.
pub fn ref_fits(patterns: &[RefPattern], git_ref: &str, tag: Option<&str>) -> bool {
    if patterns.is_empty() {
        return git_ref.starts_with("refs/heads/") || git_ref.starts_with("refs/tags/");
    }
    fits_any(patterns, git_ref, tag)
}

/// Whether a ref fits one of the patterns.
pub fn fits_any(patterns: &[RefPattern], git_ref: &str, tag: Option<&str>) -> bool {
    patterns.iter().any(|pattern| match pattern {
        RefPattern::Fixed(glob) => glob.matches(git_ref),
        RefPattern::Tagged(around) => tag.is_some_and(|tag| {
            git_ref
                .strip_prefix(around.prefix.as_str())
                .and_then(|rest| rest.strip_suffix(around.suffix.as_str()))
                .is_some_and(|middle| middle == tag)
        }),
    })
}
