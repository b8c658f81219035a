//! The handle to the catalog: read it here, change it anywhere.

use super::command::{CatalogCommand, CatalogDone};
use super::machine::{CatalogMachine, CatalogView};
use super::reject::CatalogReject;
use super::state::CatalogState;
use bytes::Bytes;
use floss_raft::env::clock::Clock;
use floss_raft::group::Group;
use floss_raft::transport::Transport;
use floss_raft::types::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// Why the catalog did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Rejected(#[from] CatalogReject),
    /// No leader answered in time. The request may still take effect.
    #[error("catalog did not answer within {waited_ms} ms: {reason}")]
    Unavailable { waited_ms: u64, reason: String },
}

/// Who proposes: makes request ids unique.
#[derive(Clone, Copy, Debug)]
pub struct Proposer {
    pub node: NodeId,
    pub incarnation: u64,
    pub boot: u64,
}

/// Clones share it. Usable before group 0 is open (then everything that needs it waits).
#[derive(Clone)]
pub struct Catalog {}

impl Catalog {
    /// The handle, and the machine to open group 0 with.
    pub fn new(_proposer: Proposer, _clock: Arc<dyn Clock>, _transport: Arc<dyn Transport>) -> (Catalog, CatalogMachine) {
        todo!()
    }

    /// Group 0 is open on this node.
    pub fn attach(&self, _group: Group) {
        todo!()
    }

    /// What this node has applied; may be behind the leader.
    pub fn view(&self) -> Arc<CatalogState> {
        todo!()
    }

    /// [`Catalog::view`] with its index.
    pub fn current(&self) -> CatalogView {
        todo!()
    }

    /// Waits until something newer than `index` was applied here.
    pub async fn changed_after(&self, _index: u64) -> CatalogView {
        todo!()
    }

    /// Node that leads group 0, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        todo!()
    }

    /// Has `command` decided by the leader (forwarding it if that is another node), then waits until this node's view has
    /// it. Takes effect at most once, however often it is retried inside.
    pub async fn propose(&self, _command: CatalogCommand, _timeout: Duration) -> Result<CatalogDone, CatalogError> {
        todo!();
    }

    /// The catalog as of now: holds everything that was decided anywhere before the call.
    pub async fn barrier(&self, _timeout: Duration) -> Result<Arc<CatalogState>, CatalogError> {
        todo!()
    }

    /// A writer id that nobody else gets.
    pub async fn writer_id(&self, _timeout: Duration) -> Result<i64, CatalogError> {
        todo!()
    }

    /// Answers a request of another node on `PeerChannel::Server` (methods 1..=31 are the catalog's).
    pub async fn serve(&self, _from: NodeId, _method: u8, _body: Bytes) -> Result<Bytes, String> {
        todo!()
    }
}
