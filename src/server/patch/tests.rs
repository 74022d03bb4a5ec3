//! Each patch is shown as what a pod has afterwards.

use super::*;

fn keep_to(affinity: &Value, platforms: &[&str]) -> Value {
    let platforms: Vec<Platform> = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
    let operation = Affinity::new(affinity.clone()).keep_to(&platforms).unwrap();
    assert_eq!((operation.op, operation.path.as_str()), ("add", "/spec/affinity"));
    operation.value
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
            required(&json!([{"matchExpressions": [arch(&["amd64", "arm64"])]}]))
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
            {"matchExpressions": [zone, arch(&["amd64"])]},
            {"matchFields": field, "matchExpressions": [arch(&["amd64"])]},
            // A term without requirements fits no node, and must not begin to.
            {}, {"matchExpressions": []},
        ])
    );
}

#[test]
fn systems_are_told_apart_where_there_are_several() {
    let os = |os: &str| json!({"key": "kubernetes.io/os", "operator": "In", "values": [os]});
    assert_eq!(
        keep_to(&Value::Null, &["linux/arm64", "windows/amd64"]),
        required(&json!([
            {"matchExpressions": [arch(&["arm64"]), os("linux")]},
            {"matchExpressions": [arch(&["amd64"]), os("windows")]},
        ]))
    );
}

#[test]
fn fields_are_pointed_to() {
    assert_eq!(pointer("spec.initContainers[12].image"), "/spec/initContainers/12/image");
    assert_eq!(pointer("spec.volumes[0].image.reference"), "/spec/volumes/0/image/reference");
}
