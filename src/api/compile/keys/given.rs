//! Secrets and `ConfigMap` objects as they are written, and those among given files as a source of keys.

use std::collections::{BTreeMap, btree_map::Entry};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{HOME, KeyHolder, KeyKeeper, KeyObject, Keys, Unfound};
use crate::api::compile::head::DEFAULT_NAMESPACE;

/// What an object has, by entry; those that are no text have none.
pub type Entries = BTreeMap<String, Option<String>>;

/// The objects of given files.
#[derive(Debug, Clone, Default)]
pub struct GivenKeys {
    /// Without entries where it is there several times: which one the cluster has is not known.
    objects: BTreeMap<KeyHolder, Option<Entries>>,
}

impl GivenKeys {
    /// Takes an object in, where it is one that keys can be in.
    pub fn add(&mut self, object: &Value) {
        let Some(kind) = keeper(object) else { return };
        let text = |at: &str| object.pointer(at).and_then(Value::as_str);
        let holder = KeyHolder {
            kind,
            // As for a policy that names none.
            namespace: text("/metadata/namespace").unwrap_or(DEFAULT_NAMESPACE).to_owned(),
            name: text("/metadata/name").unwrap_or_default().to_owned(),
        };
        match self.objects.entry(holder) {
            Entry::Vacant(vacant) => drop(vacant.insert(Some(entries(kind, object)))),
            Entry::Occupied(mut known) => drop(known.insert(None)),
        }
    }
}

impl Keys for GivenKeys {
    fn home(&self) -> &str {
        HOME
    }

    fn find(&self, wanted: &KeyObject) -> Result<String, Unfound> {
        let known = self.objects.get(&wanted.holder).ok_or(Unfound::Object)?;
        let entries = known.as_ref().ok_or(Unfound::Ambiguous)?;
        entries.get(&wanted.key).ok_or(Unfound::Entry)?.clone().ok_or(Unfound::NoText)
    }
}

/// Whether keys can be in this object.
pub fn is_key_object(object: &Value) -> bool {
    keeper(object).is_some()
}

fn keeper(object: &Value) -> Option<KeyKeeper> {
    let text = |field| object.get(field).and_then(Value::as_str);
    let kinds = [KeyKeeper::Secret, KeyKeeper::ConfigMap];
    kinds.into_iter().find(|kind| text("apiVersion") == Some("v1") && text("kind") == Some(kind.as_str()))
}

/// What an object of this kind has.
pub fn entries(kind: KeyKeeper, object: &Value) -> Entries {
    let of = |field: &str, read: fn(&str) -> Option<String>| -> Entries {
        let fields = object.get(field).and_then(Value::as_object).into_iter().flatten();
        fields.map(|(key, value)| (key.clone(), value.as_str().and_then(read))).collect()
    };
    let plain = |text: &str| Some(text.to_owned());
    match kind {
        KeyKeeper::Secret => {
            let mut entries = of("data", decoded);
            // What the API server does with it.
            entries.extend(of("stringData", plain));
            entries
        }
        KeyKeeper::ConfigMap => of("data", plain),
    }
}

fn decoded(base64: &str) -> Option<String> {
    // YAML may fold it over several lines.
    let base64: String = base64.split_ascii_whitespace().collect();
    String::from_utf8(STANDARD.decode(base64).ok()?).ok()
}
