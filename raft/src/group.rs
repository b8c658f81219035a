//! One replica of one Raft group, as the layer above sees it.

mod elections;

use crate::adapter::codec::{machine_payload, to_ours};
use crate::adapter::network::{self, Inbox, Receiver};
use crate::adapter::{Payload, Raft, Shared, Types};
use crate::env::runtime::spawn;
use crate::env::runtime::sync::{Mutex as AsyncMutex, oneshot};
use crate::env::runtime::time::{self, Instant};
use crate::host::HostObserver;
use crate::journal::{Journal, JournalEntry};
use crate::types::{Applied, GroupError, GroupId, Leadership, NodeId, Pointers};
use bytes::Bytes;
use elections::Elections;
use floss_protocol::{mutant, reached};
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::impls::ProgressResponder;
use openraft::metrics::{RaftMetrics, RaftServerMetrics};
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
/// One shared quorum round; callers have their own, shorter patience.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(3);
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
    pub shared: Arc<Shared>,
    pub inbox: Inbox,
    /// A leader that has heard from a quorum within this time may append without asking first.
    fresh: Duration,
    /// Proposals pass one at a time, in call order.
    turn: AsyncMutex<()>,
    barriers: Mutex<Barriers>,
    /// Set before openraft is stopped on purpose.
    closing: AtomicBool,
    leadership: Mutex<Leadership>,
    /// Milliseconds after `born` of the last proposal or barrier; 0 = never.
    active_at_ms: AtomicU64,
    pub elections: Elections,
    /// The term of a leadership that was offered to another replica, which did not take it; 0 = none.
    refused_term: AtomicU64,
    born: Instant,
    asleep: AtomicBool,
}

/// Read barriers share quorum rounds: whoever comes while one is under way waits for the next.
#[derive(Default)]
struct Barriers {
    running: bool,
    waiting: Vec<oneshot::Sender<Result<(), GroupError>>>,
}

impl Group {
    /// `lease`: how long openraft lets a leader append after it last heard from a quorum. A group is born asleep.
    pub(crate) fn new(id: GroupId, me: NodeId, raft: Raft, journal: Journal, shared: Arc<Shared>, lease: Duration) -> Self {
        let inner = GroupInner {
            id,
            me,
            raft,
            journal,
            shared,
            inbox: Inbox::default(),
            fresh: lease / 2,
            turn: AsyncMutex::new(()),
            barriers: Mutex::default(),
            closing: AtomicBool::new(false),
            leadership: Mutex::default(),
            active_at_ms: AtomicU64::new(0),
            elections: Elections::default(),
            refused_term: AtomicU64::new(0),
            born: Instant::now(),
            asleep: AtomicBool::new(true),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Not another replica of the same group, opened later.
    pub(crate) fn is_same(&self, other: &Group) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
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
        let _turn = self.inner.turn.lock().await;
        self.may_append().await?;
        self.inner.stir();
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
        if self.inner.metrics().current_leader != Some(self.inner.me) {
            return Err(self.not_leader());
        }
        let (told, done) = oneshot::channel();
        let start = {
            let mut barriers = self.inner.barriers.lock().expect("no panic happens while barriers are held");
            barriers.waiting.push(told);
            !std::mem::replace(&mut barriers.running, true)
        };
        if start {
            spawn(self.clone().run_barriers());
        }
        match time::timeout(timeout, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.stopped(&"its barriers ended")),
            Err(_) => Err(self.timed_out(timeout)),
        }
    }

    /// Quorum rounds until nobody waits. A round counts only for those who came before it began.
    async fn run_barriers(self) {
        loop {
            let waiting = {
                let mut barriers = self.inner.barriers.lock().expect("no panic happens while barriers are held");
                barriers.running = !barriers.waiting.is_empty();
                std::mem::take(&mut barriers.waiting)
            };
            if waiting.is_empty() {
                return;
            }
            self.inner.stir();
            let round = self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex);
            let result = match time::timeout(BARRIER_TIMEOUT, round).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(self.not_leader()),
                Err(_) => Err(self.timed_out(BARRIER_TIMEOUT)),
            };
            for told in waiting {
                _ = told.send(result.clone());
            }
        }
    }

    /// Only a leader that heard from a quorum lately may append; one that slept, or was alone for a while, asks first.
    async fn may_append(&self) -> Result<(), GroupError> {
        let (leads, heard) = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow_watched();
            let alone = metrics.membership_config.membership().voter_ids().take(2).count() == 1;
            let heard = metrics.last_quorum_acked.map(|acked| openraft::Instant::elapsed(&acked.into_inner()));
            (metrics.current_leader == Some(self.inner.me), alone || heard.is_some_and(|ago| ago < self.inner.fresh))
        };
        if !leads {
            return Err(self.not_leader());
        }
        if heard && !self.inner.is_asleep() {
            return Ok(());
        }
        reached!("leader_asked_before_append");
        self.read_barrier(WAKE_TIMEOUT).await
    }

    pub fn leadership(&self) -> Leadership {
        *self.inner.leadership.lock().expect("no panic happens while leadership is held")
    }

    /// Why this replica does nothing any more, unless it was asked to stop.
    pub fn failure(&self) -> Option<String> {
        let ended = self.inner.metrics().running_state.err()?;
        (!self.inner.closing.load(Ordering::SeqCst)).then(|| ended.to_string())
    }

    pub fn pointers(&self) -> Pointers {
        let metrics = self.inner.metrics();
        let log = self.inner.journal.group(self.inner.id);
        let index = |id: Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        let snapshot = log.snapshot.map_or(0, |snapshot| snapshot.last.index);
        // The machine stands at its stored snapshot before openraft's figures say so: after a start, and after an install.
        let applied = metrics.last_applied.as_ref().map_or(0, |id| id.index + 1).max(snapshot);
        // Behind a snapshot that is still being installed, openraft has accepted entries that the journal cannot take yet.
        let accepted = metrics.last_log_index.map_or(0, |index| index + 1);
        Pointers {
            purged: index(log.purged),
            snapshot,
            applied,
            committed: metrics.local_committed.as_ref().map_or(0, |id| id.index + 1).max(applied),
            last: index(log.last).max(accepted).max(applied),
            term: metrics.current_term,
        }
    }

    /// Voters and learners in the effective membership.
    pub fn members(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let metrics = self.inner.metrics();
        let membership = metrics.membership_config.membership();
        (membership.voter_ids().collect(), membership.learner_ids().collect())
    }

    /// The voters, once the last change of members is complete as far as this replica knows.
    pub fn settled_voters(&self) -> Option<Vec<NodeId>> {
        let metrics = self.inner.metrics();
        let (effective, committed) = (&metrics.membership_config, &metrics.committed_membership_config);
        let is_settled = effective.log_id() == committed.log_id() && effective.membership().get_joint_config().len() == 1;
        is_settled.then(|| effective.membership().voter_ids().collect())
    }

    /// True once `node` has no part in the group any more: neither the effective nor the committed membership names it.
    pub fn is_rid_of(&self, node: NodeId) -> bool {
        let metrics = self.inner.metrics();
        let named = |config: &openraft::alias::StoredMembershipOf<Types>| config.membership().get_node(&node).is_some();
        !named(&metrics.membership_config) && !named(&metrics.committed_membership_config)
    }

    /// On the leader: entries that `node` lacks; `None` if it is not replicated to or was never heard.
    pub fn lag_of(&self, node: NodeId) -> Option<u64> {
        let metrics = self.inner.metrics();
        let matched = metrics.replication.as_ref()?.get(&node)?.as_ref()?.index;
        Some(metrics.last_log_index.unwrap_or(0).saturating_sub(matched))
    }

    /// As many of the entries of `range` as one read takes, at least one; see [`Group::read`].
    pub async fn read_piece(&self, range: Range<u64>) -> io::Result<Vec<JournalEntry>> {
        self.read(range, self.inner.journal.read_bytes_max()).await
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

    /// Asks the most up-to-date other voter (or `to`) to take over. Ends when it has, or with `Timeout`; then somebody else is elected,
    /// because openraft does not take the offer back: this leader appends nothing more.
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
        self.inner.stir();
        let term = self.inner.term();
        self.inner.raft.trigger().transfer_leader(target).await.map_err(|fatal| self.stopped(&fatal))?;
        let moved = async {
            while self.inner.metrics().current_leader == Some(me) {
                time::sleep(POLL).await;
            }
        };
        time::timeout(timeout, moved).await.map_err(|_| {
            self.inner.refused_term.store(term, Ordering::SeqCst);
            self.timed_out(timeout)
        })
    }

    /// Adds a replica that receives the log but does not vote.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), GroupError> {
        self.inner.stir();
        self.inner.raft.add_learner(node, (), false).await.map(drop).map_err(|_| self.not_leader())
    }

    /// Joint change to exactly these voters; learners that are not named stay learners.
    pub async fn change_voters(&self, voters: Vec<NodeId>) -> Result<(), GroupError> {
        self.inner.stir();
        let voters = ChangeMembers::ReplaceAllVoters(voters.into_iter().collect());
        self.inner.raft.change_membership(voters, true).await.map(drop).map_err(|_| self.not_leader())
    }

    /// Follows openraft's metrics and tells every change; ends when the replica does. True if it failed.
    pub(crate) async fn watch(&self, observer: &dyn HostObserver) -> bool {
        // Changes with every entry: waited for only while a new leader waits for its first one.
        let mut all: WatchReceiverOf<Types, RaftMetrics<Types>> = self.inner.raft.metrics();
        let mut server: WatchReceiverOf<Types, RaftServerMetrics<Types>> = self.inner.raft.server_metrics();
        let now = loop {
            let (now, is_moving) = {
                let (server, all) = (server.borrow_and_update(), all.borrow_and_update());
                let now = leadership_of(&all);
                let is_entering = all.state == ServerState::Leader && !now.ready;
                // openraft sets `server` a moment before `all`.
                let is_torn = (&server.vote, server.state, server.current_leader) != (&all.vote, all.state, all.current_leader);
                (now, is_entering || is_torn)
            };
            self.tell(observer, now);
            let changed = if is_moving { all.changed().await.is_ok() } else { server.changed().await.is_ok() };
            if !changed {
                break now;
            }
        };
        // Without a reason its core is gone without a word.
        let ended = all.borrow_watched().running_state.as_ref().err().cloned().unwrap_or(Fatal::Panicked);
        self.tell(observer, Leadership { leader: None, ready: false, ..now });
        let failed = !self.inner.closing.load(Ordering::SeqCst);
        if failed {
            reached!("group_failed");
            observer.on_group_failed(self.inner.id, &ended.to_string());
        }
        failed
    }

    fn tell(&self, observer: &dyn HostObserver, now: Leadership) {
        let changed = {
            let mut held = self.inner.leadership.lock().expect("no panic happens while leadership is held");
            std::mem::replace(&mut *held, now) != now
        };
        if changed {
            observer.on_leadership(self.inner.id, now);
        }
    }

    /// Answers a Raft message.
    pub(crate) async fn serve(&self, from: NodeId, is_newborn: bool, method: u8, body: Bytes) -> Result<Bytes, String> {
        let inner = &self.inner;
        if network::is_ask(method) {
            return Ok(network::encode_leads(inner.believed_leader() == Some(inner.me)));
        }
        if network::is_wake(method) || network::is_pre_vote(method) {
            // A leader asks nobody for a vote. Its node's restart may have been noticed before this one's own.
            inner.doubt(from);
        }
        let doubts = (!is_newborn || mutant!("M17")).then(|| inner.elections.doubts());
        let receiver = Receiver { raft: &inner.raft, shared: &inner.shared, journal: &inner.journal, group: inner.id };
        let answer = inner.inbox.serve(receiver, from, method, body).await;
        // Afterwards: the first append of a leader is what names it.
        if network::is_append(method) && answer.is_ok() && inner.believed_leader() == Some(from) {
            inner.elections.trust(inner.term(), doubts);
        }
        answer
    }

    /// Stops openraft's tasks; the replica's data stay.
    pub(crate) async fn stop(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        // It may have failed already.
        _ = self.inner.raft.shutdown().await;
        // The task of its machine may outlive it, and would take entries of a log that is dropped for applied.
        self.inner.shared.end();
    }

    /// Takes `node` out of the group, voter or learner. Its vote counts no more once this has returned.
    pub async fn remove_member(&self, node: NodeId) -> Result<(), GroupError> {
        self.inner.wake();
        let (voters, _) = self.members();
        let change = if voters.contains(&node) {
            ChangeMembers::RemoveVoters(BTreeSet::from([node]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([node]))
        };
        self.inner.raft.change_membership(change, false).await.map(drop).map_err(|_| self.not_leader())
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

    fn age_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// Somebody wants something of this leader.
    fn stir(&self) {
        self.active_at_ms.store(self.age_ms().max(1), Ordering::Relaxed);
        self.wake();
    }

    /// Somebody waits for a quorum round: an answer that was lost is only made good by the next heartbeat.
    pub fn is_asked(&self) -> bool {
        self.barriers.lock().expect("no panic happens while barriers are held").running
    }

    /// Since the last [`Self::stir`]; for ever if there was none.
    pub fn quiet_ms(&self) -> u64 {
        match self.active_at_ms.load(Ordering::Relaxed) {
            0 => u64::MAX,
            active_at_ms => self.age_ms().saturating_sub(active_at_ms),
        }
    }

    /// `node` leads no more, although it is there.
    pub fn doubt(&self, node: NodeId) {
        if self.believed_leader() == Some(node) && node != self.me {
            reached!("leader_doubted");
            self.elections.doubt(Some(self.term()));
        } else if !mutant!("M20") {
            self.elections.doubt(None);
        }
    }

    /// It leads, and must not any more: the others have to be told that they need an election.
    pub fn leads_in_vain(&self) -> bool {
        let refused_term = self.refused_term.load(Ordering::SeqCst);
        refused_term > 0 && self.believed_leader() == Some(self.me) && refused_term == self.term() && !mutant!("M18")
    }

    pub fn doubts_leader(&self) -> bool {
        self.elections.doubted_term().is_some_and(|term| term == self.term())
    }

    /// The leader and its term, if neither it has shown that it leads nor anything that it does not.
    pub fn leader_by_hearsay(&self) -> Option<(NodeId, u64)> {
        if mutant!("M10") {
            return None;
        }
        let (leader, term) = (self.believed_leader().filter(|leader| *leader != self.me)?, self.term());
        (!self.elections.is_settled(term)).then_some((leader, term))
    }

    fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    pub fn is_voter(&self) -> bool {
        self.raft.server_metrics().borrow_watched().membership_config.membership().voter_ids().any(|voter| voter == self.me)
    }

    /// The leader that this replica knows, if it still is one as far as this node can tell.
    pub fn believed_leader(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        // A restarted node may be named by its own old vote.
        metrics.current_leader.filter(|leader| *leader != self.me || metrics.state == ServerState::Leader)
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

/// Term and leader are of one vote, which may still be on its way to the disk: `vote` is the last one that is there.
fn leadership_of(metrics: &RaftMetrics<Types>) -> Leadership {
    let term = metrics.current_term;
    let applied_term = metrics.last_applied.as_ref().map(|id| id.leader_id.term);
    let ready = metrics.state == ServerState::Leader && applied_term == Some(term);
    Leadership { term, leader: metrics.current_leader, ready }
}
