//! The evaluation: from a plan and the facts to a verdict with reasons. Pure; whoever asks "why was this denied" finds it here.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{
    authorize::{Mismatch, check_provenance, check_signer, expiry},
    constrain::constrain,
    digest::Digest,
    evidence::{Attestation, FetchError, FetchErrorKind, Finding, ImageFacts, Verified},
    landing::{Landing, entries, landing},
    message,
    plan::ImagePlan,
    platform::{Candidate, Platform},
    policy::{Mode, Policy, SubjectRule},
    provenance::Provenance,
    verdict::{ImageVerdict, PlatformCoverage, Problem, Proof, Reason},
    workload::Platforms,
};

/// The verdict where not even the image could be looked at.
pub fn unavailable(plan: &ImagePlan, digest: Option<Digest>, error: &FetchError) -> ImageVerdict {
    let mut problems = plan.known_problems();
    if let Some(policy) = plan.strictest() {
        let reason = match error.kind {
            FetchErrorKind::NotFound => Reason::ImageNotFound,
            FetchErrorKind::Malformed => Reason::MalformedImage,
            kind => transient_reason(kind),
        };
        problems.push(Problem {
            policy: Some(policy.id.clone()),
            digest,
            hint: message::hint(reason, &plan.reference),
            retry_after: retry_after(error.kind),
            ..Problem::new(reason, policy.mode, error.detail.clone())
        });
    }
    let mut verdict = ImageVerdict::of_problems(plan.reference.written(), problems);
    verdict.digest = digest;
    verdict
}

/// Decides about an image from what was found out about it. `now` is the time of the review.
pub fn evaluate(plan: &ImagePlan, platforms: &Platforms, facts: &ImageFacts, now: Timestamp) -> ImageVerdict {
    let entries = entries(facts.digest, &facts.root);
    let landing = landing(&entries, platforms);
    let mut problems = plan.known_problems();
    let mut proofs: Vec<Proof> = Vec::new();
    let mut valid_until: Option<Timestamp> = None;
    let mut uncovered: HashSet<Digest> = HashSet::new();

    for policy in plan.valid() {
        let judged: Vec<_> = landing
            .candidates
            .iter()
            .map(|(platform, candidate)| (platform, candidate, cover(plan, policy, facts, candidate, now)))
            .collect();
        let some_covered = judged.iter().any(|(_, _, result)| result.is_ok());
        for (platform, candidate, result) in judged {
            match result {
                Ok(cover) => {
                    valid_until = [valid_until, cover.until].into_iter().flatten().min();
                    if !proofs.iter().any(|known| same_proof(known, &cover.proof)) {
                        proofs.push(cover.proof);
                    }
                }
                Err(problem) => {
                    if policy.mode == Mode::Enforce {
                        uncovered.insert(candidate.digest);
                    }
                    problems.push(located(*problem, plan, platform.clone(), candidate.digest, some_covered));
                }
            }
        }
    }
    let constrained = constrain(plan, platforms, &landing, &entries, &mut problems);
    problems.extend(missing_platforms(plan, &landing));

    let mut verdict = ImageVerdict::of_problems(plan.reference.written(), problems);
    verdict.digest = Some(facts.digest);
    verdict.platforms = landing
        .candidates
        .into_iter()
        .map(|(platform, candidate)| PlatformCoverage {
            covered: !uncovered.contains(&candidate.digest) && plan.valid().next().is_some(),
            platform: candidate.platform.or(platform),
            digest: candidate.digest,
        })
        .collect();
    verdict.proofs = proofs;
    verdict.valid_until = valid_until;
    verdict.constrained = constrained;
    verdict
}

fn same_proof(a: &Proof, b: &Proof) -> bool {
    a.policy == b.policy
        && a.signer == b.signer
        && a.subject == b.subject
        && a.predicate_type == b.predicate_type
}

fn located(
    mut problem: Problem,
    plan: &ImagePlan,
    platform: Option<Platform>,
    digest: Digest,
    some_covered: bool,
) -> Problem {
    if problem.reason == Reason::NoProvenance && some_covered {
        problem.reason = Reason::PlatformNotCovered;
        problem.hint = message::hint(problem.reason, &plan.reference);
    }
    Problem { platform, digest: Some(digest), ..problem }
}

/// A platform without a manifest cannot run the image there: worth a warning, and a denial only when there is no other.
fn missing_platforms(plan: &ImagePlan, landing: &Landing) -> Vec<Problem> {
    let Some(policy) = plan.strictest() else { return Vec::new() };
    let mode = if landing.candidates.is_empty() { policy.mode } else { policy.mode.min(Mode::Warn) };
    let problem = |platform: Option<&Platform>, found: String| Problem {
        policy: Some(policy.id.clone()),
        platform: platform.cloned(),
        hint: message::hint(Reason::PlatformMissing, &plan.reference),
        ..Problem::new(Reason::PlatformMissing, mode, found)
    };
    if landing.candidates.is_empty() && landing.missing.is_empty() {
        return vec![problem(None, "the index has no image manifest".to_owned())];
    }
    let found = |platform: &Platform| {
        format!("the image has no manifest for {platform}, so it cannot run on such nodes")
    };
    landing.missing.iter().map(|platform| problem(Some(platform), found(platform))).collect()
}

/// An attestation that covers a manifest, and until when.
struct Cover {
    proof: Proof,
    until: Option<Timestamp>,
}

/// Looks for an attestation that covers `candidate` under `policy`; else says what comes closest.
fn cover(
    plan: &ImagePlan,
    policy: &Policy,
    facts: &ImageFacts,
    candidate: &Candidate,
    now: Timestamp,
) -> Result<Cover, Box<Problem>> {
    let accepted_subjects = accepted_subjects(policy, facts, candidate);
    let mut closest: Option<Mismatch> = None;
    for attestation in relevant(facts, candidate) {
        match judge(plan, policy, attestation, &accepted_subjects, now) {
            Ok(cover) => return Ok(cover),
            Err(mismatch) => {
                if closest.as_ref().is_none_or(|best| closeness(mismatch.reason) > closeness(best.reason)) {
                    closest = Some(mismatch);
                }
            }
        }
    }
    // "There is none" can be said only when everything was asked.
    let gap = relevant_digests(facts, candidate)
        .filter_map(|digest| facts.evidence.get(&digest))
        .flat_map(|evidence| &evidence.gaps)
        .max_by_key(|gap| matches!(gap.kind, FetchErrorKind::Throttled(_)));
    let (reason, found, retry) = match (gap, closest) {
        (Some(gap), _) => (transient_reason(gap.kind), gap.detail.clone(), retry_after(gap.kind)),
        (None, Some(mismatch)) => (mismatch.reason, mismatch.found, None),
        (None, None) => (Reason::NoProvenance, "no attestation is attached to it".to_owned(), None),
    };
    Err(Box::new(Problem {
        policy: Some(policy.id.clone()),
        expected: (!reason.is_transient()).then(|| message::expected(policy, &plan.reference, reason)),
        hint: message::hint(reason, &plan.reference),
        retry_after: retry,
        ..Problem::new(reason, policy.mode, found)
    }))
}

/// The digests that an attestation may name to cover `candidate`.
fn accepted_subjects(policy: &Policy, facts: &ImageFacts, candidate: &Candidate) -> Vec<Digest> {
    match policy.subject {
        SubjectRule::Platform => vec![candidate.digest],
        SubjectRule::Any => relevant_digests(facts, candidate).collect(),
    }
}

fn relevant_digests<'a>(
    facts: &'a ImageFacts,
    candidate: &'a Candidate,
) -> impl Iterator<Item = Digest> + 'a {
    let mut digests = vec![candidate.digest];
    digests
        .extend(candidate.via.iter().rev().copied().chain([facts.digest]).filter(|d| *d != candidate.digest));
    digests.into_iter()
}

/// The attestations found at the manifest or at an index that leads to it.
fn relevant<'a>(facts: &'a ImageFacts, candidate: &'a Candidate) -> impl Iterator<Item = &'a Attestation> {
    relevant_digests(facts, candidate)
        .filter_map(|digest| facts.evidence.get(&digest))
        .flat_map(|evidence| evidence.attestations.iter().map(AsRef::as_ref))
}

fn judge(
    plan: &ImagePlan,
    policy: &Policy,
    attestation: &Attestation,
    accepted_subjects: &[Digest],
    now: Timestamp,
) -> Result<Cover, Mismatch> {
    let mismatch = |reason, found: String| Err(Mismatch { reason, found });
    let verified = match &attestation.finding {
        Finding::Verified(verified) => verified,
        Finding::Unsigned { predicate_type } => {
            let found =
                format!("BuildKit provenance ({predicate_type}) is in the index, but nobody signed it");
            return mismatch(Reason::UnsignedProvenance, found);
        }
        Finding::Untrusted(why) => return mismatch(Reason::UntrustedSignature, why.clone()),
        Finding::Malformed(why) => return mismatch(Reason::MalformedAttestation, why.clone()),
    };
    let (subject, provenance) = match_statement(verified, accepted_subjects)?;
    let signer = match_signer(plan, policy, verified)?;
    check_provenance(&policy.provenance, verified, provenance, now)?;
    Ok(Cover {
        until: expiry(&policy.provenance, verified, provenance),
        proof: Proof {
            policy: policy.id.clone(),
            signer,
            subject,
            predicate_type: verified.statement.predicate_type.clone(),
            certificate: verified.certificate.clone(),
            provenance: provenance.clone(),
        },
    })
}

/// The subject that is ours, and the provenance, of a verified statement.
fn match_statement<'a>(
    verified: &'a Verified,
    accepted: &[Digest],
) -> Result<(Digest, &'a Provenance), Mismatch> {
    let statement = &verified.statement;
    let no_provenance = |found| Err(Mismatch { reason: Reason::NoProvenance, found });
    let Some(provenance) = &statement.provenance else {
        return no_provenance(format!(
            "a signed attestation is there, but of type {}",
            statement.predicate_type
        ));
    };
    match statement.subjects.iter().find(|subject| accepted.contains(subject)) {
        Some(subject) => Ok((*subject, provenance)),
        None => no_provenance(match statement.subjects.first() {
            Some(other) => format!("signed provenance is attached, but it is about another digest, {other}"),
            None => "signed provenance is attached, but it names no digest".to_owned(),
        }),
    }
}

/// The name of a signer that fits; else the mismatch of the one that comes closest.
fn match_signer(plan: &ImagePlan, policy: &Policy, verified: &Verified) -> Result<String, Mismatch> {
    let mut closest: Option<Mismatch> = None;
    for signer in &policy.signers {
        match check_signer(signer, verified, plan.reference.tag()) {
            Ok(()) => return Ok(signer.name.clone()),
            Err(mismatch) => {
                if closest.as_ref().is_none_or(|best| closeness(mismatch.reason) > closeness(best.reason)) {
                    closest = Some(mismatch);
                }
            }
        }
    }
    Err(closest
        .unwrap_or(Mismatch { reason: Reason::WrongSigner, found: "the policy names no signer".to_owned() }))
}

/// How far an attestation got; the farthest is what the message tells.
const fn closeness(reason: Reason) -> u8 {
    match reason {
        Reason::ProvenanceTooOld | Reason::ConditionFailed => 7,
        Reason::WrongBuilder => 6,
        Reason::WrongSource => 5,
        Reason::WrongSigner => 4,
        Reason::UntrustedSignature => 3,
        Reason::MalformedAttestation => 2,
        Reason::UnsignedProvenance => 1,
        _ => 0,
    }
}

const fn transient_reason(kind: FetchErrorKind) -> Reason {
    match kind {
        FetchErrorKind::Denied => Reason::RegistryDenied,
        FetchErrorKind::Throttled(_) => Reason::RegistryThrottled,
        FetchErrorKind::Deadline => Reason::DeadlineExceeded,
        FetchErrorKind::Unavailable | FetchErrorKind::NotFound | FetchErrorKind::Malformed => {
            Reason::RegistryUnavailable
        }
    }
}

const fn retry_after(kind: FetchErrorKind) -> Option<u64> {
    match kind {
        FetchErrorKind::Throttled(Some(after)) => Some(after.as_secs()),
        _ => None,
    }
}
