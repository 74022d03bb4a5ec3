//! Each patch is shown as what a pod has afterwards.

use super::*;

fn keep_to(affinity: &Value, platforms: &[&str]) -> Value {
    let platforms: Vec<Platform> = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
    let affinity = Affinity::new(affinity.clone());
    let operation = affinity.keep_to(&platforms, &BTreeMap::new()).unwrap();
    assert_eq!((operation.op, operation.path.as_str()), ("add", "/spec/affinity"));
    // A second look at what it has become changes nothing.
    let again = Affinity::new(operation.value.clone());
    assert_eq!(again.keep_to(&platforms, &BTreeMap::new()), None);
    operation.value
}

fn os(os: &str) -> Value {
    json!({"key": "kubernetes.io/os", "operator": "In", "values": [os]})
}

fn required(terms: &Value) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
}

fn arch(values: &[&str]) -> Value {
    json!({"key": "kubernetes.io/arch", "operator": "In", "values": values})
}

#[test]
fn a_pod_without_affinity_gets_one_term() {
    for none in [Value::Null, json!({})] {
        assert_eq!(
            keep_to(&none, &["linux/arm64", "linux/amd64"]),
            required(&json!([{"matchExpressions": [arch(&["amd64", "arm64"]), os("linux")]}]))
        );
    }
}

#[test]
fn every_term_is_narrowed_and_all_else_stays() {
    let zone = json!({"key": "zone", "operator": "Exists"});
    let field = json!([{"key": "metadata.name", "operator": "In", "values": ["n"]}]);
    let affinity = json!({
        "podAffinity": {"x": 1},
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [2],
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [zone]}, {"matchFields": field}, {}, {"matchExpressions": []},
            ]},
        },
    });
    let kept = keep_to(&affinity, &["linux/amd64"]);
    assert_eq!(kept["podAffinity"], json!({"x": 1}));
    assert_eq!(kept["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"], json!([2]));
    assert_eq!(
        kept["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"],
        json!([
            {"matchExpressions": [zone, arch(&["amd64"]), os("linux")]},
            {"matchFields": field, "matchExpressions": [arch(&["amd64"]), os("linux")]},
            // A term without requirements fits no node, and must not begin to.
            {}, {"matchExpressions": []},
        ])
    );
}

#[test]
fn systems_are_told_apart_where_there_are_several() {
    assert_eq!(
        keep_to(&Value::Null, &["linux/arm64", "windows/amd64"]),
        required(&json!([
            {"matchExpressions": [arch(&["arm64"]), os("linux")]},
            {"matchExpressions": [arch(&["amd64"]), os("windows")]},
        ]))
    );
}

#[test]
fn c9_what_asks_for_nothing_else_already_stays_as_it_is() {
    let of = |affinity: &Value| Affinity::new(affinity.clone());
    let platforms = ["linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap()];
    let selector =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let both = selector(&[(ARCH, "amd64"), (OS, "linux")]);
    assert_eq!(of(&Value::Null).keep_to(&platforms, &both), None);
    for other in [selector(&[(ARCH, "amd64")]), selector(&[(ARCH, "s390x"), (OS, "linux")])] {
        assert!(of(&Value::Null).keep_to(&platforms, &other).is_some());
    }
    let half = required(&json!([{"matchExpressions": [arch(&["arm64"])]}]));
    assert_eq!(of(&half).keep_to(&platforms, &selector(&[(OS, "linux")])), None);
    assert!(of(&half).keep_to(&platforms, &BTreeMap::new()).is_some());
}

#[test]
fn c9_an_affinity_that_fits_no_node_does_not_begin_to() {
    let platforms = ["linux/amd64".parse().unwrap()];
    let none = [required(&json!([])), required(&Value::Null), required(&json!([{}]))];
    for affinity in
        none.iter().chain([&json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}})])
    {
        let affinity = Affinity::new(affinity.clone());
        assert_eq!(affinity.keep_to(&platforms, &BTreeMap::new()), None, "{affinity:?}");
    }
}

#[test]
fn fields_are_pointed_to() {
    assert_eq!(pointer("spec.initContainers[12].image"), "/spec/initContainers/12/image");
    assert_eq!(pointer("spec.volumes[0].image.reference"), "/spec/volumes/0/image/reference");
}
