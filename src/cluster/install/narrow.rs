//! When entries are narrowed. They are widened at once, and by any replica; the leader alone narrows them, and only after a pause.
//!
//! A replica widens the entries for a policy before the policy is stored, and the leader learns of the policy after that. Until then
//! the entries are wider than the policies that the leader knows need. So it waits for longer than a request may take.

use std::{fmt::Debug, time::Duration};

use futures::future::BoxFuture;
use kube::core::DynamicObject;
use tokio::time::Instant;

use crate::cluster::reach::WebhookReach;

/// The annotation that a replica changes with each policy for which the entries must stay as wide as they are, or get wider.
pub(super) const WIDENED: &str = "bonafide.dev/widened";
/// For how long nothing is narrowed after that. An API server ends a request after a minute.
pub(super) const NARROW_AFTER: Duration = Duration::from_mins(2);
/// How long API servers may take to follow a change of a configuration.
pub(super) const SETTLES: Duration = Duration::from_secs(2);

/// Says whether the policies that are known are those that there are. A watch may have been broken or late for longer than
/// the time after which entries are narrowed, and what it did not tell of must not be narrowed away.
pub trait PolicyCensus: Debug + Send + Sync {
    /// Whether the API server has these policies as they are known, and no others.
    fn is_current(&self) -> BoxFuture<'_, bool>;
}

/// Since when the entries could be narrower.
#[derive(Debug, Default)]
pub(super) struct Narrowing {
    since: Option<(WideEntries, Instant)>,
}

/// Entries that are wider than is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WideEntries {
    seen: WebhookReach,
    needed: WebhookReach,
    widened: Option<String>,
}

impl Narrowing {
    /// What the entries of this object should select now, of which these are seen. `needed`: what the policies need, where they are known.
    pub(super) fn target(
        &mut self,
        seen: WebhookReach,
        needed: Option<&WebhookReach>,
        object: &DynamicObject,
        now: Instant,
    ) -> WebhookReach {
        let Some(needed) = needed else {
            self.since = None;
            return seen;
        };
        if needed.covers(&seen) {
            self.since = None;
            return needed.clone();
        }
        let widened = object.metadata.annotations.as_ref().and_then(|all| all.get(WIDENED)).cloned();
        let wide = WideEntries { seen: seen.clone(), needed: needed.clone(), widened };
        match &self.since {
            Some((known, since)) if *known == wide => {
                if now.duration_since(*since) >= NARROW_AFTER {
                    return needed.clone();
                }
            }
            _ => self.since = Some((wide, now)),
        }
        needed.clone().union(seen).bounded()
    }
}

/// What both configurations select, for as long as API servers need to follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedReach {
    settled: WebhookReach,
    seen: WebhookReach,
    since: Instant,
}

impl AppliedReach {
    /// These entries are seen for the first time.
    pub(super) const fn new(seen: WebhookReach, now: Instant) -> Self {
        Self { settled: WebhookReach::Nothing, seen, since: now }
    }

    /// These entries are seen.
    pub(super) fn see(&mut self, seen: WebhookReach, now: Instant) {
        if self.seen != seen {
            // What is not selected any more is in force no more, at once.
            let settled = std::mem::replace(&mut self.settled, WebhookReach::Nothing);
            self.settled = settled.intersection(seen.clone());
            (self.seen, self.since) = (seen, now);
        }
        if now.duration_since(self.since) >= SETTLES {
            self.settled = self.seen.clone();
        }
    }

    /// Whether API servers had time to follow the last change.
    pub fn is_settled(&self) -> bool {
        self.settled == self.seen
    }

    /// Whether API servers send all of this by now.
    pub fn covers(&self, needed: &WebhookReach) -> bool {
        self.settled.covers(needed)
    }
}

#[cfg(test)]
impl AppliedReach {
    /// API servers have sent this for a while.
    pub(in crate::cluster) fn settled(seen: WebhookReach) -> Self {
        Self { settled: seen.clone(), seen, since: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::reach::{ImageReach, NamespaceReach};

    fn of(namespaces: &[&str]) -> WebhookReach {
        let names = namespaces.iter().map(|name| (*name).to_owned()).collect();
        WebhookReach::Workloads { namespaces: NamespaceReach::Named(names), images: ImageReach::Every }
    }

    fn object(widened: &str) -> DynamicObject {
        let metadata = serde_json::json!({"annotations": {WIDENED: widened}});
        serde_json::from_value(serde_json::json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn b8_entries_get_wider_at_once_and_narrower_after_a_pause_without_a_new_policy() {
        let (begin, mut narrowing) = (Instant::now(), Narrowing::default());
        let mut at = |seconds, seen: &[&str], needed: &[&str], widened| {
            let now = begin + Duration::from_secs(seconds);
            narrowing.target(of(seen), Some(&of(needed)), &object(widened), now)
        };
        assert_eq!(at(0, &["a"], &["a", "b"], "1"), of(&["a", "b"]));
        // A policy of `c` was admitted, and is not known yet.
        assert_eq!(at(1, &["a", "b", "c"], &["a", "b"], "2"), of(&["a", "b", "c"]));
        assert_eq!(at(100, &["a", "b", "c"], &["a", "b"], "3"), of(&["a", "b", "c"]));
        assert_eq!(at(219, &["a", "b", "c"], &["a", "b"], "3"), of(&["a", "b", "c"]));
        assert_eq!(at(220, &["a", "b", "c"], &["a", "b"], "3"), of(&["a", "b"]));
        // Wider and narrower at the same time.
        assert_eq!(at(230, &["a", "b"], &["b", "d"], "3"), of(&["a", "b", "d"]));
    }

    #[test]
    fn b8_nothing_is_narrowed_while_the_policies_are_not_known() {
        let mut narrowing = Narrowing::default();
        assert_eq!(narrowing.target(of(&["a"]), None, &object("1"), Instant::now()), of(&["a"]));
    }

    #[test]
    fn b8_a_policy_is_in_force_once_api_servers_had_time_to_follow() {
        let begin = Instant::now();
        let mut applied = AppliedReach::new(of(&["a"]), begin);
        let mut after = |millis, seen: &[&str]| {
            applied.see(of(seen), begin + Duration::from_millis(millis));
            [applied.covers(&of(&["a"])), applied.covers(&of(&["b"]))]
        };
        assert_eq!(after(1999, &["a"]), [false, false]);
        assert_eq!(after(2000, &["a"]), [true, false]);
        // What was in force stays so while more is added.
        assert_eq!(after(3000, &["a", "b"]), [true, false]);
        assert_eq!(after(5000, &["a", "b"]), [true, true]);
        assert_eq!(after(5001, &["b"]), [false, true]);
    }
}
