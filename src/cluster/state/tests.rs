//! What changes the generations that caches are keyed by, and what does not.

use super::*;
use crate::domain::policy::{InvalidPolicy, Mode};

fn policy(namespace: Option<&str>, name: &str, uid: &str, generation: i64) -> (PolicyId, KnownPolicy) {
    let id = PolicyId { namespace: namespace.map(ToOwned::to_owned), name: name.to_owned() };
    let entry = PolicyEntry::Invalid(Arc::new(InvalidPolicy {
        id: id.clone(),
        namespaces: None,
        images: None,
        mode: Mode::Enforce,
        errors: Vec::new(),
    }));
    (
        id,
        KnownPolicy {
            uid: uid.to_owned(),
            generation,
            entry,
            reported: None,
            keyed: None,
            beyond_budget: false,
        },
    )
}

fn state() -> State {
    State::new(vec!["linux/amd64".parse().unwrap()], Unmatched::Deny, true)
}

fn names(state: &State) -> Vec<String> {
    state.snapshot().policies.entries().iter().map(|entry| entry.id().to_string()).collect()
}

fn one(state: &mut State, (id, policy): (PolicyId, KnownPolicy)) -> bool {
    state.one_policy(id, policy)
}

fn node(name: &str, labels: &[(&str, &str)]) -> Node {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Node { name: name.to_owned(), labels, platform: None }
}

#[test]
fn a_list_replaces_those_of_its_reach_alone() {
    let mut state = state();
    assert!(state.all_policies(Reach::Cluster, vec![policy(None, "all", "1", 1)]));
    assert!(state.all_policies(
        Reach::Namespace,
        vec![policy(Some("a"), "x", "2", 1), policy(Some("b"), "x", "3", 1)]
    ));
    assert_eq!(names(&state), ["all", "a/x", "b/x"]);
    assert!(state.all_policies(Reach::Namespace, vec![policy(Some("b"), "x", "3", 1)]));
    assert_eq!(names(&state), ["all", "b/x"]);
    let before = state.snapshot().policies.generation;
    assert!(!state.all_policies(Reach::Namespace, vec![policy(Some("b"), "x", "3", 1)]));
    assert_eq!(state.snapshot().policies.generation, before);
}

#[test]
fn a_status_alone_changes_no_verdict() {
    let mut state = state();
    assert!(one(&mut state, policy(None, "all", "1", 1)));
    let before = state.snapshot().policies.generation;
    let (id, mut reported) = policy(None, "all", "1", 1);
    reported.reported =
        Some(Reported { generation: 1, ready: false, message: String::new(), since: None, reviewed: None });
    assert!(!state.one_policy(id, reported.clone()));
    assert_eq!(state.snapshot().policies.generation, before);
    assert_eq!(state.policies().next().unwrap().1.reported, reported.reported);
    assert!(one(&mut state, policy(None, "all", "1", 2)));
    assert!(one(&mut state, policy(None, "all", "other", 2)));
    assert_eq!(state.snapshot().policies.generation, before + 2);
}

#[test]
fn what_was_made_anew_is_not_taken_away_with_what_is_gone() {
    let mut state = state();
    one(&mut state, policy(Some("a"), "x", "new", 1));
    let (id, gone) = policy(Some("a"), "x", "old", 4);
    assert!(!state.policy_gone(&id, &gone.uid));
    assert_eq!(names(&state), ["a/x"]);
    assert!(state.policy_gone(&id, "new"));
    assert!(names(&state).is_empty());
}

#[test]
fn labels_of_namespaces_are_part_of_what_is_required() {
    let mut state = state();
    let labels = |stage: &str| BTreeMap::from([("stage".to_owned(), stage.to_owned())]);
    assert!(state.all_namespaces(vec![("a".to_owned(), labels("test"))]));
    let before = state.snapshot().policies.generation;
    assert!(!state.one_namespace(("a".to_owned(), labels("test"))));
    assert!(state.one_namespace(("a".to_owned(), labels("production"))));
    assert_eq!(state.snapshot().policies.generation, before + 1);
    assert_eq!(state.snapshot().namespaces["a"][NAME_LABEL], "a");
    assert!(state.namespace_gone("a"));
    assert!(!state.namespace_gone("a"));
}

#[test]
fn nodes_and_runtime_classes_are_the_landscape_and_no_more() {
    let mut state = state();
    let (required, landscape) = (state.snapshot().policies.generation, state.snapshot().landscape);
    assert!(state.all_nodes(vec![node("one", &[("kubernetes.io/arch", "amd64")])]));
    assert!(!state.one_node(node("one", &[("kubernetes.io/arch", "amd64")])));
    assert!(state.one_node(node("one", &[("kubernetes.io/arch", "arm64")])));
    assert!(state.one_node(node("two", &[])));
    assert!(state.node_gone("two"));
    assert!(!state.node_gone("two"));
    let class = ("gpu".to_owned(), BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]));
    assert!(state.one_runtime_class(class.clone()));
    assert!(!state.all_runtime_classes(vec![class]));
    assert!(state.runtime_class_gone("gpu"));
    let snapshot = state.snapshot();
    assert_eq!((snapshot.policies.generation, snapshot.landscape), (required, landscape + 6));
    assert_eq!(snapshot.nodes.len(), 1);
}
