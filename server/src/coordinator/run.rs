//! The loops of the coordinator: forming the cluster, registering this node, growing group 0.

use super::admission::{CATALOG_VOTERS_MAX, Formation, wiped};
use super::catalog::{Catalog, CatalogError};
use super::command::{CatalogCommand, NodeRegistration};
use super::reject::CatalogReject;
use super::state::CatalogState;
use crate::identity::mix;
use crate::node::NodeError;
use floss_protocol::reached;
use floss_raft::env::runtime::time::timeout;
use floss_raft::group::Group;
use floss_raft::host::Host;
use floss_raft::types::{GroupId, NodeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// While there is something to do that waits for others (an election, a quorum).
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Otherwise; changes of the catalog are noticed at once, only leadership of group 0 is looked at this often.
const IDLE_PAUSE: Duration = Duration::from_millis(1_000);
const PROPOSE_MAX: Duration = Duration::from_millis(5_000);
/// Entries of group 0 that a restart replays at most, give or take a round, whatever buckets do.
const COMPACT_ENTRIES_MAX: u64 = 4_096;

/// Runs on every node until it is dropped or aborted: forms the cluster if nobody has (group 0's leader does), registers this
/// node whenever the catalog knows other addresses, tells host and transport who is a member, and, where group 0 is led,
/// adds members to it.
///
/// Returns why the cluster does not take this directory: it was let in with another one since.
pub async fn run_coordinator(
    catalog: Catalog,
    host: Host,
    formation: Formation,
    me: NodeRegistration,
    compact_entries: u64,
) -> NodeError {
    let mut told = BTreeMap::new();
    loop {
        let view = catalog.current();
        tell_members(&catalog, &host, members(&view.state, &formation), me.node, &mut told);
        compact(&catalog, compact_entries.min(COMPACT_ENTRIES_MAX)).await;
        let busy = match step(&catalog, &host, &formation, &me, &view.state).await {
            Ok(busy) => busy,
            Err(CatalogReject::WipedNode { known, found, .. }) => return wiped(known, found),
            Err(refusal) => {
                tracing::error!(node = me.node, %refusal, "the cluster refuses this node");
                false
            }
        };
        let pause = if busy { BUSY_PAUSE } else { IDLE_PAUSE };
        // Either way the next round looks at everything again.
        let _ = timeout(pause, catalog.changed_after(view.index)).await;
    }
}

/// Nobody reads old entries of group 0, so its log is only as long as that bounds a replay.
async fn compact(catalog: &Catalog, entries_max: u64) {
    let Some(group) = catalog.group() else { return };
    let pointers = group.pointers();
    if pointers.applied.saturating_sub(pointers.snapshot) < entries_max {
        return;
    }
    if let Err(error) = group.compact().await {
        tracing::info!(%error, applied = pointers.applied, "catalog was not compacted");
    } else {
        reached!("catalog_compacted");
    }
}

/// One round. True if there is more to do as soon as others are ready for it. Errors: the cluster does not take this node.
async fn step(
    catalog: &Catalog,
    host: &Host,
    formation: &Formation,
    me: &NodeRegistration,
    state: &CatalogState,
) -> Result<bool, CatalogReject> {
    if state.cluster_id().is_none() {
        if catalog.leads() {
            form(catalog, formation, me).await;
        }
        return Ok(true);
    }
    if !is_registered(state, me) {
        return register(catalog, me).await;
    }
    Ok(match catalog.group() {
        Some(group) if group.leadership().ready => {
            let (voters, learners) = group.members();
            let alive = |node: NodeId| node == me.node || host.is_alive(node);
            let changed = carry_out(&group, plan_growth(state, &voters, &learners, alive)).await;
            report_removed(catalog, state, &[group]).await || changed
        }
        Some(_) | None => false,
    })
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
async fn register(catalog: &Catalog, me: &NodeRegistration) -> Result<bool, CatalogReject> {
    match catalog.propose(CatalogCommand::RegisterNode(me.clone()), PROPOSE_MAX).await {
        Ok(_) => {}
        Err(CatalogError::Rejected(refusal)) => return Err(refusal),
        Err(error) => tracing::info!(node = me.node, %error, "registering"),
    }
    Ok(true)
}

/// One change of group 0's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Growth {
    Nothing,
    /// A registered node that does not have the catalog yet.
    AddLearner(NodeId),
    /// All voters afterwards.
    ChangeVoters(Vec<NodeId>),
    /// A member that was wiped.
    Remove(NodeId),
}

/// Every registered node becomes a member: a learner first (which brings it the log), then a voter while there are fewer than
/// five. Only nodes that live are made voters, and only so many that the number of voters ends up odd: an even one needs
/// more of them to be up and survives no more failures.
fn plan_growth(state: &CatalogState, voters: &[NodeId], learners: &[NodeId], alive: impl Fn(NodeId) -> bool) -> Growth {
    let mut wiped = state.nodes().values().filter(|info| info.wiped.is_some()).map(|info| info.id);
    if let Some(node) = wiped.find(|node| voters.contains(node) || learners.contains(node)) {
        return Growth::Remove(node);
    }
    let usable = state.nodes().values().filter(|info| info.registered.is_some() && info.wiped.is_none());
    let usable: Vec<NodeId> = usable.map(|info| info.id).collect();
    let mut strangers = usable.iter().filter(|node| !voters.contains(node) && !learners.contains(node));
    if let Some(node) = strangers.find(|node| alive(**node)) {
        return Growth::AddLearner(*node);
    }
    let ready: Vec<NodeId> = usable.into_iter().filter(|node| learners.contains(node) && alive(*node)).collect();
    let possible = CATALOG_VOTERS_MAX.min(voters.len() + ready.len());
    let wanted = if possible.is_multiple_of(2) { possible.saturating_sub(1) } else { possible };
    if wanted <= voters.len() {
        return Growth::Nothing;
    }
    let promoted = ready.into_iter().take(wanted - voters.len());
    let mut voters: Vec<NodeId> = voters.iter().copied().chain(promoted).collect();
    voters.sort_unstable();
    Growth::ChangeVoters(voters)
}

/// True if there may be more to do. What failed is tried again after an idle pause.
async fn carry_out(group: &Group, growth: Growth) -> bool {
    let result = match &growth {
        Growth::Nothing => return false,
        Growth::AddLearner(node) => group.add_learner(*node).await,
        Growth::ChangeVoters(voters) => group.change_voters(voters.clone()).await,
        Growth::Remove(node) => group.remove_member(*node).await,
    };
    tracing::info!(?growth, ?result, "membership of the catalog");
    result.is_ok()
}

/// Tells the catalog which of `groups`, led from here, are rid of which wiped nodes. True if there was something to tell.
pub async fn report_removed(catalog: &Catalog, state: &CatalogState, groups: &[Group]) -> bool {
    let mut told = false;
    for info in state.nodes().values() {
        let Some(wiped) = &info.wiped else { continue };
        let rid = groups.iter().filter(|group| wiped.waiting_for.contains(&group.id()) && group.is_rid_of(info.id));
        let rid: Vec<GroupId> = rid.map(Group::id).collect();
        if rid.is_empty() {
            continue;
        }
        told = true;
        let command = CatalogCommand::ReplicasRemoved { node: info.id, incarnation: wiped.by.incarnation, groups: rid };
        let outcome = catalog.propose(command, PROPOSE_MAX).await;
        tracing::info!(node = info.id, ?outcome, "groups that are rid of a wiped node");
    }
    told
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

/// Only what changed since the last time.
fn tell_members(catalog: &Catalog, host: &Host, members: Vec<(NodeId, String)>, me: NodeId, told: &mut BTreeMap<NodeId, String>) {
    let others: BTreeMap<NodeId, String> = members.into_iter().filter(|(node, _)| *node != me).collect();
    if others == *told {
        return;
    }
    for (node, address) in others.iter().filter(|(node, address)| told.get(node) != Some(address)) {
        catalog.set_peer(*node, address.clone());
    }
    host.set_nodes(others.keys().copied().collect());
    *told = others;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::command::{CatalogEntry, InitialNode, RequestId};

    fn registered(nodes: u64) -> CatalogState {
        let mut state = CatalogState::default();
        let initial = vec![InitialNode { node: 1, peer_address: "n1:1".into() }];
        let form = CatalogCommand::FormCluster { cluster_id: "c".into(), nodes: initial };
        let register = (1..=nodes).map(|node| {
            let (client_address, peer_address) = (format!("n{node}:9"), format!("n{node}:1"));
            CatalogCommand::RegisterNode(NodeRegistration { node, incarnation: node, client_address, peer_address })
        });
        for (counter, command) in (0..).zip(std::iter::once(form).chain(register)) {
            let request = RequestId { node: 1, incarnation: 1, boot: 1, counter };
            state.apply(&CatalogEntry { request, now_ms: 0, command }).expect("accepted");
        }
        state
    }

    #[test]
    fn group_zero_grows_to_an_odd_number_of_living_voters() {
        let all = |_| true;
        let three = registered(3);
        assert_eq!(plan_growth(&three, &[1], &[], all), Growth::AddLearner(2));
        assert_eq!(plan_growth(&three, &[1], &[2], all), Growth::AddLearner(3));
        assert_eq!(plan_growth(&three, &[1], &[2, 3], all), Growth::ChangeVoters(vec![1, 2, 3]));
        assert_eq!(plan_growth(&three, &[1], &[2, 3], |node| node != 3), Growth::Nothing, "two voters are worse than one");
        assert_eq!(plan_growth(&three, &[1], &[], |node| node == 1), Growth::Nothing);
        assert_eq!(plan_growth(&three, &[1, 2], &[3], all), Growth::ChangeVoters(vec![1, 2, 3]));
        assert_eq!(plan_growth(&three, &[1, 2, 3], &[], all), Growth::Nothing);
        let seven = registered(7);
        assert_eq!(plan_growth(&seven, &[1, 2, 3, 4, 5], &[6], all), Growth::AddLearner(7));
        assert_eq!(plan_growth(&seven, &[1, 2, 3, 4, 5], &[6, 7], all), Growth::Nothing);
        let mut wiped = registered(3);
        let other = NodeRegistration { node: 3, incarnation: 99, client_address: "n3:9".into(), peer_address: "n3:1".into() };
        let request = RequestId { node: 1, incarnation: 1, boot: 2, counter: 0 };
        let refused = wiped.apply(&CatalogEntry { request, now_ms: 0, command: CatalogCommand::RegisterNode(other) });
        assert!(matches!(refused, Err(CatalogReject::WipedNode { .. })));
        assert_eq!(plan_growth(&wiped, &[1, 2, 3], &[], all), Growth::Remove(3));
        assert_eq!(plan_growth(&wiped, &[1, 2], &[], all), Growth::Nothing, "not before it was let in again");
        assert_eq!(plan_growth(&seven, &[5, 6, 7], &[1, 2, 3, 4], all), Growth::ChangeVoters(vec![1, 2, 5, 6, 7]));
    }
}
