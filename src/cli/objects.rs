//! Reading manifests as `kubectl apply -f` does: YAML or JSON, several documents in a file, lists taken apart.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::exit::Failure;

/// The most that is read of one file.
const MAX_INPUT: u64 = 32 * 1024 * 1024;

/// An object, and where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The file, for messages.
    pub origin: String,
    /// The object.
    pub object: Value,
}

impl Found {
    /// A text at `path`, which starts with `/`; empty where there is none.
    pub fn text(&self, path: &str) -> &str {
        self.object.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Every object in a file; `-` is standard input.
///
/// # Errors
/// What cannot be read, is no YAML or JSON, or holds something that is no Kubernetes object.
pub fn read(path: &Path) -> Result<Vec<Found>, Failure> {
    let found = read_list(path)?;
    if found.is_empty() { Err(Failure::new(format!("{} holds no object", origin(path)))) } else { Ok(found) }
}

fn origin(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// The same, where a list may be empty. A file without any document holds no list.
///
/// # Errors
/// As [`read`].
pub fn read_list(path: &Path) -> Result<Vec<Found>, Failure> {
    let origin = self::origin(path);
    let text = load(path).map_err(|error| Failure::new(format!("{origin} cannot be read: {error}")))?;
    let wrong = |error: String| Failure::new(format!("{origin}: {error}"));
    // What stands between two `---` may be comments alone.
    let mut documents = documents(&text).map_err(wrong)?;
    documents.retain(|document| !document.is_null());
    let is_empty = documents.is_empty();
    let mut found = Vec::new();
    for document in documents {
        take_apart(document, &origin, &mut found)?;
    }
    if is_empty {
        return Err(Failure::new(format!("{origin} holds no object")));
    }
    Ok(found)
}

fn load(path: &Path) -> io::Result<String> {
    let reader: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut bytes = Vec::new();
    reader.take(MAX_INPUT.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_INPUT) {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_INPUT >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    // JSON has a reader of its own: YAML's does not take every JSON, and its limits are for text that people write.
    if text.trim_start().starts_with('{') {
        let read = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<Value>, _>>();
        if let Ok(documents) = read {
            return Ok(documents);
        }
    }
    serde_saphyr::from_multiple::<Value>(text).map_err(|error| error.to_string())
}

/// Lists are their items; an item of a typed list (`PodList`) has its kind from the list.
fn take_apart(mut object: Value, origin: &str, found: &mut Vec<Found>) -> Result<(), Failure> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if kind.is_empty() {
        let what =
            if object.is_object() { "an object without a kind" } else { "something that is no object" };
        return Err(Failure::new(format!("{origin} holds {what}"))
            .hint("every document is a Kubernetes object with apiVersion and kind, or an AdmissionReview"));
    }
    let Some(item_kind) = kind.strip_suffix("List").filter(|_| object.get("items").is_some()) else {
        found.push(Found { origin: origin.to_owned(), object });
        return Ok(());
    };
    let version = object.get("apiVersion").cloned().unwrap_or_default();
    let items = object.get_mut("items").map(Value::take).unwrap_or_default();
    let Value::Array(items) = items else { return Ok(()) };
    for mut item in items {
        if let Value::Object(fields) = &mut item
            && !item_kind.is_empty()
        {
            fields.entry("kind").or_insert_with(|| item_kind.into());
            fields.entry("apiVersion").or_insert_with(|| version.clone());
        }
        take_apart(item, origin, found)?;
    }
    Ok(())
}

/// Every object of several files.
///
/// # Errors
/// As [`read`], for the first file that fails.
pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        all.append(&mut read(path)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        for document in documents(text)?.into_iter().filter(|document| !document.is_null()) {
            take_apart(document, "x", &mut found).map_err(|failure| failure.to_string())?;
        }
        Ok(found.iter().map(|found| found.text("/kind").to_owned()).collect())
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        for (text, expected) in [
            ("kind: Pod", vec!["Pod"]),
            ("---\n# nothing\n---\nkind: Pod\n---\nkind: Job\n", vec!["Pod", "Job"]),
            ("kind: List\nitems: [{kind: Pod}, {kind: List, items: [{kind: Job}]}]", vec!["Pod", "Job"]),
            ("kind: PodList\nitems: [{metadata: {name: a}}]", vec!["Pod"]),
            ("kind: List\nitems: []", vec![]),
            ("{\"kind\": \"Pod\"}\n{\"kind\":\t\"Job\"}", vec!["Pod", "Job"]),
            ("{kind: Pod}", vec!["Pod"]),
        ] {
            assert_eq!(kinds(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["just text", "- kind: Pod", "metadata: {}", "kind: [", "kind: List\nitems: [1]"] {
            assert!(kinds(text).is_err(), "{text}");
        }
    }
}
