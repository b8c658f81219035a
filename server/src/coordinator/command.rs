//! What an entry of group 0 says. The bytes are a format: variants and fields are only ever appended.

use super::reject::CatalogReject;
use super::table::{TablePath, TableSettings};
use floss_protocol::ids::TableId;
use floss_raft::types::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

/// Names a request for ever, so that a retry after an unknown outcome takes effect at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId {
    pub node: NodeId,
    /// Of the node's directory.
    pub incarnation: u64,
    /// How often the node was started on that directory; `counter` begins anew with each.
    pub boot: u64,
    pub counter: u64,
}

/// One entry of group 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogEntry {
    pub request: RequestId,
    /// The proposer's wall clock; replicas must agree on it, so it travels.
    pub now_ms: i64,
    pub command: CatalogCommand,
}

/// A node of the first membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialNode {
    pub node: NodeId,
    pub peer_address: String,
}

/// What a node says about itself each time it starts or its addresses change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRegistration {
    pub node: NodeId,
    pub incarnation: u64,
    /// `host:port` that clients are told.
    pub client_address: String,
    pub peer_address: String,
}

/// A validated table: everything `apply` needs besides the state. Made by [`super::validate::check_table`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTable {
    pub path: TablePath,
    /// Descriptor with server defaults filled in.
    pub table_json: String,
    pub schema_json: String,
    pub settings: TableSettings,
    pub bucket_count: i32,
    pub partition_keys: Vec<String>,
    pub replication_factor: i32,
}

/// Closed set; a match on it has no wildcard arm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogCommand {
    /// The first entry: gives the cluster its id and the default database.
    FormCluster {
        cluster_id: String,
        nodes: Vec<InitialNode>,
    },
    RegisterNode(NodeRegistration),
    CreateDatabase {
        name: String,
        ignore_if_exists: bool,
        database_json: String,
    },
    DropDatabase {
        name: String,
        ignore_if_not_exists: bool,
        cascade: bool,
    },
    /// Placement is decided by `apply`; nodes in `suspected` get replicas and leaders only if there is no other choice.
    CreateTable {
        table: NewTable,
        ignore_if_exists: bool,
        suspected: Vec<NodeId>,
    },
    DropTable {
        path: TablePath,
        ignore_if_not_exists: bool,
    },
    /// A range of writer ids for one node to hand out.
    AllocateWriterIds {
        count: u32,
    },
    /// These groups no longer count on a wiped node; with the last of them it is let in again, as `incarnation`.
    ReplicasRemoved {
        node: NodeId,
        incarnation: u64,
        groups: Vec<GroupId>,
    },
    /// A range of ids for the auto-increment column of a table.
    AllocateRowIds {
        table_id: TableId,
        count: i64,
    },
}

/// What an accepted command did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogDone {
    Formed {
        cluster_id: String,
    },
    Registered,
    DatabaseCreated,
    DatabaseDropped,
    TableCreated {
        table_id: TableId,
    },
    TableDropped {
        table_id: TableId,
    },
    /// `first..first + count`, never handed out again.
    WriterIds {
        first: i64,
        count: u32,
    },
    /// `first..end`, never handed out again for this table.
    RowIds {
        first: i64,
        end: i64,
    },
    /// Nothing to do, and the request said that this is fine (`ignore_if_exists`, `ignore_if_not_exists`).
    Ignored,
    /// `waiting_for` groups still count on the wiped node; 0 = it is let in.
    ReplicasRemoved {
        waiting_for: u64,
    },
}

/// The answer to an entry, remembered for retries.
pub type CatalogOutcome = Result<CatalogDone, CatalogReject>;

/// First byte of an encoded entry.
const ENTRY_VERSION: u8 = 1;

/// Version byte, then postcard.
pub fn encode_entry(entry: &CatalogEntry) -> Vec<u8> {
    encode(ENTRY_VERSION, entry)
}

/// Errors: another version, bytes missing or left over.
pub fn decode_entry(bytes: &[u8]) -> Result<CatalogEntry, String> {
    decode(ENTRY_VERSION, bytes)
}

pub(super) fn encode<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![version]).expect("plain data always encodes")
}

pub(super) fn decode<T: for<'a> Deserialize<'a>>(version: u8, bytes: &[u8]) -> Result<T, String> {
    let (found, rest) = bytes.split_first().ok_or("empty")?;
    if *found != version {
        return Err(format!("version={found}, expected {version}"));
    }
    let (value, left) = postcard::take_from_bytes(rest).map_err(|error| error.to_string())?;
    if !left.is_empty() {
        return Err(format!("{} bytes left over", left.len()));
    }
    Ok(value)
}
