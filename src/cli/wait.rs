//! `--wait`: asking again until the image is admitted, the answer cannot change any more, or the time is over.

use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::domain::verdict::{ImageVerdict, Outcome, Reason};

/// The first pause, and the longest that a back-off grows to.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// In all; `None`: one look.
    pub wait: Option<Duration>,
    /// For one look.
    pub timeout: Duration,
}

/// Looks until there is an answer that stands. `look` is given the time by which it has to end.
pub async fn until_settled(
    patience: Patience,
    image: &str,
    look: impl AsyncFn(Instant) -> Arc<ImageVerdict>,
) -> Arc<ImageVerdict> {
    let start = Instant::now();
    let end = patience.wait.map_or(start, |wait| start + wait);
    let mut progress: Option<ProgressBar> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let verdict = look(Instant::now() + patience.timeout).await;
        let left = end.saturating_duration_since(Instant::now());
        if !may_heal(&verdict) || left.is_zero() {
            if let Some(progress) = progress {
                progress.finish_and_clear();
            }
            return verdict;
        }
        let progress = progress.get_or_insert_with(|| spinner(image));
        progress.set_message(words(&verdict));
        // The last look is when the time is over, not one pause before.
        tokio::time::sleep(next_pause(&verdict, pause).min(left)).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// The pause before the next look: what the registry asked for, where it asked for more.
fn next_pause(verdict: &ImageVerdict, pause: Duration) -> Duration {
    let asked = verdict.problems.iter().filter_map(|problem| problem.retry_after).max();
    pause.max(Duration::from_secs(asked.unwrap_or_default()))
}

/// Whether time alone can turn this no into a yes: every reason must be one that heals.
pub fn may_heal(verdict: &ImageVerdict) -> bool {
    verdict.outcome != Outcome::Allow && verdict.problems.iter().all(|problem| heals(problem.reason))
}

const fn heals(reason: Reason) -> bool {
    match reason {
        // The push, or its attestation, is still under way. BuildKit's own unsigned provenance arrives with the image, and the
        // signed one after it; platforms are often attested one after the other.
        Reason::NoProvenance
        | Reason::UnsignedProvenance
        | Reason::PlatformNotCovered
        | Reason::ImageNotFound
        | Reason::RegistryDenied
        | Reason::RegistryUnavailable
        | Reason::RegistryThrottled
        | Reason::DeadlineExceeded => true,
        Reason::UntrustedSignature
        | Reason::WrongSigner
        | Reason::WrongSource
        | Reason::WrongBuilder
        | Reason::WrongSummary
        | Reason::ConditionFailed
        | Reason::ProvenanceTooOld
        | Reason::PlatformMissing
        | Reason::NotAllInspected
        | Reason::MalformedAttestation
        | Reason::MalformedImage
        | Reason::InvalidReference
        | Reason::TooManyImages
        | Reason::InvalidPolicy
        | Reason::UnpinnedTag
        | Reason::UnmatchedImage => false,
    }
}

/// Shown on a terminal only; logs of pipelines stay free of it.
fn spinner(image: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} waiting for {prefix}: {msg} ({elapsed})");
    let bar = ProgressBar::new_spinner().with_prefix(super::terminal::plain(image));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn words(verdict: &ImageVerdict) -> String {
    let mut words: Vec<&str> = verdict.problems.iter().map(|problem| problem.reason.as_str()).collect();
    words.dedup();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::domain::{policy::Mode, verdict::Problem};

    fn verdict(reasons: &[Reason]) -> Arc<ImageVerdict> {
        let problem = |reason: &Reason| Problem::new(*reason, Mode::Enforce, "x");
        Arc::new(ImageVerdict::of_problems("x", reasons.iter().map(problem).collect()))
    }

    fn patience(wait: Option<Duration>) -> Patience {
        Patience { wait, timeout: Duration::from_secs(5) }
    }

    #[test]
    fn waits_only_for_what_heals() {
        assert!(may_heal(&verdict(&[Reason::NoProvenance])));
        assert!(may_heal(&verdict(&[Reason::UnsignedProvenance, Reason::RegistryThrottled])));
        assert!(!may_heal(&verdict(&[Reason::WrongSigner])));
        assert!(!may_heal(&verdict(&[Reason::NoProvenance, Reason::WrongSource])));
        assert!(!may_heal(&verdict(&[])));
    }

    #[test]
    fn a_registry_that_asks_for_more_time_gets_it() {
        let mut throttled = ImageVerdict::clone(&verdict(&[Reason::RegistryThrottled]));
        assert_eq!(next_pause(&throttled, FIRST_PAUSE), FIRST_PAUSE);
        throttled.problems[0].retry_after = Some(7);
        assert_eq!(next_pause(&throttled, FIRST_PAUSE), Duration::from_secs(7));
    }

    #[tokio::test]
    async fn looks_again_until_it_is_there() {
        let looks = AtomicUsize::new(0);
        let answer = until_settled(patience(Some(Duration::from_secs(10))), "x", async |_| {
            match looks.fetch_add(1, Ordering::Relaxed) {
                0 => verdict(&[Reason::NoProvenance]),
                _ => verdict(&[]),
            }
        });
        assert_eq!(answer.await.outcome, Outcome::Allow);
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn looks_once_without_wait_or_where_nothing_can_change() {
        for (wait, reason) in
            [(None, Reason::NoProvenance), (Some(Duration::from_mins(1)), Reason::WrongSigner)]
        {
            let looks = AtomicUsize::new(0);
            let answer = until_settled(patience(wait), "x", async |_| {
                looks.fetch_add(1, Ordering::Relaxed);
                verdict(&[reason])
            });
            assert_eq!(answer.await.outcome, Outcome::Deny);
            assert_eq!(looks.load(Ordering::Relaxed), 1);
        }
    }

    #[tokio::test]
    async fn looks_a_last_time_when_the_time_is_over() {
        let looks = AtomicUsize::new(0);
        let answer = until_settled(patience(Some(Duration::from_millis(50))), "x", async |_| {
            looks.fetch_add(1, Ordering::Relaxed);
            verdict(&[Reason::ImageNotFound])
        });
        assert_eq!(answer.await.outcome, Outcome::Deny);
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }
}
