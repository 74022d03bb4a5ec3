//! Signers: who may sign, compiled with an eye on what would accept more than it says.

mod ask;
mod github;
mod gitlab;
mod others;
mod public_key;

use super::{References, fields::Fields, pattern::subject_regex, wire};
use crate::domain::{
    identity::{Signer, SignerIdentity, SubjectMatcher, TrustRootName, has_github_triggers},
    level::BuildLevel,
};
use ask::check_issuer;

/// What a policy asks of the claims, as far as it matters to who may sign.
#[derive(Debug, Clone, Copy)]
pub struct Claims {
    /// Whether it names the source repository that must be claimed.
    pub name_source: bool,
}

/// Compiles a list of signers.
pub fn signers(
    fields: &mut Fields,
    list: &str,
    signers: &[wire::Signer],
    claims: Claims,
    references: &mut References<'_>,
) -> Vec<Signer> {
    let mut compiled: Vec<Signer> = Vec::new();
    for (at, signer) in signers.iter().enumerate() {
        let field = format!("{list}[{at}]");
        let name = signer.name.clone().unwrap_or_else(|| field.trim_start_matches("spec.").to_owned());
        if compiled.iter().any(|known| known.name == name) {
            fields.error(&format!("{field}.name"), Some(&name), "is the name of another signer too");
        }
        let trust_root = trust_root(fields, &field, signer.trust_root.as_deref());
        if let Some(identity) = identity(fields, &field, signer, claims, references) {
            let builder_ids = fields.globs(&format!("{field}.builderIds"), &signer.builder_ids);
            let level = level(fields, &format!("{field}.level"), signer.level).unwrap_or_default();
            compiled.push(Signer { name, identity, trust_root, builder_ids, level });
        }
    }
    compiled
}

/// A level by its number.
pub fn level(fields: &mut Fields, field: &str, number: Option<i32>) -> Option<BuildLevel> {
    let number = number?;
    let level = BuildLevel::new(number);
    if level.is_none() {
        fields.error(field, Some(&number.to_string()), "is no SLSA build level: 1, 2 or 3");
    }
    level
}

/// What no signer reaches is asked of nobody.
pub fn check_levels(fields: &mut Fields, signers: &[Signer], least: BuildLevel) {
    const FIELD: &str = "spec.provenance.minLevel";
    let below: Vec<&Signer> = signers.iter().filter(|signer| signer.level < least).collect();
    if below.is_empty() {
        return;
    }
    let number = least.number().to_string();
    if below.len() == signers.len() {
        let message = format!(
            "is of no signer, so that nobody could sign; write level: {number} for those whose builds are"
        );
        fields.error(FIELD, Some(&number), message);
        return;
    }
    for signer in below {
        let message = format!(
            "is above the level of {} ({}), which is never accepted",
            signer.name,
            signer.level.number()
        );
        fields.warn(FIELD, Some(&number), message);
    }
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

fn identity(
    fields: &mut Fields,
    field: &str,
    signer: &wire::Signer,
    claims: Claims,
    references: &mut References<'_>,
) -> Option<SignerIdentity> {
    let wire::Signer { github, gitlab, buildkite, google_cloud_build, certificate, public_key, .. } = signer;
    let named = [
        github.is_some(),
        gitlab.is_some(),
        buildkite.is_some(),
        google_cloud_build.is_some(),
        certificate.is_some(),
        public_key.is_some(),
    ];
    if named.into_iter().filter(|is_named| *is_named).count() != 1 {
        let message = "is exactly one of github, gitlab, buildkite, googleCloudBuild, certificate, publicKey";
        fields.error(field, None, message);
        return None;
    }
    if let Some(wire) = github {
        return github::github(fields, &format!("{field}.github"), wire);
    }
    if let Some(wire) = gitlab {
        return gitlab::gitlab(fields, &format!("{field}.gitlab"), wire);
    }
    if let Some(wire) = buildkite {
        return others::buildkite(fields, &format!("{field}.buildkite"), wire, claims);
    }
    if let Some(wire) = google_cloud_build {
        return others::google_cloud_build(fields, &format!("{field}.googleCloudBuild"), wire, claims);
    }
    if let Some(wire) = certificate {
        return self::certificate(fields, &format!("{field}.certificate"), wire, claims);
    }
    public_key::public_key(fields, field, public_key.as_ref()?, signer.trust_root.as_deref(), references)
}

fn certificate(
    fields: &mut Fields,
    field: &str,
    wire: &wire::CertificateSigner,
    claims: Claims,
) -> Option<SignerIdentity> {
    let is_github = has_github_triggers(&wire.issuer);
    if is_github && !claims.name_source {
        let message = "names no source: where others may call the workflow, whoever does is accepted; write github with repository and workflow, or add provenance.source";
        fields.warn(field, None, message);
    }
    check_issuer(fields, &format!("{field}.issuer"), &wire.issuer);
    let triggers = format!("{field}.triggers");
    if is_github {
        github::TRIGGERS.check(fields, &triggers, &wire.triggers);
        github::warn_of_defaults(fields, &triggers, &wire.triggers);
    }
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
    let (issuer, triggers) = (wire.issuer.clone(), wire.triggers.clone());
    Some(SignerIdentity::Certificate { issuer, subject, triggers })
}
