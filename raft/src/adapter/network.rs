//! openraft's network over the transport: the sending half and the receiving half of every Raft message.

use super::codec::{decode, decode_append, decode_entries, encode, encode_append, encode_entries};
use super::machine::SnapshotData;
use super::{Raft, RaftVote, Types};
use crate::journal::{Journal, JournalEntry};
use crate::transport::{PeerChannel, PeerRequest, Transport, TransportError};
use crate::types::{GroupId, NodeId};
use bytes::Bytes;
use floss_protocol::reached;
use openraft::OptionalSend;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const TRANSFER: u8 = 4;
/// Retained entries of a snapshot that is about to come.
const SNAPSHOT_ENTRIES: u8 = 5;
const SNAPSHOT: u8 = 6;

const RETRY_PAUSE: Duration = Duration::from_millis(50);
const SNAPSHOT_CHUNK_BYTES: usize = 4 << 20;
const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the sending halves of one group.
#[derive(Clone)]
pub struct Network {
    pub transport: Arc<dyn Transport>,
    pub journal: Journal,
    pub group: GroupId,
    pub wanted_from: Arc<std::sync::atomic::AtomicU64>,
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
    async fn call(&self, method: u8, body: Vec<Bytes>, timeout: Duration) -> Result<Bytes, RPCError<Types>> {
        let request = PeerRequest { channel: PeerChannel::Raft(self.network.group), method, body };
        self.network.transport.call(self.to, request, timeout).await.map_err(|error| match error {
            TransportError::UnknownPeer { .. } | TransportError::Unreachable { .. } | TransportError::Refused { .. } => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
            TransportError::Timeout { .. } => RPCError::Network(NetworkError::new(&error)),
        })
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
        let wanted = self.network.wanted_from.load(std::sync::atomic::Ordering::SeqCst);
        let mut from = log.retained_from.max(wanted).max(1);
        while from <= last {
            let entries = self.network.journal.read(self.network.group, from..last + 1, SNAPSHOT_CHUNK_BYTES).await;
            let entries = entries.map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
            from += entries.len() as u64;
            self.call(SNAPSHOT_ENTRIES, encode_entries(entries), SNAPSHOT_CHUNK_TIMEOUT).await?;
        }
        let message = SnapshotMessage {
            vote,
            last: meta.last_log_id.as_ref().map(super::codec::to_ours),
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
        answer(self.call(APPEND, encode_append(request), option.hard_ttl()).await)
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
        Some(Backoff::new(std::iter::repeat(RETRY_PAUSE)))
    }
}

/// The receiving half of one group.
#[derive(Default)]
pub struct Inbox {
    /// Entries that came ahead of a snapshot, per sender.
    staged: Mutex<BTreeMap<NodeId, Vec<JournalEntry>>>,
}

impl Inbox {
    /// Answers one message. Errors are told to the sender as a refusal.
    pub async fn serve(&self, raft: &Raft, from: NodeId, method: u8, body: Bytes) -> Result<Bytes, String> {
        match method {
            APPEND => {
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
            SNAPSHOT => self.install(raft, from, decode(&body).map_err(text)?).await,
            method => Err(format!("raft method {method} is unknown, expected 1..=6")),
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

    async fn install(&self, raft: &Raft, from: NodeId, message: SnapshotMessage) -> Result<Bytes, String> {
        let retained = self.staged.lock().expect("no panic happens while entries are held").remove(&from).unwrap_or_default();
        let last = message.last.ok_or("a snapshot of nothing")?;
        if retained.last().is_some_and(|entry| entry.id != last) {
            return Err(format!("retained entries end at {}, the snapshot at {last}", retained.last().expect("just seen").id));
        }
        let meta = SnapshotMetaOf::<Types> {
            last_log_id: Some(super::codec::to_theirs(last)),
            last_membership: decode(&message.membership).map_err(text)?,
        };
        let data = SnapshotData { state: message.state.into(), retained: Some(retained) };
        let snapshot = SnapshotOf::<Types, SnapshotData> { meta, snapshot: data };
        raft.install_full_snapshot(message.vote, snapshot).await.map(|answer| encode(&answer)).map_err(text)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
