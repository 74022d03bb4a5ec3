//! How much of a verdict is kept. Whatever its size, one finding of each policy and reason stays. So nothing that is decided by reasons
//! changes when a verdict is trimmed.

use std::{fmt::Write as _, sync::Arc};

use super::weigh;
use crate::domain::{
    policy::PolicyId,
    verdict::{ImageVerdict, Problem, Reason},
};

/// How many bytes of findings and platforms one verdict keeps.
pub const LARGEST: usize = 256 << 10;
/// How many bytes it keeps where there is no more room for verdicts.
pub const SMALLEST: usize = 8 << 10;

/// What is told in place of details beyond the limit.
const WITHOUT_DETAILS: &str = "the details are left out: too much is looked up at once";

/// The verdict with at most `limit` bytes of findings and platforms, and one finding of each policy and reason in any case.
#[must_use]
pub fn trimmed(mut verdict: ImageVerdict, limit: usize) -> ImageVerdict {
    if weight(&verdict) <= limit {
        return verdict;
    }
    let mut platforms_left = limit / 2;
    let fitting = verdict.platforms.iter().take_while(|one| {
        let rest = platforms_left.checked_sub(weigh::coverage(one));
        platforms_left = rest.unwrap_or_default();
        rest.is_some()
    });
    let fitting = fitting.count();
    verdict.platforms.truncate(fitting);
    verdict.platforms.shrink_to_fit();
    let mut left = limit.saturating_sub(weight_of_platforms(&verdict));
    for list in [&mut verdict.problems, &mut verdict.warnings, &mut verdict.audit] {
        *list = trimmed_list(std::mem::take(list), &mut left);
    }
    verdict
}

/// The same of a verdict that others may hold too: it is copied only where it is too large.
#[must_use]
pub fn trimmed_shared(verdict: Arc<ImageVerdict>, limit: usize) -> Arc<ImageVerdict> {
    if weight(&verdict) <= limit {
        return verdict;
    }
    Arc::new(trimmed(ImageVerdict::clone(&verdict), limit))
}

/// How many bytes its findings and platforms take.
pub fn weight(verdict: &ImageVerdict) -> usize {
    let all = verdict.problems.iter().chain(&verdict.warnings).chain(&verdict.audit);
    all.map(weigh::problem).fold(weight_of_platforms(verdict), usize::saturating_add)
}

fn weight_of_platforms(verdict: &ImageVerdict) -> usize {
    verdict.platforms.iter().map(weigh::coverage).fold(0, usize::saturating_add)
}

fn trimmed_list(list: Vec<Problem>, left: &mut usize) -> Vec<Problem> {
    let mut kept: Vec<Problem> = Vec::new();
    // The first finding of each policy and reason: where it is in `kept`, and how many like it are left out.
    let mut firsts: Vec<((Option<PolicyId>, Reason), usize, usize)> = Vec::new();
    for mut problem in list {
        let weight = weigh::problem(&problem);
        let fits = left.checked_sub(weight);
        let first = firsts
            .iter_mut()
            .find(|((policy, reason), ..)| *policy == problem.policy && *reason == problem.reason);
        match (fits, first) {
            (Some(rest), Some(_)) => *left = rest,
            (None, Some((_, _, more))) => {
                *more = more.saturating_add(1);
                continue;
            }
            (fits, None) => {
                match fits {
                    Some(rest) => *left = rest,
                    None => problem.leave_out_details(WITHOUT_DETAILS),
                }
                firsts.push(((problem.policy.clone(), problem.reason), kept.len(), 0));
            }
        }
        kept.push(problem);
    }
    for (_, at, more) in firsts {
        if let Some(problem) = kept.get_mut(at).filter(|_| more > 0) {
            // Writing to a string does not fail.
            let _ = write!(problem.found, " (and {more} more findings like this)");
        }
    }
    kept.shrink_to_fit();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Mode;

    fn problem(policy: &str, reason: Reason, mode: Mode, bytes: usize) -> Problem {
        let policy = PolicyId { namespace: None, name: policy.to_owned() };
        Problem { policy: Some(policy), ..Problem::new(reason, mode, "x".repeat(bytes)) }
    }

    #[test]
    fn a_verdict_that_fits_is_as_it_was_and_a_larger_one_keeps_each_kind_of_finding() {
        let kinds = [
            ("p", Reason::NoProvenance, Mode::Enforce),
            ("q", Reason::NoProvenance, Mode::Enforce),
            ("q", Reason::RegistryUnavailable, Mode::Enforce),
            ("r", Reason::WrongSigner, Mode::Warn),
            ("s", Reason::WrongSigner, Mode::Audit),
        ];
        let all = |bytes| {
            let of = |(policy, reason, mode): &(&str, Reason, Mode)| problem(policy, *reason, *mode, bytes);
            let problems = (0..100).flat_map(|_| kinds.iter().map(of)).collect();
            ImageVerdict::of_problems("image", problems)
        };
        assert_eq!(trimmed(all(10), LARGEST).problems.len(), 300);
        for limit in [LARGEST, SMALLEST, 0] {
            let before = all(3000);
            let after = trimmed(before.clone(), limit);
            assert_eq!(after.outcome, before.outcome);
            assert!(weight(&after) <= limit + kinds.len() * 1024, "{limit}: {}", weight(&after));
            for (policy, reason, _) in kinds {
                let found = after.problems.iter().chain(&after.warnings).chain(&after.audit);
                let of = |one: &&Problem| {
                    one.reason == reason && one.policy.as_ref().is_some_and(|id| id.name == policy)
                };
                let first = found.clone().find(of);
                assert!(first.is_some(), "{limit}: {policy} {reason}");
                let told = found.filter(of).count();
                let first = &first.map(|first| first.found.clone()).unwrap_or_default();
                assert!(
                    told == 100 || first.ends_with(&format!("(and {} more findings like this)", 100 - told))
                );
            }
        }
    }
}
