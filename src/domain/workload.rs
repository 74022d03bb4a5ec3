//! A workload as it is judged: its images and where it can land.

use std::{collections::BTreeMap, sync::Arc};

use super::platform::Platform;

/// What is judged: the images of one object, and its placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The object's kind.
    pub kind: String,
    /// The namespace it is in.
    pub namespace: String,
    /// The object's name, or its `generateName`.
    pub name: String,
    /// Every image it may run.
    pub images: Vec<Arc<WorkloadImage>>,
    /// Where its pods can land.
    pub placement: Placement,
    /// What its images are pulled with.
    pub pull: PullWith,
}

/// What a pod's images are pulled with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullWith {
    /// `imagePullSecrets`: names of Secrets in the pod's namespace.
    pub secrets: Vec<String>,
    /// `serviceAccountName`, whose own `imagePullSecrets` come after; `None`: `default`.
    pub service_account: Option<String>,
}

/// One image of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadImage {
    /// What names it: the container's or volume's name.
    pub name: String,
    /// What it is.
    pub role: ImageRole,
    /// The field, for messages: `spec.template.spec.containers[0].image`.
    pub field: String,
    /// The reference as it was written; not yet parsed.
    pub image: String,
}

/// The ways in which a pod uses an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageRole {
    /// `containers`
    Container,
    /// `initContainers`
    InitContainer,
    /// `ephemeralContainers`
    EphemeralContainer,
    /// `volumes[].image`
    Volume,
}

/// What narrows the nodes that a pod can land on. Tolerations are not here: they never narrow.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Placement {
    /// `nodeName`: that node alone.
    pub node_name: Option<String>,
    /// `nodeSelector`, and the `RuntimeClass`'s `scheduling.nodeSelector`: all must hold.
    pub node_selector: BTreeMap<String, String>,
    /// Required node affinity; terms are `ORed`, `None`: not given. An empty list fits no node.
    pub affinity: Option<Vec<NodeTerm>>,
    /// `os.name`
    pub os: Option<String>,
    /// `runtimeClassName`: whose `scheduling.nodeSelector` is to be joined into [`Placement::node_selector`] where the class is known.
    pub runtime_class: Option<String>,
}

/// One term of a required node affinity; requirements are `ANDed`. A term without any fits no node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct NodeTerm {
    /// `matchExpressions`, over labels.
    pub labels: Vec<NodeRequirement>,
    /// `matchFields`, over fields; only `metadata.name` exists.
    pub fields: Vec<NodeRequirement>,
}

/// One requirement of a node term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeRequirement {
    /// The label's key or the field's path.
    pub key: String,
    /// The operator.
    pub operator: NodeOperator,
    /// Its values.
    pub values: Vec<String>,
}

/// The operators of a node selector requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeOperator {
    /// One of the values.
    In,
    /// None of the values, or no such label.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The label is an integer greater than the value.
    Gt,
    /// The label is an integer less than the value.
    Lt,
}

/// A node as far as placement goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What its status says that it is (`status.nodeInfo`), where its labels do not and somebody looked.
    pub platform: Option<Platform>,
}

/// The platforms a pod can land on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Platforms {
    /// These, in order, without repeats. A node that joins later may be of any other.
    These(Vec<Platform>),
    /// These, of a pod whose own constraints say what a node that joins later must be. An empty list: any at all.
    Among {
        /// The platforms of today, in order, without repeats.
        platforms: Vec<Platform>,
        /// The operating systems, in Go's words.
        systems: Vec<String>,
        /// The architectures, in Go's words.
        architectures: Vec<String>,
    },
    /// No node is known, but what the pod asks of one: any of these systems, any of these architectures. An empty list: any at all.
    Within {
        /// The operating systems, in Go's words.
        systems: Vec<String>,
        /// The architectures, in Go's words.
        architectures: Vec<String>,
    },
    /// Unknown: whatever the index has.
    Unknown,
}
