//! Reads JSON trees, saying where something is wrong.

use super::error::SchemaError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Where in the tree we are. Kept as a chain, so that nothing is allocated unless an error wants the text.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    pub(super) fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Key(name) }
    }

    pub(super) fn key<'b>(&'b self, key: &'b str) -> Place<'b> {
        Place { parent: Some(self), step: Step::Key(key) }
    }

    pub(super) fn index(&self, index: usize) -> Place<'_> {
        Place { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Key(key) if self.parent.is_none() => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// The parser bounds the nesting (128), so that everything that walks the tree may recurse.
pub(super) fn parse(text: &[u8]) -> Result<Value, SchemaError> {
    serde_json::from_slice(text).map_err(|error| SchemaError::NotJson { reason: error.to_string() })
}

fn wrong(value: &Value, at: &Place, expected: &'static str) -> SchemaError {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    SchemaError::WrongJson { at: at.to_string(), expected, found }
}

pub(super) fn object<'v>(value: &'v Value, at: &Place) -> Result<&'v Map<String, Value>, SchemaError> {
    value.as_object().ok_or_else(|| wrong(value, at, "an object"))
}

pub(super) fn array<'v>(value: &'v Value, at: &Place) -> Result<&'v Vec<Value>, SchemaError> {
    value.as_array().ok_or_else(|| wrong(value, at, "an array"))
}

pub(super) fn string<'v>(value: &'v Value, at: &Place) -> Result<&'v str, SchemaError> {
    value.as_str().ok_or_else(|| wrong(value, at, "a string"))
}

pub(super) fn boolean(value: &Value, at: &Place) -> Result<bool, SchemaError> {
    value.as_bool().ok_or_else(|| wrong(value, at, "true or false"))
}

pub(super) fn required<'v>(node: &'v Map<String, Value>, at: &Place, key: &'static str) -> Result<&'v Value, SchemaError> {
    node.get(key).ok_or_else(|| SchemaError::Missing { at: at.to_string(), key })
}

/// As [`required`], when the place of the value itself is at hand.
pub(super) fn required_in<'v>(node: &'v Map<String, Value>, at: &Place, key: &'static str) -> Result<&'v Value, SchemaError> {
    match at.parent {
        Some(parent) => required(node, parent, key),
        None => required(node, at, key),
    }
}

/// A null counts as absent.
pub(super) fn optional<'v>(node: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    node.get(key).filter(|value| !value.is_null())
}

pub(super) fn optional_string(node: &Map<String, Value>, at: &Place, key: &str) -> Result<Option<String>, SchemaError> {
    optional(node, key).map(|value| string(value, &at.key(key)).map(str::to_owned)).transpose()
}

/// An integer in `min..=max`; `default` if absent, an error if absent without default.
pub(super) fn integer_or(
    node: &Map<String, Value>,
    at: &Place,
    key: &'static str,
    default: Option<i64>,
    min: i64,
    max: i64,
) -> Result<i64, SchemaError> {
    let found = match (optional(node, key), default) {
        (Some(value), _) => value.as_i64().ok_or_else(|| wrong(value, &at.key(key), "an integer"))?,
        (None, Some(default)) => default,
        (None, None) => return Err(SchemaError::Missing { at: at.to_string(), key }),
    };
    if !(min..=max).contains(&found) {
        return Err(SchemaError::OutOfRange { at: at.key(key).to_string(), min, max, found });
    }
    Ok(found)
}

pub(super) fn strings(value: &Value, at: &Place) -> Result<Vec<String>, SchemaError> {
    let items = array(value, at)?.iter().enumerate();
    items.map(|(index, item)| string(item, &at.index(index)).map(str::to_owned)).collect()
}

pub(super) fn string_map(value: &Value, at: &Place) -> Result<BTreeMap<String, String>, SchemaError> {
    let entries = object(value, at)?.iter();
    entries.map(|(key, value)| Ok((key.clone(), string(value, &at.key(key))?.to_owned()))).collect()
}
