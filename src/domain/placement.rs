//! Where a pod can land: its constraints against the nodes that are there and the platforms that are configured for nodes to come.
//!
//! The rules are the scheduler's (`nodeaffinity` of component-helpers): `nodeSelector` and required affinity must both hold,
//! terms are `ORed`, requirements `ANDed`, a term without requirements fits nothing. Tolerations never narrow.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    platform::Platform,
    workload::{Node, NodeOperator, NodeRequirement, NodeTerm, Placement, Platforms},
};

const ARCH: &str = "kubernetes.io/arch";
const OS: &str = "kubernetes.io/os";
/// Labels that older nodes and manifests use for the same.
const OLD_ARCH: &str = "beta.kubernetes.io/arch";
const OLD_OS: &str = "beta.kubernetes.io/os";

/// The platforms that a pod can land on.
///
/// Those of the nodes that fit, and every configured platform that the constraints do not rule out. Where there is none, what the
/// constraints say of the architecture counts – a node may yet come; where they say nothing, it is unknown.
pub fn platforms(placement: &Placement, nodes: &[Node], configured: &[Platform]) -> Platforms {
    let mut found: BTreeSet<Platform> = BTreeSet::new();
    let known = nodes.iter().filter(|node| fits(placement, &Known(node)));
    found.extend(known.filter_map(|node| node_platform(&node.labels)));
    found.extend(configured.iter().filter(|platform| fits(placement, &Possible(platform))).cloned());
    if found.is_empty() {
        found.extend(stated(placement));
    }
    if found.is_empty() { Platforms::Unknown } else { Platforms::These(found.into_iter().collect()) }
}

/// The platform that a node's labels state.
pub fn node_platform(labels: &BTreeMap<String, String>) -> Option<Platform> {
    let label = |key, old| labels.get(key).or_else(|| labels.get(old)).map(String::as_str);
    Some(Platform::new(label(OS, OLD_OS).unwrap_or("linux"), label(ARCH, OLD_ARCH)?, None))
}

/// What is known of a label.
enum Label<'a> {
    /// Its value.
    Is(&'a str),
    /// It is not there.
    Absent,
    /// Nobody knows: nothing is ruled out by it.
    Unknown,
}

/// A node that is there, or one that could come.
trait Landing {
    fn label(&self, key: &str) -> Label<'_>;
    fn name(&self) -> Label<'_>;
}

struct Known<'a>(&'a Node);

struct Possible<'a>(&'a Platform);

impl Landing for Known<'_> {
    fn label(&self, key: &str) -> Label<'_> {
        self.0.labels.get(key).map_or(Label::Absent, |value| Label::Is(value))
    }

    fn name(&self) -> Label<'_> {
        Label::Is(&self.0.name)
    }
}

impl Landing for Possible<'_> {
    fn label(&self, key: &str) -> Label<'_> {
        match key {
            ARCH | OLD_ARCH => Label::Is(self.0.architecture()),
            OS | OLD_OS => Label::Is(self.0.os()),
            _ => Label::Unknown,
        }
    }

    fn name(&self) -> Label<'_> {
        Label::Unknown
    }
}

fn fits(placement: &Placement, node: &impl Landing) -> bool {
    let named =
        placement.node_name.as_deref().is_none_or(|wanted| holds(&node.name(), NodeOperator::In, &[wanted]));
    // A pod with a nodeName is not scheduled: the kubelet takes it, and checks selector and affinity alike.
    let os = placement.os.as_deref().is_none_or(|wanted| holds(&node.label(OS), NodeOperator::In, &[wanted]));
    let mut selected = placement.node_selector.iter();
    named
        && os
        && selected.all(|(key, value)| holds(&node.label(key), NodeOperator::In, &[value.as_str()]))
        && placement.affinity.as_ref().is_none_or(|terms| terms.iter().any(|term| term_fits(term, node)))
}

fn term_fits(term: &NodeTerm, node: &impl Landing) -> bool {
    let fits = |requirement: &NodeRequirement, label: &Label<'_>| {
        let values: Vec<&str> = requirement.values.iter().map(String::as_str).collect();
        holds(label, requirement.operator, &values)
    };
    let empty = term.labels.is_empty() && term.fields.is_empty();
    !empty
        && term.labels.iter().all(|requirement| fits(requirement, &node.label(&requirement.key)))
        && term.fields.iter().all(|requirement| match requirement.key.as_str() {
            "metadata.name" => fits(requirement, &node.name()),
            // The API server accepts no other field: one that is there rules nothing out.
            _ => true,
        })
}

fn holds(label: &Label<'_>, operator: NodeOperator, values: &[&str]) -> bool {
    let value = match label {
        Label::Unknown => return true,
        Label::Is(value) => Some(*value),
        Label::Absent => None,
    };
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || value.and_then(number).zip(values.first().copied().and_then(number));
    match operator {
        NodeOperator::In => value.is_some_and(|value| values.contains(&value)),
        NodeOperator::NotIn => value.is_none_or(|value| !values.contains(&value)),
        NodeOperator::Exists => value.is_some(),
        NodeOperator::DoesNotExist => value.is_none(),
        NodeOperator::Gt => compared().is_some_and(|(is, than)| is > than),
        NodeOperator::Lt => compared().is_some_and(|(is, than)| is < than),
    }
}

/// The architectures that the constraints name.
fn stated(placement: &Placement) -> Vec<Platform> {
    let os = placement
        .os
        .clone()
        .or_else(|| selected(placement, OS, OLD_OS))
        .unwrap_or_else(|| "linux".to_owned());
    let platform = |architecture: &str| Platform::new(&os, architecture, None);
    if let Some(architecture) = selected(placement, ARCH, OLD_ARCH) {
        return vec![platform(&architecture)];
    }
    let terms = placement.affinity.as_deref().unwrap_or_default();
    let named = terms.iter().map(|term| {
        let architecture = |r: &&NodeRequirement| {
            [ARCH, OLD_ARCH].contains(&r.key.as_str()) && r.operator == NodeOperator::In
        };
        term.labels.iter().find(architecture).map(|requirement| requirement.values.as_slice())
    });
    // One term that names none leaves all architectures possible.
    let named: Option<Vec<&[String]>> = named.collect();
    named.into_iter().flatten().flatten().map(|architecture| platform(architecture)).collect()
}

fn selected(placement: &Placement, key: &str, old: &str) -> Option<String> {
    placement.node_selector.get(key).or_else(|| placement.node_selector.get(old)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, arch: &str, more: &[(&str, &str)]) -> Node {
        let labels = [(ARCH, arch), (OS, "linux")].into_iter().chain(more.iter().copied());
        Node { name: name.into(), labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).collect() }
    }

    fn nodes() -> Vec<Node> {
        vec![node("a", "amd64", &[("size", "4")]), node("b", "arm64", &[("size", "8"), ("gpu", "")])]
    }

    fn requirement(key: &str, operator: NodeOperator, values: &[&str]) -> NodeRequirement {
        NodeRequirement {
            key: key.into(),
            operator,
            values: values.iter().map(ToString::to_string).collect(),
        }
    }

    fn term(labels: Vec<NodeRequirement>) -> NodeTerm {
        NodeTerm { labels, fields: Vec::new() }
    }

    fn on(placement: &Placement, nodes: &[Node], configured: &[&str]) -> Vec<String> {
        let configured: Vec<Platform> = configured.iter().map(|text| text.parse().unwrap()).collect();
        match platforms(placement, nodes, &configured) {
            Platforms::These(list) => list.iter().map(ToString::to_string).collect(),
            Platforms::Unknown => vec!["unknown".to_owned()],
        }
    }

    fn affine(terms: Vec<NodeTerm>) -> Placement {
        Placement { affinity: Some(terms), ..Placement::default() }
    }

    fn select(key: &str, value: &str) -> Placement {
        Placement {
            node_selector: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            ..Placement::default()
        }
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
            (Placement { os: Some("windows".into()), ..Placement::default() }, &none),
            (affine(vec![term(vec![requirement("size", Gt, &["4"])])]), &["linux/arm64"]),
            (affine(vec![term(vec![requirement("size", Lt, &["8"])])]), &["linux/amd64"]),
            (affine(vec![term(vec![requirement("size", Gt, &["x"])])]), &none),
            (affine(vec![term(vec![requirement("gpu", Exists, &[])])]), &["linux/arm64"]),
            (affine(vec![term(vec![requirement("gpu", DoesNotExist, &[])])]), &["linux/amd64"]),
            (affine(vec![term(vec![requirement("gpu", NotIn, &["x"])])]), &both),
            (
                affine(vec![term(vec![requirement("size", In, &["4"]), requirement("gpu", Exists, &[])])]),
                &none,
            ),
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
        assert_eq!(on(&select(ARCH, "riscv64"), &nodes(), &configured), ["linux/riscv64"]);
    }

    #[test]
    fn with_nothing_known_a_stated_architecture_counts() {
        use NodeOperator::{Exists, In};
        assert_eq!(on(&Placement::default(), &[], &[]), ["unknown"]);
        assert_eq!(on(&select(ARCH, "arm64"), &[], &[]), ["linux/arm64"]);
        let named = || term(vec![requirement(ARCH, In, &["amd64", "arm64"])]);
        assert_eq!(on(&affine(vec![named()]), &[], &[]), ["linux/amd64", "linux/arm64"]);
        assert_eq!(
            on(&affine(vec![named(), term(vec![requirement("x", Exists, &[])])]), &[], &[]),
            ["unknown"]
        );
    }
}
