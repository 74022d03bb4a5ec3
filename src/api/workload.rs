//! From Kubernetes objects to what is judged: every image a pod or a pod template may run, and what narrows where it lands.
//!
//! This is on the path of every review: the structs name what is needed, borrow what they can, and skip the rest of the object.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, de::IgnoredAny};

use super::bounded;
use crate::domain::workload::{
    ImageRole, NodeOperator, NodeRequirement, NodeTerm, Placement, PullWith, Workload, WorkloadImage,
};

/// An object as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    /// What is judged.
    pub workload: Workload,
    /// Whether it is being deleted: then nothing new runs for its sake.
    pub being_deleted: bool,
    /// The object's uid, where it has one already.
    pub uid: Option<String>,
}

/// Where the pod's spec is in an object of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `spec`
    Pod,
    /// `spec.template.spec`
    Template,
    /// `template.spec`
    PodTemplate,
    /// `spec.jobTemplate.spec.template.spec`
    CronJob,
}

impl Shape {
    fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            ("", "Pod") => Some(Self::Pod),
            ("", "PodTemplate") => Some(Self::PodTemplate),
            ("", "ReplicationController") => Some(Self::Template),
            ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet") | ("batch", "Job") => {
                Some(Self::Template)
            }
            ("batch", "CronJob") => Some(Self::CronJob),
            _ => None,
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Pod => "spec",
            Self::Template => "spec.template.spec",
            Self::PodTemplate => "template.spec",
            Self::CronJob => "spec.jobTemplate.spec.template.spec",
        }
    }
}

/// Whether objects of this kind name images where they are looked for.
pub fn is_known(group: &str, kind: &str) -> bool {
    Shape::of(group, kind).is_some()
}

/// Reads an object of a group and kind; `None` for a kind that names no images as far as is known.
///
/// # Errors
/// Where it is not of the shape of its kind.
pub fn read(group: &str, kind: &str, json: &str) -> Result<Option<Object>, serde_json::Error> {
    let Some(shape) = Shape::of(group, kind) else { return Ok(None) };
    let (metadata, spec) = match shape {
        Shape::Pod => return serde_json::from_str::<Pod<'_>>(json).map(|pod| Some(pod.into())),
        Shape::Template => {
            let object: Whole<'_, Option<Templated<'_>>> = serde_json::from_str(json)?;
            (object.metadata, object.spec.and_then(Templated::pod))
        }
        Shape::PodTemplate => {
            let object: WithTemplate<'_> = serde_json::from_str(json)?;
            (object.metadata, object.template.and_then(|template| template.spec))
        }
        Shape::CronJob => {
            let object: Whole<'_, Option<Scheduled<'_>>> = serde_json::from_str(json)?;
            let job = object.spec.and_then(|spec| spec.job_template).and_then(|template| template.spec);
            (object.metadata, job.and_then(Templated::pod))
        }
    };
    Ok(Some(object(kind, shape, metadata, spec)))
}

fn object(kind: &str, shape: Shape, metadata: Option<Metadata<'_>>, spec: Option<PodSpec<'_>>) -> Object {
    let metadata = metadata.unwrap_or_default();
    let spec = spec.unwrap_or_default();
    let name = metadata.name.or(metadata.generate_name).unwrap_or_default();
    Object {
        being_deleted: metadata.deletion_timestamp.is_some(),
        uid: metadata.uid.map(Text::into_owned),
        workload: Workload {
            kind: kind.to_owned(),
            namespace: metadata.namespace.unwrap_or_default().into_owned(),
            name: name.into_owned(),
            images: images(shape.prefix(), &spec),
            pull: pull(&spec),
            placement: placement(spec),
        },
    }
}

/// A pod, to be read where it stands in a larger text: nearly every review is of one.
#[derive(Deserialize)]
pub struct Pod<'a>(#[serde(borrow)] Whole<'a, Option<Box<PodSpec<'a>>>>);

impl From<Pod<'_>> for Object {
    fn from(Pod(whole): Pod<'_>) -> Self {
        object("Pod", Shape::Pod, whole.metadata, whole.spec.map(|spec| *spec))
    }
}

/// Whether the same images land in the same places: then an update changes nothing that is judged.
pub fn is_unchanged(before: &Workload, after: &Workload) -> bool {
    // A container that is new runs its image anew, also where another has the same: a tag may have moved meanwhile.
    before.placement == after.placement && before.images == after.images
}

/// Leaves of a pod that is updated the images that have to be judged: all where it can land elsewhere than before, else those that are
/// new, or other than what the same list had under the same name.
pub fn keep_changed(before: &Workload, after: &mut Workload) {
    if before.placement != after.placement {
        return;
    }
    // A name that stands for several images tells nothing of any.
    let mut known: HashMap<(ImageRole, &str), Option<&str>> = HashMap::new();
    for image in &before.images {
        let one = Some(image.image.as_str());
        known
            .entry((image.role, &image.name))
            .and_modify(|other| *other = other.filter(|_| *other == one))
            .or_insert(one);
    }
    after.images.retain(|image| {
        known.get(&(image.role, image.name.as_str())).copied().flatten() != Some(image.image.as_str())
    });
}

fn text(text: Option<&Text<'_>>) -> String {
    text.map(|text| text.0.to_string()).unwrap_or_default()
}

fn images(prefix: &str, spec: &PodSpec<'_>) -> Vec<Arc<WorkloadImage>> {
    let lists = [
        (ImageRole::InitContainer, "initContainers", &spec.init_containers),
        (ImageRole::Container, "containers", &spec.containers),
        (ImageRole::EphemeralContainer, "ephemeralContainers", &spec.ephemeral_containers),
    ];
    let mut images = Vec::new();
    for (role, list, containers) in lists {
        for (at, container) in containers.iter().flatten().enumerate() {
            images.push(Arc::new(WorkloadImage {
                name: text(container.name.as_ref()),
                role,
                field: [prefix, ".", list, "[", itoa::Buffer::new().format(at), "].image"].concat(),
                image: text(container.image.as_ref()),
            }));
        }
    }
    for (at, volume) in spec.volumes.iter().flatten().enumerate() {
        if let Some(source) = &volume.image {
            images.push(Arc::new(WorkloadImage {
                name: text(volume.name.as_ref()),
                role: ImageRole::Volume,
                field: format!("{prefix}.volumes[{at}].image.reference"),
                image: text(source.reference.as_ref()),
            }));
        }
    }
    images
}

fn pull(spec: &PodSpec<'_>) -> PullWith {
    let named = spec.image_pull_secrets.iter().flatten().filter_map(|secret| secret.name.as_ref());
    let service_account = spec.service_account_name.as_ref().filter(|name| !name.is_empty());
    PullWith {
        secrets: named.filter(|name| !name.is_empty()).map(|name| name.0.to_string()).collect(),
        service_account: service_account.map(|name| name.0.to_string()),
    }
}

fn placement(spec: PodSpec<'_>) -> Placement {
    let required = spec
        .affinity
        .and_then(|affinity| affinity.node_affinity)
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution);
    Placement {
        node_name: spec.node_name.filter(|name| !name.is_empty()).map(Text::into_owned),
        node_selector: spec.node_selector.unwrap_or_default(),
        affinity: required
            .map(|selector| selector.node_selector_terms.into_iter().flatten().map(term).collect()),
        os: spec.os.and_then(|os| os.name).map(Text::into_owned),
        runtime_class: spec.runtime_class_name.filter(|name| !name.is_empty()).map(Text::into_owned),
    }
}

fn term(term: Term) -> NodeTerm {
    let requirements = |list: Option<Vec<Requirement>>| {
        list.into_iter().flatten().map(|r| NodeRequirement {
            key: r.key,
            operator: r.operator.into(),
            values: r.values.unwrap_or_default(),
        })
    };
    NodeTerm {
        labels: requirements(term.match_expressions).collect(),
        fields: requirements(term.match_fields).collect(),
    }
}

/// A string, borrowed where it can be: serde borrows one for a [`Cow`] that is a field, and copies it for one in an [`Option`].
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    fn into_owned(self) -> String {
        self.0.into_owned()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Deserialize)]
struct Whole<'a, S> {
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    spec: S,
}

#[derive(Deserialize)]
struct WithTemplate<'a> {
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    template: Option<Template<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    generate_name: Option<Text<'a>>,
    #[serde(borrow)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    uid: Option<Text<'a>>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Templated<'a> {
    #[serde(borrow)]
    template: Option<Template<'a>>,
}

impl<'a> Templated<'a> {
    fn pod(self) -> Option<PodSpec<'a>> {
        self.template?.spec
    }
}

#[derive(Deserialize)]
struct Template<'a> {
    #[serde(borrow)]
    spec: Option<PodSpec<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scheduled<'a> {
    #[serde(borrow)]
    job_template: Option<JobTemplate<'a>>,
}

#[derive(Deserialize)]
struct JobTemplate<'a> {
    #[serde(borrow)]
    spec: Option<Templated<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec<'a> {
    #[serde(borrow, default, deserialize_with = "bounded::list")]
    containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default, deserialize_with = "bounded::list")]
    init_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default, deserialize_with = "bounded::list")]
    ephemeral_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow, default, deserialize_with = "bounded::list")]
    volumes: Option<Vec<Volume<'a>>>,
    #[serde(borrow)]
    node_name: Option<Text<'a>>,
    #[serde(default, deserialize_with = "bounded::part")]
    node_selector: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "bounded::part")]
    affinity: Option<Affinity>,
    #[serde(borrow)]
    os: Option<Os<'a>>,
    #[serde(borrow)]
    runtime_class_name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "bounded::list")]
    image_pull_secrets: Option<Vec<Named<'a>>>,
    #[serde(borrow)]
    service_account_name: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Container<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    image: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Volume<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    image: Option<ImageSource<'a>>,
}

#[derive(Deserialize)]
struct ImageSource<'a> {
    #[serde(borrow)]
    reference: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Os<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<Selector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    node_selector_terms: Option<Vec<Term>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Term {
    match_expressions: Option<Vec<Requirement>>,
    match_fields: Option<Vec<Requirement>>,
}

#[derive(Deserialize)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Option<Vec<String>>,
}

#[derive(Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

impl From<Operator> for NodeOperator {
    fn from(operator: Operator) -> Self {
        match operator {
            Operator::In => Self::In,
            Operator::NotIn => Self::NotIn,
            Operator::Exists => Self::Exists,
            Operator::DoesNotExist => Self::DoesNotExist,
            Operator::Gt => Self::Gt,
            Operator::Lt => Self::Lt,
        }
    }
}

#[cfg(test)]
mod tests;
