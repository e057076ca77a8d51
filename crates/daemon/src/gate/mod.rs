//! What older API versions looked like: requests are brought to the newest
//! shape before they reach the engine, answers are brought to the client's
//! shape after. The engine itself speaks the newest.
//!
//! It works on JSON, so that it does not matter how far the engine is with a
//! field. The rules are those of Docker's "Engine API version history".

mod answer;
mod create;

pub(crate) use answer::{container, image, info};
pub(crate) use create::create;

use budu_spec::docker::ApiVersion;
use serde_json::Value;

/// Whether the client is older than `1.minor`.
fn below(version: ApiVersion, minor: u16) -> bool {
    version < ApiVersion::new(minor)
}

/// Whether a value says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Removes fields of an object.
fn remove(value: &mut Value, keys: &[&str]) {
    if let Value::Object(map) = value {
        for key in keys {
            map.remove(*key);
        }
    }
}

/// A field that is there, to be changed. (Indexing would make one.)
fn part<'a>(value: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(key).into_iter()
}

/// Removes fields that say nothing.
fn remove_empty(value: &mut Value, keys: &[&str]) {
    if let Value::Object(map) = value {
        for key in keys {
            if map.get(*key).is_some_and(is_empty) {
                map.remove(*key);
            }
        }
    }
}

/// Sets a field that is not there.
fn default(value: &mut Value, key: &str, content: Value) {
    if let Value::Object(map) = value {
        map.entry(key).or_insert(content);
    }
}
