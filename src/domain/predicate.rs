//! What a statement says, kept as the text of its JSON: taken apart it takes up to fifty times as much memory, and most of what is asked
//! of it is asked of what was read out of it once.

use std::sync::Arc;

use serde_json::Value;

/// A whole predicate, unknown fields included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate(Arc<str>);

impl Predicate {
    /// The predicate with this text, which is JSON.
    pub fn of_text(json: &str) -> Self {
        Self(json.into())
    }

    /// Its text, as it was signed.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What it says, to be forgotten soon.
    ///
    /// # Errors
    /// Where it is not JSON.
    pub fn read(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl Default for Predicate {
    fn default() -> Self {
        Self::of_text("null")
    }
}

impl From<Value> for Predicate {
    fn from(value: Value) -> Self {
        Self(value.to_string().into())
    }
}
