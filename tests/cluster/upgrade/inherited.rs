//! What a leader of the version before wrote, as the first leader of this one finds it: without the binary of that version.

use std::fs;

use bonafide_kit::{
    plane::{ControlPlane, eventually},
    scenario::Scenario,
};
use serde_json::{Value, json};

use super::{
    Definitions, MUTATING, Previous, VALIDATING, holder, is_closed, is_of_this_version, repository,
    until_it_leads,
    watched::{self, Expected, Watched},
};
use crate::{
    balancer::Balancer,
    installation::{Installation, entries, make},
    shared::alone,
};

/// The namespace of the fixture: the certificate is for its Service.
const NAMESPACE: &str = "inherited";
const INSTALLED: &str = "tests/previous/installed.json";

/// What the leader wrote: the entries of both configurations, the data of the Secret, and the Lease.
fn written(plane: &ControlPlane) -> Value {
    let namespaced = |kind: &str, name: &str| plane.get(&[kind, name, "--namespace", NAMESPACE]).unwrap();
    json!({
        "validating": entries(plane, VALIDATING).unwrap(),
        "mutating": entries(plane, MUTATING).unwrap(),
        "secret": namespaced("secret", "bonafide-tls")["data"],
        "lease": namespaced("lease", "bonafide")["spec"],
    })
}

/// Makes the fixture. The certificate is valid for 30 years, and the only exempt namespace is the release's own: under the version before,
/// `exemptNamespaces` could be empty.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes tests/previous/installed.json, with the binary of the version before"]
async fn what_the_version_before_writes() {
    let previous = Previous::find().unwrap();
    let plane = alone().unwrap();
    let _definitions = Definitions::none(&plane);
    let values = [
        "--set=exemptNamespaces=null",
        "--set=certificates.selfManaged.lifetime=262800h",
        "--set=certificates.selfManaged.caLifetime=800000h",
    ];
    let release = Installation::from_chart(&previous.chart, &plane, NAMESPACE, Balancer::start(), &values);
    let _replica = release.replica_of(&previous.program, &release.flags("old"));
    release.enforced();
    let mut written = written(&plane);
    for kind in ["validating", "mutating"] {
        for entry in written[kind].as_array_mut().unwrap() {
            entry["clientConfig"]["service"]["port"] = json!(0);
        }
    }
    fs::write(repository(INSTALLED), serde_json::to_string_pretty(&written).unwrap() + "\n").unwrap();
}

/// Puts what the leader wrote in place, in its name.
fn inherit(plane: &ControlPlane, port: u16) -> Value {
    let mut installed: Value =
        serde_json::from_str(&fs::read_to_string(repository(INSTALLED)).unwrap()).unwrap();
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=bonafide", "-f", "-"];
    for (key, kind) in
        [("validating", "ValidatingWebhookConfiguration"), ("mutating", "MutatingWebhookConfiguration")]
    {
        for entry in installed[key].as_array_mut().unwrap() {
            entry["clientConfig"]["service"]["port"] = json!(port);
        }
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": "bonafide"}, "webhooks": installed[key]});
        plane.kubectl_reading(&apply, &object.to_string()).ok();
    }
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "bonafide", "namespace": NAMESPACE}, "spec": installed["lease"]});
    plane.kubectl_reading(&apply, &lease.to_string()).ok();
    let data = json!({"data": installed["secret"]}).to_string();
    let secret = ["patch", "secret", "bonafide-tls", "--namespace", NAMESPACE, "--field-manager=bonafide"];
    plane.kubectl(&[&secret[..], &["--type=merge", "--patch", &data]].concat()).ok();
    installed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_takes_over_what_the_version_before_wrote_without_a_gap() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let definitions = Definitions::of_the_version_before(&plane);
    // Helm would refuse to install other definitions than there are.
    let chart = repository("charts/bonafide");
    let mut release =
        Installation::from_chart(chart.as_ref(), &plane, NAMESPACE, Balancer::start(), &["--skip-crds"]);
    release.trust(&world);
    let shop = plane.namespace("inherited-shop");
    let policy = world.policy().replace("namespace: shop", "namespace: inherited-shop");
    shop.apply(&policy.replace("        triggers: [push]\n", "")).ok();
    definitions.upgrade();
    let installed = inherit(&plane, release.service.port);
    // The holder is gone, and nobody answers yet.
    let said = make(&plane, "inherited-shop", world.image("shop")).expect_err("no replica answers");
    assert!(said.contains("failed calling webhook"), "{said}");

    let mut watched = Watched::new(&plane).await;
    watched.entries("Fail");
    watched.pods("inherited-shop", world.image("bare"), Expected::Denied);
    let replica = release.replica("new-1");
    // It serves before it leads.
    eventually("a pod to be admitted", || make(&plane, "inherited-shop", world.image("shop")));
    assert_eq!(holder(&plane, NAMESPACE).unwrap(), "old");
    watched.pods("inherited-shop", world.image("shop"), Expected::Admitted);
    until_it_leads(&plane, NAMESPACE, "new-1");
    eventually("its entries", || is_of_this_version(&plane));
    is_closed(&plane).unwrap();
    // They go on selecting all namespaces for a while: a policy may have been admitted that this leader does not know yet.
    let selected =
        entries(&plane, VALIDATING).unwrap()[0]["namespaceSelector"]["matchExpressions"][0].clone();
    assert_eq!(selected["operator"], "NotIn", "{selected}");
    watched.more(20);
    watched.end().await;
    let said = make(&plane, "inherited-shop", world.image("bare")).unwrap_err();
    assert!(said.contains("NoProvenance"), "{said}");

    // The certificate, its key and its authority are those that there were.
    let secret = plane.get(&["secret", "bonafide-tls", "--namespace", NAMESPACE]).unwrap();
    assert_eq!(secret["data"], installed["secret"]);
    assert_eq!(installed["validating"][0]["clientConfig"]["caBundle"], watched::bundle(&plane));
    let log = replica.log();
    assert!(!log.contains("forbidden"), "{log}");
}
