//! A GitLab pipeline as a signer.

use super::{
    super::{fields::Fields, pattern::refs, wire},
    ask::{Triggers, check_environments, check_ids, check_issuer, check_stem},
};
use crate::domain::identity::{GitlabIdentity, PipelineConfig, RefType, SignerIdentity};

const TRIGGERS: Triggers = Triggers {
    kind: "source of GitLab's pipelines, such as push or schedule",
    known: &[
        "push",
        "web",
        "schedule",
        "api",
        "trigger",
        "pipeline",
        "parent_pipeline",
        "chat",
        "webide",
        "external",
        "merge_request_event",
        "external_pull_request_event",
        "security_orchestration_policy",
    ],
    strangers: &["merge_request", "external_pull_request"],
    by: "a merge request",
};

/// A GitLab pipeline.
pub fn gitlab(fields: &mut Fields, field: &str, wire: &wire::Gitlab) -> Option<SignerIdentity> {
    let issuer = wire.issuer.clone().unwrap_or_else(|| wire::GITLAB_ISSUER.to_owned());
    check_issuer(fields, &format!("{field}.issuer"), &issuer);
    check_project(fields, &format!("{field}.project"), &wire.project);
    let ids = [("projectId", wire.project_id.as_ref()), ("namespaceId", wire.namespace_id.as_ref())];
    check_ids(fields, field, ids, "is not a number, as the project's API shows it (id, namespace.id)");
    TRIGGERS.check(fields, &format!("{field}.triggers"), &wire.triggers);
    check_environments(fields, &format!("{field}.environments"), &wire.environments);
    let config = wire.config.as_ref().and_then(|text| config(fields, &format!("{field}.config"), text));
    let foreign = config.as_ref().is_some_and(|config| config.project.is_some());
    if foreign && wire.config_refs.is_empty() {
        let message = "is of another project and configRefs is empty: any branch of it may define the pipeline; write configRefs: [\"refs/heads/main\"]";
        fields.warn(&format!("{field}.config"), wire.config.as_deref(), message);
    }
    if wire.config.is_none() && !wire.config_refs.is_empty() {
        fields.error(&format!("{field}.configRefs"), None, "belongs to a config, and none is named");
    }
    let ref_type = wire.ref_type.map(|kind| match kind {
        wire::RefType::Branch => RefType::Branch,
        wire::RefType::Tag => RefType::Tag,
    });
    if wire.refs.is_empty() && ref_type != Some(RefType::Tag) {
        let every = if ref_type.is_some() { "every branch" } else { "every branch and tag" };
        let message = format!("is empty: {every} is accepted; write refs: [\"refs/heads/main\"]");
        fields.warn(&format!("{field}.refs"), None, message);
    }
    let config_refs = refs(fields, &format!("{field}.configRefs"), &wire.config_refs, true);
    let patterns = refs(fields, &format!("{field}.refs"), &wire.refs, false);
    check_type(fields, &format!("{field}.refs"), &wire.refs, ref_type);
    // What is missing has been told.
    let project = Some(&wire.project).filter(|project| !project.is_empty())?;
    let project = fields.glob(&format!("{field}.project"), project)?.into();
    Some(SignerIdentity::Gitlab(Box::new(GitlabIdentity {
        issuer,
        project,
        project_id: wire.project_id.clone(),
        namespace_id: wire.namespace_id.clone(),
        config,
        config_refs,
        refs: patterns,
        ref_type,
        triggers: wire.triggers.clone(),
        runner: wire.runner.map(|runner| match runner {
            wire::GitlabRunner::GitlabHosted => "gitlab-hosted".to_owned(),
            wire::GitlabRunner::SelfHosted => "self-hosted".to_owned(),
        }),
        environments: wire.environments.clone(),
    })))
}

/// A pattern of another type than is asked for matches nothing.
fn check_type(fields: &mut Fields, field: &str, patterns: &[String], kind: Option<RefType>) {
    let (other, word) = match kind {
        Some(RefType::Branch) => (RefType::Tag, "branch"),
        Some(RefType::Tag) => (RefType::Branch, "tag"),
        None => return,
    };
    for (at, pattern) in patterns.iter().enumerate() {
        if pattern.starts_with(other.prefix()) {
            let message = format!("is of another type than refType: {word}, and matches nothing");
            fields.error(&format!("{field}[{at}]"), Some(pattern), message);
        }
    }
}

fn check_project(fields: &mut Fields, field: &str, project: &str) {
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.*?".contains(&b))
    };
    match project.rsplit_once('/') {
        Some((groups, name)) if groups.split('/').all(word) && word(name) => {
            if groups.contains(['*', '?']) {
                let message = "names any group, and anybody can make one; write the groups out";
                fields.error(field, Some(project), message);
            } else if name.contains("**") {
                fields.error(field, Some(project), "a project's name has one segment: write *");
            } else if name.ends_with('*') {
                check_stem(fields, field, project);
            }
        }
        _ if project.is_empty() => {
            fields.error(field, None, "is missing: anybody's project would do; write group/project");
        }
        _ => fields.error(field, Some(project), "is not group/project or group/subgroup/project"),
    }
}

/// `.gitlab-ci.yml`, or `group/project//.gitlab-ci.yml`.
fn config(fields: &mut Fields, field: &str, text: &str) -> Option<PipelineConfig> {
    let plain = |part: &str| !part.is_empty() && !part.contains(['@', '*', '?']);
    let is_file = |path: &str| {
        let end = path.rsplit_once('.').map(|(_, end)| end);
        path.split('/').all(plain) && matches!(end, Some("yml" | "yaml"))
    };
    let is_project = |project: &str| project.contains('/') && project.split('/').all(plain);
    match text.split_once("//") {
        None if is_file(text) => Some(PipelineConfig { project: None, path: text.to_owned() }),
        Some((project, path)) if is_project(project) && is_file(path) => {
            Some(PipelineConfig { project: Some(project.to_owned()), path: path.to_owned() })
        }
        _ => {
            let mut message = "is not a file such as .gitlab-ci.yml, or group/project//.gitlab-ci.yml of another project, without wildcards".to_owned();
            if text.contains('@') {
                message.push_str("; what stands behind the @ goes to configRefs");
            }
            fields.error(field, Some(text), message);
            None
        }
    }
}
