//! The handle to the catalog: read it here, change it anywhere.

use super::command::{CatalogCommand, CatalogDone, CatalogEntry, CatalogOutcome, RequestId, decode_entry, encode_entry};
use super::machine::{CatalogMachine, CatalogView, Published, decode_outcome};
use super::peer::{PeerReply, Standing, StandingRequest, decode_peer, encode_peer, method};
use super::reject::CatalogReject;
use super::state::CatalogState;
use bytes::Bytes;
use floss_protocol::ids::TableId;
use floss_raft::env::clock::Clock;
use floss_raft::env::runtime::sync::Mutex as AsyncMutex;
use floss_raft::env::runtime::time::{Instant, sleep, timeout, timeout_at};
use floss_raft::group::Group;
use floss_raft::transport::{PeerChannel, PeerRequest, Transport};
use floss_raft::types::NodeId;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One attempt at a leader; then the leader is looked up again. A repeated proposal is harmless (see `sessions`).
const ATTEMPT_MAX: Duration = Duration::from_millis(1_000);
/// Pause between attempts: an election takes some tens of these.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// What a node answers for another one may take at most.
const SERVE_MAX: Duration = Duration::from_millis(5_000);
/// Writer ids that a node takes at a time; what it does not hand out is lost at a restart, which is fine.
const WRITER_IDS_PER_RANGE: u32 = 1_000;

/// Why the catalog did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error(transparent)]
    Rejected(#[from] CatalogReject),
    /// No leader answered in time. The request may still take effect.
    #[error("catalog did not answer within {waited_ms} ms: {reason}")]
    Unavailable { waited_ms: u64, reason: String },
}

/// Who proposes: makes request ids unique.
#[derive(Clone, Copy, Debug)]
pub struct Proposer {
    pub node: NodeId,
    pub incarnation: u64,
    pub boot: u64,
}

/// Clones share it. Usable before group 0 is open (then everything that needs it waits).
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    proposer: Proposer,
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
    published: Arc<Published>,
    group: Mutex<Option<Group>>,
    /// Of this process's requests.
    counter: AtomicU64,
    /// Nodes to ask while this node has no replica of group 0 that knows a leader, and which of them is next.
    seeds: Mutex<Vec<NodeId>>,
    next_seed: AtomicU64,
    /// This directory has taken part in the cluster, or is about to: set before group 0 is opened.
    took_part: AtomicBool,
    writer_ids: AsyncMutex<Range<i64>>,
}

impl Catalog {
    /// The handle, and the machine to open group 0 with.
    pub fn new(proposer: Proposer, clock: Arc<dyn Clock>, transport: Arc<dyn Transport>) -> (Catalog, CatalogMachine) {
        let published = Arc::new(Published::default());
        let machine = CatalogMachine::new(Arc::clone(&published));
        let inner = Inner {
            proposer,
            clock,
            transport,
            published,
            group: Mutex::new(None),
            counter: AtomicU64::new(0),
            seeds: Mutex::new(Vec::new()),
            next_seed: AtomicU64::new(0),
            took_part: AtomicBool::new(false),
            writer_ids: AsyncMutex::new(0..0),
        };
        (Catalog { inner: Arc::new(inner) }, machine)
    }

    /// Group 0 is open on this node.
    pub fn attach(&self, group: Group) {
        self.note_took_part();
        *self.inner.group.lock().expect("nothing panics while the group is held") = Some(group);
    }

    /// What this node has applied; may be behind the leader.
    pub fn view(&self) -> Arc<CatalogState> {
        self.current().state
    }

    /// [`Catalog::view`] with its index.
    pub fn current(&self) -> CatalogView {
        self.inner.published.current()
    }

    /// Waits until something newer than `index` was applied here.
    pub async fn changed_after(&self, index: u64) -> CatalogView {
        self.inner.published.wait_index(index + 1).await
    }

    /// Node that leads group 0, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.group().and_then(|group| group.leadership().leader)
    }

    /// This node leads group 0 and may decide.
    pub fn leads(&self) -> bool {
        self.group().is_some_and(|group| group.leadership().ready)
    }

    /// Has `command` decided by the leader (forwarding it if that is another node), then waits until this node's view has
    /// it. Takes effect at most once, however often it is retried inside.
    pub async fn propose(&self, command: CatalogCommand, timeout: Duration) -> Result<CatalogDone, CatalogError> {
        let deadline = Instant::now() + timeout;
        let (index, outcome) = loop {
            let entry = CatalogEntry { request: self.next_request(), now_ms: self.now_ms(), command: command.clone() };
            let bytes = Bytes::from(encode_entry(&entry));
            let (index, outcome) = self.until(deadline, timeout, |left| self.submit(bytes.clone(), left)).await?;
            // Without effect for sure, so it may be asked anew; the cluster is about to be formed.
            if outcome != Err(CatalogReject::NotFormed) || Instant::now() + RETRY_PAUSE >= deadline {
                break (index, outcome);
            }
            sleep(RETRY_PAUSE).await;
        };
        if self.group().is_some() {
            // Read your writes. If the deadline comes first the outcome still is what it is.
            let _ = timeout_at(deadline, self.inner.published.wait_index(index)).await;
        }
        Ok(outcome?)
    }

    /// The catalog as of now: holds everything that was decided anywhere before the call.
    pub async fn barrier(&self, timeout: Duration) -> Result<Arc<CatalogState>, CatalogError> {
        let deadline = Instant::now() + timeout;
        let index = self.until(deadline, timeout, |left| self.read_index(left)).await?;
        let seen = timeout_at(deadline, self.inner.published.wait_index(index)).await;
        seen.map(|view| view.state).map_err(|_| CatalogError::Unavailable {
            waited_ms: timeout.as_millis() as u64,
            reason: format!("this node applied index={}, waits for {index}", self.current().index),
        })
    }

    /// Ids for the auto-increment column of a table that nobody else gets.
    pub async fn row_ids(&self, table_id: TableId, count: i64, timeout: Duration) -> Result<Range<i64>, CatalogError> {
        match self.propose(CatalogCommand::AllocateRowIds { table_id, count }, timeout).await? {
            CatalogDone::RowIds { first, end } => Ok(first..end),
            other => Err(unexpected(&other)),
        }
    }

    /// A writer id that nobody else gets.
    pub async fn writer_id(&self, timeout: Duration) -> Result<i64, CatalogError> {
        let mut ids = self.inner.writer_ids.lock().await;
        if let Some(id) = ids.next() {
            return Ok(id);
        }
        match self.propose(CatalogCommand::AllocateWriterIds { count: WRITER_IDS_PER_RANGE }, timeout).await? {
            CatalogDone::WriterIds { first, count } => {
                *ids = first + 1..first + i64::from(count);
                Ok(first)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks another node on `PeerChannel::Server`.
    ///
    /// Errors: what it said, or that it said nothing.
    pub async fn call(&self, to: NodeId, method: u8, body: Bytes, timeout: Duration) -> Result<Bytes, String> {
        let request = PeerRequest { channel: PeerChannel::Server, method, body: vec![body] };
        self.inner.transport.call(to, request, timeout).await.map_err(|error| error.to_string())
    }

    /// Answers a request of another node on `PeerChannel::Server` (methods 1..=31 are the catalog's).
    pub async fn serve(&self, _from: NodeId, method: u8, body: Bytes) -> Result<Bytes, String> {
        let reply = match method {
            method::PROPOSE => {
                // What does not decode must never reach the log: every replica would stop on it.
                decode_entry(&body)?;
                match timeout(SERVE_MAX, self.propose_here(body)).await {
                    Ok(reply) => reply,
                    Err(_) => PeerReply::Failed { reason: "timed out".to_owned() },
                }
            }
            method::READ_INDEX => self.read_index_here(SERVE_MAX).await,
            method::STANDING => PeerReply::Standing(self.standing(decode_peer(&body)?).await),
            other => return Err(format!("method={other} is not one of the catalog's")),
        };
        Ok(encode_peer(&reply))
    }
}

/// What the coordinator's own parts need.
impl Catalog {
    pub(super) fn now_ms(&self) -> i64 {
        self.inner.clock.now_ms()
    }

    pub(super) fn group(&self) -> Option<Group> {
        self.inner.group.lock().expect("nothing panics while the group is held").clone()
    }

    pub(super) fn set_peer(&self, node: NodeId, address: String) {
        if node != self.inner.proposer.node {
            self.inner.transport.set_peer(node, address);
        }
    }

    pub(super) fn set_seeds(&self, seeds: Vec<NodeId>) {
        *self.inner.seeds.lock().expect("nothing panics while the seeds are held") = seeds;
    }

    /// From now on this node no longer tells others that nothing ever happened here.
    pub(super) fn note_took_part(&self) {
        self.inner.took_part.store(true, Ordering::SeqCst);
    }

    pub(super) async fn ask(&self, to: NodeId, method: u8, body: Bytes, timeout: Duration) -> Result<PeerReply, String> {
        decode_peer(&self.call(to, method, body, timeout).await?)
    }
}

impl Catalog {
    fn next_request(&self) -> RequestId {
        let Proposer { node, incarnation, boot } = self.inner.proposer;
        RequestId { node, incarnation, boot, counter: self.inner.counter.fetch_add(1, Ordering::Relaxed) }
    }

    /// Repeats `attempt` (given the time it may take) until it succeeds or `deadline` comes.
    async fn until<T, F: Future<Output = Result<T, String>>>(
        &self,
        deadline: Instant,
        timeout: Duration,
        attempt: impl Fn(Duration) -> F,
    ) -> Result<T, CatalogError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = match attempt(left.min(ATTEMPT_MAX)).await {
                Ok(value) => return Ok(value),
                Err(reason) => reason,
            };
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(CatalogError::Unavailable { waited_ms: timeout.as_millis() as u64, reason });
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn submit(&self, entry: Bytes, left: Duration) -> Result<(u64, CatalogOutcome), String> {
        let reply = match self.target()? {
            None => timeout(left, self.propose_here(entry)).await.map_err(|_| "this node's proposal timed out".to_owned())?,
            Some(leader) => self.ask(leader, method::PROPOSE, entry, left).await?,
        };
        match reply {
            PeerReply::Applied { index, outcome } => Ok((index, outcome)),
            other => Err(self.no_success(other)),
        }
    }

    async fn read_index(&self, left: Duration) -> Result<u64, String> {
        let reply = match self.target()? {
            None => self.read_index_here(left).await,
            Some(leader) => self.ask(leader, method::READ_INDEX, Bytes::new(), left).await?,
        };
        match reply {
            PeerReply::ReadIndex { index } => Ok(index),
            other => Err(self.no_success(other)),
        }
    }

    /// Whom to ask: `None` = this node leads.
    fn target(&self) -> Result<Option<NodeId>, String> {
        match self.leader() {
            Some(leader) if leader == self.inner.proposer.node => return Ok(None),
            Some(leader) => return Ok(Some(leader)),
            None => {}
        }
        let seeds = self.inner.seeds.lock().expect("nothing panics while the seeds are held");
        if seeds.is_empty() {
            return Err("group 0 has no leader that this node knows".to_owned());
        }
        let turn = self.inner.next_seed.fetch_add(1, Ordering::Relaxed);
        Ok(Some(seeds[(turn % seeds.len() as u64) as usize]))
    }

    fn no_success(&self, reply: PeerReply) -> String {
        match reply {
            PeerReply::NotLeader { leader, address } => {
                self.follow_hint(leader, address);
                format!("the asked node does not lead, it names {leader:?}")
            }
            PeerReply::Failed { reason } => reason,
            PeerReply::Applied { .. } | PeerReply::ReadIndex { .. } | PeerReply::Standing(_) => {
                format!("unexpected reply {reply:?}")
            }
        }
    }

    /// A node that is only joining knows no members: the one that leads becomes the next to ask.
    fn follow_hint(&self, leader: Option<NodeId>, address: Option<String>) {
        let (Some(leader), Some(address)) = (leader, address) else { return };
        if self.leader().is_some() || leader == self.inner.proposer.node {
            return;
        }
        self.set_peer(leader, address);
        let mut seeds = self.inner.seeds.lock().expect("nothing panics while the seeds are held");
        seeds.retain(|seed| *seed != leader);
        seeds.insert(0, leader);
        self.inner.next_seed.store(0, Ordering::Relaxed);
    }

    fn not_leader(&self, leader: Option<NodeId>) -> PeerReply {
        let address = leader.and_then(|leader| Some(self.view().nodes().get(&leader)?.peer_address.clone()));
        PeerReply::NotLeader { leader, address }
    }

    async fn propose_here(&self, entry: Bytes) -> PeerReply {
        let Some(group) = self.group() else {
            return self.not_leader(None);
        };
        let leader = group.leadership().leader;
        if leader != Some(self.inner.proposer.node) {
            return self.not_leader(leader);
        }
        let applied = match group.propose(entry).await {
            Ok(applied) => applied.await,
            Err(error) => Err(error),
        };
        match applied
            .map_err(|error| error.to_string())
            .and_then(|applied| Ok(PeerReply::Applied { index: applied.id.index, outcome: decode_outcome(&applied.reply)? }))
        {
            Ok(reply) => reply,
            Err(reason) => PeerReply::Failed { reason },
        }
    }

    async fn read_index_here(&self, left: Duration) -> PeerReply {
        let Some(group) = self.group() else {
            return self.not_leader(None);
        };
        let leader = group.leadership().leader;
        if leader != Some(self.inner.proposer.node) {
            return self.not_leader(leader);
        }
        match group.read_barrier(left).await {
            Ok(()) => PeerReply::ReadIndex { index: group.pointers().applied },
            Err(error) => PeerReply::Failed { reason: error.to_string() },
        }
    }

    /// See `admission` for what hangs on this answer.
    async fn standing(&self, request: StandingRequest) -> Standing {
        let Some(group) = self.group() else {
            return if self.inner.took_part.load(Ordering::SeqCst) { Standing::Unsure } else { Standing::NothingHere };
        };
        // Index 1 is the first membership, which every initial node writes for itself; the first leader writes index 2.
        if group.pointers().last <= 1 && group.leadership().leader.is_none() {
            return Standing::NothingHere;
        }
        let Ok(state) = self.barrier(ATTEMPT_MAX).await else {
            return Standing::Unsure;
        };
        if state.cluster_id().is_none() {
            return Standing::Unsure;
        }
        match state.nodes().get(&request.node).and_then(|info| info.registered.as_ref()) {
            None => Standing::NeverRegistered,
            Some(registered) => Standing::Registered { incarnation: registered.incarnation },
        }
    }
}

/// The catalog answered a command with the result of another one: our code is wrong, the caller goes on with an error.
fn unexpected(done: &CatalogDone) -> CatalogError {
    CatalogError::Unavailable { waited_ms: 0, reason: format!("unexpected result {done:?}") }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
