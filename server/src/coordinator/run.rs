//! The loops of the coordinator: forming the cluster, registering this node, growing group 0.

use super::admission::{CATALOG_VOTERS_MAX, Formation};
use super::catalog::{Catalog, CatalogError};
use super::command::{CatalogCommand, NodeRegistration};
use super::reject::CatalogReject;
use super::state::CatalogState;
use crate::identity::mix;
use floss_raft::env::runtime::time::timeout;
use floss_raft::group::Group;
use floss_raft::host::Host;
use floss_raft::types::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;

/// While there is something to do that waits for others (an election, a quorum).
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Otherwise; changes of the catalog are noticed at once, only leadership of group 0 is looked at this often.
const IDLE_PAUSE: Duration = Duration::from_millis(1_000);
const PROPOSE_MAX: Duration = Duration::from_millis(5_000);
/// Entries of group 0 that a restart replays at most, give or take a round.
const COMPACT_AFTER_ENTRIES: u64 = 4_096;

/// Runs on every node until it is dropped or aborted: forms the cluster if nobody has (group 0's leader does), registers this
/// node whenever the catalog knows other addresses, tells host and transport who is a member, and, where group 0 is led,
/// adds members to it.
pub async fn run_coordinator(catalog: Catalog, host: Host, formation: Formation, me: NodeRegistration) {
    let mut told: BTreeSet<NodeId> = BTreeSet::new();
    loop {
        let view = catalog.current();
        tell_members(&catalog, &host, members(&view.state, &formation), me.node, &mut told);
        compact(&catalog).await;
        let busy = step(&catalog, &formation, &me, &view.state).await;
        let pause = if busy { BUSY_PAUSE } else { IDLE_PAUSE };
        // Either way the next round looks at everything again.
        let _ = timeout(pause, catalog.changed_after(view.index)).await;
    }
}

/// Nobody reads old entries of group 0, so its log is only as long as that bounds a replay.
async fn compact(catalog: &Catalog) {
    let Some(group) = catalog.group() else { return };
    let pointers = group.pointers();
    if pointers.applied.saturating_sub(pointers.snapshot) < COMPACT_AFTER_ENTRIES {
        return;
    }
    if let Err(error) = group.compact().await {
        tracing::info!(%error, applied = pointers.applied, "catalog was not compacted");
    }
}

/// One round. True if there is more to do as soon as others are ready for it.
async fn step(catalog: &Catalog, formation: &Formation, me: &NodeRegistration, state: &CatalogState) -> bool {
    if state.cluster_id().is_none() {
        if catalog.leads() {
            form(catalog, formation, me).await;
        }
        return true;
    }
    if !is_registered(state, me) {
        return register(catalog, me).await;
    }
    match catalog.group() {
        Some(group) if group.leadership().ready => grow(&group, state).await,
        Some(_) | None => false,
    }
}

async fn form(catalog: &Catalog, formation: &Formation, me: &NodeRegistration) {
    // Only initial nodes are voters before the cluster is formed.
    let Formation::Initial(nodes) = formation else { return };
    // The first entry of the log that is applied decides; made of what no two clusters have in common.
    let cluster_id = format!("floss-{:016x}", mix(me.incarnation ^ mix(catalog.now_ms() as u64)));
    let command = CatalogCommand::FormCluster { cluster_id, nodes: nodes.clone() };
    match catalog.propose(command, PROPOSE_MAX).await {
        Ok(_) => tracing::info!(node = me.node, "cluster formed"),
        Err(CatalogError::Rejected(CatalogReject::AlreadyFormed { cluster_id })) => {
            tracing::info!(node = me.node, cluster_id, "cluster was formed by another leader");
        }
        Err(error) => tracing::info!(node = me.node, %error, "forming the cluster"),
    }
}

fn is_registered(state: &CatalogState, me: &NodeRegistration) -> bool {
    state.nodes().get(&me.node).is_some_and(|info| {
        let same =
            |known: &super::state::Registered| known.incarnation == me.incarnation && known.client_address == me.client_address;
        info.registered.as_ref().is_some_and(same) && info.peer_address == me.peer_address && info.wiped.is_none()
    })
}

/// True if it is worth another try soon.
async fn register(catalog: &Catalog, me: &NodeRegistration) -> bool {
    match catalog.propose(CatalogCommand::RegisterNode(me.clone()), PROPOSE_MAX).await {
        Ok(_) => true,
        Err(CatalogError::Rejected(refusal)) => {
            tracing::error!(node = me.node, %refusal, "the cluster refuses this node");
            false
        }
        Err(error) => {
            tracing::info!(node = me.node, %error, "registering");
            true
        }
    }
}

/// Makes every registered node a member of group 0: a learner first (which brings it the log), then a voter while there
/// are fewer than five. One change per round. True if there was one to make.
async fn grow(group: &Group, state: &CatalogState) -> bool {
    let (voters, learners) = group.members();
    let usable = state.nodes().values().filter(|info| info.registered.is_some() && info.wiped.is_none());
    let usable: Vec<NodeId> = usable.map(|info| info.id).collect();
    let stranger = usable.iter().find(|node| !voters.contains(node) && !learners.contains(node));
    if let Some(node) = stranger {
        let added = group.add_learner(*node).await;
        tracing::info!(node, ?added, "learner of the catalog");
        return true;
    }
    let promoted = usable.iter().find(|node| learners.contains(node));
    match promoted {
        Some(node) if voters.len() < CATALOG_VOTERS_MAX => {
            let mut wanted = voters;
            wanted.push(*node);
            let changed = group.change_voters(wanted).await;
            tracing::info!(node, ?changed, "voter of the catalog");
            true
        }
        Some(_) | None => false,
    }
}

/// Before the cluster is formed, those it will be formed of.
fn members(state: &CatalogState, formation: &Formation) -> Vec<(NodeId, String)> {
    match formation {
        Formation::Initial(nodes) if state.nodes().is_empty() => {
            nodes.iter().map(|node| (node.node, node.peer_address.clone())).collect()
        }
        Formation::Initial(_) | Formation::Join(_) => {
            state.nodes().values().map(|info| (info.id, info.peer_address.clone())).collect()
        }
    }
}

fn tell_members(catalog: &Catalog, host: &Host, members: Vec<(NodeId, String)>, me: NodeId, told: &mut BTreeSet<NodeId>) {
    let others: BTreeSet<NodeId> = members.iter().map(|(node, _)| *node).filter(|node| *node != me).collect();
    for (node, address) in members {
        catalog.set_peer(node, address);
    }
    if others != *told {
        host.set_nodes(others.iter().copied().collect());
        *told = others;
    }
}
