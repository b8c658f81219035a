//! Which single change of a bucket's members comes next. Pure.

use super::state::CatalogState;
use floss_raft::types::NodeId;

/// Entries that a learner may lack when it is made a voter: few enough to be sent while the change commits.
const PROMOTE_LAG_MAX: u64 = 64;

/// Who takes part in a group now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
}

/// One step. Members change one at a time, so that any two majorities in a row share a node that votes in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    Nothing,
    /// A learner is being sent what it lacks.
    Wait,
    /// Its directory was wiped: its vote and its entries are gone.
    Remove(NodeId),
    /// It was let in again, and is sent the log.
    AddLearner(NodeId),
    /// It has caught up.
    Promote(NodeId),
}

/// `replicas` = where the catalog wants them; `lag_of` = entries that a member lacks, as the leader knows.
///
/// A wiped node leaves only groups in which the others are a majority of three or more; smaller ones cannot lose it safely.
pub fn plan_members(
    state: &CatalogState,
    replicas: &[NodeId],
    members: &Members,
    is_alive: impl Fn(NodeId) -> bool,
    lag_of: impl Fn(NodeId) -> Option<u64>,
) -> MemberChange {
    let is_wiped = |node: &NodeId| state.nodes().get(node).is_some_and(|info| info.wiped.is_some());
    let is_voter = |node: &NodeId| members.voters.contains(node);
    let is_learner = |node: &NodeId| members.learners.contains(node);
    let mut everyone = members.voters.iter().chain(&members.learners);
    if let Some(node) = everyone.find(|node| is_wiped(node) && (is_learner(node) || members.voters.len() >= 3)) {
        return MemberChange::Remove(*node);
    }
    let wanted = || replicas.iter().filter(|node| !is_wiped(node) && is_alive(**node));
    if let Some(node) = wanted().find(|node| !is_voter(node) && !is_learner(node)) {
        return MemberChange::AddLearner(*node);
    }
    let learners: Vec<&NodeId> = wanted().filter(|node| !is_voter(node)).collect();
    match learners.iter().find(|node| lag_of(***node).is_some_and(|lag| lag <= PROMOTE_LAG_MAX)) {
        Some(node) => MemberChange::Promote(**node),
        None if learners.is_empty() => MemberChange::Nothing,
        None => MemberChange::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::command::{CatalogCommand, CatalogEntry, InitialNode, NodeRegistration, RequestId};

    fn state(wiped: Option<NodeId>) -> CatalogState {
        let mut state = CatalogState::default();
        let initial = (1..=3).map(|node| InitialNode { node, peer_address: String::new() }).collect();
        let register = |node, incarnation| {
            let (client_address, peer_address) = (String::new(), String::new());
            CatalogCommand::RegisterNode(NodeRegistration { node, incarnation, client_address, peer_address })
        };
        let form = CatalogCommand::FormCluster { cluster_id: "c".into(), nodes: initial };
        let commands =
            std::iter::once(form).chain((1..=3).map(|node| register(node, 1))).chain(wiped.map(|node| register(node, 2)));
        for (counter, command) in (0..).zip(commands) {
            let request = RequestId { node: 1, incarnation: 1, boot: 1, counter };
            _ = state.apply(&CatalogEntry { request, now_ms: 0, command });
        }
        state
    }

    #[test]
    fn a_lost_replica_leaves_comes_back_and_votes() {
        let replicas = [1, 2, 3];
        let members = |voters: &[NodeId], learners: &[NodeId]| Members { voters: voters.into(), learners: learners.into() };
        let all = |_| true;
        let (whole, wiped) = (state(None), state(Some(3)));
        let plan =
            |state: &CatalogState, members: &Members, lag: Option<u64>| plan_members(state, &replicas, members, all, |_| lag);
        assert_eq!(plan(&whole, &members(&[1, 2, 3], &[]), None), MemberChange::Nothing);
        assert_eq!(plan(&wiped, &members(&[1, 2, 3], &[]), Some(0)), MemberChange::Remove(3));
        assert_eq!(plan(&wiped, &members(&[1, 2], &[3]), Some(0)), MemberChange::Remove(3), "also before it could vote again");
        assert_eq!(plan(&wiped, &members(&[1, 2], &[]), None), MemberChange::Nothing);
        let two = plan_members(&wiped, &[2, 3], &members(&[2, 3], &[]), all, |_| Some(0));
        assert_eq!(two, MemberChange::Nothing, "one of two cannot be removed");
        assert_eq!(plan(&whole, &members(&[1, 2], &[]), None), MemberChange::AddLearner(3));
        let dead = plan_members(&whole, &replicas, &members(&[1, 2], &[]), |node| node != 3, |_| None);
        assert_eq!(dead, MemberChange::Nothing);
        assert_eq!(plan(&whole, &members(&[1, 2], &[3]), None), MemberChange::Wait);
        assert_eq!(plan(&whole, &members(&[1, 2], &[3]), Some(PROMOTE_LAG_MAX + 1)), MemberChange::Wait);
        assert_eq!(plan(&whole, &members(&[1, 2], &[3]), Some(PROMOTE_LAG_MAX)), MemberChange::Promote(3));
    }
}
