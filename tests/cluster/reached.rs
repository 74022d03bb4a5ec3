//! Whether the API server reaches the webhook, and who is told where it does not.

use std::time::{Duration, Instant};

use bonafide_kit::{
    plane::{Client, ControlPlane, eventually},
    scenario::Scenario,
};
use serde_json::{Value, json};

use crate::{
    installation::{BAD, Installation, entries, make},
    objects::pod,
    shared::alone,
    webhook::Webhook,
};

const VALIDATING: &str = "validatingwebhookconfiguration";
const MUTATING: &str = "mutatingwebhookconfiguration";

/// The names of all entries, in order.
fn names(plane: &Client) -> Vec<String> {
    let all = [VALIDATING, MUTATING].iter().flat_map(|kind| entries(plane, kind).unwrap());
    let mut names: Vec<String> = all.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The conditions of a policy, each as its status and reason.
fn conditions(plane: &Client, what: &[&str]) -> Result<Vec<String>, String> {
    let object = plane.get(what)?;
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    Ok(conditions
        .iter()
        .map(|one| format!("{}={} {}", text(one, "type"), text(one, "status"), text(one, "reason")))
        .collect())
}

fn until(what: &str, plane: &Client, policy: &[&str], expected: [&str; 2]) {
    eventually(what, || {
        let found = conditions(plane, policy)?;
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

fn counted(webhook: &Webhook, line: &str) -> Result<(), String> {
    let metrics = webhook.get("/metrics")?;
    let ours = || metrics.lines().filter(|line| line.starts_with("bonafide_webhook"));
    if metrics.lines().any(|found| found.starts_with(line)) {
        Ok(())
    } else {
        Err(ours().collect::<Vec<_>>().join("\n"))
    }
}

/// The events of a reason, as their notes.
fn events(plane: &Client, reason: &str) -> Result<Vec<String>, String> {
    let selector = format!("--field-selector=reason={reason}");
    let found = plane.get(&["events.events.k8s.io", "--all-namespaces", &selector])?;
    let all = found["items"].as_array().cloned().unwrap_or_default();
    Ok(all.iter().map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect())
}

/// A policy of another engine that refuses every probe.
fn refuse_probes(plane: &ControlPlane) {
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-probes"}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"], "resources": ["leases", "provenancepolicies"]}]},
            "validations": [{"expression": "!request.dryRun", "message": "no dry runs here"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-probes"}, "spec": {"policyName": "no-probes", "validationActions": ["Deny"]}});
    plane.apply(&policy.to_string()).ok();
    plane.apply(&binding.to_string()).ok();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "refused", "namespace": "default"}});
    eventually("probes to be refused", || {
        let ran = plane.kubectl_reading(&["create", "--dry-run=server", "-f", "-"], &lease.to_string());
        if ran.err.contains("no dry runs here") { Ok(()) } else { Err(ran.out + &ran.err) }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn e2_while_the_webhook_is_not_reached_nothing_waits_and_everybody_is_told() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "reached", &world);
    let shop = plane.namespace("reached-shop");
    shop.apply(&world.policy().replace("namespace: shop", "namespace: reached-shop")).ok();
    let policy = ["pp", "shop", "--namespace=reached-shop"];
    // It serves, and the Service does not lead to it.
    let webhook = release.pod("one");
    until(
        "it to be said",
        &plane,
        &policy,
        ["Ready=False WebhookNotReached", "Reviewed=False WebhookNotReached"],
    );
    let ours = ["lease.bonafide.dev", "lease.bonafide.dev", "policies.bonafide.dev"];
    assert_eq!(names(&plane), ours);
    let begun = Instant::now();
    make(&plane, "reached-shop", BAD).expect("nobody is asked");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    counted(&webhook, "bonafide_webhook_entries{entry=\"workloads\",state=\"absent\"} 1").unwrap();
    counted(&webhook, "bonafide_webhook_entries{entry=\"workloads\",state=\"fail\"} 0").unwrap();
    counted(&webhook, "bonafide_leader 1").unwrap();
    eventually("the metric", || match counted(&webhook, "bonafide_webhook_unreached_seconds 0") {
        Ok(()) => Err("it is said to be reached".to_owned()),
        Err(_) => Ok(()),
    });
    eventually("an event", || match events(&plane, "WebhookNotReached")?.first() {
        Some(note) if note.contains("cannot connect to the Service") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    // What another engine says of the probe does not matter.
    refuse_probes(&plane);
    release.service.add(webhook.port);
    release.enforced();
    until("it to be in force", &plane, &policy, ["Ready=True Compiled", "Reviewed=True FailurePolicyFail"]);
    counted(&webhook, "bonafide_webhook_unreached_seconds 0").unwrap();
    eventually("its end to be told", || match events(&plane, "WebhookInForce")?.len() {
        0 => Err("it is not".to_owned()),
        _ => Ok(()),
    });
    plane
        .kubectl(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "no-probes"])
        .ok();

    // Deleted, it is told, and not made again.
    plane.kubectl(&["delete", VALIDATING, "bonafide"]).ok();
    until(
        "it to be missing",
        &plane,
        &policy,
        ["Ready=False ConfigurationMissing", "Reviewed=False ConfigurationMissing"],
    );
    counted(&webhook, "bonafide_webhook_entries{entry=\"workloads\",state=\"absent\"} 1").unwrap();
    eventually("an event", || match events(&plane, "ConfigurationMissing")?.len() {
        0 => Err("there is none".to_owned()),
        _ => Ok(()),
    });

    // Uninstalled, nothing of it stays in its namespace.
    let lease = ["lease", "bonafide", "--namespace=reached"];
    plane.get(&lease).unwrap();
    plane.helm(&["uninstall", "bonafide", "--namespace=reached"]).ok();
    eventually("the Lease to go", || plane.get(&lease).map_or(Ok(()), |lease| Err(lease.to_string())));
    drop(webhook);
    plane.get(&lease).unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn e7_each_denied_object_has_an_event_of_its_own_and_a_dry_run_has_none() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let release = Installation::of(&plane, "telling", &world);
    let webhook = release.replica("one");
    release.enforced();
    let shop = plane.namespace("telling-shop");
    shop.apply(&world.policy().replace("namespace: shop", "namespace: telling-shop")).ok();
    let bare = |name: &str| pod(name, world.image("bare")).to_string();
    let create = |name: &str, how: &[&str]| {
        let call = [&["--namespace=telling-shop", "create", "-f", "-"], how].concat();
        plane.kubectl_reading(&call, &bare(name)).attempt()
    };
    eventually("the policy to be in force", || match create("dry", &["--dry-run=server"]) {
        Err(said) if said.contains("NoProvenance") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    for name in ["first", "second"] {
        let said = create(name, &[]).expect_err("it has no provenance");
        assert!(!said.contains("UnpinnedTag"), "{said}");
    }
    let notes = eventually("both to be told of", || {
        let found = shop.get(&["events.events.k8s.io", "--field-selector=reason=NoProvenance"])?;
        let all = found["items"].as_array().cloned().unwrap_or_default();
        if all.len() == 2 { Ok(all) } else { Err(found.to_string()) }
    });
    for name in ["first", "second"] {
        let of = |event: &&Value| event["related"]["name"] == name && event["related"]["kind"] == "Pod";
        let event = notes.iter().find(of).unwrap();
        assert!(event["note"].as_str().unwrap().contains(&format!("Pod telling-shop/{name}")), "{event}");
        assert_eq!(event["regarding"]["kind"], "ProvenancePolicy");
    }
    let metrics = webhook.get("/metrics").unwrap();
    assert!(
        metrics.contains("bonafide_reviews_total{verdict=\"denied\",reason=\"NoProvenance\"} 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("bonafide_dry_run_reviews_total{verdict=\"denied\",reason=\"NoProvenance\"}"),
        "{metrics}"
    );
    let log = webhook.log();
    let denied = log.lines().find(|line| line.contains("\"denied\"") && line.contains("\"first\"")).unwrap();
    assert!(denied.contains("telling-shop/shop") && denied.contains("\"denial\""), "{denied}");
}
