//! A GitHub Actions workflow as a signer.

use super::{
    super::{fields::Fields, pattern::refs, wire},
    ask::{Triggers, check_environments, check_ids, check_issuer, check_stem},
};
use crate::domain::identity::{
    DEFAULT_TRIGGERS, GithubIdentity, SignerIdentity, SigningWorkflow, is_github_issuer,
};

/// The events of GitHub Actions.
pub const TRIGGERS: Triggers = Triggers {
    kind: "event of GitHub Actions, such as push or workflow_dispatch",
    known: &[
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
    ],
    strangers: &["pull_request", "workflow_run", "issue_comment"],
    by: "a pull request or a comment",
};

/// A GitHub Actions workflow.
pub fn github(fields: &mut Fields, field: &str, wire: &wire::Github) -> Option<SignerIdentity> {
    let issuer = wire.issuer.clone().unwrap_or_else(|| wire::GITHUB_ISSUER.to_owned());
    check_issuer(fields, &format!("{field}.issuer"), &issuer);
    if issuer.starts_with("https://") && !is_github_issuer(issuer.trim_end_matches('/')) {
        let message = "is no issuer of GitHub Actions, and certificates of others match nothing here; an enterprise's is https://token.actions.githubusercontent.com/SLUG";
        fields.warn(&format!("{field}.issuer"), Some(&issuer), message);
    }
    check_repository(fields, &format!("{field}.repository"), &wire.repository);
    let ids = [("repositoryId", wire.repository_id.as_ref()), ("ownerId", wire.owner_id.as_ref())];
    check_ids(fields, field, ids, "is not a number, as `gh api repos/OWNER/REPO` shows it");
    TRIGGERS.check(fields, &format!("{field}.triggers"), &wire.triggers);
    warn_of_defaults(fields, &format!("{field}.triggers"), &wire.triggers);
    check_environments(fields, &format!("{field}.environments"), &wire.environments);
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
    let repository = fields.glob(&format!("{field}.repository"), repository)?.into();
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
        environments: wire.environments.clone(),
    })))
}

/// Before, an empty list accepted every event. Policies that rely on it must name the others.
pub fn warn_of_defaults(fields: &mut Fields, field: &str, triggers: &[String]) {
    if triggers.is_empty() {
        let accepted = DEFAULT_TRIGGERS.join(", ");
        let message = format!(
            "is empty: {accepted} are accepted, and builds by any other event are denied; write triggers: [push] to accept fewer"
        );
        fields.warn(field, None, message);
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
            } else if name.ends_with('*') {
                check_stem(fields, field, repository);
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
