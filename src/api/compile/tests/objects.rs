//! Whole objects: what schema and types make of them, and what the API server adds.

use super::*;

/// Whatever the schema lets pass, the types take.
#[test]
fn schema_and_types_agree() {
    let mut spec = good()["spec"].clone();
    spec["mode"] = json!("Audit");
    spec["subject"] = json!("Platform");
    spec["uncoveredPlatforms"] = json!("Constrain");
    spec["tags"] = json!("Deny");
    spec["images"]["exclude"] = json!(["ghcr.io/o/x"]);
    spec["namespaceSelector"] = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
        {"key": "k", "operator": "In", "values": ["v"]}, {"key": "k", "operator": "DoesNotExist"}]});
    spec["signers"] = json!([
        {"name": "g", "trustRoot": "sigstore", "github": {"repository": "o/a", "repositoryId": "1", "ownerId": "2", "workflow":
            "b/c/.github/workflows/x.yaml", "workflowRefs": ["refs/tags/v1"], "refs": ["refs/tags/*"], "triggers": ["push"],
            "runner": "github-hosted", "issuer": "https://token.actions.githubusercontent.com/slug"}},
        {"name": "c", "certificate": {"issuer": "https://i.example", "subject": "x"}},
        {"name": "r", "certificate": {"issuer": "https://i.example", "subjectRegex": "x"}},
    ]);
    spec["provenance"] = json!({"types": [SLSA_V1], "builderIds": ["b"], "buildTypes": ["t"], "maxAge": "2160h",
        "source": {"repository": "https://github.com/o/a", "refs": ["refs/heads/*"]}, "conditions": []});
    let cluster = json!({"apiVersion": API_VERSION, "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"}, "spec": spec});
    let compiled = compile(&cluster, &NoKeys);
    assert_eq!((compiled.errors, compiled.warnings), (vec![], vec![]));
    let back: ClusterPolicySpec = serde_json::from_value(spec.clone()).unwrap();
    let (sound, _) = shape::sound(&mut Fields::default(), &spec, &shape::POLICY);
    assert_eq!(sound, spec, "nothing of it is lost");
    assert_eq!(back.policy.signers.len(), 3);
}

#[test]
fn a_label_that_no_namespace_can_have_is_an_error() {
    let errors = |key: &str| {
        let selector =
            json!({"matchLabels": {key: "x"}, "matchExpressions": [{"key": key, "operator": "Exists"}]});
        let cluster = json!({"apiVersion": API_VERSION, "kind": "ClusterProvenancePolicy", "metadata": {"name": "p"},
            "spec": {"images": {"include": ["**"]}, "signers": good()["spec"]["signers"], "namespaceSelector": selector}});
        compile(&cluster, &NoKeys).errors.len()
    };
    for key in ["environment", "kubernetes.io/metadata.name", "a_b", "example.com/A.b"] {
        assert_eq!(errors(key), 0, "{key}");
    }
    for key in ["", "a b", "/a", "a/", "-a", "a/b/c", "env:prod"] {
        assert_eq!(errors(key), 2, "{key}");
    }
}

/// As a watch hands it out: with what the API server adds, and in a list without saying what it is.
#[test]
fn objects_of_the_api_server_compile_as_files_do_and_fail_closed_where_they_do_not() {
    let object = |spec: Value| {
        json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "1", "resourceVersion": "5", "generation": 2,
                "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"a": "b"}},
            "spec": spec, "status": {"observedGeneration": 1, "conditions": []},
        })
    };
    let compiled = |spec: &Value, pinning| {
        compile_object("ProvenancePolicy", &mut object(spec.clone()), pinning, &NoKeys)
    };
    let reach = |spec: &Value| match compiled(spec, true).entry {
        PolicyEntry::Invalid(policy) => (policy.id.to_string(), policy.images.clone()),
        PolicyEntry::Valid(policy) => panic!("{policy:?} is valid"),
    };
    let mut spec = good()["spec"].clone();
    assert_eq!(compiled(&spec, true).entry, compile(&good(), &NoKeys).entry);
    spec["uncoveredPlatforms"] = json!("Constrain");
    assert_eq!(compiled(&spec, true).errors, []);
    assert_eq!(compiled(&spec, false).errors.len(), 1);

    // What it names is denied where that can be read, else everything in its namespace.
    spec["signers"] = json!([{"github": {"repository": "o/a", "refs": ["main"]}}]);
    let (id, images) = reach(&spec);
    assert_eq!(id, "n/p");
    let named = |repository: &str| images.as_ref().unwrap().selects(&repository.parse().unwrap());
    assert!(named("ghcr.io/o/a") && !named("ghcr.io/other/a"));
    spec["images"]["include"] = json!(["nginx"]);
    assert_eq!(reach(&spec), ("n/p".to_owned(), None));
    assert_eq!(reach(&Value::Null), ("n/p".to_owned(), None));

    // A cluster policy of which not even the namespaces can be read is for all of them.
    let cluster = |selector: Value| {
        let mut object =
            object(json!({"images": {"include": ["ghcr.io/o/**"]}, "namespaceSelector": selector}));
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        match compile_object("ClusterProvenancePolicy", &mut object, true, &NoKeys).entry {
            PolicyEntry::Invalid(policy) => policy.namespaces.is_some(),
            PolicyEntry::Valid(policy) => panic!("{policy:?} is valid"),
        }
    };
    assert!(cluster(json!({"matchLabels": {"team": "a"}})));
    for unreadable in [
        json!({"matchLabels": {"team": "a b"}}),
        json!({"matchLabels": {"te am": "a"}}),
        json!({"matchLabel": {"team": "a"}}),
        json!({"matchExpressions": [{"key": "k", "operator": "In"}]}),
        json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["a/b"]}]}),
        json!([]),
    ] {
        assert!(!cluster(unreadable.clone()), "{unreadable}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z*/.${}\\[\\]()|@:-]{0,12}".prop_map(Value::from),
            Just(json!("refs/tags/${image.tag}")),
            Just(json!("ghcr.io/o/**")),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let key = prop::sample::select(vec![
                "include",
                "github",
                "repository",
                "refs",
                "name",
                "x",
                "matchLabels",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4).prop_map(|fields| fields
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        /// Whatever stands in its place: a policy is valid exactly where no error is told, and an invalid one is about no fewer
        /// images than it names.
        #[test]
        fn any_value_in_any_place_compiles_to_one_or_the_other(value in any_json(), at in 0_usize..12) {
            let places = ["/spec", "/spec/images", "/spec/images/include", "/spec/images/exclude", "/spec/signers", "/spec/signers/0",
                "/spec/signers/0/github", "/spec/signers/0/github/refs", "/spec/signers/0/github/repository", "/spec/provenance",
                "/metadata", "/spec/signers/0/name"];
            let mut object = good();
            if let Some(place) = object.pointer_mut(places[at]) { *place = value; }
            let compiled = compile(&object, &NoKeys);
            match &compiled.entry {
                PolicyEntry::Valid(policy) => {
                    prop_assert!(compiled.errors.is_empty());
                    prop_assert!(!policy.signers.is_empty() && !policy.images.include.is_empty());
                }
                PolicyEntry::Invalid(policy) => {
                    prop_assert!(!compiled.errors.is_empty() && policy.errors.len() == compiled.errors.len());
                    prop_assert!(policy.images.as_ref().is_none_or(|images| !images.include.is_empty()));
                }
            }
        }
    }
}
