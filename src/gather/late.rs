//! What could not be found out in time a moment ago. The API server asks about a pod several times, and each question would wait for the
//! same registry again. The second one takes what is known by then and waits no more.
//!
//! Nothing but the name, the namespace and the credential connects two questions about a pod: they share no UID, and with `generateName`
//! no name.

use std::time::Duration;

use tokio::time::Instant;

use super::weigh::{capped, held};
use crate::domain::{
    digest::Digest,
    reference::Repository,
    verdict::{Problem, Reason},
    workload::Workload,
};

/// For how long after a review that waited in vain the same question waits no more. After that, a later pod waits again.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How long a review must have waited to be remembered: one that had hardly any time tells nothing.
const WAITED: Duration = Duration::from_millis(500);
/// What is left to a question that does not wait: the time to use what is known.
pub const HASTE: Duration = Duration::from_millis(200);
/// What is left to a question must be no more than so many times what was waited. The sender of a review chooses its timeout: a
/// review with a short one must not shorten others.
const MUCH_LONGER: u32 = 3;
/// How many bytes of questions are remembered.
const BYTES: u64 = 1 << 20;
/// What a question takes beside its texts.
const ENTRY: usize = 128;

/// A question about an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LateLookup {
    /// For whom it was asked.
    pub namespace: String,
    /// The image, as it was written.
    pub image: String,
    /// With which credential.
    pub credential: Option<Digest>,
    /// Whether the answer may deny. Where it may not, less time is spent on it.
    pub enforces: bool,
}

impl LateLookup {
    /// A question about a repository beside the image's own, of which no policy denies anything. A pod that is pinned asks the same with
    /// another name of the image.
    pub fn elsewhere(workload: &Workload, repository: &Repository) -> Self {
        Self {
            namespace: workload.namespace.clone(),
            image: repository.to_string(),
            credential: None,
            enforces: false,
        }
    }
}

/// Whether time is what it took, or a part of it.
pub fn is_late<'a>(mut problems: impl Iterator<Item = &'a Problem>) -> bool {
    problems.any(|problem| problem.reason == Reason::DeadlineExceeded)
}

/// The questions that waited in vain a moment ago.
pub struct LateLookups(moka::sync::Cache<LateLookup, Waited>);

/// How long somebody waited in vain, and until when.
#[derive(Debug, Clone, Copy)]
struct Waited {
    time: Duration,
    until: Instant,
}

impl Default for LateLookups {
    fn default() -> Self {
        let weigher = |lookup: &LateLookup, _: &Waited| {
            capped(lookup.namespace.len().saturating_add(lookup.image.len()).saturating_add(ENTRY))
        };
        let cache = moka::sync::Cache::builder().max_capacity(BYTES).weigher(weigher);
        Self(cache.time_to_live(REMEMBERED).build())
    }
}

impl LateLookups {
    /// Whether somebody waited for this in vain a moment ago, about as long as it could be waited for now.
    pub fn contains(&self, lookup: &LateLookup, left: Duration) -> bool {
        self.0.get(lookup).is_some_and(|waited| {
            waited.until.elapsed() < REMEMBERED && left <= waited.time.saturating_mul(MUCH_LONGER)
        })
    }

    /// Somebody waited for this since `begun` in vain.
    pub fn insert(&self, lookup: LateLookup, begun: Instant) {
        let waited = Waited { time: begun.elapsed(), until: Instant::now() };
        if waited.time < WAITED {
            return;
        }
        let known = self.0.get(&lookup).filter(|known| known.until.elapsed() < REMEMBERED);
        // A shorter wait tells nothing beside a longer one.
        if known.is_none_or(|known| known.time <= waited.time) {
            self.0.insert(lookup, waited);
        }
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> u64 {
        held(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn e5_who_waited_for_a_moment_takes_no_time_from_who_waits_longer() {
        let lookup = || LateLookup {
            namespace: "shop".to_owned(),
            image: "ghcr.io/acme/app:v1".to_owned(),
            credential: None,
            enforces: true,
        };
        let late = LateLookups::default();
        let (whole, rest) = (Duration::from_millis(9_500), Duration::from_secs(9));
        let begun = Instant::now();
        tokio::time::advance(WAITED).await;
        late.insert(lookup(), begun);
        assert!(!late.contains(&lookup(), whole), "this one may wait for much longer");
        assert!(late.contains(&lookup(), WAITED));

        tokio::time::advance(rest).await;
        late.insert(lookup(), begun);
        assert!(late.contains(&lookup(), whole));
        let begun = Instant::now();
        tokio::time::advance(WAITED).await;
        late.insert(lookup(), begun);
        assert!(late.contains(&lookup(), whole), "a shorter wait does not hide a longer one");
        tokio::time::advance(rest / 2).await;
        assert!(!late.contains(&lookup(), whole), "and does not prolong it");
    }
}
