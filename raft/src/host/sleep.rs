//! Puts quiet groups to sleep: their ticks cost, their silence does not.
//!
//! Followers go first, so that the leader's last heartbeats find nobody who waits for more. What wakes a group: a write or read
//! here, any Raft message, and the failure detector when a node of the group goes or comes.

use super::Host;
use crate::env::runtime::time;
use crate::group::Group;
use openraft::ServerState;
use std::sync::atomic::Ordering;
use std::time::Duration;

const CHECK_EVERY: Duration = Duration::from_millis(500);
/// A leader stays up this much longer than its followers.
const LEADER_EXTRA_MS: u64 = 2_000;

pub async fn run(host: Host) {
    while !host.inner.closing.load(Ordering::SeqCst) {
        time::sleep(CHECK_EVERY).await;
        let groups: Vec<Group> = host.groups().values().cloned().collect();
        for group in groups {
            if !group.inner.is_asleep() && may_sleep(&host, &group) {
                group.inner.sleep();
            }
        }
    }
}

fn may_sleep(host: &Host, group: &Group) -> bool {
    let after = host.inner.config.sleep_after_ms;
    let quiet = group.inner.quiet_ms();
    if quiet < after {
        return false;
    }
    let metrics = group.inner.metrics();
    if metrics.current_leader.is_none_or(|leader| !host.is_alive(leader))
        || metrics.membership_config.membership().get_joint_config().len() > 1
    {
        return false;
    }
    match metrics.state {
        ServerState::Follower | ServerState::Learner => true,
        ServerState::Leader => {
            // Who is down is woken for when it returns; who lags has to catch up first.
            let matched = metrics.replication.as_ref().is_some_and(|replication| {
                replication.iter().all(|(node, matched)| {
                    !host.is_alive(*node)
                        || *node == group.inner.me
                        || matched.as_ref().map(|id| id.index) == metrics.last_log_index
                })
            });
            quiet >= after + LEADER_EXTRA_MS && matched
        }
        ServerState::Candidate | ServerState::Shutdown => false,
    }
}
