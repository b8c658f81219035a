//! What a client may ask the catalog for; fills in the server's defaults. Pure; runs on the node that was asked.

use super::command::NewTable;
use super::reject::CatalogReject;
use super::table::TablePath;

/// Cluster-wide defaults and limits.
#[derive(Clone, Copy, Debug)]
pub struct TableDefaults {
    pub bucket_count: i32,
    /// None = 3 with three or more nodes, else 1.
    pub replication_factor: Option<i32>,
}

/// Checks a CreateTable and fills in the defaults. `nodes` = members of the cluster.
///
/// Errors: InvalidTable, InvalidConfig, TooManyBuckets, InvalidReplicationFactor. Whether database and table exist is
/// decided by `apply`.
/// Source: protocol/json.md 6.1.
pub fn check_table(
    _path: TablePath,
    _table_json: &[u8],
    _defaults: TableDefaults,
    _nodes: usize,
) -> Result<NewTable, CatalogReject> {
    todo!()
}

/// Checks a CreateDatabase; returns the descriptor to store (`{"version":1,"custom_properties":{}}` if none was sent).
pub fn check_database(_name: &str, _database_json: Option<&[u8]>) -> Result<String, CatalogReject> {
    todo!()
}
