//! Bonafide on the cluster: policies, nodes and pods are the API server's.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bonafide_kit::{
    plane::{ControlPlane, Namespace, eventually},
    scenario::Scenario,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::{keeping, objects::pod, release::Release, shared::alone};

/// A namespace with the policy of the small world, which the webhook knows of.
fn shop<'a>(plane: &'a ControlPlane, name: &str, world: &Scenario) -> Namespace<'a> {
    let namespace = plane.namespace(name);
    let policy = world.policy().replace("namespace: shop", &format!("namespace: {name}"));
    namespace.apply(&policy).ok();
    eventually("the policy to be known", || {
        create(plane, name, &pod("probe", world.image("bare")), true).map_or(Ok(()), Err)
    });
    namespace
}

/// What the API server makes of a pod, or `None`: it was refused.
fn create(plane: &ControlPlane, namespace: &str, pod: &Value, dry: bool) -> Option<String> {
    let dry = if dry { "--dry-run=server" } else { "--dry-run=none" };
    let call = ["--namespace", namespace, "create", "-o", "json", dry, "-f", "-"];
    plane.kubectl_reading(&call, &pod.to_string()).attempt().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_decide_in_their_namespace_and_tags_are_pinned() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Release::new(&plane, "deciding", &world);
    let webhook = release.replica(release.port);
    release.configure(&webhook);
    let shop = shop(&plane, "shop", &world);

    let bare = pod("bare", world.image("bare"));
    let refusal = shop.apply(&bare.to_string()).refused();
    assert!(refusal.contains("NoProvenance"), "{refusal}");
    let elsewhere = plane.namespace("elsewhere");
    elsewhere.apply(&bare.to_string()).ok();

    let (repository, digest) = world.image("shop").split_once('@').unwrap();
    shop.apply(&pod("tagged", &format!("{repository}:v1")).to_string()).ok();
    let kept = shop.get(&["pod", "tagged"]).unwrap();
    assert_eq!(kept["spec"]["containers"][0]["image"], format!("{repository}:v1@{digest}"));
    assert!(!webhook.log().contains("forbidden"), "{}", webhook.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_not_bound_to_a_node_whose_platform_is_not_covered() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Release::new(&plane, "binding", &world);
    let webhook = release.replica(release.port);
    release.configure(&webhook);
    let early = plane.node("early", "amd64");
    plane.kubectl(&["cordon", early.name()]).ok();
    let shop = shop(&plane, "bound-shop", &world);

    // While it is admitted, all nodes are amd64, and for those it is attested.
    eventually("the node to be known", || {
        shop.apply(&pod("half", world.image("half")).to_string()).attempt()
    });
    let late = plane.node("late", "arm64");
    let event = eventually("the binding to be refused", || {
        let events = shop.get(&["events", "--field-selector=reason=FailedScheduling"])?;
        let said: Vec<String> =
            events["items"].as_array().unwrap().iter().map(|event| event["message"].to_string()).collect();
        said.iter().find(|said| said.contains("is not admitted by")).cloned().ok_or(said.join("\n"))
    });
    assert!(event.contains("linux/arm64") && event.contains("NoProvenance"), "{event}");
    assert_eq!(shop.get(&["pod", "half"]).unwrap()["spec"]["nodeName"], Value::Null);

    drop(late);
    let right = plane.node("right", "amd64");
    let bound = eventually("the binding", || {
        let pod = shop.get(&["pod", "half"])?;
        if pod["spec"]["nodeName"] == Value::Null { Err(pod["status"].to_string()) } else { Ok(pod) }
    });
    assert_eq!(bound["spec"]["nodeName"], json!(right.name()));
    assert!(!webhook.log().contains("forbidden"), "{}", webhook.log());
}

/// Creates a pod that must be denied, again and again, until it is `over`; counts those that were admitted, and those that were denied
/// because a replica had just started.
async fn create_unattested(
    pods: Api<Pod>,
    image: String,
    over: Arc<AtomicBool>,
    counts: Arc<[AtomicUsize; 2]>,
) {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let mut unattested = pod("unattested", &image);
    unattested["metadata"] = json!({"generateName": "unattested-"});
    let unattested: Pod = serde_json::from_value(unattested).unwrap();
    while !over.load(Ordering::Relaxed) {
        let count = match pods.create(&params, &unattested).await {
            Ok(_) => Some(&counts[0]),
            Err(kube::Error::Api(status)) if status.message.contains("Unlisted") => Some(&counts[1]),
            Err(_) => None,
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a_replica_that_starts_admits_no_unattested_pod() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Release::new(&plane, "starting", &world);
    let mut webhook = release.replica(release.port);
    release.configure(&webhook);
    let shop = shop(&plane, "started-shop", &world);

    let pods: Api<Pod> = Api::namespaced(keeping::client(&plane).await, "started-shop");
    let (over, counts) =
        (Arc::new(AtomicBool::new(false)), Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]));
    let creating: Vec<_> = (0..8)
        .map(|_| {
            let (over, counts) = (Arc::clone(&over), Arc::clone(&counts));
            tokio::spawn(create_unattested(pods.clone(), world.image("bare").to_owned(), over, counts))
        })
        .collect();
    for _ in 0..5 {
        drop(webhook);
        webhook = tokio::task::block_in_place(|| release.replica(release.port));
    }
    over.store(true, Ordering::Relaxed);
    for creating in creating {
        creating.await.unwrap();
    }
    let [admitted, early] = [&counts[0], &counts[1]].map(|count| count.load(Ordering::Relaxed));
    println!("{early} were denied before the cluster was listed");
    assert_eq!(admitted, 0);
    shop.apply(&pod("attested", world.image("shop")).to_string()).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn e3_a_replica_starts_without_the_definitions_and_follows_them_when_they_come() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Release::new(&plane, "undefined", &world);
    let kinds = ["provenancepolicies", "clusterprovenancepolicies", "trustroots"];
    let names = kinds.map(|kind| format!("{kind}.bonafide.dev"));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    plane.kubectl(&[&["delete", "crd"], names.as_slice()].concat()).ok();
    // It is ready although there is no such kind.
    let webhook = release.replica(release.port);
    release.configure(&webhook);
    plane.namespace("undefined-shop").apply(&pod("early", world.image("bare")).to_string()).ok();
    Release::install(&plane);
    let shop = shop(&plane, "defined-shop", &world);
    let refusal = shop.apply(&pod("bare", world.image("bare")).to_string()).refused();
    assert!(refusal.contains("NoProvenance"), "{refusal}");
}
