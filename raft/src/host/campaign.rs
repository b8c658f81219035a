//! Elections: which groups need one, and when each attempt is made. openraft's own election timers are off.
//!
//! Nobody campaigns while the leader's node answers the failure detector: thousands of groups then need no timers, and a node that is short
//! of time does not make it worse. That the node answers does not prove that its replica leads. It is enough: a replica
//! that does not lead (any more) knows a leader of a newer term, of which the same holds, or none, and then it campaigns. It may not win, its
//! log may be the shorter one; so a leader that campaigns, was restarted, or whose replica failed, is *doubted*: who doubts
//! campaigns too. A leader that is known from hearsay only (the last vote before a restart, an answer of a third node) is asked: its node
//! may have been wiped since, and then nobody would ever say that the group has no leader. And a leader that offered its leadership to
//! one that did not take it appends nothing more: it tells the others to doubt it.
//!
//! Attempts are questions (pre-votes) first, so one that comes too early costs a message. They are spread: by chance, by a
//! limit per round, and further apart the longer they come to nothing.

use super::Host;
use crate::adapter::network;
use crate::env::runtime::{select, spawn, time};
use crate::group::Group;
use crate::types::NodeId;
use floss_protocol::{mutant, reached};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Groups are looked at this often while all have leaders; at once when a node goes or comes.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// While some have none.
const ROUND: Duration = Duration::from_millis(25);
/// Attempts started in one round.
const ATTEMPTS_PER_ROUND: usize = 64;
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Longer than a node takes to say that it does not have a group.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn run(host: Host) {
    let mut pause = LOOK_EVERY;
    while !host.inner.closing.load(Ordering::SeqCst) {
        select! {
            biased;
            _ = host.inner.campaigns.notified() => {}
            _ = time::sleep(pause) => {}
        }
        pause = if round(&host).await { ROUND } else { LOOK_EVERY };
    }
}

/// Starts the attempts that are due. True if groups are left without a leader.
async fn round(host: &Host) -> bool {
    let groups: Vec<Group> = host.groups().values().cloned().collect();
    let (mut started, mut left) = (0, false);
    for group in groups {
        if let Some((leader, term)) = group.inner.leader_by_hearsay()
            && host.is_alive(leader)
            && group.inner.elections.start_asking(term)
        {
            spawn(ask_leader(host.clone(), group.clone(), leader, term));
        }
        if group.inner.leads_in_vain() {
            reached!("hand_over_refused");
            let (voters, _) = group.members();
            let others = voters.into_iter().filter(|voter| *voter != group.inner.me);
            others.for_each(|voter| network::send_wake(&*host.inner.transport, group.id(), voter));
            continue;
        }
        if !is_needed(host, &group) {
            group.inner.elections.rest();
            continue;
        }
        left = true;
        if started < ATTEMPTS_PER_ROUND && group.inner.elections.is_due() {
            started += 1;
            reached!("campaign");
            // Of a group that is being closed: nothing is to be done.
            _ = group.inner.raft.trigger().elect(true).await;
        }
    }
    left
}

/// Until it is known whether it leads.
async fn ask_leader(host: Host, group: Group, leader: NodeId, term: u64) {
    let inner = &group.inner;
    while !host.inner.closing.load(Ordering::SeqCst) && inner.leader_by_hearsay() == Some((leader, term)) {
        let doubts = inner.elections.doubts();
        match network::ask_leads(&*host.inner.transport, group.id(), leader, ASK_TIMEOUT).await {
            // It is asked again if doubt arose meanwhile.
            Some(true) => inner.elections.trust(term, Some(doubts)),
            Some(false) => {
                reached!("leader_by_hearsay_doubted");
                inner.elections.doubt(Some(term));
                return host.inner.campaigns.notify_one();
            }
            None => time::sleep(ASK_EVERY).await,
        }
    }
    inner.elections.end_asking(term);
}

fn is_needed(host: &Host, group: &Group) -> bool {
    let inner = &group.inner;
    match inner.believed_leader() {
        None => !inner.elections.is_patient() && inner.is_voter(),
        Some(leader) if leader == inner.me => false,
        Some(leader) => (!host.is_alive(leader) || inner.doubts_leader()) && inner.is_voter(),
    }
}

/// True if this node has reason to believe that the group has another leader than `candidate` and needs no election.
///
/// The leases that would say so run out while a group sleeps. Without this, a node that alone has lost sight of the leader would take the
/// group over, and the old leader would take it back, for ever.
pub fn vouches_for_leader(host: &Host, group: &Group, candidate: u64) -> bool {
    let inner = &group.inner;
    if inner.leads_in_vain() && !mutant!("M19") {
        // Its own vote may be the one that is needed.
        return false;
    }
    let leader = inner.believed_leader().filter(|leader| *leader != candidate && !inner.doubts_leader());
    let vouches = leader.is_some_and(|leader| host.is_alive(leader));
    if vouches {
        reached!("vouched_for_leader");
    }
    vouches
}
