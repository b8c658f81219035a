//! `open` is the only way to start a node: the binary and the simulator both call it.

use crate::config::NodeConfig;
use floss_protocol::ids::TableBucket;
use floss_raft::env::clock::Clock;
use floss_raft::env::disk::Disk;
use floss_raft::transport::Transport;
use floss_raft::types::{GroupId, Leadership, Pointers};
use std::sync::Arc;

/// What a node stands on. The binary gives real ones, the simulator its own.
pub struct Seams {
    /// Rooted at the node's data directory.
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    /// Wraps the TCP transport between nodes; the identity in production, faults in the simulator.
    pub wrap_transport: Box<dyn Fn(Arc<dyn Transport>) -> Arc<dyn Transport> + Send + Sync>,
}

impl Seams {
    /// A transport that is used as it is.
    pub fn plain_transport() -> Box<dyn Fn(Arc<dyn Transport>) -> Arc<dyn Transport> + Send + Sync> {
        Box::new(|transport| transport)
    }
}

/// Why a node did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("configuration: {what}, expected {expected}, found {found}")]
    Config { what: String, expected: String, found: String },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// The directory belongs to another node, cluster or incarnation.
    #[error("data directory: {what} is {found}, expected {expected}")]
    Identity { what: &'static str, found: String, expected: String },
}

/// A running node. Dropping it stops nothing; call [`Node::stop`].
pub struct Node {}

/// Starts a node: opens the directory (identity, journal), forms or joins the cluster, serves clients.
/// Returns when the listeners are bound; leadership may come later.
pub async fn open(_config: NodeConfig, _seams: Seams) -> Result<Node, NodeError> {
    todo!()
}

impl Node {
    /// Where clients connect (with the real port).
    pub fn client_address(&self) -> String {
        todo!()
    }

    /// Graceful stop: hands leadership over, closes connections, closes the journal.
    pub async fn stop(self) {
        todo!()
    }

    /// What this node's replicas look like inside, for the simulator's oracles, `bucket list` and metrics.
    pub fn probe(&self) -> NodeProbe {
        todo!()
    }

    /// Raw committed batches of a replica from `offset` (I2, I13): `(base_offset, batch bytes)`, whole retained log if 0.
    pub async fn read_replica(&self, _bucket: TableBucket, _offset: i64) -> Result<Vec<(i64, bytes::Bytes)>, String> {
        todo!()
    }
}

/// A snapshot of a node's replicas.
#[derive(Clone, Debug, Default)]
pub struct NodeProbe {
    pub node_id: u64,
    pub replicas: Vec<ReplicaProbe>,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct ReplicaProbe {
    pub group: GroupId,
    /// None for the catalog.
    pub bucket: Option<TableBucket>,
    pub leadership: Leadership,
    pub pointers: Pointers,
    pub log_start: i64,
    pub high_watermark: i64,
    /// Digest of the writer state, to compare replicas at equal `applied`.
    pub writers_digest: u64,
    pub failed: Option<String>,
}
