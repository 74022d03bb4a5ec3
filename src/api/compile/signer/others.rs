//! Signers whose certificates say little of the source: Buildkite, Google Cloud Build.

use super::{
    super::{fields::Fields, pattern::refs, wire},
    Claims,
    ask::{Triggers, check_stem},
};
use crate::domain::identity::{BuildkiteIdentity, ServiceAccounts, SignerIdentity};

const TRIGGERS: Triggers = Triggers {
    kind: "source of Buildkite's builds, such as webhook or schedule",
    known: &["api", "ui", "webhook", "trigger_job", "schedule"],
    strangers: &[],
    by: "a pull request",
};

/// A Buildkite pipeline.
pub fn buildkite(
    fields: &mut Fields,
    field: &str,
    wire: &wire::Buildkite,
    claims: Claims,
) -> Option<SignerIdentity> {
    let slug = |text: &str, more: &[u8]| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b) || more.contains(&b))
    };
    let (organization, pipeline) = (&wire.organization, &wire.pipeline);
    let mut sound = true;
    for (name, value, more) in [("organization", organization, &b""[..]), ("pipeline", pipeline, &b"*?"[..])]
    {
        let field = format!("{field}.{name}");
        if value.is_empty() {
            fields.error(&field, None, "is missing: anybody's pipeline would do; write its slug");
        } else if value.contains(['*', '?']) && more.is_empty() {
            fields.error(
                &field,
                Some(value),
                "names any organization, and anybody can make one; write it out",
            );
        } else if !slug(value, more) {
            fields.error(&field, Some(value), "is no slug, as it stands in the address of the pipeline");
        } else {
            continue;
        }
        sound = false;
    }
    check_stem(fields, &format!("{field}.pipeline"), pipeline);
    TRIGGERS.check(fields, &format!("{field}.triggers"), &wire.triggers);
    if wire.refs.is_empty() {
        let message = "is empty: every branch and every pull request that the pipeline builds is accepted; write refs: [\"refs/heads/main\"]";
        fields.warn(&format!("{field}.refs"), None, message);
    }
    if wire.triggers.is_empty() {
        let message = "is empty: whatever triggers a build is accepted, and there is no list that is safe for every pipeline; write triggers: [webhook]";
        fields.warn(&format!("{field}.triggers"), None, message);
    }
    if !claims.name_source {
        let message =
            "proves no source repository: whoever may change the pipeline chooses it; add provenance.source";
        fields.warn(field, None, message);
    }
    let refs = refs(fields, &format!("{field}.refs"), &wire.refs, false);
    let glob = sound.then(|| fields.glob(&format!("{field}.pipeline"), pipeline)).flatten()?;
    Some(SignerIdentity::Buildkite(Box::new(BuildkiteIdentity {
        organization: organization.clone(),
        pipeline: glob,
        refs,
        triggers: wire.triggers.clone(),
        runner: wire.runner.map(|runner| match runner {
            wire::BuildkiteRunner::BuildkiteHosted => "buildkite-hosted".to_owned(),
            wire::BuildkiteRunner::SelfHosted => "self-hosted".to_owned(),
        }),
    })))
}

/// A service account of Google Cloud.
pub fn google_cloud_build(
    fields: &mut Fields,
    field: &str,
    wire: &wire::GoogleCloudBuild,
    claims: Claims,
) -> Option<SignerIdentity> {
    let accounts = match (&wire.service_account, &wire.project) {
        (Some(account), None) => service_account(fields, &format!("{field}.serviceAccount"), account)?,
        (None, Some(project)) => project_accounts(fields, &format!("{field}.project"), project)?,
        _ => {
            fields.error(field, None, "has exactly one of serviceAccount and project");
            return None;
        }
    };
    if !claims.name_source {
        let message =
            "proves no source: whoever may build with this account chooses it; add provenance.source";
        fields.warn(field, None, message);
    }
    Some(SignerIdentity::GoogleCloudBuild(accounts))
}

fn service_account(fields: &mut Fields, field: &str, account: &str) -> Option<ServiceAccounts> {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    let is_account = account.split_once('@').is_some_and(|(name, domain)| {
        plain(name) && plain(domain) && domain.ends_with(".gserviceaccount.com")
    });
    if !is_account {
        let message = "is no address of a service account, NAME@PROJECT.iam.gserviceaccount.com; for a person write certificate";
        fields.error(field, Some(account), message);
        return None;
    }
    if account.ends_with("-compute@developer.gserviceaccount.com") {
        let message = "is what every machine of the project runs as unless told otherwise; give builds an account of their own";
        fields.warn(field, Some(account), message);
    }
    Some(ServiceAccounts::One(account.to_owned()))
}

fn project_accounts(fields: &mut Fields, field: &str, project: &str) -> Option<ServiceAccounts> {
    let is_project = project.starts_with(|c: char| c.is_ascii_lowercase())
        && !project.ends_with('-')
        && project.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !is_project || project.len() < 2 {
        fields.error(field, Some(project), "is no id of a project of Google Cloud, such as acme-builds");
        return None;
    }
    if project.starts_with("gcp-sa-") {
        fields.error(field, Some(project), "is a project of Google's own, with accounts for everybody");
        return None;
    }
    let message =
        "accepts every service account of the project; write serviceAccount for the one that builds";
    fields.warn(field, Some(project), message);
    Some(ServiceAccounts::OfProject(project.to_owned()))
}
