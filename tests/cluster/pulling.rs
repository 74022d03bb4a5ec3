//! A private registry and namespaces with credentials of their own: each pod is judged with what it pulls with.

use bonafide_kit::{
    plane::{ControlPlane, Namespace, Ran, eventually},
    scenario::Scenario,
};
use serde_json::{Value, json};

use crate::{installation::Installation, objects, shared::alone};

/// A namespace with a credential, of the pods that name it or of those of the default service account.
fn with<'a>(
    plane: &'a ControlPlane,
    name: &str,
    registry: &str,
    user: Option<(&str, &str)>,
    by_account: bool,
) -> Namespace<'a> {
    let namespace = plane.namespace(name);
    if let Some((user, password)) = user {
        let server = format!("--docker-server={registry}");
        let (user, password) = (format!("--docker-username={user}"), format!("--docker-password={password}"));
        namespace.kubectl(&["create", "secret", "docker-registry", "pull", &server, &user, &password]).ok();
    }
    if by_account {
        let patch = json!({"imagePullSecrets": [{"name": "pull"}]}).to_string();
        namespace.kubectl(&["patch", "serviceaccount", "default", "--patch", &patch]).ok();
    }
    namespace
}

/// What becomes of a workload that names its pull secret, or leaves that to its service account.
fn ask(namespace: &Namespace<'_>, mut workload: Value, named: bool) -> Ran {
    if named {
        workload["spec"]["imagePullSecrets"] = json!([{"name": "pull"}]);
    }
    namespace.kubectl_reading(&["create", "--dry-run=server", "-f", "-"], &workload.to_string())
}

/// What a namespace is told that may not know, where the digest or tag is left out.
fn refusal(namespace: &Namespace<'_>, image: &str) -> String {
    let named = namespace.name() == "alices";
    let (_, version) = image.rsplit_once("sha256:").or_else(|| image.rsplit_once(':')).unwrap();
    ask(namespace, objects::pod("asked", image), named).refused().replace(version, "VERSION")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_is_judged_with_its_own_credential_and_none_learns_from_anothers() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "pulling", &world);
    let webhook = release.replica("one");
    release.enforced();
    let registry = world.registry.host();
    // Both may pull one image, and one of them another.
    world.registry.require_basic_for("acme/shop", "alice", "a");
    world.registry.require_basic_for("acme/shop", "bob", "b");
    world.registry.require_basic_for("acme/index", "bob", "b");
    let alices = with(&plane, "alices", registry, Some(("alice", "a")), false);
    let bobs = with(&plane, "bobs", registry, Some(("bob", "b")), true);
    let eves = with(&plane, "eves", registry, Some(("alice", "guessed")), true);
    let nobodys = with(&plane, "nobodys", registry, None, false);
    let policy = world.policy().replace("kind: ProvenancePolicy", "kind: ClusterProvenancePolicy");
    plane.apply(&policy.replace("  namespace: shop\n", "").replace("name: shop", "name: private")).ok();
    // By another image than those below: from here on each is asked about once, so that no answer hides another.
    eventually("the policy to be in force", || {
        let pod = objects::pod("asked", world.image("bare"));
        let ran = ask(&nobodys, pod, false);
        if ran.worked { Err(ran.out) } else { Ok(()) }
    });

    let (shop, index, tag) = (world.image("shop"), world.image("index"), format!("{registry}/acme/shop:v1"));
    let missing = |image: &str| match image.split_once('@') {
        Some((repository, _)) => format!("{repository}@sha256:{}", "0".repeat(64)),
        None => image.replace(":v1", ":v0"),
    };
    let strangers_are_told_nothing = |when: &str| {
        for (namespace, image) in [
            (&alices, index),
            (&eves, shop),
            (&eves, &tag),
            (&nobodys, shop),
            (&nobodys, index),
            (&nobodys, &tag),
        ] {
            let (said, absent) = (refusal(namespace, image), refusal(namespace, &missing(image)));
            let told = format!("{} {image} {when}: {said}", namespace.name());
            assert!(
                said.contains("could not be verified") && said.contains("could not be reached"),
                "{told}"
            );
            assert_eq!(said, absent, "{told} – and of one that is not there, something else");
        }
        let said = ask(&nobodys, objects::deployment("asked", shop), false).refused();
        assert!(said.contains("could not be reached"), "a template, {when}: {said}");
    };
    strangers_are_told_nothing("before anybody knows");
    for (namespace, image, named) in
        [(&alices, shop, true), (&bobs, shop, false), (&bobs, index, false), (&bobs, &tag, false)]
    {
        ask(namespace, objects::pod("asked", image), named).ok();
    }
    // The API server gives a pod the secrets of its service account, but not a template.
    ask(&bobs, objects::deployment("asked", shop), false).ok();
    strangers_are_told_nothing("after those were admitted who may know");
    for (namespace, named) in [(&alices, true), (&bobs, false)] {
        let said = ask(namespace, objects::pod("asked", &missing(shop)), named).refused();
        assert!(said.contains("could not be reached"), "the registry is at a private address: {said}");
    }
    assert!(!webhook.log().contains("forbidden"), "{}", webhook.log());
    plane.kubectl(&["delete", "clusterprovenancepolicies", "--all"]).ok();
}
