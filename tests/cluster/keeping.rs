//! What the leader keeps: the Lease, the certificate, the webhook configurations. The webhook behind them is a small one, which
//! refuses everything that it is asked about.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, routing::post};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bonafide::{
    cluster::{
        certificates::{self, Lifetimes, Links},
        install::{self, PROBE_ANNOTATION, PolicyCensus, Probes, Trust, WebhookReport, echo},
        last_review::LastReview,
        lease,
        reach::WebhookReach,
        webhooks::{FailurePolicy, WebhookSettings},
    },
    server::{
        health::{self, Readiness},
        listen::{Listeners, Service},
        metrics::Metrics,
        tls::{self, Certificate},
    },
};
use bonafide_kit::plane::{Client as Kubectl, ControlPlane, Namespace, eventually, free_port};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    objects::{pod, service},
    shared::alone,
    webhook::Webhook,
};

/// What is kept here is not narrowed.
#[derive(Debug)]
struct AlwaysCurrent;

impl PolicyCensus for AlwaysCurrent {
    fn is_current(&self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(true))
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// A client of the library, as who.
pub async fn client(who: &Kubectl) -> Client {
    let kubeconfig = Kubeconfig::read_from(who.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Everything but the processes: rights, Service, and what the chart makes.
fn install<'a>(plane: &'a ControlPlane, name: &str) -> Namespace<'a> {
    const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/bonafide/crds");
    plane.kubectl(&["apply", "-f", CRDS]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "-f", CRDS, "--timeout=30s"]).ok();
    let namespace = plane.namespace(name);
    plane.apply(&include_str!("keeping.yaml").replace("NAMESPACE", name)).ok();
    namespace.apply(&service("bonafide").to_string()).ok();
    namespace
}

/// A replica, as `serve --cluster` puts it together.
struct Replica {
    certificate: Arc<Certificate>,
    leads: watch::Receiver<bool>,
    report: watch::Receiver<WebhookReport>,
    end: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Replica {
    /// One that serves on no port as yet; the Service's is `port`.
    async fn start(
        plane: &ControlPlane,
        namespace: &str,
        identity: &str,
        port: u16,
        lifetimes: Lifetimes,
    ) -> Self {
        tls::install_crypto_provider();
        let client = client(&plane.service_account(namespace, "bonafide")).await;
        let certificate = Certificate::pending();
        let (end, ended) = watch::channel(false);
        let (lead, leads) = watch::channel(false);
        let (publish, bundle) = watch::channel(None);
        let (tell, installed) = watch::channel(None);
        let election = lease::Settings {
            namespace: namespace.to_owned(),
            name: "bonafide".to_owned(),
            identity: identity.to_owned(),
            timing: lease::Timing::default(),
        };
        let settings = certificates::Settings {
            namespace: namespace.to_owned(),
            name: "bonafide".to_owned(),
            lifetimes,
        };
        let links = Links { leads: leads.clone(), installed, bundle: publish };
        let served = Arc::clone(&certificate);
        let serve =
            move |chain: &[u8], key: &[u8]| served.replace(chain, key).map_err(|error| error.to_string());
        let webhooks = WebhookSettings {
            name: "bonafide".to_owned(),
            namespace: namespace.to_owned(),
            service_port: port,
            failure_policy: FailurePolicy::Fail,
            timeout_seconds: 5,
            exempt_namespaces: vec!["kube-system".to_owned(), namespace.to_owned()],
            binding_failure_policy: None,
            reach: WebhookReach::EVERYTHING,
            opt_out_label: None,
            pinning: false,
            ca_bundle: None,
        };
        let (reporting, report) = watch::channel(WebhookReport::new(&webhooks));
        let wanted = install::Settings { webhooks, trust: Trust::SelfManaged(bundle) };
        // Only the warning tells of the probes: they arrive at another process.
        let probes = Arc::new(Probes::default());
        let (_, reach) = watch::channel(Some(WebhookReach::EVERYTHING));
        let (applied, _) = watch::channel(None);
        let keeps = install::Links {
            leads: leads.clone(),
            installed: tell,
            report: reporting,
            probes,
            reach,
            applied,
            census: Arc::new(AlwaysCurrent),
        };
        let tasks = vec![
            tokio::spawn(lease::run(
                client.clone(),
                election,
                Arc::new(LastReview::new(|| None)),
                lead,
                over(&ended),
            )),
            tokio::spawn(certificates::run(client.clone(), settings, links, serve, over(&ended))),
            tokio::spawn(install::run(client, wanted, keeps, over(&ended))),
        ];
        Self { certificate, leads, report, end, tasks }
    }

    /// Answers on this port from now on.
    async fn listen(&mut self, port: u16) {
        let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let listeners = Listeners::bind(at(port), at(0)).await.unwrap();
        let readiness = Arc::new(Readiness::default());
        let refuse = || post(refuse);
        let paths = ["/validate", "/bind", "/mutate", "/validate-policy"];
        let service = Service {
            validate: None,
            admission: paths
                .iter()
                .fold(Router::new(), |router, path| router.route(path, refuse()))
                .route("/probe", post(refuse_and_echo)),
            health: health::router(Arc::clone(&readiness), Metrics::new("test")),
            metrics: Metrics::new("test"),
            readiness,
            certificate: Arc::clone(&self.certificate),
        };
        let ended = over(&self.end.subscribe());
        self.tasks.push(tokio::spawn(async move { listeners.serve(service, ended, SECOND).await.unwrap() }));
    }

    async fn until_it_leads(&mut self) {
        tokio::time::timeout(20 * SECOND, self.leads.wait_for(|leads| *leads)).await.unwrap().unwrap();
    }

    async fn stop(mut self) {
        self.end.send_replace(true);
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn over(ended: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
    let mut ended = ended.clone();
    async move { drop(ended.wait_for(|ended| *ended).await) }
}

async fn refuse(Json(review): Json<Value>) -> Json<Value> {
    let response = json!({"uid": review["request"]["uid"], "allowed": false, "status": {"code": 403, "message": "asked"}});
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

/// It was received, whatever the answer is.
async fn refuse_and_echo(Json(review): Json<Value>) -> Json<Value> {
    let number = review["request"]["object"]["metadata"]["annotations"][PROBE_ANNOTATION].clone();
    let Json(mut answer) = refuse(Json(review)).await;
    answer["response"]["warnings"] = json!([echo(number.as_str().unwrap())]);
    Json(answer)
}

/// What the API server says to a new pod.
async fn said(pods: &Api<Pod>) -> Result<(), String> {
    let pod = serde_json::from_value(pod("one", "example.com/one")).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match pods.create(&params, &pod).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => Err(error.to_string()),
    }
}

const REFUSED: &str = "admission webhook \"workloads.bonafide.dev\" denied the request: asked";

/// The entries of the validating configuration.
fn entries(plane: &ControlPlane) -> Vec<Value> {
    let object = plane.get(&["validatingwebhookconfiguration", "bonafide"]).unwrap();
    object["webhooks"].as_array().cloned().unwrap_or_default()
}

const LEASE: &str = "lease.bonafide.dev";
const POLICIES: &str = "policies.bonafide.dev";

/// Their names, in order.
fn entry_names(plane: &ControlPlane) -> Vec<&'static str> {
    let known = ["bindings.bonafide.dev", LEASE, POLICIES, "workloads.bonafide.dev"];
    let entries = entries(plane);
    let is_there = |name: &&str| entries.iter().any(|entry| entry["name"] == **name);
    let there: Vec<&'static str> = known.into_iter().filter(is_there).collect();
    assert_eq!(there.len(), entries.len(), "{entries:?}");
    there
}

fn until_closed(plane: &ControlPlane) {
    eventually("the entries to deny", || {
        let denies = |entry: &Value| entry["failurePolicy"] == "Fail";
        let entries = entries(plane);
        let mut names: Vec<&str> =
            entries.iter().filter(|entry| denies(entry)).filter_map(|entry| entry["name"].as_str()).collect();
        names.sort_unstable();
        let all = ["bindings.bonafide.dev", "workloads.bonafide.dev"];
        if names == all { Ok(()) } else { Err(format!("{entries:?}")) }
    });
}

fn bundle(plane: &ControlPlane) -> String {
    let entries = entries(plane);
    let encoded = entries[0]["clientConfig"]["caBundle"].as_str().unwrap().to_owned();
    assert!(entries.iter().all(|entry| entry["clientConfig"]["caBundle"] == *encoded));
    String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
}

fn holder(namespace: &Namespace<'_>) -> Value {
    namespace.get(&["lease", "bonafide"]).unwrap()["spec"]["holderIdentity"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_refused_only_once_the_api_server_reaches_the_webhook() {
    let Some(plane) = alone() else { return };
    let namespace = install(&plane, "keeping");
    let shop = plane.namespace("kept");
    let pods = Api::namespaced(client(&plane).await, shop.name());
    let port = free_port();
    let mut first = Replica::start(&plane, "keeping", "first", port, Lifetimes::default()).await;
    first.until_it_leads().await;
    assert_eq!(holder(&namespace), "first");
    eventually("the first entries", || match entry_names(&plane)[..] {
        [LEASE, POLICIES] => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
    sleep(18 * SECOND).await;
    assert_eq!(entry_names(&plane), [LEASE, POLICIES]);
    assert!(entries(&plane).iter().all(|entry| entry["failurePolicy"] == "Ignore"));
    assert_eq!(said(&pods).await, Ok(()), "nobody listens, and nobody is locked out");
    let concern = first.report.borrow().concern().unwrap();
    assert_eq!((concern.reason, concern.is_open), ("WebhookNotReached", true));

    first.listen(port).await;
    until_refused(&pods).await;
    until_closed(&plane);

    // Whatever somebody changes is put right.
    let patch = |patch: &Value| {
        let kind = "validatingwebhookconfiguration";
        plane.kubectl(&["patch", kind, "bonafide", "--type=json", "--patch", &patch.to_string()]).ok();
    };
    let before = entries(&plane);
    let sorted = |mut entries: Vec<Value>| {
        entries.sort_by_key(|entry| entry["name"].to_string());
        entries
    };
    let at = |name: &str| before.iter().position(|entry| entry["name"] == name).unwrap();
    let (workloads, bindings) = (at("workloads.bonafide.dev"), at("bindings.bonafide.dev"));
    let condition = json!({"name": "never", "expression": "false"});
    for change in [
        json!([
            {"op": "replace", "path": format!("/webhooks/{workloads}/failurePolicy"), "value": "Ignore"},
            {"op": "add", "path": format!("/webhooks/{bindings}/matchConditions"), "value": [condition]},
            {"op": "add", "path": format!("/webhooks/{workloads}/namespaceSelector/matchLabels"), "value": {"a": "b"}},
        ]),
        json!([{"op": "remove", "path": "/webhooks"}]),
    ] {
        patch(&change);
        eventually("the entries to be as before", || {
            let now = sorted(entries(&plane));
            if now == sorted(before.clone()) { Ok(()) } else { Err(format!("{change}: {now:?}")) }
        });
    }

    // The leader says farewell, and the other one takes over what is there.
    let mut second = Replica::start(&plane, "keeping", "second", port, Lifetimes::default()).await;
    sleep(2 * SECOND).await;
    assert!(!*second.leads.borrow());
    let farewell = Instant::now();
    first.stop().await;
    second.listen(port).await;
    second.until_it_leads().await;
    assert!(farewell.elapsed() < 5 * SECOND, "{:?}", farewell.elapsed());
    assert_eq!(holder(&namespace), "second");
    until_refused(&pods).await;
    assert_eq!(sorted(entries(&plane)), sorted(before), "the same authority, and it denies all the time");

    // What somebody removes is not made anew.
    plane.kubectl(&["delete", "validatingwebhookconfiguration", "bonafide"]).ok();
    sleep(5 * SECOND).await;
    plane.get(&["validatingwebhookconfiguration", "bonafide"]).unwrap_err();
    assert_eq!(second.report.borrow().concern().unwrap().reason, "ConfigurationMissing");
    second.stop().await;
}

#[test]
fn the_binary_installs_itself_and_leaves_as_it_should() {
    let Some(plane) = alone() else { return };
    let namespace = install(&plane, "selfmade");
    plane.apply(&include_str!("rights.yaml").replace("NAMESPACE", "selfmade")).ok();
    let account = plane.service_account("selfmade", "bonafide");
    let port = free_port();
    let service_port = format!("--service-port={port}");
    let flags = [
        "--cluster",
        "--namespace=selfmade",
        "--identity=one",
        "--pinning",
        "--failure-policy=Fail",
        &service_port,
        // There is no policy that would need entries for workloads.
        "--reach=everything",
    ];
    let webhook = Webhook::start(&account, plane.folder(), port, &flags);
    until_closed(&plane);
    eventually("pods to be pinned", || {
        let mutating = plane.get(&["mutatingwebhookconfiguration", "bonafide"])?;
        let all = mutating["webhooks"].as_array().cloned().unwrap_or_default();
        let is_pods =
            |entry: &Value| entry["name"] == "pods.bonafide.dev" && entry["failurePolicy"] == "Fail";
        if all.iter().any(is_pods) { Ok(()) } else { Err(webhook.log()) }
    });
    let shop = plane.namespace("selfmade-shop");
    eventually("a pod to be reviewed", || {
        shop.apply(&pod("one", "example.com/one").to_string()).ok();
        let metrics = webhook.get("/metrics")?;
        if metrics.contains("bonafide_reviews_total{") { Ok(()) } else { Err(metrics) }
    });
    assert_eq!(holder(&namespace), "one");
    let (before, log) = (entries(&plane), webhook.log());
    assert!(!log.contains("forbidden"), "{log}");
    assert!(webhook.stop().success());
    assert_eq!(holder(&namespace), Value::Null);
    assert_eq!(entries(&plane), before, "it comes again");
    namespace.get(&["secret", "bonafide-tls"]).unwrap();
}

async fn until_refused(pods: &Api<Pod>) {
    let begin = Instant::now();
    loop {
        let answer = said(pods).await;
        if answer.as_ref().is_err_and(|message| message.contains(REFUSED)) {
            return;
        }
        assert!(begin.elapsed() < 20 * SECOND, "{answer:?}");
        sleep(SECOND / 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_replaced_and_no_request_notices() {
    let Some(plane) = alone() else { return };
    let namespace = install(&plane, "rotating");
    let shop = plane.namespace("rotated");
    let pods = Api::namespaced(client(&plane).await, shop.name());
    let port = free_port();
    let lifetimes = Lifetimes::new(9 * SECOND, 27 * SECOND).unwrap();
    let mut leader = Replica::start(&plane, "rotating", "leader", port, lifetimes).await;
    leader.until_it_leads().await;
    leader.listen(port).await;
    // It answers nothing, but follows the Secret.
    let follower = Replica::start(&plane, "rotating", "follower", port, lifetimes).await;
    until_refused(&pods).await;
    until_closed(&plane);

    let old = bundle(&plane);
    assert_eq!(old.matches("BEGIN CERTIFICATE").count(), 1);
    let most = until_forgotten(&plane, &pods, &old).await;
    assert_eq!(most, 2, "both were trusted for a while");
    eventually("the follower to serve the same certificate", || {
        let ends = [&leader, &follower].map(|replica| replica.certificate.not_after());
        if ends[0] == ends[1] { Ok(()) } else { Err(format!("{ends:?}")) }
    });

    // Removed, the Secret comes back with a new authority, and no request notices that either.
    let before = bundle(&plane);
    namespace.kubectl(&["delete", "secret", "bonafide-tls"]).ok();
    until_forgotten(&plane, &pods, &before).await;
    namespace.get(&["secret", "bonafide-tls"]).unwrap();
    follower.stop().await;
    leader.stop().await;
}

/// Asks all the time, until this bundle is not trusted any more; how many authorities were trusted at most. Every request is answered.
async fn until_forgotten(plane: &ControlPlane, pods: &Api<Pod>, old: &str) -> usize {
    let (begin, mut most, mut asked) = (Instant::now(), 0, 0);
    loop {
        let answer = said(pods).await;
        assert!(answer.as_ref().is_err_and(|message| message.contains(REFUSED)), "{answer:?}");
        asked += 1;
        let now = bundle(plane);
        most = most.max(now.matches("BEGIN CERTIFICATE").count());
        if !now.contains(old) {
            assert!(asked > 20, "{asked}");
            return most;
        }
        assert!(begin.elapsed() < 90 * SECOND, "it is trusted still");
        sleep(SECOND / 5).await;
    }
}
