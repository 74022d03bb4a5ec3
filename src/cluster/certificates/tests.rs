//! Replicas that share a Secret. The certificates' times are real ones; the loop's are paused, and pass where everybody sleeps.

use bonafide_kit::apiserver::{ApiServer, Outage, Refusal};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use super::*;

const SECRET: &str = "/api/v1/namespaces/ns/secrets/bonafide-tls";
const SECOND: Duration = Duration::from_secs(1);

/// Each pair that a replica was told to serve with.
type Served = Arc<Mutex<Vec<(Vec<u8>, Vec<u8>)>>>;

struct Replica {
    leads: watch::Sender<bool>,
    installed: watch::Sender<Option<Installed>>,
    bundle: watch::Receiver<Option<Bundle>>,
    served: Served,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(api: &ApiServer, leading: bool) -> Self {
        let settings = Settings {
            namespace: "ns".to_owned(),
            name: "bonafide".to_owned(),
            lifetimes: Lifetimes::default(),
        };
        let (leads, leading) = watch::channel(leading);
        let (installed, told) = watch::channel(None);
        let (publish, bundle) = watch::channel(None);
        let served = Served::default();
        let serving = Arc::clone(&served);
        let serve = move |certificate: &[u8], key: &[u8]| {
            serving.lock().push((certificate.to_vec(), key.to_vec()));
            Ok(())
        };
        let links = Links { leads: leading, installed: told, bundle: publish };
        let client = Client::new(api.router(), "ns");
        let task = tokio::spawn(run(client, settings, links, serve, std::future::pending()));
        Self { leads, installed, bundle, served, task }
    }

    fn served(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.served.lock().clone()
    }

    /// As the one who keeps the webhook configurations, who is quick.
    fn install(&self) {
        let bundle = self.bundle.borrow().clone().unwrap();
        self.installed.send_replace(Some(Installed { bundle, since: Instant::now() }));
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn empty() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "bonafide-tls", "namespace": "ns", "labels": {"chart": "bonafide"}}})
}

fn data(server: &ApiServer) -> Value {
    server.get(SECRET).unwrap()["data"].clone()
}

fn value(server: &ApiServer, key: &str) -> Vec<u8> {
    let data: ByteString = serde_json::from_value(data(server)[key].clone()).unwrap();
    data.0
}

fn writes(server: &ApiServer) -> usize {
    server.seen().iter().filter(|seen| seen.method != "GET").count()
}

#[tokio::test(start_paused = true)]
async fn the_leader_makes_it_and_everybody_serves_with_it() {
    let server = ApiServer::new();
    server.put(SECRET, empty());
    server.edit(SECRET, |secret| secret["data"] = json!({"other": "a2VwdA=="}));
    let follower = Replica::start(&server, false);
    sleep(5 * SECOND).await;
    assert!(follower.served().is_empty() && writes(&server) == 0, "only the leader writes");
    let leader = Replica::start(&server, true);
    sleep(2 * SECOND).await;
    let pair = (value(&server, CERTIFICATE), value(&server, KEY));
    for replica in [&leader, &follower] {
        assert_eq!(replica.served(), std::slice::from_ref(&pair));
        assert_eq!(&**replica.bundle.borrow().as_ref().unwrap(), value(&server, "ca.crt"));
    }
    let secret = server.get(SECRET).unwrap();
    assert_eq!(secret["data"]["other"], "a2VwdA==");
    assert_eq!(secret["metadata"]["labels"]["chart"], "bonafide");

    sleep(100 * SECOND).await;
    assert_eq!(writes(&server), 1, "then it is left alone");
    assert_eq!(follower.served().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_missing_is_made() {
    let server = ApiServer::new();
    let leader = Replica::start(&server, true);
    sleep(SECOND).await;
    assert_eq!(leader.served().len(), 1);
    let verbs: std::collections::BTreeSet<String> =
        server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    insta::assert_debug_snapshot!(verbs, @r#"
    {
        "GET /api/v1/namespaces/ns/secrets/bonafide-tls",
        "POST /api/v1/namespaces/ns/secrets",
    }
    "#);
}

#[tokio::test(start_paused = true)]
async fn two_who_believe_to_lead_agree_on_one() {
    let server = ApiServer::new();
    server.put(SECRET, empty());
    let replicas =
        [Replica::start(&server, true), Replica::start(&server, true), Replica::start(&server, true)];
    sleep(3 * SECOND).await;
    let pair = (value(&server, CERTIFICATE), value(&server, KEY));
    for replica in &replicas {
        assert_eq!(replica.served(), std::slice::from_ref(&pair));
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_is_not_served_and_the_leader_repairs_it() {
    let server = ApiServer::new();
    server.put(SECRET, empty());
    let (leader, follower) = (Replica::start(&server, true), Replica::start(&server, false));
    sleep(2 * SECOND).await;
    let good = data(&server);
    for garbage in [json!({}), json!(null), json!({"tls.crt": "Z2FyYmFnZQ=="}), {
        let mut mixed = good.clone();
        mixed["ca.crt"] = good["tls.crt"].clone();
        mixed
    }] {
        server.edit(SECRET, |secret| secret["data"] = garbage.clone());
        sleep(3 * SECOND).await;
        assert_eq!(data(&server), good, "{garbage}");
    }
    // Nobody leads: it stays, and nobody serves with it.
    leader.leads.send_replace(false);
    server.edit(SECRET, |secret| secret["data"] = json!({}));
    sleep(60 * SECOND).await;
    assert_eq!(data(&server), json!({}));
    assert_eq!((leader.served().len(), follower.served().len()), (1, 1));
    // Whoever leads next knows what was good.
    follower.leads.send_replace(true);
    sleep(SECOND).await;
    assert_eq!(data(&server), good);
}

#[tokio::test(start_paused = true)]
async fn a_removed_secret_is_made_anew_and_rotated_but_not_while_everything_is_removed() {
    let server = ApiServer::new();
    server.put(SECRET, empty());
    let (leader, follower) = (Replica::start(&server, true), Replica::start(&server, false));
    sleep(2 * SECOND).await;
    let (old, bundle) = (value(&server, CERTIFICATE), value(&server, "ca.crt"));
    server.delete(SECRET);
    sleep(4 * SECOND).await;
    assert_eq!(server.get(SECRET), None, "whoever uninstalls has the time to");
    sleep(3 * SECOND).await;
    assert_eq!(value(&server, CERTIFICATE), old, "nobody meets a certificate that he does not know");
    let both = value(&server, "ca.crt");
    assert!(both.starts_with(&bundle) && both.len() > bundle.len());
    assert_eq!(&**leader.bundle.borrow().as_ref().unwrap(), both);

    sleep(1000 * SECOND).await;
    assert_eq!(value(&server, CERTIFICATE), old, "the API server has not been seen to trust the new one");
    leader.install();
    sleep(Lifetimes::default().overlap.saturating_sub(2 * SECOND)).await;
    assert_eq!(value(&server, CERTIFICATE), old, "it is given time");
    sleep(4 * SECOND).await;
    assert_ne!(value(&server, CERTIFICATE), old);
    for replica in [&leader, &follower] {
        assert_eq!(replica.served().len(), 2);
        assert_eq!(replica.served().last().unwrap().0, value(&server, CERTIFICATE));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_api_server_trusts_must_be_what_is_there() {
    let server = ApiServer::new();
    server.put(SECRET, empty());
    let leader = Replica::start(&server, true);
    sleep(2 * SECOND).await;
    leader.install();
    server.delete(SECRET);
    sleep(1000 * SECOND).await;
    let old = leader.served();
    assert_eq!(old.len(), 1, "the bundle without the new authority is trusted, and that is not enough");
    leader.install();
    sleep(1000 * SECOND).await;
    assert_eq!(leader.served().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_written_is_tried_again() {
    let server = ApiServer::new();
    server.admit(|_| Err(Refusal::new(403, "secrets is forbidden")));
    let leader = Replica::start(&server, true);
    sleep(10 * SECOND).await;
    let tried = writes(&server);
    assert!((9..=11).contains(&tried), "{tried}");
    server.admit(|_| Ok(()));
    sleep(2 * SECOND).await;
    assert_eq!(leader.served().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_changes_nothing() {
    for outage in [Outage::Unavailable, Outage::Silent] {
        let server = ApiServer::new();
        server.put(SECRET, empty());
        let leader = Replica::start(&server, true);
        sleep(2 * SECOND).await;
        let before = data(&server);
        server.outage(Some(outage));
        sleep(1000 * SECOND).await;
        server.outage(None);
        sleep(10 * SECOND).await;
        assert_eq!(leader.served().len(), 1);
        assert_eq!(data(&server), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_takes_what_is_there() {
    let server = ApiServer::new();
    server.put(SECRET, empty());
    drop({
        let leader = Replica::start(&server, true);
        sleep(2 * SECOND).await;
        leader
    });
    let before = data(&server);
    let next = Replica::start(&server, true);
    sleep(10 * SECOND).await;
    assert_eq!(next.served().len(), 1);
    assert_eq!(data(&server), before);
}

#[test]
fn lifetimes_have_limits() {
    assert_eq!(Lifetimes::new(4 * SECOND, 1000 * SECOND), Err(LifetimesError::TooShort));
    assert_eq!(Lifetimes::new(10 * SECOND, 29 * SECOND), Err(LifetimesError::Authority));
    assert_eq!(Lifetimes::new(12 * SECOND, 36 * SECOND).unwrap().overlap, 2 * SECOND);
    assert_eq!(Lifetimes::new(Duration::MAX, Duration::MAX), Err(LifetimesError::Authority));
}
