//! Which groups tick: their ticks cost, their silence does not.
//!
//! A tick starts elections and sends heartbeats. A follower needs none while its leader's node answers the failure detector; a
//! leader needs them while it is used, so that its lease is fresh when the next write comes. What starts ticks at once: a write
//! or barrier here, the loss of the leader, and the failure detector when a node of the group goes or comes.
//!
//! That the node answers does not prove that its replica leads. It is enough: a replica that does not lead (any more) knows a leader of a
//! newer term, of which the same holds, or none, and then it ticks and will be elected or vote.

use super::Host;
use crate::env::runtime::time;
use crate::group::Group;
use floss_protocol::reached;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use std::sync::atomic::Ordering;
use std::time::Duration;

const CHECK_EVERY: Duration = Duration::from_millis(250);

pub async fn run(host: Host) {
    while !host.inner.closing.load(Ordering::SeqCst) {
        time::sleep(CHECK_EVERY).await;
        let groups: Vec<Group> = host.groups().values().cloned().collect();
        groups.iter().for_each(|group| settle(&host, group));
    }
}

/// Starts or stops the group's ticks by what is known now.
pub fn settle(host: &Host, group: &Group) {
    if needs_ticks(host, group) { group.inner.wake() } else { group.inner.sleep() }
}

fn needs_ticks(host: &Host, group: &Group) -> bool {
    let inner = &group.inner;
    if inner.is_alarmed() {
        return true;
    }
    match inner.believed_leader() {
        None => !inner.is_patient(),
        Some(leader) if leader != inner.me => !host.is_alive(leader),
        Some(_) => inner.quiet_ms() < host.inner.config.sleep_after_ms || is_unsettled(host, group),
    }
}

/// True for a leader with something under way that its heartbeats help.
fn is_unsettled(host: &Host, group: &Group) -> bool {
    let metrics = group.inner.raft.metrics();
    let metrics = metrics.borrow_watched();
    // Who is down is woken for when it returns; who lags has to catch up first.
    let lags = metrics.replication.as_ref().is_none_or(|replication| {
        replication.iter().any(|(node, matched)| {
            *node != group.inner.me && host.is_alive(*node) && matched.as_ref().map(|id| id.index) != metrics.last_log_index
        })
    });
    lags || metrics.state != ServerState::Leader || metrics.membership_config.membership().get_joint_config().len() > 1
}

/// True if this node has reason to believe that the group has another leader than `candidate` and needs no election.
///
/// The leases that would say so run out while a group sleeps. Without this, a node that alone has lost sight of the leader would take the
/// group over, and the old leader would take it back, for ever.
pub fn vouches_for_leader(host: &Host, group: &Group, candidate: u64) -> bool {
    if group.inner.is_alarmed() {
        return false;
    }
    let vouches = group.inner.believed_leader().is_some_and(|leader| leader != candidate && host.is_alive(leader));
    if vouches {
        reached!("vouched_for_leader");
    }
    vouches
}
