//! Who leads which group, over the whole cluster: from this node's replicas and by gossip between nodes.

use super::table::BucketPlacement;
use bytes::Bytes;
use floss_raft::env::runtime::time::Instant;
use floss_raft::types::{GroupId, Leadership, NodeId};

/// Last known leader of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownLeader {
    pub term: u64,
    pub leader: NodeId,
    /// False while this node has reason to believe that it leads no more: its node is silent, or an election runs.
    pub live: bool,
}

/// Newest term wins. A group never loses its last known leader until it is forgotten.
pub struct LeaderTable {}

impl LeaderTable {
    /// `boot_id` differs between any two runs of this node.
    pub fn new(_node: NodeId, _boot_id: u64) -> Self {
        todo!()
    }

    /// From `HostObserver::on_leadership`. True if this is news for other nodes (then ping now).
    pub fn on_leadership(&self, _group: GroupId, _leadership: Leadership) -> bool {
        todo!()
    }

    /// From `HostObserver::on_node`.
    pub fn on_node(&self, _node: NodeId, _alive: bool) {
        todo!()
    }

    /// From `HostObserver::ping_payload`.
    pub fn ping_payload(&self, _to: NodeId) -> Bytes {
        todo!()
    }

    /// From `HostObserver::on_ping`. Garbage is ignored.
    pub fn on_ping(&self, _from: NodeId, _payload: &Bytes) {
        todo!()
    }

    pub fn get(&self, _group: GroupId) -> Option<KnownLeader> {
        todo!()
    }

    /// Leader to show to clients and its term: the last known one, else the preferred replica with term 0.
    pub fn shown(&self, _placement: &BucketPlacement) -> (NodeId, u64) {
        todo!()
    }

    /// Nodes that the failure detector suspects.
    pub fn suspected(&self) -> Vec<NodeId> {
        todo!()
    }

    /// The group was dropped.
    pub fn forget(&self, _group: GroupId) {
        todo!()
    }

    /// Waits until every group has a live leader, at once if they have. False if `deadline` came first.
    pub async fn wait_all_led(&self, _groups: &[GroupId], _deadline: Instant) -> bool {
        todo!()
    }
}
