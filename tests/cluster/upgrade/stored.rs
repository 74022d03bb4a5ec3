//! What users of the version before stored, under the definitions and replicas of this one.

use std::process::Command;

use bonafide_kit::{plane::ControlPlane, scenario::Scenario};
use serde_json::Value;

use super::{Definitions, repository, stored, until_as_before};
use crate::{installation::Installation, shared::alone};

const KINDS: &str = "provenancepolicies,clusterprovenancepolicies,trustroots";

/// The stored objects, each with its kind, name and spec.
fn objects(plane: &ControlPlane) -> Vec<(String, String, Value)> {
    let found = plane.get(&[KINDS, "--all-namespaces"]).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of =
        |object: &Value| (text(&object["kind"]), text(&object["metadata"]["name"]), object["spec"].clone());
    found["items"].as_array().unwrap().iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_stays_as_it_is_and_as_valid_as_it_was() {
    let Some(plane) = alone() else { return };
    let world = Scenario::start().await;
    let definitions = Definitions::of_the_version_before(&plane);
    plane.kubectl(&["delete", KINDS, "--all", "--all-namespaces"]).ok();
    let _stored = plane.namespace("stored");
    plane.apply(&stored(&world)).ok();
    let before = objects(&plane);
    assert_eq!(before.len(), super::verdicts_before().len());

    definitions.upgrade();
    assert_eq!(objects(&plane), before, "nothing is dropped, and nothing filled in");
    // Whatever users do with them goes on working, also with those that the new definitions would not take any more.
    plane.apply(&stored(&world)).ok();
    for (kind, name, _) in &before {
        plane.kubectl(&["--namespace=stored", "annotate", kind, name, "looked-at=yes"]).ok();
        if kind != "TrustRoot" {
            let patch = r#"{"spec": {"tags": "Deny"}}"#;
            plane
                .kubectl(&["--namespace=stored", "patch", kind, name, "--type=merge", "--patch", patch])
                .ok();
        }
    }

    let release = Installation::of(&plane, "upgraded-stored", &world);
    let webhook = release.replica("one");
    release.enforced();
    until_as_before(&plane);
    let log = webhook.log();
    assert!(!log.contains("forbidden"), "{log}");
}

/// What changes for whoever has them is said before the upgrade, by the command line of this version.
#[test]
fn the_check_announces_what_changes_for_a_stored_policy() {
    let checked = Command::new(env!("CARGO_BIN_EXE_bonafide"))
        .args(["policy", "check", &repository("tests/previous/policies.yaml")])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    // Of the trust root there is only its place.
    let lines = said.lines().map(|line| line.rsplit_once("/policies.yaml:").map_or(line, |(_, said)| said));
    let lines: Vec<&str> = lines.filter(|line| !line.contains("spec.trustedRoot")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
