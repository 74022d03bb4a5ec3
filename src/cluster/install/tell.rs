//! What the keeper of the configurations tells the rest of the process.

use std::sync::Arc;

use kube::core::DynamicObject;
use tokio::time::Instant;

use super::{
    AppliedReach, Keeper,
    entries::{Entries, Kind, Stage},
    modify,
};
use crate::cluster::{
    certificates::{Bundle, Installed},
    reach::WebhookReach,
};

impl Keeper {
    /// Tells what the API server trusts, and since when.
    pub(super) fn tell(&self, bundle: Option<&Bundle>) {
        self.installed.send_if_modified(|known| {
            let changed = known.as_ref().map(|known| &known.bundle) != bundle;
            if changed {
                *known = bundle.map(|bundle| Installed { bundle: Arc::clone(bundle), since: Instant::now() });
            }
            changed
        });
    }

    /// Tells what the API server sends: what both configurations select, or the one that there is to be.
    pub(super) fn tell_applied<'a>(&self, found: impl Iterator<Item = (Kind, Option<&'a DynamicObject>)>) {
        let exempt = self.webhooks.exempt();
        let is_wanted = |kind: Kind| kind == Kind::Validating || self.webhooks.pinning;
        let of = |kind: Kind, object: Option<&DynamicObject>| {
            let seen = Entries::seen(object?);
            let reach = seen.reach(&exempt)?;
            let settings = self.webhooks.reaching(reach.clone());
            let wanted = kind.wanted(&settings, Stage::Complete(settings.failure_policy)).ok()?;
            seen.send_as(&wanted).then_some(reach)
        };
        let all = found.filter(|(kind, _)| is_wanted(*kind));
        let all = all.map(|(kind, object)| of(kind, object).unwrap_or(WebhookReach::Nothing));
        let seen = all.reduce(WebhookReach::intersection).unwrap_or(WebhookReach::Nothing);
        let now = Instant::now();
        self.applied.send_if_modified(|applied| {
            let before = applied.clone();
            applied.get_or_insert_with(|| AppliedReach::new(seen.clone(), now)).see(seen, now);
            *applied != before
        });
    }

    /// Tells whether there is anything for workloads to be sent for.
    pub(super) fn tell_needed(&self) {
        let is_needed = !matches!(*self.reach.borrow(), Some(WebhookReach::Nothing));
        modify(&self.report, |report| report.needs_workloads = is_needed);
    }
}
