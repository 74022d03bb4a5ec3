//! Whether a verified attestation is by a signer that a policy names, and says what the policy asks.
//!
//! The checks run from the signer inwards, so that a mismatch's reason tells how far an attestation got.

mod consistency;
mod source;
mod subject;

use jiff::Timestamp;

pub use consistency::check_consistency;
use source::{DefaultTriggers, Source, check_trigger, wrong};
use subject::{check_build_ref, check_config, check_pipeline, check_subject, check_workflow, stranger};

use super::{
    evidence::Verified,
    identity::{BuildkiteIdentity, Certificate, ServiceAccounts, Signer, SignerIdentity},
    message::one_line,
    policy::ProvenanceRules,
    provenance::{Provenance, Statement},
    repository_name::is_same_repository,
    verdict::Reason,
};

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

/// The certificate as the trust root of `signer` reads it. What another root makes of it is not looked at.
///
/// # Errors
/// `WrongSigner`: that root does not vouch.
pub fn certificate_under<'v>(signer: &Signer, verified: &'v Verified) -> Result<&'v Certificate, Mismatch> {
    verified.under(&signer.trust_root).ok_or_else(|| {
        let roots: Vec<&str> =
            verified.readings.iter().map(|reading| reading.trust_root.0.as_str()).collect();
        let found =
            format!("signed under the trust root {}, not under {}", roots.join(" and "), signer.trust_root);
        Mismatch::new(Reason::WrongSigner, found)
    })
}

/// Whether `verified` is by `signer`. `tag` is the tag that was asked for.
///
/// # Errors
/// The first thing that differs: `WrongSigner` or `WrongSource`.
pub fn check_signer(signer: &Signer, verified: &Verified, tag: Option<&str>) -> Result<(), Mismatch> {
    let certificate = certificate_under(signer, verified)?;
    match &signer.identity {
        SignerIdentity::Github(github) => {
            check_issuer(&github.issuer, certificate)?;
            check_workflow(github, certificate, tag)?;
            Source::from(github.as_ref()).check(certificate, tag)
        }
        SignerIdentity::Gitlab(gitlab) => {
            check_issuer(&gitlab.issuer, certificate)?;
            check_config(gitlab, certificate, tag)?;
            Source::from(gitlab.as_ref()).check(certificate, tag)
        }
        SignerIdentity::Buildkite(buildkite) => {
            check_issuer(BuildkiteIdentity::ISSUER, certificate)?;
            check_pipeline(buildkite, certificate)?;
            if buildkite.runner.is_some() && buildkite.runner != certificate.runner {
                return wrong("runner", certificate.runner.as_deref());
            }
            check_build_ref(buildkite, certificate, tag)?;
            check_trigger(&buildkite.triggers, DefaultTriggers::Any, certificate)
        }
        SignerIdentity::GoogleCloudBuild(accounts) => {
            check_issuer(ServiceAccounts::ISSUER, certificate)?;
            if accounts.fit(&certificate.subject) { Ok(()) } else { Err(stranger(certificate)) }
        }
        SignerIdentity::Certificate { issuer, subject, triggers } => {
            check_issuer(issuer, certificate)?;
            check_subject(subject, certificate)?;
            check_trigger(triggers, DefaultTriggers::of_issuer(issuer), certificate)
        }
        SignerIdentity::PublicKey(_) => {
            let found = format!("signed by {} with a certificate, not with the key", certificate.subject);
            Err(Mismatch::new(Reason::WrongSigner, found))
        }
    }
}

fn check_issuer(expected: &str, certificate: &Certificate) -> Result<(), Mismatch> {
    if expected == certificate.issuer {
        return Ok(());
    }
    let found = format!("signed by {} with the issuer {}", certificate.subject, certificate.issuer);
    Err(Mismatch::new(Reason::WrongSigner, found))
}

/// Whether the provenance is of a builder that `signer` stands for, and its builds of the level that the policy asks for.
///
/// # Errors
/// `WrongBuilder`.
pub fn check_builder(
    signer: &Signer,
    rules: &ProvenanceRules,
    provenance: &Provenance,
) -> Result<(), Mismatch> {
    let builder = &provenance.builder_id;
    if !signer.builder_ids.is_empty() && !signer.builder_ids.iter().any(|glob| glob.matches(builder)) {
        let found =
            format!("the provenance claims the builder {builder}, which is none of {}'s", signer.name);
        return Err(Mismatch::new(Reason::WrongBuilder, found));
    }
    if signer.level < rules.min_level {
        let found =
            format!("what {} builds is of {}, and claims the builder {builder}", signer.name, signer.level);
        return Err(Mismatch::new(Reason::WrongBuilder, found));
    }
    Ok(())
}

/// Whether what is claimed is what the policy asks for. `proved` is a time by which it is proved to have been signed, `issuer` who
/// vouches for the signer, if anyone.
///
/// # Errors
/// The first thing that differs: `NoProvenance` (another predicate type), `WrongBuilder`, `WrongSource` or `ProvenanceTooOld`.
pub fn check_provenance(
    rules: &ProvenanceRules,
    statement: &Statement,
    provenance: &Provenance,
    proved: Option<Timestamp>,
    issuer: Option<&str>,
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
    let is_claimed = |wanted: &str| {
        provenance.source.as_deref().is_some_and(|claimed| is_same_repository(wanted, claimed, issuer))
    };
    if rules.source_repository.as_deref().is_some_and(|wanted| !is_claimed(wanted)) {
        return claims(Reason::WrongSource, "source", provenance.source.as_deref());
    }
    let ref_fits = |found: &str| rules.source_refs.iter().any(|glob| glob.matches(found));
    if !rules.source_refs.is_empty() && !provenance.source_ref.as_deref().is_some_and(ref_fits) {
        return claims(Reason::WrongSource, "source ref", provenance.source_ref.as_deref());
    }
    match expiry(rules, provenance, proved) {
        Some(end) if end <= now => {
            let found = match (&provenance.unreadable_time, build_time(provenance, proved)) {
                (Some(stated), _) => format!(
                    "the provenance claims {stated} as the time of the build, which is not a time with a zone such as 2026-01-31T12:00:00Z"
                ),
                (None, Some(built)) => format!("built at {built}"),
                (None, None) => "nothing proves or claims when it was built".to_owned(),
            };
            Err(Mismatch::new(Reason::ProvenanceTooOld, found))
        }
        _ => Ok(()),
    }
}

/// When the provenance gets too old for the policy; `None`: never. What has no time, or claims one that cannot be read, is too old from the
/// start: the claim may be of any age.
pub fn expiry(
    rules: &ProvenanceRules,
    provenance: &Provenance,
    proved: Option<Timestamp>,
) -> Option<Timestamp> {
    let max_age = jiff::SignedDuration::try_from(rules.max_age?).unwrap_or(jiff::SignedDuration::MAX);
    let built = build_time(provenance, proved).filter(|_| provenance.unreadable_time.is_none());
    let Some(built) = built else { return Some(Timestamp::MIN) };
    Some(built.checked_add(max_age).unwrap_or(Timestamp::MAX))
}

/// When it was built: `proved` is when at the latest. An earlier claim is believed, a later one is not.
fn build_time(provenance: &Provenance, proved: Option<Timestamp>) -> Option<Timestamp> {
    let claimed = provenance.finished_on.or(provenance.started_on);
    [claimed, proved].into_iter().flatten().min()
}

#[cfg(test)]
mod tests;
