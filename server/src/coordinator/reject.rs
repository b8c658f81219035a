//! Why the catalog refuses a request. Nothing was changed when one of these is returned.

use super::table::TablePath;
use floss_raft::types::NodeId;
use serde::{Deserialize, Serialize};

/// Closed set; `server::errors` maps it to wire codes. Replicated (a retry gets the first refusal again), so variants are
/// only ever appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CatalogReject {
    /// 4
    #[error("database {database} does not exist")]
    DatabaseNotExist { database: String },
    /// 5
    #[error("database {database} is not empty, tables={tables}")]
    DatabaseNotEmpty { database: String, tables: u64 },
    /// 6
    #[error("database {database} already exists")]
    DatabaseExists { database: String },
    /// 7
    #[error("table {path} does not exist")]
    TableNotExist { path: TablePath },
    /// 8
    #[error("table {path} already exists")]
    TableExists { path: TablePath },
    /// 9
    #[error("table {path} has no schema with schema_id={schema_id}")]
    SchemaNotExist { path: TablePath, schema_id: i32 },
    /// 15
    #[error("invalid table: {reason}")]
    InvalidTable { reason: String },
    /// 16
    #[error("invalid database: {reason}")]
    InvalidDatabase { reason: String },
    /// 17
    #[error("replication factor {factor} is not in 1..={nodes}, the number of nodes")]
    InvalidReplicationFactor { factor: i32, nodes: u64 },
    /// 39
    #[error("invalid config: {reason}")]
    InvalidConfig { reason: String },
    /// 49
    #[error("bucket count {count} is above the limit of {limit}")]
    TooManyBuckets { count: i32, limit: i32 },
    /// 37
    #[error("table {path} is not partitioned")]
    TableNotPartitioned { path: TablePath },
    /// -1; between nodes only.
    #[error("cluster is already formed as {cluster_id}")]
    AlreadyFormed { cluster_id: String },
    /// 44; between nodes only: the cluster has no id yet, try again.
    #[error("cluster is not formed yet")]
    NotFormed,
    /// -1; between nodes only. The directory of a known node was wiped: its replicas and votes are gone, it must not come back
    /// under its old identity.
    #[error("node {node} is known with incarnation={known:016x}, its directory says {found:016x}: it was wiped or replaced")]
    WipedNode { node: NodeId, known: u64, found: u64 },
    /// -1. The outcome of this request id is no longer remembered: it may have taken effect, it has not done so again.
    #[error("request is too old: its outcome is forgotten")]
    RequestForgotten,
}
