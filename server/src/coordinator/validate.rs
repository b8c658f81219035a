//! What a client may ask the catalog for; fills in the server's defaults. Pure; runs on the node that was asked.
//!
//! The rules of descriptors themselves are `floss_protocol::schema`'s; here is what depends on this server.

use super::command::NewTable;
use super::reject::CatalogReject;
use super::state::EMPTY_DATABASE_JSON;
use super::table::{BUCKETS_MAX, TablePath, TableSettings};
use floss_protocol::ids::SchemaId;
use floss_protocol::schema::{
    ArrowCompression, DatabaseDescriptor, KvFormat, LogFormat, SchemaError, SchemaErrorKind, TableDescriptor, TableProperties,
    check_database_name, check_table_name,
};
use floss_tablet::kv::table::KvTable;
use std::collections::BTreeMap;

const REPLICATION_FACTOR: &str = "table.replication.factor";
const STATISTICS_COLUMNS: &str = "table.statistics.columns";
const ALL_COLUMNS: &str = "*";

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
    check_database_name(&path.database).map_err(refuse)?;
    check_table_name(&path.table).map_err(refuse)?;
    let mut table = TableDescriptor::from_json(table_json).map_err(refuse)?;
    check_served(&table)?;
    check_replication_text(&table, nodes)?;
    let usual_factor = defaults.replication_factor.unwrap_or(if nodes >= 3 { 3 } else { 1 });
    table.complete(defaults.bucket_count, usual_factor).map_err(refuse)?;
    table.check(BUCKETS_MAX).map_err(refuse)?;
    let properties = table.table_properties().map_err(refuse)?;
    check_here(&table, &properties)?;
    check_rows(&table)?;
    let replication_factor = properties.replication_factor.unwrap_or(usual_factor);
    check_replication(replication_factor, nodes)?;
    print_in_upper_case(&mut table.properties);
    Ok(NewTable {
        path,
        table_json: table.to_json(),
        schema_json: table.schema.to_json(),
        settings: TableSettings { log_format: properties.log_format, log_ttl_ms: properties.log_ttl_ms },
        bucket_count: table.bucket_count.unwrap_or(defaults.bucket_count),
        partition_keys: table.partition_keys,
        replication_factor,
    })
}

/// Checks a CreateDatabase; returns the descriptor to store (the empty one if none was sent).
///
/// Errors: InvalidDatabase (16).
pub fn check_database(name: &str, database_json: Option<&[u8]>) -> Result<String, CatalogReject> {
    check_database_name(name).map_err(refuse)?;
    match database_json {
        Some(json) if !json.is_empty() => {
            let descriptor = DatabaseDescriptor::from_json(json);
            let descriptor = descriptor.map_err(|error| CatalogReject::InvalidDatabase { reason: error.to_string() });
            Ok(descriptor?.to_json())
        }
        Some(_) | None => Ok(EMPTY_DATABASE_JSON.to_owned()),
    }
}

/// The one place that says which kinds of tables are not served yet; nothing behind it depends on the answer.
fn check_served(table: &TableDescriptor) -> Result<(), CatalogReject> {
    let missing = |what: &str| CatalogReject::InvalidTable { reason: format!("{what} are not served yet") };
    if table.is_partitioned() {
        return Err(missing("partitioned tables"));
    }
    Ok(())
}

/// What depends on this cluster, and what names columns in a property.
fn check_here(table: &TableDescriptor, properties: &TableProperties) -> Result<(), CatalogReject> {
    let invalid = |reason: String| CatalogReject::InvalidConfig { reason };
    if properties.datalake_enabled {
        return Err(invalid("table.datalake.enabled=true, but the cluster has no lake".to_owned()));
    }
    let listed = properties.statistics_columns.as_deref().filter(|listed| listed.trim() != ALL_COLUMNS);
    let missing = listed.and_then(|listed| listed.split(',').map(str::trim).find(|name| table.schema.column(name).is_none()));
    match missing {
        Some(name) => Err(invalid(format!("{STATISTICS_COLUMNS} names {name:?}, which is no column"))),
        None => Ok(()),
    }
}

/// Aggregation functions exist and take their columns.
fn check_rows(table: &TableDescriptor) -> Result<(), CatalogReject> {
    if !table.has_primary_key() {
        return Ok(());
    }
    let schemas = BTreeMap::from([(SchemaId(1), table.schema.clone())]);
    let made = KvTable::new(&schemas, table).map(drop);
    made.map_err(|error| CatalogReject::InvalidTable { reason: error.to_string() })
}

/// A factor below 1 is a wrong factor (17), not a value that does not parse (39).
fn check_replication_text(table: &TableDescriptor, nodes: usize) -> Result<(), CatalogReject> {
    let asked = table.properties.get(REPLICATION_FACTOR).and_then(|text| text.trim().parse::<i32>().ok());
    asked.map_or(Ok(()), |factor| check_replication(factor, nodes))
}

fn check_replication(factor: i32, nodes: usize) -> Result<(), CatalogReject> {
    if factor < 1 || factor as usize > nodes {
        return Err(CatalogReject::InvalidReplicationFactor { factor, nodes: nodes as u64 });
    }
    Ok(())
}

/// The Rust client compares these exactly.
fn print_in_upper_case(properties: &mut BTreeMap<String, String>) {
    fn print(properties: &mut BTreeMap<String, String>, key: &str, name: fn(&str) -> Option<&'static str>) {
        if let Some(value) = properties.get_mut(key)
            && let Some(name) = name(value)
        {
            *value = name.to_owned();
        }
    }
    print(properties, "table.log.arrow.compression.type", |text| ArrowCompression::parse(text).map(ArrowCompression::name));
    print(properties, "table.log.format", |text| LogFormat::parse(text).map(LogFormat::name));
    print(properties, "table.kv.format", |text| KvFormat::parse(text).map(KvFormat::name));
}

fn refuse(error: SchemaError) -> CatalogReject {
    let reason = error.to_string();
    match (error.kind(), error) {
        (_, SchemaError::BucketCount { found, max }) if found > max => CatalogReject::TooManyBuckets { count: found, limit: max },
        (SchemaErrorKind::Database, _) => CatalogReject::InvalidDatabase { reason },
        (SchemaErrorKind::Config, _) => CatalogReject::InvalidConfig { reason },
        (SchemaErrorKind::Table | SchemaErrorKind::TooManyBuckets, _) => CatalogReject::InvalidTable { reason },
        // Not asked about when a table is made; still the table's fault.
        (SchemaErrorKind::Alter | SchemaErrorKind::Partition, _) => CatalogReject::InvalidTable { reason },
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
