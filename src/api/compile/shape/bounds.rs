//! The bounds that the schema has: those of the custom resource definition, which are the same. What the API server would refuse
//! is refused here too, whatever else is looked at.

use std::{collections::HashMap, sync::LazyLock};

use regex::Regex;
use serde_json::Value;

use super::{POLICY, TRUST_ROOT, Walk, note};

/// How much of a long value is shown.
const SHOWN: usize = 40;

/// The patterns of the schemas. One that is none would be missing here, and its field refused whatever it holds.
static PATTERNS: LazyLock<HashMap<String, Regex>> = LazyLock::new(|| {
    let mut found = HashMap::new();
    for schema in [&POLICY, &TRUST_ROOT] {
        collect(schema, &mut found);
    }
    found
});

fn collect(schema: &Value, found: &mut HashMap<String, Regex>) {
    let Value::Object(fields) = schema else {
        for item in schema.as_array().into_iter().flatten() {
            collect(item, found);
        }
        return;
    };
    if let Some(pattern) = fields.get("pattern").and_then(Value::as_str)
        && let Ok(regex) = Regex::new(pattern)
    {
        found.insert(pattern.to_owned(), regex);
    }
    for inner in fields.values() {
        collect(inner, found);
    }
}

/// Holds a value against the bounds of its schema.
pub fn check(walk: &mut Walk<'_>, field: &str, value: &Value, schema: &Value) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    match value {
        Value::String(text) => {
            let length = count(text.chars().count());
            if let Some(most) = bound("maxLength").filter(|most| length > *most) {
                let message = format!("is {length} characters long; at most {most} are accepted");
                walk.wrong(field, Some(&shown(text)), message);
            }
            let pattern = schema.get("pattern").and_then(Value::as_str);
            if bound("minLength").is_some_and(|least| length < least) {
                let message = if text.is_empty() { "is empty" } else { "is too short" };
                walk.misshapen.untold.push(note(field, Some(text), message));
            } else if let Some(pattern) = pattern.filter(|pattern| !fits(pattern, text)) {
                let message = format!("is not of the form {pattern}");
                walk.misshapen.untold.push(note(field, Some(&shown(text)), message));
            }
        }
        Value::Array(items) => {
            let length = count(items.len());
            if let Some(most) = bound("maxItems").filter(|most| length > *most) {
                walk.fields.error(field, None, too_many(length, most));
            }
            if bound("minItems").is_some_and(|least| length < least) {
                walk.misshapen.untold.push(note(field, None, "is empty"));
            }
        }
        Value::Object(object) => {
            let length = count(object.len());
            if let Some(most) = bound("maxProperties").filter(|most| length > *most) {
                walk.fields.error(field, None, too_many(length, most));
            }
        }
        Value::Number(number) => {
            let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
            if let (Some(least), Some(most), Some(given)) =
                (bound("minimum"), bound("maximum"), number.as_i64())
                && !(least..=most).contains(&given)
            {
                let message = format!("is not from {least} to {most}");
                walk.wrong(field, Some(&given.to_string()), message);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// How many entries a list of this schema may have, where that is bounded.
pub fn most_items(schema: &Value) -> Option<usize> {
    schema.get("maxItems").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok())
}

fn fits(pattern: &str, text: &str) -> bool {
    PATTERNS.get(pattern).is_some_and(|regex| regex.is_match(text))
}

fn too_many(length: u64, most: u64) -> String {
    format!("has {length} entries; at most {most} are accepted")
}

/// A count that does not fit is above every bound.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
        None => text.to_owned(),
    }
}
