//! A signer as a denial says whom it expected: what the policy asks for, and no more.

use super::push;
use crate::domain::{
    identity::{
        BuildkiteIdentity, GithubIdentity, GitlabIdentity, RefPattern, RefType, ServiceAccounts, Signer,
        SignerIdentity, SubjectMatcher, TrustRootName,
    },
    key::TransparencyLog,
    reference::Reference,
};

/// The issuers that go without saying.
const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
const GITLAB_ISSUER: &str = "https://gitlab.com";

/// Whom the policy names.
pub fn signed_by(signer: &Signer, reference: &Reference) -> String {
    let root = &signer.trust_root;
    let under = if *root == TrustRootName::default() {
        String::new()
    } else {
        format!(" under the trust root {root}")
    };
    let who = match &signer.identity {
        SignerIdentity::Github(github) => self::github(github, reference),
        SignerIdentity::Gitlab(gitlab) => self::gitlab(gitlab, reference),
        SignerIdentity::Buildkite(buildkite) => self::buildkite(buildkite, reference),
        SignerIdentity::GoogleCloudBuild(ServiceAccounts::One(account)) => {
            format!("googleCloudBuild {account}")
        }
        SignerIdentity::GoogleCloudBuild(ServiceAccounts::OfProject(project)) => {
            format!("googleCloudBuild by a service account of the project {project}")
        }
        SignerIdentity::Certificate { issuer, subject, triggers } => {
            let mut text = format!("{} with the issuer {issuer}", shown(subject));
            build(&mut text, triggers, None, &[]);
            text
        }
        SignerIdentity::PublicKey(identity) => {
            let logged = match identity.log {
                TransparencyLog::Required => ", logged",
                TransparencyLog::Optional => "",
            };
            format!("{} with the {} key {}{logged}", signer.name, identity.key.kind(), identity.key.id())
        }
    };
    format!("{who}{under}")
}

fn shown(subject: &SubjectMatcher) -> String {
    match subject {
        SubjectMatcher::Exact(text) => text.clone(),
        SubjectMatcher::Regex(regex) => format!("/{regex}/"),
    }
}

fn github(github: &GithubIdentity, reference: &Reference) -> String {
    let mut text = format!("github {}", github.repository);
    if let Some(workflow) = &github.workflow {
        let other =
            workflow.repository.as_ref().map(|repository| format!("{repository}/")).unwrap_or_default();
        push(&mut text, format_args!(" {other}{}", workflow.path));
        at(&mut text, &github.workflow_refs, reference);
    }
    if let Some(subject) = &github.subject {
        push(&mut text, format_args!(" by {}", shown(subject)));
    }
    if github.refs.is_empty() {
        text.push_str(" at any branch or tag");
    } else {
        push(&mut text, format_args!(" at {}", refs(&github.refs, reference)));
    }
    if github.issuer != GITHUB_ISSUER {
        push(&mut text, format_args!(" with the issuer {}", github.issuer));
    }
    ids(&mut text, "repository", github.repository_id.as_ref());
    ids(&mut text, "owner", github.owner_id.as_ref());
    build(&mut text, &github.triggers, github.runner.as_ref(), &github.environments);
    text
}

fn gitlab(gitlab: &GitlabIdentity, reference: &Reference) -> String {
    let mut text = format!("gitlab {}", gitlab.project);
    if let Some(config) = &gitlab.config {
        let other = config.project.as_ref().map(|project| format!("{project}//")).unwrap_or_default();
        push(&mut text, format_args!(" {other}{}", config.path));
        at(&mut text, &gitlab.config_refs, reference);
    }
    match (gitlab.refs.is_empty(), gitlab.ref_type) {
        (true, None) => text.push_str(" at any branch or tag"),
        (true, Some(RefType::Branch)) => text.push_str(" at any branch"),
        (true, Some(RefType::Tag)) => text.push_str(" at any tag"),
        (false, kind) => {
            let only = match kind {
                None => "",
                Some(RefType::Branch) => ", a branch",
                Some(RefType::Tag) => ", a tag",
            };
            push(&mut text, format_args!(" at {}{only}", refs(&gitlab.refs, reference)));
        }
    }
    if gitlab.issuer != GITLAB_ISSUER {
        push(&mut text, format_args!(" with the issuer {}", gitlab.issuer));
    }
    ids(&mut text, "project", gitlab.project_id.as_ref());
    ids(&mut text, "namespace", gitlab.namespace_id.as_ref());
    if gitlab.triggers.is_empty() {
        text.push_str(" not on a merge request");
    }
    build(&mut text, &gitlab.triggers, gitlab.runner.as_ref(), &gitlab.environments);
    text
}

fn buildkite(buildkite: &BuildkiteIdentity, reference: &Reference) -> String {
    let mut text = format!("buildkite {}/{}", buildkite.organization, buildkite.pipeline);
    if !buildkite.refs.is_empty() {
        push(&mut text, format_args!(" at {}", refs(&buildkite.refs, reference)));
    }
    build(&mut text, &buildkite.triggers, buildkite.runner.as_ref(), &[]);
    text
}

/// The refs of the instructions that signed.
fn at(text: &mut String, patterns: &[RefPattern], reference: &Reference) {
    if !patterns.is_empty() {
        push(text, format_args!("@{}", refs(patterns, reference)));
    }
}

fn ids(text: &mut String, of: &str, id: Option<&String>) {
    if let Some(id) = id {
        push(text, format_args!(" with the {of} id {id}"));
    }
}

fn build(text: &mut String, triggers: &[String], runner: Option<&String>, environments: &[String]) {
    if !triggers.is_empty() {
        push(text, format_args!(" on {}", triggers.join(" or ")));
    }
    if let Some(runner) = runner {
        push(text, format_args!(" on a {runner} runner"));
    }
    if !environments.is_empty() {
        push(text, format_args!(" for {}", environments.join(" or ")));
    }
}

fn refs(patterns: &[RefPattern], reference: &Reference) -> String {
    let shown = patterns.iter().map(|pattern| match pattern {
        RefPattern::Fixed(glob) => glob.to_string(),
        RefPattern::Tagged(around) => {
            let tag = reference.tag().unwrap_or("${image.tag} (the reference has no tag)");
            format!("{}{tag}{}", around.prefix, around.suffix)
        }
    });
    shown.collect::<Vec<_>>().join(" or ")
}
