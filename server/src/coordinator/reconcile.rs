//! What a node has to open and to drop so that it holds what the catalog gives it. Pure.

use super::state::CatalogState;
use super::table::TableSettings;
use floss_protocol::ids::{SchemaId, TableBucket};
use floss_raft::types::{GroupId, NodeId};
use std::collections::BTreeSet;

/// One step of a node towards the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaAction {
    /// Open this replica.
    Open(ReplicaSpec),
    /// The table is gone: stop the replica and remove its data.
    Drop { group: GroupId },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSpec {
    pub group: GroupId,
    pub bucket: TableBucket,
    /// First membership.
    pub voters: Vec<NodeId>,
    /// This node starts the first election.
    pub elect: bool,
    pub latest_schema: SchemaId,
    pub settings: TableSettings,
}

/// `present` = groups that are open on this node or have records on its disk, without the catalog.
///
/// Drops come first. A group that the catalog does not know yet (the view may be older than the disk) is dropped only if
/// the catalog has handed out its number.
pub fn plan_replicas(
    _state: &CatalogState,
    _node: NodeId,
    _open: &BTreeSet<GroupId>,
    _on_disk: &BTreeSet<GroupId>,
) -> Vec<ReplicaAction> {
    todo!()
}
