//! The scheduler's rules by example, and what holds for every placement.

use proptest::prelude::*;

use super::*;

fn node(name: &str, arch: &str, more: &[(&str, &str)]) -> Node {
    let labels = [(ARCH, arch), (OS, "linux")].into_iter().chain(more.iter().copied());
    Node {
        name: name.into(),
        labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        platform: None,
    }
}

fn nodes() -> Vec<Node> {
    vec![node("a", "amd64", &[("size", "4")]), node("b", "arm64", &[("size", "8"), ("gpu", "")])]
}

fn requirement(key: &str, operator: NodeOperator, values: &[&str]) -> NodeRequirement {
    NodeRequirement { key: key.into(), operator, values: values.iter().map(ToString::to_string).collect() }
}

fn term(labels: Vec<NodeRequirement>) -> NodeTerm {
    NodeTerm { labels, fields: Vec::new() }
}

fn on(placement: &Placement, nodes: &[Node], configured: &[&str]) -> Vec<String> {
    let configured: Vec<Platform> = configured.iter().map(|text| text.parse().unwrap()).collect();
    match platforms(placement, nodes, &configured) {
        Platforms::These(list) | Platforms::Among { platforms: list, .. } => {
            list.iter().map(ToString::to_string).collect()
        }
        Platforms::Within { systems, architectures } => {
            let shown = |list: Vec<String>| if list.is_empty() { "*".to_owned() } else { list.join(",") };
            vec![format!("{}/{}", shown(systems), shown(architectures))]
        }
        Platforms::Unknown => vec!["unknown".to_owned()],
    }
}

fn affine(terms: Vec<NodeTerm>) -> Placement {
    Placement { affinity: Some(terms), ..Placement::default() }
}

fn select(key: &str, value: &str) -> Placement {
    Placement { node_selector: BTreeMap::from([(key.to_owned(), value.to_owned())]), ..Placement::default() }
}

#[test]
fn nodes_narrow_by_name_selector_and_affinity() {
    use NodeOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
    let both = ["linux/amd64", "linux/arm64"];
    let none = ["unknown"];
    let field = NodeTerm { labels: Vec::new(), fields: vec![requirement("metadata.name", In, &["b"])] };
    let named = |name: &str| Placement { node_name: Some(name.into()), ..Placement::default() };
    let cases: Vec<(Placement, &[&str])> = vec![
        (Placement::default(), &both),
        (select(ARCH, "arm64"), &["linux/arm64"]),
        (select("gpu", ""), &["linux/arm64"]),
        (select("gpu", "x"), &none),
        (named("a"), &["linux/amd64"]),
        (named("gone"), &none),
        (Placement { os: Some("windows".into()), ..Placement::default() }, &["windows/*"]),
        (affine(vec![term(vec![requirement("size", Gt, &["4"])])]), &["linux/arm64"]),
        (affine(vec![term(vec![requirement("size", Lt, &["8"])])]), &["linux/amd64"]),
        (affine(vec![term(vec![requirement("size", Gt, &["x"])])]), &none),
        (affine(vec![term(vec![requirement("gpu", Exists, &[])])]), &["linux/arm64"]),
        (affine(vec![term(vec![requirement("gpu", DoesNotExist, &[])])]), &["linux/amd64"]),
        (affine(vec![term(vec![requirement("gpu", NotIn, &["x"])])]), &both),
        (affine(vec![term(vec![requirement("size", In, &["4"]), requirement("gpu", Exists, &[])])]), &none),
        (
            affine(vec![
                term(vec![requirement(ARCH, In, &["amd64"])]),
                term(vec![requirement("gpu", Exists, &[])]),
            ]),
            &both,
        ),
        (affine(vec![field]), &["linux/arm64"]),
        (affine(vec![]), &none),
        (affine(vec![NodeTerm::default()]), &none),
    ];
    for (placement, expected) in cases {
        assert_eq!(on(&placement, &nodes(), &[]), expected, "{placement:?}");
    }
}

#[test]
fn configured_platforms_join_where_the_constraints_allow_them() {
    let configured = ["linux/amd64", "linux/s390x"];
    assert_eq!(
        on(&Placement::default(), &nodes(), &configured),
        ["linux/amd64", "linux/arm64", "linux/s390x"]
    );
    assert_eq!(on(&select(ARCH, "s390x"), &nodes(), &configured), ["linux/s390x"]);
    // A group scaled to zero may have any label and any name.
    assert_eq!(on(&select("pool", "big"), &nodes(), &configured), configured);
    assert_eq!(on(&select(ARCH, "riscv64"), &nodes(), &configured), ["*/riscv64"]);
}

#[test]
fn with_nothing_known_what_is_stated_counts_and_nothing_is_assumed() {
    use NodeOperator::{Exists, In};
    assert_eq!(on(&Placement::default(), &[], &[]), ["unknown"]);
    assert_eq!(on(&select(ARCH, "arm64"), &[], &[]), ["*/arm64"]);
    assert_eq!(on(&select(OS, "windows"), &[], &[]), ["windows/*"]);
    let both = Placement { os: Some("linux".into()), ..select(ARCH, "arm64") };
    assert_eq!(on(&both, &[], &[]), ["linux/arm64"]);
    let named = || term(vec![requirement(ARCH, In, &["amd64", "arm64"])]);
    assert_eq!(on(&affine(vec![named()]), &[], &[]), ["*/amd64,arm64"]);
    assert_eq!(on(&affine(vec![named(), term(vec![requirement("x", Exists, &[])])]), &[], &[]), ["unknown"]);
    let windows = term(vec![requirement(ARCH, In, &["amd64"]), requirement(OLD_OS, In, &["windows"])]);
    assert_eq!(on(&affine(vec![windows]), &[], &[]), ["windows/amd64"]);
    let made_up: Vec<String> = (0..100).map(|n| format!("arch{n}")).collect();
    let made_up: Vec<&str> = made_up.iter().map(String::as_str).collect();
    assert_eq!(on(&affine(vec![term(vec![requirement(ARCH, In, &made_up)])]), &[], &[]), ["unknown"]);
}

#[test]
fn a_node_that_does_not_say_what_it_is_makes_it_unknown() {
    let mut all = nodes();
    let labels = BTreeMap::from([("pool".to_owned(), "x".to_owned())]);
    all.push(Node { name: "c".into(), labels, platform: None });
    assert_eq!(on(&Placement::default(), &all, &["linux/amd64"]), ["unknown"]);
    assert_eq!(on(&select(ARCH, "arm64"), &all, &[]), ["linux/arm64"], "it is ruled out");
    let linux = Placement { os: Some("linux".into()), ..Placement::default() };
    assert_eq!(on(&linux, &all, &[]), ["linux/*"], "the kubelet refuses a pod for another system");
    let labels = BTreeMap::from([(ARCH.to_owned(), "amd64".to_owned())]);
    let no_system = Node { name: "d".into(), labels, platform: None };
    assert_eq!(on(&Placement::default(), &[no_system], &[]), ["linux/amd64"], "it was made by hand");
}

fn named(name: &str) -> Placement {
    Placement { node_name: Some(name.into()), ..Placement::default() }
}

fn by_field(operator: NodeOperator, names: &[&str]) -> Placement {
    affine(vec![NodeTerm { labels: Vec::new(), fields: vec![requirement("metadata.name", operator, names)] }])
}

#[test]
fn a3_a_node_that_is_named_and_not_known_may_be_anything_whatever_is_configured() {
    let configured = ["linux/amd64"];
    for placement in [
        named("coming"),
        by_field(NodeOperator::In, &["coming"]),
        by_field(NodeOperator::In, &["a", "coming"]),
    ] {
        assert_eq!(on(&placement, &nodes(), &configured), ["unknown"], "{placement:?}");
        assert_eq!(unknown_nodes(&placement, &nodes()), ["coming"]);
        assert!(is_tied(&placement));
    }
    // The kubelet holds a pod against its node's labels.
    let selected = Placement { node_name: Some("coming".into()), ..select(ARCH, "amd64") };
    assert_eq!(on(&selected, &nodes(), &["linux/s390x"]), ["*/amd64"]);
    let unlabelled = [Node { name: "coming".into(), labels: BTreeMap::new(), platform: None }];
    assert_eq!(on(&named("coming"), &unlabelled, &configured), ["unknown"]);
    assert_eq!(unknown_nodes(&named("coming"), &unlabelled), ["coming"]);
}

#[test]
fn a3_a_node_that_is_named_and_known_is_what_it_is_and_nothing_else() {
    let configured = ["linux/amd64", "linux/s390x"];
    for placement in [named("b"), by_field(NodeOperator::In, &["b"])] {
        assert_eq!(on(&placement, &nodes(), &configured), ["linux/arm64"], "{placement:?}");
        assert!(unknown_nodes(&placement, &nodes()).is_empty());
    }
    // What comes has another name.
    let others = by_field(NodeOperator::NotIn, &["b"]);
    assert_eq!(on(&others, &nodes(), &configured), configured);
    assert!(unknown_nodes(&others, &nodes()).is_empty() && !is_tied(&others));
}

#[test]
fn c15_a_node_without_labels_is_what_its_status_says() {
    let unlabelled = |platform: Option<&str>| {
        let platform = platform.map(|text| text.parse().unwrap());
        [Node { name: "c".into(), labels: BTreeMap::new(), platform }]
    };
    assert_eq!(on(&Placement::default(), &unlabelled(Some("linux/arm64")), &[]), ["linux/arm64"]);
    assert_eq!(on(&Placement::default(), &unlabelled(None), &["linux/amd64"]), ["unknown"]);
    let labels = BTreeMap::from([(ARCH.to_owned(), "amd64".to_owned())]);
    let both = [Node { labels, ..unlabelled(Some("windows/arm64"))[0].clone() }];
    assert_eq!(on(&Placement::default(), &both, &[]), ["windows/amd64"]);
}

#[test]
fn c15_several_architectures_are_those_that_are_named_where_no_node_has_labels() {
    let unlabelled = [Node { name: "c".into(), labels: BTreeMap::new(), platform: None }];
    let both = affine(vec![term(vec![requirement(ARCH, NodeOperator::In, &["amd64", "arm64"])])]);
    assert_eq!(on(&both, &unlabelled, &[]), ["*/amd64,arm64"]);
    let pool = affine(vec![term(vec![requirement("pool", NodeOperator::DoesNotExist, &[])])]);
    assert_eq!(on(&pool, &unlabelled, &[]), ["unknown"]);
}

#[test]
fn labels_of_older_nodes_count() {
    let labels = [(OLD_ARCH, "arm64"), (OLD_OS, "windows")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let old = [Node { name: "o".into(), labels: labels.into(), platform: None }];
    assert_eq!(on(&Placement::default(), &old, &[]), ["windows/arm64"]);
    let of = |os: &str| Placement { os: Some(os.into()), ..Placement::default() };
    assert_eq!(on(&of("windows"), &old, &[]), ["windows/arm64"]);
    assert_eq!(on(&of("linux"), &old, &[]), ["linux/*"]);
}

fn some_requirement() -> impl Strategy<Value = NodeRequirement> {
    use NodeOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
    let key = prop::sample::select(vec![ARCH, OS, "size", "gpu"]);
    let operator = prop::sample::select(vec![In, NotIn, Exists, DoesNotExist, Gt, Lt]);
    let value = prop::sample::select(vec!["amd64", "arm64", "linux", "4", "8", "x", ""]);
    (key, operator, prop::collection::vec(value, 0..3))
        .prop_map(|(key, op, values)| requirement(key, op, &values))
}

fn some_placement() -> impl Strategy<Value = Placement> {
    let terms = prop::collection::vec(prop::collection::vec(some_requirement(), 0..3).prop_map(term), 0..3);
    let selector = prop::option::of(prop::sample::select(vec![(ARCH, "arm64"), ("size", "4"), ("gpu", "x")]));
    (prop::option::of(terms), selector).prop_map(|(affinity, selector)| {
        let node_selector =
            selector.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        Placement { node_selector, affinity, ..Placement::default() }
    })
}

fn some_nodes() -> impl Strategy<Value = Vec<Node>> {
    let arch = prop::sample::select(vec!["amd64", "arm64", "s390x"]);
    let more = prop::sample::subsequence(vec![("size", "4"), ("gpu", "x")], 0..=2);
    prop::collection::vec((arch, more).prop_map(|(arch, more)| node("n", arch, &more)), 0..4)
}

proptest! {
    /// What a pod is allowed more can only be more platforms to be covered.
    #[test]
    fn a_further_term_never_narrows(placement in some_placement(), nodes in some_nodes(), more in prop::collection::vec(some_requirement(), 1..3)) {
        let Some(terms) = placement.affinity.clone() else { return Ok(()) };
        let wider = Placement { affinity: Some([terms, vec![term(more)]].concat()), ..placement.clone() };
        let fitting = |placement: &Placement| nodes.iter().filter(|node| fits(placement, &Known(node))).count();
        prop_assert!(fitting(&placement) <= fitting(&wider));
    }

    /// A group scaled to zero is never missed: what the nodes of a platform could do, its configured platform can.
    #[test]
    fn a_configured_platform_fits_wherever_a_node_of_it_does(placement in some_placement(), nodes in some_nodes()) {
        for node in nodes.iter().filter(|node| fits(&placement, &Known(node))) {
            let platform = node_platform(node).unwrap();
            prop_assert!(fits(&placement, &Possible(&platform)));
        }
    }

    /// The platform of every node that fits is in the answer, and no platform is there twice.
    #[test]
    fn every_node_that_fits_counts(placement in some_placement(), nodes in some_nodes()) {
        let (Platforms::These(list) | Platforms::Among { platforms: list, .. }) = platforms(&placement, &nodes, &[]) else {
            return Ok(());
        };
        for node in nodes.iter().filter(|node| fits(&placement, &Known(node))) {
            prop_assert!(list.contains(&node_platform(node).unwrap()));
        }
        prop_assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len());
    }

    /// Without constraints, everything counts.
    #[test]
    fn without_constraints_every_node_and_platform_counts(nodes in some_nodes()) {
        let configured = [Platform::new("windows", "amd64", None)];
        let mut expected: BTreeSet<Platform> = nodes.iter().filter_map(node_platform).collect();
        expected.extend(configured.clone());
        prop_assert_eq!(platforms(&Placement::default(), &nodes, &configured), Platforms::These(expected.into_iter().collect()));
    }
}
