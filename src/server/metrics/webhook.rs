//! The metrics of the webhook in a cluster: how it is called, and reviews that are counted apart.

use std::{sync::atomic::Ordering, time::Duration};

use jiff::Timestamp;

use super::{Entry, Metrics, Resource, Verdict, verdict_of};
use crate::{cluster::install::EntryState, gather::review::Review};

impl Metrics {
    /// A review of a dry run was answered by judging its images.
    pub fn dry_run(&self, review: &Review) {
        self.saw_review();
        let Verdict { verdict, reason } = verdict_of(review);
        self.dry_runs.get_or_create(&Verdict { verdict, reason }).inc();
    }

    /// A review of a dry run was answered without judging anything.
    pub fn dry_run_skipped(&self, why: &'static str) {
        self.saw_review();
        self.dry_runs.get_or_create(&Verdict { verdict: "skipped", reason: why }).inc();
    }

    /// When a review was last answered; `None`: none was.
    pub fn last_review(&self) -> Option<Timestamp> {
        let seconds = self.last_review.get();
        Timestamp::from_second(seconds).ok().filter(|_| seconds > 0)
    }

    /// How each entry of the webhook configurations stands.
    pub fn set_webhook_entries(&self, entries: &[(&'static str, EntryState)]) {
        for (entry, stands) in entries {
            for state in EntryState::ALL {
                let labels = Entry { entry, state: state.as_str() };
                self.webhook_entries.get_or_create(&labels).set(i64::from(state == *stands));
            }
        }
    }

    /// For how long the API server has not been seen to reach the webhook.
    pub fn set_webhook_unreached(&self, time: Duration) {
        self.webhook_unreached.set(time.as_secs_f64());
    }

    /// Whether this replica leads.
    pub fn set_leading(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// How many events have been dropped so far.
    pub fn set_events_dropped(&self, events: u64) {
        self.events_dropped.inner().store(events, Ordering::Relaxed);
    }

    /// For how long a resource of the cluster has not been followed.
    pub fn set_watch_staleness(&self, resource: &'static str, staleness: Duration) {
        self.watch_staleness.get_or_create(&Resource { resource }).set(staleness.as_secs_f64());
    }
}
