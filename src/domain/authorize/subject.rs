//! What a policy asks of the subject: the file whose instructions signed.

use super::{
    Mismatch,
    source::{Source, fits_any, ref_fits, wrong},
};
use crate::domain::{
    identity::{
        BuildkiteIdentity, Certificate, GithubIdentity, GitlabIdentity, PipelineConfig, RefPattern,
        SigningWorkflow, SubjectMatcher,
    },
    repository_name::is_same_name,
    verdict::Reason,
};

/// It is signed by somebody else.
pub fn stranger(certificate: &Certificate) -> Mismatch {
    Mismatch::new(Reason::WrongSigner, format!("signed by {}", certificate.subject))
}

/// The whole subject.
///
/// # Errors
/// It is another.
pub fn check_subject(expected: &SubjectMatcher, certificate: &Certificate) -> Result<(), Mismatch> {
    if expected.fits(&certificate.subject, &certificate.issuer) { Ok(()) } else { Err(stranger(certificate)) }
}

/// The signing workflow: the subject is `https://github.com/OWNER/REPO/PATH@REF`.
///
/// # Errors
/// It is another, or at another ref.
pub fn check_workflow(
    github: &GithubIdentity,
    certificate: &Certificate,
    tag: Option<&str>,
) -> Result<(), Mismatch> {
    if let Some(expected) = &github.subject {
        return check_subject(expected, certificate);
    }
    let wrong = || stranger(certificate);
    let subject = certificate.subject.strip_prefix(&github.host()).ok_or_else(wrong)?;
    let (repository, file) = split_repository(subject).ok_or_else(wrong)?;
    let (other, path) = match &github.workflow {
        Some(SigningWorkflow { repository, path }) => (repository.as_deref(), Some(path.as_str())),
        None => (None, None),
    };
    let is_file = |found: &str| match path {
        Some(path) => path == found,
        None => found.starts_with(".github/workflows/"),
    };
    let (_, git_ref) = split_ref(file).filter(|(path, _)| is_file(path)).ok_or_else(wrong)?;
    let instructions = Instructions { repository, git_ref, other, refs: &github.workflow_refs };
    instructions.check(&Source::from(github), certificate, tag)
}

/// The pipeline's file: the subject is `https://gitlab.com/GROUP/PROJECT//PATH@REF`.
///
/// # Errors
/// It is another, or of another ref.
pub fn check_config(
    gitlab: &GitlabIdentity,
    certificate: &Certificate,
    tag: Option<&str>,
) -> Result<(), Mismatch> {
    let wrong = || stranger(certificate);
    let subject = certificate.subject.strip_prefix(&gitlab.issuer).and_then(|rest| rest.strip_prefix('/'));
    let (repository, file) = subject.and_then(|subject| subject.split_once("//")).ok_or_else(wrong)?;
    let (other, path) = match &gitlab.config {
        Some(PipelineConfig { project, path }) => (project.as_deref(), Some(path.as_str())),
        None => (None, None),
    };
    // A folder may be called `ci.yml@refs`: where it is a matter of opinion what the file is and what the ref, it is neither.
    let is_file = |(found, git_ref): &(&str, &str)| {
        path.is_none_or(|path| path == *found) && split_ref(git_ref).is_none()
    };
    let (_, git_ref) = split_ref(file).filter(is_file).ok_or_else(wrong)?;
    let instructions = Instructions { repository, git_ref, other, refs: &gitlab.config_refs };
    instructions.check(&Source::from(gitlab), certificate, tag)
}

/// Path and ref of `PATH@REF`. Both may contain an `@`: the ref begins behind the first one that follows a file's `.yml` or `.yaml` and
/// stands before `refs/`, or before nothing but a commit.
fn split_ref(file: &str) -> Option<(&str, &str)> {
    let halves = file.match_indices('@').filter_map(|(at, _)| {
        let (path, rest) = file.split_at_checked(at)?;
        Some((path, rest.strip_prefix('@')?))
    });
    let mut halves = halves.filter(|(path, _)| matches!(path.rsplit_once('.'), Some((_, "yml" | "yaml"))));
    halves.find(|(_, git_ref)| git_ref.starts_with("refs/") || is_commit(git_ref))
}

/// The build instructions that signed, and what is asked of them.
struct Instructions<'a> {
    repository: &'a str,
    git_ref: &'a str,
    /// The repository they must be of; `None`: the source's own.
    other: Option<&'a str>,
    /// Where none is given, any.
    refs: &'a [RefPattern],
}

impl Instructions<'_> {
    fn check(
        &self,
        source: &Source<'_>,
        certificate: &Certificate,
        tag: Option<&str>,
    ) -> Result<(), Mismatch> {
        let own = source.name(certificate);
        let fits = match self.other {
            Some(other) => is_same_name(other, self.repository),
            // The same repository in the subject and in the source extension.
            None => {
                source.accepts(self.repository, certificate)
                    && own.is_none_or(|own| is_same_name(own, self.repository))
            }
        };
        if !fits {
            // A subject that is right beside a source that is not is the source's mismatch, and told there.
            let is_subject_right = self.other.is_none() && source.repository.matches(self.repository);
            match own {
                Some(own) if is_subject_right && !source.accepts(own, certificate) => {}
                Some(own) if is_subject_right && !source.repository.matches(own) => {
                    return wrong("repository", certificate.source_repository.as_deref());
                }
                _ => return Err(stranger(certificate)),
            }
        }
        // The commit is proved too, whatever they were called at; a pattern over refs fits no commit.
        let commit = certificate.build_signer_digest.as_deref();
        let fits = |at: &str| fits_any(self.refs, at, tag);
        if self.refs.is_empty() || fits(self.git_ref) || commit.is_some_and(|at| is_commit(at) && fits(at)) {
            return Ok(());
        }
        let found = match commit {
            Some(commit) => format!("signed by {}, at the commit {commit}", certificate.subject),
            None => format!("signed by {}", certificate.subject),
        };
        Err(Mismatch::new(Reason::WrongSigner, found))
    }
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn split_repository(subject: &str) -> Option<(&str, &str)> {
    let (owner, rest) = subject.split_once('/')?;
    let (name, rest) = rest.split_once('/')?;
    let repository = subject.get(..owner.len().checked_add(name.len())?.checked_add(1)?)?;
    Some((repository, rest))
}

/// The pipeline: the subject is `https://buildkite.com/ORGANIZATION/PIPELINE`.
///
/// # Errors
/// It is another.
pub fn check_pipeline(buildkite: &BuildkiteIdentity, certificate: &Certificate) -> Result<(), Mismatch> {
    let names =
        certificate.subject.strip_prefix("https://buildkite.com/").and_then(|rest| rest.split_once('/'));
    match names {
        Some((organization, pipeline))
            if organization == buildkite.organization && buildkite.pipeline.matches(pipeline) =>
        {
            Ok(())
        }
        _ => Err(stranger(certificate)),
    }
}

/// The ref of a Buildkite build, which its token's subject alone names (extension 24):
/// `organization:ORGANIZATION:pipeline:PIPELINE:ref:REF:commit:COMMIT:step:STEP`.
///
/// # Errors
/// It is another ref, or none is named.
pub fn check_build_ref(
    buildkite: &BuildkiteIdentity,
    certificate: &Certificate,
    tag: Option<&str>,
) -> Result<(), Mismatch> {
    let found = build_ref(certificate);
    match found {
        _ if buildkite.refs.is_empty() => Ok(()),
        // No ref has a colon: of a fork's branch, its owner stands before it.
        Some(git_ref) if !git_ref.contains(':') && ref_fits(&buildkite.refs, git_ref, tag) => Ok(()),
        _ => wrong("ref", found),
    }
}

fn build_ref(certificate: &Certificate) -> Option<&str> {
    let names = certificate.subject.strip_prefix("https://buildkite.com/")?;
    let (organization, pipeline) = names.split_once('/')?;
    let subject = certificate.token_subject.as_deref()?;
    let rest = subject.strip_prefix(&format!("organization:{organization}:pipeline:{pipeline}:ref:"))?;
    let (git_ref, rest) = rest.split_once(":commit:")?;
    let (commit, _) = rest.split_once(":step:")?;
    certificate.source_digest.as_deref().is_none_or(|built| built == commit).then_some(git_ref)
}
