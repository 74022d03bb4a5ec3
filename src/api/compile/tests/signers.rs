//! Signers of each kind: every mistake, everything that is wider than it looks, and beside it what is right.

use super::*;

/// What is said of the good policy with this signer: errors, warnings.
fn signed_by(signer: Value) -> (Vec<String>, Vec<String>) {
    with("/spec/signers/0", signer)
}

/// The same, with the source that must be claimed: where the certificate has none, that is asked for.
fn claiming(signer: Value) -> (Vec<String>, Vec<String>) {
    let mut object = good();
    object["spec"]["signers"][0] = signer;
    object["spec"]["provenance"] = json!({"source": {"repository": "https://github.com/o/a"}});
    let compiled = compile(&object, &NoKeys);
    let texts = |notes: &[Note]| notes.iter().map(ToString::to_string).collect();
    (texts(&compiled.errors), texts(&compiled.warnings))
}

fn changed(kind: &str, sound: &Value, field: &str, value: Value) -> Value {
    let mut signer = sound.clone();
    signer[field] = value;
    json!({kind: signer})
}

fn github() -> Value {
    json!({"repository": "o/a", "workflow": ".github/workflows/b.yml", "refs": ["refs/heads/main"], "triggers": ["push"], "environments": ["production"]})
}

fn gitlab() -> Value {
    json!({
        "project": "group/sub/app", "projectId": "1", "namespaceId": "2", "config": ".gitlab-ci.yml",
        "configRefs": ["refs/heads/main"], "refs": ["refs/heads/main"], "refType": "branch", "triggers": ["push"],
        "runner": "gitlab-hosted", "environments": ["production"],
    })
}

fn buildkite() -> Value {
    json!({"organization": "acme", "pipeline": "app", "refs": ["refs/heads/main"], "triggers": ["webhook"], "runner": "self-hosted"})
}

fn google() -> Value {
    json!({"serviceAccount": "builder@acme-builds.iam.gserviceaccount.com"})
}

#[test]
fn what_is_right_compiles_without_a_word() {
    let silent = (vec![], vec![]);
    assert_eq!(signed_by(json!({"github": github()})), silent);
    assert_eq!(signed_by(json!({"gitlab": gitlab()})), silent);
    assert_eq!(claiming(json!({"buildkite": buildkite()})), silent);
    assert_eq!(claiming(json!({"googleCloudBuild": google()})), silent);
    let slug = "https://token.actions.githubusercontent.com/acme-corp";
    for issuer in [slug, "https://token.actions.acme.ghe.com"] {
        assert_eq!(signed_by(changed("github", &github(), "issuer", json!(issuer))), silent);
    }
    for (field, value) in [
        ("issuer", json!("https://gitlab.acme.example")),
        ("config", json!("ci/build.yaml")),
        ("config", json!("group/ci//templates/build.yml")),
        ("project", json!("group/app-*")),
        ("project", json!("group/*")),
    ] {
        assert_eq!(signed_by(changed("gitlab", &gitlab(), field, value)), silent);
    }
    let tags = json!({"project": "group/app", "refType": "tag"});
    assert_eq!(signed_by(json!({"gitlab": tags})), silent);
    assert_eq!(claiming(changed("buildkite", &buildkite(), "pipeline", json!("app-*"))), silent);
    let legacy = json!({"serviceAccount": "123456@cloudbuild.gserviceaccount.com"});
    assert_eq!(claiming(json!({"googleCloudBuild": legacy})), silent);
    // The workflow as a whole, beside the source that is claimed and, where the certificate names it, proved.
    let issuer = "https://token.actions.githubusercontent.com";
    let workflow = json!({"issuer": issuer, "subject": "https://github.com/o/b/.github/workflows/x.yml@refs/tags/v1", "triggers": ["push"]});
    assert_eq!(claiming(json!({"certificate": workflow})), silent);
}

#[test]
fn every_mistake_names_field_and_value() {
    let mut told = Vec::new();
    let mut refused = |signer: Value| {
        let (errors, _) = claiming(signer.clone());
        assert!(!errors.is_empty(), "{signer} is accepted");
        told.push(errors.join("\n"));
    };
    refused(json!({"github": github(), "gitlab": gitlab()}));
    // The builder alone: it would accept whatever anybody builds with it.
    let world = "slsa-framework/slsa-github-generator/.github/workflows/generator_container_slsa3.yml";
    refused(
        json!({"github": {"workflow": world, "workflowRefs": ["refs/tags/v*"], "refs": ["refs/heads/main"]}}),
    );
    refused(
        json!({"github": {"repository": "*/*", "workflow": world, "workflowRefs": ["refs/tags/v*"], "refs": ["refs/heads/main"]}}),
    );
    refused(changed("github", &github(), "environments", json!(["prod*"])));
    for (field, value) in [
        ("project", json!("")),
        ("project", json!("app")),
        ("project", json!("gr*/app")),
        ("project", json!("group/*/app")),
        ("project", json!("group/**")),
        ("project", json!("https://gitlab.com/group/app")),
        ("projectId", json!("group/app")),
        ("namespaceId", json!("x")),
        ("config", json!(".gitlab-ci.yml@refs/heads/main")),
        ("config", json!("*.yml")),
        ("config", json!("app//ci.yml")),
        ("config", json!("group/app/.gitlab-ci")),
        ("config", json!(null)),
        ("configRefs", json!(["main"])),
        ("refs", json!(["main"])),
        ("refs", json!(["refs/tags/v*"])),
        ("refType", json!("heads")),
        ("triggers", json!(["Push"])),
        ("runner", json!("github-hosted")),
        ("environments", json!(["review/*"])),
        ("issuer", json!("gitlab.com")),
    ] {
        refused(changed("gitlab", &gitlab(), field, value));
    }
    refused(
        json!({"gitlab": {"project": "g/a", "refs": ["refs/heads/main"], "configRefs": ["refs/heads/main"]}}),
    );
    for (field, value) in [
        ("organization", json!("")),
        ("organization", json!("*")),
        ("organization", json!("acme/app")),
        ("pipeline", json!("")),
        ("pipeline", json!("a/b")),
        ("refs", json!(["main"])),
        ("triggers", json!(["git push"])),
        ("runner", json!("hosted")),
    ] {
        refused(changed("buildkite", &buildkite(), field, value));
    }
    for google in [
        json!({}),
        json!({"serviceAccount": "b@acme.iam.gserviceaccount.com", "project": "acme"}),
        json!({"serviceAccount": "me@acme.example"}),
        json!({"serviceAccount": "b@evil.example/.gserviceaccount.com"}),
        json!({"serviceAccount": "*@acme.iam.gserviceaccount.com"}),
        json!({"project": "acme.iam"}),
        json!({"project": "*"}),
        json!({"project": "gcp-sa-cloudbuild"}),
    ] {
        refused(json!({"googleCloudBuild": google}));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_wider_than_it_looks_is_a_warning() {
    let mut told = Vec::new();
    let mut warned = |(errors, warnings): (Vec<String>, Vec<String>)| {
        assert!(errors.is_empty() && !warnings.is_empty(), "{errors:?} {told:?}");
        told.push(warnings.join("\n"));
    };
    warned(signed_by(changed(
        "github",
        &github(),
        "issuer",
        json!("https://github.acme.example/_services/token"),
    )));
    let issuer = "https://token.actions.githubusercontent.com";
    let workflow =
        json!({"issuer": issuer, "subject": "https://github.com/o/b/.github/workflows/x.yml@refs/tags/v1"});
    warned(signed_by(json!({"certificate": workflow})));
    for (field, value) in [
        ("project", json!("group/app*")),
        ("config", json!("group/ci//build.yml")),
        ("refs", json!([])),
        ("refs", json!(["refs/heads/main*"])),
        ("triggers", json!(["merge_request_event"])),
        ("triggers", json!(["psh"])),
        ("issuer", json!("https://gitlab.com/")),
    ] {
        let mut sound = gitlab();
        sound.as_object_mut().unwrap().remove("configRefs").unwrap();
        warned(signed_by(changed("gitlab", &sound, field, value)));
    }
    warned(signed_by(json!({"gitlab": {"project": "group/app"}})));
    for (field, value) in [
        ("pipeline", json!("app*")),
        ("refs", json!([])),
        ("triggers", json!(["push"])),
        ("triggers", json!([])),
    ] {
        warned(claiming(changed("buildkite", &buildkite(), field, value)));
    }
    warned(signed_by(json!({"buildkite": buildkite()})));
    warned(signed_by(json!({"googleCloudBuild": google()})));
    warned(claiming(json!({"googleCloudBuild": {"project": "acme-builds"}})));
    let compute = "123456-compute@developer.gserviceaccount.com";
    warned(claiming(changed("googleCloudBuild", &google(), "serviceAccount", json!(compute))));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn levels_are_numbers_that_some_signer_reaches() {
    let leveled = |level: Value, least: Value| {
        let mut object = good();
        object["spec"]["signers"][0]["level"] = level;
        object["spec"]["provenance"] = json!({"minLevel": least});
        let second = json!({"name": "t", "github": github()});
        object["spec"]["signers"].as_array_mut().unwrap().push(second);
        let compiled = compile(&object, &NoKeys);
        let texts = |notes: &[Note]| notes.iter().map(ToString::to_string).collect::<Vec<_>>();
        (texts(&compiled.errors), texts(&compiled.warnings))
    };
    assert_eq!(leveled(json!(3), json!(1)), (vec![], vec![]));
    let (errors, warned) = leveled(json!(3), json!(2));
    assert_eq!(errors, Vec::<String>::new());
    let mut told = warned;
    for (level, least) in [
        (json!(2), json!(3)),
        (json!(0), json!(1)),
        (json!(4), json!(1)),
        (json!("3"), json!(1)),
        (json!(2.5), json!(1)),
        (json!(3), json!(4)),
        (json!(3), json!("L3")),
    ] {
        let (errors, _) = leveled(level, least);
        assert!(!errors.is_empty());
        told.extend(errors);
    }
    insta::assert_snapshot!(told.join("\n"));
    let (errors, _) = with("/spec/signers/0/builderIds", json!(["https://builder.example/[x]"]));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(with("/spec/signers/0/builderIds", json!(["https://builder.example/*"])), (vec![], vec![]));
}

/// A policy of before the field stays valid. It is told what is missing.
#[test]
fn a12_a_policy_without_signers_of_summaries_is_valid_and_is_told() {
    let compiled = |spec: serde_json::Value| {
        let object = serde_json::json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
            "spec": spec,
        });
        let compiled = crate::api::compile::compile(&object, &crate::api::compile::NoKeys);
        let told = |notes: &[crate::api::compile::Note]| {
            notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        (told(&compiled.errors), told(&compiled.warnings))
    };
    let images = serde_json::json!({"include": ["ghcr.io/o/**"]});
    let signers =
        serde_json::json!([{"certificate": {"issuer": "https://i.example", "subject": "v@example.com"}}]);
    let vsa = serde_json::json!({"verifierIds": ["https://v.example"]});
    let source = serde_json::json!({"source": {"repository": "https://github.com/o/a"}});
    let before = serde_json::json!({"images": images, "signers": signers, "vsa": vsa, "provenance": source});
    let missing = "spec.vsa.signers: is missing: no verification summary suffices until it names who may sign summaries";
    assert_eq!(compiled(before), (String::new(), missing.to_owned()));
    let mut alone = vsa.clone();
    alone["signers"] = signers;
    assert_eq!(compiled(serde_json::json!({"images": images, "vsa": alone})), (String::new(), String::new()));
    let (errors, _) = compiled(serde_json::json!({"images": images, "vsa": vsa}));
    assert_eq!(errors, "spec.signers: is empty: nobody could sign; name at least one signer");
}
