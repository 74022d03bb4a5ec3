//! How many bytes things take in memory, roughly and rather too many: caches are bounded by them, since whoever signs an attestation or
//! writes a pod chooses how large it is.

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use crate::domain::{
    evidence::{Attestation, CertificateReading, Finding, Keyed, Root, SubjectEvidence, Verified},
    identity::Certificate,
    key::KeyCheck,
    looked_at::LookedAt,
    platform::{EntryKind, IndexEntry, Platform},
    provenance::{Provenance, Statement},
    reference::Repository,
    summary::Summary,
    verdict::{ImageVerdict, PlatformCoverage, Problem, SignedBy},
    vouch::Said,
    workload::{NodeTerm, Placement, Platforms, Workload, WorkloadImage},
};

/// What an allocation takes beside its content, and an entry of a map.
const OVERHEAD: usize = 64;
/// What an entry of a cache takes beside what it holds: its key's allocation, and the nodes of the cache's map and queues.
const ENTRY: usize = 256;

/// For a cache, which counts in 32 bits: what is larger is not kept.
pub fn capped(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(ENTRY)).unwrap_or(u32::MAX)
}

/// For a cache of what is known of things in repositories.
pub fn in_repository(repository: &Repository, bytes: usize) -> u32 {
    capped(repository.as_str().len().saturating_add(2 * OVERHEAD).saturating_add(bytes))
}

/// How many bytes a cache holds, what is to be thrown out of it left out.
pub fn held<K, V, S>(cache: &moka::sync::Cache<K, V, S>) -> u64
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    cache.run_pending_tasks();
    cache.weighted_size()
}

fn sum(parts: impl IntoIterator<Item = usize>) -> usize {
    parts.into_iter().fold(0, usize::saturating_add)
}

fn text(text: &str) -> usize {
    text.len().saturating_add(OVERHEAD)
}

fn option(text: Option<&String>) -> usize {
    text.map_or(0, |text| self::text(text))
}

fn certificate(certificate: &Certificate) -> usize {
    let Certificate { subject, issuer, .. } = certificate;
    let optional = [
        &certificate.workflow_name,
        &certificate.build_signer_uri,
        &certificate.build_signer_digest,
        &certificate.runner,
        &certificate.source_repository,
        &certificate.source_digest,
        &certificate.source_ref,
        &certificate.source_repository_id,
        &certificate.source_owner,
        &certificate.source_owner_id,
        &certificate.build_config_uri,
        &certificate.build_config_digest,
        &certificate.trigger,
        &certificate.run_uri,
        &certificate.source_visibility,
        &certificate.environment,
        &certificate.token_subject,
    ];
    let texts = sum(optional.into_iter().map(|value| option(value.as_ref())));
    sum([size_of::<Certificate>(), text(subject), text(issuer), texts])
}

fn provenance(provenance: &Provenance) -> usize {
    let optional = [
        &provenance.source,
        &provenance.source_ref,
        &provenance.commit,
        &provenance.workflow,
        &provenance.invocation_id,
    ];
    let texts = sum(optional.into_iter().map(|value| option(value.as_ref())));
    let named = text(&provenance.builder_id).saturating_add(text(&provenance.build_type));
    sum([size_of::<Provenance>(), texts, named, text(provenance.predicate.text())])
}

fn summary(of: &Summary) -> usize {
    let texts = [&of.verifier_id, &of.result, &of.resource_uri].into_iter().chain(&of.levels);
    sum([
        size_of::<Summary>(),
        sum(texts.map(|value| text(value).saturating_add(OVERHEAD))),
        option(of.policy_uri.as_ref()),
        text(of.predicate.text()),
    ])
}

fn statement(statement: &Statement) -> usize {
    sum([
        statement.subjects.len().saturating_mul(OVERHEAD.saturating_mul(2)),
        text(&statement.predicate_type),
        statement.provenance.as_ref().map_or(0, provenance),
        statement.summary.as_ref().map_or(0, summary),
        statement.other.as_ref().map_or(0, |other| text(other.text())),
    ])
}

/// What is said in an attestation manifest.
pub fn said(said: &Said) -> usize {
    let below = match &said.statement {
        Ok(read) => statement(read),
        Err(why) => text(why),
    };
    below.saturating_add(size_of::<Said>())
}

/// What became of an attestation that was held against a key.
pub fn key_check(check: &KeyCheck) -> usize {
    let KeyCheck { signature, logged, unlogged, .. } = check;
    sum([
        size_of::<KeyCheck>(),
        signature.as_ref().err().map_or(0, |why| text(why)),
        sum(logged.iter().map(|logged| text(&logged.trust_root.0).saturating_add(OVERHEAD))),
        text(unlogged),
    ])
}

/// An attestation and what became of it.
pub fn attestation(attestation: &Attestation) -> usize {
    let finding = match &attestation.finding {
        Finding::Verified(verified) => {
            let Verified { readings, statement: said } = verified.as_ref();
            let reading = |one: &CertificateReading| {
                sum([text(&one.trust_root.0), certificate(&one.certificate), size_of::<CertificateReading>()])
            };
            sum([size_of::<Verified>(), sum(readings.iter().map(reading)), statement(said)])
        }
        Finding::Keyed(keyed) => sum([size_of::<Keyed>(), statement(&keyed.statement)]),
        Finding::Unsigned { predicate_type: why } | Finding::Untrusted(why) | Finding::Malformed(why) => {
            text(why)
        }
    };
    finding.saturating_add(size_of::<Attestation>())
}

/// All that was found out about a digest.
pub fn evidence(evidence: &SubjectEvidence) -> usize {
    let attestations = sum(evidence.attestations.iter().map(|one| attestation(one)));
    sum([attestations, sum(evidence.gaps.iter().map(|gap| text(&gap.detail))), OVERHEAD])
}

/// What a digest is.
pub fn root(root: &Root) -> usize {
    fn entries(list: &[IndexEntry]) -> usize {
        sum(list.iter().map(|entry| {
            let nested = match &entry.kind {
                EntryKind::Index(nested) => entries(nested),
                EntryKind::Image | EntryKind::Attestation(_) => 0,
            };
            sum([nested, size_of::<IndexEntry>(), entry.platform.as_ref().map_or(0, platform)])
        }))
    }
    match root {
        Root::Manifest(stated) => stated.as_ref().map_or(0, platform),
        Root::Index(list) => entries(list),
    }
}

/// A platform of an image and whether it is covered.
pub fn coverage(one: &PlatformCoverage) -> usize {
    let platform = one.platform.as_ref().map_or(0, platform);
    platform.saturating_add(size_of::<PlatformCoverage>())
}

fn platform(platform: &Platform) -> usize {
    let parts = [platform.os(), platform.architecture(), platform.variant().unwrap_or_default()];
    sum(parts.map(text)).saturating_add(size_of::<Platform>())
}

/// The platforms a pod can land on.
pub fn platforms(platforms: &Platforms) -> usize {
    match platforms {
        Platforms::These(list) => sum(list.iter().map(platform)),
        Platforms::Within { systems, architectures } => {
            sum(systems.iter().chain(architectures).map(|value| text(value)))
        }
        Platforms::Among { platforms, systems, architectures } => {
            let texts = systems.iter().chain(architectures).map(|value| text(value));
            sum(platforms.iter().map(platform).chain(texts))
        }
        Platforms::Unknown => 0,
    }
}

/// What narrows where a pod lands.
pub fn placement(placement: &Placement) -> usize {
    let Placement { node_name, node_selector, affinity, os, runtime_class } = placement;
    let term = |term: &NodeTerm| {
        sum(term.labels.iter().chain(&term.fields).map(|requirement| {
            sum(requirement.values.iter().map(|value| text(value))).saturating_add(text(&requirement.key))
        }))
    };
    sum([
        size_of::<Placement>(),
        sum([node_name, os, runtime_class].map(|value| option(value.as_ref()))),
        sum(node_selector.iter().map(|(key, value)| text(key).saturating_add(text(value)))),
        sum(affinity.iter().flatten().map(|one| term(one).saturating_add(OVERHEAD))),
    ])
}

/// What is judged.
pub fn workload(workload: &Workload) -> usize {
    let Workload { kind, namespace, name, images, placement: placed, pull } = workload;
    let of_image = |image: &Arc<WorkloadImage>| {
        let WorkloadImage { name, role: _, field, image } = image.as_ref();
        sum([size_of::<WorkloadImage>(), text(name), text(field), text(image)])
    };
    sum([
        size_of::<Workload>(),
        sum([kind, namespace, name].map(|value| text(value))),
        sum(images.iter().map(of_image)),
        placement(placed),
        sum(pull.secrets.iter().map(|secret| text(secret))),
        option(pull.service_account.as_ref()),
    ])
}

fn signed_by(signed_by: &SignedBy) -> usize {
    match signed_by {
        SignedBy::Certificate(one) => certificate(one),
        SignedBy::Key { .. } => size_of::<SignedBy>(),
    }
}

/// One finding.
pub fn problem(problem: &Problem) -> usize {
    let policy = problem
        .policy
        .as_ref()
        .map_or(0, |policy| text(&policy.name).saturating_add(option(policy.namespace.as_ref())));
    sum([
        size_of::<Problem>(),
        policy,
        problem.platform.as_ref().map_or(0, platform),
        text(&problem.found),
        sum(problem.looked_at.iter().map(|one| {
            let texts = text(&one.why).saturating_add(option(one.predicate_type.as_ref()));
            texts.saturating_add(size_of::<LookedAt>())
        })),
        option(problem.expected.as_ref()),
        option(problem.hint.as_ref()),
    ])
}

/// A verdict, with everything it tells.
pub fn verdict(verdict: &ImageVerdict) -> usize {
    let problems = verdict.problems.iter().chain(&verdict.warnings).chain(&verdict.audit);
    let proofs = verdict.proofs.iter().map(|proof| {
        sum([
            signed_by(&proof.signed_by),
            option(proof.trust_root.as_ref().map(|root| &root.0)),
            provenance(&proof.provenance),
            proof.summary.as_ref().map_or(0, summary),
            proof.other.as_ref().map_or(0, |other| text(other.text())),
            text(&proof.signer),
            text(&proof.predicate_type),
            text(&proof.policy.name),
            OVERHEAD,
        ])
    });
    sum([
        size_of::<ImageVerdict>(),
        text(&verdict.reference),
        sum(problems.map(problem)),
        sum(proofs),
        sum(verdict.platforms.iter().map(coverage)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{policy::Mode, predicate::Predicate, verdict::Reason};

    #[test]
    fn what_somebody_else_chooses_weighs_at_least_its_text() {
        let long = "x".repeat(100_000);
        let selector = [(long.clone(), long.clone())].into();
        let placed = Placement { node_selector: selector, ..Placement::default() };
        assert!(placement(&placed) > 200_000);
        assert!(placement(&Placement::default()) < 1000);

        let problem = Problem::new(Reason::NoProvenance, Mode::Enforce, long.clone());
        assert!(verdict(&ImageVerdict::of_problems("a", vec![problem])) > 100_000);
        assert!(verdict(&ImageVerdict::of_problems("a", Vec::new())) < 1000);

        let predicate = Predicate::from(serde_json::json!({"deep": [[long]]}));
        assert!(provenance(&Provenance { predicate, ..Provenance::default() }) > 100_000);
        assert_eq!(capped(usize::MAX), u32::MAX);
    }
}
