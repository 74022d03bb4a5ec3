//! What patches do to an object. Lists of things that have a `name` are merged by it where a configuration is applied, as the
//! API server does with webhooks; every other list is one value.

use serde_json::{Value, map::Map};

/// A JSON merge patch.
pub(super) fn merge(object: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *object = change.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    for (key, value) in change {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

/// Sets what a configuration says.
pub(super) fn apply(object: &mut Value, config: &Value) {
    match (object, config) {
        (Value::Object(object), Value::Object(config)) => {
            for (key, value) in config {
                apply(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(object), Value::Array(config)) if is_named(config) && is_named(object) => {
            for value in config {
                match object.iter_mut().find(|known| known["name"] == value["name"]) {
                    Some(known) => apply(known, value),
                    None => object.push(value.clone()),
                }
            }
        }
        (object, config) => *object = config.clone(),
    }
}

/// Removes what a manager applied before and does not any more.
pub(super) fn remove_what_is_gone(object: &mut Value, before: &Value, now: &Value) {
    match (object, before) {
        (Value::Object(object), Value::Object(before)) => {
            for (key, value) in before {
                match (object.get_mut(key), now.get(key)) {
                    (Some(object), Some(now)) => remove_what_is_gone(object, value, now),
                    (Some(_), None) => drop(object.remove(key)),
                    (None, _) => {}
                }
            }
        }
        (Value::Array(object), Value::Array(before)) if is_named(before) => {
            for value in before {
                let same = |other: &&Value| other["name"] == value["name"];
                match now.as_array().and_then(|now| now.iter().find(same)) {
                    Some(now) => {
                        if let Some(object) = object.iter_mut().find(|known| known["name"] == value["name"]) {
                            remove_what_is_gone(object, value, now);
                        }
                    }
                    None => object.retain(|known| known["name"] != value["name"]),
                }
            }
        }
        _ => {}
    }
}

fn is_named(list: &[Value]) -> bool {
    list.iter().all(|value| value["name"].is_string())
}
