//! Where pods can land, and what for: nodes of several architectures, and the real scheduler between them.

use bonafide_kit::{
    image::{Image, attach_bundle},
    plane::{ControlPlane, Namespace, Ran, eventually},
    scenario::{self, Scenario, bundle},
};
use serde_json::{Value, json};

use crate::{installation::Installation, objects, shared::alone};

/// A pod that no scheduler looks at unless it is told to.
fn pod(name: &str, image: &str, spec: &Value) -> Value {
    let mut pod = objects::pod(name, image);
    pod["spec"]["schedulerName"] = json!("nobody");
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn affinity_to(architecture: &str) -> Value {
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
        [{"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": [architecture]}]}]}}}})
}

/// A namespace with the policy of the small world, changed by `change`; the webhook knows of it.
fn shop<'a>(plane: &'a ControlPlane, name: &str, world: &Scenario, change: &str) -> Namespace<'a> {
    let namespace = plane.namespace(name);
    let policy = world.policy().replace("namespace: shop", &format!("namespace: {name}"));
    namespace.apply(&policy.replace("spec:\n", &format!("spec:\n{change}"))).ok();
    let bare = pod("probe", world.image("bare"), &json!({})).to_string();
    eventually("the policy to be known", || match create(&namespace, &bare, true) {
        Ran { worked: false, .. } => Ok(()),
        admitted => Err(admitted.out),
    });
    namespace
}

fn create(namespace: &Namespace<'_>, pod: &str, dry: bool) -> Ran {
    let dry = if dry { "--dry-run=server" } else { "--dry-run=none" };
    namespace.kubectl_reading(&["create", "-o", "json", dry, "-f", "-"], pod)
}

/// What the scheduler does when it has chosen a node.
fn bind(namespace: &Namespace<'_>, pod: &str, node: &str) -> Ran {
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/binding", namespace.name());
    namespace.kubectl_reading(&["create", "--raw", &path, "-f", "-"], &binding.to_string())
}

fn digest_of<'a>(world: &'a Scenario, name: &str) -> &'a str {
    world.image(name).split_once('@').unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_judged_for_the_architectures_that_it_can_land_on() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "landing", &world);
    let _webhook = release.replica("one");
    release.enforced();
    let amd64 = plane.node("landing-amd64", "amd64");
    let _arm64 = plane.node("landing-arm64", "arm64");
    let shop = shop(&plane, "landing-shop", &world, "");
    let half = world.image("half");
    let index = world.registry.manifest("acme/half", digest_of(&world, "half")).unwrap().json();
    let of_arm64 = index["manifests"][1]["digest"].as_str().unwrap();

    eventually("both nodes to be known", || {
        let refused = create(&shop, &pod("anywhere", half, &json!({})).to_string(), true);
        if refused.err.contains("linux/arm64") { Ok(()) } else { Err(refused.err) }
    });
    for (name, spec, admitted) in [
        ("anywhere", json!({}), false),
        ("by-selector", json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}}), true),
        ("by-selector-there", json!({"nodeSelector": {"kubernetes.io/arch": "arm64"}}), false),
        ("by-affinity", affinity_to("amd64"), true),
        ("by-affinity-there", affinity_to("arm64"), false),
        ("by-name", json!({"nodeName": amd64.name()}), true),
        ("by-name-there", json!({"nodeName": "landing-arm64"}), false),
    ] {
        let ran = create(&shop, &pod(name, half, &spec).to_string(), false);
        assert_eq!(ran.worked, admitted, "{name}: {}", ran.err);
        if !admitted {
            let told = ran.err.contains("linux/arm64") && ran.err.contains(of_arm64);
            assert!(told, "{name}: {}", ran.err);
        }
    }

    // An image that all nodes' architectures are attested for; then a node of another joins.
    let three = Image::index(&["linux/amd64", "linux/arm64", "linux/s390x"]);
    let pushed = three.push(&world.registry, "acme/three", "v1");
    for platform in ["linux/amd64", "linux/arm64"] {
        let leaf = pushed.platform(platform);
        let signed = bundle(&world.sigstore, &scenario::signer(), "three", leaf);
        attach_bundle(&world.registry, "acme/three", leaf, signed);
    }
    let image = world.registry.reference("acme/three", &pushed.digest);
    let waiting = pod("waiting", &image, &json!({})).to_string();
    let made = create(&shop, &waiting, false);
    assert!(made.worked, "{}", made.err);
    let other = plane.node("landing-s390x", "s390x");
    let refused = eventually("the binding to be refused", || {
        let bound = bind(&shop, "waiting", other.name());
        if bound.err.contains("linux/s390x") { Ok(bound.refused()) } else { Err(bound.err) }
    });
    assert!(refused.contains(pushed.platform("linux/s390x")), "{refused}");
    assert!(refused.contains("NoProvenance") || refused.contains("PlatformNotCovered"), "{refused}");
    bind(&shop, "waiting", amd64.name()).ok();
    assert_eq!(shop.get(&["pod", "waiting"]).unwrap()["spec"]["nodeName"], amd64.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constrained_pod_runs_where_its_provenance_is_proven_and_nowhere_else() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "constraining", &world);
    let _webhook = release.replica("one");
    release.enforced();
    let amd64 = plane.node("constrained-amd64", "amd64");
    let _arm64 = plane.node("constrained-arm64", "arm64");
    let shop = shop(&plane, "constrained-shop", &world, "  uncoveredPlatforms: Constrain\n");
    let half = |name: &str| {
        let mut pod = objects::pod(name, world.image("half"));
        pod["spec"]["schedulerName"] = json!("default-scheduler");
        pod.to_string()
    };
    let admitted = eventually("both nodes to be known", || {
        let ran = create(&shop, &half("anywhere"), true);
        if ran.err.contains("arm64") { Ok(ran) } else { Err(ran.out + &ran.err) }
    });
    assert!(admitted.worked && admitted.err.contains("Warning:"), "{}", admitted.err);

    create(&shop, &half("anywhere"), false).ok();
    let bound = eventually("the scheduler to bind it", || {
        let pod = shop.get(&["pod", "anywhere"])?;
        if pod["spec"]["nodeName"].is_string() { Ok(pod) } else { Err(pod["status"].to_string()) }
    });
    assert_eq!(bound["spec"]["nodeName"], amd64.name());
    let terms = &bound["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let expression = &terms["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!(expression["key"], "kubernetes.io/arch");
    assert_eq!(expression["values"], json!(["amd64"]));

    // Only the node of the other architecture has room.
    plane.kubectl(&["cordon", amd64.name()]).ok();
    create(&shop, &half("pending"), false).ok();
    let event = eventually("an event that says why it waits", || {
        let events = shop.get(&["events", "--field-selector=involvedObject.name=pending"])?;
        let failed = |event: &&Value| event["reason"] == "FailedScheduling";
        let event = events["items"].as_array().unwrap().iter().find(failed).cloned();
        event.map(|event| event["message"].to_string()).ok_or(events.to_string())
    });
    assert!(event.contains("node affinity") || event.contains("affinity/selector"), "{event}");
    assert_eq!(shop.get(&["pod", "pending"]).unwrap()["spec"]["nodeName"], Value::Null);
    plane.kubectl(&["uncordon", amd64.name()]).ok();
    eventually("it to be bound where it may be", || {
        let pod = shop.get(&["pod", "pending"])?;
        let there = pod["spec"]["nodeName"] == amd64.name();
        if there { Ok(()) } else { Err(pod["status"].to_string()) }
    });
}
