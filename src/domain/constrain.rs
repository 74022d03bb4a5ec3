//! `uncoveredPlatforms: Constrain`: where some of the platforms that a pod could be given are covered and others are not, the pod is not
//! denied but kept to the covered ones. What can still be changed is a draft: a pod before `/mutate`, a template whose pods will go
//! through it.

use std::collections::{BTreeMap, HashSet};

use super::{
    digest::Digest,
    landing::Landing,
    placement::pairs_of,
    plan::ImagePlan,
    platform::{IndexEntry, Platform, all_images, candidates},
    policy::Mode,
    verdict::Problem,
    workload::Platforms,
};

/// Turns what speaks against uncovered platforms into warnings and says to which platforms the pod must be kept; `None`, with the
/// problems as they were, where it cannot or need not be.
///
/// It must be where a platform of today is not covered or the image does not have it, and where a node could join that would be given
/// one of `beyond`: manifests that no policy's attestation covers.
pub fn constrain(
    plan: &ImagePlan,
    platforms: &Platforms,
    landing: &Landing,
    entries: &[IndexEntry],
    beyond: Vec<Problem>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Platform>> {
    plan.constraining().next()?;
    let constrains =
        |problem: &Problem| plan.constraining().any(|policy| problem.policy.as_ref() == Some(&policy.id));
    let may_constrain = |problem: &Problem| {
        // What could not be found out may be found out in a moment: then nothing need be constrained.
        let definite = !problem.reason.is_transient();
        (definite && constrains(problem)).then_some(problem.digest?)
    };
    let against = || problems.iter().filter(|problem| problem.mode == Mode::Enforce);
    let mut uncovered: HashSet<Digest> = against().map(may_constrain).collect::<Option<_>>()?;
    if uncovered.is_empty() && landing.missing.is_empty() && !beyond.iter().any(constrains) {
        return None;
    }
    uncovered.extend(beyond.iter().filter_map(|problem| problem.digest));
    let today = match platforms {
        Platforms::These(list) | Platforms::Among { platforms: list, .. } => list.clone(),
        Platforms::Within { .. } | Platforms::Unknown => {
            landing.candidates.iter().filter_map(|(platform, _)| platform.clone()).collect()
        }
    };
    let is_covered = |platform: &Platform| {
        let found = candidates(platform, entries);
        !found.is_empty() && found.iter().all(|candidate| !uncovered.contains(&candidate.digest))
    };
    let of_image = all_images(entries).into_iter().filter_map(|candidate| candidate.platform);
    let of_image =
        of_image.filter(|platform| !platform.os().is_empty() && !platform.architecture().is_empty());
    // A node's labels do not tell the variants of an architecture apart: it is covered where all are.
    let mut pairs: BTreeMap<Platform, bool> = BTreeMap::new();
    for platform in today.iter().cloned().chain(of_image) {
        let covered = is_covered(&platform);
        let pair = pairs.entry(Platform::new(platform.os(), platform.architecture(), None)).or_insert(true);
        *pair &= covered;
    }
    pairs.retain(|_, covered| *covered);
    // What no node of today could run is denied.
    if !pairs_of(today.into_iter()).iter().any(|pair| pairs.contains_key(pair)) {
        return None;
    }
    for problem in problems.iter_mut().filter(|problem| problem.mode == Mode::Enforce) {
        problem.mode = Mode::Warn;
        problem.avoided = true;
    }
    let avoided = beyond.into_iter().filter(constrains);
    problems.extend(avoided.map(|problem| Problem { mode: Mode::Warn, avoided: true, ..problem }));
    Some(pairs.into_keys().collect())
}
