//! One replica of one Raft group, as the layer above sees it.

use crate::adapter::codec::{machine_payload, to_ours};
use crate::adapter::network::Inbox;
use crate::adapter::{Payload, Raft, Types};
use crate::env::runtime::time::{self, Instant};
use crate::host::HostObserver;
use crate::journal::{Journal, JournalEntry};
use crate::types::{Applied, GroupError, GroupId, Leadership, NodeId, Pointers};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::impls::ProgressResponder;
use openraft::metrics::RaftMetrics;
use openraft::raft::ReadPolicy;
use openraft::{ChangeMembers, ServerState};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a woken leader may take to prove that it still leads.
const WAKE_TIMEOUT: Duration = Duration::from_secs(2);
const COMPACT_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// Handle to a replica; clones share it.
#[derive(Clone)]
pub struct Group {
    pub(crate) inner: Arc<GroupInner>,
}

pub(crate) struct GroupInner {
    pub id: GroupId,
    pub me: NodeId,
    pub raft: Raft,
    pub journal: Journal,
    pub inbox: Inbox,
    leadership: Mutex<Leadership>,
    /// Milliseconds after `born` of the last traffic that was not a heartbeat.
    active_at_ms: AtomicU64,
    born: Instant,
    asleep: AtomicBool,
}

impl Group {
    pub(crate) fn new(id: GroupId, me: NodeId, raft: Raft, journal: Journal) -> Self {
        let inner = GroupInner {
            id,
            me,
            raft,
            journal,
            inbox: Inbox::default(),
            leadership: Mutex::default(),
            active_at_ms: AtomicU64::new(0),
            born: Instant::now(),
            asleep: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    /// Hands `payload` to the leader's queue, in call order, and returns a future of the applied result.
    ///
    /// The call itself waits only for room in the queue. Wakes a sleeping group. After any error the entry may still
    /// take effect.
    pub async fn propose(
        &self,
        payload: Bytes,
    ) -> Result<impl Future<Output = Result<Applied, GroupError>> + Send + 'static, GroupError> {
        if self.inner.asleep.load(Ordering::SeqCst) {
            self.wake_leader().await?;
        }
        self.inner.touch();
        let (responder, done) = ProgressResponder::<Types, _>::complete_only();
        let queued = self.inner.raft.client_write_ff(Payload(payload), Some(responder)).await;
        queued.map_err(|fatal| self.stopped(&fatal))?;
        let group = self.clone();
        Ok(async move {
            match done.await {
                Ok(Ok(response)) => Ok(Applied { id: to_ours(&response.log_id), reply: response.data.0 }),
                Ok(Err(_)) => Err(group.not_leader()),
                Err(_) => Err(group.stopped(&"its core ended")),
            }
        })
    }

    /// Returns once this replica has applied everything that was committed anywhere before the call (a quorum round).
    /// Error `NotLeader` if this node cannot prove that it leads.
    pub async fn read_barrier(&self, timeout: Duration) -> Result<(), GroupError> {
        if mutant!("R18") && self.leadership().leader == Some(self.inner.me) {
            return Ok(());
        }
        self.inner.wake();
        match time::timeout(timeout, self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(self.not_leader()),
            Err(_) => Err(self.timed_out(timeout)),
        }
    }

    pub fn leadership(&self) -> Leadership {
        *self.inner.leadership.lock().expect("no panic happens while leadership is held")
    }

    pub fn pointers(&self) -> Pointers {
        let metrics = self.inner.metrics();
        let log = self.inner.journal.group(self.inner.id);
        let index = |id: Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        let applied = metrics.last_applied.as_ref().map_or(0, |id| id.index + 1);
        Pointers {
            purged: index(log.purged),
            snapshot: log.snapshot.map_or(0, |snapshot| snapshot.last.index).min(applied),
            applied,
            committed: metrics.local_committed.as_ref().map_or(0, |id| id.index + 1).max(applied),
            last: index(log.last).max(applied),
            term: metrics.current_term,
        }
    }

    /// Voters and learners in the effective membership.
    pub fn members(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let metrics = self.inner.metrics();
        let membership = metrics.membership_config.membership();
        (membership.voter_ids().collect(), membership.learner_ids().collect())
    }

    /// Committed or not, retained entries of this replica, by index (end exclusive). See `Journal::read`. Raft's own
    /// entries have an empty payload.
    pub async fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<JournalEntry>> {
        let mut entries = self.inner.journal.read(self.inner.id, range, bytes_max).await?;
        for entry in &mut entries {
            entry.payload = machine_payload(entry).unwrap_or_default();
        }
        Ok(entries)
    }

    /// Stores a snapshot and lets Raft forget what lies before it. Called when the machine's `retained_from` has moved, and
    /// from time to time to bound replay after a restart.
    pub async fn compact(&self) -> Result<(), GroupError> {
        let applied = self.pointers().applied;
        self.inner.raft.trigger().snapshot().await.map_err(|fatal| self.stopped(&fatal))?;
        let taken = async {
            while self.pointers().snapshot < applied {
                time::sleep(POLL).await;
            }
        };
        time::timeout(COMPACT_TIMEOUT, taken).await.map_err(|_| self.timed_out(COMPACT_TIMEOUT))?;
        reached!("compacted");
        Ok(())
    }

    /// Asks the most up-to-date other voter (or `to`) to take over. Ends when it has, or with `Timeout`.
    pub async fn transfer_leader(&self, to: Option<NodeId>, timeout: Duration) -> Result<(), GroupError> {
        let me = self.inner.me;
        let target = to.or_else(|| {
            let metrics = self.inner.metrics();
            let voters: BTreeSet<NodeId> = metrics.membership_config.membership().voter_ids().collect();
            let matched = metrics.replication.clone().unwrap_or_default();
            let others = matched.into_iter().filter(|(node, _)| *node != me && voters.contains(node));
            others.max_by_key(|(_, matched)| matched.as_ref().map(|id| id.index)).map(|(node, _)| node)
        });
        let Some(target) = target else { return Err(self.not_leader()) };
        self.inner.wake();
        self.inner.raft.trigger().transfer_leader(target).await.map_err(|fatal| self.stopped(&fatal))?;
        let moved = async {
            while self.inner.metrics().current_leader == Some(me) {
                time::sleep(POLL).await;
            }
        };
        time::timeout(timeout, moved).await.map_err(|_| self.timed_out(timeout))
    }

    /// Adds a replica that receives the log but does not vote.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), GroupError> {
        self.inner.wake();
        self.inner.raft.add_learner(node, (), false).await.map(drop).map_err(|_| self.not_leader())
    }

    /// Joint change to exactly these voters; learners that are not named stay learners.
    pub async fn change_voters(&self, voters: Vec<NodeId>) -> Result<(), GroupError> {
        self.inner.wake();
        let voters = ChangeMembers::ReplaceAllVoters(voters.into_iter().collect());
        self.inner.raft.change_membership(voters, true).await.map(drop).map_err(|_| self.not_leader())
    }

    /// Follows openraft's metrics and tells every change; ends when the replica does.
    pub(crate) async fn watch(self, observer: Arc<dyn HostObserver>) {
        let mut metrics: WatchReceiverOf<Types, RaftMetrics<Types>> = self.inner.raft.metrics();
        loop {
            let (now, failed) = {
                let metrics = metrics.borrow_and_update();
                (leadership_of(&metrics), metrics.running_state.as_ref().err().map(|fatal| fatal.to_string()))
            };
            let changed = {
                let mut held = self.inner.leadership.lock().expect("no panic happens while leadership is held");
                std::mem::replace(&mut *held, now) != now
            };
            if changed {
                observer.on_leadership(self.inner.id, now);
            }
            if let Some(reason) = failed {
                if !reason.contains("stopped") && !reason.contains("Stopped") {
                    observer.on_group_failed(self.inner.id, &reason);
                }
                return;
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// A leader that slept proves to a quorum that it still leads, which renews its lease.
    async fn wake_leader(&self) -> Result<(), GroupError> {
        reached!("sleeping_group_woken_by_write");
        self.inner.wake();
        self.read_barrier(WAKE_TIMEOUT).await
    }

    fn not_leader(&self) -> GroupError {
        let leader = self.inner.metrics().current_leader.filter(|leader| *leader != self.inner.me);
        GroupError::NotLeader { group: self.inner.id, leader }
    }

    fn timed_out(&self, timeout: Duration) -> GroupError {
        GroupError::Timeout { group: self.inner.id, waited_ms: timeout.as_millis() as u64 }
    }

    fn stopped(&self, reason: &dyn std::fmt::Display) -> GroupError {
        GroupError::Stopped { group: self.inner.id, reason: reason.to_string() }
    }
}

impl GroupInner {
    pub fn metrics(&self) -> RaftMetrics<Types> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Traffic that is not a heartbeat.
    pub fn touch(&self) {
        self.active_at_ms.store(self.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub fn quiet_ms(&self) -> u64 {
        (self.born.elapsed().as_millis() as u64).saturating_sub(self.active_at_ms.load(Ordering::Relaxed))
    }

    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    pub fn sleep(&self) {
        if !self.asleep.swap(true, Ordering::SeqCst) {
            reached!("group_slept");
            self.raft.runtime_config().tick(false);
        }
    }

    pub fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.raft.runtime_config().tick(true);
        }
    }
}

fn leadership_of(metrics: &RaftMetrics<Types>) -> Leadership {
    let applied_term = metrics.last_applied.as_ref().map(|id| id.leader_id.term);
    Leadership {
        term: metrics.current_term,
        leader: metrics.current_leader,
        ready: metrics.state == ServerState::Leader && applied_term == Some(metrics.current_term),
    }
}
