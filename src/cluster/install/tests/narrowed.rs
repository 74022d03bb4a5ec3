//! Which workloads the entries select, as policies come and go.

use std::collections::BTreeSet;

use super::*;
use crate::{
    cluster::reach::{ImageReach, NamespaceReach, ReachMode, ReachRule},
    domain::policy::{InvalidPolicy, Mode, PolicyEntry, PolicyId, Unmatched},
    gather::ports::WebhookEntries as _,
};

const SPARED: [&str; 3] = ["lease", "policies", "lease"];
const PAUSE: Duration = Duration::from_mins(2);
const NOT_YET: Duration = Duration::from_secs(115);

fn of(namespaces: &[&str]) -> WebhookReach {
    let names = namespaces.iter().map(|name| (*name).to_owned()).collect();
    WebhookReach::Workloads { namespaces: NamespaceReach::Named(names), images: ImageReach::Every }
}

/// A policy of a namespace; `None`: of the cluster.
fn policy(namespace: Option<&str>) -> PolicyEntry {
    let id = PolicyId { namespace: namespace.map(ToOwned::to_owned), name: "p".to_owned() };
    PolicyEntry::Invalid(Arc::new(InvalidPolicy {
        id,
        namespaces: None,
        images: None,
        mode: Mode::Enforce,
        errors: Vec::new(),
    }))
}

impl Cluster {
    /// A leader whose policies need this.
    async fn needing(&self, reach: WebhookReach) -> (Replica, watch::Sender<Option<Bundle>>) {
        let (bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
        let replica = self.start_needing(webhooks(), Trust::SelfManaged(known), reach);
        sleep(5 * SECOND).await;
        (replica, bundle)
    }

    /// The namespaces that each entry for workloads selects.
    fn selected(&self) -> Vec<Value> {
        let of_workloads = self
            .all()
            .into_iter()
            .filter(|entry| !crate::cluster::webhooks::is_harmless(entry["name"].as_str().unwrap()));
        of_workloads.map(|entry| entry["namespaceSelector"]["matchExpressions"][0].clone()).collect()
    }

    fn widening(&self, replica: &Replica) -> Widening {
        let settings = webhooks();
        let rule =
            ReachRule { mode: ReachMode::Namespaces, unmatched: Unmatched::Allow, exempt: settings.exempt() };
        let client = Client::new(self.server.router(), "ns");
        Widening::new(client, settings, false, rule, replica.needing.subscribe(), Arc::default())
    }
}

fn names(operator: &str, names: &[&str]) -> Vec<Value> {
    vec![json!({"key": "kubernetes.io/metadata.name", "operator": operator, "values": names}); 3]
}

#[tokio::test(start_paused = true)]
async fn b8_entries_for_workloads_come_with_the_first_policy_and_go_some_time_after_the_last() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.needing(WebhookReach::Nothing).await;
    assert_eq!(cluster.names(), SPARED);
    assert_eq!(replica.report.borrow().concern(), None, "nothing is missing that a policy needs");

    replica.needing.send_replace(Some(of(&["a"])));
    sleep(SECOND / 10).await;
    assert_eq!(cluster.selected(), names("In", &["a"]));
    replica.needing.send_replace(Some(WebhookReach::EVERYTHING));
    sleep(SECOND / 10).await;
    assert_eq!(cluster.selected(), names("NotIn", &["kube-system", "ns"]));
    replica.needing.send_replace(Some(of(&["b"])));
    sleep(NOT_YET).await;
    assert_eq!(cluster.selected(), names("NotIn", &["kube-system", "ns"]));
    sleep(10 * SECOND).await;
    assert_eq!(cluster.selected(), names("In", &["b"]));
    let is_closed = |entry: &&Value| entry["failurePolicy"] == "Fail";
    assert_eq!(cluster.all().iter().filter(is_closed).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn b8_nothing_is_narrowed_before_the_policies_are_listed() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.usual();
    sleep(5 * SECOND).await;
    replica.needing.send_replace(None);
    sleep(PAUSE + 5 * SECOND).await;
    assert_eq!(cluster.selected(), names("NotIn", &["kube-system", "ns"]));
}

#[tokio::test(start_paused = true)]
async fn b8_a_replica_widens_the_entries_for_a_policy_and_the_leader_leaves_them_until_it_knows_it() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.needing(of(&["a"])).await;
    assert_eq!(cluster.selected(), names("In", &["a"]));
    let widening = cluster.widening(&replica);
    let writes = cluster.writes();
    widening.widen(&policy(Some("a"))).await.unwrap();
    assert_eq!(cluster.writes(), writes, "what is known to be needed needs no write");

    widening.widen(&policy(Some("b"))).await.unwrap();
    assert_eq!(cluster.selected(), names("In", &["a", "b"]));
    sleep(NOT_YET).await;
    assert_eq!(cluster.selected(), names("In", &["a", "b"]));
    // Another policy of that namespace, just before the entries would be narrowed.
    widening.widen(&policy(Some("b"))).await.unwrap();
    sleep(NOT_YET).await;
    assert_eq!(cluster.selected(), names("In", &["a", "b"]));
    sleep(10 * SECOND).await;
    assert_eq!(cluster.selected(), names("In", &["a"]));

    widening.widen(&policy(None)).await.unwrap();
    assert_eq!(cluster.selected(), names("NotIn", &["kube-system", "ns"]));
    assert_eq!(cluster.values(BUNDLE), [shown("one")], "the API server goes on trusting the webhook");
}

#[tokio::test(start_paused = true)]
async fn b8_a_leader_that_does_not_know_the_policies_as_they_are_narrows_nothing() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.needing(of(&["a"])).await;
    // Its watch was broken when this policy came, and is still.
    cluster.is_current.store(false, Ordering::Relaxed);
    cluster.widening(&replica).widen(&policy(Some("b"))).await.unwrap();
    sleep(PAUSE * 10).await;
    assert_eq!(cluster.selected(), names("In", &["a", "b"]));
    // What it knows to be needed it widens for all the same.
    replica.needing.send_replace(Some(of(&["a", "c"])));
    sleep(SECOND).await;
    assert_eq!(cluster.selected(), names("In", &["a", "b", "c"]));
    cluster.is_current.store(true, Ordering::Relaxed);
    sleep(PAUSE + 10 * SECOND).await;
    assert_eq!(cluster.selected(), names("In", &["a", "c"]));
}

#[tokio::test(start_paused = true)]
async fn b8_the_first_policy_has_entries_before_it_is_there_where_the_webhook_is_reached() {
    for is_reached in [false, true] {
        let cluster = Cluster::new();
        let (replica, _bundle) = cluster.needing(WebhookReach::Nothing).await;
        assert_eq!(cluster.names(), SPARED);
        cluster.is_reached.store(is_reached, Ordering::Relaxed);
        cluster.widening(&replica).widen(&policy(Some("a"))).await.unwrap();
        let expected = if is_reached { names("In", &["a"]) } else { Vec::new() };
        assert_eq!(cluster.selected(), expected, "{is_reached}");
    }
}

#[tokio::test(start_paused = true)]
async fn b8_a_policy_of_an_exempt_namespace_widens_nothing() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.needing(WebhookReach::Nothing).await;
    cluster.widening(&replica).widen(&policy(Some("kube-system"))).await.unwrap();
    assert_eq!(cluster.names(), SPARED);
}

#[tokio::test(start_paused = true)]
async fn b8_a_policy_that_cannot_be_widened_for_is_told() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.needing(WebhookReach::Nothing).await;
    let widening = cluster.widening(&replica);
    cluster.server.outage(Some(Outage::Unavailable));
    assert!(widening.widen(&policy(Some("a"))).await.is_err());
    cluster.server.outage(None);
    assert_eq!(widening.widen(&policy(Some("a"))).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn b8_what_the_entries_select_is_told_to_those_who_write_statuses() {
    let cluster = Cluster::new();
    let (replica, _bundle) = cluster.needing(of(&["a"])).await;
    let covers =
        |reach: &WebhookReach| replica.applied.borrow().as_ref().is_some_and(|applied| applied.covers(reach));
    assert!(covers(&of(&["a"])) && !covers(&of(&["b"])));
    replica.needing.send_replace(Some(of(&["a", "b"])));
    sleep(SECOND).await;
    assert!(!covers(&of(&["b"])), "other API servers may not know yet");
    sleep(5 * SECOND).await;
    assert!(covers(&of(&["a", "b"])));
    replica.leads.send_replace(false);
    sleep(SECOND).await;
    assert_eq!(*replica.applied.borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn e6_what_somebody_keeps_from_the_webhook_is_not_told_to_be_in_force() {
    let changes: [(&str, Value); 3] = [
        ("objectSelector", json!({"matchLabels": {"a": "b"}})),
        ("matchConditions", json!([{"name": "never", "expression": "false"}])),
        ("rules", json!([])),
    ];
    for (field, value) in changes {
        for path in [VALIDATING, MUTATING] {
            let cluster = Cluster::new();
            let (replica, _bundle) = cluster.needing(of(&["a"])).await;
            let mut applied = replica.applied.clone();
            let covers =
                |seen: &Option<AppliedReach>| seen.as_ref().is_some_and(|seen| seen.covers(&of(&["a"])));
            assert!(covers(&applied.borrow()));
            cluster.server.edit(path, |object| {
                for entry in object["webhooks"].as_array_mut().unwrap() {
                    entry[field] = value.clone();
                }
            });
            let untold = applied.wait_for(|seen| !covers(seen));
            assert!(tokio::time::timeout(3 * SECOND, untold).await.is_ok(), "{field} {path}");
            // It is put right, and in force again.
            let told = applied.wait_for(covers);
            assert!(tokio::time::timeout(10 * SECOND, told).await.is_ok(), "{field} {path}");
        }
    }
}

const NAMESPACES: &str = "/api/v1/namespaces";

#[tokio::test(start_paused = true)]
async fn b8_the_namespace_owns_both_configurations_and_a_stale_owner_is_replaced() {
    let cluster = Cluster::new();
    let namespace = |uid: &str| {
        let metadata = json!({"name": "ns", "uid": uid});
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
            "items": [{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}]})
    };
    cluster.server.put(NAMESPACES, namespace("live"));
    let (_replica, _bundle) = cluster.usual();
    let owners = || {
        [VALIDATING, MUTATING]
            .map(|path| cluster.server.get(path).unwrap()["metadata"]["ownerReferences"].clone())
    };
    let owned = json!([{"apiVersion": "v1", "kind": "Namespace", "name": "ns", "uid": "live"}]);
    sleep(5 * SECOND).await;
    assert_eq!(owners(), [owned.clone(), owned.clone()]);
    cluster.server.edit(MUTATING, |object| object["metadata"]["ownerReferences"][0]["uid"] = json!("stale"));
    sleep(5 * SECOND).await;
    assert_eq!(owners(), [owned.clone(), owned]);
    assert_eq!(cluster.names(), ALL);
}

#[tokio::test(start_paused = true)]
async fn b8_both_configurations_are_deleted_with_the_namespace_and_only_then() {
    for is_terminating in [false, true] {
        let cluster = Cluster::new();
        let mut metadata = json!({"name": "ns", "uid": "live"});
        if is_terminating {
            metadata["deletionTimestamp"] = json!("2026-11-28T12:00:00Z");
        }
        let item =
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata});
        let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": [item]});
        cluster.server.put(NAMESPACES, list);
        let client = Client::new(cluster.server.router(), "ns");
        delete_with_namespace(&client, "bonafide", "ns").await;
        let left: BTreeSet<bool> =
            [VALIDATING, MUTATING].map(|path| cluster.server.get(path).is_some()).into();
        assert_eq!(left, BTreeSet::from([!is_terminating]));
    }
}
