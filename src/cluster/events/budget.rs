//! How many events there may be: one a minute for each policy, reason and object, and some a minute for each namespace.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use crate::gather::ports::PolicyFinding;

/// How long the same is not told again.
const APART: Duration = Duration::from_mins(1);
/// How long it is remembered how often the same was told.
const REMEMBERED: Duration = Duration::from_mins(10);
/// How many events a namespace may cause at once.
const BURST: u32 = 20;
/// How long until a namespace may cause another one.
const ANOTHER: Duration = Duration::from_secs(3);
/// How many combinations of policy, reason and object are remembered.
const MOST: usize = 10_000;
/// How many namespaces are.
const NAMESPACES: usize = 1_000;

/// What to do about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Tell it; it was told so often, this time included.
    Tell(u32),
    /// It was told just now.
    Told,
    /// Its namespace, or all of them together, caused too many events.
    TooMany,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    times: u32,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    events: u32,
    since: Instant,
}

/// What was told, by hashes: names take no room here, however long they are.
#[derive(Debug, Default)]
pub(super) struct Budget {
    hashes: RandomState,
    told: HashMap<u64, Told>,
    namespaces: HashMap<u64, Left>,
}

impl Budget {
    /// Whether something may be told now; then it counts as told.
    pub(super) fn spend(&mut self, finding: &PolicyFinding<'_>, now: Instant) -> Answer {
        let PolicyFinding { policy, reason, kind, namespace, name } = finding;
        let key = self.hashes.hash_one((policy, reason, kind, namespace, name));
        let times = match self.told.get(&key) {
            Some(told) if now.saturating_duration_since(told.at) < APART => return Answer::Told,
            Some(told) => told.times.saturating_add(1),
            None => 1,
        };
        if self.told.len() >= MOST {
            self.told.retain(|_, told| now.saturating_duration_since(told.at) < REMEMBERED);
        }
        let has_room = self.told.len() < MOST || self.told.contains_key(&key);
        if !has_room || !self.take(self.hashes.hash_one(namespace), now) {
            return Answer::TooMany;
        }
        self.told.insert(key, Told { at: now, times });
        Answer::Tell(times)
    }

    /// Takes one event from what a namespace has left.
    fn take(&mut self, namespace: u64, now: Instant) -> bool {
        if self.namespaces.len() >= NAMESPACES && !self.namespaces.contains_key(&namespace) {
            self.namespaces.retain(|_, left| left.at(now).events < BURST);
            if self.namespaces.len() >= NAMESPACES {
                return false;
            }
        }
        let left = self.namespaces.entry(namespace).or_insert(Left { events: BURST, since: now });
        *left = left.at(now);
        let may = left.events > 0;
        left.events = left.events.saturating_sub(1);
        may
    }
}

impl Left {
    /// What is left at a later time.
    fn at(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.since).as_secs() / ANOTHER.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let events = self.events.saturating_add(passed).min(BURST);
        Self { events, since: self.since + ANOTHER.saturating_mul(passed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{policy::PolicyId, verdict::Reason};

    fn spend(budget: &mut Budget, namespace: &str, name: &str, now: Instant) -> Answer {
        let policy = PolicyId { namespace: None, name: "p".to_owned() };
        let reason = Reason::NoProvenance;
        let finding = PolicyFinding { policy: &policy, reason, kind: "Pod", namespace, name };
        budget.spend(&finding, now)
    }

    #[test]
    fn e7_the_same_is_told_once_a_minute_and_another_object_at_once() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let mut at =
            |seconds: u64, name: &str| spend(&mut budget, "shop", name, start + Duration::from_secs(seconds));
        assert_eq!(at(0, "a"), Answer::Tell(1));
        assert_eq!(at(59, "a"), Answer::Told);
        assert_eq!(at(59, "b"), Answer::Tell(1));
        assert_eq!(at(60, "a"), Answer::Tell(2));
    }

    #[test]
    fn e7_a_namespace_takes_no_events_from_another() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let told = |budget: &mut Budget, namespace: &str, from: u32, now: Instant| {
            let tells = |n: &u32| matches!(spend(budget, namespace, &n.to_string(), now), Answer::Tell(_));
            (from..from + 1000).filter(tells).count()
        };
        assert_eq!(told(&mut budget, "loop", 0, start), 20);
        assert_eq!(told(&mut budget, "shop", 0, start), 20);
        assert_eq!(told(&mut budget, "loop", 1000, start + Duration::from_mins(1)), 20, "one each 3 s");
        assert_eq!(told(&mut budget, "loop", 2000, start + Duration::from_secs(66)), 2);
    }

    #[test]
    fn e7_what_is_remembered_is_bounded() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        for n in 0..=NAMESPACES {
            let answer = spend(&mut budget, &n.to_string(), "a", start);
            assert_eq!(answer == Answer::Tell(1), n < NAMESPACES, "{n}");
        }
        let later = start + Duration::from_mins(1);
        assert_eq!(spend(&mut budget, "later", "a", later), Answer::Tell(1));
    }
}
