//! Where evaluations run. One that may take its time must not keep a thread from answering other reviews, and must end with its review.

use std::{collections::HashMap, num::NonZero, sync::Arc};

use jiff::Timestamp;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use crate::domain::{
    evaluate::{STOPPED, evaluate_while},
    evidence::{FetchError, FetchErrorKind, ImageFacts, Root},
    plan::ImagePlan,
    verdict::ImageVerdict,
    workload::Platforms,
};

/// The most attestations and manifests, for all policies together, that are evaluated on the thread that answers other reviews.
const QUICK: usize = 64;

/// How many evaluations that take their time run at once: as many as there are processors.
pub struct Evaluations(Arc<Semaphore>);

impl Default for Evaluations {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new(processors)))
    }
}

impl Evaluations {
    /// Evaluates: where that may take its time, on a thread that answers no other review, and not longer than until `deadline`.
    ///
    /// # Errors
    /// Where it was not over in time.
    pub async fn run(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        facts: &ImageFacts,
        deadline: Instant,
    ) -> Result<ImageVerdict, FetchError> {
        let late = || FetchError { kind: FetchErrorKind::Deadline, detail: STOPPED.to_owned() };
        let in_time = move || Instant::now() < deadline;
        if !asked.has_conditions() && work(asked, facts) <= QUICK {
            return evaluate_while(asked, platforms, facts, Timestamp::now(), &|| true).ok_or_else(late);
        }
        let permit = timeout_at(deadline, Arc::clone(&self.0).acquire_owned()).await;
        let permit = permit.map_err(|_| late())?;
        let (asked, platforms, facts) = (asked.clone(), platforms.clone(), facts.clone());
        let work = tokio::task::spawn_blocking(move || {
            // Also where nobody waits for it any more: so many run at once, and no more.
            let _permit = permit;
            evaluate_while(&asked, &platforms, &facts, Timestamp::now(), &in_time)
        });
        let ended = |_| FetchError {
            kind: FetchErrorKind::Unavailable,
            detail: "an internal error ended the evaluation of the policies".to_owned(),
        };
        timeout_at(deadline, work).await.map_err(|_| late())?.map_err(ended)?.ok_or_else(late)
    }
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
