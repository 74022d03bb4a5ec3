//! The custom resource definitions in a real API server: that it takes them, and what it then takes of policies.

use std::{process::Command, sync::Once};

use bonafide::cluster::webhooks::{WebhookSettings, validating};
use bonafide_kit::plane::{Client, eventually, free_port};
use serde_json::{Value, json};

use crate::{
    certificate::Certificate,
    crd_support::{cases, full},
    objects::{service, webhook_settings},
    shared::{alone, shared},
    webhook::Webhook,
};

/// Installs the definitions, once for all tests of the plane.
pub fn install(client: &Client) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let printed =
            Command::new(env!("CARGO_BIN_EXE_bonafide")).args(["manifests", "crd"]).output().unwrap();
        let manifests = String::from_utf8(printed.stdout).unwrap();
        client.apply(&manifests).ok();
        eventually("the definitions to be served", || client.kubectl(&["get", "pp,cpp", "-A"]).attempt());
    });
}

/// What kubectl says of each of many objects, asked at once.
fn say_of(client: &Client, objects: &[Value]) -> String {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let ran = client
        .kubectl_reading(&["create", "--dry-run=server", "--validate=false", "-f", "-"], &list.to_string());
    ran.out + &ran.err
}

#[test]
fn the_api_server_refuses_what_the_definitions_refuse_and_takes_the_rest() {
    let Some(plane) = shared() else { return };
    install(&plane);
    let cases = cases();
    let named = cases.iter().enumerate().map(|(at, case)| {
        let mut object = case.object.clone();
        object["metadata"]["name"] = json!(format!("case-{at}-end"));
        object
    });
    let said = say_of(&plane, &named.collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let name = format!("case-{at}-end");
        let line = said.lines().find(|line| line.contains(&name)).unwrap_or("nothing");
        if line.contains("created (server dry run)") != case.taken {
            wrong.push(format!("{} (taken: {}): {line}", case.bound, case.taken));
        }
    }
    assert!(wrong.is_empty(), "{}\n{said}", wrong.join("\n"));
}

#[test]
fn defaults_are_filled_in_and_what_has_no_value_is_dropped() {
    let Some(plane) = shared() else { return };
    install(&plane);
    let namespace = plane.namespace("defaults");
    let policy = json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ProvenancePolicy", "metadata": {"name": "p"},
        "spec": {
            "images": {"include": ["ghcr.io/o/a"], "exclude": null}, "mode": null, "provenance": null,
            "signers": [{"github": {"repository": "o/a", "refs": null}}],
        },
    });
    let create = ["create", "--validate=false", "-o", "json", "-f", "-", "--namespace", namespace.name()];
    let made = plane.kubectl_reading(&create, &policy.to_string()).ok();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(
        made["spec"],
        json!({
            "images": {"include": ["ghcr.io/o/a"]}, "mode": "Enforce", "subject": "Any", "tags": "Warn", "uncoveredPlatforms": "Deny",
            "signers": [{"trustRoot": "sigstore", "github":
                {"repository": "o/a", "issuer": "https://token.actions.githubusercontent.com"}}],
        })
    );
    assert_eq!(bonafide::api::compile::compile(&made, &bonafide::api::compile::NoKeys).errors, []);

    // Its status is another door, and conditions are told apart by their type.
    let condition = |status: &str| {
        json!({"type": "Ready", "status": status, "reason": "Compiled", "message": "in force",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
    };
    let status = json!({"status": {"observedGeneration": 1, "conditions": [condition("True")]}}).to_string();
    namespace.kubectl(&["patch", "pp", "p", "--subresource=status", "--type=merge", "--patch", &status]).ok();
    let shown = namespace.kubectl(&["get", "pp"]).ok();
    let columns: Vec<&str> = shown.lines().flat_map(str::split_whitespace).take(9).collect();
    assert_eq!(
        columns,
        ["NAME", "MODE", "IMAGES", "READY", "AGE", "p", "Enforce", "[\"ghcr.io/o/a\"]", "True"]
    );
    let status = json!({"status": {"conditions": [condition("Perhaps")]}}).to_string();
    let patch = ["patch", "pp", "p", "--subresource=status", "--type=merge", "--patch", &status];
    assert!(namespace.kubectl(&patch).refused().contains("Perhaps"));
}

#[test]
fn a_field_that_is_not_known_is_refused_by_kubectl() {
    let Some(plane) = shared() else { return };
    install(&plane);
    let mut policy = full();
    policy["spec"]["signers"][0]["github"]["workflowRef"] = json!("refs/tags/v*");
    let create = ["create", "--dry-run=server", "-f", "-"];
    let refused = plane.kubectl_reading(&create, &policy.to_string()).refused();
    assert!(refused.contains("unknown field \"spec.signers[0].github.workflowRef\""), "{refused}");
    plane.kubectl_reading(&create, &full().to_string()).ok();
    // Where fields are explained, so are bounds.
    let explained = plane.kubectl(&["explain", "clusterprovenancepolicy.spec.signers.github.refs"]).ok();
    assert!(explained.contains("never a pull request"), "{explained}");
}

/// What the schema lets pass is told by the webhook, and shown as if the API server had said it.
#[test]
fn kubectl_shows_what_else_is_wrong_field_by_field() {
    let Some(plane) = alone() else { return };
    install(&plane);
    let namespace = plane.namespace("vetted");
    let certificate = Certificate::of("bonafide.vetted.svc");
    let file = |name: &str, text: &str| {
        let path = plane.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let flags = [
        format!("--policies={}", file("none.yaml", "# none")),
        format!("--tls-cert={}", file("vetting.crt", &certificate.chain)),
        format!("--tls-key={}", file("vetting.key", &certificate.key)),
    ];
    let webhook = Webhook::start(&plane, plane.folder(), free_port(), &flags.each_ref().map(String::as_str));
    namespace.apply(&service("bonafide").to_string()).ok();
    let mut configuration = validating(&WebhookSettings {
        ca_bundle: Some(certificate.authority.into_bytes()),
        ..webhook_settings("vetted", webhook.port)
    });
    configuration.webhooks.as_mut().unwrap().retain(|webhook| webhook.name == "policies.bonafide.dev");
    plane.apply(&serde_json::to_string(&configuration).unwrap()).ok();

    let policy = |reference: &str| {
        json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ProvenancePolicy", "metadata": {"name": "p"},
            "spec": {"images": {"include": ["ghcr.io/o/**", "ghcr.io/o/app*"]},
                "signers": [{"github": {"repository": "o/*.git", "refs": [reference], "triggers": ["push"]}}]}})
    };
    let refused = eventually("the configuration to be in force", || {
        let create = ["--namespace=vetted", "create", "--dry-run=server", "-f", "-"];
        let ran = plane.kubectl_reading(&create, &policy("refs/tags/${image.tg}").to_string());
        if ran.worked { Err(ran.out) } else { Ok(ran.err) }
    });
    insta::assert_snapshot!(refused);
    let mut good = policy("refs/heads/main");
    good["spec"]["signers"][0]["github"]["repository"] = json!("o/a");
    let ran = namespace.apply(&good.to_string());
    assert!(ran.worked && ran.err.contains("Warning: spec.images.include[1]"), "{}{}", ran.out, ran.err);
    let refused = namespace
        .kubectl(&[
            "patch",
            "pp",
            "p",
            "--type=json",
            "--patch",
            r#"[{"op": "replace", "path": "/spec/signers/0/github/refs/0", "value": "refs/tags/${image.tg}"}]"#,
        ])
        .refused();
    insta::assert_snapshot!(refused);
}
