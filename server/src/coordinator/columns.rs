//! The schema part of a table descriptor: columns, types, ids. Pure.
//!
//! Source: protocol/json.md 2, 3 and 6.1.

use super::reject::CatalogReject;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Names that readers of the log or of the lake give to their own columns.
const RESERVED_COLUMNS: [&str; 6] = ["__offset", "__timestamp", "__bucket", "_change_type", "_log_offset", "_commit_timestamp"];
/// Columns of one table at most; a schema travels in one message.
const COLUMNS_MAX: usize = 10_000;
/// Nesting of one type at most; a deeper one would only exhaust somebody's stack.
const TYPE_DEPTH_MAX: usize = 32;

/// Checks a schema and gives ids to its columns if they have none.
///
/// Errors: InvalidTable (15).
pub fn check_schema(schema: &mut Value) -> Result<(), CatalogReject> {
    let schema = schema.as_object_mut().ok_or_else(|| invalid("schema is not an object"))?;
    schema.entry("version").or_insert(Value::from(1));
    let columns = schema.get("columns").and_then(Value::as_array).ok_or_else(|| invalid("schema has no columns"))?;
    if columns.is_empty() || columns.len() > COLUMNS_MAX {
        return Err(invalid(&format!("{} columns, expected 1..={COLUMNS_MAX}", columns.len())));
    }
    let mut names = BTreeSet::new();
    for column in columns {
        let name = column.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| invalid("a column has no name"))?;
        if RESERVED_COLUMNS.contains(&name) {
            return Err(invalid(&format!("column name {name} is reserved")));
        }
        if !names.insert(name) {
            return Err(invalid(&format!("column {name} is there twice")));
        }
        check_type(column.get("data_type").unwrap_or(&Value::Null), name, TYPE_DEPTH_MAX)?;
    }
    check_ids(schema)
}

/// Column names in order.
pub fn column_names(schema: &Value) -> Vec<&str> {
    columns_of(schema).filter_map(|column| column.get("name")?.as_str()).collect()
}

/// A bucket key, primary key or partition key: names of distinct columns of plain types.
///
/// Errors: InvalidTable (15).
pub fn check_key(schema: &Value, what: &str, key: &[String]) -> Result<(), CatalogReject> {
    for (position, name) in key.iter().enumerate() {
        if key[..position].contains(name) {
            return Err(invalid(&format!("{what} names {name} twice")));
        }
        let column = columns_of(schema).find(|column| column.get("name").and_then(Value::as_str) == Some(name));
        let column = column.ok_or_else(|| invalid(&format!("{what} names {name}, which is no column")))?;
        let root = column.get("data_type").and_then(|data_type| data_type.get("type")).and_then(Value::as_str).unwrap_or("");
        if ["ARRAY", "MAP", "ROW"].contains(&root) {
            return Err(invalid(&format!("{what} names {name} of type {root}")));
        }
    }
    Ok(())
}

fn columns_of(schema: &Value) -> impl Iterator<Item = &Value> {
    schema.get("columns").and_then(Value::as_array).into_iter().flatten()
}

fn check_type(data_type: &Value, column: &str, depth_left: usize) -> Result<(), CatalogReject> {
    let wrong = |reason: &str| invalid(&format!("column {column}: {reason}"));
    if depth_left == 0 {
        return Err(wrong("type is nested too deeply"));
    }
    let number = |key: &str| data_type.get(key).and_then(Value::as_i64);
    let inner = |key: &str| check_type(data_type.get(key).unwrap_or(&Value::Null), column, depth_left - 1);
    let root = data_type.get("type").and_then(Value::as_str).ok_or_else(|| wrong("no type"))?;
    match root {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "INTEGER" | "BIGINT" | "FLOAT" | "DOUBLE" | "STRING" | "BYTES" | "DATE" => Ok(()),
        "CHAR" | "BINARY" => match number("length") {
            Some(length) if length >= 1 => Ok(()),
            found => Err(wrong(&format!("{root} of length {found:?}, expected at least 1"))),
        },
        "DECIMAL" => match (number("precision"), number("scale")) {
            (Some(precision), Some(scale)) if (1..=38).contains(&precision) && (0..=precision).contains(&scale) => Ok(()),
            found => Err(wrong(&format!("DECIMAL with precision and scale {found:?}"))),
        },
        "TIME_WITHOUT_TIME_ZONE" | "TIMESTAMP_WITHOUT_TIME_ZONE" | "TIMESTAMP_WITH_LOCAL_TIME_ZONE" => {
            match number("precision") {
                Some(precision) if (0..=9).contains(&precision) => Ok(()),
                found => Err(wrong(&format!("{root} with precision {found:?}, expected 0..=9"))),
            }
        }
        "ARRAY" => inner("element_type"),
        "MAP" => inner("key_type").and_then(|()| inner("value_type")),
        "ROW" => {
            let fields = data_type.get("fields").and_then(Value::as_array).ok_or_else(|| wrong("ROW without fields"))?;
            let mut types = fields.iter().map(|field| field.get("field_type").unwrap_or(&Value::Null));
            types.try_for_each(|field_type| check_type(field_type, column, depth_left - 1))
        }
        other => Err(wrong(&format!("type {other} is unknown"))),
    }
}

/// Either every column has an id or none; in the latter case they get 0, 1, 2 and so on, nested fields included, depth first.
fn check_ids(schema: &mut Map<String, Value>) -> Result<(), CatalogReject> {
    let columns = schema.get_mut("columns").and_then(Value::as_array_mut).ok_or_else(|| invalid("schema has no columns"))?;
    let given: Vec<i64> = columns.iter().filter_map(|column| column.get("id")?.as_i64()).collect();
    let highest = if given.is_empty() {
        let mut next = 0;
        for column in columns.iter_mut().filter_map(Value::as_object_mut) {
            column.insert("id".to_owned(), Value::from(next));
            next += 1;
            if let Some(data_type) = column.get_mut("data_type") {
                number_fields(data_type, &mut next);
            }
        }
        next - 1
    } else {
        if given.len() != columns.len() {
            return Err(invalid(&format!("{} of {} columns have an id, expected all or none", given.len(), columns.len())));
        }
        let distinct: BTreeSet<i64> = given.iter().copied().collect();
        if distinct.len() != given.len() {
            return Err(invalid("a column id is there twice"));
        }
        given.iter().copied().max().unwrap_or(0)
    };
    let known = schema.get("highest_field_id").and_then(Value::as_i64).unwrap_or(highest);
    schema.insert("highest_field_id".to_owned(), Value::from(known.max(highest)));
    Ok(())
}

fn number_fields(data_type: &mut Value, next: &mut i64) {
    for key in ["element_type", "key_type", "value_type"] {
        if let Some(inner) = data_type.get_mut(key) {
            number_fields(inner, next);
        }
    }
    let fields = data_type.get_mut("fields").and_then(Value::as_array_mut);
    for field in fields.into_iter().flatten().filter_map(Value::as_object_mut) {
        field.insert("field_id".to_owned(), Value::from(*next));
        *next += 1;
        if let Some(field_type) = field.get_mut("field_type") {
            number_fields(field_type, next);
        }
    }
}

pub(super) fn invalid(reason: &str) -> CatalogReject {
    CatalogReject::InvalidTable { reason: reason.to_owned() }
}
