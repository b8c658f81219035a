//! All groups of a node: opens, closes and routes to them; puts quiet ones to sleep; watches the other nodes.

use crate::env::clock::Clock;
use crate::env::disk::Disk;
use crate::group::Group;
use crate::machine::Machine;
use crate::transport::{PeerRequest, Transport};
use crate::types::{GroupId, Leadership, NodeId};
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Times and sizes of the Raft layer on one node.
#[derive(Clone, Debug)]
pub struct HostConfig {
    pub node_id: NodeId,
    /// An election starts after min..max of silence.
    pub election_timeout_ms_min: u64,
    pub election_timeout_ms_max: u64,
    pub heartbeat_ms: u64,
    /// A group without traffic for this long goes to sleep.
    pub sleep_after_ms: u64,
    /// Node-level pings; a node silent for `suspect_after_ms` is suspected and wakes the groups it led.
    pub ping_ms: u64,
    pub suspect_after_ms: u64,
    pub journal_file_bytes: u64,
    pub journal_cache_bytes: u64,
}

/// A group to open on this node.
pub struct GroupSpec {
    pub id: GroupId,
    /// All voters of the first membership. Used only while the group has no log here.
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    /// This node writes the first membership if the group has no log here (any subset of the voters may do so, with the same
    /// membership).
    pub initialize: bool,
    /// This node starts the first election at once; the others wait for it.
    pub elect: bool,
}

/// What the host tells the layer above. Calls must not block.
pub trait HostObserver: Send + Sync + 'static {
    /// Every change of what this node's replica believes, in order per group.
    fn on_leadership(&self, group: GroupId, leadership: Leadership);
    /// A node became suspected (`alive = false`) or answered again.
    fn on_node(&self, node: NodeId, alive: bool);
    /// A replica stopped for good: failed disk, corrupt record, broken invariant.
    fn on_group_failed(&self, group: GroupId, reason: &str);
    /// Bytes to carry in the next ping to `to` (gossip of the layer above); empty if there is nothing to say.
    fn ping_payload(&self, to: NodeId) -> Bytes;
    /// What the other side's `ping_payload` gave.
    fn on_ping(&self, from: NodeId, payload: Bytes);
    /// A request on `PeerChannel::Server`.
    fn on_request(&self, from: NodeId, method: u8, body: Bytes) -> crate::env::BoxFuture<'static, Result<Bytes, String>>;
}

/// The Raft layer of one node. Clones share it. It is the node's `PeerService`.
#[derive(Clone)]
pub struct Host {}

impl Host {
    /// Opens the journal and starts the failure detector. Groups are opened one by one afterwards; until then their
    /// messages wait for a moment, then are refused.
    pub async fn open(
        _config: HostConfig,
        _disk: Arc<dyn Disk>,
        _clock: Arc<dyn Clock>,
        _transport: Arc<dyn Transport>,
        _observer: Arc<dyn HostObserver>,
    ) -> io::Result<Host> {
        todo!()
    }

    /// Groups with records in the journal of this node.
    pub fn groups_on_disk(&self) -> Vec<GroupId> {
        todo!()
    }

    /// Opens a group: restores the machine from its snapshot, replays what was committed after it, joins.
    pub async fn open_group(&self, _spec: GroupSpec, _machine: Box<dyn Machine>) -> io::Result<Group> {
        todo!()
    }

    pub fn group(&self, _id: GroupId) -> Option<Group> {
        todo!()
    }

    /// Stops the replica and removes its data, durably.
    pub async fn drop_group(&self, _id: GroupId) -> io::Result<()> {
        todo!()
    }

    /// The nodes to ping.
    pub fn set_nodes(&self, _nodes: Vec<NodeId>) {
        todo!()
    }

    pub fn is_alive(&self, _node: NodeId) -> bool {
        todo!()
    }

    /// Pings everybody now: the layer above has news.
    pub fn ping_now(&self) {
        todo!()
    }

    /// Stops all groups and closes the journal. With `hand_over`, leaders transfer leadership first (bounded wait).
    pub async fn shutdown(&self, _hand_over: bool) {
        todo!()
    }
}

impl crate::transport::PeerService for Host {
    fn serve(&self, _from: NodeId, _request: PeerRequest) -> crate::env::BoxFuture<'static, Result<Bytes, String>> {
        todo!()
    }
}
