//! A replica that is to admit a policy widens the entries first, so that they select what the policy is about when it is there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::{Api, Client, core::DynamicObject};
use tokio::sync::{Mutex, watch};

use super::{
    Probes,
    entries::{Entries, Kind, Stage},
    probe::{self, Answer},
    write::write,
};
use crate::{
    cluster::{
        call,
        reach::{ReachRule, WebhookReach},
        webhooks::{FailurePolicy, WebhookSettings},
    },
    domain::policy::PolicyEntry,
    gather::ports::WebhookEntries,
};

/// How often it is tried again where somebody else writes at the same time.
const ATTEMPTS: usize = 5;
/// The pause behind each policy: anyone in the cluster's network can claim to be an API server with a policy.
const PAUSE: Duration = Duration::from_millis(25);
/// How long a policy waits for those before it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Widens the entries, on any replica.
pub struct Widening {
    client: Client,
    settings: WebhookSettings,
    /// Whether another controller writes the bundle.
    is_injected: bool,
    rule: ReachRule,
    /// What the policies need that are known.
    needed: watch::Receiver<Option<WebhookReach>>,
    probes: Arc<Probes>,
    /// One policy at a time.
    turn: Mutex<()>,
}

/// Why entries were not widened.
#[derive(Debug, thiserror::Error)]
enum WidenError {
    #[error("{}", call::words(.0))]
    Call(#[from] kube::Error),
    #[error("the entries cannot be written: {0}")]
    Form(#[from] serde_json::Error),
    #[error("the entry for policies has no caBundle")]
    Bundle,
    #[error("too many policies are written at the same time")]
    Busy,
}

impl Widening {
    /// Widens the entries with these settings. `needed` is what the policies need that are known; `is_injected`: another controller writes
    /// the bundle.
    pub fn new(
        client: Client,
        settings: WebhookSettings,
        is_injected: bool,
        rule: ReachRule,
        needed: watch::Receiver<Option<WebhookReach>>,
        probes: Arc<Probes>,
    ) -> Self {
        Self { client, settings, is_injected, rule, needed, probes, turn: Mutex::default() }
    }

    async fn widen_for(&self, policy: &PolicyEntry) -> Result<(), WidenError> {
        let needed = self.rule.reach([policy]);
        if needed == WebhookReach::Nothing {
            return Ok(());
        }
        let turn = tokio::time::timeout(PATIENCE, self.turn.lock()).await;
        let _turn = turn.map_err(|_| WidenError::Busy)?;
        tokio::time::sleep(PAUSE).await;
        let mut attempts: usize = 0;
        loop {
            attempts = attempts.saturating_add(1);
            match self.attempt(&needed).await {
                // Somebody wrote in between.
                Err(WidenError::Call(kube::Error::Api(status)))
                    if status.code == 409 && attempts < ATTEMPTS => {}
                result => return result,
            }
        }
    }

    async fn attempt(&self, needed: &WebhookReach) -> Result<(), WidenError> {
        let known = self.needed.borrow().clone().unwrap_or(WebhookReach::Nothing);
        // The leader narrows nothing that policies need which it knows.
        let stays = known.covers(needed);
        let mut is_reached = None;
        for kind in Kind::ALL {
            if kind == Kind::Mutating && !self.settings.pinning {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind.resource());
            let name = &self.settings.name;
            let Some(object) = call::within(call::LIMIT, api.get_opt(name)).await? else { continue };
            let seen = Entries::seen(&object);
            let exempt = self.settings.exempt();
            let selected = seen.reach(&exempt);
            if stays && selected.as_ref().is_some_and(|selected| selected.covers(needed)) {
                continue;
            }
            // What cannot be read may select anything, and another version may lead that selects everything.
            let selected = selected.unwrap_or(WebhookReach::EVERYTHING);
            let stage = if seen.deny() {
                Stage::Complete(self.settings.failure_policy)
            } else if seen.review() {
                Stage::Complete(FailurePolicy::Ignore)
            } else {
                let is_reached = match is_reached {
                    Some(known) => known,
                    None => *is_reached.insert(self.is_reached().await),
                };
                // Until the API server is seen to reach the webhook, no workload waits for it.
                if !is_reached {
                    return Ok(());
                }
                Stage::Complete(self.settings.failure_policy)
            };
            let reach = known.clone().union(selected).union(needed.clone()).without(&exempt).bounded();
            let bundle = seen.bundle().filter(|_| !self.is_injected);
            if bundle.is_none() && !self.is_injected {
                return Err(WidenError::Bundle);
            }
            let settings = WebhookSettings { ca_bundle: bundle, ..self.settings.reaching(reach) };
            let wanted = kind.wanted(&settings, stage)?;
            let widened = Timestamp::now().to_string();
            write(kind, &api, name, &object, &wanted, Some(&widened)).await?;
            tracing::info!(kind = kind.resource().kind, "widened the webhooks for a policy");
        }
        Ok(())
    }

    async fn is_reached(&self) -> bool {
        probe::send(&self.client, &self.settings, &self.probes).await == Answer::Reached
    }
}

impl WebhookEntries for Widening {
    fn widen<'a>(&'a self, policy: &'a PolicyEntry) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move { self.widen_for(policy).await.map_err(|error| error.to_string()) })
    }

    fn exempt(&self) -> &BTreeSet<String> {
        &self.rule.exempt
    }
}
