//! Trust roots that are objects: in force while they are there and right, and no reason to wait where the cluster does not know the kind.

use bonafide_kit::{
    plane::{ControlPlane, eventually, free_port},
    scenario::Scenario,
};
use serde_json::{Value, json};

use crate::{installation::Installation, objects::pod, release::Release, shared::alone, webhook::Webhook};

const CRD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/bonafide/crds/bonafide.dev_trustroots.yaml");

fn trust_root(json: &str) -> String {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "corp"}, "spec": {"trustedRoot": json},
    })
    .to_string()
}

/// The condition `Ready` of an object, once it says this.
fn ready(plane: &ControlPlane, what: &[&str], status: &str, words: &str) -> Value {
    eventually("the status to be written", || {
        let object = plane.get(what)?;
        let ready = object["status"]["conditions"][0].clone();
        let is_it =
            ready["status"] == status && ready["message"].as_str().is_some_and(|said| said.contains(words));
        if is_it { Ok(ready) } else { Err(ready.to_string()) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signer_is_satisfied_while_the_root_it_names_is_there() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "rooted", &world);
    let webhook = release.replica("one");
    release.enforced();
    let shop = plane.namespace("rooted-shop");
    let policy = world.policy().replace("namespace: shop", "namespace: rooted-shop");
    shop.apply(&policy.replace("- name: release", "- name: release\n      trustRoot: corp")).ok();
    let of_policy = ["pp", "shop", "--namespace=rooted-shop"];
    let of_root = ["trustroot", "corp"];
    let good = pod("good", world.image("shop")).to_string();
    let create = || {
        let dry = ["--namespace=rooted-shop", "create", "--dry-run=server", "-f", "-"];
        plane.kubectl_reading(&dry, &good).attempt()
    };
    let denied = |words: &str| {
        eventually("the pod to be denied", || match create() {
            Err(said) if said.contains(words) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };

    ready(&plane, &of_policy, "False", "nothing satisfies the signer release: there is no trust root corp");
    denied("hint: nothing satisfies the signer release: there is no trust root corp");

    // The same root that the replica was given as its public one.
    plane.apply(&trust_root(&world.sigstore.trusted_root_json())).ok();
    ready(&plane, &of_root, "True", "the trust root is in force");
    eventually("the pod to be admitted", create);
    let ready_again = ready(&plane, &of_policy, "True", "the policy is in force");
    assert_eq!(ready_again["message"], "the policy is in force");

    // What is wrong is refused, and gets in where the webhook is not asked.
    let refused = plane.apply(&trust_root("{}")).refused();
    assert!(refused.contains("spec.trustedRoot: cannot be used"), "{refused}");
    release.service.remove(webhook.port);
    assert!(webhook.stop().success());
    plane.apply(&trust_root("{}")).ok();
    let webhook = release.replica("two");
    let condition = ready(&plane, &of_root, "False", "spec.trustedRoot: cannot be used");
    assert_eq!(condition["reason"], "Invalid");
    denied("the trust root corp is not in force: spec.trustedRoot: cannot be used");

    plane.apply(&trust_root(&world.sigstore.trusted_root_json())).ok();
    eventually("the pod to be admitted", create);
    plane.kubectl(&["delete", "trustroot", "corp"]).ok();
    denied("there is no trust root corp");
    assert!(!webhook.log().contains("forbidden"), "{}", webhook.log());
}

/// The chart does not upgrade definitions: a newer replica meets a cluster that has the older ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_kind_is_served_and_may_have_it_later() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Release::new(&plane, "older", &world);
    plane.kubectl(&["delete", "-f", CRD]).ok();
    // It is ready, or this ends with an error.
    let webhook: Webhook = release.replica(free_port());
    assert!(webhook.log().contains("trustroots"), "{}", webhook.log());
    plane.kubectl(&["apply", "-f", CRD]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "-f", CRD, "--timeout=30s"]).ok();
    plane.apply(&trust_root(&world.sigstore.trusted_root_json())).ok();
    ready(&plane, &["trustroot", "corp"], "True", "the trust root is in force");
    plane.kubectl(&["delete", "trustroot", "corp"]).ok();
}

/// Whatever the definition takes is what `bonafide policy check` takes too, as far as the definition can see.
#[test]
fn the_definition_refuses_what_asks_for_less_than_a_root_has() {
    let Some(plane) = alone() else { return };
    crate::definitions::install(&plane);
    let certificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let alone = json!({"certificates": certificate, "issuer": "https://pki.example"});
    let stamped = json!({"certificates": certificate, "timestampAuthority": certificate});
    let mut wrong = Vec::new();
    for (spec, taken) in [
        (json!({"trustedRoot": "{}"}), true),
        (json!({"trustedRoot": "x"}), false),
        (json!({"trustedRoot": "{}", "unsafeSkipTransparencyLog": true}), false),
        (json!({"trustedRoot": "{}", "unsafeSkipTransparencyLog": false}), true),
        (json!({"tuf": {"mirror": "https://a.example", "root": "{}"}}), true),
        (json!({"tuf": {"mirror": "https://a.example", "root": "{}"}, "unsafeSkipTimestamp": true}), false),
        (json!({"tuf": {"mirror": "https://a.example", "root": "{}"}, "trustedRoot": "{}"}), false),
        (json!({}), false),
        (json!({"certificateAuthority": stamped}), false),
        (json!({"certificateAuthority": stamped, "unsafeSkipTransparencyLog": true}), true),
        (
            json!({"certificateAuthority": stamped, "unsafeSkipTransparencyLog": true, "unsafeSkipTimestamp": true}),
            false,
        ),
        (json!({"certificateAuthority": alone, "unsafeSkipTransparencyLog": true}), false),
        (
            json!({"certificateAuthority": alone, "unsafeSkipTransparencyLog": true, "unsafeSkipTimestamp": true}),
            true,
        ),
        (json!({"certificateAuthority": alone, "unsafeSkipTimestamp": true}), false),
    ] {
        let object = json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "TrustRoot", "metadata": {"name": "corp"}, "spec": spec,
        });
        let said =
            plane.kubectl_reading(&["create", "--dry-run=server", "-f", "-"], &object.to_string()).attempt();
        let compiled = bonafide::api::compile::compile_root(&object).errors;
        if said.is_ok() != taken || compiled.is_empty() != taken {
            wrong.push(format!("{spec}: {said:?} {compiled:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
