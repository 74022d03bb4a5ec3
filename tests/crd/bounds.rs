//! Each bound of the definitions, held against `policy check`: what one refuses the other refuses, and what is just within is fine.

use std::collections::BTreeMap;

use bonafide::api::compile::{Compiled, compile};
use serde_json::{Value, json};

use super::all_of;

/// A policy with every field that has a bound.
fn full() -> Value {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
        "spec": {
            "images": {"include": ["ghcr.io/o/**"], "exclude": ["ghcr.io/o/x"]},
            "namespaceSelector": {
                "matchLabels": {"a": "b"},
                "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}],
            },
            "signers": [
                {"name": "g", "trustRoot": "sigstore", "github": {
                    "repository": "o/a", "repositoryId": "1", "ownerId": "2", "workflow": "b/c/.github/workflows/x.yaml",
                    "workflowRefs": ["refs/tags/v1"], "refs": ["refs/tags/*"], "triggers": ["push"], "runner": "github-hosted",
                    "issuer": "https://token.actions.githubusercontent.com",
                }},
                {"name": "c", "certificate": {"issuer": "https://i.example", "subject": "x"}},
                {"name": "r", "certificate": {"issuer": "https://i.example", "subjectRegex": "x"}},
                {"name": "k", "publicKey": {
                    "pem": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n", "transparencyLog": "Optional",
                }},
            ],
            "provenance": {
                "types": ["https://slsa.dev/provenance/v1"], "builderIds": ["b"], "buildTypes": ["t"], "maxAge": "2160h",
                "source": {"repository": "https://github.com/o/a", "refs": ["refs/heads/*"]},
                "conditions": [{"expression": "true", "message": "m"}],
            },
        },
    })
}

/// What `policy check` refuses although the definition has it: what is not supported yet.
const NOT_SUPPORTED: [&str; 3] =
    ["public keys are not supported yet", "conditions are not supported yet", "sigstore is"];

/// What is wrong with it beside.
fn errors(compiled: &Compiled) -> Vec<String> {
    let all = compiled.errors.iter().map(ToString::to_string);
    all.filter(|error| !NOT_SUPPORTED.iter().any(|known| error.contains(known))).collect()
}

/// The full policy with another value at a place below its spec.
fn with(place: &str, value: Value) -> Compiled {
    let mut object = full();
    let (above, key) = place.rsplit_once('/').unwrap();
    match object["spec"].pointer_mut(above).unwrap_or_else(|| panic!("there is no {above}")) {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        _ => panic!("no such place"),
    }
    compile(&object)
}

fn texts(prefix: &'static str, suffix: &'static str) -> impl Fn(usize) -> Value {
    move |length| json!(format!("{prefix}{}{suffix}", "a".repeat(length - prefix.len() - suffix.len())))
}

fn lists(of: Value) -> impl Fn(usize) -> Value {
    move |length| Value::Array(vec![of.clone(); length])
}

/// A value of each length that is right but for its length.
type Of = Box<dyn Fn(usize) -> Value>;

/// Signers that are as many.
fn signers(length: usize) -> Value {
    let signer = |at: usize| json!({"name": format!("s{at}"), "certificate": {"issuer": "https://i.example", "subject": "x"}});
    (0..length).map(signer).collect()
}

/// Labels that are as many.
fn labels(length: usize) -> Value {
    Value::Object((0..length).map(|at| (format!("l{at}"), json!("v"))).collect())
}

/// For each field with a bound: where it is in the full policy, and what to put there.
fn bounded() -> BTreeMap<&'static str, (&'static str, Of)> {
    let rows: Vec<(&'static str, &'static str, Of)> = vec![
        ("images.include", "/images/include", Box::new(lists(json!("ghcr.io/o/a")))),
        ("images.include[]", "/images/include/0", Box::new(texts("ghcr.io/", ""))),
        ("images.exclude", "/images/exclude", Box::new(lists(json!("ghcr.io/o/a")))),
        ("images.exclude[]", "/images/exclude/0", Box::new(texts("ghcr.io/", ""))),
        ("namespaceSelector.matchLabels", "/namespaceSelector/matchLabels", Box::new(labels)),
        ("namespaceSelector.matchLabels{}", "/namespaceSelector/matchLabels/a", Box::new(texts("", ""))),
        (
            "namespaceSelector.matchExpressions",
            "/namespaceSelector/matchExpressions",
            Box::new(lists(json!({"key": "k", "operator": "Exists"}))),
        ),
        (
            "namespaceSelector.matchExpressions[].key",
            "/namespaceSelector/matchExpressions/0/key",
            // 63 behind the slash is a bound of the pattern.
            Box::new(|length| {
                let labels = [63, 63, 63, length - 256].map(|part| "a".repeat(part)).join(".");
                json!(format!("{labels}/{}", "n".repeat(63)))
            }),
        ),
        (
            "namespaceSelector.matchExpressions[].values",
            "/namespaceSelector/matchExpressions/0/values",
            Box::new(lists(json!("v"))),
        ),
        (
            "namespaceSelector.matchExpressions[].values[]",
            "/namespaceSelector/matchExpressions/0/values/0",
            Box::new(texts("", "")),
        ),
        ("signers", "/signers", Box::new(signers)),
        ("signers[].name", "/signers/0/name", Box::new(texts("", ""))),
        ("signers[].trustRoot", "/signers/0/trustRoot", Box::new(texts("", ""))),
        ("signers[].github.repository", "/signers/0/github/repository", Box::new(texts("o/", ""))),
        (
            "signers[].github.repositoryId",
            "/signers/0/github/repositoryId",
            Box::new(|n| json!("1".repeat(n))),
        ),
        ("signers[].github.ownerId", "/signers/0/github/ownerId", Box::new(|n| json!("1".repeat(n)))),
        (
            "signers[].github.workflow",
            "/signers/0/github/workflow",
            Box::new(texts(".github/workflows/", ".yml")),
        ),
        (
            "signers[].github.workflowRefs",
            "/signers/0/github/workflowRefs",
            Box::new(lists(json!("refs/tags/v1"))),
        ),
        (
            "signers[].github.workflowRefs[]",
            "/signers/0/github/workflowRefs/0",
            Box::new(texts("refs/tags/", "")),
        ),
        ("signers[].github.refs", "/signers/0/github/refs", Box::new(lists(json!("refs/tags/v1")))),
        ("signers[].github.refs[]", "/signers/0/github/refs/0", Box::new(texts("refs/tags/", ""))),
        ("signers[].github.triggers", "/signers/0/github/triggers", Box::new(lists(json!("push")))),
        ("signers[].github.triggers[]", "/signers/0/github/triggers/0", Box::new(texts("", ""))),
        ("signers[].github.issuer", "/signers/0/github/issuer", Box::new(texts("https://", ""))),
        ("signers[].certificate.issuer", "/signers/1/certificate/issuer", Box::new(texts("https://", ""))),
        ("signers[].certificate.subject", "/signers/1/certificate/subject", Box::new(texts("", ""))),
        (
            "signers[].certificate.subjectRegex",
            "/signers/2/certificate/subjectRegex",
            Box::new(texts("", "")),
        ),
        (
            "signers[].publicKey.pem",
            "/signers/3/publicKey/pem",
            Box::new(texts("-----BEGIN PUBLIC KEY-----\n", "\n-----END PUBLIC KEY-----\n")),
        ),
        ("provenance.types", "/provenance/types", Box::new(lists(json!("https://slsa.dev/provenance/v1")))),
        ("provenance.builderIds", "/provenance/builderIds", Box::new(lists(json!("b")))),
        ("provenance.builderIds[]", "/provenance/builderIds/0", Box::new(texts("", ""))),
        ("provenance.buildTypes", "/provenance/buildTypes", Box::new(lists(json!("b")))),
        ("provenance.buildTypes[]", "/provenance/buildTypes/0", Box::new(texts("", ""))),
        ("provenance.source.repository", "/provenance/source/repository", Box::new(texts("https://", ""))),
        ("provenance.source.refs", "/provenance/source/refs", Box::new(lists(json!("refs/heads/main")))),
        ("provenance.source.refs[]", "/provenance/source/refs/0", Box::new(texts("refs/heads/", ""))),
        (
            "provenance.maxAge",
            "/provenance/maxAge",
            Box::new(|length| json!(format!("{}1h", "0".repeat(length - 2)))),
        ),
        ("provenance.conditions", "/provenance/conditions", Box::new(lists(json!({"expression": "true"})))),
        (
            "provenance.conditions[].expression",
            "/provenance/conditions/0/expression",
            Box::new(texts("", "")),
        ),
        ("provenance.conditions[].message", "/provenance/conditions/0/message", Box::new(texts("", ""))),
    ];
    rows.into_iter().map(|(field, place, of)| (field, (place, of))).collect()
}

/// The field that an error is about, indices left out.
fn field_of(error: &str) -> String {
    error.split(": ").next().unwrap().chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[test]
fn every_upper_bound_is_one_of_policy_check_too() {
    assert_eq!(errors(&compile(&full())), Vec::<String>::new());
    let mut table = bounded();
    for (field, schema) in all_of("ClusterProvenancePolicy") {
        let most = ["maxLength", "maxItems", "maxProperties"].iter().find_map(|name| schema[name].as_u64());
        let Some(most) = most else { continue };
        let (place, of) = table.remove(field.as_str()).unwrap_or_else(|| panic!("{field} has no row"));
        let most = usize::try_from(most).unwrap();
        assert_eq!(errors(&with(place, of(most))), Vec::<String>::new(), "{field} at its bound");

        let beyond = errors(&with(place, of(most + 1)));
        assert!(
            beyond.len() == 1 && beyond[0].contains(&format!("at most {most} are accepted")),
            "{field}: {beyond:?}"
        );
        let field = field.strip_suffix("{}").map_or(field.clone(), |labels| format!("{labels}.a"));
        assert_eq!(field_of(&beyond[0]), format!("spec.{field}"));
    }
    assert_eq!(
        table.into_keys().collect::<Vec<_>>(),
        Vec::<&str>::new(),
        "rows of fields that have no bound"
    );
}

#[test]
fn every_pattern_and_lower_bound_is_one_of_policy_check_too() {
    let table = bounded();
    let mut held = 0;
    for (field, schema) in all_of("ClusterProvenancePolicy") {
        let mut refused = Vec::new();
        if schema["minLength"].as_u64().is_some_and(|least| least > 0) {
            refused.push(json!(""));
        }
        if schema["minItems"].as_u64().is_some_and(|least| least > 0) {
            refused.push(json!([]));
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            let none = "[\n";
            assert!(!regex::Regex::new(pattern).unwrap().is_match(none));
            refused.push(json!(none));
        }
        for value in refused {
            held += 1;
            let (place, _) = &table[field.as_str()];
            let told = with(place, value.clone()).errors;
            let field = field.strip_suffix("{}").map_or(field.clone(), |labels| format!("{labels}.a"));
            let fields: Vec<String> = told.iter().map(|error| field_of(&error.to_string())).collect();
            assert!(fields.contains(&format!("spec.{field}")), "{field} = {value}: {told:?}");
        }
    }
    assert!(held > 40, "{held}");
}

#[test]
fn every_word_and_every_required_field_is_one_of_policy_check_too() {
    let places = BTreeMap::from([
        ("mode", "/mode"),
        ("subject", "/subject"),
        ("tags", "/tags"),
        ("uncoveredPlatforms", "/uncoveredPlatforms"),
        ("namespaceSelector.matchExpressions[].operator", "/namespaceSelector/matchExpressions/0/operator"),
        ("signers[].github.runner", "/signers/0/github/runner"),
        ("signers[].publicKey.transparencyLog", "/signers/3/publicKey/transparencyLog"),
        ("provenance.types[]", "/provenance/types/0"),
    ]);
    let objects = BTreeMap::from([
        ("", ""),
        ("images", "/images"),
        ("namespaceSelector.matchExpressions[]", "/namespaceSelector/matchExpressions/0"),
        ("signers[].github", "/signers/0/github"),
        ("signers[].certificate", "/signers/1/certificate"),
        ("signers[].publicKey", "/signers/3/publicKey"),
        ("provenance.conditions[]", "/provenance/conditions/0"),
    ]);
    for (field, schema) in all_of("ClusterProvenancePolicy") {
        for word in schema["enum"].as_array().into_iter().flatten() {
            let place = places.get(field.as_str()).unwrap_or_else(|| panic!("{field} has no row"));
            assert_eq!(
                errors(&with(place, json!(word.as_str().unwrap().to_lowercase() + "x"))).len(),
                1,
                "{field}"
            );
            let told = errors(&with(place, word.clone()));
            assert!(told.iter().all(|error| !error.contains("is not one of")), "{field}: {told:?}");
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let place = objects.get(field.as_str()).unwrap_or_else(|| panic!("{field} has no row"));
            let mut object = full();
            let around = object["spec"].pointer_mut(place).unwrap().as_object_mut().unwrap();
            assert!(around.remove(name.as_str().unwrap()).is_some(), "{field}.{name}");
            let told = errors(&compile(&object));
            assert!(told.len() == 1 && told[0].contains(name.as_str().unwrap()), "{field}.{name}: {told:?}");
        }
    }
}

#[test]
fn every_rule_is_one_of_policy_check_too() {
    let github = json!({"repository": "o/a", "refs": ["refs/heads/main"]});
    let certificate = json!({"issuer": "https://i.example", "subject": "x"});
    let named = |name: &str| json!({"name": name, "certificate": certificate});
    // The message of each rule, with what breaks it and what keeps it.
    let mut rows = BTreeMap::from([
        (
            "is exactly one of github, certificate, publicKey",
            vec![
                (
                    "/signers/0",
                    json!({"github": github, "certificate": certificate}),
                    json!({"github": github}),
                ),
                ("/signers/0", json!({"name": "x"}), json!({"certificate": certificate})),
            ],
        ),
        (
            "belongs to a workflow, and none is named",
            vec![(
                "/signers/0/github",
                json!({"repository": "o/a", "workflowRefs": ["refs/tags/*"]}),
                json!({"repository": "o/a", "workflowRefs": []}),
            )],
        ),
        (
            "has exactly one of subject and subjectRegex",
            vec![
                (
                    "/signers/1/certificate",
                    json!({"issuer": "https://i.example", "subject": "x", "subjectRegex": "x"}),
                    json!({"issuer": "https://i.example", "subjectRegex": "x"}),
                ),
                ("/signers/1/certificate", json!({"issuer": "https://i.example"}), certificate.clone()),
            ],
        ),
        (
            "two signers have the same name",
            vec![(
                "/signers",
                json!([named("a"), named("b"), named("a")]),
                json!([named("a"), named("b"), {"certificate": certificate}, {"certificate": certificate}]),
            )],
        ),
        (
            "In and NotIn need values",
            vec![
                (
                    "/namespaceSelector/matchExpressions/0",
                    json!({"key": "k", "operator": "NotIn"}),
                    json!({"key": "k", "operator": "NotIn", "values": ["v"]}),
                ),
                (
                    "/namespaceSelector/matchExpressions/0",
                    json!({"key": "k", "operator": "In", "values": []}),
                    json!({"key": "k", "operator": "In", "values": ["v"]}),
                ),
            ],
        ),
        (
            "Exists and DoesNotExist take no values",
            vec![(
                "/namespaceSelector/matchExpressions/0",
                json!({"key": "k", "operator": "Exists", "values": ["v"]}),
                json!({"key": "k", "operator": "Exists", "values": []}),
            )],
        ),
    ]);
    for (field, schema) in all_of("ClusterProvenancePolicy") {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap();
            for (place, bad, good) in
                rows.remove(message).unwrap_or_else(|| panic!("{field}: {message} has no row"))
            {
                assert_eq!(errors(&with(place, good.clone())), Vec::<String>::new(), "{good}");
                let told = errors(&with(place, bad.clone()));
                assert_eq!(told.len(), 1, "{bad}: {told:?}");
            }
        }
    }
    assert!(rows.is_empty(), "rows of rules that are not there: {rows:?}");
}
