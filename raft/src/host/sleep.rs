//! Which leaders send heartbeats: those that are used, so that their lease is fresh when the next write comes, and those with
//! something under way. The others sleep; a write or read barrier wakes them, at the price of one quorum round.

use super::Host;
use crate::env::runtime::time;
use crate::group::Group;
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

/// Starts or stops the group's heartbeats by what is known now.
pub fn settle(host: &Host, group: &Group) {
    let leads = group.inner.believed_leader() == Some(group.inner.me);
    let used = group.inner.is_asked() || group.inner.quiet_ms() < host.inner.config.sleep_after_ms;
    if leads && (used || is_unsettled(host, group)) { group.inner.wake() } else { group.inner.sleep() }
}

/// True for a leader with something under way that its heartbeats help.
fn is_unsettled(host: &Host, group: &Group) -> bool {
    let metrics = group.inner.raft.metrics();
    let metrics = metrics.borrow_watched();
    // Who is down is woken for when it returns; who lags has to catch up first.
    let lags = metrics.replication.as_ref().is_none_or(|replication| {
        replication.iter().any(|(node, matched)| {
            let behind = matched.as_ref().map(|id| id.index) != metrics.last_log_index;
            behind && *node != group.inner.me && host.is_alive(*node)
        })
    });
    lags || metrics.state != ServerState::Leader || metrics.membership_config.membership().get_joint_config().len() > 1
}
