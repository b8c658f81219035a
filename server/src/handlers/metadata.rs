//! GetMetadata: who serves what.
//!
//! Two rules of its own (protocol/README.md traps 11, 12): no bucket is ever shown without a leader, and while a bucket of an
//! asked table has none that lives the answer is held for a moment, to be given the instant there is one.

use super::table_path;
use crate::coordinator::reject::CatalogReject;
use crate::coordinator::state::CatalogState;
use crate::coordinator::table::{TableInfo, TablePath};
use crate::limits::METADATA_PROOF_WAIT;
use crate::net::answer::{Answer, Body, Refusal};
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::rpc;
use floss_raft::env::runtime::time;
use floss_raft::types::{GroupId, NodeId};
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn metadata(shared: Arc<Shared>, request: rpc::MetadataRequest) -> Answer {
    if !request.partitions_path.is_empty() || !request.partitions_id.is_empty() {
        return Err(no_partition(&request));
    }
    let paths: Vec<_> = request.table_path.into_iter().map(table_path).collect();
    let hold = Duration::from_millis(shared.tuning.metadata_hold_ms_max);
    let deadline = time::Instant::now() + hold;
    let state = if paths.is_empty() { shared.catalog.view() } else { recent_catalog(&shared, hold).await };
    let tables = match find_tables(&state, &paths) {
        Ok(tables) => tables,
        // Clients give up on a table that does not exist; on this node's being slow they ask another one.
        Err(_) => find_tables(&*shared.catalog.barrier(METADATA_PROOF_WAIT).await?, &paths)?,
    };
    let groups: Vec<GroupId> = tables.iter().flat_map(|table| table.groups()).collect();
    if !groups.is_empty() {
        shared.leaders.wait_all_led(&groups, deadline).await;
    }
    let tablet_servers = servers(&shared, &state)?;
    let listed: Vec<i32> = tablet_servers.iter().map(|server| server.node_id).collect();
    let table_metadata = tables.iter().map(|table| table_metadata(&shared, table, &listed)).collect::<Result<_, _>>()?;
    Ok(Body::message(&rpc::MetadataResponse {
        coordinator_server: coordinator(&shared, &tablet_servers)?,
        tablet_servers,
        table_metadata,
        partition_metadata: Vec::new(),
    }))
}

/// A table that was just created or dropped through another node should be seen. But while the catalog itself elects, a
/// slightly old answer now is worth more: it is what lets a writer find the new leader of its bucket.
async fn recent_catalog(shared: &Shared, wait: Duration) -> Arc<CatalogState> {
    let led = shared.leaders.get(GroupId::CATALOG).is_some_and(|known| known.live);
    if led && let Ok(state) = shared.catalog.barrier(wait).await {
        return state;
    }
    shared.catalog.view()
}

fn find_tables(state: &CatalogState, paths: &[TablePath]) -> Result<Vec<Arc<TableInfo>>, CatalogReject> {
    paths.iter().map(|path| state.table(path).cloned()).collect()
}

fn no_partition(request: &rpc::MetadataRequest) -> Refusal {
    let named = request.partitions_path.iter().map(|path| path.partition_name.clone().unwrap_or_default());
    let numbered = request.partitions_id.iter().map(i64::to_string);
    let asked: Vec<_> = named.chain(numbered).collect();
    Refusal::new(ErrorCode::PartitionNotExists, format!("partition {} does not exist", asked.join(", ")))
}

/// `listed`: nodes whose addresses the answer tells.
fn table_metadata(shared: &Shared, table: &TableInfo, listed: &[i32]) -> Result<rpc::PbTableMetadata, Refusal> {
    let mut bucket_metadata = Vec::with_capacity(table.buckets.len());
    for (bucket, placement) in table.buckets.iter().filter(|(bucket, _)| bucket.partition_id.is_none()) {
        let (leader, term) = shared.leaders.shown(placement);
        let leader = if floss_protocol::mutant!("M09") { placement.preferred } else { leader };
        let replica_id = placement.replicas.iter().map(|node| wire_id(*node)).collect::<Result<Vec<_>, _>>()?;
        bucket_metadata.push(rpc::PbBucketMetadata {
            bucket_id: bucket.bucket.0,
            leader_id: Some(shown_leader(wire_id(leader)?, &replica_id, listed)),
            replica_id,
            leader_epoch: Some(i32::try_from(term).unwrap_or(i32::MAX)),
            ..Default::default()
        });
    }
    Ok(rpc::PbTableMetadata {
        table_path: rpc::PbTablePath { database_name: table.path.database.clone(), table_name: table.path.table.clone() },
        table_id: table.id.0,
        schema_id: i32::from(table.latest_schema().0.0),
        table_json: Bytes::from(table.table_json.clone()),
        bucket_metadata,
        created_time: table.created_ms,
        modified_time: table.modified_ms,
        remote_data_dir: None,
        bucket_count_epoch: None,
    })
}

/// Clients choke on a leader whose address they were not told. A node that has just joined knows leaders by gossip before its
/// catalog has caught up with their registration; whoever it names instead answers that it does not lead, and the client asks again.
fn shown_leader(leader: i32, replicas: &[i32], listed: &[i32]) -> i32 {
    let is_listed = |node: &&i32| listed.contains(node);
    [leader].iter().chain(replicas).chain(listed).find(is_listed).copied().unwrap_or(leader)
}

/// Node ids of coordinators are a name space of their own; the address is that of the node that leads the catalog.
fn coordinator(shared: &Shared, servers: &[rpc::PbServerNode]) -> Result<Option<rpc::PbServerNode>, Refusal> {
    let last_known = || shared.leaders.get(GroupId::CATALOG).map(|known| known.leader);
    let leader = shared.catalog.leader().or_else(last_known).unwrap_or(shared.node_id);
    let wanted = wire_id(leader)?;
    Ok(servers.iter().find(|server| server.node_id == wanted).or(servers.first()).cloned())
}

/// All registered nodes, also those that are down: the list replaces the client's (trap 8).
fn servers(shared: &Shared, state: &CatalogState) -> Result<Vec<rpc::PbServerNode>, Refusal> {
    let mut servers = Vec::new();
    for node in state.nodes().values() {
        if let Some(registered) = &node.registered {
            servers.push(server_node(node.id, &registered.client_address)?);
        }
    }
    if !servers.iter().any(|server| Ok(server.node_id) == wire_id(shared.node_id).map_err(|_| ())) {
        // Not registered yet, but it answers this very call.
        servers.push(server_node(shared.node_id, &shared.client_address)?);
    }
    Ok(servers)
}

fn server_node(id: NodeId, address: &str) -> Result<rpc::PbServerNode, Refusal> {
    let bad = || Refusal::new(ErrorCode::UnknownServerError, format!("node {id} has the address {address}"));
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(rpc::PbServerNode { node_id: wire_id(id)?, host, port: i32::from(port), listeners: None, rack: None })
}

/// Checked when a node starts: ids fit in the wire's int32.
fn wire_id(node: NodeId) -> Result<i32, Refusal> {
    i32::try_from(node)
        .map_err(|_| Refusal::new(ErrorCode::UnknownServerError, format!("node id {node} does not fit in an int32")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_leader_is_named_without_its_address() {
        assert_eq!(shown_leader(2, &[1, 2, 3], &[1, 2, 3]), 2);
        assert_eq!(shown_leader(1, &[1, 2, 3], &[2, 3, 4]), 2, "another replica");
        assert_eq!(shown_leader(1, &[1, 5], &[4]), 4, "the node that answers");
    }
}
