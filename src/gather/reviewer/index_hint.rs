//! The hint of a denied manifest whose index may have the provenance.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Places, Reviewer};
use crate::{
    domain::{
        digest::Digest,
        message::{self, IndexHint},
        plan::ImagePlan,
        verdict::{ImageVerdict, Outcome, Problem, Reason},
        workload::Platforms,
    },
    gather::{flight::Freshness, review::Phases},
};

/// How long the index of a denied manifest is looked for.
const INDEX_PATIENCE: Duration = Duration::from_secs(1);

impl Reviewer {
    /// Says in a denial for want of provenance which index has it, where the reference tells.
    pub(super) async fn point_to_index(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        digest: Digest,
        places: &Places<'_>,
        verdict: &mut ImageVerdict,
    ) {
        if lacks_only_an_index(asked, verdict, digest) {
            let index = self.find_index(asked, platforms, digest, places).await;
            message::point_to_index(verdict, &asked.reference, digest, index);
        }
    }

    /// The index that the reference's tag names, where its provenance covers the manifest that the reference's digest names. Only what is
    /// denied is looked up so, and only for a moment.
    async fn find_index(
        &self,
        asked: &ImagePlan,
        platforms: &Platforms,
        digest: Digest,
        places: &Places<'_>,
    ) -> IndexHint {
        let Some(tagged) = asked.reference.without_digest() else { return IndexHint::Possible };
        let errand = &places.home.errand;
        let look = async {
            let index = self.facts.digest(&tagged, errand).await.ok().filter(|index| *index != digest)?;
            let phases = &mut Phases::default();
            let attempt = self.attempt(asked, platforms, index, Freshness::Any, places, phases).await;
            Some((index, attempt.ok()?.0))
        };
        let end = Instant::now().checked_add(INDEX_PATIENCE).unwrap_or(errand.deadline).min(errand.deadline);
        let found = timeout_at(end, look).await.ok().flatten();
        let lists = |verdict: &ImageVerdict| verdict.platforms.iter().any(|one| one.digest == digest);
        match found {
            Some((index, verdict)) if lists(&verdict) => match verdict.outcome {
                Outcome::Allow => IndexHint::Covers(index),
                Outcome::Deny => IndexHint::None,
                Outcome::Unverifiable => IndexHint::Possible,
            },
            _ => IndexHint::Possible,
        }
    }
}

/// Whether a manifest is denied that the reference names by its digest, for having no provenance of its own, under policies that an index's
/// provenance would satisfy.
fn lacks_only_an_index(asked: &ImagePlan, verdict: &ImageVerdict, digest: Digest) -> bool {
    let lacks = |problem: &Problem| problem.reason == Reason::NoProvenance && problem.digest == Some(digest);
    asked.reference.digest().is_some()
        && !asked.wants_platform_subjects()
        && verdict.outcome == Outcome::Deny
        && verdict.problems.iter().any(lacks)
}
