//! How each watch goes: whether there was a list, and what was lost since when.

use std::time::Duration;

use tokio::time::Instant;

use super::Watched;

/// How long the API server must say that it does not have a kind before objects of it are forgotten. Who deletes a definition deletes
/// its objects first, and the watch tells so; this is for a replica whose watch was broken meanwhile.
const ABSENT: Duration = Duration::from_secs(30);
/// How long after the last error a watch goes. One that is established says nothing until an object changes, and one that is not is tried
/// again sooner, or the request for it takes longer than any may.
const QUIET: Duration = Duration::from_secs(90);
/// The same where the API server answers at once that it does not have the kind.
const QUIET_AFTER_ABSENT: Duration = Duration::from_secs(10);

/// How a watch goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Course {
    /// Whether there was a complete list.
    pub(super) listed: bool,
    /// Why it does not go.
    pub(super) lost: Option<WatchLoss>,
    /// Since when the API server says that it does not have the kind, and when it said so last.
    absent: Option<(Instant, Instant)>,
}

/// A watch that does not go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchLoss {
    since: Instant,
    /// When the last error came.
    last: Instant,
    pub(super) error: String,
}

impl WatchLoss {
    /// Whether it goes again.
    fn is_over(&self) -> bool {
        self.last.elapsed() > QUIET
    }
}

impl Course {
    fn follows_again(&mut self, watched: Watched) {
        if let Some(lost) = self.lost.take() {
            let for_seconds = lost.since.elapsed().as_secs();
            tracing::info!(resource = watched.as_str(), for_seconds, "followed again");
        }
    }

    /// For how long it has not gone; zero where it does.
    pub(super) fn lasts(&mut self, watched: Watched) -> Duration {
        // Pods are followed by a watch of our own, which tells when it begins.
        if watched != Watched::Pods && self.lost.as_ref().is_some_and(WatchLoss::is_over) {
            self.follows_again(watched);
        }
        self.lost.as_ref().map(|lost| lost.since.elapsed()).unwrap_or_default()
    }

    /// Objects came, or the end of a list.
    pub(super) fn goes(&mut self, watched: Watched) {
        self.absent = None;
        self.follows_again(watched);
    }

    /// An error came.
    pub(super) fn is_lost(&mut self, watched: Watched, error: &str) {
        let (resource, is_listed) = (watched.as_str(), self.listed);
        let known = self.lost.take_if(|lost| watched == Watched::Pods || !lost.is_over());
        // Until there is a list, each other error is told: the last one may be a right that is missing.
        let is_told = known.as_ref().is_some_and(|known| is_listed || known.error == error);
        if !is_told && is_listed {
            tracing::warn!(
                resource,
                error,
                "cannot be followed at the moment; what was last known stays in force"
            );
        } else if !is_told {
            tracing::error!(resource, error, "cannot be listed; every review is denied with 503 until it is");
        }
        let now = Instant::now();
        let since = known.map_or(now, |known| known.since);
        self.lost = Some(WatchLoss { since, last: now, error: error.to_owned() });
    }

    /// The API server says that it does not have the kind: whether that counts as a complete list without objects.
    pub(super) fn counts_as_empty(&mut self) -> bool {
        let now = Instant::now();
        // In between it had the kind.
        let goes_on = self.absent.filter(|(_, last)| last.elapsed() <= QUIET_AFTER_ABSENT);
        let since = goes_on.map_or(now, |(since, _)| since);
        self.absent = Some((since, now));
        !self.listed || since.elapsed() >= ABSENT
    }
}
