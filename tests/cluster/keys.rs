//! Keys that policies reference, read with the rights that the chart gives where it is told so: what comes, changes and goes is followed.

use bonafide_kit::{
    image::{Image, attach_bundle},
    plane::eventually,
    scenario::{Scenario, signer},
    sigstore::{Build, BundleVersion, KeyKind, SigningKey, statement_v1},
};
use serde_json::json;

use crate::{installation::Installation, objects::pod, shared::alone};

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_goes_by_the_key_in_the_secret_that_it_names() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let (key, other) = (SigningKey::generate(KeyKind::P256), SigningKey::generate(KeyKind::P256));
    let image = Image::single("linux/amd64").push(&world.registry, "acme/keyed", "v1");
    let digest = image.digest.trim_start_matches("sha256:");
    let statement = statement_v1(&[("keyed", digest)], &Build::of(&signer())).to_string();
    let bundle = world.sigstore.signing_with(&key).sign(statement).bundle_json(BundleVersion::V03);
    attach_bundle(&world.registry, "acme/keyed", &image.digest, bundle);
    let image = format!("{}/acme/keyed@{}", world.registry.host(), image.digest);

    let release = Installation::of(&plane, "keyed", &world);
    let team = plane.namespace("keyed-team");
    let policy = json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ProvenancePolicy", "metadata": {"name": "keyed"},
        "spec": {"images": {"include": ["**"]}, "signers": [{"name": "ci", "publicKey": {"secretRef": {"name": "cosign"}}}]},
    })
    .to_string();
    let put = |key: &SigningKey| {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cosign"}, "stringData": {"cosign.pub": key.public_pem()}});
        team.apply(&secret.to_string()).ok();
    };
    let create = || {
        let create = ["create", "--dry-run=server", "-f", "-"];
        team.kubectl_reading(&create, &pod("keyed", &image).to_string()).attempt()
    };
    let denied = |words: &str| {
        eventually("the pod to be denied", || match create() {
            Err(said) if said.contains(words) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };

    let without = release.replica("without");
    release.enforced();
    let said = team.kubectl_reading(&["create", "-f", "-"], &policy).refused();
    assert!(said.contains("switch on keyReferences.enabled of the chart"), "{said}");

    release.helm("upgrade", &["--set=keyReferences.enabled=true"]);
    release.service.remove(without.port);
    drop(without);
    let webhook = release.replica("with");
    eventually("the policy to be taken", || team.kubectl_reading(&["create", "-f", "-"], &policy).attempt());
    denied("Secret keyed-team/cosign is not there");
    put(&key);
    eventually("the pod to be admitted", create);
    put(&other);
    denied("its signature is not by the key of ci");
    put(&key);
    eventually("the pod to be admitted", create);
    team.kubectl(&["delete", "secret", "cosign"]).ok();
    denied("Secret keyed-team/cosign is not there");
    assert!(!webhook.log().contains("forbidden"), "{}", webhook.log());
}
