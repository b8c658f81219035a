//! What a node has to open and to drop so that it holds what the catalog gives it. Pure.

use super::state::CatalogState;
use super::table::TableSettings;
use floss_protocol::ids::{SchemaId, TableBucket};
use floss_protocol::mutant;
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
    /// This node may write the first membership: it has not lost the group's log.
    pub initialize: bool,
    /// This node starts the first election.
    pub elect: bool,
    pub latest_schema: SchemaId,
    pub settings: TableSettings,
}

/// `open` = groups that run on this node, `on_disk` = groups with records in its journal; the catalog's own may be among
/// them and is left alone.
///
/// Drops come first: they make room. A group that the catalog has not handed out yet (this view may be older than the
/// disk) is left alone, too.
pub fn plan_replicas(
    state: &CatalogState,
    node: NodeId,
    open: &BTreeSet<GroupId>,
    on_disk: &BTreeSet<GroupId>,
) -> Vec<ReplicaAction> {
    let handed_out = |group: &GroupId| *group > GroupId::CATALOG && *group <= state.last_group();
    let present = open.union(on_disk).copied().filter(handed_out);
    let stays = |group: &GroupId| mutant!("M16") && open.contains(group);
    let gone = present.filter(|group| state.bucket_of_group(*group).is_none() && !stays(group));
    let mut actions: Vec<ReplicaAction> = gone.map(|group| ReplicaAction::Drop { group }).collect();
    let Some(info) = state.nodes().get(&node) else { return actions };
    for table in state.tables().values() {
        for (bucket, placement) in &table.buckets {
            if open.contains(&placement.group) || !placement.replicas.contains(&node) {
                continue;
            }
            actions.push(ReplicaAction::Open(ReplicaSpec {
                group: placement.group,
                bucket: *bucket,
                voters: placement.replicas.clone(),
                initialize: info.may_found(placement.group),
                elect: info.may_found(placement.group) && placement.preferred == node,
                latest_schema: table.latest_schema().0,
                settings: table.settings.clone(),
            }));
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::command::{CatalogCommand, CatalogEntry, InitialNode, NewTable, RequestId};
    use crate::coordinator::table::{LogFormat, TablePath};

    fn state_with(tables: &[&str]) -> CatalogState {
        let mut state = CatalogState::default();
        let mut counter = 0;
        let mut run = |state: &mut CatalogState, command| {
            counter += 1;
            let request = RequestId { node: 1, incarnation: 1, boot: 1, counter };
            state.apply(&CatalogEntry { request, now_ms: 0, command }).expect("accepted");
        };
        let nodes = (1..=3).map(|node| InitialNode { node, peer_address: String::new() }).collect();
        run(&mut state, CatalogCommand::FormCluster { cluster_id: "c".into(), nodes });
        for name in tables {
            let table = NewTable {
                path: TablePath::new("fluss", *name),
                table_json: "{}".into(),
                schema_json: "{}".into(),
                settings: TableSettings { log_format: LogFormat::Indexed, log_ttl_ms: None },
                bucket_count: 3,
                partition_keys: vec![],
                replication_factor: 2,
            };
            run(&mut state, CatalogCommand::CreateTable { table, ignore_if_exists: false, suspected: vec![] });
        }
        let path = TablePath::new("fluss", tables[0]);
        run(&mut state, CatalogCommand::DropTable { path, ignore_if_not_exists: false });
        state
    }

    #[test]
    fn a_node_opens_what_it_holds_and_drops_what_is_gone() {
        // Groups 1..=3 are of the dropped table, 4..=6 of the other.
        let state = state_with(&["old", "new"]);
        let groups = |range: &[u64]| range.iter().map(|group| GroupId(*group)).collect::<BTreeSet<_>>();
        let mut opened = BTreeSet::new();
        let mut electing = 0;
        for node in 1..=3 {
            let actions = plan_replicas(&state, node, &groups(&[0, 2]), &groups(&[0, 1, 99]));
            let drops: Vec<u64> = actions
                .iter()
                .filter_map(|action| match action {
                    ReplicaAction::Drop { group } => Some(group.0),
                    ReplicaAction::Open(_) => None,
                })
                .collect();
            assert_eq!(drops, [1, 2], "not the catalog, not what the catalog does not know yet");
            for action in &actions {
                if let ReplicaAction::Open(spec) = action {
                    assert!(spec.voters.contains(&node));
                    assert_eq!(state.bucket_of_group(spec.group), Some(spec.bucket));
                    opened.insert((node, spec.group));
                    electing += usize::from(spec.elect);
                }
            }
        }
        assert_eq!(opened.len(), 6, "three buckets on two nodes each");
        assert_eq!(electing, 3, "one node per bucket starts the election");
        assert!(plan_replicas(&state, 1, &groups(&[4, 5, 6]), &groups(&[4, 5, 6])).is_empty());
    }
}
