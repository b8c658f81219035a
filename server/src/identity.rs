//! The identity file: whose data directory this is.

use crate::node::NodeError;
use floss_raft::env::clock::Clock;
use floss_raft::env::disk::Disk;
use floss_raft::types::NodeId;

/// What the directory remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node_id: NodeId,
    /// Drawn when the directory was made; a wiped directory has another one.
    pub incarnation: u64,
    /// Starts on this directory, this one included; >= 1.
    pub boot: u64,
    /// The cluster let this incarnation in (see `coordinator::admission`).
    pub admitted: bool,
    /// Once known.
    pub cluster_id: Option<String>,
}

/// Reads or makes the identity and counts this start, durably.
///
/// Errors: `NodeError::Identity` if the directory belongs to another node or the file is damaged.
pub async fn open_identity(_disk: &dyn Disk, _clock: &dyn Clock, _node_id: NodeId) -> Result<Identity, NodeError> {
    todo!()
}

/// Replaces the file: write, sync, rename, sync the directory.
pub async fn save_identity(_disk: &dyn Disk, _identity: &Identity) -> Result<(), NodeError> {
    todo!()
}

/// The cluster id once the catalog is formed: stored if unknown, compared if known.
pub async fn check_cluster(_disk: &dyn Disk, _identity: &mut Identity, _cluster_id: &str) -> Result<(), NodeError> {
    todo!()
}
