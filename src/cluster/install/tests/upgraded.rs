//! Entries of a version without probes, and of other settings, as a leader of this version finds them.

use super::*;
use crate::{
    cluster::reach::{ImageReach, NamespaceReach, ReachMode, ReachRule},
    domain::policy::{InvalidPolicy, Mode, PolicyEntry, PolicyId, Unmatched},
    gather::ports::WebhookEntries as _,
};

/// Somewhat less than the pause before entries are narrowed.
const NOT_YET: Duration = Duration::from_secs(115);

fn of(namespace: &str) -> WebhookReach {
    let names = [namespace.to_owned()].into();
    WebhookReach::Workloads { namespaces: NamespaceReach::Named(names), images: ImageReach::Every }
}

impl Cluster {
    /// The entries that a version without probes writes, with this failure policy and these exempt namespaces.
    fn inherit(&self, failure_policy: &str, exempt: &[&str]) {
        let settings = WebhookSettings { ca_bundle: Some(b"one".to_vec()), ..webhooks() };
        for (path, kind) in [(VALIDATING, Kind::Validating), (MUTATING, Kind::Mutating)] {
            let all = kind.wanted(&settings, Stage::Complete(FailurePolicy::Fail)).unwrap();
            let is_probe = |entry: &&Value| entry["name"] != "lease.bonafide.dev";
            let mut entries: Vec<Value> = all.json().iter().filter(is_probe).cloned().collect();
            for entry in &mut entries {
                if entry["name"] != "policies.bonafide.dev" {
                    entry["failurePolicy"] = json!(failure_policy);
                    entry["namespaceSelector"]["matchExpressions"][0]["values"] = json!(exempt);
                }
            }
            self.server.edit(path, |object| object["webhooks"] = json!(entries));
        }
    }

    /// The namespaces that each entry for workloads selects; nothing where one is missing.
    fn namespaces(&self) -> Vec<Value> {
        let all = self.all();
        let of = |name: &str| {
            let entry = all.iter().find(|entry| entry["name"] == format!("{name}.bonafide.dev"))?;
            Some(entry["namespaceSelector"]["matchExpressions"][0].clone())
        };
        let selected: Option<_> = ["workloads", "bindings", "pods"].into_iter().map(of).collect();
        selected.unwrap_or_default()
    }
}

fn selector(operator: &str, names: &[&str]) -> Vec<Value> {
    vec![json!({"key": "kubernetes.io/metadata.name", "operator": operator, "values": names}); 3]
}

#[tokio::test(start_paused = true)]
async fn entries_with_other_exempt_namespaces_go_on_selecting_everything_until_policies_are_known() {
    let cluster = Cluster::new();
    cluster.inherit("Fail", &["ns"]);
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let replica = cluster.start_needing(webhooks(), Trust::SelfManaged(known), of("a"));
    replica.needing.send_replace(None);
    for _ in 0..100 {
        assert!(!cluster.namespaces().is_empty(), "{:?}", cluster.names());
        sleep(SECOND / 10).await;
    }
    assert_eq!(cluster.namespaces(), selector("NotIn", &["kube-system", "ns"]));
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);

    // A policy may have been admitted that the leader does not know yet.
    replica.needing.send_replace(Some(of("a")));
    sleep(NOT_YET).await;
    assert_eq!(cluster.namespaces(), selector("NotIn", &["kube-system", "ns"]));
    sleep(10 * SECOND).await;
    assert_eq!(cluster.namespaces(), selector("In", &["a"]));
}

#[tokio::test(start_paused = true)]
async fn a_replica_widens_nothing_that_it_cannot_read_to_less_than_it_was() {
    let cluster = Cluster::new();
    cluster.inherit("Fail", &["ns"]);
    let settings = webhooks();
    let rule =
        ReachRule { mode: ReachMode::Namespaces, unmatched: Unmatched::Allow, exempt: settings.exempt() };
    let (_needing, needed) = watch::channel(None);
    let client = Client::new(cluster.server.router(), "ns");
    let widening = Widening::new(client, settings, false, rule, needed, Arc::default());
    let id = PolicyId { namespace: Some("b".to_owned()), name: "p".to_owned() };
    let policy = PolicyEntry::Invalid(Arc::new(InvalidPolicy {
        id,
        namespaces: None,
        images: None,
        mode: Mode::Enforce,
        errors: Vec::new(),
    }));
    // Another version leads. Its mutating configuration has the entry for pods alone.
    widening.widen(&policy).await.unwrap();
    assert_eq!(cluster.namespaces(), selector("NotIn", &["kube-system", "ns"]));
    assert_eq!(cluster.values(BUNDLE), [shown("one")]);
    assert_eq!(cluster.values("/failurePolicy"), CLOSED);
}

#[tokio::test(start_paused = true)]
async fn open_entries_stay_while_replicas_may_be_left_that_answer_no_probe() {
    let cluster = Cluster::new();
    cluster.is_reached.store(false, Ordering::Relaxed);
    cluster.inherit("Ignore", &["kube-system", "ns"]);
    let (_bundle, known) = watch::channel(Some(Bundle::from(*b"one")));
    let settings = WebhookSettings { failure_policy: FailurePolicy::Ignore, ..webhooks() };
    let replica = cluster.start(settings, Trust::SelfManaged(known));
    for _ in 0..59 {
        sleep(10 * SECOND).await;
        assert_eq!(cluster.names(), ALL);
    }
    assert_eq!(replica.report.borrow().concern(), None, "it is not known to be unreached");
    // By then every replica is of this version.
    sleep(60 * SECOND).await;
    assert_eq!(cluster.names(), UNPROVEN);
    assert_eq!(replica.report.borrow().concern().unwrap().reason, "WebhookNotReached");
    cluster.is_reached.store(true, Ordering::Relaxed);
    sleep(2 * SECOND).await;
    assert_eq!(cluster.names(), ALL);
}
