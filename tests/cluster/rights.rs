//! What the service account may do, and what it does: the same.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bonafide_kit::{
    plane::{ControlPlane, Namespace, eventually},
    scenario::Scenario,
};
use serde_json::{Value, json};

use crate::{installation::Installation, objects, shared::alone};

/// A repeated event is written over the last one, and there is one a minute.
const ANOTHER_EVENT: Duration = Duration::from_secs(62);

/// A group, a resource and a verb.
type Right = (String, String, String);

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

/// What the roles of the chart grant, each with the names that it is limited to.
fn granted(plane: &ControlPlane, namespace: &str) -> Vec<(Right, Vec<String>)> {
    let roles = [
        plane.get(&["clusterrole", "bonafide"]).unwrap(),
        plane.get(&["--namespace", namespace, "role", "bonafide"]).unwrap(),
    ];
    let mut all = Vec::new();
    for rule in roles.iter().flat_map(|role| role["rules"].as_array().unwrap()) {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                for verb in strings(&rule["verbs"]) {
                    let right = (group.clone(), resource.clone(), verb);
                    all.push((right, strings(&rule["resourceNames"])));
                }
            }
        }
    }
    all
}

/// What was asked, each with the name of the object where one was named.
fn used(events: &[Value]) -> BTreeSet<(Right, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resources = events.iter().filter(|event| event["objectRef"].is_object()).map(|event| {
        let (of, verb) = (&event["objectRef"], text(&event["verb"]));
        let resource = match text(&of["subresource"]) {
            whole if whole.is_empty() => text(&of["resource"]),
            part => format!("{}/{part}", text(&of["resource"])),
        };
        ((text(&of["apiGroup"]), resource, verb), text(&of["name"]))
    });
    resources.collect()
}

fn warned(namespace: &Namespace<'_>, image: &str) {
    eventually("a warning", || {
        let ran = namespace.kubectl_reading(
            &["create", "-o", "name", "-f", "-"],
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "warned-"},
                "spec": {"containers": [{"name": "main", "image": image}], "imagePullSecrets": [{"name": "pull"}]}})
            .to_string(),
        );
        if ran.worked && ran.err.contains("NoProvenance") { Ok(()) } else { Err(ran.out + &ran.err) }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_account_may_do_is_what_it_does() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "rightful", &world);
    // Soon renewed: the Secret is written over.
    let lifetimes =
        ["--set=certificates.selfManaged.lifetime=15s", "--set=certificates.selfManaged.caLifetime=45s"];
    release.helm("upgrade", &lifetimes);
    let first = release.replica("one");
    release.enforced();
    // What somebody removes is made again.
    let secret = ["--namespace=rightful", "secret", "bonafide-tls"];
    plane.kubectl(&[&["delete"], &secret[..]].concat()).ok();
    eventually("another Secret", || plane.get(&secret));
    let shop = plane.namespace("rightful-shop");
    let policy = world.policy().replace("namespace: shop", "namespace: rightful-shop");
    shop.apply(&policy.replace("spec:\n", "spec:\n  mode: Warn\n")).ok();
    let cluster = world.policy().replace("kind: ProvenancePolicy", "kind: ClusterProvenancePolicy");
    plane.apply(&cluster.replace("  namespace: shop\n", "").replace("[push]", "[push]\n  mode: Warn")).ok();
    let root = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "own"},
        "spec": {"trustedRoot": world.sigstore.trusted_root_json()}});
    plane.apply(&root.to_string()).ok();
    warned(&shop, world.image("bare"));
    let at = Instant::now();

    // One that is bound already is in no watch of those that are not: who runs what is asked for.
    let node = plane.node("rightful", "amd64");
    let mut bound = objects::pod("bound", world.image("shop"));
    bound["spec"]["nodeName"] = json!(node.name());
    shop.apply(&bound.to_string()).ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node.name()}});
    let path = "/api/v1/namespaces/rightful-shop/pods/bound/binding";
    eventually("the binding to be refused by the API server itself", || {
        let ran = shop.kubectl_reading(&["create", "--raw", path, "-f", "-"], &binding.to_string());
        if ran.err.contains("already assigned") { Ok(()) } else { Err(ran.out + &ran.err) }
    });
    std::thread::sleep(ANOTHER_EVENT.saturating_sub(at.elapsed()));
    warned(&shop, world.image("bare"));
    // Another one comes, and takes over.
    let second = release.replica("two");
    release.service.remove(first.port);
    assert!(first.stop().success());

    let granted = granted(&plane, "rightful");
    let unused = || -> Result<(), String> {
        let used: BTreeSet<Right> =
            used(&plane.asked_by("rightful", "bonafide")).into_iter().map(|(right, _)| right).collect();
        let unused: Vec<_> = granted.iter().filter(|(right, _)| !used.contains(right)).collect();
        if unused.is_empty() { Ok(()) } else { Err(format!("granted and not used: {unused:#?}")) }
    };
    // What is left is done within moments: statuses, renewals.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(unused) = unused() {
        assert!(Instant::now() < deadline, "{unused}\n{}", second.log());
        std::thread::sleep(Duration::from_millis(500));
    }

    let events = plane.asked_by("rightful", "bonafide");
    let refused: Vec<_> = events.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    for (right, name) in used(&events) {
        let is_granted = |(one, names): &(Right, Vec<String>)| {
            *one == right && (names.is_empty() || names.contains(&name))
        };
        assert!(granted.iter().any(is_granted), "{right:?} of {name:?} is used and not granted by the chart");
    }
    plane.kubectl(&["delete", "clusterprovenancepolicies,trustroots", "--all"]).ok();
}
