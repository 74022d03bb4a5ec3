//! The parts of a webhook in a cluster: what is followed of the API server, and what the leading replica keeps there, for as long as
//! the webhook serves.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    Args, ServeError,
    args::{CertificateSource, ClusterArgs},
    vital::Vital,
};
use crate::{
    cluster::{
        callers::{ApiServerTokens, WebhookIdentity},
        certificates, client,
        events::PolicyEvents,
        install::{self, AppliedReach, Probes, Reachability, WebhookReport, Widening, announce},
        inventory::{ClusterInventory, ListedPolicies, Watched},
        keys::KeyObjects,
        last_review::LastReview,
        lease,
        pods::PendingPods,
        pull::PullSecrets,
        reach::{ReachRule, WebhookReach},
        roots::TrustRootObjects,
        status, warm,
        webhooks::WebhookSettings,
    },
    domain::{plan::Stage, policy::PolicyEntry, workload::Workload},
    gather::{
        ports::{Inventory, Keychain, RootKeeper},
        reviewer::Reviewer,
    },
    server::{admission::InCluster, health::Readiness, metrics::Metrics, tls::Certificate},
    trust::Keeper,
};

/// How long taking leave may take: the Lease is given back.
const FAREWELL: Duration = Duration::from_secs(3);

/// What is followed of a cluster; dropped, it is followed no more.
pub(super) struct Cluster {
    client: Client,
    inventory: Arc<ClusterInventory>,
    pods: Arc<PendingPods>,
    events: Arc<PolicyEvents>,
    pull_secrets: Option<Arc<PullSecrets>>,
    keys: Arc<KeyObjects>,
    probes: Arc<Probes>,
    roots: Arc<dyn RootKeeper>,
    entries: Arc<Widening>,
    name: String,
    namespace: String,
    /// Says when it is over.
    over: watch::Sender<bool>,
    vital: Vital,
    /// What takes leave by itself.
    keeping: Vec<JoinHandle<()>>,
    following: Vec<JoinHandle<()>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeping.iter().chain(&self.following).for_each(JoinHandle::abort);
    }
}

impl Cluster {
    /// Begins to follow the cluster, and to take part in keeping what all replicas share.
    pub(super) async fn start(
        args: &Args,
        metrics: &Arc<Metrics>,
        readiness: &Readiness,
        certificate: &Arc<Certificate>,
        roots: &Arc<Keeper>,
    ) -> Result<Self, ServeError> {
        let flags = &args.in_cluster;
        let lifetimes = lifetimes(flags)?;
        let client = client::infer().await?;
        let keys = KeyObjects::new(flags.webhook.namespace.clone(), flags.key_references);
        let inventory = ClusterInventory::new(
            args.platforms.clone(),
            args.unmatched_images.into(),
            flags.pinning,
            Arc::clone(&keys),
        );
        let pods = PendingPods::new(client.clone(), Arc::clone(&inventory));
        let (events, writer) = PolicyEvents::new(client.clone(), Arc::clone(&inventory), flags.identity());
        let keeper: Arc<dyn RootKeeper> = Arc::<Keeper>::clone(roots);
        let trust_roots = TrustRootObjects::new(client.clone(), Arc::clone(&inventory), Arc::clone(&keeper));
        let (over, ends) = watch::channel(false);
        let (leading, leads) = watch::channel(false);
        let vital = Vital::new();
        let probes = Arc::new(Probes::default());
        let webhooks = flags.webhooks();
        let (reporting, report) = watch::channel(WebhookReport::new(&webhooks));
        let rule = reach_rule(args, flags, &webhooks);
        let (needing, needed) = watch::channel(None);
        let (applying, applied) = watch::channel(None);
        let entries = widening(&client, flags, webhooks, &rule, &needed, &probes);
        let last_review = last_review(metrics);
        let links = Shared {
            leading,
            leads: leads.clone(),
            reporting,
            probes: Arc::clone(&probes),
            needed,
            applying,
            census: ListedPolicies::new(client.clone(), Arc::clone(&inventory)),
            last_review: Arc::clone(&last_review),
        };
        let keeping = keep(&vital, &client, flags, lifetimes, certificate, links, &ends);
        let surroundings = status::Surroundings {
            roots: Arc::clone(&keeper),
            webhooks: report.clone(),
            last_review,
            rule: rule.clone(),
            applied,
        };
        let following = vec![
            vital.spawn("following the cluster", Arc::clone(&inventory).run(client.clone())),
            vital.spawn(
                "telling what the policies need to be selected",
                Arc::clone(&inventory).tell_reach(rule, needing),
            ),
            vital.spawn("reading keys", Arc::clone(&keys).run(client.clone(), Arc::clone(&inventory))),
            vital.spawn("following pods", Arc::clone(&pods).run()),
            vital.spawn("writing events", writer.run()),
            vital.spawn(
                "writing statuses",
                status::run(client.clone(), Arc::clone(&inventory), surroundings, leads.clone()),
            ),
            vital.spawn(
                "telling of the webhook configurations",
                announce::run(client.clone(), flags.identity(), leads.clone(), report.clone()),
            ),
            vital.spawn("following trust roots", Arc::clone(&trust_roots).run()),
            vital.spawn("writing statuses of trust roots", trust_roots.report(leads.clone())),
        ];
        let pull_secrets = flags.pull_secrets.then(|| PullSecrets::new(client.clone()));
        let listing = Arc::clone(&inventory);
        readiness.waits_for(move || listing.unlisted());
        let kept = (Arc::clone(&pods), Arc::clone(&keys), pull_secrets.clone());
        let shown = Arc::clone(&inventory);
        metrics.before_scrape(move |metrics| {
            show(&shown, metrics);
            show_kept(&kept.0, &kept.1, kept.2.as_deref(), metrics);
        });
        let told = Arc::clone(&events);
        metrics.before_scrape(move |metrics| {
            show_webhooks(&report.borrow(), *leads.borrow(), metrics);
            metrics.set_events_dropped(told.dropped());
        });
        Ok(Self {
            client,
            inventory,
            pods,
            events,
            pull_secrets,
            keys,
            probes,
            roots: keeper,
            entries,
            name: flags.webhook.name.clone(),
            namespace: flags.webhook.namespace.clone(),
            over,
            vital,
            keeping,
            following,
        })
    }

    /// The process is told to end. Where it ends because its namespace is deleted, nothing is left that would wait for it.
    pub(super) async fn told_to_end(&self) {
        let deleting = install::delete_with_namespace(&self.client, &self.name, &self.namespace);
        if tokio::time::timeout(FAREWELL, deleting).await.is_err() {
            tracing::warn!("cannot see in time whether the namespace is being deleted");
        }
    }

    /// Gives back what others wait for.
    pub(super) async fn leave(mut self) {
        let _ = self.over.send(true);
        let all = futures::future::join_all(std::mem::take(&mut self.keeping));
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("the Lease could not be given back in time; another replica leads when it ends");
        }
    }

    pub(super) fn inventory(&self) -> Arc<dyn Inventory> {
        Arc::<ClusterInventory>::clone(&self.inventory)
    }

    /// What nothing goes without.
    pub(super) fn vital(&self) -> Vital {
        self.vital.clone()
    }

    /// Looks at what runs already, before anybody asks.
    pub(super) fn warm(&mut self, reviewer: Arc<Reviewer>, patience: Duration) {
        let inventory = Arc::clone(&self.inventory);
        let judge = move |workload: Arc<Workload>| {
            let (reviewer, snapshot) = (Arc::clone(&reviewer), inventory.snapshot());
            async move {
                let Ok(snapshot) = snapshot else { return };
                let deadline = Instant::now() + patience;
                reviewer.review(&snapshot, &workload, Stage::Final, deadline).await;
            }
        };
        let warming = warm::run(self.client.clone(), Arc::clone(&self.inventory), judge);
        self.following.push(tokio::spawn(warming));
    }

    pub(super) fn keychain(&self) -> Option<Arc<dyn Keychain>> {
        self.pull_secrets.as_ref().map(|secrets| Arc::<PullSecrets>::clone(secrets) as Arc<dyn Keychain>)
    }

    /// Who verifies the tokens of callers, where these are required.
    pub(super) fn tokens(&self, args: &Args) -> Option<Arc<ApiServerTokens>> {
        let webhook = &args.in_cluster.webhook;
        let identity = || WebhookIdentity {
            name: webhook.name.clone(),
            namespace: webhook.namespace.clone(),
            port: webhook.service_port,
            subjects: args.callers.caller_token_subjects.clone(),
        };
        let is_required = args.callers.require_caller_token;
        is_required.then(|| ApiServerTokens::new(self.client.clone(), identity()))
    }

    pub(super) fn ports(&self) -> InCluster {
        InCluster {
            pods: Arc::<PendingPods>::clone(&self.pods),
            findings: Arc::<PolicyEvents>::clone(&self.events),
            keys: Arc::<KeyObjects>::clone(&self.keys),
            probes: Arc::clone(&self.probes),
            roots: Arc::clone(&self.roots),
            entries: Arc::<Widening>::clone(&self.entries),
        }
    }
}

/// What those who keep the Lease and the configurations tell others.
struct Shared {
    leading: watch::Sender<bool>,
    leads: watch::Receiver<bool>,
    reporting: watch::Sender<WebhookReport>,
    probes: Arc<Probes>,
    needed: watch::Receiver<Option<WebhookReach>>,
    applying: watch::Sender<Option<AppliedReach>>,
    census: Arc<ListedPolicies>,
    last_review: Arc<LastReview>,
}

/// Widens the webhook entries for policies that are applied.
fn widening(
    client: &Client,
    flags: &ClusterArgs,
    webhooks: WebhookSettings,
    rule: &ReachRule,
    needed: &watch::Receiver<Option<WebhookReach>>,
    probes: &Arc<Probes>,
) -> Arc<Widening> {
    Arc::new(Widening::new(
        client.clone(),
        webhooks,
        flags.certificates == CertificateSource::Files && flags.tls_ca.is_none(),
        rule.clone(),
        needed.clone(),
        Arc::clone(probes),
    ))
}

/// When a replica last answered a review; this one counts its own.
fn last_review(metrics: &Arc<Metrics>) -> Arc<LastReview> {
    let counted = Arc::clone(metrics);
    Arc::new(LastReview::new(move || counted.last_review()))
}

/// Takes part in keeping the Lease, the serving certificate and the webhook configurations.
fn keep(
    vital: &Vital,
    client: &Client,
    flags: &ClusterArgs,
    lifetimes: certificates::Lifetimes,
    certificate: &Arc<Certificate>,
    shared: Shared,
    ends: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let Shared { leading, leads, reporting, probes, needed, applying, census, last_review } = shared;
    let (namespace, name) = (&flags.webhook.namespace, &flags.webhook.name);
    let lease = lease::Settings {
        namespace: namespace.clone(),
        name: name.clone(),
        identity: flags.identity(),
        timing: lease::Timing::default(),
    };
    let mut keeping =
        vec![vital.spawn(
            "the election",
            lease::run(client.clone(), lease, last_review, leading, end(ends.clone())),
        )];
    let (bundle, managed) = watch::channel(None);
    let (installing, installed) = watch::channel(None);
    let trust = match (flags.certificates, &flags.tls_ca) {
        (CertificateSource::SelfManaged, _) => install::Trust::SelfManaged(managed),
        (CertificateSource::Files, Some(authority)) => install::Trust::File(authority.clone()),
        (CertificateSource::Files, None) => install::Trust::Injected,
    };
    if flags.certificates == CertificateSource::SelfManaged {
        let settings = certificates::Settings { namespace: namespace.clone(), name: name.clone(), lifetimes };
        let links = certificates::Links { leads: leads.clone(), installed, bundle };
        let certificate = Arc::clone(certificate);
        let serve = move |chain: &[u8], key: &[u8]| {
            certificate.replace(chain, key).map_err(|error| error.to_string())
        };
        let run = certificates::run(client.clone(), settings, links, serve, end(ends.clone()));
        keeping.push(vital.spawn("keeping the certificate", run));
    }
    let settings = install::Settings { webhooks: flags.webhooks(), trust };
    let links = install::Links {
        leads,
        installed: installing,
        report: reporting,
        probes,
        reach: needed,
        applied: applying,
        census,
    };
    let run = install::run(client.clone(), settings, links, end(ends.clone()));
    keeping.push(vital.spawn("keeping the webhook configurations", run));
    keeping
}

fn lifetimes(flags: &ClusterArgs) -> Result<certificates::Lifetimes, ServeError> {
    let (certificate, authority) = (flags.certificate_lifetime, flags.ca_lifetime);
    certificates::Lifetimes::new(certificate, authority).map_err(|error| match error {
        certificates::LifetimesError::TooShort => {
            ServeError::flag("certificate-lifetime", &humantime::format_duration(certificate), &error)
        }
        certificates::LifetimesError::Authority => {
            ServeError::flag("ca-lifetime", &humantime::format_duration(authority), &error)
        }
    })
}

async fn end(mut ends: watch::Receiver<bool>) {
    // Where nobody can say so any more, it is over too.
    let _ = ends.wait_for(|over| *over).await;
}

fn show(inventory: &ClusterInventory, metrics: &Metrics) {
    metrics.set_cache_bytes("labels", inventory.label_bytes());
    if let Ok(snapshot) = inventory.snapshot() {
        let all = snapshot.policies.entries();
        let invalid = all.iter().filter(|entry| matches!(entry, PolicyEntry::Invalid(_))).count();
        metrics.set_policies(all.len().saturating_sub(invalid), invalid);
    }
    for watched in Watched::ALL {
        metrics.set_watch_staleness(watched.as_str(), inventory.staleness(watched));
    }
}

fn show_kept(pods: &PendingPods, keys: &KeyObjects, secrets: Option<&PullSecrets>, metrics: &Metrics) {
    metrics.set_cache_bytes("pods", pods.bytes());
    metrics.set_cache_bytes("keys", keys.bytes());
    metrics.set_cache_bytes("pull_secrets", secrets.map_or(0, PullSecrets::bytes));
}

fn show_webhooks(report: &WebhookReport, leads: bool, metrics: &Metrics) {
    metrics.set_leading(leads);
    metrics.set_webhook_entries(&report.entries());
    metrics.set_webhook_unreached(match report.reachability {
        Reachability::NotReached { since, .. } => since.elapsed(),
        Reachability::Unknown | Reachability::Reached => Duration::ZERO,
    });
}

fn reach_rule(args: &Args, flags: &ClusterArgs, webhooks: &WebhookSettings) -> ReachRule {
    ReachRule { mode: flags.reach, unmatched: args.unmatched_images.into(), exempt: webhooks.exempt() }
}
