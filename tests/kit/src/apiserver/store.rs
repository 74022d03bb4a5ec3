//! The objects, each under its path, and who applied what to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::patch;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The reason in the Status object.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

impl Refusal {
    /// A refusal with the usual reason for its code.
    pub fn new(code: u16, message: &str) -> Self {
        let reason = match code {
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            422 => "Invalid",
            503 => "ServiceUnavailable",
            _ => "",
        };
        Self { code, reason, message: message.to_owned() }
    }

    /// There is no such object.
    pub fn not_found(path: &str) -> Self {
        Self::new(404, &format!("{path} not found"))
    }
}

#[derive(Default)]
pub(super) struct Store {
    objects: BTreeMap<String, Value>,
    /// What each manager applied last, by path.
    applied: BTreeMap<(String, String), Value>,
    version: u64,
}

impl Store {
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.objects.get(path)
    }

    pub(super) fn put(&mut self, path: &str, mut object: Value) -> Value {
        let same = |known: &Value, new: &Value| {
            let mut known = known.clone();
            known["metadata"]["resourceVersion"] = new["metadata"]["resourceVersion"].clone();
            known == *new
        };
        if let Some(known) = self.objects.get(path) {
            object["metadata"]["uid"] = known["metadata"]["uid"].clone();
            if same(known, &object) {
                return known.clone();
            }
        } else {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.objects.remove(path);
        self.applied.retain(|(known, _), _| known != path);
    }

    pub(super) fn create(&mut self, collection: &str, object: Value, dry: bool) -> Result<Value, Refusal> {
        let name = object["metadata"]["name"].as_str().ok_or_else(|| Refusal::new(422, "no name"))?;
        let path = format!("{collection}/{name}");
        if self.objects.contains_key(&path) {
            return Err(Refusal { reason: "AlreadyExists", ..Refusal::new(409, "it exists already") });
        }
        Ok(if dry { object } else { self.put(&path, object) })
    }

    pub(super) fn replace(&mut self, path: &str, object: Value) -> Result<Value, Refusal> {
        self.check(path, &object)?;
        Ok(self.put(path, object))
    }

    pub(super) fn merge(&mut self, path: &str, change: &Value) -> Result<Value, Refusal> {
        let mut object = self.check(path, change)?.clone();
        patch::merge(&mut object, change);
        Ok(self.put(path, object))
    }

    pub(super) fn apply(&mut self, path: &str, manager: &str, config: Value) -> Result<Value, Refusal> {
        if !self.objects.contains_key(path) {
            // The real one makes the object where no uid is asked for; nobody here should want that.
            return Err(Refusal::new(409, "uid mismatch: no existing object was found"));
        }
        let mut object = self.check(path, &config)?.clone();
        let key = (path.to_owned(), manager.to_owned());
        if let Some(before) = self.applied.get(&key) {
            patch::remove_what_is_gone(&mut object, before, &config);
        }
        patch::apply(&mut object, &config);
        self.applied.insert(key, config);
        Ok(self.put(path, object))
    }

    /// The object under a path, where the identity and version that a request names are its own.
    pub(super) fn check(&self, path: &str, request: &Value) -> Result<&Value, Refusal> {
        let known = self.objects.get(path).ok_or_else(|| Refusal::not_found(path))?;
        for precondition in ["uid", "resourceVersion"] {
            let wanted = &request["metadata"][precondition];
            if !wanted.is_null() && *wanted != known["metadata"][precondition] {
                return Err(Refusal::new(409, &format!("the {precondition} is another one")));
            }
        }
        Ok(known)
    }
}
