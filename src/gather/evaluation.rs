//! Where evaluations run. One that may take its time must not keep a thread from answering other reviews, and must end with its review.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::{lanes::Errand, ports::Snapshot};
use crate::domain::{
    evaluate::{STOPPED, evaluate_while},
    evidence::{FetchError, FetchErrorKind, ImageFacts, Root},
    glob::SearchCost,
    plan::{ImagePlan, Plan, Stage, plan},
    policy::{Labels, Scope},
    verdict::ImageVerdict,
    workload::Platforms,
};

/// The most attestations and manifests, for all policies together, that are evaluated on the thread that answers other reviews.
const QUICK: usize = 64;
/// For each of these that the patterns of a policy cost, its attestations count once more.
const QUICK_COST: usize = 256;
/// How long an evaluation may take: nearly all take less than a hundredth of it, and others wait for their turn meanwhile.
const LONGEST: Duration = Duration::from_secs(2);

/// The most that finding the policies for an image may cost on the thread that answers other reviews: a few milliseconds.
const QUICK_PLAN: SearchCost = 4096;

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
    let conditions = errand.conditions.of_evaluation();
    let late = || FetchError { kind: FetchErrorKind::Deadline, detail: STOPPED.to_owned() };
    if !asked.has_conditions() && work(asked, facts) <= QUICK {
        let verdict = evaluate_while(asked, platforms, facts, Timestamp::now(), &conditions, &|| true);
        return verdict.ok_or_else(late);
    }
    let permit = errand.evaluation().await.map_err(|_| late())?;
    let deadline = errand.deadline.min(Instant::now() + LONGEST);
    let in_time = move || Instant::now() < deadline;
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

/// Decides what must be asked about an image: where its namespace has so many policies that this takes its time, on a thread that answers
/// no other review.
///
/// # Errors
/// Where it was not over in time.
pub async fn planned(
    snapshot: &Arc<Snapshot>,
    scope: Scope<'_>,
    stage: Stage,
    image: &str,
    errand: &Errand,
) -> Result<Plan, FetchError> {
    let of_scope = match scope {
        Scope::Namespace { name, labels } if snapshot.policies.cost(name) > QUICK_PLAN => {
            Some((name, labels))
        }
        _ => None,
    };
    let Some((name, labels)) = of_scope else {
        return Ok(plan(&snapshot.policies, scope, snapshot.unmatched, stage, image));
    };
    let permit = errand.evaluation().await?;
    let (snapshot, name, image) = (Arc::clone(snapshot), name.to_owned(), image.to_owned());
    let (is_all, labels) = match labels {
        Labels::All(labels) => (true, labels.clone()),
        Labels::Some(labels) => (false, labels.clone()),
    };
    let work = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let labels = if is_all { Labels::All(&labels) } else { Labels::Some(&labels) };
        let scope = Scope::Namespace { name: &name, labels };
        plan(&snapshot.policies, scope, snapshot.unmatched, stage, &image)
    });
    let late = |_| FetchError {
        kind: FetchErrorKind::Deadline,
        detail: "could not find out in time: the policies that name the image are still looked for"
            .to_owned(),
    };
    let ended = |_| FetchError {
        kind: FetchErrorKind::Unavailable,
        detail: "an internal error ended the search for the policies that name the image".to_owned(),
    };
    timeout_at(errand.deadline, work).await.map_err(late)?.map_err(ended)
}

/// How much there is to evaluate, roughly.
fn work(asked: &ImagePlan, facts: &ImageFacts) -> usize {
    let entries = match facts.root.as_ref() {
        Root::Manifest(_) => 1,
        Root::Index(entries) => entries.len(),
    };
    let evidence = facts.evidence.values().chain(facts.elsewhere.values().flat_map(HashMap::values));
    let attestations = evidence.map(|evidence| evidence.attestations.len()).sum::<usize>();
    let weights = asked.valid().map(|policy| policy.cost().div_euclid(QUICK_COST).saturating_add(1));
    entries.saturating_add(attestations).saturating_mul(weights.fold(0, usize::saturating_add))
}
