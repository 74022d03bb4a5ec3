//! What goes on while every replica is down, and what does not (B8): pods of namespaces without a policy, with `reach: images` pods of
//! images that no policy names, and nodes that join.

use std::time::{Duration, Instant};

use bonafide_kit::{
    plane::{Client, Namespace, Node, eventually},
    scenario::Scenario,
};
use serde_json::{Value, json};

use crate::{
    installation::{Installation, entries, make},
    objects,
    shared::alone,
};

/// How soon a policy is to be in force.
const SOON: Duration = Duration::from_secs(1);
/// No policy names it.
const UNNAMED: &str = "registry.invalid/other/app:v1";

/// Waits until the scheduler has bound a pod of `selector`, and says where.
fn bound(namespace: &Namespace<'_>, selector: &str) -> String {
    eventually(&format!("a pod of {selector} in {} to be bound", namespace.name()), || {
        let pods = namespace.get(&["pods", &format!("--selector={selector}")])?;
        let found = pods["items"].as_array().into_iter().flatten();
        let mut nodes = found.filter_map(|pod| pod["spec"]["nodeName"].as_str());
        nodes.next().map(ToOwned::to_owned).ok_or(pods.to_string())
    })
}

fn until_in_force(namespace: &Namespace<'_>, policy: &str) {
    eventually("the policy to be in force", || {
        let object = namespace.get(&[policy, "shop"])?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
        if is_ready { Ok(()) } else { Err(object["status"].to_string()) }
    });
}

fn labelled(name: &str, image: &str) -> Value {
    let mut pod = objects::pod(name, image);
    pod["metadata"]["labels"] = json!({"app": name});
    pod
}

/// A network plugin that is outside of kube-system: it is to run on each node that joins.
fn network_plugin(image: &str) -> Value {
    let mut plugin = objects::deployment("network", image);
    plugin["kind"] = json!("DaemonSet");
    let spec = &mut plugin["spec"]["template"]["spec"];
    spec["hostNetwork"] = json!(true);
    spec["tolerations"] = json!([{"operator": "Exists"}]);
    plugin
}

fn is_refused_for_want_of_an_answer(plane: &Client, namespace: &str, image: &str) {
    let said = make(plane, namespace, image).expect_err("it waits for Bonafide");
    assert!(said.contains("failed calling webhook"), "{image}: {said}");
}

/// Whom the entries for workloads and bindings select.
fn selectors(plane: &Client) -> Vec<String> {
    let all = entries(plane, "validatingwebhookconfiguration").unwrap();
    let ours = |entry: &&Value| {
        let name = entry["name"].as_str().unwrap();
        !name.starts_with("lease") && !name.starts_with("policies")
    };
    all.iter().filter(ours).map(|entry| entry["namespaceSelector"].to_string()).collect()
}

/// Applies the policy of the small world in a namespace, and asks once, a second later.
fn in_force_within_a_second(plane: &Client, namespace: &Namespace<'_>, world: &Scenario) {
    let policy = world.policy().replace("namespace: shop", &format!("namespace: {}", namespace.name()));
    make(plane, namespace.name(), world.image("bare")).expect("no policy is for it");
    namespace.apply(&policy).ok();
    let applied = Instant::now();
    std::thread::sleep(SOON.saturating_sub(applied.elapsed()));
    let said = make(plane, namespace.name(), world.image("bare")).expect_err("a policy is for it");
    assert!(said.contains("NoProvenance"), "{said}");
    until_in_force(namespace, "provenancepolicies");
}

#[tokio::test(flavor = "multi_thread")]
async fn b8_with_reach_namespaces_only_those_with_a_policy_wait_for_replicas_that_are_down() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::reaching(&plane, "waiting", "namespaces", &world);
    let webhook = release.replica("one");
    let [shop, other] = ["waiting-shop", "waiting-other"].map(|name| plane.namespace(name));
    let _node = plane.node("waiting", "amd64");
    eventually("the API server to be seen", || match entries(&plane, "validatingwebhookconfiguration")? {
        found if found.is_empty() => Err("there are no entries".to_owned()),
        _ => Ok(()),
    });
    // No policy, no entry for workloads.
    assert_eq!(selectors(&plane), Vec::<String>::new());
    // The first entries are written once the API server was seen to reach the webhook.
    eventually("the webhook to be reached", || match webhook.get("/metrics")? {
        metrics if metrics.contains("bonafide_webhook_unreached_seconds 0.0\n") => Ok(()),
        metrics => Err(metrics),
    });
    in_force_within_a_second(&plane, &shop, &world);
    for selector in selectors(&plane) {
        assert!(selector.contains("waiting-shop") && !selector.contains("waiting-other"), "{selector}");
    }

    drop(webhook);
    is_refused_for_want_of_an_answer(&plane, "waiting-shop", world.image("shop"));
    is_refused_for_want_of_an_answer(&plane, "waiting-shop", UNNAMED);
    other.apply(&labelled("free", world.image("bare")).to_string()).ok();
    assert_eq!(bound(&other, "app=free"), "waiting");
    other.apply(&objects::deployment("many", UNNAMED).to_string()).ok();
    assert_eq!(bound(&other, "app=many"), "waiting");

    // The documented way to let everything in while nothing of Bonafide runs.
    has_every_entry_ignore(&plane);
    make(&plane, "waiting-shop", world.image("shop")).expect("nobody can be asked");
}

/// Runs the command of docs/install.md that has every entry admit what no replica can be asked about.
fn has_every_entry_ignore(plane: &Client) {
    const COMMAND: &str = r#"kubectl get validatingwebhookconfiguration,mutatingwebhookconfiguration bonafide -o json | sed 's/"failurePolicy": "Fail"/"failurePolicy": "Ignore"/' | kubectl replace -f -"#;
    assert!(include_str!("../../docs/install.md").contains(COMMAND));
    let kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
    let found = plane.kubectl(&["get", kinds, "bonafide", "-o", "json"]).ok();
    let edited = found.replace(r#""failurePolicy": "Fail""#, r#""failurePolicy": "Ignore""#);
    assert_ne!(edited, found);
    plane.kubectl_reading(&["replace", "-f", "-"], &edited).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn b8_with_reach_images_a_node_joins_and_unnamed_images_run_while_every_replica_is_down() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::reaching(&plane, "sparing", "images", &world);
    let webhook = release.replica("one");
    let [shop, network] = ["sparing-shop", "sparing-network"].map(|name| plane.namespace(name));
    let cluster = world.policy().replace("kind: ProvenancePolicy", "kind: ClusterProvenancePolicy");
    plane.apply(&cluster.replace("  namespace: shop\n", "")).ok();
    until_in_force(&shop, "clusterprovenancepolicies");
    network.apply(&network_plugin(UNNAMED).to_string()).ok();
    // It is asked about what the policy names, and about nothing else.
    let said = make(&plane, "sparing-shop", world.image("bare")).expect_err("the policy is for it");
    assert!(said.contains("NoProvenance"), "{said}");
    make(&plane, "sparing-shop", UNNAMED).expect("no policy is for it");

    drop(webhook);
    let node: Node<'_> = plane.node("sparing", "amd64");
    assert_eq!(bound(&network, "app=network"), node.name(), "the plugin of a node that joined meanwhile");
    shop.apply(&labelled("free", UNNAMED).to_string()).ok();
    assert_eq!(bound(&shop, "app=free"), node.name());
    is_refused_for_want_of_an_answer(&plane, "sparing-shop", world.image("shop"));
    is_refused_for_want_of_an_answer(&plane, "sparing-shop", &format!("sha256:{}", "0".repeat(64)));
    is_refused_for_want_of_an_answer(&plane, "sparing-shop", "sha256:0123abcd");
    plane.kubectl(&["delete", "clusterprovenancepolicies", "--all"]).ok();
}
