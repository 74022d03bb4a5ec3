//! What an invalid policy means, and how large a valid one may be.

use serde_json::json;

use super::{super::*, good};
use crate::api::v1alpha1::API_VERSION;

#[test]
fn e4_a_broken_include_means_what_begins_as_it_does_and_never_less() {
    for (pattern, selected, left) in [
        ("ghcr.io/o/a:v1", "ghcr.io/o/a ghcr.io/o/ab", "ghcr.io/o/b quay.io/o/a"),
        ("ghcr.io/o/a@sha256:00", "ghcr.io/o/a", "ghcr.io/o/b"),
        ("GHCR.io/o/a", "ghcr.io/o/a", "ghcr.io/p/a quay.io/o/a"),
        ("ghcr.io/[o]/a", "ghcr.io/o/a ghcr.io/p/a", "quay.io/o/a"),
        ("ghcr.io/o/[", "ghcr.io/o/a", "ghcr.io/p/a"),
        ("ghcr.io/Owner/a", "ghcr.io/owner/a", "quay.io/owner/a"),
        ("ghcr.io", "ghcr.io/o/a docker.io/library/ghcr.io", "quay.io/o/a docker.io/library/nginx"),
        ("https://ghcr.io/o/a", "ghcr.io/o/a", "ghcr.io/p/a"),
        ("index.docker.io/o/*", "docker.io/o/a", "ghcr.io/o/a docker.io/p/a"),
        ("docker.io/nginx", "docker.io/library/nginx docker.io/o/a", "ghcr.io/o/a"),
        ("localhost:5000/o/a:v1", "localhost:5000/o/a", "localhost:5001/o/a"),
    ] {
        for include in [json!(["quay.io/other/*", pattern]), json!([pattern])] {
            let mut object = good();
            object["spec"]["images"]["include"] = include;
            let PolicyEntry::Invalid(policy) = compile(&object, &NoKeys).entry else {
                panic!("{pattern} compiles")
            };
            let images = policy.images.clone().unwrap_or_else(|| panic!("{pattern} means every image"));
            for image in selected.split(' ') {
                assert!(images.selects(&image.parse().unwrap()), "{pattern} and {image}");
            }
            for image in left.split(' ') {
                assert!(!images.selects(&image.parse().unwrap()), "{pattern} and {image}");
            }
        }
    }
}

#[test]
fn e4_an_include_that_names_no_registry_means_every_image() {
    let whole = |include: Value| {
        let mut object = good();
        object["spec"]["images"]["include"] = include;
        match compile(&object, &NoKeys).entry {
            PolicyEntry::Invalid(policy) => policy.images.is_none(),
            PolicyEntry::Valid(_) => panic!("it compiles"),
        }
    };
    let many = vec!["ghcr.io/o/**"; 65];
    for include in [
        json!(["ghcr.io/o/**", "nginx"]),
        json!(["bitnami/*"]),
        json!(["[", "ghcr.io/o/**"]),
        json!([""]),
        json!([]),
        json!([5]),
        json!(null),
        json!({"a": 1}),
        json!(many),
    ] {
        assert!(whole(include.clone()), "{include}");
    }
    // One pattern in place of a list is that pattern.
    assert!(!whole(json!("ghcr.io/o/**")));
}

#[test]
fn e4_a_broken_exclude_excludes_nothing() {
    let excluding = |exclude: Value| {
        let mut object = good();
        object["spec"]["images"]["exclude"] = exclude;
        match compile(&object, &NoKeys).entry {
            PolicyEntry::Invalid(policy) => policy.images.clone().unwrap(),
            PolicyEntry::Valid(policy) => policy.images.clone(),
        }
    };
    let (kept, image) = ("ghcr.io/o/b".parse().unwrap(), "ghcr.io/o/a".parse().unwrap());
    let images = excluding(json!(["ghcr.io/o/a"]));
    assert!(images.selects(&kept) && !images.selects(&image));
    for broken in
        [json!(["ghcr.io/o/a:v1"]), json!(["ghcr.io/o/["]), json!("ghcr.io/o/a"), json!([["ghcr.io/o/a"]])]
    {
        assert!(excluding(broken.clone()).selects(&image), "{broken}");
    }
    // One that is as it should be still counts.
    assert!(!excluding(json!(["ghcr.io/o/a", "["])).selects(&image));
}

#[test]
fn e4_only_the_words_audit_and_warn_keep_an_invalid_policy_from_denying() {
    let mode = |mode: Option<Value>| {
        let mut object = good();
        object["spec"]["signers"] = json!([]);
        if let Some(mode) = mode {
            object["spec"]["mode"] = mode;
        }
        compile(&object, &NoKeys).entry.mode()
    };
    assert_eq!(mode(Some(json!("Audit"))), Mode::Audit);
    assert_eq!(mode(Some(json!("Warn"))), Mode::Warn);
    for other in
        [json!("audit"), json!("Audit "), json!(["Audit"]), json!("Enforce"), json!(null), json!({"Warn": 1})]
    {
        assert_eq!(mode(Some(other.clone())), Mode::Enforce, "{other}");
    }
    assert_eq!(mode(None), Mode::Enforce);
    let mut constraining = good();
    constraining["spec"]["mode"] = json!("Audit");
    constraining["spec"]["uncoveredPlatforms"] = json!("Constrain");
    let mut compiled = compile(&constraining, &NoKeys);
    compiled.refuse_constraining();
    assert!(matches!(compiled.entry, PolicyEntry::Invalid(_)) && compiled.entry.mode() == Mode::Audit);
}

#[test]
fn e4_an_unreadable_namespace_selector_means_every_namespace() {
    let namespaces = |selector: Value| {
        let object = json!({"apiVersion": API_VERSION, "kind": "ClusterProvenancePolicy", "metadata": {"name": "c"},
            "spec": {"namespaceSelector": selector, "images": {"include": ["**"]}}});
        match compile(&object, &NoKeys).entry {
            PolicyEntry::Invalid(policy) => policy.namespaces.clone(),
            PolicyEntry::Valid(_) => panic!("it compiles"),
        }
    };
    assert!(namespaces(json!({"matchLabels": {"a": "b"}})).is_some());
    for broken in [
        json!([]),
        json!("a=b"),
        json!({"matchLabels": {"a": 1}}),
        json!({"matchLabels": {"a b": "c"}}),
        json!({"matchLabel": {"a": "b"}}),
        json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
    ] {
        assert_eq!(namespaces(broken.clone()), None, "{broken}");
    }
}

#[test]
fn b2_the_patterns_of_one_policy_are_bounded() {
    let with = |count: usize| {
        let signer = |n: usize| json!({"name": format!("s{n}"), "certificate": {"issuer": "https://i.example", "subjectRegex": format!(r"\pL{{12}}x{n}")}});
        let mut object = good();
        object["spec"]["signers"] = (0..count).map(signer).collect();
        compile(&object, &NoKeys)
    };
    let few = with(4);
    assert!(few.errors.is_empty() && few.bytes > 100_000, "{:?} {}", few.errors, few.bytes);
    let many = with(64);
    assert_eq!(many.errors.len(), 1);
    insta::assert_snapshot!(many.errors[0].message);
    let mut conditions = good();
    let mut with_patterns = |times: usize| {
        let matches = |n: usize| format!(r"image.tag.matches(r'^\pL{{12}}{n}$')");
        let expression = |n: usize| (0..times).map(|m| matches(n * 10 + m)).collect::<Vec<_>>().join(" || ");
        let all: Vec<Value> = (0..16).map(|n| json!({"expression": expression(n)})).collect();
        conditions["spec"]["provenance"] = json!({"conditions": all});
        compile(&conditions, &NoKeys).errors
    };
    assert_eq!(with_patterns(1), vec![]);
    let errors = with_patterns(3);
    assert!(errors.len() == 1 && errors[0].message.starts_with("is too much: "), "{errors:?}");
}

#[test]
fn b2_nothing_large_stays_of_a_policy_without_room() {
    let mut object = good();
    let mut small = compile(&object, &NoKeys);
    small.refuse_for_room("needs 5 KiB".to_owned());
    let PolicyEntry::Invalid(policy) = &small.entry else { panic!("it is in force") };
    assert!(policy.images.is_some() && policy.errors == ["spec: needs 5 KiB"]);
    object["spec"]["images"]["include"] =
        (0..60).map(|n| format!("ghcr.io/{}/{n}", "o".repeat(200))).collect();
    let mut large = compile(&object, &NoKeys);
    large.refuse_for_room("needs 5 KiB".to_owned());
    let PolicyEntry::Invalid(policy) = &large.entry else { panic!("it is in force") };
    assert_eq!(policy.images, None);
}
