//! What a client may ask the catalog for; fills in the server's defaults. Pure; runs on the node that was asked.
//!
//! The descriptor stays the JSON tree that the client sent: what this server does not know (aggregation functions, say) comes
//! back to the client as it was.

use super::columns::{check_key, check_schema, column_names, invalid};
use super::command::NewTable;
use super::properties::{self, check_log_table, check_properties, settings_of};
use super::reject::CatalogReject;
use super::table::{BUCKETS_MAX, TablePath};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Of a database or table name.
const NAME_CHARS_MAX: usize = 200;

/// Cluster-wide defaults and limits.
#[derive(Clone, Copy, Debug)]
pub struct TableDefaults {
    pub bucket_count: i32,
    /// None = 3 with three or more nodes, else 1.
    pub replication_factor: Option<i32>,
}

/// Checks a CreateTable and fills in the defaults. `nodes` = members of the cluster.
///
/// Errors: InvalidDatabase, InvalidTable, InvalidConfig, TooManyBuckets, InvalidReplicationFactor. Whether database and table
/// exist is decided by `apply`.
/// Source: protocol/json.md 6.1.
pub fn check_table(path: TablePath, table_json: &[u8], defaults: TableDefaults, nodes: usize) -> Result<NewTable, CatalogReject> {
    check_name(&path.database).map_err(|reason| CatalogReject::InvalidDatabase { reason })?;
    check_name(&path.table).map_err(|reason| CatalogReject::InvalidTable { reason })?;
    let mut table: Map<String, Value> =
        serde_json::from_slice(table_json).map_err(|error| invalid(&format!("table descriptor: {error}")))?;
    table.entry("version").or_insert(Value::from(1));
    let schema = table.get_mut("schema").ok_or_else(|| invalid("table descriptor has no schema"))?;
    check_schema(schema)?;
    let schema = schema.clone();
    let schema_json = schema.to_string();
    let partition_keys = names(&table, "partition_key")?;
    check_served(&schema, &partition_keys)?;
    let bucket_key = names(&table, "bucket_key")?;
    check_key(&schema, "bucket key", &bucket_key)?;
    let bucket_count = check_bucket_count(&table, defaults)?;
    let mut properties = texts(&table, "properties")?;
    let custom_properties = texts(&table, "custom_properties")?;
    check_properties(&mut properties)?;
    check_log_table(&properties, &column_names(&schema))?;
    let replication_factor = check_replication(&mut properties, defaults, nodes)?;
    let settings = settings_of(&properties);
    table.insert("partition_key".to_owned(), json!(partition_keys));
    table.insert("bucket_key".to_owned(), json!(bucket_key));
    table.insert("bucket_count".to_owned(), json!(bucket_count));
    table.insert("properties".to_owned(), json!(properties));
    table.insert("custom_properties".to_owned(), json!(custom_properties));
    let table_json = Value::Object(table).to_string();
    Ok(NewTable { path, table_json, schema_json, settings, bucket_count, partition_keys, replication_factor })
}

/// Checks a CreateDatabase; returns the descriptor to store (`{"version":1,"custom_properties":{}}` if none was sent).
///
/// Errors: InvalidDatabase (16).
pub fn check_database(name: &str, database_json: Option<&[u8]>) -> Result<String, CatalogReject> {
    let invalid = |reason: String| CatalogReject::InvalidDatabase { reason };
    check_name(name).map_err(invalid)?;
    let mut database: Map<String, Value> = match database_json {
        Some(json) if !json.is_empty() => serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?,
        Some(_) | None => Map::new(),
    };
    database.entry("version").or_insert(Value::from(1));
    let custom_properties = texts(&database, "custom_properties").map_err(|error| invalid(error.to_string()))?;
    database.insert("custom_properties".to_owned(), json!(custom_properties));
    Ok(Value::Object(database).to_string())
}

/// The one place that says which kinds of tables are not served yet; nothing behind it depends on the answer.
fn check_served(schema: &Value, partition_keys: &[String]) -> Result<(), CatalogReject> {
    let has_primary_key = schema.get("primary_key").and_then(Value::as_array).is_some_and(|key| !key.is_empty());
    if has_primary_key {
        return Err(invalid("primary-key tables are not served yet"));
    }
    if !partition_keys.is_empty() {
        return Err(invalid("partitioned tables are not served yet"));
    }
    Ok(())
}

/// 1 to 200 ASCII letters, digits, `_` and `-`, not beginning with `__`.
fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX {
        return Err(format!("a name of {} characters, expected 1..={NAME_CHARS_MAX}", name.chars().count()));
    }
    if !name.chars().all(plain) {
        return Err(format!("name {name:?}, expected ASCII letters, digits, '_' and '-'"));
    }
    if name.starts_with("__") {
        return Err(format!("name {name} begins with '__', which is reserved"));
    }
    Ok(())
}

fn check_bucket_count(table: &Map<String, Value>, defaults: TableDefaults) -> Result<i32, CatalogReject> {
    let count = match table.get("bucket_count") {
        None | Some(Value::Null) => i64::from(defaults.bucket_count),
        Some(count) => count.as_i64().ok_or_else(|| invalid(&format!("bucket count {count}")))?,
    };
    if count < 1 {
        return Err(invalid(&format!("bucket count {count}, expected at least 1")));
    }
    let small = i32::try_from(count).ok().filter(|count| *count <= BUCKETS_MAX);
    small.ok_or(CatalogReject::TooManyBuckets { count: i32::try_from(count).unwrap_or(i32::MAX), limit: BUCKETS_MAX })
}

fn check_replication(
    properties: &mut BTreeMap<String, String>,
    defaults: TableDefaults,
    nodes: usize,
) -> Result<i32, CatalogReject> {
    let usual = defaults.replication_factor.unwrap_or(if nodes >= 3 { 3 } else { 1 });
    let factor = properties::replication_factor(properties).unwrap_or(usual);
    if factor < 1 || factor as usize > nodes {
        return Err(CatalogReject::InvalidReplicationFactor { factor, nodes: nodes as u64 });
    }
    properties.insert(properties::REPLICATION_FACTOR.to_owned(), factor.to_string());
    Ok(factor)
}

/// A list of names; absent = empty.
fn names(table: &Map<String, Value>, key: &str) -> Result<Vec<String>, CatalogReject> {
    match table.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|error| invalid(&format!("{key}: {error}"))),
    }
}

/// An object of texts; absent = empty.
fn texts(table: &Map<String, Value>, key: &str) -> Result<BTreeMap<String, String>, CatalogReject> {
    match table.get(key) {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|error| invalid(&format!("{key}: {error}"))),
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
