//! Where evaluations run. One that may take its time must not keep a thread from answering other reviews, and must end with its review.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::lanes::Errand;
use crate::domain::{
    evaluate::{STOPPED, evaluate_while},
    evidence::{FetchError, FetchErrorKind, ImageFacts, Root},
    plan::ImagePlan,
    verdict::ImageVerdict,
    workload::Platforms,
};

/// The most attestations and manifests, for all policies together, that are evaluated on the thread that answers other reviews.
const QUICK: usize = 64;

/// What is said where the conditions of a review cost too much.
const SPENT: &str = "the conditions about this workload's images take more steps than one review is given; split the workload, or write simpler conditions";

/// Evaluates: where that may take its time, on a thread that answers no other review, and not longer than until the deadline.
///
/// # Errors
/// Where it was not over in time, or where the conditions of the review spent their budget.
pub async fn evaluated(
    asked: &ImagePlan,
    platforms: &Platforms,
    facts: &ImageFacts,
    errand: &Errand,
) -> Result<ImageVerdict, FetchError> {
    let (deadline, conditions) = (errand.deadline, errand.conditions.of_evaluation());
    let late = || FetchError { kind: FetchErrorKind::Deadline, detail: STOPPED.to_owned() };
    let in_time = move || Instant::now() < deadline;
    if !asked.has_conditions() && work(asked, facts) <= QUICK {
        let verdict = evaluate_while(asked, platforms, facts, Timestamp::now(), &conditions, &|| true);
        return verdict.ok_or_else(late);
    }
    let permit = errand.evaluation().await.map_err(|_| late())?;
    let (asked, platforms, facts) = (asked.clone(), platforms.clone(), facts.clone());
    let budget = conditions.clone();
    let work = tokio::task::spawn_blocking(move || {
        // Also where nobody waits for it any more: so many run at once, and no more.
        let _permit = permit;
        evaluate_while(&asked, &platforms, &facts, Timestamp::now(), &budget, &in_time)
    });
    let ended = |_| FetchError {
        kind: FetchErrorKind::Unavailable,
        detail: "an internal error ended the evaluation of the policies".to_owned(),
    };
    let evaluated = timeout_at(deadline, work).await;
    if evaluated.is_err() {
        // Conditions that have not started do not start any more.
        conditions.end();
    }
    let verdict = evaluated.map_err(|_| late())?.map_err(ended)?.ok_or_else(late)?;
    if conditions.is_spent() {
        return Err(FetchError { kind: FetchErrorKind::Deadline, detail: SPENT.to_owned() });
    }
    Ok(verdict)
}

/// How much there is to evaluate, roughly.
fn work(asked: &ImagePlan, facts: &ImageFacts) -> usize {
    let entries = match facts.root.as_ref() {
        Root::Manifest(_) => 1,
        Root::Index(entries) => entries.len(),
    };
    let evidence = facts.evidence.values().chain(facts.elsewhere.values().flat_map(HashMap::values));
    let attestations = evidence.map(|evidence| evidence.attestations.len()).sum::<usize>();
    entries.saturating_add(attestations).saturating_mul(asked.valid().count())
}
