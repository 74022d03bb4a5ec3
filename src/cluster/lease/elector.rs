//! The election without the API server: what is to be done about a Lease as it was read. Time is passed in.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};
use tokio::time::Instant;

use super::{Timing, holder};

/// The longest that a Lease is believed to be granted, whatever it says.
const LONGEST: Duration = Duration::from_mins(1);

/// What to do about the Lease.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Nothing: somebody else holds it.
    Wait,
    /// Write this, if nobody wrote since.
    Write(LeaseSpec),
}

/// One who stands for election.
#[derive(Debug)]
pub(super) struct Elector {
    identity: String,
    timing: Timing,
    /// The Lease as it was last seen, and since when it has looked like that.
    observed: Option<(LeaseSpec, Instant)>,
    /// When this process took the Lease or tried to, to the microsecond: what tells its own from that of another process of the same
    /// name, such as its predecessor in the same pod.
    term: Option<Timestamp>,
    /// When the last write that was accepted was sent.
    renewed: Option<Instant>,
}

impl Elector {
    pub(super) const fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, observed: None, term: None, renewed: None }
    }

    /// The end of the time in which this one leads, if it is not renewed.
    pub(super) fn leads_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.timing.give_up)
    }

    /// What to do, the Lease being as it was just read (`None`: there is none).
    pub(super) fn look(&mut self, seen: Option<&LeaseSpec>, now: Instant, wall: Timestamp) -> Step {
        let Some(seen) = seen else {
            self.observed = None;
            return Step::Write(self.taken(0, wall));
        };
        if self.is_mine(seen) {
            return Step::Write(LeaseSpec { renew_time: Some(MicroTime(wall)), ..seen.clone() });
        }
        self.renewed = None;
        if self.is_over(seen, now) {
            let transitions = seen.lease_transitions.unwrap_or_default().max(0);
            return Step::Write(self.taken(transitions.saturating_add(1), wall));
        }
        Step::Wait
    }

    /// A write that was sent at `sent` was accepted.
    pub(super) const fn renewed(&mut self, sent: Instant) {
        self.renewed = Some(sent);
    }

    /// A write was refused, because somebody wrote in between.
    pub(super) fn refused(&mut self) {
        // Nothing is known until the next look; the time that was granted goes on running.
        self.observed = None;
    }

    /// What to write at the end, where the Lease is held by this one.
    pub(super) fn farewell(&mut self, seen: Option<&LeaseSpec>, wall: Timestamp) -> Option<LeaseSpec> {
        let seen = seen.filter(|seen| self.is_mine(seen))?;
        self.renewed = None;
        self.term = None;
        Some(LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            ..seen.clone()
        })
    }

    fn is_mine(&self, seen: &LeaseSpec) -> bool {
        holder(seen) == Some(self.identity.as_str())
            && self.term.is_some()
            && seen.acquire_time.as_ref().map(|time| time.0) == self.term
    }

    /// Whether somebody else's time is over, as far as this process has seen.
    fn is_over(&mut self, seen: &LeaseSpec, now: Instant) -> bool {
        if holder(seen).is_none() {
            return true;
        }
        let since = match &self.observed {
            Some((known, since)) if known == seen => *since,
            _ => {
                self.observed = Some((seen.clone(), now));
                now
            }
        };
        let granted = match seen.lease_duration_seconds.map(u64::try_from) {
            Some(Ok(seconds)) if seconds > 0 => Duration::from_secs(seconds).min(LONGEST),
            _ => self.timing.granted,
        };
        now.duration_since(since) >= granted
    }

    fn taken(&mut self, transitions: i32, wall: Timestamp) -> LeaseSpec {
        // As the API server keeps it.
        let wall = Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall);
        self.term = Some(wall);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            acquire_time: Some(MicroTime(wall)),
            renew_time: Some(MicroTime(wall)),
            lease_duration_seconds: i32::try_from(self.timing.granted.as_secs().max(1)).ok(),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests;
