//! openraft's network over the transport: the sending half and the receiving half of every Raft message.

use super::codec::{decode, decode_append, decode_entries, encode, encode_append, encode_entries};
use super::machine::SnapshotData;
use super::{Raft, RaftLogId, RaftVote, Shared, Types};
use crate::env::BoxFuture;
use crate::journal::{Journal, JournalEntry};
use crate::transport::{PeerChannel, PeerRequest, Transport, TransportError};
use crate::types::{GroupId, LogId, NodeId};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const TRANSFER: u8 = 4;
/// Retained entries of a snapshot that is about to come.
const SNAPSHOT_ENTRIES: u8 = 5;
const SNAPSHOT: u8 = 6;
/// An append without entries: keeps a lease, moves the committed position, wakes nobody.
const HEARTBEAT: u8 = 7;
/// Nothing but a reason to wake.
const WAKE: u8 = 8;
/// Asks whether the receiver leads the group.
const ASK: u8 = 9;

/// Between attempts to reach a follower, four of each; then the last for ever: a thousand groups may wait for the same dead node.
const RETRY_PAUSES_MS: [u64; 4] = [50, 100, 200, 400];
/// Appends to one follower that may be on their way at once.
const APPENDS_IN_FLIGHT: usize = 8;
/// An append waits for the follower's disk, which a heartbeat does not: it may take this many heartbeat intervals.
const APPEND_PATIENCE: u32 = 4;
/// Retained entries in one message, ahead of a snapshot.
const SNAPSHOT_CHUNK_BYTES: RangeInclusive<usize> = 16 << 10..=1 << 20;
const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the sending halves of one group.
#[derive(Clone)]
pub struct Network {
    pub transport: Arc<dyn Transport>,
    pub journal: Journal,
    pub group: GroupId,
    pub shared: Arc<Shared>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, _node: &()) -> Peer {
        Peer { network: self.clone(), to: target }
    }
}

/// The sending half towards one node.
pub struct Peer {
    network: Network,
    to: NodeId,
}

impl Peer {
    /// Sends at the call, not at the first poll: call order is the order on the wire.
    fn call(&self, method: u8, body: Vec<Bytes>, timeout: Duration) -> BoxFuture<'static, Result<Bytes, RPCError<Types>>> {
        let request = PeerRequest { channel: PeerChannel::Raft(self.network.group), method, body };
        let answer = self.network.transport.call(self.to, request, timeout);
        Box::pin(async move {
            answer.await.map_err(|error| match error {
                TransportError::UnknownPeer { .. } | TransportError::Unreachable { .. } | TransportError::Refused { .. } => {
                    RPCError::Unreachable(Unreachable::new(&error))
                }
                TransportError::Timeout { .. } => RPCError::Network(NetworkError::new(&error)),
            })
        })
    }

    fn append(
        &self,
        request: AppendEntriesRequest<Types>,
        option: &RPCOption,
    ) -> BoxFuture<'static, Result<AppendEntriesResponse<Types>, RPCError<Types>>> {
        let sent = match request.entries.is_empty() {
            // openraft drops a heartbeat after its interval: ours has to end before.
            true => self.call(HEARTBEAT, encode_append(request), option.soft_ttl()),
            false => self.call(APPEND, encode_append(request), option.hard_ttl() * APPEND_PATIENCE),
        };
        Box::pin(async move { answer(sent.await) })
    }

    async fn send_snapshot(
        &self,
        vote: RaftVote,
        snapshot: SnapshotOf<Types, SnapshotData>,
    ) -> Result<SnapshotResponse<Types>, RPCError<Types>> {
        reached!("snapshot_sent");
        let meta = &snapshot.meta;
        let last = meta.last_log_id.as_ref().map_or(0, |last| last.index + 1);
        let log = self.network.journal.group(self.network.group);
        let wanted = self.network.shared.wanted_from.load(Ordering::SeqCst);
        let first = log.retained_from.max(wanted).max(1);
        // As much as one read of the journal takes.
        let bytes = self.network.journal.read_bytes_max().clamp(*SNAPSHOT_CHUNK_BYTES.start(), *SNAPSHOT_CHUNK_BYTES.end());
        let mut from = first;
        while from <= last {
            let entries = self.network.journal.read(self.network.group, from..last + 1, bytes).await;
            let entries = entries.map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
            from += entries.len() as u64;
            self.call(SNAPSHOT_ENTRIES, encode_entries(entries), SNAPSHOT_CHUNK_TIMEOUT).await?;
        }
        let message = SnapshotMessage {
            vote,
            last: meta.last_log_id.as_ref().map(super::codec::to_ours),
            first,
            membership: encode(&meta.last_membership).to_vec(),
            state: snapshot.snapshot.state.to_vec(),
        };
        let answer = self.call(SNAPSHOT, vec![encode(&message)], SNAPSHOT_CHUNK_TIMEOUT).await?;
        decode(&answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct SnapshotMessage {
    vote: RaftVote,
    last: Option<crate::types::LogId>,
    /// Entries from here up to `last` came before it; above `last`: none had to.
    first: u64,
    membership: Vec<u8>,
    state: Vec<u8>,
}

fn answer<T: serde::de::DeserializeOwned>(bytes: Result<Bytes, RPCError<Types>>) -> Result<T, RPCError<Types>> {
    decode(&bytes?).map_err(|error| RPCError::Network(NetworkError::new(&error)))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.append(request, &option).await
    }

    /// Up to [`APPENDS_IN_FLIGHT`] requests at once; answers in request order, the stream ends with the first that is not a success.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let peer: &'s Peer = self;
        let answers = input.map(move |request| {
            let previous = request.prev_log_id;
            let last = request.entries.last().map(|entry| entry.log_id).or(previous);
            let answer = peer.append(request, &option);
            async move { (previous, last, answer.await) }
        });
        let state = (answers.buffered(APPENDS_IN_FLIGHT).boxed(), Progress::default());
        let results = futures_util::stream::unfold(state, |(mut answers, mut progress)| async move {
            if progress.ended {
                return None;
            }
            let (previous, last, answer) = answers.next().await?;
            let result = progress.note(previous, last, answer);
            Some((result, (answers, progress)))
        });
        Box::pin(std::future::ready(Ok(results.boxed())))
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        answer(self.call(VOTE, vec![encode(&request)], option.hard_ttl()).await)
    }

    async fn pre_vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        answer(self.call(PRE_VOTE, vec![encode(&request)], option.hard_ttl()).await)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        answer(self.call(TRANSFER, vec![encode(&request)], option.hard_ttl()).await)
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        crate::env::runtime::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => sent.map_err(StreamingError::from),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let growing = RETRY_PAUSES_MS.into_iter().flat_map(|pause_ms| std::iter::repeat_n(pause_ms, 4));
        let pauses_ms = growing.chain(std::iter::repeat(RETRY_PAUSES_MS[RETRY_PAUSES_MS.len() - 1]));
        Some(Backoff::new(pauses_ms.map(Duration::from_millis)))
    }
}

/// What one stream of appends has got so far.
#[derive(Default)]
struct Progress {
    ended: bool,
    acked: Option<RaftLogId>,
}

impl Progress {
    fn note(
        &mut self,
        previous: Option<RaftLogId>,
        last: Option<RaftLogId>,
        answer: Result<AppendEntriesResponse<Types>, RPCError<Types>>,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        let broken = |what: &str| RPCError::Network(NetworkError::new(&std::io::Error::other(what.to_string())));
        self.ended = !matches!(answer, Ok(AppendEntriesResponse::Success));
        let answer = answer?;
        let result = match answer {
            AppendEntriesResponse::Success => Ok(last),
            AppendEntriesResponse::PartialSuccess(matched) => Ok(matched),
            AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
            AppendEntriesResponse::Conflict if previous.is_some() && previous <= self.acked => {
                // Overtaken by a later request on its way. openraft would take it for a log that went backwards, and stop.
                reached!("append_overtaken");
                return Err(broken("an append was overtaken on its way"));
            }
            AppendEntriesResponse::Conflict => {
                Err(StreamAppendError::Conflict(previous.ok_or_else(|| broken("a conflict before the first entry"))?))
            }
        };
        if let Ok(matched) = &result {
            self.acked = self.acked.max(*matched);
        }
        Ok(result)
    }
}

/// A candidate asks whether it would win.
pub fn is_pre_vote(method: u8) -> bool {
    method == PRE_VOTE
}

/// What only a leader sends.
pub fn is_append(method: u8) -> bool {
    method == APPEND || method == HEARTBEAT
}

/// Somebody says that the leader may be gone although its node is there.
pub fn is_wake(method: u8) -> bool {
    method == WAKE
}

/// A replica that knows a leader from hearsay asks whether it leads.
pub fn is_ask(method: u8) -> bool {
    method == ASK
}

pub fn encode_leads(leads: bool) -> Bytes {
    Bytes::from(vec![u8::from(leads)])
}

/// Whether `to` leads the group; false also if it has no such group. None: it cannot be asked now.
pub async fn ask_leads(transport: &dyn Transport, group: GroupId, to: NodeId, timeout: Duration) -> Option<bool> {
    let request = PeerRequest { channel: PeerChannel::Raft(group), method: ASK, body: Vec::new() };
    match transport.call(to, request, timeout).await {
        Ok(answer) => Some(answer.first() == Some(&1)),
        Err(TransportError::Refused { .. }) => Some(false),
        Err(_) => None,
    }
}

/// Tells a replica elsewhere to look after its group. Not waited for.
pub fn send_wake(transport: &dyn Transport, group: GroupId, to: NodeId) {
    let request = PeerRequest { channel: PeerChannel::Raft(group), method: WAKE, body: Vec::new() };
    let sent = transport.call(to, request, SNAPSHOT_CHUNK_TIMEOUT);
    crate::env::runtime::spawn(async move { _ = sent.await });
}

/// What messages are for.
#[derive(Clone, Copy)]
pub struct Receiver<'a> {
    pub raft: &'a Raft,
    pub shared: &'a Shared,
    pub journal: &'a Journal,
    pub group: GroupId,
}

/// The receiving half of one group.
#[derive(Default)]
pub struct Inbox {
    /// Entries that came ahead of a snapshot, per sender.
    staged: Mutex<BTreeMap<NodeId, Vec<JournalEntry>>>,
}

impl Inbox {
    /// Answers one message. Errors are told to the sender as a refusal.
    pub async fn serve(&self, replica: Receiver<'_>, from: NodeId, method: u8, body: Bytes) -> Result<Bytes, String> {
        let raft = replica.raft;
        match method {
            APPEND | HEARTBEAT => {
                let request = decode_append(body).map_err(text)?;
                raft.append_entries(request).await.map(|answer| encode(&answer)).map_err(text)
            }
            VOTE => raft.vote(decode(&body).map_err(text)?).await.map(|answer| encode(&answer)).map_err(text),
            PRE_VOTE => raft.pre_vote(decode(&body).map_err(text)?).await.map(|answer| encode(&answer)).map_err(text),
            TRANSFER => {
                let request: TransferLeaderRequest<Types> = decode(&body).map_err(text)?;
                raft.handle_transfer_leader(request).await.map(|answer| encode(&answer)).map_err(text)
            }
            SNAPSHOT_ENTRIES => {
                self.stage(from, decode_entries(body).map_err(text)?);
                Ok(Bytes::new())
            }
            SNAPSHOT => self.install(replica, from, decode(&body).map_err(text)?).await,
            WAKE => Ok(Bytes::new()),
            method => Err(format!("raft method {method} is unknown, expected 1..=9")),
        }
    }

    fn stage(&self, from: NodeId, entries: Vec<JournalEntry>) {
        let mut staged = self.staged.lock().expect("no panic happens while entries are held");
        let held = staged.entry(from).or_default();
        let first = entries.first().map_or(0, |entry| entry.id.index);
        // A repeated or restarted transfer begins again below what is held.
        held.retain(|entry| entry.id.index < first);
        if held.last().is_some_and(|entry| entry.id.index + 1 != first) {
            held.clear();
        }
        held.extend(entries);
    }

    async fn install(&self, replica: Receiver<'_>, from: NodeId, message: SnapshotMessage) -> Result<Bytes, String> {
        let Receiver { raft, shared, journal, group } = replica;
        let retained = self.staged.lock().expect("no panic happens while entries are held").remove(&from).unwrap_or_default();
        let last = message.last.ok_or("a snapshot of nothing")?;
        if retained.last().is_some_and(|entry| entry.id != last) {
            return Err(format!("retained entries end at {}, the snapshot at {last}", retained.last().expect("just seen").id));
        }
        // A repeated or late piece may have pushed others out; readers would miss them here for ever.
        let held = retained.first().map_or(last.index + 1, |entry| entry.id.index);
        if held > message.first && message.first <= last.index && !mutant!("R24") {
            reached!("snapshot_pieces_missing");
            return Err(format!("retained entries begin at {held}, the snapshot's at {}: send them again", message.first));
        }
        let waits = !mutant!("R23");
        let passed = if waits { follows(raft, &message.vote, last).await? } else { None };
        if let Some(vote) = passed {
            reached!("snapshot_not_needed");
            return answer_snapshot(journal, group, &message.vote, last, SnapshotResponse::new(vote)).await;
        }
        let meta = SnapshotMetaOf::<Types> {
            last_log_id: Some(super::codec::to_theirs(last)),
            last_membership: decode(&message.membership).map_err(text)?,
        };
        let data = SnapshotData { state: message.state.into(), retained: Some(retained) };
        let snapshot = SnapshotOf::<Types, SnapshotData> { meta, snapshot: data };
        shared.installing.store(true, Ordering::SeqCst);
        let installed = raft.install_full_snapshot(message.vote, snapshot).await;
        shared.installing.store(false, Ordering::SeqCst);
        shared.installed.notify_waiters();
        let answer = installed.map_err(text)?;
        if !waits {
            return Ok(encode(&answer));
        }
        answer_snapshot(journal, group, &message.vote, last, answer).await
    }
}

/// Once the log is on disk up to `last`: a replica that has got there by itself takes nothing from the snapshot, and openraft answers at
/// once, but the leader counts the answer as a promise to have it.
async fn answer_snapshot(
    journal: &Journal,
    group: GroupId,
    asked: &RaftVote,
    last: LogId,
    answer: SnapshotResponse<Types>,
) -> Result<Bytes, String> {
    journal.settled().await.map_err(text)?;
    match journal.group(group).last {
        held if held >= Some(last) || answer.vote > *asked => Ok(encode(&answer)),
        held => Err(format!("the snapshot ends at {last}, the log at {held:?}: not taken yet")),
    }
}

/// Asks a replica that is about to be sent a snapshot up to `last` whether its log has got there by itself: a snapshot that was long
/// under way, or sent twice, must not be installed below entries that came after it. To openraft that is an append of nothing after `last`.
///
/// `Some`: it has, or it knows a newer leader; its vote. `None`: it needs the snapshot.
async fn follows(raft: &Raft, vote: &RaftVote, last: LogId) -> Result<Option<RaftVote>, String> {
    let last = super::codec::to_theirs(last);
    let nothing = AppendEntriesRequest { vote: *vote, prev_log_id: Some(last), leader_commit: Some(last), entries: Vec::new() };
    match raft.append_entries(nothing).await.map_err(text)? {
        AppendEntriesResponse::Success => Ok(Some(*vote)),
        AppendEntriesResponse::HigherVote(newer) => Ok(Some(newer)),
        AppendEntriesResponse::PartialSuccess(_) | AppendEntriesResponse::Conflict => Ok(None),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
