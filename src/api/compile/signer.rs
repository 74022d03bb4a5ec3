//! Signers: who may sign, compiled with an eye on what would accept more than it says.

use super::{
    fields::Fields,
    key,
    pattern::{refs, subject_regex},
    wire,
};
use crate::domain::{
    identity::{GithubIdentity, Signer, SignerIdentity, SigningWorkflow, SubjectMatcher, TrustRootName},
    key::{KeyIdentity, TransparencyLog},
};

/// The events of GitHub Actions that build images; another one may be a slip.
const TRIGGERS: [&str; 14] = [
    "push",
    "workflow_dispatch",
    "schedule",
    "release",
    "pull_request",
    "pull_request_target",
    "merge_group",
    "workflow_run",
    "repository_dispatch",
    "create",
    "deployment",
    "registry_package",
    "issue_comment",
    "workflow_call",
];

/// Compiles the signers of a policy.
pub fn signers(fields: &mut Fields, signers: &[wire::Signer]) -> Vec<Signer> {
    if signers.is_empty() {
        fields.error("spec.signers", None, "is empty: nobody could sign; name at least one signer");
    }
    let mut compiled: Vec<Signer> = Vec::new();
    for (at, signer) in signers.iter().enumerate() {
        let field = format!("spec.signers[{at}]");
        let name = signer.name.clone().unwrap_or_else(|| format!("signers[{at}]"));
        if compiled.iter().any(|known| known.name == name) {
            fields.error(&format!("{field}.name"), Some(&name), "is the name of another signer too");
        }
        let trust_root = trust_root(fields, &field, signer.trust_root.as_deref());
        if let Some(identity) = identity(fields, &field, signer) {
            compiled.push(Signer { name, identity, trust_root });
        }
    }
    compiled
}

/// Which roots there are is known where signatures are verified, and not here: a root that is not there vouches for nothing.
fn trust_root(fields: &mut Fields, field: &str, name: Option<&str>) -> TrustRootName {
    let Some(text) = name else { return TrustRootName::default() };
    TrustRootName::parse(text).unwrap_or_else(|| {
        let message =
            "is no name of a trust root: sigstore, github, or one of lower-case letters, digits, - and .";
        fields.error(&format!("{field}.trustRoot"), Some(text), message);
        TrustRootName::default()
    })
}

fn identity(fields: &mut Fields, field: &str, signer: &wire::Signer) -> Option<SignerIdentity> {
    match (&signer.github, &signer.certificate, &signer.public_key) {
        (Some(github), None, None) => self::github(fields, &format!("{field}.github"), github),
        (None, Some(certificate), None) => {
            self::certificate(fields, &format!("{field}.certificate"), certificate)
        }
        (None, None, Some(key)) => self::public_key(fields, field, key, signer.trust_root.as_deref()),
        _ => {
            fields.error(field, None, "is exactly one of github, certificate, publicKey");
            None
        }
    }
}

fn github(fields: &mut Fields, field: &str, wire: &wire::Github) -> Option<SignerIdentity> {
    let issuer = wire.issuer.clone().unwrap_or_else(|| wire::GITHUB_ISSUER.to_owned());
    check_issuer(fields, &format!("{field}.issuer"), &issuer);
    check_repository(fields, &format!("{field}.repository"), &wire.repository);
    for (name, id) in [("repositoryId", &wire.repository_id), ("ownerId", &wire.owner_id)] {
        if let Some(id) = id.as_ref().filter(|id| id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit())) {
            fields.error(
                &format!("{field}.{name}"),
                Some(id),
                "is not a number, as `gh api repos/OWNER/REPO` shows it",
            );
        }
    }
    check_triggers(fields, &format!("{field}.triggers"), &wire.triggers);
    let workflow =
        wire.workflow.as_ref().and_then(|text| workflow(fields, &format!("{field}.workflow"), text));
    let foreign = workflow.as_ref().is_some_and(|workflow| workflow.repository.is_some());
    if foreign && wire.workflow_refs.is_empty() {
        let message = "is of another repository and workflowRefs is empty: any branch of it may sign; write workflowRefs: [\"refs/tags/v*\"]";
        fields.warn(&format!("{field}.workflow"), wire.workflow.as_deref(), message);
    }
    if wire.workflow.is_none() && !wire.workflow_refs.is_empty() {
        fields.error(&format!("{field}.workflowRefs"), None, "belongs to a workflow, and none is named");
    }
    if wire.refs.is_empty() {
        let message = "is empty: every branch and tag is accepted; write refs: [\"refs/heads/main\"]";
        fields.warn(&format!("{field}.refs"), None, message);
    }
    let workflow_refs = refs(fields, &format!("{field}.workflowRefs"), &wire.workflow_refs, true);
    let refs = refs(fields, &format!("{field}.refs"), &wire.refs, false);
    // What is missing has been told.
    let repository = Some(&wire.repository).filter(|repository| !repository.is_empty())?;
    let repository = fields.glob(&format!("{field}.repository"), repository)?;
    Some(SignerIdentity::Github(Box::new(GithubIdentity {
        issuer,
        repository,
        subject: None,
        repository_id: wire.repository_id.clone(),
        owner_id: wire.owner_id.clone(),
        workflow,
        workflow_refs,
        refs,
        triggers: wire.triggers.clone(),
        runner: wire.runner.map(|runner| match runner {
            wire::Runner::GithubHosted => "github-hosted".to_owned(),
            wire::Runner::SelfHosted => "self-hosted".to_owned(),
        }),
    })))
}

fn check_issuer(fields: &mut Fields, field: &str, issuer: &str) {
    if !issuer.starts_with("https://") || issuer.len() <= "https://".len() {
        fields.error(field, Some(issuer), "is not an https URL");
    } else if issuer.ends_with('/') {
        fields.warn(field, Some(issuer), "ends with a slash, which is compared too; few issuers have one");
    }
}

fn check_repository(fields: &mut Fields, field: &str, repository: &str) {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.*?".contains(&b))
    };
    match repository.split_once('/') {
        Some((owner, name)) if word(owner) && word(name) => {
            if owner.contains(['*', '?']) {
                fields.error(
                    field,
                    Some(repository),
                    "names any owner, and anybody can be one; write the owner out",
                );
            } else if name.contains("**") {
                fields.error(field, Some(repository), "a repository's name has one segment: write *");
            } else if let Some(stem) = name.strip_suffix('*').filter(|stem| !stem.is_empty())
                && !stem.ends_with(['-', '.', '_'])
            {
                let message = format!("also accepts names that go on: {owner}/{stem}other");
                fields.warn(field, Some(repository), message);
            } else if std::path::Path::new(name).extension().is_some_and(|end| end == "git") {
                fields.error(field, Some(repository), "is the repository's name, without .git");
            }
        }
        _ if repository.is_empty() => {
            fields.error(field, None, "is missing: anybody's repository would do; write owner/repo");
        }
        _ => fields.error(
            field,
            Some(repository),
            "is not owner/repo, such as infobloxopen/ib-schema-registry",
        ),
    }
}

fn check_triggers(fields: &mut Fields, field: &str, triggers: &[String]) {
    for (at, trigger) in triggers.iter().enumerate() {
        let field = format!("{field}[{at}]");
        let word = !trigger.is_empty() && trigger.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !word {
            fields.error(
                &field,
                Some(trigger),
                "is no event of GitHub Actions, such as push or workflow_dispatch",
            );
        } else if !TRIGGERS.contains(&trigger.as_str()) {
            fields.warn(&field, Some(trigger), "is no event that is known to build images");
        } else if trigger.starts_with("pull_request") {
            fields.warn(&field, Some(trigger), "lets anybody who can open a pull request set off the build");
        }
    }
}

/// `.github/workflows/x.yml`, or `owner/repo/.github/workflows/x.yml`.
fn workflow(fields: &mut Fields, field: &str, text: &str) -> Option<SigningWorkflow> {
    const FOLDER: &str = ".github/workflows/";
    let split = text.find(FOLDER).map(|at| text.split_at(at));
    let is_file = |path: &str| {
        let name = path.strip_prefix(FOLDER).unwrap_or_default();
        name.rsplit_once('.').is_some_and(|(_, end)| matches!(end, "yml" | "yaml"))
            && !name.contains(['/', '@', '*', '?'])
    };
    let is_repository = |text: &str| {
        let parts: Vec<&str> = text.split('/').collect();
        matches!(parts.as_slice(), [owner, name, ""] if !owner.is_empty() && !name.is_empty())
            && !text.contains(['*', '?', '@'])
    };
    match split {
        Some(("", path)) if is_file(path) => {
            Some(SigningWorkflow { repository: None, path: path.to_owned() })
        }
        Some((repository, path)) if is_file(path) && is_repository(repository) => Some(SigningWorkflow {
            repository: Some(repository.trim_end_matches('/').to_owned()),
            path: path.to_owned(),
        }),
        _ => {
            let mut message = "is not .github/workflows/FILE.yml or owner/repo/.github/workflows/FILE.yml, without wildcards".to_owned();
            if text.contains('@') {
                message.push_str("; what stands behind the @ goes to workflowRefs");
            }
            fields.error(field, Some(text), message);
            None
        }
    }
}

fn certificate(fields: &mut Fields, field: &str, wire: &wire::CertificateSigner) -> Option<SignerIdentity> {
    check_issuer(fields, &format!("{field}.issuer"), &wire.issuer);
    let subject = match (&wire.subject, &wire.subject_regex) {
        (Some(exact), None) if exact.is_empty() => {
            fields.error(&format!("{field}.subject"), Some(exact), "is empty");
            return None;
        }
        (Some(exact), None) => SubjectMatcher::Exact(exact.clone()),
        (None, Some(regex)) => {
            SubjectMatcher::Regex(subject_regex(fields, &format!("{field}.subjectRegex"), regex)?)
        }
        _ => {
            fields.error(field, None, "has exactly one of subject and subjectRegex");
            return None;
        }
    };
    Some(SignerIdentity::Certificate { issuer: wire.issuer.clone(), subject })
}

fn public_key(
    fields: &mut Fields,
    field: &str,
    wire: &wire::PublicKey,
    trust_root: Option<&str>,
) -> Option<SignerIdentity> {
    let log = match wire.transparency_log {
        wire::TransparencyLog::Required => TransparencyLog::Required,
        wire::TransparencyLog::Optional => TransparencyLog::Optional,
    };
    let root = format!("{field}.trustRoot");
    match (log, trust_root) {
        (TransparencyLog::Required, Some("github")) => {
            let message = "has no transparency log, so no signature with this key could be in it; write transparencyLog: Optional";
            fields.error(&root, Some("github"), message);
        }
        // The API server writes the usual one where none is named.
        (TransparencyLog::Optional, Some(name)) if name != "sigstore" => {
            let message = "says nothing here: the signature alone suffices where transparencyLog is Optional";
            fields.warn(&root, Some(name), message);
        }
        _ => {}
    }
    match key::public_key(&wire.pem) {
        Ok(key) => Some(SignerIdentity::PublicKey(Box::new(KeyIdentity { key, log }))),
        Err(message) => {
            fields.error(&format!("{field}.publicKey.pem"), None, message);
            None
        }
    }
}
