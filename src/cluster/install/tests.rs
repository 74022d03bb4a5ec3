//! What becomes of the configurations at an API server in memory. Time is paused, and passes by itself where everybody sleeps.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bonafide_kit::apiserver::{ApiServer, Outage, Refusal};
use tokio::{task::JoinHandle, time::sleep};

use super::*;

mod repairs;
mod trust;

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/bonafide";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/bonafide";
const SECOND: Duration = Duration::from_secs(1);

fn webhooks() -> WebhookSettings {
    WebhookSettings {
        name: "bonafide".to_owned(),
        namespace: "ns".to_owned(),
        service_port: 443,
        failure_policy: FailurePolicy::Fail,
        timeout_seconds: 10,
        exempt_namespaces: vec!["ns".to_owned(), "kube-system".to_owned()],
        opt_out_label: None,
        pinning: true,
        ca_bundle: None,
    }
}

/// An API server with both configurations, empty as the chart makes them.
struct Cluster {
    server: ApiServer,
    is_reached: Arc<AtomicBool>,
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
        let is_reached = Arc::new(AtomicBool::new(true));
        let reached = Arc::clone(&is_reached);
        server.admit(move |_| {
            let refusal = "admission webhook \"policies.bonafide.dev\" denied the request: no image";
            if reached.load(Ordering::Relaxed) { Err(Refusal::new(403, refusal)) } else { Ok(()) }
        });
        Self { server, is_reached }
    }

    fn make(&self, path: &str, kind: &str) {
        let labels = json!({"chart": "bonafide"});
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": "bonafide", "labels": labels}});
        self.server.put(path, object);
    }

    fn start(&self, webhooks: WebhookSettings, trust: Trust) -> Replica {
        let (leads, leading) = watch::channel(true);
        let (sender, installed) = watch::channel(None);
        let settings = Settings { webhooks, trust };
        let client = Client::new(self.server.router(), "ns");
        let task = tokio::spawn(run(client, settings, leading, sender, std::future::pending()));
        Replica { leads, installed, task }
    }

    /// One with the usual settings and a bundle.
    fn usual(&self) -> (Replica, watch::Sender<Option<Bundle>>) {
        let (bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
        (self.start(webhooks(), Trust::SelfManaged(known)), bundle)
    }

    fn all(&self) -> Vec<Value> {
        let of = |path| self.server.get(path).unwrap()["webhooks"].as_array().cloned().unwrap_or_default();
        [of(VALIDATING), of(MUTATING)].concat()
    }

    /// The different values of a field that the webhooks have, in the order of the webhooks.
    fn values(&self, field: &str) -> Vec<Value> {
        let mut values: Vec<Value> =
            self.all().iter().map(|webhook| webhook.pointer(field).cloned().unwrap_or_default()).collect();
        values.dedup();
        values
    }

    fn probes(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.method == "POST").count()
    }

    fn writes(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.method == "PATCH").count()
    }
}

struct Replica {
    leads: watch::Sender<bool>,
    installed: watch::Receiver<Option<Installed>>,
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

#[tokio::test(start_paused = true)]
async fn they_deny_only_once_the_api_server_reaches_the_webhook() {
    let cluster = Cluster::new();
    cluster.is_reached.store(false, Ordering::Relaxed);
    let (replica, _bundle) = cluster.usual();
    sleep(30 * SECOND).await;
    assert_eq!(cluster.all().len(), 4);
    assert_eq!(cluster.values("/failurePolicy"), ["Ignore"]);
    assert_eq!(cluster.values(BUNDLE), [shown("one")]);
    assert_eq!(replica.bundle().as_deref(), Some(b"one".as_slice()));
    assert!(cluster.probes() > 30);
    assert_eq!(cluster.writes(), 2, "each once");

    cluster.is_reached.store(true, Ordering::Relaxed);
    sleep(SECOND).await;
    // Policies never wait for the webhook.
    assert_eq!(cluster.values("/failurePolicy"), ["Fail", "Ignore", "Fail"]);
    let (probes, writes) = (cluster.probes(), cluster.writes());
    sleep(60 * SECOND).await;
    assert_eq!((cluster.probes(), cluster.writes()), (probes, writes), "then nothing is left to do");
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
    assert_eq!(cluster.values("/failurePolicy"), ["Fail", "Ignore", "Fail"]);
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
    assert_eq!(cluster.server.get(VALIDATING).unwrap()["webhooks"].as_array().unwrap().len(), 3);
    cluster.server.delete(VALIDATING);
    sleep(10 * SECOND).await;
    assert_eq!(cluster.server.get(VALIDATING), None);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_took_the_place_of_another_is_left_alone() {
    let cluster = Cluster::new();
    let api: Api<DynamicObject> =
        Api::all_with(Client::new(cluster.server.router(), "ns"), &Kind::Validating.resource());
    let wanted = Kind::Validating.wanted(&webhooks()).unwrap();
    let before = api.get("bonafide").await.unwrap();
    cluster.server.delete(VALIDATING);
    let error = write(Kind::Validating, &api, "bonafide", &before, &wanted).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 409));
    cluster.make(VALIDATING, "ValidatingWebhookConfiguration");
    let error = write(Kind::Validating, &api, "bonafide", &before, &wanted).await.unwrap_err();
    assert!(matches!(error, kube::Error::Api(status) if status.code == 409));
    assert_eq!(cluster.server.get(VALIDATING).unwrap()["webhooks"], Value::Null);
    let now = api.get("bonafide").await.unwrap();
    write(Kind::Validating, &api, "bonafide", &now, &wanted).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_them_open_needs_no_proof() {
    let cluster = Cluster::new();
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let settings = WebhookSettings { failure_policy: FailurePolicy::Ignore, ..webhooks() };
    let _replica = cluster.start(settings, Trust::SelfManaged(known));
    sleep(10 * SECOND).await;
    assert_eq!(cluster.values("/failurePolicy"), ["Ignore"]);
    assert_eq!((cluster.all().len(), cluster.probes()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn pinning_can_be_taken_away() {
    let cluster = Cluster::new();
    let first = cluster.usual();
    sleep(5 * SECOND).await;
    assert_eq!(cluster.all().len(), 4);
    drop(first);
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let _second = cluster.start(WebhookSettings { pinning: false, ..webhooks() }, Trust::SelfManaged(known));
    sleep(5 * SECOND).await;
    assert_eq!(cluster.server.get(MUTATING).unwrap()["webhooks"], json!([]));
    assert_eq!(cluster.all().len(), 3);
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
        assert_eq!(cluster.values("/failurePolicy"), ["Fail", "Ignore", "Fail"], "{outage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_who_believe_to_lead_do_not_undo_each_other() {
    let cluster = Cluster::new();
    let replicas = [cluster.usual(), cluster.usual()];
    sleep(10 * SECOND).await;
    let writes = cluster.writes();
    assert_eq!(cluster.values("/failurePolicy"), ["Fail", "Ignore", "Fail"]);
    sleep(60 * SECOND).await;
    assert_eq!(cluster.writes(), writes);
    drop(replicas);
}
