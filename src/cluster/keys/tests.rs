//! Objects that come, change and go under policies that reference them. Time is paused, and passes by itself where everybody sleeps.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bonafide_kit::{
    apiserver::{ApiServer, Outage},
    sigstore::{KeyKind, SigningKey},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::{
    cluster::{inventory::Watched, objects::ApiObject, state::Reach, watch::Change},
    domain::{identity::SignerIdentity, policy::PolicyEntry},
    gather::ports::{Inventory as _, Unmatched},
};

const SECRET: &str = "/api/v1/namespaces/team/secrets/cosign";
const SECOND: Duration = Duration::from_secs(1);
/// Until what is missing, and what is there, was certainly looked at again.
const SOON: Duration = Duration::from_millis(1500);
const LATER: Duration = Duration::from_secs(6);

struct World {
    server: ApiServer,
    keys: Arc<KeyObjects>,
    inventory: Arc<ClusterInventory>,
    generation: i64,
}

impl World {
    fn new(enabled: bool) -> Self {
        let server = ApiServer::new();
        let client = Client::new(server.router(), "ns");
        let keys = KeyObjects::new("bonafide".to_owned(), enabled);
        let inventory = ClusterInventory::new(Vec::new(), Unmatched::Allow, true, Arc::clone(&keys));
        tokio::spawn(Arc::clone(&keys).run(client, Arc::clone(&inventory)));
        for watched in [Watched::Namespaces, Watched::Nodes, Watched::RuntimeClasses, Watched::TrustRoots] {
            inventory.listed(watched);
        }
        Self { server, keys, inventory, generation: 0 }
    }

    /// The one policy there is gets this key from now on.
    fn apply(&mut self, key: &Value) {
        self.generation += 1;
        let object = json!({
            "metadata": {"name": "p", "namespace": "team", "uid": "1", "generation": self.generation},
            "spec": {"images": {"include": ["ghcr.io/o/**"]}, "signers": [{"publicKey": key}]},
        });
        let object = ApiObject::read(object.to_string().as_bytes()).unwrap();
        let policy = self.inventory.policy("ProvenancePolicy", object);
        self.inventory.take_policies(Watched::ClusterPolicies, Reach::Cluster, Change::All(Vec::new()));
        let may_be = self.generation > 1 || !self.keys.enabled;
        assert_eq!(self.keys.is_settled(), may_be, "not before all policies are known");
        self.inventory.take_policies(Watched::Policies, Reach::Namespace, Change::All(vec![policy]));
    }

    fn put(&self, key: &SigningKey) {
        let data = json!({"cosign.pub": STANDARD.encode(key.public_pem()), "cosign.key": "c2VjcmV0"});
        self.server.put(SECRET, json!({"metadata": {"name": "cosign", "namespace": "team"}, "data": data}));
    }

    /// Whether reviews go by this key.
    fn goes_by(&self, key: &SigningKey) -> bool {
        let snapshot = self.inventory.snapshot().unwrap();
        let PolicyEntry::Valid(policy) = &snapshot.policies.entries()[0] else { return false };
        let SignerIdentity::PublicKey(identity) = &policy.signers[0].identity else { return false };
        identity.key.id() == crate::api::compile::public_key(&key.public_pem()).unwrap().id()
    }

    /// Why the policy denies what it covers.
    fn denies(&self) -> Option<String> {
        match &self.inventory.snapshot().unwrap().policies.entries()[0] {
            PolicyEntry::Valid(_) => None,
            PolicyEntry::Invalid(policy) => Some(policy.errors.join("; ")),
        }
    }

    /// How often objects with keys were asked for, and that nothing else was asked about them.
    fn asked(&self) -> usize {
        let of_keys = |path: &str| path.contains("/secrets") || path.contains("/configmaps");
        let all: Vec<_> = self.server.seen().into_iter().filter(|seen| of_keys(&seen.path)).collect();
        assert!(all.iter().all(|seen| seen.method == "GET" && seen.path == SECRET), "{all:?}");
        all.len()
    }
}

fn by_reference() -> Value {
    json!({"secretRef": {"name": "cosign"}})
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_changes_and_goes_is_followed() {
    let (first, second) = (SigningKey::generate(KeyKind::P256), SigningKey::generate(KeyKind::P256));
    let mut world = World::new(true);
    world.apply(&by_reference());
    let told = |why: &str| Some(format!("spec.signers[0].publicKey.secretRef: Secret team/cosign {why}"));
    let incomplete = world.inventory.snapshot().unwrap_err();
    assert_eq!(incomplete.to_string(), "bonafide has not listed keys since it started");
    sleep(SOON).await;
    assert_eq!(world.denies(), told("is not there"));
    world.put(&first);
    sleep(SOON).await;
    assert!(world.goes_by(&first) && !world.goes_by(&second), "{:?}", world.denies());
    world.put(&second);
    sleep(LATER).await;
    assert!(world.goes_by(&second) && !world.goes_by(&first), "{:?}", world.denies());
    world.server.edit(SECRET, |object| drop(object["data"].as_object_mut().unwrap().remove("cosign.pub")));
    sleep(LATER).await;
    assert_eq!(world.denies(), told("has no key cosign.pub"));
    world.put(&second);
    sleep(LATER).await;
    assert!(world.goes_by(&second), "{:?}", world.denies());
    world.server.delete(SECRET);
    sleep(LATER).await;
    assert_eq!(world.denies(), told("is not there"));
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_away_what_was_last_known_stays() {
    let (first, second) = (SigningKey::generate(KeyKind::P256), SigningKey::generate(KeyKind::P256));
    let mut world = World::new(true);
    world.put(&first);
    world.apply(&by_reference());
    sleep(SOON).await;
    assert!(world.goes_by(&first), "{:?}", world.denies());
    for outage in [Outage::Unavailable, Outage::Silent] {
        world.server.outage(Some(outage));
        world.server.delete(SECRET);
        sleep(60 * SECOND).await;
        assert!(world.goes_by(&first), "{outage:?}: {:?}", world.denies());
    }
    world.put(&second);
    world.server.outage(None);
    sleep(2 * LATER).await;
    assert!(world.goes_by(&second), "{:?}", world.denies());
}

#[tokio::test(start_paused = true)]
async fn what_could_never_be_read_denies_and_says_why() {
    let key = SigningKey::generate(KeyKind::P256);
    let mut world = World::new(true);
    world.put(&key);
    world.server.outage(Some(Outage::Unavailable));
    world.apply(&by_reference());
    assert!(!world.keys.is_settled());
    sleep(SOON).await;
    let told = world.denies().unwrap();
    assert!(told.ends_with("Secret team/cosign cannot be read: the server is away"), "{told}");
    assert!(world.keys.is_settled());
    world.server.outage(None);
    sleep(SOON).await;
    assert!(world.goes_by(&key), "{:?}", world.denies());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_that_no_policy_references() {
    let key = SigningKey::generate(KeyKind::P256);
    let mut world = World::new(true);
    world.put(&key);
    world.apply(&json!({"pem": key.public_pem()}));
    sleep(60 * SECOND).await;
    assert!(world.goes_by(&key) && world.keys.is_settled());
    assert_eq!(world.asked(), 0);
    world.apply(&by_reference());
    sleep(SOON).await;
    assert!(world.goes_by(&key), "{:?}", world.denies());
    assert_eq!(world.asked(), 1);
    sleep(60 * SECOND).await;
    let asked = world.asked();
    assert!((10..=15).contains(&asked), "{asked}");
    world.apply(&json!({"pem": key.public_pem()}));
    sleep(60 * SECOND).await;
    assert_eq!(world.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn another_entry_of_an_object_that_is_known_is_read_at_once() {
    let key = SigningKey::generate(KeyKind::P256);
    let mut world = World::new(true);
    world.put(&key);
    world.apply(&by_reference());
    sleep(SOON).await;
    world.apply(&json!({"secretRef": {"name": "cosign", "key": "cosign.key"}}));
    sleep(SOON).await;
    let told = world.denies().unwrap();
    assert!(told.contains("Secret team/cosign, key cosign.key, is no public key"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn where_it_is_not_switched_on_nothing_is_read() {
    let key = SigningKey::generate(KeyKind::P256);
    let mut world = World::new(false);
    world.put(&key);
    world.apply(&by_reference());
    sleep(60 * SECOND).await;
    assert_eq!(world.asked(), 0);
    assert!(world.keys.is_settled());
    let told = world.denies().unwrap();
    assert!(told.contains("Secret team/cosign is not read: switch on keyReferences.enabled"), "{told}");
}

#[test]
fn of_an_entry_no_more_is_kept_than_a_key_has() {
    let mut texts = ["x".repeat(1 << 20), "x".repeat(MAX_PEM)];
    texts.iter_mut().for_each(shorten);
    assert_eq!(texts.each_ref().map(String::len), [MAX_PEM + 1, MAX_PEM]);
}

#[test]
fn of_many_each_is_read_less_often() {
    let within = |wait: Duration, least: u64, most: u64| {
        wait >= Duration::from_millis(least) && wait < Duration::from_millis(most)
    };
    assert!(within(paced(SECOND, 1), 900, 1100));
    assert!(within(paced(SECOND, 1000), 18_900, 23_100));
}

#[test]
fn b2_keys_of_one_namespace_are_kept_up_to_so_many_bytes_and_take_nothing_from_others() {
    let holder = |namespace: &str, n: usize| KeyHolder {
        kind: KeyKeeper::Secret,
        namespace: namespace.to_owned(),
        name: n.to_string(),
    };
    let seen = |length| Seen::There(BTreeMap::from([("k".to_owned(), Some("x".repeat(length)))]));
    let keys = KeyObjects::new("bonafide".to_owned(), true);
    let there = |holder: &KeyHolder| matches!(keys.known.lock().holders[holder].seen, Seen::There(_));
    let wanted = || BTreeSet::from(["k".to_owned()]);
    for n in 0..100 {
        keys.take(holder("loud", n), seen(MAX_PEM), wanted(), 1);
    }
    assert!(there(&holder("loud", 0)) && !there(&holder("loud", 99)));
    for namespace in 0..100 {
        for n in 0..20 {
            keys.take(holder(&format!("loud-{namespace}"), n), seen(MAX_PEM), wanted(), 1);
        }
    }
    assert!(keys.bytes() <= u64::try_from(OF_ALL + 101 * GUARANTEED).unwrap(), "{}", keys.bytes());
    keys.take(holder("quiet", 0), seen(MAX_PEM), wanted(), 1);
    assert!(there(&holder("quiet", 0)));
}
