//! What is found out about one digest: evidence, its evaluation, and the evidence that the evaluation says is missing.

use tokio::time::Instant;

use super::{Places, Reviewer};
use crate::{
    domain::{
        digest::Digest, evidence::FetchError, plan::ImagePlan, verdict::ImageVerdict, workload::Platforms,
    },
    gather::{
        evaluation::evaluated,
        facts::Known,
        flight::Freshness,
        review::Phases,
        verdicts::{DENIAL_AGE, findings, is_settled},
    },
};

/// How often manifests that are not covered yet are looked at.
const ROUNDS: usize = 2;

impl Reviewer {
    /// Cached evidence may admit. Only fresh evidence may deny.
    pub(super) async fn find_out(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        digest: Digest,
        places: &Places<'_>,
        phases: &mut Phases,
    ) -> Result<ImageVerdict, FetchError> {
        let (verdict, oldest) =
            self.attempt(asked, platforms, digest, Freshness::Any, places, phases).await?;
        if is_settled(&verdict) || oldest.elapsed() <= DENIAL_AGE {
            return Ok(verdict);
        }
        let fresh = Freshness::Within(DENIAL_AGE);
        Ok(self.attempt(asked, platforms, digest, fresh, places, phases).await?.0)
    }

    pub(super) async fn attempt(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        digest: Digest,
        freshness: Freshness,
        places: &Places<'_>,
        phases: &mut Phases,
    ) -> Result<(ImageVerdict, Instant), FetchError> {
        let mut evaluated = async |known: &Known| {
            let start = Instant::now();
            let verdict = evaluated(asked, platforms, &known.facts, &places.home.errand).await;
            phases.evaluate = phases.evaluate.saturating_add(start.elapsed());
            verdict
        };
        let keys = asked.keys();
        let Places { home, elsewhere, .. } = places;
        let mut known = self.facts.of_root(home, elsewhere, digest, freshness).await?;
        self.facts.check_keys(&mut known, &keys, &home.errand).await?;
        let mut verdict = evaluated(&known).await?;
        // What nodes of today could be given; then, where a pod may be kept to what is covered, what nodes to come could.
        for _ in 0..ROUNDS {
            let mut uncovered: Vec<Digest> =
                findings(&verdict).filter_map(|problem| problem.digest).collect();
            uncovered.sort_unstable();
            uncovered.dedup();
            uncovered.retain(|manifest| !known.facts.evidence.contains_key(manifest));
            if uncovered.is_empty() {
                break;
            }
            let may_deny = may_deny(&verdict, &uncovered);
            let hurried = places.without_denial.filter(|_| !may_deny).map(|end| places.until(end));
            let Places { home, elsewhere, .. } = hurried.as_ref().unwrap_or(places);
            let added =
                self.facts.add_manifests(&mut known, home, elsewhere, uncovered.clone(), freshness).await;
            match added {
                // Nobody is denied for the sake of what denies nothing.
                Err(error) if error.kind.is_transient() && !may_deny => {
                    known.leave_open(&uncovered, &error);
                }
                added => added?,
            }
            self.facts.check_keys(&mut known, &keys, &home.errand).await?;
            verdict = evaluated(&known).await?;
        }
        self.facts.check_covered(&known, home, &verdict).await?;
        Ok((verdict, known.oldest))
    }
}

/// Whether some of these manifests may be what denies: those that policies in other modes alone speak against are not.
fn may_deny(verdict: &ImageVerdict, manifests: &[Digest]) -> bool {
    let avoided = verdict.warnings.iter().filter(|problem| problem.avoided);
    let mut denying = verdict.problems.iter().chain(avoided).filter_map(|problem| problem.digest);
    denying.any(|digest| manifests.contains(&digest))
}
