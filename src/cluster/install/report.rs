//! What is known of the webhook configurations and of the way from the API server to the webhook, for metrics, status and events.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::entries::{Entries, Kind};
use crate::cluster::webhooks::{FailurePolicy, WebhookSettings};

/// How an entry of the webhook configurations stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// There is none.
    Absent,
    /// There is none, and no policy needs one.
    Unneeded,
    /// Where the webhook cannot be reached, requests are admitted.
    Ignore,
    /// Where the webhook cannot be reached, requests are denied.
    Fail,
}

impl EntryState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Absent, Self::Unneeded, Self::Ignore, Self::Fail];

    /// The word that metrics and messages use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Unneeded => "unneeded",
            Self::Ignore => "ignore",
            Self::Fail => "fail",
        }
    }
}

/// What the leader knows of the way from the API server to the webhook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reachability {
    /// This replica does not lead, or has not led for long enough to know.
    #[default]
    Unknown,
    /// A probe arrived within the last seconds.
    Reached,
    /// No probe arrives.
    NotReached {
        /// Since when.
        since: Instant,
        /// What the last one met.
        why: String,
    },
}

/// What is known of the webhook configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookReport {
    name: String,
    asked: FailurePolicy,
    /// Whether there is to be an entry for pods.
    pinning: bool,
    validating: Option<Configuration>,
    mutating: Option<Configuration>,
    /// Whether the API server reaches the webhook.
    pub reachability: Reachability,
    /// Whether workloads are to be sent at all: there is something to review them for.
    pub needs_workloads: bool,
}

/// A configuration as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Configuration {
    is_there: bool,
    uid: Option<String>,
    entries: BTreeMap<String, EntryState>,
}

/// Something that leaves workloads unreviewed, or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// One word for it.
    pub reason: &'static str,
    /// What it means, for people.
    pub message: String,
    /// What the last probe met.
    pub why: Option<String>,
    /// Whether workloads are admitted without a review because of it.
    pub is_open: bool,
}

const WORKLOADS: &str = "workloads";
const VALIDATING_ENTRIES: [&str; 4] = [WORKLOADS, "bindings", "policies", "lease"];
const MUTATING_ENTRY: &str = "pods";
/// The entries that exist only where there is something to review workloads for.
const WORKLOAD_ENTRIES: [&str; 3] = [WORKLOADS, "bindings", MUTATING_ENTRY];

impl WebhookReport {
    /// Nothing is known yet.
    pub fn new(settings: &WebhookSettings) -> Self {
        Self {
            name: settings.name.clone(),
            asked: settings.failure_policy,
            pinning: settings.pinning,
            validating: None,
            mutating: None,
            reachability: Reachability::Unknown,
            needs_workloads: true,
        }
    }

    /// A configuration was seen, or seen to be missing.
    pub(super) fn see(&mut self, kind: Kind, seen: Option<(Option<String>, &Entries)>) {
        let configuration = seen.map_or_else(Configuration::default, |(uid, entries)| Configuration {
            is_there: true,
            uid,
            entries: entries.states().map(|(name, state)| (name.to_owned(), state)).collect(),
        });
        match kind {
            Kind::Validating => self.validating = Some(configuration),
            Kind::Mutating => self.mutating = Some(configuration),
        }
    }

    /// How each entry stands that there is to be; nothing, until both configurations have been looked at.
    pub fn entries(&self) -> Vec<(&'static str, EntryState)> {
        let (Some(validating), Some(mutating)) = (&self.validating, &self.mutating) else {
            return Vec::new();
        };
        let of = |configuration, name: &'static str| (name, self.state(configuration, name));
        let all = VALIDATING_ENTRIES.into_iter().map(|name| of(validating, name));
        all.chain(self.pinning.then(|| of(mutating, MUTATING_ENTRY))).collect()
    }

    /// How the entry for workloads stands; `None` until it has been looked at.
    pub fn workloads(&self) -> Option<EntryState> {
        self.validating.as_ref().map(|validating| self.state(validating, WORKLOADS))
    }

    fn state(&self, configuration: &Configuration, name: &str) -> EntryState {
        let is_needed = self.needs_workloads || !WORKLOAD_ENTRIES.contains(&name);
        let absent = if is_needed { EntryState::Absent } else { EntryState::Unneeded };
        configuration.entries.get(name).copied().unwrap_or(absent)
    }

    /// The uid of the validating configuration, where there is one.
    pub(in crate::cluster) fn uid(&self) -> Option<String> {
        self.validating.as_ref()?.uid.clone()
    }

    /// The name of both configurations.
    pub(in crate::cluster) fn name(&self) -> &str {
        &self.name
    }

    /// The most important thing that is wrong; `None` where workloads are reviewed as was asked for, or nothing is known yet.
    pub fn concern(&self) -> Option<Concern> {
        let (validating, mutating) = (self.validating.as_ref()?, self.mutating.as_ref()?);
        let (name, workloads) = (&self.name, self.workloads()?);
        let why = match &self.reachability {
            Reachability::NotReached { why, .. } => Some(why.clone()),
            Reachability::Unknown | Reachability::Reached => None,
        };
        let is_lost = why.is_some();
        let (reason, is_open, message) = match workloads {
            _ if !validating.is_there => (
                "ConfigurationMissing",
                true,
                format!(
                    "there is no ValidatingWebhookConfiguration {name}: workloads are admitted without a review. \
                     `helm upgrade` (or `kubectl apply`) makes it again"
                ),
            ),
            EntryState::Absent | EntryState::Unneeded if is_lost => (
                "WebhookNotReached",
                true,
                "the API server has not been seen to reach the webhook: workloads are admitted without a review"
                    .to_owned(),
            ),
            EntryState::Absent => (
                "WebhookNotInstalled",
                true,
                format!(
                    "the ValidatingWebhookConfiguration {name} has no entry for workloads yet: \
                     they are admitted without a review"
                ),
            ),
            EntryState::Ignore if is_lost => (
                "WebhookNotReached",
                true,
                "the API server does not reach the webhook any more: workloads are admitted without a review \
                 (failurePolicy Ignore)"
                    .to_owned(),
            ),
            EntryState::Fail if is_lost => (
                "WebhookNotReached",
                false,
                "the API server does not reach the webhook any more: workloads are refused (failurePolicy Fail)"
                    .to_owned(),
            ),
            EntryState::Ignore if self.asked == FailurePolicy::Fail => (
                "WebhookOpen",
                false,
                "the entry for workloads has failurePolicy Ignore, and Fail was asked for: \
                 workloads are admitted without a review while no replica answers"
                    .to_owned(),
            ),
            _ if self.pinning && !mutating.is_there => (
                "ConfigurationMissing",
                false,
                format!(
                    "there is no MutatingWebhookConfiguration {name}: tags are not pinned. \
                     `helm upgrade` (or `kubectl apply`) makes it again"
                ),
            ),
            EntryState::Unneeded | EntryState::Ignore | EntryState::Fail => return None,
        };
        Some(Concern { reason, message, why, is_open })
    }
}

#[cfg(test)]
impl WebhookReport {
    /// Both configurations as the leader writes them.
    pub(in crate::cluster) fn complete(settings: &WebhookSettings, reachability: Reachability) -> Self {
        let mut report = Self::new(settings);
        for kind in Kind::ALL {
            let stage = super::Stage::Complete(settings.failure_policy);
            let entries = kind.wanted(settings, stage).unwrap();
            report.see(kind, Some((None, &entries)));
        }
        report.reachability = reachability;
        report
    }

    /// Both configurations as an installation makes them.
    pub(in crate::cluster) fn remove_entries(&mut self) {
        for kind in Kind::ALL {
            self.see(kind, Some((None, &Entries::default())));
        }
    }
}
