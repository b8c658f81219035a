//! What catalogs of different nodes say to each other on `PeerChannel::Server`. Numbers are never reused.

use super::command::{CatalogOutcome, decode, encode};
use bytes::Bytes;
use floss_raft::types::NodeId;
use serde::{Deserialize, Serialize};

/// Methods of the catalog are 1..=31; others on the same channel belong to the layers beside it.
pub mod method {
    /// Body: an encoded `CatalogEntry`. Answer: `Applied` or `NotLeader`.
    pub const PROPOSE: u8 = 1;
    /// Body: empty. Answer: `ReadIndex` or `NotLeader`.
    pub const READ_INDEX: u8 = 2;
    /// Body: an encoded [`super::StandingRequest`]. Answer: `Standing`.
    pub const STANDING: u8 = 3;
}

const VERSION: u8 = 1;

/// Closed set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerReply {
    /// Decided, at this index of group 0.
    Applied {
        index: u64,
        outcome: CatalogOutcome,
    },
    /// The leader as far as the asked node knows, and where it listens for peers.
    NotLeader {
        leader: Option<NodeId>,
        address: Option<String>,
    },
    /// Everything decided before the question is at or below this index.
    ReadIndex {
        index: u64,
    },
    Standing(Standing),
    /// Not now; the effect of a proposal is unknown.
    Failed {
        reason: String,
    },
}

/// "What do you know of me?", asked by a node with a fresh directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingRequest {
    pub node: NodeId,
}

/// How a node stands with its cluster, as far as the asked node can tell for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// The asked node has taken no part in anything yet.
    NothingHere,
    /// As of now (a barrier was passed) the cluster is formed and this node never registered.
    NeverRegistered,
    /// As of now the node is registered with this incarnation.
    Registered { incarnation: u64 },
    /// Cannot tell now: starting, no leader, or an election before the cluster was formed.
    Unsure,
}

pub fn encode_peer<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(encode(VERSION, value))
}

/// Errors: another version, bytes missing or left over.
pub fn decode_peer<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, String> {
    decode(VERSION, bytes)
}
