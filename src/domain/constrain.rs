//! `uncoveredPlatforms: Constrain`: where some of a pod's platforms are covered and others are not, the pod is not denied but kept to
//! the covered ones. What can still be changed is a draft: a pod before `/mutate`, a template whose pods will go through it.

use std::collections::HashSet;

use super::{
    digest::Digest,
    landing::Landing,
    placement::pairs_of,
    plan::{ImagePlan, Stage},
    platform::{IndexEntry, Platform, candidates},
    policy::{Mode, UncoveredRule},
    verdict::Problem,
    workload::Platforms,
};

/// Turns what speaks against uncovered platforms into warnings and says to which platforms the pod must be kept; `None`, with the
/// problems as they were, where it cannot or need not be.
pub fn constrain(
    plan: &ImagePlan,
    platforms: &Platforms,
    landing: &Landing,
    entries: &[IndexEntry],
    problems: &mut [Problem],
) -> Option<Vec<Platform>> {
    if plan.stage == Stage::Final {
        return None;
    }
    let may_constrain = |problem: &Problem| {
        let policy = problem.policy.as_ref()?;
        let policy = plan.valid().find(|valid| valid.id == *policy)?;
        // What could not be found out may be found out in a moment: then nothing need be constrained.
        let definite = !problem.reason.is_transient();
        (definite && policy.uncovered == UncoveredRule::Constrain).then_some(problem.digest?)
    };
    let against = || problems.iter().filter(|problem| problem.mode == Mode::Enforce);
    let uncovered: HashSet<Digest> = against().map(may_constrain).collect::<Option<_>>()?;
    if uncovered.is_empty() {
        return None;
    }
    let wanted = match platforms {
        Platforms::These(list) => list.clone(),
        Platforms::Within { .. } | Platforms::Unknown => {
            pairs_of(landing.candidates.iter().filter_map(|(platform, _)| platform.clone()))
        }
    };
    let is_covered = |platform: &Platform| {
        let found = candidates(platform, entries);
        !found.is_empty() && found.iter().all(|candidate| !uncovered.contains(&candidate.digest))
    };
    let covered: Vec<Platform> = wanted.into_iter().filter(is_covered).collect();
    if covered.is_empty() {
        return None;
    }
    for problem in problems.iter_mut().filter(|problem| problem.mode == Mode::Enforce) {
        problem.mode = Mode::Warn;
        problem.avoided = true;
    }
    Some(covered)
}
