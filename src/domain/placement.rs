//! Where a pod can land: its constraints against the nodes that are there and the platforms that are configured for nodes to come.
//!
//! The rules are the scheduler's (`nodeaffinity` of component-helpers): `nodeSelector` and required affinity must both hold,
//! any one term suffices, of a term's requirements all must hold, a term without requirements fits nothing. Tolerations never narrow.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    platform::Platform,
    workload::{Node, NodeOperator, NodeRequirement, NodeTerm, Placement, Platforms},
};

const ARCH: &str = "kubernetes.io/arch";
const OS: &str = "kubernetes.io/os";
/// The only field of a node that an affinity can name.
const NAME: &str = "metadata.name";
/// Labels that older nodes and manifests use for the same.
const OLD_ARCH: &str = "beta.kubernetes.io/arch";
const OLD_OS: &str = "beta.kubernetes.io/os";
/// How many architectures or systems a pod names that are told apart; there are fewer.
const MAX_STATED: usize = 32;

/// The platforms that a pod can land on.
///
/// Those of the nodes that fit, and every configured platform that the constraints do not rule out. Where there is none, what the
/// constraints say of system and architecture counts, for a node may yet come; where they say nothing, it is unknown. The same holds
/// where a node that fits does not say what it is, and where the pod names a node that is not known: that node may be there already,
/// and configured platforms say nothing of it.
pub fn platforms<N: Borrow<Node>>(placement: &Placement, nodes: &[N], configured: &[Platform]) -> Platforms {
    let mut found: BTreeSet<Platform> = BTreeSet::new();
    for node in nodes.iter().map(Borrow::borrow).filter(|node| fits(placement, &Known(node))) {
        let Some(platform) = node_platform(node) else { return stated(placement) };
        found.insert(platform);
    }
    if !unknown_nodes(placement, nodes).is_empty() {
        return stated(placement);
    }
    found.extend(configured.iter().filter(|platform| fits(placement, &Possible(platform))).cloned());
    if found.is_empty() {
        return stated(placement);
    }
    let platforms = found.into_iter().collect();
    match stated(placement) {
        Platforms::Within { systems, architectures } => {
            Platforms::Among { platforms, systems, architectures }
        }
        _ => Platforms::These(platforms),
    }
}

/// The nodes that a placement names and of which it is not known what they are: they should be looked up.
pub fn unknown_nodes<'a, N: Borrow<Node>>(placement: &'a Placement, nodes: &[N]) -> Vec<&'a str> {
    let is_known = |name: &str| {
        let node = nodes.iter().map(Borrow::borrow).find(|node| node.name == name);
        node.is_some_and(|node| node_platform(node).is_some())
    };
    let mut unknown: Vec<&str> = named(placement).filter(|name| !is_known(name)).collect();
    unknown.dedup();
    unknown
}

/// Whether a pod can land on nodes that it names and on no others.
pub fn is_tied(placement: &Placement) -> bool {
    let by_name = |term: &NodeTerm| term.fields.iter().any(names_nodes);
    let terms = placement.affinity.as_deref();
    placement.node_name.is_some() || terms.is_some_and(|terms| !terms.is_empty() && terms.iter().all(by_name))
}

/// The nodes that a placement names.
fn named(placement: &Placement) -> impl Iterator<Item = &str> {
    // Whatever else a pod asks for, it lands on the node of its `nodeName` or nowhere.
    let terms = if placement.node_name.is_some() { None } else { placement.affinity.as_ref() };
    let fields = terms.into_iter().flatten().flat_map(|term| &term.fields);
    let names = fields.filter(|field| names_nodes(field)).flat_map(|field| &field.values);
    placement.node_name.iter().chain(names).map(String::as_str)
}

fn names_nodes(field: &NodeRequirement) -> bool {
    field.key == NAME && field.operator == NodeOperator::In
}

/// Each system and architecture among platforms, once: what nodes are labelled with, without variants.
pub fn pairs_of(platforms: impl Iterator<Item = Platform>) -> Vec<Platform> {
    let pairs = platforms.map(|platform| Platform::new(platform.os(), platform.architecture(), None));
    pairs.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The placement with the node selector of its `RuntimeClass` joined, as the API server does when it makes the pod (it refuses
/// a pod whose own selector contradicts its class).
pub fn of_class(placement: &Placement, selector: &BTreeMap<String, String>) -> Placement {
    let mut joined = placement.clone();
    for (key, value) in selector {
        joined.node_selector.entry(key.clone()).or_insert_with(|| value.clone());
    }
    joined
}

/// The platform of a node, by its labels, which every kubelet sets, else by its status. A node made by hand that names no system is one
/// of Linux.
pub fn node_platform(node: &Node) -> Option<Platform> {
    let label = |key, old| node.labels.get(key).or_else(|| node.labels.get(old)).map(String::as_str);
    let stated = node.platform.as_ref();
    let system = label(OS, OLD_OS).or_else(|| stated.map(Platform::os)).unwrap_or("linux");
    let architecture = label(ARCH, OLD_ARCH).or_else(|| stated.map(Platform::architecture))?;
    Some(Platform::new(system, architecture, None))
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
        // A node that comes has none of the names of those that are there, and a name that nobody knows is looked up.
        Label::Absent
    }
}

fn fits(placement: &Placement, node: &impl Landing) -> bool {
    let is_named =
        placement.node_name.as_deref().is_none_or(|wanted| holds(&node.name(), NodeOperator::In, &[wanted]));
    // A pod with a nodeName is not scheduled: the kubelet takes it, and checks selector and affinity alike. `os` is no label's
    // constraint, but the kubelet's of itself: a node that does not say its system is not ruled out.
    let os = placement.os.as_deref().is_none_or(|wanted| match (node.label(OS), node.label(OLD_OS)) {
        (Label::Is(os), _) | (Label::Absent, Label::Is(os)) => os == wanted,
        (Label::Absent | Label::Unknown, _) => true,
    });
    let mut selected = placement.node_selector.iter();
    is_named
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
            NAME => fits(requirement, &node.name()),
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

/// What the constraints say of nodes of which nothing else is known. Whoever names no system is kept from none.
fn stated(placement: &Placement) -> Platforms {
    let systems = match &placement.os {
        Some(os) => vec![os.clone()],
        None => required(placement, OS, OLD_OS),
    };
    let architectures = required(placement, ARCH, OLD_ARCH);
    if systems.is_empty() && architectures.is_empty() {
        return Platforms::Unknown;
    }
    Platforms::Within { systems, architectures }
}

/// The values one of which a node's label must have; none where any will do, or where they are more than there can be.
fn required(placement: &Placement, key: &str, old: &str) -> Vec<String> {
    if let Some(value) = placement.node_selector.get(key).or_else(|| placement.node_selector.get(old)) {
        return vec![value.clone()];
    }
    let of_term = |term: &NodeTerm| {
        let names =
            |r: &&NodeRequirement| [key, old].contains(&r.key.as_str()) && r.operator == NodeOperator::In;
        term.labels.iter().find(names).map(|requirement| requirement.values.clone())
    };
    let terms = placement.affinity.as_deref().unwrap_or_default();
    // One term that names none leaves all possible.
    let named: Option<Vec<Vec<String>>> = terms.iter().map(of_term).collect();
    let values: BTreeSet<String> = named.into_iter().flatten().flatten().collect();
    if values.len() > MAX_STATED { Vec::new() } else { values.into_iter().collect() }
}

#[cfg(test)]
mod tests;
