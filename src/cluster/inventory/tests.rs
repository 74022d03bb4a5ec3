//! What must be listed before there is a snapshot, and what a kind is whose definition is not installed.

use axum::{
    Router,
    extract::{Request, State as Extracted},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::roots::TrustRootObjects,
    domain::{evidence::KnownRoots, identity::TrustRootName},
    gather::ports::{RootKeeper, RootReport},
};

const POLICIES: &str = "/apis/bonafide.dev/v1alpha1/provenancepolicies";
const ROOTS: &str = "/apis/bonafide.dev/v1alpha1/trustroots";
const NODES: &str = "/api/v1/nodes";
const LISTS: [&str; 6] = [
    POLICIES,
    "/apis/bonafide.dev/v1alpha1/clusterprovenancepolicies",
    ROOTS,
    "/api/v1/namespaces",
    NODES,
    "/apis/node.k8s.io/v1/runtimeclasses",
];

/// What is answered to a list: these items, or an error of this code.
type Lists = Arc<Mutex<BTreeMap<&'static str, Result<Value, u16>>>>;

async fn answer(Extracted(lists): Extracted<Lists>, request: Request) -> Response {
    // No watch goes well: whatever is known was listed.
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
    let list = lists.lock().get(request.uri().path()).cloned().unwrap_or(Err(500));
    match list {
        Ok(items) if !is_watch => {
            axum::Json(json!({"metadata": {"resourceVersion": "1"}, "items": items})).into_response()
        }
        Ok(_) => status(410),
        Err(code) => status(code),
    }
}

fn status(code: u16) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": "Forbidden", "message": format!("{code} of the test"),
    });
    (StatusCode::from_u16(code).unwrap(), axum::Json(status)).into_response()
}

struct NoRoots;

impl RootKeeper for NoRoots {
    fn keep(&self, _: &[Value]) {}

    fn report(&self, _: &TrustRootName, _: jiff::Timestamp) -> Option<RootReport> {
        None
    }

    fn known(&self) -> Arc<KnownRoots> {
        Arc::default()
    }
}

struct World {
    client: Client,
    lists: Lists,
    inventory: Arc<ClusterInventory>,
}

impl World {
    /// A cluster in which each list has no items, but for these.
    fn new(lists: impl IntoIterator<Item = (&'static str, Result<Value, u16>)>) -> Self {
        let mut all: BTreeMap<_, _> = LISTS.into_iter().map(|path| (path, Ok(json!([])))).collect();
        all.extend(lists);
        let lists: Lists = Arc::new(Mutex::new(all));
        let client = Client::new(Router::new().fallback(answer).with_state(Arc::clone(&lists)), "ns");
        let keys = KeyObjects::new("bonafide".to_owned(), true);
        let inventory = ClusterInventory::new(Vec::new(), Unmatched::Allow, true, Arc::clone(&keys));
        tokio::spawn(Arc::clone(&inventory).run(client.clone()));
        tokio::spawn(keys.run(client.clone(), Arc::clone(&inventory)));
        let roots = TrustRootObjects::new(client.clone(), Arc::clone(&inventory), Arc::new(NoRoots));
        tokio::spawn(roots.run());
        Self { client, lists, inventory }
    }

    fn put(&self, path: &'static str, list: Result<Value, u16>) {
        self.lists.lock().insert(path, list);
    }

    fn policies(&self) -> usize {
        self.inventory.snapshot().unwrap().policies.entries().len()
    }
}

fn policy() -> Value {
    json!([{
        "metadata": {"name": "p", "namespace": "team", "uid": "1", "generation": 1},
        "spec": {"images": {"include": ["ghcr.io/o/**"]}, "signers": [{"github": {"repository": "o/r"}}]},
    }])
}

#[tokio::test(start_paused = true)]
async fn a1_there_is_a_snapshot_once_everything_was_listed() {
    let world = World::new([(POLICIES, Ok(policy()))]);
    assert!(world.inventory.snapshot().is_err(), "nothing was listed");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.policies(), 1);
}

#[tokio::test(start_paused = true)]
async fn a1_what_cannot_be_listed_keeps_the_snapshot_back_and_is_named() {
    for path in LISTS {
        let world = World::new([(POLICIES, Ok(policy())), (path, Err(403))]);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let incomplete = world.inventory.snapshot().unwrap_err();
        let [unlisted] = incomplete.0.as_slice() else { panic!("{incomplete:?}") };
        assert!(path.ends_with(unlisted.resource), "{path}: {unlisted}");
        assert!(unlisted.to_string().contains("cannot be listed") && unlisted.to_string().contains("403"));
        // The right is granted.
        world.put(path, Ok(if path == POLICIES { policy() } else { json!([]) }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.policies(), 1, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a1_a_list_that_fails_for_a_while_keeps_the_snapshot_back() {
    let world = World::new([(NODES, Err(500))]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(world.inventory.snapshot().is_err());
    world.put(NODES, Ok(json!([])));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(world.inventory.snapshot().is_ok());
}

/// An API server whose watches are established and say nothing, but where they fail with the next of these codes.
#[derive(Clone, Default)]
struct Quiet {
    lists: Lists,
    failures: Arc<Mutex<Vec<u16>>>,
    /// Every request about policies fails with this code.
    outage: Arc<Mutex<Option<u16>>>,
}

async fn answer_quietly(Extracted(quiet): Extracted<Quiet>, request: Request) -> Response {
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
    let is_of_policies = request.uri().path() == POLICIES;
    let outage = quiet.outage.lock().filter(|_| is_of_policies);
    let failure = (is_watch && is_of_policies).then(|| quiet.failures.lock().pop()).flatten();
    if let Some(code) = outage.or(failure) {
        return status(code);
    }
    if is_watch {
        let nothing = futures::stream::pending::<Result<String, std::io::Error>>();
        return axum::body::Body::from_stream(nothing).into_response();
    }
    answer(Extracted(quiet.lists), request).await
}

impl Quiet {
    /// One with a policy, and an inventory that follows it.
    async fn followed() -> (Self, Arc<ClusterInventory>) {
        let quiet = Self::default();
        let all = LISTS.into_iter().map(|path| (path, Ok(json!([]))));
        *quiet.lists.lock() = all.chain([(POLICIES, Ok(policy()))]).collect();
        let client = Client::new(Router::new().fallback(answer_quietly).with_state(quiet.clone()), "ns");
        let keys = KeyObjects::new("bonafide".to_owned(), false);
        let inventory = ClusterInventory::new(Vec::new(), Unmatched::Allow, true, keys);
        tokio::spawn(Arc::clone(&inventory).run(client.clone()));
        let roots = TrustRootObjects::new(client, Arc::clone(&inventory), Arc::new(NoRoots));
        tokio::spawn(roots.run());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(known_policies(&inventory), 1);
        (quiet, inventory)
    }
}

fn known_policies(inventory: &ClusterInventory) -> usize {
    inventory.snapshot().unwrap().policies.entries().len()
}

/// Nothing tells that a watch is established again: two wrong answers in one day are not one that lasts.
#[tokio::test(start_paused = true)]
async fn e3_a_moment_without_the_kind_does_not_last_until_the_next_one() {
    let (quiet, inventory) = Quiet::followed().await;
    for _ in 0..3 {
        quiet.failures.lock().push(404);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert!(quiet.failures.lock().is_empty(), "the watch was tried again");
        assert_eq!(known_policies(&inventory), 1);
    }
    // The twin: it lasts.
    *quiet.outage.lock() = Some(404);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(known_policies(&inventory), 0);
}

#[tokio::test(start_paused = true)]
async fn e3_policies_that_were_forgotten_are_listed_when_their_kind_is_there_again() {
    let (quiet, inventory) = Quiet::followed().await;
    *quiet.outage.lock() = Some(404);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(known_policies(&inventory), 0);
    *quiet.outage.lock() = None;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(known_policies(&inventory), 1);
}

#[tokio::test(start_paused = true)]
async fn e6_a_watch_that_fails_once_and_is_quiet_then_is_not_stale() {
    let (quiet, inventory) = Quiet::followed().await;
    quiet.failures.lock().push(500);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(quiet.failures.lock().is_empty());
    assert_eq!(inventory.staleness(Watched::Policies), Duration::ZERO);
    // The twin: it goes on failing.
    *quiet.outage.lock() = Some(500);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(inventory.staleness(Watched::Policies) > Duration::from_mins(5));
}

#[tokio::test(start_paused = true)]
async fn b8_the_policies_that_are_known_are_held_against_those_that_there_are() {
    use crate::cluster::install::PolicyCensus as _;

    let world = World::new([(POLICIES, Ok(policy()))]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // From now on nothing else gets known.
    let known = ClusterInventory::new(
        Vec::new(),
        Unmatched::Allow,
        true,
        KeyObjects::new("bonafide".to_owned(), true),
    );
    for (id, policy) in world.inventory.policies() {
        known.take_policies(Watched::Policies, Reach::Namespace, Change::One((id, policy)));
    }
    let census = ListedPolicies::new(world.client.clone(), known);
    assert!(census.is_current().await);
    let with = |pointer: &str, value: Value| {
        let mut changed = policy();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let another = || [policy(), with("/0/metadata/name", json!("q"))].map(|list| list[0].clone());
    for (list, is_current) in [
        (Ok(policy()), true),
        (Ok(json!([])), false),
        (Ok(json!(another())), false),
        (Ok(with("/0/metadata/generation", json!(2))), false),
        (Ok(with("/0/metadata/uid", json!("2"))), false),
        (Err(500), false),
        (Err(403), false),
        (Err(404), false),
    ] {
        world.put(POLICIES, list.clone());
        assert_eq!(census.is_current().await, is_current, "{list:?}");
    }
    let [policies, cluster, ..] = LISTS;
    world.put(policies, Ok(policy()));
    world.put(cluster, Err(404));
    assert!(census.is_current().await, "a kind that is not installed has no policies");
}

#[tokio::test(start_paused = true)]
async fn e3_a_kind_that_is_not_installed_counts_as_empty_at_once() {
    let [policies, cluster, roots, ..] = LISTS;
    let world = World::new([(policies, Err(404)), (cluster, Err(404)), (roots, Err(404))]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.policies(), 0);
    // Of Kubernetes' own kinds none can be missing.
    let world = World::new([(NODES, Err(404))]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(world.inventory.snapshot().is_err());
}

#[tokio::test(start_paused = true)]
async fn e3_policies_of_a_kind_that_is_installed_are_in_force_within_two_seconds() {
    let world = World::new([(POLICIES, Err(404))]);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(world.policies(), 0);
    world.put(POLICIES, Ok(policy()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.policies(), 1);
}

#[tokio::test(start_paused = true)]
async fn e3_known_objects_outlive_a_moment_without_their_kind() {
    let world = World::new([(POLICIES, Ok(policy()))]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.put(POLICIES, Err(404));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.policies(), 1, "an API server may be wrong for a moment");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.policies(), 0);
}
