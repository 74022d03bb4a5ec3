//! Policy files: YAML or JSON, several documents in one, with the line of every field, so that an error points to its place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use super::compile::{Compiled, GivenKeys, Keys, Note, compile, is_key_object, is_ours, is_root};
use crate::domain::policy::{NAME_LABEL, PolicyId};

/// A policy of a file.
#[derive(Debug, Clone)]
pub struct PolicyDocument {
    /// What it became.
    pub compiled: Compiled,
    /// The line its document begins on.
    pub line: u64,
    tree: Located,
}

/// A `TrustRoot` of a file.
#[derive(Debug, Clone)]
pub struct RootDocument {
    /// The object.
    pub object: Value,
    /// The line its document begins on.
    pub line: u64,
    tree: Located,
}

/// A file that is no YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// The line, where it is known.
    pub line: Option<u64>,
    /// What is wrong.
    pub message: String,
}

impl PolicyDocument {
    /// The line of a note's field, or of the nearest field around it that is there.
    pub fn line_of(&self, note: &Note) -> u64 {
        self.tree.line_of(&note.field).unwrap_or(self.line)
    }
}

impl RootDocument {
    /// As [`PolicyDocument::line_of`].
    pub fn line_of(&self, note: &Note) -> u64 {
        self.tree.line_of(&note.field).unwrap_or(self.line)
    }
}

/// What a text holds.
#[derive(Debug, Clone, Default)]
pub struct PolicyFile {
    /// The policies, and whatever else is of their group.
    pub policies: Vec<PolicyDocument>,
    /// The trust roots.
    pub roots: Vec<RootDocument>,
    /// The labels of each `Namespace`: cluster policies select by them.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What is none of ours and was passed over.
    pub passed_over: Vec<PassedOver>,
}

/// A document that is no policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// The line it begins on.
    pub line: u64,
    /// What it says it is: `apiVersion kind`; empty where it says nothing.
    pub what: String,
}

/// Every policy in a text.
///
/// # Errors
/// As [`read`].
pub fn policies(text: &str) -> Result<Vec<PolicyDocument>, SyntaxError> {
    read(text).map(|file| file.policies)
}

/// Every document of a text: policies, trust roots, and what is passed over. Keys that its policies reference are in the same text.
///
/// # Errors
/// A text that is no YAML.
pub fn read(text: &str) -> Result<PolicyFile, SyntaxError> {
    let documents = parse(text)?;
    let mut keys = GivenKeys::default();
    documents.add_keys(&mut keys);
    Ok(documents.compile(&keys))
}

/// The documents of a text, to be compiled.
#[derive(Debug, Clone)]
pub struct Documents(Vec<(Value, Located)>);

/// The documents of a text.
///
/// # Errors
/// A text that is no YAML.
pub fn parse(text: &str) -> Result<Documents, SyntaxError> {
    // A namespace may be called `n`, and is then not `false`.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<Spanned<Node>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| SyntaxError {
            line: error.location().map(|location| location.line()),
            message: error.without_snippet().to_string(),
        })?;
    let mut objects = Vec::new();
    for document in documents {
        take_apart(Located::from(document), &mut objects);
    }
    Ok(Documents(objects.into_iter().map(|tree| (tree.to_json(), tree)).collect()))
}

impl Documents {
    /// Adds the objects among them that keys can be in.
    pub fn add_keys(&self, keys: &mut GivenKeys) {
        for (object, _) in &self.0 {
            keys.add(object);
        }
    }

    /// Compiles them; what policies reference is among `keys`.
    pub fn compile(self, keys: &dyn Keys) -> PolicyFile {
        let mut file = PolicyFile::default();
        let mut seen: BTreeSet<(PolicyId, String)> = BTreeSet::new();
        for (object, tree) in self.0 {
            let text = |field| object.get(field).and_then(Value::as_str).unwrap_or_default();
            let kind = text("kind").to_owned();
            if text("apiVersion") == "v1" && kind == "Namespace" {
                let (name, labels) = labels_of(&object);
                file.namespaces.insert(name, labels);
            } else if !is_ours(&object) && !is_key_object(&object) {
                let what = format!("{} {kind}", text("apiVersion")).trim().to_owned();
                file.passed_over.push(PassedOver { line: tree.line, what });
            }
            if is_root(&object) {
                file.roots.push(RootDocument { object, line: tree.line, tree });
                continue;
            }
            if !is_ours(&object) {
                continue;
            }
            let mut compiled = compile(&object, keys);
            if !seen.insert((compiled.entry.id().clone(), kind.clone())) {
                compiled.refuse(Note {
                    field: "metadata.name".to_owned(),
                    value: Some(compiled.entry.id().to_string()),
                    message: "is there twice in this file".to_owned(),
                });
            }
            file.policies.push(PolicyDocument { compiled, line: tree.line, tree });
        }
        file
    }
}

/// A namespace's name and labels, with the one that the API server gives to each.
fn labels_of(namespace: &Value) -> (String, BTreeMap<String, String>) {
    let name = namespace.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let labels = namespace.pointer("/metadata/labels").and_then(Value::as_object);
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    let mut labels: BTreeMap<String, String> = labels.into_iter().flatten().filter_map(text).collect();
    labels.insert(NAME_LABEL.to_owned(), name.clone());
    (name, labels)
}

/// A `List` is its items; those of a typed one (`ProvenancePolicyList`) have version and kind from it.
fn take_apart(tree: Located, found: &mut Vec<Located>) {
    let list = tree.text("kind").and_then(|kind| kind.strip_suffix("List"));
    let (Some(kind), Some(Node::List(items))) = (list, tree.field("items").map(|items| &items.node)) else {
        return found.push(tree);
    };
    for item in items {
        let mut item = item.clone();
        if !kind.is_empty() {
            item.add_missing("kind", kind);
            item.add_missing("apiVersion", tree.text("apiVersion").unwrap_or_default());
        }
        take_apart(item, found);
    }
}

/// A value and the line it begins on.
#[derive(Debug, Clone)]
struct Located {
    line: u64,
    node: Node,
}

#[derive(Debug, Clone)]
enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Located>),
    /// With the line of each key.
    Map(Vec<(String, u64, Located)>),
}

impl From<Spanned<Node>> for Located {
    fn from(spanned: Spanned<Node>) -> Self {
        Self { line: spanned.referenced.line(), node: spanned.value }
    }
}

impl Located {
    fn field(&self, name: &str) -> Option<&Self> {
        match &self.node {
            Node::Map(fields) => fields.iter().find(|(key, ..)| key == name).map(|(_, _, value)| value),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match &self.field(name)?.node {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    fn add_missing(&mut self, name: &str, value: &str) {
        let is_missing = self.field(name).is_none();
        if let Node::Map(fields) = &mut self.node
            && is_missing
        {
            let value = Self { line: self.line, node: Node::Text(value.to_owned()) };
            fields.push((name.to_owned(), self.line, value));
        }
    }

    /// The line of `spec.signers[0].github`, or of as much of it as there is.
    fn line_of(&self, path: &str) -> Option<u64> {
        let mut at = self;
        let mut line = None;
        for step in path.split(['.', '[']) {
            let next = match (&at.node, step.strip_suffix(']')) {
                (Node::List(items), Some(index)) => index
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| items.get(index))
                    .map(|item| (item.line, item)),
                (Node::Map(fields), None) => {
                    fields.iter().find(|(key, ..)| key == step).map(|(_, line, value)| (*line, value))
                }
                _ => None,
            };
            let Some((found, value)) = next else { break };
            (line, at) = (Some(found), value);
        }
        line
    }

    fn to_json(&self) -> Value {
        match &self.node {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Number(value) => Value::Number(value.clone()),
            Node::Text(value) => Value::String(value.clone()),
            Node::List(items) => items.iter().map(Self::to_json).collect(),
            Node::Map(fields) => Value::Object(
                fields.iter().map(|(key, _, value)| (key.clone(), value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value).map(Node::Number).ok_or_else(|| E::custom("a number that JSON does not have"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element::<Spanned<Node>>()? {
            items.push(item.into());
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields: Vec<(String, u64, Located)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Node>>()? {
            if fields.iter().any(|(known, ..)| *known == key.value) {
                return Err(de::Error::custom(format!("the field {:?} is there twice", key.value)));
            }
            fields.push((key.value, key.referenced.line(), value.into()));
        }
        Ok(Node::Map(fields))
    }
}

#[cfg(test)]
mod tests;
