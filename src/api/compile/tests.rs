//! Every mistake with its message, and beside it what is right.

mod invalid;
mod objects;
mod signers;

use serde_json::json;

use super::*;
use crate::api::v1alpha1::API_VERSION;

fn good() -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "ProvenancePolicy", "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "images": {"include": ["ghcr.io/o/**"]},
            "signers": [{"name": "s", "github": {
                "repository": "o/a", "workflow": ".github/workflows/b.yml", "refs": ["refs/heads/main", "refs/tags/${image.tag}"],
                "triggers": ["push"],
            }}],
        },
    })
}

/// The good policy with the value at a path replaced, as (errors, warnings).
fn with(path: &str, value: Value) -> (Vec<String>, Vec<String>) {
    let mut object = good();
    let (above, key) = path.rsplit_once('/').unwrap();
    match object.pointer_mut(above).unwrap() {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        _ => panic!("no such place"),
    }
    let compiled = compile(&object, &NoKeys);
    assert_eq!(compiled.errors.is_empty(), matches!(compiled.entry, PolicyEntry::Valid(_)));
    let texts = |notes: &[Note]| notes.iter().map(ToString::to_string).collect();
    (texts(&compiled.errors), texts(&compiled.warnings))
}

#[test]
fn what_is_right_compiles_without_a_word() {
    let compiled = compile(&good(), &NoKeys);
    assert_eq!((compiled.errors, compiled.warnings), (vec![], vec![]));
    assert_eq!(compiled.entry.id().to_string(), "n/p");
}

#[test]
fn repositories_for_attestations_are_names_as_images_have_them() {
    let errors = |list: Value| with("/spec/attestations", json!({"repositories": list})).0;
    assert_eq!(errors(json!([])), Vec::<String>::new());
    assert_eq!(
        errors(json!(["ghcr.io/o/attestations", "r.example:5000/a", "localhost:5000/a"])),
        Vec::<String>::new()
    );
    let at = "spec.attestations.repositories[0]";
    for (name, why) in [
        ("ghcr.io/o/a:v1", "is a repository: write it without tag and digest"),
        ("ghcr.io/o/a@sha256:00", "is a repository: write it without tag and digest"),
        ("https://ghcr.io/o/a", "is a repository's name, without the scheme"),
        ("ghcr.io/o/*", "is one repository: it cannot be a pattern"),
        ("nginx", "is short for another name: write docker.io/library/nginx"),
        ("GHCR.io/o/a", "is short for another name: write ghcr.io/o/a"),
        ("index.docker.io/o/a", "is short for another name: write docker.io/o/a"),
    ] {
        assert_eq!(errors(json!([name])), [format!("{at}: {name:?} {why}")], "{name}");
    }
    for name in ["ghcr.io/O/a", "ghcr.io/o//a", "ghcr.io/o/a b", ""] {
        let errors = errors(json!([name]));
        assert!(errors.len() == 1 && errors[0].starts_with(&format!("{at}: ")), "{name}: {errors:?}");
    }
    let twice = errors(json!(["ghcr.io/o/a", "ghcr.io/o/a"]));
    assert_eq!(twice, ["spec.attestations.repositories[1]: \"ghcr.io/o/a\" is there twice"]);
    let many: Vec<String> = (0..9).map(|n| format!("ghcr.io/o/a{n}")).collect();
    assert_eq!(errors(json!(many[..8])), Vec::<String>::new());
    assert!(errors(json!(many))[0].starts_with("spec.attestations.repositories: "));
    let unknown = with("/spec/attestations", json!({"repository": "ghcr.io/o/a"})).0;
    assert_eq!(unknown, ["spec.attestations.repository: is no field here; did you mean repositories?"]);
}

#[test]
fn every_mistake_names_field_and_value() {
    let github = "/spec/signers/0/github";
    let cases = [
        ("/apiVersion", json!("bonafide.dev/v1")),
        ("/kind", json!("ProvenancPolicy")),
        ("/metadata/name", json!("")),
        ("/spec/mode", json!("enforce")),
        ("/spec/image", json!({})),
        ("/spec/images/include", json!([])),
        ("/spec/images/include/0", json!("ghcr.io/o/a:v1")),
        ("/spec/images/include/0", json!("nginx")),
        ("/spec/images/include/0", json!("bitnami/*")),
        ("/spec/images/include/0", json!("https://ghcr.io/o/a")),
        ("/spec/images/include/0", json!("GHCR.io/o/a")),
        ("/spec/images/include/0", json!("ghcr.io/[o]/a")),
        ("/spec/images/include/0", json!("ghcr.io/Owner/a")),
        ("/spec/images/include/0", json!("ghcr.io/o/")),
        ("/spec/images/include/0", json!("ghcr.io:443/o/*")),
        ("/spec/images/include/0", json!("index.docker.io/bitnami/*")),
        ("/spec/images/include/0", json!("docker.io/nginx")),
        ("/spec/images/include/0", json!("docker.io/*")),
        ("/spec/images/include/0", json!("*.IO/**")),
        ("/spec/images/exclude", json!(["ghcr.io/o/a:v1"])),
        ("/metadata/name", json!("a b\n")),
        ("/metadata/namespace", json!("")),
        ("/metadata/namespace", json!(5)),
        ("/specs", json!({})),
        ("/spec/uncoveredPlatforms", json!("Refuse")),
        ("/spec/namespaceSelector", json!({})),
        ("/spec/signers", json!([])),
        ("/spec/signers/0", json!({"name": "x"})),
        ("/spec/signers/0/certificate", json!({"issuer": "https://i.example", "subject": "x"})),
        ("/spec/signers/0", json!({"publicKey": {"pem": "x"}})),
        ("/spec/signers/0/trustRoot", json!("Corp Root")),
        (&format!("{github}/repository"), json!("*/*")),
        (&format!("{github}/repository"), json!("o*/a")),
        (&format!("{github}/repository"), json!("github.com/o/a")),
        (&format!("{github}/repository"), json!("")),
        (&format!("{github}/repositoryId"), json!("o/a")),
        (&format!("{github}/workflow"), json!("build.yml")),
        (&format!("{github}/workflow"), json!("o/b/.github/workflows/x.yml@refs/heads/main")),
        (&format!("{github}/workflow"), json!(".github/workflows/*.yml")),
        (&format!("{github}/refs/0"), json!("main")),
        (&format!("{github}/refs/0"), json!("refs/tags/${image.tg}")),
        (&format!("{github}/refs/0"), json!("refs/tags/${image.tag}*")),
        (&format!("{github}/triggers/0"), json!("on: push")),
        (&format!("{github}/runner"), json!("hosted")),
        (&format!("{github}/issuer"), json!("token.actions.githubusercontent.com")),
        ("/spec/signers/0", json!({"certificate": {"issuer": "https://i.example"}})),
        ("/spec/signers/0", json!({"certificate": {"issuer": "https://i.example", "subjectRegex": ".*"}})),
        ("/spec/signers/0", json!({"certificate": {"issuer": "https://i.example", "subjectRegex": "("}})),
        ("/spec/provenance", json!({"types": ["https://slsa.dev/provenance/v0.1"]})),
        ("/spec/provenance", json!({"maxAge": "ninety days"})),
        ("/spec/provenance", json!({"conditions": [{"expression": "'true'"}]})),
        ("/spec/provenance", json!({"source": {"repository": "o/a"}})),
    ];
    let mut told = Vec::new();
    for (path, value) in cases {
        let (errors, _) = with(path, value.clone());
        assert!(!errors.is_empty(), "{path} = {value} is accepted");
        told.push(errors.join("\n"));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_condition_that_does_not_compile_is_told_with_its_place() {
    let conditions = |expression: &str| {
        let conditions = json!([{"expression": "true"}, {"expression": expression, "message": "m"}]);
        with("/spec/provenance", json!({ "conditions": conditions }))
    };
    assert_eq!(conditions("certificate.runner == 'github-hosted'"), (vec![], vec![]));
    assert_eq!(conditions("image.tag.matches('^v[0-9]+$')"), (vec![], vec![]));
    let field = "spec.provenance.conditions[1].expression";
    let (errors, _) = conditions("certificate.runer == 'github-hosted'");
    assert!(
        errors[0].starts_with(&format!("{field}: at column 13: certificate has no field runer")),
        "{errors:?}"
    );
    let (errors, warnings) = conditions("image.tag.matches('v[0-9]+')");
    assert_eq!((errors.len(), warnings.len()), (0, 1));
    assert!(warnings[0].starts_with(&format!("{field}: matches \"v[0-9]+\" anywhere")), "{warnings:?}");
}

#[test]
fn what_is_wider_than_it_looks_is_a_warning() {
    let github = "/spec/signers/0/github";
    let cases = [
        ("/spec/images/include/0", json!("ghcr.io/o/app*")),
        ("/spec/images/exclude", json!(["ghcr.io/**"])),
        ("/spec/images/exclude", json!(["**/sandbox"])),
        ("/spec/images/exclude", json!(["ghcr.io/o/sandbox*"])),
        ("/metadata/namespace", Value::Null),
        (&*format!("{github}/repository"), json!("o/app*")),
        (&format!("{github}/refs"), json!([])),
        (&format!("{github}/refs/0"), json!("refs/heads/main*")),
        (&format!("{github}/refs/0"), json!("refs/heads/main**")),
        (&format!("{github}/refs/0"), json!("refs/pu**")),
        (&format!("{github}/refs/0"), json!("refs/pull/${image.tag}/merge")),
        (&format!("{github}/refs/0"), json!("refs/heads/${image.tag}")),
        (&format!("{github}/refs/0"), json!("refs/**")),
        (&format!("{github}/refs/0"), json!("refs/pull/*/merge")),
        (&format!("{github}/triggers/0"), json!("pull_request_target")),
        (&format!("{github}/triggers/0"), json!("workflow_run")),
        (&format!("{github}/triggers"), json!([])),
        (&format!("{github}/triggers/0"), json!("psh")),
        (&format!("{github}/workflow"), json!("o/b/.github/workflows/x.yml")),
        (&format!("{github}/issuer"), json!("https://token.actions.githubusercontent.com/")),
        (
            "/spec/signers/0",
            json!({"certificate": {"issuer": "https://i.example", "subjectRegex": "https://github.com/o/.*"}}),
        ),
        (
            "/spec/signers/0",
            json!({"certificate": {"issuer": "https://i.example", "subjectRegex": "https://github[.]com/.*"}}),
        ),
        (
            "/spec/signers/0",
            json!({"certificate": {"issuer": "https://i.example", "subjectRegex": "https://github[.]com/o/a/.*"}}),
        ),
        (
            "/spec/signers/0",
            json!({"certificate": {"issuer": "https://i.example", "subjectRegex": "a@partner|b@partner"}}),
        ),
    ];
    let mut told = Vec::new();
    for (path, value) in cases {
        let (errors, warnings) = with(path, value.clone());
        assert!(errors.is_empty() && !warnings.is_empty(), "{path} = {value}: {errors:?} {warnings:?}");
        told.push(warnings.join("\n"));
    }
    insta::assert_snapshot!(told.join("\n"));
    for silent in [
        json!("https://github[.]com/o/a/[.]github/workflows/[^/@]*@refs/tags/v[^/]*"),
        json!("build@partner[.]example"),
    ] {
        let signer = json!({"certificate": {"issuer": "https://i.example", "subjectRegex": silent}});
        assert_eq!(with("/spec/signers/0", signer), (vec![], vec![]));
    }
}

#[test]
fn every_error_is_told_at_once() {
    let mut object = good();
    object["spec"]["images"]["include"] = json!([]);
    object["spec"]["signers"][0]["github"]["refs"] = json!(["main", "dev"]);
    assert_eq!(compile(&object, &NoKeys).errors.len(), 3);
}

#[test]
fn an_invalid_policy_keeps_the_images_it_names() {
    let invalid = |object: &Value| match compile(object, &NoKeys).entry {
        PolicyEntry::Invalid(policy) => policy,
        PolicyEntry::Valid(policy) => panic!("{policy:?} is valid"),
    };
    let mut object = good();
    object["spec"]["signers"] = json!([]);
    let images = invalid(&object).images.clone().unwrap();
    assert!(
        images.selects(&"ghcr.io/o/x".parse().unwrap()) && !images.selects(&"ghcr.io/p/x".parse().unwrap())
    );
    object["spec"]["images"]["include"] = json!([1]);
    assert_eq!(invalid(&object).images, None);
    object["spec"] = Value::Null;
    assert_eq!(invalid(&object).images, None);
    let cluster = json!({"apiVersion": API_VERSION, "kind": "ClusterProvenancePolicy", "metadata": {"name": "c"},
        "spec": {"namespaceSelector": {"matchLabels": {"a": "b"}}, "images": {"include": ["**"]}}});
    assert!(invalid(&cluster).namespaces.is_some());
}

#[test]
fn arbitrary_objects_never_compile_by_accident() {
    for object in [json!(null), json!([]), json!({}), json!({"kind": 1}), json!({"spec": []}), json!("x")] {
        assert!(matches!(compile(&object, &NoKeys).entry, PolicyEntry::Invalid(_)), "{object}");
    }
}

#[test]
fn what_can_match_is_no_error() {
    for pattern in [
        "**",
        "ghcr.io/**",
        "*.gcr.io/**",
        "**/nginx",
        "docker.io/**",
        "docker.io/library/nginx",
        "docker.io/*/*",
        "localhost:5000/*",
        "localhost/*",
        "127.0.0.1:5000/**",
        "*/a/b",
        "ghcr.io/o/a-?",
        "ghcr.io/*-prod/**",
    ] {
        assert_eq!(with("/spec/images/include/0", json!(pattern)), (vec![], vec![]), "{pattern}");
    }
}

/// A pattern that is an error would, kept as it is written, protect nothing.
#[test]
fn a_namespace_that_cannot_be_read_is_every_namespace() {
    let mut object = good();
    object["metadata"]["namespace"] = json!("Payments");
    assert_eq!(compile(&object, &NoKeys).entry.id().namespace, None);
    object["metadata"]["namespace"] = json!("payments");
    assert_eq!(compile(&object, &NoKeys).entry.id().namespace.as_deref(), Some("payments"));
}

#[test]
fn a_misspelt_group_is_told_and_not_passed_over() {
    for version in [
        json!("bonafide.dev/v1"),
        json!("bonafied.dev/v1alpha1"),
        json!("Bonafide.dev/v1alpha1"),
        json!("bonafide.dev"),
        Value::Null,
    ] {
        let mut object = good();
        object["apiVersion"] = version;
        assert!(
            is_ours(&object) && matches!(compile(&object, &NoKeys).entry, PolicyEntry::Invalid(_)),
            "{object}"
        );
    }
    assert!(!is_ours(&json!({"apiVersion": "v1", "kind": "Service"})));
}

#[test]
fn slips_of_shape_and_of_content_are_told_together() {
    let object = json!({
        "apiVersion": API_VERSION, "kind": "ProvenancePolicy", "metadata": {"name": "p", "namespace": "n"},
        "spec": {
            "mode": "enforce",
            "image": {"include": []},
            "images": {"include": ["nginx", 5], "exclude": "ghcr.io/o/x"},
            "subject": null,
            "signers": [
                {"name": "a", "github": {"repositry": "o/a", "repository": "o/a", "repositoryId": 5, "refs": ["main", true], "triggers": null}},
                {"name": "b", "gthub": {}},
                "c",
                {"name": "d", "publicKey": {"pem": "x"}},
            ],
            "provenance": {"types": [], "maxAge": 2160, "conditions": [1]},
            "somethingElse": 1,
        },
    });
    let compiled = compile(&object, &NoKeys);
    assert!(matches!(compiled.entry, PolicyEntry::Invalid(_)));
    let told: Vec<String> = compiled.errors.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(told.join("\n"));
}
