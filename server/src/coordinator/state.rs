//! The catalog as a deterministic machine: databases, tables, placement, nodes, writer ids.

use super::command::{CatalogEntry, CatalogOutcome};
use super::reject::CatalogReject;
use super::table::{BucketPlacement, TableInfo, TablePath};
use bytes::Bytes;
use floss_protocol::ids::{TableBucket, TableId};
use floss_raft::types::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Exists from the first entry on; cannot be dropped.
pub const DEFAULT_DATABASE: &str = "fluss";

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    pub id: NodeId,
    pub peer_address: String,
    /// None until the node has registered for the first time.
    pub registered: Option<Registered>,
    /// A directory with another incarnation asked to be this node: it was wiped, and is refused.
    pub wiped: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub incarnation: u64,
    pub client_address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    pub name: String,
    /// As the client sent it, or the empty descriptor.
    pub database_json: String,
    pub created_ms: i64,
    pub modified_ms: i64,
}

/// Equal entries in equal order give equal state, byte for byte in [`CatalogState::snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogState {}

impl CatalogState {
    /// Applies a committed entry. Never panics, whatever the entry says.
    pub fn apply(&mut self, _entry: &CatalogEntry) -> CatalogOutcome {
        todo!()
    }

    pub fn snapshot(&self) -> Bytes {
        todo!()
    }

    pub fn restore(_state: &[u8]) -> Result<Self, String> {
        todo!()
    }

    /// None until the cluster is formed.
    pub fn cluster_id(&self) -> Option<&str> {
        todo!()
    }

    /// All members, registered or not, by id.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeInfo> {
        todo!()
    }

    pub fn databases(&self) -> &BTreeMap<String, DatabaseInfo> {
        todo!()
    }

    pub fn database(&self, _name: &str) -> Result<&DatabaseInfo, CatalogReject> {
        todo!()
    }

    /// Tables of a database by name.
    pub fn tables_of(&self, _database: &str) -> Result<Vec<&Arc<TableInfo>>, CatalogReject> {
        todo!()
    }

    pub fn table(&self, _path: &TablePath) -> Result<&Arc<TableInfo>, CatalogReject> {
        todo!()
    }

    pub fn table_by_id(&self, _id: TableId) -> Option<&Arc<TableInfo>> {
        todo!()
    }

    /// All tables by id.
    pub fn tables(&self) -> &BTreeMap<TableId, Arc<TableInfo>> {
        todo!()
    }

    pub fn bucket(&self, _bucket: TableBucket) -> Option<(&Arc<TableInfo>, &BucketPlacement)> {
        todo!()
    }

    /// Which bucket a Raft group is; None for the catalog and for dropped tables.
    pub fn bucket_of_group(&self, _group: GroupId) -> Option<TableBucket> {
        todo!()
    }
}
