//! Replicas that stand for election at one API server. Time is paused, and passes by itself where everybody sleeps.

use bonafide_kit::apiserver::{ApiServer, Outage};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::sleep,
};

use super::*;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/bonafide";
const SECOND: Duration = Duration::from_secs(1);

struct Replica {
    leads: watch::Receiver<bool>,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// When it last answered a review.
    reviewed: Arc<Mutex<Option<Timestamp>>>,
    last_review: Arc<LastReview>,
}

impl Replica {
    fn start(server: &ApiServer, identity: &str) -> Self {
        let settings = Settings {
            namespace: "ns".to_owned(),
            name: "bonafide".to_owned(),
            identity: identity.to_owned(),
            timing: Timing::default(),
        };
        let client = Client::new(server.router(), "ns");
        let (sender, leads) = watch::channel(false);
        let (end, ended) = oneshot::channel::<()>();
        let reviewed = Arc::new(Mutex::new(None));
        let own = Arc::clone(&reviewed);
        let last_review = Arc::new(LastReview::new(move || *own.lock()));
        let task = tokio::spawn(run(client, settings, Arc::clone(&last_review), sender, async {
            ended.await.ok();
        }));
        Self { leads, end, task, reviewed, last_review }
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    async fn until(&mut self, leading: bool) -> Duration {
        let begin = Instant::now();
        self.leads.wait_for(|leads| *leads == leading).await.unwrap();
        begin.elapsed()
    }

    async fn stop(self) {
        self.end.send(()).unwrap();
        self.task.await.unwrap();
    }

    /// As a process that is killed.
    fn kill(self) {
        self.task.abort();
    }
}

fn holder_of(server: &ApiServer) -> Option<String> {
    Some(server.get(LEASE)?["spec"]["holderIdentity"].as_str()?.to_owned())
}

#[tokio::test(start_paused = true)]
async fn one_of_many_leads() {
    let server = ApiServer::new();
    let replicas: Vec<Replica> =
        ["a", "b", "c", "d"].iter().map(|name| Replica::start(&server, name)).collect();
    for _ in 0..60 {
        sleep(SECOND).await;
        assert_eq!(replicas.iter().filter(|replica| replica.leads()).count(), 1);
    }
    assert_eq!(server.get(LEASE).unwrap()["spec"]["leaseTransitions"], 0);
    let verbs: std::collections::BTreeSet<String> =
        server.seen().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    insta::assert_debug_snapshot!(verbs, @r#"
    {
        "GET /apis/coordination.k8s.io/v1/namespaces/ns/leases/bonafide",
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
        "POST /apis/coordination.k8s.io/v1/namespaces/ns/leases",
        "PUT /apis/coordination.k8s.io/v1/namespaces/ns/leases/bonafide",
    }
    "#);
}

#[tokio::test(start_paused = true)]
async fn another_follows_at_once_where_the_leader_says_farewell() {
    let server = ApiServer::new();
    let mut first = Replica::start(&server, "a");
    first.until(true).await;
    let mut second = Replica::start(&server, "b");
    sleep(SECOND).await;
    first.stop().await;
    assert_eq!(holder_of(&server), None);
    assert!(second.until(true).await <= 2 * SECOND);
    assert_eq!(holder_of(&server).as_deref(), Some("b"));
    assert_eq!(server.get(LEASE).unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn another_follows_after_the_time_of_a_leader_who_was_killed() {
    let server = ApiServer::new();
    let mut first = Replica::start(&server, "a");
    first.until(true).await;
    let mut second = Replica::start(&server, "b");
    sleep(SECOND).await;
    first.kill();
    let took = second.until(true).await;
    assert!(took > 13 * SECOND && took <= 17 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_who_ends_leaves_the_lease_alone() {
    let server = ApiServer::new();
    let mut first = Replica::start(&server, "a");
    first.until(true).await;
    let second = Replica::start(&server, "b");
    sleep(SECOND).await;
    second.stop().await;
    assert_eq!(holder_of(&server).as_deref(), Some("a"));
    sleep(20 * SECOND).await;
    assert!(first.leads());
}

#[tokio::test(start_paused = true)]
async fn a_leader_who_cannot_renew_stops_before_its_time_is_over_and_leads_again_after() {
    for outage in [Outage::Unavailable, Outage::Silent] {
        let server = ApiServer::new();
        let mut leader = Replica::start(&server, "a");
        leader.until(true).await;
        server.outage(Some(outage));
        let took = leader.until(false).await;
        assert!(took > 4 * SECOND && took <= 10 * SECOND, "{outage:?}: {took:?}");
        sleep(100 * SECOND).await;
        assert!(!leader.leads());
        server.outage(None);
        assert!(leader.until(true).await <= 7 * SECOND, "{outage:?}: nobody else took it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_changes_nothing() {
    let server = ApiServer::new();
    let mut leader = Replica::start(&server, "a");
    leader.until(true).await;
    let follower = Replica::start(&server, "b");
    leader.leads.mark_unchanged();
    for _ in 0..5 {
        server.outage(Some(Outage::Unavailable));
        sleep(4 * SECOND).await;
        server.outage(None);
        sleep(4 * SECOND).await;
    }
    assert!(leader.leads() && !leader.leads.has_changed().unwrap());
    assert!(!follower.leads());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_does_not_cost_the_lead() {
    let server = ApiServer::new();
    server.outage(Some(Outage::Deaf));
    let mut leader = Replica::start(&server, "a");
    sleep(SECOND).await;
    assert!(!leader.leads(), "it was never told");
    server.outage(None);
    assert!(leader.until(true).await <= 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_spoilt_is_taken_over() {
    for spoilt in [json!({}), json!(null), json!({"holderIdentity": ""}), json!({"leaseDurationSeconds": 0})]
    {
        let server = ApiServer::new();
        server.put(
            LEASE,
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "bonafide", "namespace": "ns", "labels": {"kept": "yes"}}, "spec": spoilt}),
        );
        let mut replica = Replica::start(&server, "a");
        assert!(replica.until(true).await <= 2 * SECOND, "{spoilt}");
        assert_eq!(server.get(LEASE).unwrap()["metadata"]["labels"]["kept"], "yes");
        server.delete(LEASE);
        sleep(6 * SECOND).await;
        assert!(replica.leads());
        assert_eq!(holder_of(&server).as_deref(), Some("a"), "made anew");
    }
}

#[tokio::test(start_paused = true)]
async fn no_two_lead_whatever_happens_to_the_server() {
    let server = ApiServer::new();
    let replicas: Vec<Replica> = ["a", "b", "c"].iter().map(|name| Replica::start(&server, name)).collect();
    let outages = [None, Some(Outage::Unavailable), None, Some(Outage::Silent), Some(Outage::Deaf)];
    for step in 0..400_u64 {
        let at = usize::try_from(step * 7 % 5).unwrap();
        server.outage(outages[at]);
        sleep(Duration::from_millis(500 + step * 137 % 9000)).await;
        assert!(replicas.iter().filter(|replica| replica.leads()).count() <= 1, "after step {step}");
    }
}

#[tokio::test(start_paused = true)]
async fn e6_the_leader_knows_of_reviews_that_other_replicas_answer() {
    let server = ApiServer::new();
    let (mut leader, other) = (Replica::start(&server, "a"), {
        sleep(SECOND).await;
        Replica::start(&server, "b")
    });
    leader.until(true).await;
    assert_eq!(leader.last_review.latest(), None);
    let hour = |back: i64| {
        let seconds = (Timestamp::now().as_second() / 3600 - back) * 3600;
        Timestamp::from_second(seconds).unwrap()
    };
    // What the other answered comes by the Lease.
    *other.reviewed.lock() = Some(hour(2) + jiff::SignedDuration::from_secs(7));
    sleep(SECOND * 10).await;
    assert_eq!(leader.last_review.latest(), Some(hour(2)));
    assert!(leader.leads() && !other.leads());
    // Within the hour it is not written again.
    let written = || server.seen().iter().filter(|seen| seen.method == "PUT").count();
    let before = written();
    *other.reviewed.lock() = Some(hour(2) + jiff::SignedDuration::from_secs(70));
    sleep(SECOND * 10).await;
    assert_eq!(written() - before, 2, "the leader renews it each 5 s");
    // The latest review of any replica counts.
    *leader.reviewed.lock() = Some(hour(1));
    sleep(SECOND * 10).await;
    assert_eq!((leader.last_review.latest(), other.last_review.latest()), (Some(hour(1)), Some(hour(1))));
    // A time that is yet to come is nobody's.
    server.edit(LEASE, |lease| {
        lease["metadata"]["annotations"]["bonafide.dev/last-review"] = json!(hour(-2).to_string());
    });
    sleep(SECOND * 10).await;
    assert_eq!(leader.last_review.latest(), Some(hour(1)));
}
