//! Between openraft's values and ours, and onto the wire.

use super::{Entry, Payload, RaftLogId, RaftVote, Types};
use crate::journal::JournalEntry;
use crate::types::LogId;
use bytes::{Buf, Bytes};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use openraft::vote::RaftLeaderId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub fn to_ours(id: &RaftLogId) -> LogId {
    LogId { term: id.leader_id.term, index: id.index + 1 }
}

pub fn to_theirs(id: LogId) -> RaftLogId {
    let leader = <openraft::impls::leader_id_std::LeaderId<u64, u64> as RaftLeaderId>::new(id.term, 0);
    RaftLogId::new(leader.to_committed(), id.index - 1)
}

/// The payload of an entry that a machine consumes; `None` for Raft's own.
pub fn machine_payload(entry: &JournalEntry) -> Option<Bytes> {
    (entry.kind == NORMAL).then(|| entry.payload.clone())
}

pub fn entry_to_journal(entry: Entry) -> JournalEntry {
    let id = to_ours(&entry.log_id);
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(Payload(bytes)) => (NORMAL, bytes),
        EntryPayload::Membership(membership) => (MEMBERSHIP, encode(&membership)),
    };
    JournalEntry { id, kind, payload }
}

pub fn entry_from_journal(entry: JournalEntry) -> io::Result<Entry> {
    let payload = match entry.kind {
        BLANK => EntryPayload::Blank,
        NORMAL => EntryPayload::Normal(Payload(entry.payload)),
        MEMBERSHIP => EntryPayload::Membership(decode(&entry.payload)?),
        kind => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("entry {} of kind {kind}, expected 0..=2", entry.id)));
        }
    };
    Ok(Entry::new(to_theirs(entry.id), payload))
}

pub fn encode(value: &impl Serialize) -> Bytes {
    postcard::to_stdvec(value).expect("plain values encode").into()
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("message of {} bytes: {error}", bytes.len())))
}

/// Heads of entries, so that payloads travel as they are.
#[derive(Serialize, Deserialize)]
struct EntryHead {
    id: LogId,
    kind: u8,
    bytes: u32,
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: RaftVote,
    previous: Option<LogId>,
    commit: Option<LogId>,
    entries: Vec<EntryHead>,
}

/// Head length (u32 LE), head, payloads.
pub fn encode_append(request: AppendEntriesRequest<Types>) -> Vec<Bytes> {
    let entries: Vec<JournalEntry> = request.entries.into_iter().map(entry_to_journal).collect();
    let head = AppendHead {
        vote: request.vote,
        previous: request.prev_log_id.as_ref().map(to_ours),
        commit: request.leader_commit.as_ref().map(to_ours),
        entries: heads(&entries),
    };
    with_payloads(&head, entries)
}

pub fn decode_append(body: Bytes) -> io::Result<AppendEntriesRequest<Types>> {
    let (head, mut body): (AppendHead, Bytes) = split_head(body)?;
    let entries = take_payloads(head.entries, &mut body)?;
    Ok(AppendEntriesRequest {
        vote: head.vote,
        prev_log_id: head.previous.map(to_theirs),
        leader_commit: head.commit.map(to_theirs),
        entries: entries.into_iter().map(entry_from_journal).collect::<io::Result<Vec<_>>>()?,
    })
}

/// Retained entries of a snapshot, on their way.
pub fn encode_entries(entries: Vec<JournalEntry>) -> Vec<Bytes> {
    let head = heads(&entries);
    with_payloads(&head, entries)
}

pub fn decode_entries(body: Bytes) -> io::Result<Vec<JournalEntry>> {
    let (head, mut body): (Vec<EntryHead>, Bytes) = split_head(body)?;
    take_payloads(head, &mut body)
}

fn heads(entries: &[JournalEntry]) -> Vec<EntryHead> {
    entries.iter().map(|entry| EntryHead { id: entry.id, kind: entry.kind, bytes: entry.payload.len() as u32 }).collect()
}

fn with_payloads(head: &impl Serialize, entries: Vec<JournalEntry>) -> Vec<Bytes> {
    let head = encode(head);
    let mut pieces = vec![Bytes::copy_from_slice(&(head.len() as u32).to_le_bytes()), head];
    pieces.extend(entries.into_iter().map(|entry| entry.payload).filter(|payload| !payload.is_empty()));
    pieces
}

fn split_head<T: DeserializeOwned>(mut body: Bytes) -> io::Result<(T, Bytes)> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "message is cut short");
    if body.len() < 4 {
        return Err(short());
    }
    let length = body.get_u32_le() as usize;
    if body.len() < length {
        return Err(short());
    }
    let head = body.split_to(length);
    Ok((decode(&head)?, body))
}

fn take_payloads(heads: Vec<EntryHead>, body: &mut Bytes) -> io::Result<Vec<JournalEntry>> {
    let mut entries = Vec::with_capacity(heads.len());
    for head in heads {
        if body.len() < head.bytes as usize || head.id.index == 0 {
            let what = format!("entry {} of {} bytes, {} are left", head.id, head.bytes, body.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        entries.push(JournalEntry { id: head.id, kind: head.kind, payload: body.split_to(head.bytes as usize) });
    }
    Ok(entries)
}
