//! What becomes of the configurations at an API server in memory. Time is paused, and passes by itself where everybody sleeps.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bonafide_kit::apiserver::{ApiServer, Outage, Refusal};
use tokio::{task::JoinHandle, time::sleep};

use super::*;

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

/// What somebody does to the list of webhooks.
type Change = Box<dyn Fn(&mut Value)>;

#[tokio::test(start_paused = true)]
async fn whatever_somebody_changes_is_put_right() {
    let changes: Vec<(&str, Change)> = vec![
        ("all removed", Box::new(|all| *all = json!([]))),
        ("no list", Box::new(|all| *all = Value::Null)),
        ("one removed", Box::new(|all| drop(all.as_array_mut().unwrap().remove(0)))),
        ("opened", Box::new(|all| all[0]["failurePolicy"] = json!("Ignore"))),
        ("another authority", Box::new(|all| all[0]["clientConfig"]["caBundle"] = shown("two"))),
        (
            "no authority",
            Box::new(|all| drop(all[0]["clientConfig"].as_object_mut().unwrap().remove("caBundle"))),
        ),
        ("another service", Box::new(|all| all[0]["clientConfig"]["service"]["name"] = json!("evil"))),
        ("fewer rules", Box::new(|all| drop(all[0]["rules"].as_array_mut().unwrap().pop()))),
        (
            "a condition more",
            Box::new(|all| {
                let conditions =
                    all[0].as_object_mut().unwrap().entry("matchConditions").or_insert(json!([]));
                conditions.as_array_mut().unwrap().push(json!({"name": "never", "expression": "false"}));
            }),
        ),
        ("a label more", Box::new(|all| all[0]["namespaceSelector"]["matchLabels"] = json!({"a": "b"}))),
        ("other objects", Box::new(|all| all[0]["objectSelector"] = json!({"matchLabels": {"a": "b"}}))),
        ("another time", Box::new(|all| all[0]["timeoutSeconds"] = json!(1))),
        (
            "another webhook in our name",
            Box::new(|all| {
                let mut more = all[0].clone();
                more["name"] = json!("more.bonafide.dev");
                all.as_array_mut().unwrap().push(more);
            }),
        ),
        ("no webhook at all", Box::new(|all| all[0] = json!({"name": "workloads.bonafide.dev"}))),
    ];
    for (what, change) in &changes {
        let cluster = Cluster::new();
        let (_replica, _bundle) = cluster.usual();
        sleep(5 * SECOND).await;
        let before = (cluster.all(), cluster.probes());
        for path in [VALIDATING, MUTATING] {
            cluster.server.edit(path, |object| change(&mut object["webhooks"]));
        }
        assert_ne!(cluster.all(), before.0, "{what}");
        sleep(3 * SECOND).await;
        let sorted = |mut all: Vec<Value>| {
            all.sort_by_key(|webhook| webhook["name"].to_string());
            all
        };
        assert_eq!(sorted(cluster.all()), sorted(before.0), "{what}");
        assert_eq!(cluster.probes(), before.1, "{what}: it was reached before");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ours_is_left_alone() {
    let cluster = Cluster::new();
    let (_replica, _bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    let other = json!({"name": "other.example.com", "clientConfig": {"url": "https://example.com"},
        "admissionReviewVersions": ["v1"], "sideEffects": "None"});
    cluster.server.edit(VALIDATING, |object| {
        object["metadata"]["labels"]["team"] = json!("a");
        object["metadata"]["annotations"] = json!({"b": "c"});
        object["webhooks"].as_array_mut().unwrap().insert(0, other.clone());
    });
    let before = (cluster.server.get(VALIDATING), cluster.writes());
    sleep(20 * SECOND).await;
    assert_eq!((cluster.server.get(VALIDATING), cluster.writes()), before);

    // Not even where ours have to be put right.
    cluster.server.edit(VALIDATING, |object| {
        let condition = json!([{"name": "never", "expression": "false"}]);
        object["webhooks"][2]["matchConditions"] = condition;
    });
    sleep(5 * SECOND).await;
    let all = cluster.server.get(VALIDATING).unwrap();
    assert_eq!(all["webhooks"].as_array().unwrap().len(), 4);
    assert!(all["webhooks"].as_array().unwrap().contains(&other));
    assert!(!all.to_string().contains("never"), "{all}");
    assert_eq!(all["metadata"]["labels"]["team"], "a");
}

#[tokio::test(start_paused = true)]
async fn what_denies_is_never_opened() {
    let cluster = Cluster::new();
    let first = cluster.usual();
    sleep(5 * SECOND).await;
    drop(first);
    // Another version of Bonafide, with other settings, that the API server cannot reach as yet.
    cluster.is_reached.store(false, Ordering::Relaxed);
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let settings = WebhookSettings { timeout_seconds: 7, ..webhooks() };
    let _second = cluster.start(settings, Trust::SelfManaged(known));
    for _ in 0..100 {
        sleep(SECOND / 10).await;
        assert_eq!(cluster.values("/failurePolicy"), ["Fail", "Ignore", "Fail"]);
    }
    assert_eq!(cluster.values("/timeoutSeconds"), [7]);
    // Its twin is open, and has to be seen to be reached.
    for path in [VALIDATING, MUTATING] {
        cluster.server.edit(path, |object| {
            object["webhooks"].as_array_mut().unwrap().iter_mut().for_each(|webhook| {
                webhook["failurePolicy"] = json!("Ignore");
            });
        });
    }
    sleep(20 * SECOND).await;
    assert_eq!(cluster.values("/failurePolicy"), ["Ignore"]);
    cluster.is_reached.store(true, Ordering::Relaxed);
    sleep(2 * SECOND).await;
    assert_eq!(cluster.values("/failurePolicy"), ["Fail", "Ignore", "Fail"]);
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
async fn a_new_bundle_is_written_and_its_time_is_counted_from_when_it_was_seen() {
    let cluster = Cluster::new();
    let (replica, bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    let since = replica.installed.borrow().as_ref().unwrap().since;
    sleep(10 * SECOND).await;
    assert_eq!(replica.installed.borrow().as_ref().unwrap().since, since);
    bundle.send_replace(Some(Bundle::from(*b"one two")));
    let changed = Instant::now();
    sleep(4 * SECOND).await;
    assert_eq!(cluster.values(BUNDLE), [shown("one two")]);
    assert_eq!(replica.bundle().as_deref(), Some(b"one two".as_slice()));
    assert!(replica.installed.borrow().as_ref().unwrap().since > changed);

    // Somebody takes it away from one of them: it is not trusted everywhere, until it was seen to be again.
    cluster.server.edit(MUTATING, |object| object["webhooks"][0]["clientConfig"]["caBundle"] = shown("x"));
    let spoilt = Instant::now();
    sleep(5 * SECOND).await;
    assert!(replica.installed.borrow().as_ref().unwrap().since > spoilt);
}

#[tokio::test(start_paused = true)]
async fn a_bundle_of_somebody_else_is_never_touched() {
    let cluster = Cluster::new();
    let replica = cluster.start(webhooks(), Trust::Injected);
    sleep(5 * SECOND).await;
    assert_eq!(cluster.values(BUNDLE), [Value::Null]);
    assert_eq!(cluster.values("/failurePolicy"), ["Fail", "Ignore", "Fail"]);
    let inject = |path: &str| {
        cluster.server.edit(path, |object| {
            for webhook in object["webhooks"].as_array_mut().unwrap() {
                webhook["clientConfig"]["caBundle"] = shown("theirs");
            }
        });
    };
    inject(VALIDATING);
    inject(MUTATING);
    let writes = cluster.writes();
    sleep(10 * SECOND).await;
    assert_eq!(cluster.writes(), writes, "nothing is wrong with that");
    // Neither by what an apply puts right nor by what needs more.
    cluster.server.edit(VALIDATING, |object| {
        object["webhooks"][0]["timeoutSeconds"] = json!(1);
        object["webhooks"][1]["namespaceSelector"]["matchLabels"] = json!({"a": "b"});
    });
    sleep(5 * SECOND).await;
    assert_eq!(cluster.values("/timeoutSeconds"), [10]);
    assert_eq!(cluster.values(BUNDLE), [shown("theirs")]);
    assert_eq!(replica.bundle(), None);
}

#[tokio::test]
async fn a_bundle_of_a_file_is_read_again() {
    let folder = std::env::temp_dir().join(format!("bonafide-install-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("ca.pem");
    let pem = |byte: &str| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(byte))
    };
    let error = read_bundle(path.clone()).await.unwrap_err();
    assert!(error.contains("No such file"), "{error}");
    for (text, why) in [("", "no PEM certificate"), ("-----BEGIN CERTIFICATE-----\n", "")] {
        std::fs::write(&path, text).unwrap();
        let error = read_bundle(path.clone()).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    std::fs::write(&path, "a".repeat(300 * 1024)).unwrap();
    assert!(read_bundle(path.clone()).await.unwrap_err().contains("longer"));

    std::fs::write(&path, pem("one")).unwrap();
    let cluster = Cluster::new();
    let (_leads, leading) = watch::channel(true);
    let settings = Settings { webhooks: webhooks(), trust: Trust::File(path.clone()) };
    let (sender, mut installed) = watch::channel(None);
    let client = Client::new(cluster.server.router(), "ns");
    let task = tokio::spawn(run(client, settings, leading, sender, std::future::pending()));
    let has = |wanted: String| {
        move |known: &Option<Installed>| {
            known.as_ref().is_some_and(|known| *known.bundle == *wanted.as_bytes())
        }
    };
    installed.wait_for(has(pem("one"))).await.unwrap();
    // What is spoilt leaves the one before in force.
    std::fs::write(&path, "garbage").unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(cluster.values(BUNDLE), [shown(&pem("one"))]);
    std::fs::write(&path, pem("two")).unwrap();
    installed.wait_for(has(pem("two"))).await.unwrap();
    assert_eq!(cluster.values(BUNDLE), [shown(&pem("two"))]);
    task.abort();
    std::fs::remove_dir_all(&folder).unwrap();
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
async fn whoever_undoes_it_every_time_is_not_answered_as_fast_as_he_can() {
    let cluster = Cluster::new();
    let (_replica, _bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    let before = cluster.writes();
    for _ in 0..1200 {
        cluster.server.edit(VALIDATING, |object| object["webhooks"][0]["timeoutSeconds"] = json!(1));
        sleep(SECOND / 10).await;
    }
    let writes = cluster.writes() - before;
    assert!((4..=8).contains(&writes), "{writes} in two minutes");
    sleep(31 * SECOND).await;
    assert_eq!(cluster.values("/timeoutSeconds"), [10]);
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
