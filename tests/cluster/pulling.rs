//! A private registry and namespaces with credentials of their own: each pod is judged with what it pulls with.

use bonafide_kit::{
    plane::{ControlPlane, Namespace, Ran, eventually},
    scenario::Scenario,
};
use serde_json::json;

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

/// What becomes of a pod that names its pull secret, or leaves that to its service account.
fn ask(namespace: &Namespace<'_>, image: &str, named: bool) -> Ran {
    let mut pod = objects::pod("asked", image);
    if named {
        pod["spec"]["imagePullSecrets"] = json!([{"name": "pull"}]);
    }
    namespace.kubectl_reading(&["create", "--dry-run=server", "-f", "-"], &pod.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pod_is_judged_with_its_own_credential_and_none_learns_from_anothers() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "pulling", &world);
    let webhook = release.replica("one");
    release.enforced();
    let registry = world.registry.host();
    world.registry.require_basic_for("acme/shop", "alice", "a");
    world.registry.require_basic_for("acme/index", "bob", "b");
    let policy = world.policy().replace("kind: ProvenancePolicy", "kind: ClusterProvenancePolicy");
    plane.apply(&policy.replace("  namespace: shop\n", "").replace("name: shop", "name: private")).ok();

    let alices = with(&plane, "alices", registry, Some(("alice", "a")), false);
    let bobs = with(&plane, "bobs", registry, Some(("bob", "b")), true);
    let eves = with(&plane, "eves", registry, Some(("alice", "guessed")), true);
    let nobodys = with(&plane, "nobodys", registry, None, false);
    let (shop, index) = (world.image("shop"), world.image("index"));
    let missing = format!("{registry}/acme/shop@sha256:{}", "0".repeat(64));

    let strangers_are_told_nothing = |when: &str| {
        for (namespace, image) in
            [(&bobs, shop), (&alices, index), (&eves, shop), (&nobodys, shop), (&nobodys, index)]
        {
            let said = eventually("a refusal", || {
                let ran = ask(namespace, image, namespace.name() == "alices");
                if ran.worked { Err(ran.out) } else { Ok(ran.err) }
            });
            let told = format!("{} {image} {when}: {said}", namespace.name());
            assert!(said.contains("RegistryDenied"), "{told}");
            // One that is not there is told of in the same words.
            let absent = ask(namespace, &missing, namespace.name() == "alices").refused();
            let is_same = absent.contains("RegistryDenied") || namespace.name() == "alices";
            assert!(is_same, "{told} – and of one that is not there: {absent}");
        }
    };
    strangers_are_told_nothing("before anybody knows");
    for (namespace, image, named) in [(&alices, shop, true), (&bobs, index, false)] {
        eventually("a pod with the right credential", || ask(namespace, image, named).attempt());
    }
    strangers_are_told_nothing("after those were admitted who may know");
    assert!(ask(&alices, &missing, true).refused().contains("ImageNotFound"), "who may know is told");
    assert!(!webhook.log().contains("forbidden"), "{}", webhook.log());
    plane.kubectl(&["delete", "clusterprovenancepolicies", "--all"]).ok();
}
