//! The shape of a spec, held against the schema of its types: every unknown field, wrong type and missing value at once. What is
//! left is of the right shape, so that what else is wrong with it can be told in the same breath.

mod bounds;

use std::sync::LazyLock;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::{
    fields::{Fields, Note, is_within, note},
    wire::{ClusterPolicySpec, TrustRootSpec},
};

/// The schema of a policy's spec, without references. What belongs to a cluster policy alone is told with more than that it is unknown.
pub static POLICY: LazyLock<Value> = LazyLock::new(schema_of::<ClusterPolicySpec>);

/// The schema of a trust root's spec.
pub static TRUST_ROOT: LazyLock<Value> = LazyLock::new(schema_of::<TrustRootSpec>);

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Where the shape is wrong.
#[derive(Debug, Default)]
pub struct Misshapen {
    /// Fields that hold the wrong thing, or nothing.
    wrong: Vec<String>,
    /// Fields that have some field that is not known.
    around_unknown: Vec<String>,
    /// What is wrong as far as the schema can say; whoever knows what the field is for says it better.
    pub untold: Vec<Note>,
}

impl Misshapen {
    /// Whether an error of this field may be no more than what follows from its shape.
    pub fn explains(&self, field: &str) -> bool {
        self.wrong.iter().any(|outer| is_within(outer, field))
            || self.around_unknown.iter().any(|around| around == field)
    }
}

/// What of a spec is of the shape that its schema says; the rest is told.
pub fn sound(fields: &mut Fields, spec: &Value, schema: &Value) -> (Value, Misshapen) {
    let mut walk = Walk { fields, misshapen: Misshapen::default() };
    let sound = walk.value("spec", spec, schema).unwrap_or_else(|| placeholder(schema));
    (sound, walk.misshapen)
}

struct Walk<'a> {
    fields: &'a mut Fields,
    misshapen: Misshapen,
}

impl Walk<'_> {
    fn wrong(&mut self, field: &str, value: Option<&str>, message: impl Into<String>) {
        self.fields.error(field, value, message);
        self.misshapen.wrong.push(field.to_owned());
    }

    /// What of a value is of the right shape; nothing, where it is of another kind altogether.
    fn value(&mut self, field: &str, value: &Value, schema: &Value) -> Option<Value> {
        let schema = without_null(schema);
        let words = words(schema);
        if words.is_empty() && kind(schema).is_empty() {
            return Some(value.clone());
        }
        bounds::check(self, field, value, schema);
        match (value, kind(schema)) {
            _ if !words.is_empty() => self.word(field, value, &words),
            (Value::Object(object), "object") => Some(self.object(field, object, schema)),
            (Value::Array(items), "array") => {
                let of = schema.get("items").unwrap_or(&Value::Bool(true));
                let item = |(at, item)| {
                    let sound = self.value(&format!("{field}[{at}]"), item, of);
                    // What stands behind keeps its place.
                    sound.unwrap_or_else(|| placeholder(of))
                };
                // What is beyond the bound has been told; whoever writes without end is not followed there.
                let most = bounds::most_items(schema).unwrap_or(usize::MAX);
                Some(items.iter().take(most).enumerate().map(item).collect())
            }
            (Value::String(_), "string") | (Value::Bool(_), "boolean") => Some(value.clone()),
            (Value::Number(number), "integer") if number.is_i64() => Some(value.clone()),
            (Value::Null, _) => {
                self.wrong(field, None, "has no value: give it one, or leave the field out");
                None
            }
            (Value::Number(_) | Value::Bool(_), "string") => {
                let text = value.to_string();
                self.wrong(field, None, format!("is no text: write it in quotes, \"{text}\""));
                None
            }
            (_, wanted) => {
                self.wrong(field, None, format!("is {}, where {} belongs", a(value), a_kind(wanted)));
                None
            }
        }
    }

    fn word(&mut self, field: &str, value: &Value, words: &[&str]) -> Option<Value> {
        match value.as_str() {
            Some(word) if words.contains(&word) => Some(value.clone()),
            word => {
                self.wrong(field, word, format!("is not one of {}", words.join(", ")));
                None
            }
        }
    }

    fn object(&mut self, field: &str, object: &Map<String, Value>, schema: &Value) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let of_each = schema.get("additionalProperties").filter(|of_each| of_each.is_object());
        let mut sound = Map::new();
        for (key, value) in object {
            let inner = format!("{field}.{key}");
            let of = properties.and_then(|known| known.get(key)).or(of_each);
            match of {
                Some(of) => sound.extend(self.value(&inner, value, of).map(|value| (key.clone(), value))),
                None => self.unknown(field, key, properties),
            }
        }
        for name in required(schema) {
            if !sound.contains_key(name) {
                let inner = format!("{field}.{name}");
                let of = properties.and_then(|known| known.get(name)).unwrap_or(&Value::Null);
                // An object that is missing is told once, and not with all that it would have had.
                if !object.contains_key(name) && kind(of) == "object" {
                    self.wrong(&inner, None, "is missing");
                } else if !object.contains_key(name) {
                    self.misshapen.untold.push(note(&inner, None, "is missing"));
                }
                sound.insert(name.to_owned(), placeholder(of));
            }
        }
        Value::Object(sound)
    }

    fn unknown(&mut self, field: &str, key: &str, properties: Option<&Map<String, Value>>) {
        let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let message = match closest(key, &known) {
            Some(meant) => format!("is no field here; did you mean {meant}?"),
            None => format!("is no field here; there are {}", known.join(", ")),
        };
        self.fields.error(&format!("{field}.{key}"), None, message);
        self.misshapen.around_unknown.push(field.to_owned());
    }
}

/// The schema of the value, where it may also be absent.
fn without_null(schema: &Value) -> &Value {
    let variants = schema.get("anyOf").and_then(Value::as_array);
    let real = variants.and_then(|all| all.iter().find(|schema| kind(schema) != "null"));
    real.unwrap_or(schema)
}

/// The words of an enumeration.
fn words(schema: &Value) -> Vec<&str> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let variants = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let inner = variants.flat_map(|variant| {
        let listed = variant.get("enum").and_then(Value::as_array).into_iter().flatten();
        listed.chain(variant.get("const"))
    });
    listed.chain(inner).filter_map(Value::as_str).collect()
}

fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
        }
        _ => "",
    }
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The least that is of the right shape. It is never decided with: where one stands, an error has been told.
fn placeholder(schema: &Value) -> Value {
    let schema = without_null(schema);
    if let Some(word) = words(schema).first() {
        return Value::String((*word).to_owned());
    }
    match kind(schema) {
        "array" => Value::Array(Vec::new()),
        "object" => {
            let of = |name: &str| schema.pointer(&format!("/properties/{name}")).unwrap_or(&Value::Null);
            required(schema)
                .map(|name| (name.to_owned(), placeholder(of(name))))
                .collect::<Map<_, _>>()
                .into()
        }
        "string" => Value::String(String::new()),
        "boolean" => Value::Bool(false),
        _ => Value::Null,
    }
}

const fn a(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn a_kind(kind: &str) -> &str {
    match kind {
        "string" => "a text",
        "array" => "a list",
        "object" => "an object",
        "integer" => "a whole number",
        "boolean" => "true or false",
        other => other,
    }
}

/// The known name that a misspelt one is closest to, where it is close at all.
fn closest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |name: &&str| strsim::damerau_levenshtein(&key.to_lowercase(), &name.to_lowercase());
    let limit = (key.len() / 3).clamp(1, 3);
    known.iter().copied().filter(|_| key.len() <= 64).min_by_key(near).filter(|name| near(name) <= limit)
}
