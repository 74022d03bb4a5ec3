//! Every bound of the custom resource definitions, as policies: just within it, and just beyond.
#![allow(dead_code)]

mod builders;

use std::collections::BTreeMap;

use bonafide::api::crd;
use serde_json::{Value, json};

/// A policy that holds one bound, or breaks it.
pub struct Case {
    /// The bound: `signers[].name maxLength`.
    pub bound: String,
    /// The field: `spec.signers[].name`.
    pub field: String,
    /// The bound itself, where it is one from above.
    pub most: Option<usize>,
    /// Whether the definition takes it.
    pub taken: bool,
    pub object: Value,
}

/// The schema of a kind's spec.
pub fn spec_schema(kind: &str) -> Value {
    let definitions = crd::definitions().map(|definition| serde_json::to_value(definition).unwrap());
    let one = definitions.iter().find(|definition| definition["spec"]["names"]["kind"] == kind).unwrap();
    one.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap().clone()
}

/// Every schema within one, with the field it is of: `signers[].github.refs[]`.
fn schemas(field: &str, schema: &Value, found: &mut Vec<(String, Value)>) {
    found.push((field.to_owned(), schema.clone()));
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let field = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
        schemas(&field, inner, found);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(inner) = schema.get(key) {
            schemas(&format!("{field}{mark}"), inner, found);
        }
    }
}

pub fn all_of(kind: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    schemas("", &spec_schema(kind), &mut found);
    assert!(found.len() > 10);
    found
}

/// A policy with every field that has a bound.
pub fn full() -> Value {
    json!({
        "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
        "spec": {
            "images": {"include": ["ghcr.io/o/**"], "exclude": ["ghcr.io/o/x"]},
            "namespaceSelector": {
                "matchLabels": {"a": "b"},
                "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}],
            },
            "signers": [
                {"name": "g", "trustRoot": "sigstore", "builderIds": ["b"], "level": 3, "github": {
                    "repository": "o/a", "repositoryId": "1", "ownerId": "2", "workflow": "b/c/.github/workflows/x.yaml",
                    "workflowRefs": ["refs/tags/v1"], "refs": ["refs/tags/*"], "triggers": ["push"], "runner": "github-hosted",
                    "issuer": "https://token.actions.githubusercontent.com", "environments": ["production"],
                }},
                {"name": "c", "certificate": {"issuer": "https://i.example", "subject": "x", "triggers": ["push"]}},
                {"name": "r", "certificate": {"issuer": "https://i.example", "subjectRegex": "x"}},
                {"name": "k", "publicKey": {
                    "pem": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n", "transparencyLog": "Optional",
                }},
                {"name": "l", "gitlab": {
                    "project": "o/a", "projectId": "1", "namespaceId": "2", "config": "b/c//x.yml", "configRefs": ["refs/tags/v1"],
                    "refs": ["refs/tags/*"], "refType": "tag", "triggers": ["push"], "runner": "gitlab-hosted",
                    "environments": ["production"], "issuer": "https://gitlab.com",
                }},
                {"name": "b", "buildkite": {
                    "organization": "o", "pipeline": "a", "refs": ["refs/tags/*"], "triggers": ["webhook"],
                    "runner": "self-hosted",
                }},
                {"name": "a", "googleCloudBuild": {"serviceAccount": "b@p.iam.gserviceaccount.com"}},
                {"name": "p", "googleCloudBuild": {"project": "acme-builds"}},
                {"name": "s", "publicKey": {"secretRef": {"name": "cosign", "key": "cosign.pub"}}},
                {"name": "m", "publicKey": {"configMapRef": {"name": "cosign", "key": "cosign.pub"}}},
            ],
            "provenance": {
                "types": ["https://slsa.dev/provenance/v1"], "builderIds": ["b"], "buildTypes": ["t"], "maxAge": "2160h", "minLevel": 1,
                "source": {"repository": "https://github.com/o/a", "refs": ["refs/heads/*"]},
                "conditions": [{"expression": "true", "message": "m"}],
            },
            "attestations": {"repositories": ["ghcr.io/o/attestations"]},
            "vsa": {"signers": [{"name": "v", "certificate": {"issuer": "https://i.example", "subject": "v@example.com"}}],
                "verifierIds": ["https://v.example"], "minLevel": 2, "policyUris": ["https://p.example"]},
        },
    })
}

/// The full policy with another value at a place below its spec.
fn with(place: &str, value: Value) -> Value {
    let mut object = full();
    let Some((above, key)) = place.rsplit_once('/') else {
        object["spec"] = value;
        return object;
    };
    match object["spec"].pointer_mut(above).unwrap_or_else(|| panic!("there is no {above}")) {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        _ => panic!("no such place"),
    }
    object
}

fn texts(prefix: &'static str, suffix: &'static str) -> impl Fn(usize) -> Value {
    move |length| json!(format!("{prefix}{}{suffix}", "a".repeat(length - prefix.len() - suffix.len())))
}

fn lists(of: Value) -> impl Fn(usize) -> Value {
    move |length| Value::Array(vec![of.clone(); length])
}

/// A value of each length that is right but for its length.
type Of = Box<dyn Fn(usize) -> Value>;

/// Repositories that are as many, each another.
fn repositories(length: usize) -> Value {
    (0..length).map(|n| format!("ghcr.io/o/a{n}")).collect()
}

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
#[allow(clippy::too_many_lines, reason = "a list, one bound each")]
fn bounded() -> BTreeMap<&'static str, (&'static str, Of)> {
    let rows: Vec<(&'static str, &'static str, Of)> = vec![
        ("images.include", "/images/include", Box::new(lists(json!("ghcr.io/o/a")))),
        ("images.include[]", "/images/include/0", Box::new(texts("ghcr.io/", ""))),
        ("images.exclude", "/images/exclude", Box::new(lists(json!("ghcr.io/o/a")))),
        ("attestations.repositories", "/attestations/repositories", Box::new(repositories)),
        ("attestations.repositories[]", "/attestations/repositories/0", Box::new(texts("ghcr.io/", ""))),
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
        ("signers[].builderIds", "/signers/0/builderIds", Box::new(lists(json!("b")))),
        ("signers[].builderIds[]", "/signers/0/builderIds/0", Box::new(texts("", ""))),
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
        ("signers[].certificate.triggers", "/signers/1/certificate/triggers", Box::new(lists(json!("push")))),
        ("signers[].certificate.triggers[]", "/signers/1/certificate/triggers/0", Box::new(texts("", ""))),
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
        (
            "signers[].publicKey.secretRef.name",
            "/signers/8/publicKey/secretRef/name",
            Box::new(texts("", "")),
        ),
        ("signers[].publicKey.secretRef.key", "/signers/8/publicKey/secretRef/key", Box::new(texts("", ""))),
        (
            "signers[].publicKey.configMapRef.name",
            "/signers/9/publicKey/configMapRef/name",
            Box::new(texts("", "")),
        ),
        (
            "signers[].publicKey.configMapRef.key",
            "/signers/9/publicKey/configMapRef/key",
            Box::new(texts("", "")),
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
            Box::new(texts("'", "' == ''")),
        ),
        ("provenance.conditions[].message", "/provenance/conditions/0/message", Box::new(texts("", ""))),
        ("vsa.verifierIds", "/vsa/verifierIds", Box::new(lists(json!("v")))),
        ("vsa.verifierIds[]", "/vsa/verifierIds/0", Box::new(texts("", ""))),
        ("vsa.policyUris", "/vsa/policyUris", Box::new(lists(json!("p")))),
        ("vsa.policyUris[]", "/vsa/policyUris/0", Box::new(texts("", ""))),
    ];
    rows.into_iter().chain(builders::bounded()).map(|(field, place, of)| (field, (place, of))).collect()
}

/// A value that has a word in it.
type OfWord = fn(&str) -> Value;

/// The fields of which each takes one word of a list, and where they are.
fn worded() -> BTreeMap<&'static str, (&'static str, OfWord)> {
    let word: OfWord = |word| json!(word);
    let operator: OfWord = |word| match word {
        "In" | "NotIn" => json!({"key": "k", "operator": word, "values": ["v"]}),
        _ => json!({"key": "k", "operator": word}),
    };
    BTreeMap::from([
        ("mode", ("/mode", word)),
        ("subject", ("/subject", word)),
        ("tags", ("/tags", word)),
        ("uncoveredPlatforms", ("/uncoveredPlatforms", word)),
        (
            "namespaceSelector.matchExpressions[].operator",
            ("/namespaceSelector/matchExpressions/0", operator),
        ),
        ("signers[].github.runner", ("/signers/0/github/runner", word)),
        (
            "signers[].gitlab.refType",
            ("/signers/4/gitlab", |word| json!({"project": "o/a", "refs": ["refs/**"], "refType": word})),
        ),
        ("signers[].gitlab.runner", ("/signers/4/gitlab/runner", word)),
        ("signers[].buildkite.runner", ("/signers/5/buildkite/runner", word)),
        ("signers[].publicKey.transparencyLog", ("/signers/3/publicKey/transparencyLog", word)),
        ("provenance.types[]", ("/provenance/types/0", word)),
    ])
}

/// The objects that have required fields, and where they are.
const OBJECTS: [(&str, &str); 10] = [
    ("", ""),
    ("images", "/images"),
    ("namespaceSelector.matchExpressions[]", "/namespaceSelector/matchExpressions/0"),
    ("signers[].github", "/signers/0/github"),
    ("signers[].certificate", "/signers/1/certificate"),
    ("signers[].publicKey.secretRef", "/signers/8/publicKey/secretRef"),
    ("signers[].publicKey.configMapRef", "/signers/9/publicKey/configMapRef"),
    ("signers[].gitlab", "/signers/4/gitlab"),
    ("signers[].buildkite", "/signers/5/buildkite"),
    ("provenance.conditions[]", "/provenance/conditions/0"),
];

/// The fields that are numbers, and where they are.
const NUMBERS: [(&str, &str); 3] = [
    ("signers[].level", "/signers/0/level"),
    ("provenance.minLevel", "/provenance/minLevel"),
    ("vsa.minLevel", "/vsa/minLevel"),
];

/// A place, what breaks a rule there, and what keeps it.
type Pair = (&'static str, Value, Value);

/// By the message of each rule: what breaks it and what keeps it.
fn rules() -> BTreeMap<&'static str, Vec<Pair>> {
    let github = json!({"repository": "o/a", "refs": ["refs/heads/main"]});
    let certificate = json!({"issuer": "https://i.example", "subject": "x"});
    let gitlab = json!({"project": "o/a", "refs": ["refs/heads/main"]});
    let buildkite = json!({"organization": "o", "pipeline": "a"});
    let google = json!({"project": "acme-builds"});
    let images = json!({"include": ["ghcr.io/o/**"]});
    let named = |name: &str| json!({"name": name, "certificate": certificate});
    let expression =
        |operator: &str, values: Value| json!({"key": "k", "operator": operator, "values": values});
    let (signer, expressions) = ("/signers/0", "/namespaceSelector/matchExpressions/0");
    let mut rules = rules_of_images();
    rules.extend(BTreeMap::from([
        (
            "is exactly one of github, gitlab, buildkite, googleCloudBuild, certificate, publicKey",
            vec![
                (signer, json!({"github": github, "certificate": certificate}), json!({"github": github})),
                (signer, json!({"gitlab": gitlab, "buildkite": buildkite}), json!({"gitlab": gitlab})),
                (
                    signer,
                    json!({"buildkite": buildkite, "googleCloudBuild": google}),
                    json!({"buildkite": buildkite}),
                ),
                (
                    signer,
                    json!({"googleCloudBuild": google, "github": github}),
                    json!({"googleCloudBuild": google}),
                ),
                (signer, json!({"name": "x"}), json!({"certificate": certificate})),
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
            "belongs to a config, and none is named",
            vec![(
                "/signers/4/gitlab",
                json!({"project": "o/a", "configRefs": ["refs/tags/*"]}),
                json!({"project": "o/a", "configRefs": []}),
            )],
        ),
        (
            "has exactly one of serviceAccount and project",
            vec![
                (
                    "/signers/6/googleCloudBuild",
                    json!({"serviceAccount": "b@p.iam.gserviceaccount.com", "project": "acme-builds"}),
                    json!({"serviceAccount": "b@p.iam.gserviceaccount.com"}),
                ),
                ("/signers/6/googleCloudBuild", json!({}), google.clone()),
            ],
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
            "has exactly one of pem, secretRef, configMapRef",
            vec![
                ("/signers/8/publicKey", json!({}), json!({"secretRef": {"name": "cosign"}})),
                (
                    "/signers/8/publicKey",
                    json!({"secretRef": {"name": "cosign"}, "configMapRef": {"name": "cosign"}}),
                    json!({"configMapRef": {"name": "cosign"}}),
                ),
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
            "signers is missing: name who may sign provenance, or in vsa.signers who may sign summaries",
            vec![
                ("", json!({"images": images}), json!({"images": images, "signers": [named("a")]})),
                (
                    "",
                    json!({"images": images, "vsa": {"verifierIds": ["v"]}}),
                    json!({"images": images, "vsa": {"verifierIds": ["v"], "signers": [named("a")]}}),
                ),
            ],
        ),
        (
            "In and NotIn need values",
            vec![
                (
                    expressions,
                    json!({"key": "k", "operator": "NotIn"}),
                    json!({"key": "k", "operator": "NotIn", "values": ["v"]}),
                ),
                (expressions, expression("In", json!([])), expression("In", json!(["v"]))),
            ],
        ),
        (
            "Exists and DoesNotExist take no values",
            vec![(expressions, expression("Exists", json!(["v"])), expression("Exists", json!([])))],
        ),
    ]));
    rules
}

/// The rules of patterns over repositories, in both lists.
fn rules_of_images() -> BTreeMap<&'static str, Vec<Pair>> {
    let rules = [
        (
            "has a character that no repository's name has: it begins with a letter, a digit, * or ?, and may go on with . _ - : and /, all in lower case",
            vec![("ghcr.io/o/a b", "ghcr.io/o/a"), ("GHCR.io/o/a", "ghcr.io/o/*")],
        ),
        (
            "has no registry and path, so it matches nothing; write docker.io/library/NAME, or ghcr.io/owner/**",
            vec![("nginx", "**"), ("ng*", "**/ng*")],
        ),
        (
            "is matched against registry/path: write it without the scheme",
            vec![("https://ghcr.io/o/a", "ghcr.io/o/a")],
        ),
        (
            "a policy is about repositories: write it without tag and digest",
            vec![("ghcr.io/o/a:v1", "ghcr.io:5000/o/a")],
        ),
        (
            "matches nothing: it begins with no registry; Docker Hub's images are matched as docker.io/owner/NAME",
            vec![("bitnami/*", "docker.io/bitnami/*"), ("o/a", "localhost/a"), ("library/a", "*/a/b")],
        ),
        (
            "matches nothing: Docker Hub's own images are matched as docker.io/library/NAME",
            vec![("docker.io/nginx", "docker.io/library/nginx"), ("docker.io/*", "docker.io/**")],
        ),
    ];
    let mut all = BTreeMap::new();
    for (list, place) in [("include", "/images/include/0"), ("exclude", "/images/exclude/0")] {
        for (message, pairs) in &rules {
            let key: &'static str = format!("images.{list}[]: {message}").leak();
            let pairs = pairs.iter().map(|(bad, good)| (place, json!(bad), json!(good)));
            all.insert(key, pairs.collect());
        }
    }
    all
}

/// What is shown of where a field is, with the one label that the full policy has.
fn shown(field: &str) -> String {
    let field = field.strip_suffix("{}").map_or(field.to_owned(), |labels| format!("{labels}.a"));
    if field.is_empty() { "spec".to_owned() } else { format!("spec.{field}") }
}

/// Every bound that there is, held and broken.
///
/// # Panics
/// One has no row in the tables here, or a row has no bound.
pub fn cases() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    let (mut bounded, mut worded, mut rules) = (bounded(), worded(), rules());
    let mut objects = BTreeMap::from(OBJECTS);
    let all = all_of("ClusterProvenancePolicy");
    for (field, schema) in &all {
        // Signers of summaries are signers: what holds of these holds of those.
        if let Some(of_provenance) = field.strip_prefix("vsa.").filter(|field| field.starts_with("signers")) {
            let (_, same) = all.iter().find(|(field, _)| field == of_provenance).unwrap();
            for part in ["items", "maxItems", "x-kubernetes-validations"] {
                assert_eq!(same[part], schema[part], "{field}");
            }
            assert!(of_provenance == "signers" || same == schema, "{field}");
        }
    }
    for (field, schema) in all {
        if field.starts_with("vsa.signers") {
            continue;
        }
        let no_row = || panic!("{field} has no row");
        cases.bounds(&field, &schema, &mut bounded);
        if let Some(words) = schema["enum"].as_array() {
            let (place, of) = worded.remove(field.as_str()).unwrap_or_else(no_row);
            for word in words.iter().map(|word| word.as_str().unwrap()) {
                cases.push(&field, "enum", true, with(place, of(word)));
            }
            cases.push(&field, "enum", false, with(place, of("nonsense")));
        }
        let required = schema["required"].as_array();
        for name in required.into_iter().flatten().map(|name| name.as_str().unwrap()) {
            let place = objects.get(field.as_str()).copied().unwrap_or_else(|| panic!("{field} has no row"));
            let mut object = full();
            let around = object["spec"].pointer_mut(place).unwrap().as_object_mut().unwrap();
            assert!(around.remove(name).is_some(), "{field}.{name}");
            let inner = if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
            cases.push(&inner, "required", false, object);
        }
        if required.is_some() {
            objects.remove(field.as_str());
        }
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().unwrap();
            let field = field.clone() + rule["fieldPath"].as_str().unwrap_or_default();
            let both = rules.remove(format!("{field}: {message}").as_str()).or_else(|| rules.remove(message));
            for (place, bad, good) in both.unwrap_or_else(|| panic!("{field}: {message} has no row")) {
                cases.push(&field, message, false, with(place, bad));
                cases.push(&field, message, true, with(place, good));
            }
        }
    }
    let mut left: Vec<&str> = bounded.into_keys().chain(worded.into_keys()).collect();
    left.extend(objects.into_keys().chain(rules.into_keys()));
    assert_eq!(left, Vec::<&str>::new(), "rows that no bound is left for");
    cases.0
}

struct Cases(Vec<Case>);

impl Cases {
    fn push(&mut self, field: &str, bound: &str, taken: bool, object: Value) {
        let field = shown(field);
        self.0.push(Case { bound: format!("{field} {bound}"), field, most: None, taken, object });
    }

    /// Lengths and patterns.
    fn bounds(&mut self, field: &str, schema: &Value, rows: &mut BTreeMap<&'static str, (&'static str, Of)>) {
        if let Some((least, most)) = schema["minimum"].as_i64().zip(schema["maximum"].as_i64()) {
            let place = NUMBERS
                .iter()
                .find(|(name, _)| *name == field)
                .unwrap_or_else(|| panic!("{field} has no row"))
                .1;
            self.push(field, "minimum", true, with(place, json!(least)));
            self.push(field, "minimum", false, with(place, json!(least - 1)));
            self.push(field, "maximum", true, with(place, json!(most)));
            self.push(field, "maximum", false, with(place, json!(most + 1)));
            self.push(field, "type", false, with(place, json!(most.to_string())));
            self.push(field, "type", false, with(place, json!(1.5)));
            return;
        }
        let above = ["maxLength", "maxItems", "maxProperties"];
        let Some((bound, most)) = above.iter().find_map(|name| Some((*name, schema[name].as_u64()?))) else {
            assert_eq!(schema.get("pattern"), None, "{field}");
            return;
        };
        let (place, of) = rows.remove(field).unwrap_or_else(|| panic!("{field} has no row"));
        let most = usize::try_from(most).unwrap();
        self.push(field, bound, true, with(place, of(most)));
        self.push(field, bound, false, with(place, of(most + 1)));
        self.0.last_mut().unwrap().most = Some(most);
        for (bound, nothing) in [("minLength", json!("")), ("minItems", json!([]))] {
            if schema[bound].as_u64().is_some_and(|least| least > 0) {
                self.push(field, bound, false, with(place, nothing));
            }
        }
        if schema.get("pattern").is_some() {
            self.push(field, "pattern", false, with(place, json!("[\n")));
        }
    }
}
