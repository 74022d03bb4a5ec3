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

/// One right of one role.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    /// Of a Role; a `ClusterRole`'s is for all of them.
    namespace: Option<String>,
    group: String,
    resource: String,
    verb: String,
    /// The one object that it is for; `None` for all of them.
    name: Option<String>,
}

/// What was asked of the API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    namespace: String,
    group: String,
    resource: String,
    verb: String,
    name: String,
}

impl Grant {
    fn covers(&self, asked: &Asked) -> bool {
        let is_for = |own: &Option<String>, asked: &String| own.as_ref().is_none_or(|own| own == asked);
        (&self.group, &self.resource, &self.verb) == (&asked.group, &asked.resource, &asked.verb)
            && is_for(&self.namespace, &asked.namespace)
            && is_for(&self.name, &asked.name)
    }

    /// A request counts for the narrowest right that there is to it, or reading the own Secret would do for the right to read all.
    fn breadth(&self) -> (bool, bool) {
        (self.namespace.is_none(), self.name.is_none())
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

fn pairs<A: Clone, B: Clone>(some: &[A], others: &[B]) -> Vec<(A, B)> {
    some.iter().flat_map(|one| others.iter().map(move |other| (one.clone(), other.clone()))).collect()
}

/// What the roles of the chart grant, each name on its own.
fn granted(plane: &ControlPlane, namespace: &str) -> Vec<Grant> {
    let roles = [
        (None, plane.get(&["clusterrole", "bonafide"]).unwrap()),
        (Some(namespace), plane.get(&["--namespace", namespace, "role", "bonafide"]).unwrap()),
    ];
    let mut all = Vec::new();
    for (namespace, role) in &roles {
        for rule in role["rules"].as_array().unwrap() {
            let mut names: Vec<_> = strings(&rule["resourceNames"]).into_iter().map(Some).collect();
            if names.is_empty() {
                names.push(None);
            }
            for (group, resource) in pairs(&strings(&rule["apiGroups"]), &strings(&rule["resources"])) {
                for (verb, name) in pairs(&strings(&rule["verbs"]), &names) {
                    let (namespace, group, resource) =
                        (namespace.map(ToOwned::to_owned), group.clone(), resource.clone());
                    all.push(Grant { namespace, group, resource, verb, name });
                }
            }
        }
    }
    all
}

/// What was asked of resources.
fn asked(events: &[Value]) -> BTreeSet<Asked> {
    let resources = events.iter().filter(|event| event["objectRef"].is_object()).map(|event| {
        let of = |field: &str| event["objectRef"][field].as_str().unwrap_or_default().to_owned();
        let resource = match of("subresource") {
            whole if whole.is_empty() => of("resource"),
            part => format!("{}/{part}", of("resource")),
        };
        let verb = event["verb"].as_str().unwrap().to_owned();
        Asked { namespace: of("namespace"), group: of("apiGroup"), resource, verb, name: of("name") }
    });
    resources.collect()
}

/// What is granted and never used, or what is used and not granted.
fn differences(granted: &[Grant], asked: &BTreeSet<Asked>) -> (Vec<String>, Vec<String>) {
    let (mut used, mut beyond) = (BTreeSet::new(), Vec::new());
    for asked in asked {
        match granted.iter().filter(|grant| grant.covers(asked)).min_by_key(|grant| grant.breadth()) {
            Some(grant) => drop(used.insert(grant)),
            None => beyond.push(format!("{asked:?}")),
        }
    }
    let unused = granted.iter().filter(|grant| !used.contains(grant)).map(|grant| format!("{grant:?}"));
    (unused.collect(), beyond)
}

/// Makes a pod that a policy warns of, and takes it away again.
fn warned(namespace: &Namespace<'_>, image: &str) {
    eventually("a warning", || {
        namespace.kubectl(&["delete", "pod", "warned", "--ignore-not-found", "--grace-period=0", "--force"]);
        let ran = namespace.kubectl_reading(
            &["create", "-o", "name", "-f", "-"],
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "warned"},
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
    shop.kubectl(&[
        "create",
        "secret",
        "docker-registry",
        "pull",
        "--docker-server=registry.invalid",
        "--docker-username=somebody",
        "--docker-password=secret",
    ])
    .ok();
    warned(&shop, world.image("bare"));
    let at = Instant::now();

    // A node that no watch has told of is looked up.
    let mut elsewhere = objects::pod("elsewhere", world.image("shop"));
    elsewhere["spec"]["nodeName"] = json!("nowhere");
    shop.apply(&elsewhere.to_string()).ok();

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

    let mut granted = granted(&plane, "rightful");
    // Leaders of versions without probes alone use it.
    let of_before = |grant: &Grant| grant.resource == "provenancepolicies" && grant.verb == "create";
    assert_eq!(granted.iter().filter(|grant| of_before(grant)).count(), 1);
    granted.retain(|grant| !of_before(grant));
    let events = || plane.asked_by("rightful", "bonafide");
    // What is left is done within moments: statuses, renewals.
    let of_the_end = |grant: &Grant| grant.verb == "delete";
    let (at_the_end, meanwhile): (Vec<Grant>, Vec<Grant>) = granted.drain(..).partition(of_the_end);
    eventually("every right to be used", || {
        let (unused, _) = differences(&meanwhile, &asked(&events()));
        if unused.is_empty() { Ok(()) } else { Err(format!("{unused:#?}\n{}", second.log())) }
    });
    // The configurations are deleted by who ends with the namespace. Its account is kept until then, as that of a pod is.
    let hold = |finalizers: &Value| {
        let held = json!({"metadata": {"finalizers": finalizers}}).to_string();
        let account = ["serviceaccount", "bonafide", "--namespace=rightful", "--patch", &held];
        plane.kubectl(&[&["patch", "--type=merge"], &account[..]].concat()).ok();
    };
    hold(&json!(["bonafide.dev/held"]));
    plane.kubectl(&["delete", "namespace", "rightful", "--wait=false"]).ok();
    assert!(second.stop().success());
    hold(&Value::Null);
    eventually("the configurations to be deleted", || {
        let (unused, _) = differences(&at_the_end, &asked(&events()));
        if unused.is_empty() { Ok(()) } else { Err(format!("{unused:#?}")) }
    });
    granted.extend(meanwhile);
    granted.extend(at_the_end);

    let events = events();
    let refused: Vec<_> = events.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let (_, beyond) = differences(&granted, &asked(&events));
    assert!(beyond.is_empty(), "used, and not granted by the chart: {beyond:#?}");
    plane.kubectl(&["delete", "clusterprovenancepolicies,trustroots", "--all"]).ok();
}
