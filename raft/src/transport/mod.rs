//! Requests between nodes: one connection per pair carries all groups' messages.

pub mod tcp;

use crate::env::BoxFuture;
use crate::types::{GroupId, NodeId};
use bytes::Bytes;
use std::time::Duration;

/// Which part of the receiving node a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChannel {
    /// A Raft message of one group.
    Raft(GroupId),
    /// Node-level liveness and gossip, owned by `raft::host`.
    Node,
    /// Requests of the layer above (catalog forwarding); opaque here.
    Server,
}

/// One request. `method` is defined by the owner of the channel; numbers are never reused.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    pub channel: PeerChannel,
    pub method: u8,
    /// Pieces are written one after the other; payloads are not copied.
    pub body: Vec<Bytes>,
}

/// Why a request has no answer. In every case the receiver may or may not have acted on it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TransportError {
    #[error("node {to} has no known address")]
    UnknownPeer { to: NodeId },
    #[error("node {to} unreachable: {reason}")]
    Unreachable { to: NodeId, reason: String },
    #[error("node {to} did not answer within {waited_ms} ms")]
    Timeout { to: NodeId, waited_ms: u64 },
    #[error("node {to} refused: {reason}")]
    Refused { to: NodeId, reason: String },
}

/// Sends requests to other nodes. The real one is TCP; the simulator wraps it to drop, delay and duplicate.
pub trait Transport: Send + Sync + 'static {
    /// Sends and waits for the answer. Requests to one node are written in call order (the order in which `call` itself is
    /// invoked, not in which its future is polled); answers may come in any order.
    fn call(&self, to: NodeId, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// Tells where a node listens for peers (`host:port`). Later calls replace the address.
    fn set_peer(&self, node: NodeId, address: String);
}

/// Answers requests of other nodes.
pub trait PeerService: Send + Sync + 'static {
    /// Called in arrival order per connection; the returned futures run side by side.
    fn serve(&self, from: NodeId, request: PeerRequest) -> BoxFuture<'static, Result<Bytes, String>>;
}
