//! The evaluation: from a plan and the facts to a verdict with reasons. Pure; whoever asks "why was this denied" finds it here.

use std::{borrow::Cow, collections::HashSet};

use jiff::Timestamp;

use super::{
    condition::ReviewBudget,
    constrain::constrain,
    cover::Judge,
    digest::Digest,
    evidence::{FetchError, FetchErrorKind, ImageFacts},
    landing::{Landing, beyond, entries, landing},
    message,
    plan::ImagePlan,
    platform::Platform,
    policy::Mode,
    verdict::{ImageVerdict, PlatformCoverage, Problem, Proof, Reason},
    workload::Platforms,
};

/// How many bytes of details one verdict tells. Whoever pushes an index chooses how many manifests it has, and whoever writes policies
/// how many of those, so the details of all of them are bounded together.
const DETAILS: usize = 512 << 10;
/// What is told in place of details beyond that.
const WITHOUT_DETAILS: &str = "the details are left out: there is more to say about this image than is kept";

/// Why there is no verdict where the evaluation was stopped.
pub const STOPPED: &str = "could not find out in time: the policies are still evaluated";

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
    evaluate_while(plan, platforms, facts, now, &ReviewBudget::default(), &|| true).unwrap_or_else(|| {
        let error = FetchError { kind: FetchErrorKind::Deadline, detail: STOPPED.to_owned() };
        unavailable(plan, Some(facts.digest), &error)
    })
}

/// The same within what is left for the conditions of the review, where the caller may stop it: `goes_on` is asked before each
/// policy, each attestation under it and each manifest. `None`: it was stopped. Where `conditions` are spent, the verdict says nothing of the image.
pub fn evaluate_while(
    plan: &ImagePlan,
    platforms: &Platforms,
    facts: &ImageFacts,
    now: Timestamp,
    conditions: &ReviewBudget,
    goes_on: &dyn Fn() -> bool,
) -> Option<ImageVerdict> {
    let entries = entries(facts.digest, &facts.root);
    let landing = landing(&entries, platforms);
    let is_constraining = plan.constraining().next().is_some();
    let later = if is_constraining { beyond(&entries, platforms, &landing) } else { Vec::new() };
    let possible = landing.candidates.iter().chain(&later).map(|(_, candidate)| candidate);
    let mut beyond: Vec<Problem> = Vec::new();
    let mut problems = plan.known_problems();
    let mut proofs: Vec<Proof> = Vec::new();
    let mut valid_until: Option<Timestamp> = None;
    let mut uncovered: HashSet<Digest> = HashSet::new();
    let mut details_left = DETAILS;

    let budget = conditions.of_image();
    let judge = Judge::new(plan, facts, possible.clone(), now, budget.clone());
    for policy in plan.valid() {
        if !goes_on() {
            return None;
        }
        // Most policies name no other repository, and share what is worked out once.
        let seen = facts.seen_by(policy);
        let apart = matches!(seen, Cow::Owned(_))
            .then(|| Judge::new(plan, &seen, possible.clone(), now, budget.clone()));
        let mut ruling = apart.as_ref().unwrap_or(&judge).under(policy, goes_on)?;
        let judged = landing.candidates.iter().map(|(platform, candidate)| {
            goes_on().then(|| {
                let platforms: Vec<_> = landing.platforms_of(platform.as_ref(), candidate).collect();
                let mut result = ruling.cover(candidate, &platforms);
                if let Err(problem) = &mut result {
                    problem.platform.clone_from(platform);
                    bound_details(problem, &mut details_left);
                }
                (candidate, result)
            })
        });
        let judged: Vec<_> = judged.collect::<Option<_>>()?;
        let some_covered = judged.iter().any(|(_, result)| result.is_ok());
        for (candidate, result) in judged {
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
                    problems.push(located(*problem, plan, candidate.digest, some_covered));
                }
            }
        }
        if policy.mode == Mode::Enforce {
            for (platform, candidate) in &later {
                if !goes_on() {
                    return None;
                }
                let Err(mut problem) = ruling.cover(candidate, &[platform.as_ref()]) else { continue };
                problem.platform.clone_from(platform);
                bound_details(&mut problem, &mut details_left);
                beyond.push(located(*problem, plan, candidate.digest, some_covered));
            }
        }
    }
    let constrained = constrain(plan, platforms, &landing, &entries, beyond, &mut problems);
    let avoided = constrained.is_some();
    problems
        .extend(missing_platforms(plan, &landing).into_iter().map(|problem| Problem { avoided, ..problem }));

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
    Some(verdict)
}

/// Leaves out what a problem tells beyond its reason, where too much was told before.
fn bound_details(problem: &mut Problem, left: &mut usize) {
    if let Some(rest) = left.checked_sub(problem.detail_bytes()) {
        *left = rest;
        return;
    }
    *left = 0;
    problem.leave_out_details(WITHOUT_DETAILS);
}

fn same_proof(a: &Proof, b: &Proof) -> bool {
    a.policy == b.policy
        && a.signer == b.signer
        && a.subject == b.subject
        && a.predicate_type == b.predicate_type
}

fn located(mut problem: Problem, plan: &ImagePlan, digest: Digest, some_covered: bool) -> Problem {
    if problem.reason == Reason::NoProvenance && some_covered {
        problem.reason = Reason::PlatformNotCovered;
        // One whose details are left out has no hint.
        problem.hint = problem.hint.and_then(|_| message::hint(Reason::PlatformNotCovered, &plan.reference));
    }
    Problem { digest: Some(digest), ..problem }
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

pub(super) const fn transient_reason(kind: FetchErrorKind) -> Reason {
    match kind {
        FetchErrorKind::Denied => Reason::RegistryDenied,
        FetchErrorKind::Throttled(_) => Reason::RegistryThrottled,
        FetchErrorKind::Deadline => Reason::DeadlineExceeded,
        FetchErrorKind::Incomplete => Reason::NotAllInspected,
        FetchErrorKind::Unavailable | FetchErrorKind::NotFound | FetchErrorKind::Malformed => {
            Reason::RegistryUnavailable
        }
    }
}

pub(super) const fn retry_after(kind: FetchErrorKind) -> Option<u64> {
    match kind {
        FetchErrorKind::Throttled(Some(after)) => Some(after.as_secs()),
        _ => None,
    }
}
