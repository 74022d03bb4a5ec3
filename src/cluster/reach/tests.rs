//! What the entries select, of policies and exempt namespaces.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{
    api::compile::{NoKeys, compile},
    cluster::reach::exempt::{ExemptReach, exempt_namespaces},
    domain::policy::{Policy, PolicyId},
};

fn policy(namespace: Option<&str>, include: &[&str]) -> PolicyEntry {
    with(namespace, json!({"images": {"include": include}}))
}

fn with(namespace: Option<&str>, mut spec: Value) -> PolicyEntry {
    spec["signers"] = json!([{"github": {"repository": "acme/app"}}]);
    let (kind, metadata) = match namespace {
        Some(namespace) => ("ProvenancePolicy", json!({"name": "p", "namespace": namespace})),
        None => ("ClusterProvenancePolicy", json!({"name": "p"})),
    };
    let object =
        json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
    compile(&object, &NoKeys).entry
}

fn exempt() -> BTreeSet<String> {
    exempt_namespaces("bonafide", [&"calico".to_owned()])
}

fn named(names: &[&str]) -> NamespaceReach {
    NamespaceReach::Named(names.iter().map(|name| (*name).to_owned()).collect())
}

fn containing(fragments: &[&str]) -> ImageReach {
    ImageReach::Containing(fragments.iter().map(|text| (*text).to_owned()).collect())
}

fn reach(mode: ReachMode, unmatched: Unmatched, policies: &[PolicyEntry]) -> WebhookReach {
    WebhookReach::of(mode, unmatched, &exempt(), policies)
}

#[test]
fn b8_only_the_namespaces_of_namespaced_policies_are_selected() {
    let (allow, mode) = (Unmatched::Allow, ReachMode::Namespaces);
    assert_eq!(reach(mode, allow, &[]), WebhookReach::Nothing);
    let (a, b) = (policy(Some("a"), &["ghcr.io/acme/**"]), policy(Some("b"), &["**"]));
    let both = WebhookReach::Workloads { namespaces: named(&["a", "b"]), images: ImageReach::Every };
    assert_eq!(reach(mode, allow, &[a.clone(), b.clone()]), both);
    // One that does not compile fails closed, for its namespace alone.
    let invalid = policy(Some("b"), &["nginx"]);
    assert!(matches!(invalid, PolicyEntry::Invalid(_)));
    assert_eq!(reach(mode, allow, &[a.clone(), invalid]), both);

    let cluster = policy(None, &["ghcr.io/acme/**"]);
    assert_eq!(reach(mode, allow, &[a.clone(), cluster]), WebhookReach::EVERYTHING);
    for unmatched in [Unmatched::Warn, Unmatched::Deny] {
        assert_eq!(reach(mode, unmatched, &[]), WebhookReach::EVERYTHING);
        assert_eq!(reach(ReachMode::Images, unmatched, std::slice::from_ref(&a)), WebhookReach::EVERYTHING);
    }
    assert_eq!(reach(ReachMode::Everything, allow, &[]), WebhookReach::EVERYTHING);
}

#[test]
fn b8_a_policy_of_an_exempt_namespace_selects_nothing() {
    for namespace in ["kube-system", "bonafide", "calico"] {
        let policies = [policy(Some(namespace), &["**"])];
        assert_eq!(reach(ReachMode::Namespaces, Unmatched::Allow, &policies), WebhookReach::Nothing);
    }
}

#[test]
fn b8_images_are_narrowed_where_each_policy_says_which() {
    let (allow, mode) = (Unmatched::Allow, ReachMode::Images);
    let (a, hub) = (policy(Some("a"), &["ghcr.io/acme/**"]), policy(None, &["docker.io/library/nginx"]));
    let invalid = policy(Some("b"), &["nginx"]);
    assert_eq!(reach(mode, allow, &[]), WebhookReach::Nothing);
    for (policies, namespaces, images) in [
        (vec![a.clone()], named(&["a"]), containing(&["ghcr.io/acme/"])),
        (vec![a.clone(), hub.clone()], NamespaceReach::Every, containing(&["ghcr.io/acme/", "nginx"])),
        // What contains the one contains the other.
        (
            vec![a.clone(), policy(Some("a"), &["ghcr.io/acme/app"])],
            named(&["a"]),
            containing(&["ghcr.io/acme/"]),
        ),
        (vec![a.clone(), policy(Some("a"), &["ghcr.io/x/y", "**"])], named(&["a"]), ImageReach::Every),
        (vec![a, invalid], named(&["a", "b"]), ImageReach::Every),
    ] {
        assert_eq!(reach(mode, allow, &policies), WebhookReach::Workloads { namespaces, images });
    }
}

#[test]
fn b8_what_is_too_much_to_list_is_not_narrowed() {
    let PolicyEntry::Valid(one) = policy(Some("n"), &["ghcr.io/acme/**"]) else { panic!() };
    let of_namespace = |at| {
        let id = PolicyId { namespace: Some(format!("n{at}")), ..one.id.clone() };
        PolicyEntry::Valid(Arc::new(Policy { id, ..one.as_ref().clone() }))
    };
    let policies: Vec<PolicyEntry> = (0..=MAX_NAMESPACES).map(of_namespace).collect();
    let (few, all) = (&policies[1..], &policies[..]);
    let of = |mode, policies: &[PolicyEntry]| reach(mode, Unmatched::Allow, policies);
    assert!(matches!(
        of(ReachMode::Images, few),
        WebhookReach::Workloads { namespaces: NamespaceReach::Named(_), images: ImageReach::Containing(_) }
    ));
    assert_eq!(of(ReachMode::Namespaces, all), WebhookReach::EVERYTHING);
    let long = |at| format!("ghcr.io/{}{at}/", "x".repeat(200));
    let containing = |count| ImageReach::Containing((0..count).map(long).collect());
    let of = |images| WebhookReach::Workloads { namespaces: named(&["a"]), images };
    assert_eq!(of(containing(200)).bounded(), of(containing(200)));
    assert_eq!(of(containing(300)).bounded(), of(ImageReach::Every));
}

#[test]
fn b8_a_union_covers_both_and_nothing_covers_more_than_it_selects() {
    let one = |namespaces, images| WebhookReach::Workloads { namespaces, images };
    let all = [
        WebhookReach::Nothing,
        one(named(&["a"]), containing(&["x/"])),
        one(named(&["a", "b"]), containing(&["x/", "y/"])),
        one(named(&["b"]), ImageReach::Every),
        one(NamespaceReach::Every, containing(&["x/"])),
        WebhookReach::EVERYTHING,
    ];
    for a in &all {
        assert!(a.covers(a) && a.covers(&WebhookReach::Nothing) && WebhookReach::EVERYTHING.covers(a));
        for b in &all {
            let both = a.clone().union(b.clone());
            assert!(both.covers(a) && both.covers(b), "{a:?} and {b:?}");
            assert_eq!(a.covers(b), both == *a, "{a:?} and {b:?}");
        }
    }
    // An image that contains the longer text contains the shorter one.
    let (wide, narrow) = (one(named(&["a"]), containing(&["x/"])), one(named(&["a"]), containing(&["x/y"])));
    assert!(wide.covers(&narrow) && !narrow.covers(&wide));
}

#[test]
fn b8_the_fragments_are_read_back_from_the_expression() {
    let fragments: BTreeSet<String> = ["ghcr.io/acme/", "nginx"].map(ToOwned::to_owned).into();
    let expression = expression::images(&fragments).unwrap();
    insta::assert_snapshot!(expression);
    assert_eq!(expression::fragments(&expression), Some(fragments));
    for changed in [
        expression.replace("contains('nginx", "contains('ngin%"),
        expression.replace("32", "99"),
        String::new(),
    ] {
        let is_ours = expression::fragments(&changed).is_some_and(|found| found.contains("nginx"));
        assert!(!is_ours, "{changed}");
    }
    for odd in ["it's", "a\\b", "é", ""] {
        assert_eq!(expression::images(&BTreeSet::from([odd.to_owned()])), None, "{odd}");
    }
}

#[test]
fn b8_a_policy_says_that_its_namespace_is_exempt() {
    let of_names = |names: &[&str]| {
        let expression = json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": names});
        json!({"images": {"include": ["**"]}, "namespaceSelector": {"matchExpressions": [expression]}})
    };
    let told = |entry: &PolicyEntry| {
        ExemptReach::of(entry, &exempt()).map(|found| (found.is_all(), found.to_string()))
    };
    let lines = [
        told(&policy(Some("kube-system"), &["**"])),
        told(&policy(Some("bonafide"), &["nginx"])),
        told(&with(None, of_names(&["calico"]))),
        told(&with(None, of_names(&["a", "calico", "kube-system"]))),
    ];
    let lines: Vec<String> =
        lines.into_iter().flatten().map(|(all, text)| format!("{all}: {text}")).collect();
    insta::assert_snapshot!(lines.join("\n"));
    for entry in [policy(Some("a"), &["**"]), policy(None, &["**"]), with(None, of_names(&["a"]))] {
        assert_eq!(told(&entry), None);
    }
}

#[test]
fn b8_a_policy_says_that_a_namespace_which_it_is_for_by_other_labels_is_exempt() {
    let of = |key: &str, operator: &str, values: &[&str]| {
        let expression = json!({"key": key, "operator": operator, "values": values});
        with(
            None,
            json!({"images": {"include": ["**"]}, "namespaceSelector": {"matchExpressions": [expression]}}),
        )
    };
    let labels = |name: &str, team: &str| {
        let labels = [("kubernetes.io/metadata.name", name), ("team", team)];
        (name.to_owned(), labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
    };
    let namespaces = [labels("kube-system", "platform"), labels("a", "shop")].into();
    let told = |entry: &PolicyEntry| {
        ExemptReach::of_labels(entry, &exempt(), &namespaces).map(|found| (found.is_all(), found.to_string()))
    };
    let text = "the policy has no effect there: the namespace kube-system is exempt from review".to_owned();
    assert_eq!(told(&of("team", "In", &["platform", "shop"])), Some((false, text.clone())));
    assert_eq!(told(&of("team", "Exists", &[])), Some((false, text)));
    assert_eq!(told(&of("team", "In", &["shop"])), None);
    // It leaves one out, and is for all others that are not exempt.
    assert_eq!(told(&of("team", "NotIn", &["shop"])), None);
    assert_eq!(told(&policy(None, &["**"])), None);
}
