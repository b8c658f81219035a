//! What the catalog knows of one table.

use floss_protocol::ids::{SchemaId, TableBucket, TableId};
pub use floss_protocol::schema::LogFormat;
use floss_protocol::schema::{Schema, SchemaError, TableDescriptor};
use floss_raft::types::{GroupId, NodeId};
use floss_tablet::error::TabletError;
use floss_tablet::kv::table::KvTable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Buckets of one table (or of one partition) at most.
pub const BUCKETS_MAX: i32 = 4096;

/// `database.table`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TablePath {
    pub database: String,
    pub table: String,
}

impl TablePath {
    pub fn new(database: impl Into<String>, table: impl Into<String>) -> Self {
        Self { database: database.into(), table: table.into() }
    }
}

impl fmt::Display for TablePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// What replicas need of the table's properties, parsed once when the table was validated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSettings {
    pub log_format: LogFormat,
    /// `table.log.ttl`; None = kept for ever.
    pub log_ttl_ms: Option<i64>,
}

/// One bucket: its Raft group and where its replicas live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketPlacement {
    pub group: GroupId,
    /// First voters, ascending, 1..=nodes.
    pub replicas: Vec<NodeId>,
    /// One of `replicas`: starts the first election, and is named while no leader was ever seen.
    pub preferred: NodeId,
}

/// A table. Shared between versions of the catalog behind an `Arc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableInfo {
    pub id: TableId,
    pub path: TablePath,
    /// The descriptor after server defaults, as clients get it back (with `bucket_key`, `bucket_count`, newest schema).
    pub table_json: String,
    pub settings: TableSettings,
    /// Schema JSON by id, dense from 1.
    pub schemas: BTreeMap<SchemaId, String>,
    pub bucket_count: i32,
    pub partition_keys: Vec<String>,
    pub replication_factor: i32,
    pub created_ms: i64,
    pub modified_ms: i64,
    /// Buckets 0..bucket_count, of the table or of each of its partitions.
    pub buckets: BTreeMap<TableBucket, BucketPlacement>,
}

/// How rows of a primary-key table are kept; `None` for a log table.
///
/// Errors: its properties cannot be served.
pub fn kv_table(table: &TableInfo) -> Result<Option<KvTable>, TabletError> {
    let unsupported = |error: SchemaError| TabletError::UnsupportedTable { reason: error.to_string() };
    let descriptor = TableDescriptor::from_json(table.table_json.as_bytes()).map_err(unsupported)?;
    if !descriptor.has_primary_key() {
        return Ok(None);
    }
    let schema = |(id, json): (&SchemaId, &String)| Ok((*id, Schema::from_json(json.as_bytes()).map_err(unsupported)?));
    let schemas = table.schemas.iter().map(schema).collect::<Result<BTreeMap<_, _>, _>>()?;
    KvTable::new(&schemas, &descriptor).map(Some)
}

impl TableInfo {
    /// Newest schema.
    pub fn latest_schema(&self) -> (SchemaId, &str) {
        let (id, json) = self.schemas.last_key_value().expect("a table is created with schema 1");
        (*id, json)
    }

    /// The Raft groups of all its buckets, in bucket order.
    pub fn groups(&self) -> Vec<GroupId> {
        self.buckets.values().map(|placement| placement.group).collect()
    }

    pub fn is_partitioned(&self) -> bool {
        !self.partition_keys.is_empty()
    }
}
