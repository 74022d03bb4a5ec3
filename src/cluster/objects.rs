//! Objects of the API server, read as far as they matter. Whoever may write an object chooses how many labels, annotations and managers
//! it has, up to the size that the API server stores; each takes many times its text once it is read.

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use crate::{domain::workload::Node, gather::ports::LabelMap};

/// The most bytes of the labels of one object. An object with more of them counts as one whose labels are not known.
pub(super) const LABELS: usize = 64 << 10;

/// A policy or a trust root.
#[derive(Debug)]
pub struct ApiObject {
    /// Its name.
    pub name: String,
    /// Its namespace; `None`: the cluster's.
    pub namespace: Option<String>,
    /// Another object of the same name has another.
    pub uid: String,
    /// Changes with the spec.
    pub generation: i64,
    /// The object without its labels and its status.
    pub object: Value,
    /// Its status.
    pub status: Option<Value>,
}

/// The parts of an object. A field that is none of these is an error to be told.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    spec: Option<Value>,
    status: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(default)]
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    generation: i64,
    #[serde(borrow)]
    labels: Option<&'a RawValue>,
}

impl ApiObject {
    /// Reads an object.
    ///
    /// # Errors
    /// What is no object.
    pub fn read(json: &[u8]) -> serde_json::Result<Self> {
        let Parts { metadata, spec, status, mut others } = serde_json::from_slice(json)?;
        // What there is besides is told by its name.
        others.values_mut().for_each(|value| *value = Value::Null);
        let mut head = Map::from_iter([("name".to_owned(), metadata.name.clone().into())]);
        head.extend(metadata.namespace.clone().map(|namespace| ("namespace".to_owned(), namespace.into())));
        others.insert("metadata".to_owned(), head.into());
        others.extend(spec.map(|spec| ("spec".to_owned(), spec)));
        Ok(Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            generation: metadata.generation,
            object: others.into(),
            status,
        })
    }
}

/// An object of which the metadata matters.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

/// Which object it is, and as it is written how often: namespace, name, uid and generation.
///
/// # Errors
/// What is no object.
pub(super) fn version(json: &[u8]) -> serde_json::Result<(Option<String>, String, String, i64)> {
    let Named { metadata } = serde_json::from_slice(json)?;
    Ok((metadata.namespace, metadata.name, metadata.uid, metadata.generation))
}

/// The name of an object, and its labels; `None` where they are too large.
///
/// # Errors
/// What is no object.
pub(super) fn labels(json: &[u8]) -> serde_json::Result<(String, Option<LabelMap>)> {
    let Named { metadata } = serde_json::from_slice(json)?;
    Ok((metadata.name, bounded(metadata.labels)?))
}

/// A node, and whether its labels are known. What its status says is looked up where they do not tell what it is.
///
/// # Errors
/// What is no object.
pub(super) fn node(json: &[u8]) -> serde_json::Result<(Node, bool)> {
    let (name, labels) = labels(json)?;
    let is_known = labels.is_some();
    Ok((Node { name, labels: labels.unwrap_or_default(), platform: None }, is_known))
}

/// The name of a runtime class, and the labels that it selects nodes by; `None` where they are too large.
///
/// # Errors
/// What is no object.
pub(super) fn runtime_class(json: &[u8]) -> serde_json::Result<(String, Option<LabelMap>)> {
    #[derive(Deserialize)]
    struct Class<'a> {
        #[serde(borrow)]
        metadata: Metadata<'a>,
        #[serde(borrow)]
        scheduling: Option<Scheduling<'a>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Scheduling<'a> {
        #[serde(borrow)]
        node_selector: Option<&'a RawValue>,
    }

    let Class { metadata, scheduling } = serde_json::from_slice(json)?;
    let selector = scheduling.and_then(|scheduling| scheduling.node_selector);
    Ok((metadata.name, bounded(selector)?))
}

/// How many bytes labels take.
pub(super) fn label_bytes(labels: &LabelMap) -> usize {
    /// What a map takes beside the texts.
    const BESIDE: usize = 64;
    let each = labels.iter().map(|(key, value)| key.len().saturating_add(value.len()).saturating_add(BESIDE));
    each.fold(0, usize::saturating_add)
}

fn bounded(labels: Option<&RawValue>) -> serde_json::Result<Option<LabelMap>> {
    match labels.map(RawValue::get) {
        Some(text) if text.len() > LABELS => Ok(None),
        Some(text) => serde_json::from_str::<Option<LabelMap>>(text).map(Option::unwrap_or_default).map(Some),
        None => Ok(Some(LabelMap::new())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn b4_of_an_object_is_kept_what_matters_however_large_the_rest_is() {
        let many: Map<String, Value> = (0..20_000).map(|n| (n.to_string(), json!(""))).collect();
        let written = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3, "labels": many, "annotations": many,
                "managedFields": [{"fieldsV1": many}]},
            "spec": {"a": 1}, "status": {"b": 2}, "extra": many,
        });
        let read = ApiObject::read(written.to_string().as_bytes()).unwrap();
        let kept = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"a": 1}, "extra": null});
        assert_eq!(read.object, kept);
        assert_eq!((read.name.as_str(), read.uid.as_str(), read.generation), ("p", "u", 3));
        assert_eq!(read.status, Some(json!({"b": 2})));
    }

    #[test]
    fn b4_labels_beyond_the_bound_are_not_known() {
        let with = |labels: Value| labels_of(&json!({"metadata": {"name": "n", "labels": labels}}));
        assert_eq!(with(json!({"a": "b"})).unwrap()["a"], "b");
        assert_eq!(with(Value::Null), Some(LabelMap::new()));
        assert_eq!(with(json!({"a": "x".repeat(LABELS)})), None);
    }

    fn labels_of(object: &Value) -> Option<LabelMap> {
        labels(object.to_string().as_bytes()).unwrap().1
    }
}
