//! When the API server was seen to reach the webhook, and when to look again.

use std::time::Duration;

use tokio::time::Instant;

use super::LOOK_AGAIN;

/// How long it may take until the API server reaches a webhook that was just made known to it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a leader that sees the API server reach the webhook looks whether it still does.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How long a probe that arrived counts.
const PROOF_LASTS: Duration = Duration::from_secs(15);

/// When the API server was seen to reach the webhook.
#[derive(Debug, Default)]
pub(super) struct Proof {
    pub(super) last: Option<Instant>,
    /// Since when nothing has been seen.
    pub(super) waits_since: Option<Instant>,
    /// When the last probe was sent.
    pub(super) probed: Option<Instant>,
    pub(super) why: Option<String>,
}

impl Proof {
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.duration_since(last) < PROOF_LASTS)
    }

    /// Whether it is time for another probe.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let pause = if self.is_fresh(now) { PROBE_EVERY } else { LOOK_AGAIN };
        self.probed.is_none_or(|probed| now.duration_since(probed) >= pause)
    }

    /// Whether it was waited for long enough to say that the webhook is not reached.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.waits_since.is_some_and(|since| now.duration_since(since) >= PATIENCE)
    }
}
