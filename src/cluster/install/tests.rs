//! What becomes of the configurations at an API server in memory. Time is paused, and passes by itself where everybody sleeps.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bonafide_kit::apiserver::{ApiServer, Outage};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use super::*;

mod narrowed;
mod repairs;
mod trust;
mod upgraded;

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/bonafide";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/bonafide";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/bonafide";
const SECOND: Duration = Duration::from_secs(1);

fn webhooks() -> WebhookSettings {
    WebhookSettings {
        name: "bonafide".to_owned(),
        namespace: "ns".to_owned(),
        service_port: 443,
        failure_policy: FailurePolicy::Fail,
        timeout_seconds: 10,
        exempt_namespaces: vec!["ns".to_owned(), "kube-system".to_owned()],
        binding_failure_policy: None,
        reach: WebhookReach::EVERYTHING,
        opt_out_label: None,
        pinning: true,
        ca_bundle: None,
    }
}

/// An API server with both configurations, empty as the chart makes them.
struct Cluster {
    server: ApiServer,
    is_reached: Arc<AtomicBool>,
    /// Whether the policies that are known are those that there are.
    is_current: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Census(Arc<AtomicBool>);

impl PolicyCensus for Census {
    fn is_current(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(self.0.load(Ordering::Relaxed)))
    }
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self::bare();
        cluster.make(VALIDATING, "ValidatingWebhookConfiguration");
        cluster.make(MUTATING, "MutatingWebhookConfiguration");
        cluster
    }

    fn bare() -> Self {
        let server = ApiServer::new();
        server.put(
            LEASE,
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "bonafide", "namespace": "ns"}}),
        );
        let is_reached = Arc::new(AtomicBool::new(true));
        let (reached, store) = (Arc::clone(&is_reached), server.clone());
        // Another replica answers, where an entry sends the probe there.
        server.warn(move |lease| {
            let has = |path: &str| {
                store
                    .get(path)
                    .is_some_and(|object| object["webhooks"].to_string().contains("lease.bonafide.dev"))
            };
            let is_asked = has(VALIDATING) || has(MUTATING);
            let number = lease["metadata"]["annotations"][PROBE_ANNOTATION].as_str().unwrap_or_default();
            if is_asked && reached.load(Ordering::Relaxed) { vec![echo(number)] } else { Vec::new() }
        });
        Self { server, is_reached, is_current: Arc::new(AtomicBool::new(true)) }
    }

    fn make(&self, path: &str, kind: &str) {
        let labels = json!({"chart": "bonafide"});
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": "bonafide", "labels": labels}});
        self.server.put(path, object);
    }

    fn start(&self, webhooks: WebhookSettings, trust: Trust) -> Replica {
        self.start_needing(webhooks, trust, WebhookReach::EVERYTHING)
    }

    fn start_needing(&self, webhooks: WebhookSettings, trust: Trust, reach: WebhookReach) -> Replica {
        let (leads, leading) = watch::channel(true);
        let (sender, installed) = watch::channel(None);
        let (reporting, report) = watch::channel(WebhookReport::new(&webhooks));
        let settings = Settings { webhooks, trust };
        let client = Client::new(self.server.router(), "ns");
        let (needing, needed) = watch::channel(Some(reach));
        let (applying, applied) = watch::channel(None);
        let links = Links {
            leads: leading,
            installed: sender,
            report: reporting,
            probes: Arc::default(),
            reach: needed,
            applied: applying,
            census: Arc::new(Census(Arc::clone(&self.is_current))),
        };
        let task = tokio::spawn(run(client, settings, links, std::future::pending()));
        Replica { leads, installed, report, needing, applied, task }
    }

    /// One with the usual settings and a bundle.
    fn usual(&self) -> (Replica, watch::Sender<Option<Bundle>>) {
        let (bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
        (self.start(webhooks(), Trust::SelfManaged(known)), bundle)
    }

    fn all(&self) -> Vec<Value> {
        let of = |path| {
            let mut all = self.server.get(path).unwrap()["webhooks"].as_array().cloned().unwrap_or_default();
            all.sort_by_key(|webhook| webhook["name"].to_string());
            all
        };
        [of(VALIDATING), of(MUTATING)].concat()
    }

    /// The names of the webhooks, without what they end with.
    fn names(&self) -> Vec<String> {
        let name = |webhook: &Value| webhook["name"].as_str().unwrap().replace(".bonafide.dev", "");
        self.all().iter().map(name).collect()
    }

    /// Somebody opens all of them.
    fn open(&self) {
        for path in [VALIDATING, MUTATING] {
            self.server.edit(path, |object| {
                object["webhooks"].as_array_mut().unwrap().iter_mut().for_each(|webhook| {
                    webhook["failurePolicy"] = json!("Ignore");
                });
            });
        }
    }

    /// The different values of a field that the webhooks have, in the order of the webhooks.
    fn values(&self, field: &str) -> Vec<Value> {
        let mut values: Vec<Value> =
            self.all().iter().map(|webhook| webhook.pointer(field).cloned().unwrap_or_default()).collect();
        values.dedup();
        values
    }

    fn probes(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.method == "PUT").count()
    }

    fn writes(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.method == "PATCH").count()
    }
}

struct Replica {
    leads: watch::Sender<bool>,
    installed: watch::Receiver<Option<Installed>>,
    report: watch::Receiver<WebhookReport>,
    needing: watch::Sender<Option<WebhookReach>>,
    applied: watch::Receiver<Option<AppliedReach>>,
    task: JoinHandle<()>,
}

impl Replica {
    fn bundle(&self) -> Option<Vec<u8>> {
        self.installed.borrow().as_ref().map(|installed| installed.bundle.to_vec())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// As the API server shows a bundle.
fn shown(bundle: &str) -> Value {
    json!(STANDARD.encode(bundle))
}

const BUNDLE: &str = "/clientConfig/caBundle";
/// The failure policies of bindings, Lease and policies, workloads; Lease, pods.
const CLOSED: [&str; 5] = ["Fail", "Ignore", "Fail", "Ignore", "Fail"];
const ALL: [&str; 6] = ["bindings", "lease", "policies", "workloads", "lease", "pods"];
const UNPROVEN: [&str; 3] = ["lease", "policies", "lease"];

#[tokio::test(start_paused = true)]
async fn e2_workloads_are_sent_only_once_the_api_server_reaches_the_webhook() {
    let cluster = Cluster::new();
    cluster.is_reached.store(false, Ordering::Relaxed);
    let (replica, _bundle) = cluster.usual();
    sleep(10 * SECOND).await;
    assert_eq!(replica.report.borrow().reachability, Reachability::Unknown, "it has just begun");
    sleep(20 * SECOND).await;
    assert_eq!(cluster.names(), UNPROVEN);
    assert_eq!(cluster.values("/failurePolicy"), ["Ignore"]);
    assert_eq!(cluster.values("/timeoutSeconds"), [2]);
    assert_eq!(cluster.values(BUNDLE), [shown("one")]);
    assert_eq!(replica.bundle().as_deref(), Some(b"one".as_slice()));
    assert!(cluster.probes() > 30);
    assert_eq!(cluster.writes(), 2, "each once");
    assert!(matches!(replica.report.borrow().reachability, Reachability::NotReached { .. }));

    cluster.is_reached.store(true, Ordering::Relaxed);
    sleep(SECOND).await;
    assert_eq!(cluster.names(), ALL);
    // Policies and probes never wait for the webhook.
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);
    assert_eq!(replica.report.borrow().reachability, Reachability::Reached);
    let (probes, writes) = (cluster.probes(), cluster.writes());
    sleep(60 * SECOND).await;
    assert_eq!(cluster.writes(), writes, "then nothing is left to do");
    assert!((9..=13).contains(&(cluster.probes() - probes)), "{} in a minute", cluster.probes() - probes);
    assert_eq!(cluster.server.get(VALIDATING).unwrap()["metadata"]["labels"]["chart"], "bonafide");

    let requests: std::collections::BTreeSet<String> = cluster
        .server
        .seen()
        .iter()
        .map(|seen| format!("{} {}?{}", seen.method, seen.path, seen.query))
        .collect();
    insta::assert_debug_snapshot!(requests);
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_writes_and_only_when_it_serves() {
    let cluster = Cluster::new();
    let (bundle, known) = watch::channel(None);
    let replica = cluster.start(webhooks(), Trust::SelfManaged(known));
    sleep(10 * SECOND).await;
    assert_eq!(cluster.writes() + cluster.probes(), 0, "there is no certificate yet");
    replica.leads.send_replace(false);
    bundle.send_replace(Some(Bundle::from(*b"one")));
    sleep(10 * SECOND).await;
    assert_eq!(cluster.writes() + cluster.probes(), 0, "it does not lead");
    replica.leads.send_replace(true);
    sleep(SECOND).await;
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);
    sleep(3 * SECOND).await;
    assert!(replica.bundle().is_some());
    replica.leads.send_replace(false);
    sleep(SECOND).await;
    assert_eq!(replica.bundle(), None, "who does not look does not know");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_installed_or_somebody_removed_is_not_made() {
    let cluster = Cluster::bare();
    let (replica, _bundle) = cluster.usual();
    sleep(10 * SECOND).await;
    assert_eq!(cluster.server.get(VALIDATING), None);
    assert!(replica.bundle().is_some(), "what is not there trusts nobody wrong");
    cluster.make(VALIDATING, "ValidatingWebhookConfiguration");
    sleep(3 * SECOND).await;
    assert_eq!(cluster.server.get(VALIDATING).unwrap()["webhooks"].as_array().unwrap().len(), 4);
    cluster.server.delete(VALIDATING);
    sleep(10 * SECOND).await;
    assert_eq!(cluster.server.get(VALIDATING), None);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_took_the_place_of_another_is_left_alone() {
    let cluster = Cluster::new();
    let api: Api<DynamicObject> =
        Api::all_with(Client::new(cluster.server.router(), "ns"), &Kind::Validating.resource());
    let wanted = Kind::Validating.wanted(&webhooks(), Stage::Complete(FailurePolicy::Fail)).unwrap();
    let before = api.get("bonafide").await.unwrap();
    cluster.server.delete(VALIDATING);
    let error = write(Kind::Validating, &api, "bonafide", &before, &wanted, None).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 409));
    cluster.make(VALIDATING, "ValidatingWebhookConfiguration");
    let error = write(Kind::Validating, &api, "bonafide", &before, &wanted, None).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 409));
    assert_eq!(cluster.server.get(VALIDATING).unwrap()["webhooks"], Value::Null);
    let now = api.get("bonafide").await.unwrap();
    write(Kind::Validating, &api, "bonafide", &now, &wanted, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn e2_entries_that_admit_need_the_same_proof() {
    let cluster = Cluster::new();
    cluster.is_reached.store(false, Ordering::Relaxed);
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let settings = WebhookSettings { failure_policy: FailurePolicy::Ignore, ..webhooks() };
    let _replica = cluster.start(settings, Trust::SelfManaged(known));
    sleep(30 * SECOND).await;
    assert_eq!(cluster.names(), UNPROVEN, "a pod would wait for them in vain");
    cluster.is_reached.store(true, Ordering::Relaxed);
    sleep(SECOND).await;
    assert_eq!(cluster.names(), ALL);
    assert_eq!(cluster.values("/failurePolicy"), ["Ignore"]);
}

/// What an older version left behind, or another leader.
#[tokio::test(start_paused = true)]
async fn e2_entries_that_admit_are_removed_only_where_a_leader_never_saw_them_reached() {
    let cluster = Cluster::new();
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let settings = WebhookSettings { failure_policy: FailurePolicy::Ignore, ..webhooks() };
    let first = cluster.start(settings.clone(), Trust::SelfManaged(known.clone()));
    sleep(5 * SECOND).await;
    cluster.is_reached.store(false, Ordering::Relaxed);
    sleep(120 * SECOND).await;
    assert_eq!(cluster.names(), ALL, "it was reached once");
    assert!(matches!(first.report.borrow().reachability, Reachability::NotReached { .. }));
    drop(first);

    let _second = cluster.start(settings, Trust::SelfManaged(known));
    sleep(10 * SECOND).await;
    assert_eq!(cluster.names(), ALL, "it may be reached soon");
    sleep(20 * SECOND).await;
    assert_eq!(cluster.names(), UNPROVEN);
}

#[tokio::test(start_paused = true)]
async fn b9_it_is_known_how_the_entries_stand() {
    let cluster = Cluster::new();
    let (leader, _bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    assert_eq!(leader.report.borrow().concern(), None);
    let entries = leader.report.borrow().entries();
    let stands: Vec<String> =
        entries.iter().map(|(name, state)| format!("{name} {}", state.as_str())).collect();
    assert_eq!(stands, ["workloads fail", "bindings fail", "policies ignore", "lease ignore", "pods fail"]);
}

#[tokio::test(start_paused = true)]
async fn pinning_can_be_taken_away() {
    let cluster = Cluster::new();
    let first = cluster.usual();
    sleep(5 * SECOND).await;
    assert_eq!(cluster.names(), ALL);
    drop(first);
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let _second = cluster.start(WebhookSettings { pinning: false, ..webhooks() }, Trust::SelfManaged(known));
    sleep(5 * SECOND).await;
    let mutating = cluster.server.get(MUTATING).unwrap();
    let names: Vec<&Value> =
        mutating["webhooks"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    // Probes go on being sent before other policies are evaluated.
    assert_eq!(names, ["lease.bonafide.dev"]);
    assert_eq!(cluster.names(), ["bindings", "lease", "policies", "workloads", "lease"]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_waited_for() {
    for outage in [Outage::Unavailable, Outage::Silent, Outage::Deaf] {
        let cluster = Cluster::new();
        cluster.server.outage(Some(outage));
        let (_replica, _bundle) = cluster.usual();
        sleep(60 * SECOND).await;
        cluster.server.outage(None);
        sleep(20 * SECOND).await;
        assert_eq!(cluster.values("/failurePolicy"), CLOSED, "{outage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_who_believe_to_lead_do_not_undo_each_other() {
    let cluster = Cluster::new();
    let replicas = [cluster.usual(), cluster.usual()];
    sleep(10 * SECOND).await;
    let writes = cluster.writes();
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);
    sleep(60 * SECOND).await;
    assert_eq!(cluster.writes(), writes);
    drop(replicas);
}
