//! Who leads which group, over the whole cluster: from this node's replicas and by gossip between nodes.
//!
//! Every node tells every other one what changed since the version that the other has acknowledged; all of it if the other
//! is new. What is learned is passed on, so one path between two nodes is enough.

use super::gossip::{News, Payload, decode_payload, encode_payload};
use super::table::BucketPlacement;
use bytes::Bytes;
use floss_raft::env::runtime::sync::Notify;
use floss_raft::env::runtime::time::{Instant, timeout_at};
use floss_raft::types::{GroupId, Leadership, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

/// Groups in one ping at most (about 10 bytes each); the rest follows with the next pings.
pub const NEWS_PER_PING_MAX: usize = 4_096;

/// Dropped groups to remember: those of the last seconds matter, a straggler costs a table entry.
pub const FORGOTTEN_MAX: usize = 16_384;

/// Last known leader of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownLeader {
    pub term: u64,
    pub leader: NodeId,
    /// False while this node has reason to believe that it leads no more: its node is silent, or an election runs.
    pub live: bool,
}

/// Newest term wins. A group never loses its last known leader until it is forgotten.
pub struct LeaderTable {
    node: NodeId,
    boot_id: u64,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Default)]
struct Known {
    groups: BTreeMap<GroupId, Entry>,
    /// Counts changes of `groups`; each group stands at the version of its last change.
    version: u64,
    by_version: BTreeMap<u64, GroupId>,
    peers: BTreeMap<NodeId, Peer>,
    suspected: BTreeSet<NodeId>,
    /// Dropped groups: late news about them is not taken for new ones. The newest [`FORGOTTEN_MAX`] of them.
    forgotten: BTreeSet<GroupId>,
}

#[derive(Clone, Copy)]
struct Entry {
    term: u64,
    leader: NodeId,
    version: u64,
    /// Who told; not told back.
    from: Option<NodeId>,
    /// This node's replica has moved to a newer term without a leader: an election runs.
    vacant: bool,
}

/// What is known of another node's gossip.
#[derive(Default)]
struct Peer {
    boot_id: u64,
    /// Our version up to which it has everything.
    acked: u64,
    /// Its version up to which we have everything.
    seen: u64,
    /// It does not know `seen` for sure.
    ack_due: bool,
}

impl LeaderTable {
    /// `boot_id` differs between any two runs of this node.
    pub fn new(node: NodeId, boot_id: u64) -> Self {
        Self { node, boot_id, known: Mutex::default(), changed: Notify::new() }
    }

    /// From `HostObserver::on_leadership`. True if this is news for other nodes (then ping now).
    pub fn on_leadership(&self, group: GroupId, leadership: Leadership) -> bool {
        let mut known = self.lock();
        let news = match leadership.leader {
            Some(leader) => known.learn(News { group, term: leadership.term, leader }, None),
            None => {
                if let Some(entry) = known.groups.get_mut(&group) {
                    entry.vacant = leadership.term >= entry.term;
                }
                false
            }
        };
        drop(known);
        self.changed.notify_waiters();
        news
    }

    /// From `HostObserver::on_node`.
    pub fn on_node(&self, node: NodeId, alive: bool) {
        let mut known = self.lock();
        if alive {
            known.suspected.remove(&node)
        } else {
            known.suspected.insert(node)
        };
        drop(known);
        self.changed.notify_waiters();
    }

    /// From `HostObserver::ping_payload`. Empty if there is nothing to say.
    pub fn ping_payload(&self, to: NodeId) -> Bytes {
        let mut known = self.lock();
        let Known { groups, version, by_version, peers, .. } = &mut *known;
        let peer = peers.entry(to).or_default();
        let mut upto = *version;
        let mut news = Vec::new();
        for (changed_at, group) in by_version.range(peer.acked + 1..) {
            if news.len() == NEWS_PER_PING_MAX {
                upto = changed_at - 1;
                break;
            }
            let entry = groups[group];
            if entry.from != Some(to) {
                news.push(News { group: *group, term: entry.term, leader: entry.leader });
            }
        }
        let acked_all = peer.acked == *version;
        if acked_all && !peer.ack_due && peer.boot_id != 0 {
            return Bytes::new();
        }
        peer.ack_due = false;
        let payload = Payload { boot_id: self.boot_id, after: peer.acked, upto, news, ack_boot_id: peer.boot_id, ack: peer.seen };
        encode_payload(&payload)
    }

    /// From `HostObserver::on_ping`. Garbage is ignored.
    pub fn on_ping(&self, from: NodeId, payload: &Bytes) {
        if payload.is_empty() || from == self.node {
            return;
        }
        let Ok(payload) = decode_payload(payload) else {
            tracing::debug!(from, bytes = payload.len(), "gossip does not decode");
            return;
        };
        let mut known = self.lock();
        known.meet(from, payload.boot_id);
        let version = known.version;
        let peer = known.peers.entry(from).or_default();
        if payload.ack_boot_id == self.boot_id && payload.ack <= version {
            peer.acked = peer.acked.max(payload.ack);
        }
        // A peer that does not know this run of ours (our answer to its first ping got lost) would ask for ever.
        if payload.upto > payload.after || payload.ack_boot_id != self.boot_id {
            peer.ack_due = true;
        }
        // News that does not connect is still true; only what connects is acknowledged.
        if payload.after <= peer.seen {
            peer.seen = peer.seen.max(payload.upto);
        }
        let mut changed = false;
        for news in payload.news {
            changed |= known.learn(news, Some(from));
        }
        drop(known);
        if changed {
            self.changed.notify_waiters();
        }
    }

    pub fn get(&self, group: GroupId) -> Option<KnownLeader> {
        self.lock().get(group)
    }

    /// Leader to show to clients and its term: the last known one, else the preferred replica with term 0.
    pub fn shown(&self, placement: &BucketPlacement) -> (NodeId, u64) {
        match self.get(placement.group) {
            Some(known) => (known.leader, known.term),
            None => (placement.preferred, 0),
        }
    }

    /// Nodes that the failure detector suspects.
    pub fn suspected(&self) -> Vec<NodeId> {
        self.lock().suspected.iter().copied().collect()
    }

    /// The group was dropped.
    pub fn forget(&self, group: GroupId) {
        let mut known = self.lock();
        known.forgotten.insert(group);
        if known.forgotten.len() > FORGOTTEN_MAX {
            known.forgotten.pop_first();
        }
        if let Some(entry) = known.groups.remove(&group) {
            known.by_version.remove(&entry.version);
        }
    }

    /// Waits until every group has a live leader, at once if they have. False if `deadline` came first.
    pub async fn wait_all_led(&self, groups: &[GroupId], deadline: Instant) -> bool {
        let mut left = groups;
        loop {
            // Registered before the look, so that a change in between is not missed.
            let changed = self.changed.notified();
            {
                let known = self.lock();
                // Each group is looked at until it was seen led once: a thousand groups cost a thousand looks, not a million.
                while let Some((first, rest)) = left.split_first() {
                    if !known.get(*first).is_some_and(|leader| leader.live) {
                        break;
                    }
                    left = rest;
                }
            }
            if left.is_empty() {
                return true;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while the table is held")
    }
}

impl Known {
    fn get(&self, group: GroupId) -> Option<KnownLeader> {
        let entry = self.groups.get(&group)?;
        let live = !entry.vacant && !self.suspected.contains(&entry.leader);
        Some(KnownLeader { term: entry.term, leader: entry.leader, live })
    }

    /// True if it was new.
    fn learn(&mut self, news: News, from: Option<NodeId>) -> bool {
        if self.forgotten.contains(&news.group) {
            return false;
        }
        if let Some(entry) = self.groups.get_mut(&news.group) {
            if news.term <= entry.term {
                // One leader per term (I10), so this is the same one; this node's own replica may say that it is back.
                entry.vacant &= from.is_some() || news.term < entry.term;
                return false;
            }
            self.by_version.remove(&entry.version);
        }
        self.version += 1;
        let entry = Entry { term: news.term, leader: news.leader, version: self.version, from, vacant: false };
        self.groups.insert(news.group, entry);
        self.by_version.insert(self.version, news.group);
        true
    }

    /// A peer that was restarted knows nothing, and its versions begin anew.
    fn meet(&mut self, node: NodeId, boot_id: u64) {
        let peer = self.peers.entry(node).or_default();
        if peer.boot_id != boot_id {
            *peer = Peer { boot_id, acked: 0, seen: 0, ack_due: true };
            // What it had told may be told back to it now.
            for entry in self.groups.values_mut().filter(|entry| entry.from == Some(node)) {
                entry.from = None;
            }
        }
    }
}

#[cfg(test)]
#[path = "leaders_tests.rs"]
mod tests;
