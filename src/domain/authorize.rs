//! Whether a verified attestation is by a signer that a policy names, and says what the policy asks.
//!
//! The checks run from the signer inwards, so that a mismatch's reason tells how far an attestation got.

use jiff::Timestamp;

use super::{
    evidence::Verified,
    identity::{
        Certificate, GithubIdentity, RefPattern, Signer, SignerIdentity, SigningWorkflow, SubjectMatcher,
    },
    message::one_line,
    policy::ProvenanceRules,
    provenance::{Provenance, Statement},
    verdict::Reason,
};

/// The host of GitHub's repositories in certificates.
const GITHUB: &str = "https://github.com/";

/// The first thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Its reason.
    pub reason: Reason,
    /// What was found, with the value that differs.
    pub found: String,
}

impl Mismatch {
    /// What was found may be of whoever signed: it is cut before it is kept for every manifest.
    pub(super) fn new(reason: Reason, found: impl AsRef<str>) -> Self {
        Self { reason, found: one_line(found.as_ref()) }
    }
}

/// Whether `verified` is by `signer`. `tag` is the tag that was asked for.
///
/// # Errors
/// The first thing that differs: `WrongSigner` or `WrongSource`.
pub fn check_signer(signer: &Signer, verified: &Verified, tag: Option<&str>) -> Result<(), Mismatch> {
    if !verified.trust_roots.contains(&signer.trust_root) {
        let roots: Vec<&str> = verified.trust_roots.iter().map(|root| root.0.as_str()).collect();
        let found =
            format!("signed under the trust root {}, not under {}", roots.join(" and "), signer.trust_root);
        return Err(Mismatch::new(Reason::WrongSigner, found));
    }
    let certificate = &verified.certificate;
    match &signer.identity {
        SignerIdentity::Github(github) => {
            check_issuer(&github.issuer, certificate)?;
            check_workflow(github, certificate, tag)?;
            check_source(github, certificate, tag)
        }
        SignerIdentity::Certificate { issuer, subject } => {
            check_issuer(issuer, certificate)?;
            check_subject(subject, certificate)
        }
        SignerIdentity::PublicKey(_) => {
            let found = format!("signed by {} with a certificate, not with the key", certificate.subject);
            Err(Mismatch::new(Reason::WrongSigner, found))
        }
    }
}

fn check_subject(expected: &SubjectMatcher, certificate: &Certificate) -> Result<(), Mismatch> {
    let found = || format!("signed by {}", certificate.subject);
    if expected.fits(&certificate.subject) {
        Ok(())
    } else {
        Err(Mismatch::new(Reason::WrongSigner, found()))
    }
}

fn check_issuer(expected: &str, certificate: &Certificate) -> Result<(), Mismatch> {
    if expected == certificate.issuer {
        return Ok(());
    }
    let found = format!("signed by {} with the issuer {}", certificate.subject, certificate.issuer);
    Err(Mismatch::new(Reason::WrongSigner, found))
}

/// The signing workflow: the subject is `https://github.com/OWNER/REPO/PATH@REF`.
fn check_workflow(
    github: &GithubIdentity,
    certificate: &Certificate,
    tag: Option<&str>,
) -> Result<(), Mismatch> {
    if let Some(expected) = &github.subject {
        return check_subject(expected, certificate);
    }
    let wrong = || Mismatch::new(Reason::WrongSigner, format!("signed by {}", certificate.subject));
    let subject = certificate.subject.strip_prefix(GITHUB).ok_or_else(wrong)?;
    let (repository, rest) = split_repository(subject).ok_or_else(wrong)?;
    let git_ref = match &github.workflow {
        Some(SigningWorkflow { path, .. }) => {
            rest.strip_prefix(path.as_str()).and_then(|rest| rest.strip_prefix('@')).ok_or_else(wrong)?
        }
        // A file name may itself have an @: where that makes the ref a matter of opinion, it is none.
        None => match rest.split_once('@') {
            Some((path, git_ref)) if path.starts_with(".github/workflows/") && !git_ref.contains('@') => {
                git_ref
            }
            _ => return Err(wrong()),
        },
    };
    let repository_fits = match github.workflow.as_ref().and_then(|workflow| workflow.repository.as_deref()) {
        Some(other) => other == repository,
        // The workflow is the source's own: the same repository in the subject and in the source extension.
        None => {
            github.repository.matches(repository)
                && source_name(certificate).is_none_or(|own| own == repository)
        }
    };
    if !repository_fits {
        // A subject that is right beside a source that is not is the source's mismatch, and told there.
        let source_differs = source_name(certificate).is_some_and(|own| !github.repository.matches(own));
        let own_workflow = github.workflow.as_ref().is_none_or(|workflow| workflow.repository.is_none());
        if !(own_workflow && github.repository.matches(repository) && source_differs) {
            return Err(wrong());
        }
    }
    if github.workflow_refs.is_empty() || fits_any(&github.workflow_refs, git_ref, tag) {
        return Ok(());
    }
    Err(wrong())
}

fn split_repository(subject: &str) -> Option<(&str, &str)> {
    let (owner, rest) = subject.split_once('/')?;
    let (name, rest) = rest.split_once('/')?;
    let repository = subject.get(..owner.len().checked_add(name.len())?.checked_add(1)?)?;
    Some((repository, rest))
}

fn source_name(certificate: &Certificate) -> Option<&str> {
    certificate.source_repository.as_deref()?.strip_prefix(GITHUB)
}

/// The source, from the certificate's extensions alone.
fn check_source(
    github: &GithubIdentity,
    certificate: &Certificate,
    tag: Option<&str>,
) -> Result<(), Mismatch> {
    let wrong = |found: String| Err(Mismatch::new(Reason::WrongSource, found));
    match source_name(certificate) {
        Some(name) if github.repository.matches(name) => {}
        _ => return wrong(built_from("repository", certificate.source_repository.as_deref())),
    }
    for (what, expected, found) in [
        ("repository id", &github.repository_id, &certificate.source_repository_id),
        ("owner id", &github.owner_id, &certificate.source_owner_id),
        ("runner", &github.runner, &certificate.runner),
    ] {
        if expected.is_some() && expected != found {
            return wrong(built_from(what, found.as_deref()));
        }
    }
    match certificate.source_ref.as_deref() {
        Some(git_ref) if ref_fits(&github.refs, git_ref, tag) => {}
        found => return wrong(built_from("ref", found)),
    }
    match certificate.trigger.as_deref() {
        _ if github.triggers.is_empty() => {}
        Some(trigger) if github.triggers.iter().any(|accepted| accepted == trigger) => {}
        found => return wrong(built_from("trigger", found)),
    }
    Ok(())
}

fn built_from(what: &str, found: Option<&str>) -> String {
    match found {
        Some(found) => format!("the certificate's source {what} is {found}"),
        None => format!("the certificate names no source {what}"),
    }
}

fn ref_fits(patterns: &[RefPattern], git_ref: &str, tag: Option<&str>) -> bool {
    if patterns.is_empty() {
        return git_ref.starts_with("refs/heads/") || git_ref.starts_with("refs/tags/");
    }
    fits_any(patterns, git_ref, tag)
}

fn fits_any(patterns: &[RefPattern], git_ref: &str, tag: Option<&str>) -> bool {
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

/// Whether what is claimed is what the policy asks for. `proved` is a time by which it is proved to have been signed.
///
/// # Errors
/// The first thing that differs: `NoProvenance` (another predicate type), `WrongBuilder`, `WrongSource` or `ProvenanceTooOld`.
pub fn check_provenance(
    rules: &ProvenanceRules,
    statement: &Statement,
    provenance: &Provenance,
    proved: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), Mismatch> {
    let predicate_type = &statement.predicate_type;
    if !rules.types.is_empty() && !rules.types.contains(predicate_type) {
        let found = format!("the provenance is of type {predicate_type}, which the policy does not accept");
        return Err(Mismatch::new(Reason::NoProvenance, found));
    }
    let claims = |reason, what: &str, found: Option<&str>| {
        Err(Mismatch::new(reason, format!("the provenance claims the {what} {}", found.unwrap_or("(none)"))))
    };
    if !rules.builder_ids.is_empty()
        && !rules.builder_ids.iter().any(|glob| glob.matches(&provenance.builder_id))
    {
        return claims(Reason::WrongBuilder, "builder", Some(&provenance.builder_id));
    }
    if !rules.build_types.is_empty()
        && !rules.build_types.iter().any(|glob| glob.matches(&provenance.build_type))
    {
        return claims(Reason::WrongBuilder, "build type", Some(&provenance.build_type));
    }
    if rules.source_repository.is_some() && rules.source_repository != provenance.source {
        return claims(Reason::WrongSource, "source", provenance.source.as_deref());
    }
    let ref_fits = |found: &str| rules.source_refs.iter().any(|glob| glob.matches(found));
    if !rules.source_refs.is_empty() && !provenance.source_ref.as_deref().is_some_and(ref_fits) {
        return claims(Reason::WrongSource, "source ref", provenance.source_ref.as_deref());
    }
    match expiry(rules, provenance, proved) {
        Some(end) if end <= now => {
            let found = match build_time(provenance, proved) {
                Some(built) => format!("built at {built}"),
                None => "nothing proves or claims when it was built".to_owned(),
            };
            Err(Mismatch::new(Reason::ProvenanceTooOld, found))
        }
        _ => Ok(()),
    }
}

/// When the provenance gets too old for the policy; `None`: never. What has no time is too old from the start.
pub fn expiry(
    rules: &ProvenanceRules,
    provenance: &Provenance,
    proved: Option<Timestamp>,
) -> Option<Timestamp> {
    let max_age = jiff::SignedDuration::try_from(rules.max_age?).unwrap_or(jiff::SignedDuration::MAX);
    let Some(built) = build_time(provenance, proved) else { return Some(Timestamp::MIN) };
    Some(built.checked_add(max_age).unwrap_or(Timestamp::MAX))
}

/// When it was built: `proved` is when at the latest. An earlier claim is believed, a later one is not.
fn build_time(provenance: &Provenance, proved: Option<Timestamp>) -> Option<Timestamp> {
    let claimed = provenance.finished_on.or(provenance.started_on);
    [claimed, proved].into_iter().flatten().min()
}
