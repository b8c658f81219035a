//! Letting a node in: a fresh directory must not act as a node that others already know (it has lost its votes).

use super::catalog::Catalog;
use super::command::InitialNode;
use crate::config::NodeConfig;
use crate::node::NodeError;
use floss_raft::types::NodeId;

/// How this node finds its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formation {
    /// One of the first nodes (this one is among them), as listed.
    Initial(Vec<InitialNode>),
    /// Joins the cluster of these peers (`host:peer_port`).
    Join(Vec<String>),
}

/// Parses `initial_nodes` / `join`; neither = a cluster of this node alone.
pub fn parse_formation(_config: &NodeConfig, _peer_address: &str) -> Result<Formation, NodeError> {
    todo!()
}

/// Voters of the first membership of group 0 (the first five entries) and its learners (the rest).
pub fn first_members(_nodes: &[InitialNode]) -> (Vec<NodeId>, Vec<NodeId>) {
    todo!()
}

/// Asks the other nodes whether this fresh directory may act as node `me`; call before opening group 0, only when the identity
/// file says that the node was not admitted yet. Waits for as long as it takes.
///
/// Errors: `NodeError::Identity` if the cluster knows this node with another incarnation.
pub async fn wait_admitted(_catalog: &Catalog, _formation: &Formation) -> Result<(), NodeError> {
    todo!()
}
