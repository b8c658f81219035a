//! Names of Raft things, in our own types.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A node of the cluster, chosen by the operator, >= 1.
pub type NodeId = u64;

/// One Raft group. 0 is the catalog; the catalog hands out the others and never reuses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u64);

impl GroupId {
    /// Databases, tables, placement, nodes.
    pub const CATALOG: GroupId = GroupId(0);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// Term and index of an entry. One leader per term (I10), so this names the entry uniquely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    pub term: u64,
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// What one replica believes about who leads its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    /// This node leads, its first entry of this term is committed and applied: it may decide writes.
    pub ready: bool,
}

/// What became of a proposal that was applied.
#[derive(Clone, Debug)]
pub struct Applied {
    pub id: LogId,
    /// What [`crate::machine::Machine::apply`] returned for it.
    pub reply: Bytes,
}

/// The five positions of a replica (I5): purged <= snapshot <= applied <= committed <= last. 0 = none; indexes start at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointers {
    pub purged: u64,
    pub snapshot: u64,
    pub applied: u64,
    pub committed: u64,
    pub last: u64,
    pub term: u64,
}

/// Why a proposal or barrier did not succeed.
///
/// Only `NotLeader` before the hand-over proves absence, and even that is not promised to callers: after any error
/// the entry may still commit. Callers treat every variant as "unknown".
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum GroupError {
    #[error("{group} is not led by this node, leader={leader:?}")]
    NotLeader { group: GroupId, leader: Option<NodeId> },
    #[error("{group} did not answer within {waited_ms} ms")]
    Timeout { group: GroupId, waited_ms: u64 },
    #[error("{group} is stopped: {reason}")]
    Stopped { group: GroupId, reason: String },
}
