//! Private images: each namespace's workloads are judged with what they pull with, and nothing that was seen with one credential is
//! told to whoever has another or none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::HashMap, sync::Arc, time::Duration};

use bonafide::{
    api::manifest,
    domain::{
        identity::TrustRootName,
        plan::Stage,
        policy::PolicySet,
        verdict::{Outcome, Reason},
        workload::{ImageRole, Placement, PullWith, Workload, WorkloadImage},
    },
    gather::{
        ports::{Keychain, PullSecret, Snapshot, Unobserved},
        review::Review,
        reviewer::{Pulling, Reviewer},
    },
    registry::{Client, ClientConfig, SecretAgents},
    trust::Roots,
};
use bonafide_kit::{
    image::Image,
    registry::{Fault, On, Registry, TokenAuth},
    scenario::Scenario,
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

/// The users whose passwords each namespace has, each in a secret of its own.
struct ByNamespace {
    registry: String,
    users: HashMap<&'static str, Vec<(&'static str, &'static str)>>,
}

impl Keychain for ByNamespace {
    fn of<'a>(&'a self, workload: &'a Workload) -> BoxFuture<'a, Vec<PullSecret>> {
        let users = self.users.get(workload.namespace.as_str()).into_iter().flatten();
        let secrets = users.map(|(user, password)| {
            let auth = serde_json::json!({"username": user, "password": password});
            PullSecret { config: serde_json::json!({"auths": {&self.registry: auth}}).to_string().into() }
        });
        futures::future::ready(secrets.collect()).boxed()
    }
}

struct World {
    scenario: Scenario,
    reviewer: Reviewer,
    snapshot: Arc<Snapshot>,
}

impl World {
    async fn start() -> Self {
        Self::start_with(|_| ClientConfig::default()).await
    }

    /// With a client for a registry of this host.
    async fn start_with(config: impl FnOnce(&str) -> ClientConfig) -> Self {
        let scenario = Scenario::start().await;
        let policy = scenario.policy().replace("ProvenancePolicy", "ClusterProvenancePolicy");
        let policy = policy.replace("  namespace: shop\n", "");
        let policies =
            manifest::policies(&policy).unwrap().into_iter().map(|document| document.compiled.entry);
        let snapshot = Snapshot { policies: PolicySet::new(policies.collect(), 1), ..Snapshot::default() };
        let roots =
            Roots::from_json(TrustRootName::default(), &scenario.sigstore.trusted_root_json()).unwrap();
        let client = Arc::new(Client::new(config(scenario.registry.host())).unwrap());
        let keychain = ByNamespace {
            registry: scenario.registry.host().to_owned(),
            users: HashMap::from([
                ("alices", vec![("alice", "a")]),
                ("bobs", vec![("bob", "b")]),
                ("eves", vec![("alice", "guessed")]),
                ("carols", vec![("alice", "guessed"), ("bob", "b")]),
                ("daves", vec![("bob", "b"), ("alice", "guessed")]),
                ("mallorys", vec![("alice", "guessed"), ("bob", "guessed")]),
            ]),
        };
        let reviewer = Reviewer::new(Arc::<Client>::clone(&client), Arc::new(roots), Arc::new(Unobserved));
        let agents = Arc::new(SecretAgents::new(client));
        let reviewer = reviewer.pulling(Pulling { keychain: Arc::new(keychain), agents });
        Self { scenario, reviewer, snapshot: Arc::new(snapshot) }
    }

    /// What a pod of a namespace gets, and how many requests that took.
    async fn review(&self, namespace: &str, image: &str) -> (Outcome, Vec<Reason>, usize) {
        let before = self.scenario.registry.count();
        let review = self.review_within(namespace, image, Duration::from_secs(10)).await;
        let reasons = review.images[0].verdict.problems.iter().map(|problem| problem.reason).collect();
        (review.outcome, reasons, self.scenario.registry.count() - before)
    }

    async fn review_within(&self, namespace: &str, image: &str, time: Duration) -> Review {
        let workload = Workload {
            kind: "Pod".into(),
            namespace: namespace.into(),
            name: "p".into(),
            images: vec![Arc::new(WorkloadImage {
                name: "c".into(),
                role: ImageRole::Container,
                field: "spec.containers[0].image".into(),
                image: image.into(),
            })],
            placement: Placement::default(),
            pull: PullWith::default(),
        };
        self.reviewer.review(&self.snapshot, &workload, Stage::Final, Instant::now() + time).await
    }

    /// Two namespaces with credentials are admitted, each by requests of its own; others are told nothing.
    async fn judges_each_with_its_own(&self, image: &str) {
        let denied = (Outcome::Unverifiable, vec![Reason::RegistryDenied]);
        for namespace in ["none", "eves"] {
            let (outcome, reasons, _) = self.review(namespace, image).await;
            assert_eq!((outcome, reasons), denied, "{namespace} first");
        }
        for namespace in ["alices", "bobs"] {
            let (outcome, reasons, requests) = self.review(namespace, image).await;
            assert_eq!((outcome, reasons), (Outcome::Allow, vec![]), "{namespace}");
            assert!(requests >= 3, "{namespace} is told what was seen with another's credential: {requests}");
        }
        for namespace in ["none", "eves"] {
            let (outcome, reasons, _) = self.review(namespace, image).await;
            assert_eq!((outcome, reasons), denied, "{namespace} after the others were admitted");
        }
        let (outcome, _, requests) = self.review("alices", image).await;
        assert_eq!(
            (outcome, requests),
            (Outcome::Allow, 0),
            "what is known with one's own is not asked again"
        );
    }
}

#[tokio::test]
async fn passwords_open_for_those_who_have_them() {
    let world = World::start().await;
    world.scenario.registry.require_basic("alice", "a");
    world.scenario.registry.require_basic("bob", "b");
    let image = world.scenario.image("shop").to_owned();
    world.judges_each_with_its_own(&image).await;
}

#[tokio::test]
async fn tokens_open_for_those_who_may_have_them() {
    let world = World::start().await;
    world.scenario.registry.require_token(TokenAuth::for_user("alice", "a").credential("", "bob", "b"));
    let image = world.scenario.image("shop").to_owned();
    world.judges_each_with_its_own(&image).await;
}

#[tokio::test]
async fn c3_every_pull_secret_for_the_registry_is_tried() {
    let auths: [fn(&World); 4] = [
        |world| world.scenario.registry.require_basic("bob", "b"),
        |world| world.scenario.registry.require_token(TokenAuth::for_user("bob", "b")),
        // Whoever may have a token may not see this repository with it.
        |world| {
            let auth = TokenAuth::for_user("bob", "b").credential("elsewhere", "alice", "guessed");
            world.scenario.registry.require_token(auth);
        },
        // Some registries say "not found" of what a credential may not see.
        |world| {
            world.scenario.registry.require_basic("bob", "b");
            world.scenario.registry.require_basic("alice", "guessed");
            let alice = "Basic YWxpY2U6Z3Vlc3NlZA==";
            let by_alice = On::any().matching(move |request| request.authorization.as_deref() == Some(alice));
            world.scenario.registry.fault(by_alice, Fault::Status(404));
        },
    ];
    for (at, auth) in auths.into_iter().enumerate() {
        let world = World::start().await;
        auth(&world);
        let image = world.scenario.image("shop").to_owned();
        let (outcome, reasons, _) = world.review("mallorys", &image).await;
        assert_ne!(outcome, Outcome::Allow, "{at}: {reasons:?}");
        for namespace in ["carols", "daves", "bobs"] {
            let (outcome, reasons, _) = world.review(namespace, &image).await;
            assert_eq!((outcome, reasons), (Outcome::Allow, vec![]), "{at} {namespace}");
            let (_, _, requests) = world.review(namespace, &image).await;
            assert_eq!(requests, 0, "{at} {namespace}");
        }
        let (outcome, _, _) = world.review("mallorys", &image).await;
        assert_ne!(outcome, Outcome::Allow, "{at} after the others were admitted");
    }
}

#[tokio::test]
async fn a_credential_of_another_repository_opens_nothing() {
    let world = World::start().await;
    world.scenario.registry.require_token(TokenAuth::for_user("bob", "b").credential(
        "elsewhere",
        "alice",
        "a",
    ));
    let image = world.scenario.image("shop").to_owned();
    let (outcome, reasons, _) = world.review("alices", &image).await;
    assert_eq!((outcome, reasons), (Outcome::Unverifiable, vec![Reason::RegistryDenied]));
    assert_eq!(world.review("bobs", &image).await.0, Outcome::Allow, "the twin");
}

/// Longer than a failure is remembered.
const FAILURES_KEPT: Duration = Duration::from_millis(600);

/// As in a cluster, where these local registries are listed.
fn in_cluster(listed: &[&str]) -> ClientConfig {
    let listed = listed.iter().map(|registry| (*registry).to_owned()).collect();
    ClientConfig { local_registries: Some(listed), ..ClientConfig::default() }
}

#[tokio::test]
async fn d_a_failure_at_a_private_address_is_told_as_not_reached_and_no_more() {
    let world = World::start_with(|host| in_cluster(&[host])).await;
    let registry = &world.scenario.registry;
    let image = world.scenario.image("shop").to_owned();
    let told = async |image: &str, time: u64| {
        let review = world.review_within("none", image, Duration::from_millis(time)).await;
        let problems = review.images[0].verdict.problems.iter();
        let problems: Vec<_> =
            problems.map(|problem| (problem.reason, problem.found.clone(), problem.retry_after)).collect();
        (review.outcome, problems)
    };
    let unreached = |host: &str| {
        let found = format!("{host} could not be reached");
        (Outcome::Unverifiable, vec![(Reason::RegistryUnavailable, found, None)])
    };
    for fault in [
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::throttled(30),
        Fault::Status(500),
        Fault::Close,
        Fault::Truncated,
        Fault::Endless,
        Fault::WrongBytes,
        Fault::Body("SSH-2.0-OpenSSH_9.6".into()),
        Fault::RedirectLoop,
        Fault::Hang,
    ] {
        registry.clear_faults();
        registry.fault(On::any(), fault.clone());
        assert_eq!(told(&image, 1500).await, unreached(registry.host()), "{fault:?}");
    }
    registry.clear_faults();
    let (tag, _) = image.split_once('@').unwrap();
    registry.fault(On::any(), Fault::Body("SSH-2.0-OpenSSH_9.6".into()));
    let tag = format!("{}:v1", tag.trim_end_matches(":v1"));
    assert_eq!(told(&tag, 1500).await, unreached(registry.host()), "a body under a tag");
    registry.clear_faults();
    tokio::time::sleep(FAILURES_KEPT).await;
    assert_eq!(told(&image, 10_000).await, (Outcome::Allow, vec![]), "the twin");
    // Outside of a cluster it is told what happened.
    let world = World::start().await;
    let image = world.scenario.image("shop").to_owned();
    world.scenario.registry.fault(On::any(), Fault::Status(403));
    let review = world.review_within("none", &image, Duration::from_secs(5)).await;
    assert_eq!(review.images[0].verdict.problems[0].reason, Reason::RegistryDenied);
}

#[tokio::test]
async fn d_a_local_registry_is_asked_only_where_it_is_listed() {
    let world = World::start_with(|_| in_cluster(&["127.0.0.1:1"])).await;
    let image = world.scenario.image("shop").to_owned();
    for image in
        [image.clone(), image.replace("127.0.0.1", "127.1"), image.replace("127.0.0.1", "[::ffff:127.0.0.1]")]
    {
        let review = world.review_within("none", &image, Duration::from_secs(5)).await;
        let found = review.images[0].verdict.problems.iter().map(|problem| problem.found.as_str());
        let found: Vec<&str> = found.collect();
        // No policy names the other ways to write the address.
        assert_eq!(review.outcome != Outcome::Allow, image.starts_with("127.0.0.1"), "{image}");
        assert!(found.iter().all(|found| !found.contains("refused (os error")), "{found:?}");
    }
    assert_eq!(world.scenario.registry.count(), 0);

    // Nor is one that a listed registry leads to: by a redirect, or as its token server.
    let elsewhere = Registry::start().await;
    let world = World::start_with(|host| in_cluster(&[host])).await;
    let image = world.scenario.image("shop").to_owned();
    world.scenario.registry.fault(On::any(), Fault::Redirect(elsewhere.url()));
    assert_ne!(world.review("none", &image).await.0, Outcome::Allow);
    world.scenario.registry.clear_faults();
    let realm = format!("{}/token", elsewhere.url());
    world.scenario.registry.require_token(TokenAuth::anonymous().realm(realm));
    assert_ne!(world.review("none", &image).await.0, Outcome::Allow);
    assert_eq!(elsewhere.count(), 0);
    world.scenario.registry.require_token(TokenAuth::anonymous());
    tokio::time::sleep(FAILURES_KEPT).await;
    // The first one finds out that the old token server gives nothing.
    world.review("none", &image).await;
    tokio::time::sleep(FAILURES_KEPT).await;
    assert_eq!(world.review("none", &image).await.0, Outcome::Allow, "the twin");
}

/// What was found of an image, for comparing.
async fn found(world: &World, image: &str) -> (Outcome, Vec<(Reason, String)>) {
    let review = world.review_within("none", image, Duration::from_millis(1500)).await;
    let problems = review.images[0].verdict.problems.iter();
    (review.outcome, problems.map(|problem| (problem.reason, problem.found.clone())).collect())
}

/// An index that nobody attested: what it lists is looked at too.
fn unattested_index(world: &World) -> (String, String) {
    let registry = &world.scenario.registry;
    let pushed = Image::index(&["linux/amd64"]).push(registry, "acme/index", "");
    let image = format!("{}/acme/index@{}", registry.host(), pushed.digest);
    (image, pushed.platform("linux/amd64").to_owned())
}

#[tokio::test]
async fn d_a_failure_at_a_manifest_that_an_index_lists_is_told_as_not_reached() {
    for fault in
        [Fault::Status(401), Fault::Status(403), Fault::Status(500), Fault::throttled(30), Fault::Close]
    {
        let world = World::start_with(|host| in_cluster(&[host])).await;
        let (image, listed) = unattested_index(&world);
        let registry = &world.scenario.registry;
        registry.fault(On::manifests().reference(listed), fault.clone());
        let unreached = format!("{} could not be reached", registry.host());
        let expected = (Outcome::Unverifiable, vec![(Reason::RegistryUnavailable, unreached)]);
        assert_eq!(found(&world, &image).await, expected, "{fault:?}");
    }
    // The twin: nothing fails.
    let world = World::start_with(|host| in_cluster(&[host])).await;
    let (image, _) = unattested_index(&world);
    assert_eq!(found(&world, &image).await.1[0].0, Reason::NoProvenance);
}

/// A registry leads to whatever its owner likes, and the owner sees what becomes of the pod.
#[tokio::test]
async fn d_what_answers_at_an_address_that_a_registry_leads_to_changes_nothing() {
    let mut all = Vec::new();
    for fault in
        [Fault::Status(404), Fault::Status(403), Fault::Status(400), Fault::Status(500), Fault::Close]
    {
        let elsewhere = Registry::start().await;
        let world = World::start_with(|host| in_cluster(&[host, elsewhere.host()])).await;
        let (image, _) = unattested_index(&world);
        elsewhere.fault(On::any(), fault);
        for on in [On::referrers(), On::att_tags(), On::fallback_tags()] {
            world.scenario.registry.fault(on, Fault::Redirect(elsewhere.url()));
        }
        let (outcome, problems) = found(&world, &image).await;
        assert!(elsewhere.count() > 0);
        let host = world.scenario.registry.host().to_owned();
        let told = problems.into_iter().map(|(reason, found)| (reason, found.replace(&host, "HOST")));
        all.push((outcome, told.collect::<Vec<_>>()));
    }
    let unreached = (Reason::RegistryUnavailable, "HOST could not be reached".to_owned());
    assert_eq!(all[0], (Outcome::Unverifiable, vec![unreached]));
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
}
