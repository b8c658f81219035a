//! GetClusterHealth: counts of replicas and leaders, and a colour.

use crate::net::answer::{Answer, Body};
use crate::shared::Shared;
use floss_protocol::rpc;
use floss_raft::types::GroupId;
use std::sync::Arc;

/// What the counts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Every bucket is led and every replica's node answers.
    Green = 0,
    /// Everything is served, but some node is away.
    Yellow = 1,
    /// Some bucket, or the catalog, has no leader.
    Red = 2,
    /// The cluster is not formed.
    Unknown = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub replicas: u64,
    pub in_sync: u64,
    pub leaders: u64,
    pub active_leaders: u64,
    pub colour: Colour,
}

pub(crate) async fn cluster_health(shared: Arc<Shared>, _request: rpc::GetClusterHealthRequest) -> Answer {
    let health = health(&shared);
    let int = |count: u64| i32::try_from(count).unwrap_or(i32::MAX);
    Ok(Body::message(&rpc::GetClusterHealthResponse {
        num_replicas: int(health.replicas),
        in_sync_replicas: int(health.in_sync),
        num_leader_replicas: int(health.leaders),
        active_leader_replicas: int(health.active_leaders),
        status: health.colour as i32,
    }))
}

/// As this node sees it. A replica counts as in sync when its node answers.
pub(crate) fn health(shared: &Shared) -> Health {
    let state = shared.catalog.view();
    let suspected = shared.leaders.suspected();
    let mut health = Health { replicas: 0, in_sync: 0, leaders: 0, active_leaders: 0, colour: Colour::Unknown };
    for placement in state.tables().values().flat_map(|table| table.buckets.values()) {
        health.leaders += 1;
        health.replicas += placement.replicas.len() as u64;
        health.in_sync += placement.replicas.iter().filter(|node| !suspected.contains(node)).count() as u64;
        health.active_leaders += u64::from(is_led(shared, placement.group));
    }
    let nodes_here = state.nodes().values().all(|node| node.registered.is_some() && !suspected.contains(&node.id));
    health.colour = match () {
        () if state.cluster_id().is_none() => Colour::Unknown,
        () if health.active_leaders < health.leaders || !is_led(shared, GroupId::CATALOG) => Colour::Red,
        () if health.in_sync < health.replicas || !nodes_here => Colour::Yellow,
        () => Colour::Green,
    };
    health
}

fn is_led(shared: &Shared, group: GroupId) -> bool {
    shared.leaders.get(group).is_some_and(|known| known.live)
}
