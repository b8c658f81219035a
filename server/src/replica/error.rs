//! Why a bucket did not do what was asked.

use floss_protocol::ids::TableBucket;
use floss_raft::types::{GroupError, NodeId};
use floss_tablet::error::TabletError;

/// `crate::errors` gives each its wire code.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ReplicaError {
    #[error("bucket {bucket} is not known here")]
    Unknown { bucket: TableBucket },
    #[error("bucket {bucket} is not led by this node, leader={leader:?}")]
    NotLeader { bucket: TableBucket, leader: Option<NodeId> },
    #[error("bucket {bucket}: {source}")]
    Tablet { bucket: TableBucket, source: TabletError },
    /// The outcome of an append is unknown; the writer repeats it and is told about a duplicate if it took effect.
    #[error("bucket {bucket}: {source}")]
    Group { bucket: TableBucket, source: GroupError },
    #[error("bucket {bucket} did not commit within {waited_ms} ms")]
    Timeout { bucket: TableBucket, waited_ms: u64 },
    #[error("bucket {bucket} has {limit} appends waiting")]
    MailboxFull { bucket: TableBucket, limit: usize },
    /// The replica stopped: disk failed, record corrupt, invariant broken.
    #[error("bucket {bucket} stopped: {reason}")]
    Failed { bucket: TableBucket, reason: String },
    #[error("bucket {bucket}: read of entries failed: {reason}")]
    Read { bucket: TableBucket, reason: String },
    /// A stored batch is not what its schema says.
    #[error("bucket {bucket}: batch cannot be projected: {reason}")]
    CorruptBatch { bucket: TableBucket, reason: String },
    #[error("bucket {bucket}: projection {reason}")]
    Projection { bucket: TableBucket, reason: String },
    #[error("bucket {bucket} is of a table without primary key")]
    NotPrimaryKeyTable { bucket: TableBucket },
    #[error("bucket {bucket} is of a primary-key table: its log is written by puts")]
    PrimaryKeyTable { bucket: TableBucket },
    #[error("bucket {bucket}: {reason}")]
    KvStore { bucket: TableBucket, reason: String },
    #[error("bucket {bucket}: no ids for new rows: {reason}")]
    NoIds { bucket: TableBucket, reason: String },
    #[error("bucket {bucket}: {reason}")]
    InvalidRequest { bucket: TableBucket, reason: String },
}

impl ReplicaError {
    /// The bucket may be served elsewhere or soon: a fetch goes on waiting for its other buckets.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::NotLeader { .. })
    }
}
