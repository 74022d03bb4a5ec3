//! The webhook configurations: the leader fills in their entries, and puts right what somebody changes.
//!
//! The operator's installation makes both without entries, so that nothing waits for a webhook that is not there yet. Until the API server
//! has been seen to reach the webhook, only the entries for policies and for the leader's own Lease exist: no workload is denied, and none
//! waits. Entries that deny already are never opened again, not even to be put right, and entries that review workloads are not removed
//! because a webhook that was reached is not reached any more.

pub mod announce;
mod bundle;
mod entries;
mod narrow;
mod owner;
mod pace;
mod probe;
mod proof;
mod report;
mod seen;
mod tell;
mod widen;
mod write;

use std::{mem, path::PathBuf, sync::Arc, time::Duration};

use bundle::read_bundle;
use entries::{Entries, Kind, Stage, others};
use kube::{Api, Client, core::DynamicObject};
use narrow::Narrowing;
pub use narrow::{AppliedReach, PolicyCensus};
use owner::OwnNamespace;
pub use owner::delete_with_namespace;
use pace::Pace;
use probe::Answer;
pub use probe::{PROBE_ANNOTATION, Probes, echo};
use proof::Proof;
pub use report::{Concern, EntryState, Reachability, WebhookReport};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
pub use widen::Widening;

use super::{
    call::{self, Trouble},
    certificates::{Bundle, Installed},
    reach::WebhookReach,
    webhooks::{FailurePolicy, WebhookSettings},
};
use write::write;

/// Who is named as the one that wrote a field.
const MANAGER: &str = "bonafide";
/// How often the configurations are read, also where nobody tells of a change.
const LOOK: Duration = Duration::from_secs(2);
/// How soon they are looked at again while something is to come.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// For how long replicas of a version without probes may be left after a leader has taken over their entries: as long as a Deployment may
/// take by default to make progress.
const UPGRADE_LASTS: Duration = Duration::from_mins(10);

/// Whom the API server is to trust.
#[derive(Debug)]
pub enum Trust {
    /// The authorities that this process manages; nothing is installed before there are some.
    SelfManaged(watch::Receiver<Option<Bundle>>),
    /// Those of a file, which is read again and again.
    File(PathBuf),
    /// Whomever another controller writes into the configurations: that field is never touched.
    Injected,
}

/// What is installed.
#[derive(Debug)]
pub struct Settings {
    /// The entries, but for the bundle.
    pub webhooks: WebhookSettings,
    /// Where the bundle comes from.
    pub trust: Trust,
}

/// What ties this to the rest of the process.
#[derive(Debug)]
pub struct Links {
    /// Whether this replica leads.
    pub leads: watch::Receiver<bool>,
    /// Is told which bundle the API server has.
    pub installed: watch::Sender<Option<Installed>>,
    /// Is told how the configurations stand: on every replica. Whether the webhook is reached, the leader alone knows.
    pub report: watch::Sender<WebhookReport>,
    /// Knows which probes arrived at this process.
    pub probes: Arc<Probes>,
    /// What the policies need the entries to select; `None` until there is a complete list of them.
    pub reach: watch::Receiver<Option<WebhookReach>>,
    /// Is told what the entries select; `None` where this replica does not lead.
    pub applied: watch::Sender<Option<AppliedReach>>,
    /// Knows whether the policies are known as they are: nothing is narrowed otherwise.
    pub census: Arc<dyn PolicyCensus>,
}

/// Keeps the configurations while this replica leads, until `shutdown` is over; then everything stays as it is.
pub async fn run(
    client: Client,
    settings: Settings,
    links: Links,
    shutdown: impl Future<Output = ()> + Send,
) {
    let Links { mut leads, installed, report, probes, reach, applied, census } = links;
    let report = Arc::new(report);
    let mut keeper = Keeper {
        client,
        webhooks: settings.webhooks,
        trust: settings.trust,
        installed,
        report: Arc::clone(&report),
        probes,
        reach: reach.clone(),
        applied,
        census,
        narrowing: [Narrowing::default(), Narrowing::default()],
        own_namespace: None,
        inherited: None,
        proof: Proof::default(),
        bundle: None,
        paces: [Pace::default(), Pace::default()],
        finding: Trouble::new("find the webhook configurations"),
        reading: Trouble::new("read the webhook configurations"),
        writing: Trouble::new("write the webhook configurations"),
        trusting: Trouble::new("read the authorities of the serving certificate"),
        reaching: Trouble::new("see the API server reach the webhook"),
        owning: Trouble::new("have the namespace own the webhook configurations"),
    };
    let mut reach = reach;
    // Broken entries have requests fail: that is not left until the next look.
    let changes = Notify::new();
    let (told, name) = (keeper.client.clone(), keeper.webhooks.name.clone());
    let watching =
        futures::future::join_all(Kind::ALL.map(|kind| seen::watch(&told, kind, &name, &changes, &report)));
    let keep = async {
        loop {
            let mut wait = LOOK;
            if *leads.borrow_and_update() {
                wait = keeper.round().await;
            } else {
                keeper.rest();
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changes.notified() => {}
                Ok(()) = leads.changed() => {}
                Ok(()) = reach.changed() => {}
            }
        }
    };
    tokio::select! {
        () = keep => {}
        _ = watching => {}
        () = shutdown => {}
    }
}

fn modify(report: &watch::Sender<WebhookReport>, change: impl FnOnce(&mut WebhookReport)) {
    report.send_if_modified(|known| {
        let before = known.clone();
        change(known);
        *known != before
    });
}

struct Keeper {
    client: Client,
    webhooks: WebhookSettings,
    trust: Trust,
    installed: watch::Sender<Option<Installed>>,
    report: Arc<watch::Sender<WebhookReport>>,
    probes: Arc<Probes>,
    proof: Proof,
    reach: watch::Receiver<Option<WebhookReach>>,
    applied: watch::Sender<Option<AppliedReach>>,
    census: Arc<dyn PolicyCensus>,
    narrowing: [Narrowing; 2],
    /// The release's namespace, and when it was looked up.
    own_namespace: Option<(OwnNamespace, Instant)>,
    /// When entries of a version without probes were found.
    inherited: Option<Instant>,
    /// The last bundle of the file.
    bundle: Option<Bundle>,
    paces: [Pace; 2],
    finding: Trouble,
    reading: Trouble,
    writing: Trouble,
    trusting: Trouble,
    reaching: Trouble,
    owning: Trouble,
}

/// How a configuration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// There is no such object.
    Missing,
    /// It is as it should be in the end, or it is not and will be looked at later.
    Settled,
    /// It admits what nobody reviewed, until the API server is seen to reach the webhook.
    Open,
    /// It was written just now.
    Written,
}

impl Keeper {
    /// Looks at both once; how long to wait until the next time.
    async fn round(&mut self) -> Duration {
        let Ok(bundle) = self.wanted_bundle().await else { return LOOK_AGAIN };
        self.webhooks.ca_bundle = bundle.as_ref().map(|bundle| bundle.to_vec());
        self.proof.waits_since.get_or_insert_with(Instant::now);
        match self.look(bundle.as_ref()).await {
            Ok(standings) => {
                self.reading.is_over();
                let is_open = standings.contains(&Standing::Open);
                let is_new = self.prove(&standings).await;
                if is_open && is_new {
                    return Duration::ZERO;
                }
                if is_open || standings.contains(&Standing::Written) { LOOK_AGAIN } else { LOOK }
            }
            Err(error) => {
                self.reading.goes_on(&call::words(&error));
                LOOK
            }
        }
    }

    /// This replica does not lead: it writes nothing, and knows nothing of the way to the webhook.
    fn rest(&mut self) {
        self.tell(None);
        self.proof = Proof::default();
        self.narrowing = [Narrowing::default(), Narrowing::default()];
        self.applied.send_if_modified(|applied| applied.take().is_some());
        self.tell_needed();
        modify(&self.report, |report| report.reachability = Reachability::Unknown);
    }

    /// The bundle that is to be there; an error where it is not known.
    async fn wanted_bundle(&mut self) -> Result<Option<Bundle>, ()> {
        match &self.trust {
            Trust::Injected => Ok(None),
            Trust::SelfManaged(bundle) => bundle.borrow().clone().map(Some).ok_or(()),
            Trust::File(path) => {
                match read_bundle(path.clone()).await {
                    Ok(bundle) => {
                        self.trusting.is_over();
                        self.bundle = Some(bundle);
                    }
                    // What was read last goes on being the right one.
                    Err(why) => self.trusting.goes_on(&format!("{}: {why}", path.display())),
                }
                self.bundle.clone().map(Some).ok_or(())
            }
        }
    }

    async fn look(&mut self, bundle: Option<&Bundle>) -> Result<[Standing; 2], kube::Error> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            let api = Api::all_with(self.client.clone(), &kind.resource());
            let object = call::within(call::LIMIT, api.get_opt(&self.webhooks.name)).await?;
            seen::see(&self.report, kind, object.as_ref().map(seen::of).as_ref());
            found.push((kind, api, object));
        }
        let trusts =
            |object: &DynamicObject| bundle.is_some_and(|bundle| Entries::seen(object).trust(bundle));
        let all_trust = found.iter().filter_map(|(_, _, object)| object.as_ref()).all(trusts);
        self.tell(bundle.filter(|_| all_trust));
        self.tell_applied(found.iter().map(|(kind, _, object)| (*kind, object.as_ref())));
        self.tell_needed();
        self.look_up_namespace().await;

        let mut missing = Vec::new();
        let mut standings = [Standing::Missing; 2];
        let mut paces = mem::take(&mut self.paces);
        let mut narrowing = mem::take(&mut self.narrowing);
        let states = paces.iter_mut().zip(&mut narrowing);
        for (((kind, api, object), standing), state) in found.into_iter().zip(&mut standings).zip(states) {
            match object {
                Some(object) if self.is_owned_anew(&api, &object).await => *standing = Standing::Written,
                Some(object) => *standing = self.keep(kind, state, &api, &object).await,
                None if kind == Kind::Mutating && !self.webhooks.pinning => {}
                None => missing.push(format!("there is no {} {}", kind.resource().kind, self.webhooks.name)),
            }
        }
        (self.paces, self.narrowing) = (paces, narrowing);
        if missing.is_empty() {
            self.finding.is_over();
        } else {
            self.finding.goes_on(&missing.join(", "));
        }
        Ok(standings)
    }

    /// Puts one configuration right.
    async fn keep(
        &mut self,
        kind: Kind,
        (pace, narrowing): (&mut Pace, &mut Narrowing),
        api: &Api<DynamicObject>,
        object: &DynamicObject,
    ) -> Standing {
        let seen = Entries::seen(object);
        if seen.are_without_probes() {
            self.inherited.get_or_insert_with(Instant::now);
        }
        let (stage, is_final) = self.stage(&seen);
        let exempt = self.webhooks.exempt();
        // What cannot be read may select anything: other settings, another version or another writer.
        let selected = seen.reach(&exempt).unwrap_or(WebhookReach::EVERYTHING);
        let needed = self.reach.borrow().clone();
        let mut target = narrowing.target(selected.clone(), needed.as_ref(), object, Instant::now());
        if !target.covers(&selected) && !self.census.is_current().await {
            tracing::warn!(
                "the webhooks are not narrowed: the API server has other policies than are known here"
            );
            *narrowing = Narrowing::default();
            target = target.union(selected).bounded();
        }
        let target = target.without(&exempt);
        let wanted = match kind.wanted(&self.webhooks.reaching(target), stage) {
            Ok(wanted) => wanted,
            Err(error) => {
                self.writing.goes_on(&error);
                return Standing::Settled;
            }
        };
        if seen.are(&wanted) {
            // What has no entries has nothing to be closed.
            return if is_final || wanted.json().is_empty() { Standing::Settled } else { Standing::Open };
        }
        if !pace.may_write(&wanted, Instant::now()) {
            return Standing::Settled;
        }
        if pace.is_repair() {
            let (kind, by) = (&kind.resource().kind, others(object, MANAGER));
            tracing::warn!(kind, by, "somebody changed the webhooks of Bonafide; they are put right");
        }
        match write(kind, api, &self.webhooks.name, object, &wanted, None).await {
            Ok(()) => {
                self.writing.is_over();
                let entries = match stage {
                    Stage::Unproven => "none for workloads until the API server is seen to reach the webhook",
                    Stage::Complete(policy) => policy.as_str(),
                };
                tracing::info!(kind = kind.resource().kind, entries, "wrote the webhooks");
                Standing::Written
            }
            // Somebody wrote in between, or the object is another one.
            Err(kube::Error::Api(status)) if status.code == 409 => Standing::Written,
            Err(error) => {
                self.writing.goes_on(&call::words(&error));
                Standing::Settled
            }
        }
    }

    /// Which entries a configuration is to have that has these, and whether that is what was asked for in the end.
    fn stage(&self, seen: &Entries) -> (Stage, bool) {
        let (asked, now) = (self.webhooks.failure_policy, Instant::now());
        if seen.deny() || self.proof.is_fresh(now) {
            return (Stage::Complete(asked), true);
        }
        // A leader that has just begun knows nothing yet, and one that has seen the webhook reached may see it again: until then, entries
        // that review workloads stay.
        let is_known = self.proof.last.is_some() || !self.proof.is_overdue(now);
        if seen.review() && (is_known || self.may_reach_the_version_before(now)) {
            return (Stage::Complete(FailurePolicy::Ignore), false);
        }
        (Stage::Unproven, false)
    }

    /// Whether the API server may send probes to replicas of a version without probes. They answer reviews, and no probe.
    fn may_reach_the_version_before(&self, now: Instant) -> bool {
        self.inherited.is_some_and(|since| now.duration_since(since) < UPGRADE_LASTS)
    }

    /// Sends a probe where it is time for one, and tells what is known. Whether the webhook was reached.
    async fn prove(&mut self, standings: &[Standing; 2]) -> bool {
        if !self.proof.is_due(Instant::now()) {
            return false;
        }
        self.proof.probed = Some(Instant::now());
        let answer = if standings.iter().all(|standing| *standing == Standing::Missing) {
            Answer::NotYet("There are no webhook configurations".to_owned())
        } else {
            probe::send(&self.client, &self.webhooks, &self.probes).await
        };
        let now = Instant::now();
        let is_reached = answer == Answer::Reached;
        match answer {
            Answer::Reached => {
                self.reaching.is_over();
                if self.proof.last.is_none() {
                    tracing::info!("the API server reaches the webhook");
                }
                self.proof = Proof { last: Some(now), waits_since: Some(now), probed: Some(now), why: None };
            }
            Answer::NotYet(why) => {
                if self.proof.is_overdue(now) {
                    self.reaching.goes_on(&why);
                } else {
                    tracing::debug!(why, "the API server does not reach the webhook yet");
                }
                self.proof.why = Some(why);
            }
        }
        let reachability = match (&self.proof.why, self.proof.waits_since) {
            _ if self.proof.is_fresh(now) => Reachability::Reached,
            _ if self.may_reach_the_version_before(now) => Reachability::Unknown,
            (Some(why), Some(since)) if self.proof.is_overdue(now) => {
                Reachability::NotReached { since, why: why.clone() }
            }
            _ => Reachability::Unknown,
        };
        modify(&self.report, |report| report.reachability = reachability);
        is_reached
    }
}

#[cfg(test)]
mod tests;
