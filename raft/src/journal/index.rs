//! What the journal knows in memory: per group its log's shape and hard state, per file how much of it is still wanted.

use super::frame::{Frame, Kind};
use super::{GroupLog, JournalEntry, StoredSnapshot};
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Where an entry lies. `file` 0 = queued, not written yet; its payload is then in memory.
#[derive(Clone, Debug)]
pub struct EntryAt {
    pub term: u64,
    pub kind: u8,
    pub file: u64,
    pub position: u64,
    /// Payload bytes.
    pub bytes: u32,
    pub payload: Option<Bytes>,
}

/// One group.
#[derive(Clone, Debug, Default)]
pub struct GroupIndex {
    pub vote: Option<Bytes>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub retained_from: u64,
    pub snapshot: Option<StoredSnapshot>,
    /// Index of `entries[0]`; meaningless while it is empty.
    first: u64,
    entries: VecDeque<EntryAt>,
}

/// Hard state of a group at the head of a file.
#[derive(Serialize, Deserialize)]
struct GroupMark {
    group: GroupId,
    vote: Option<Vec<u8>>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    retained_from: u64,
    last_index: u64,
    snapshot: Option<(LogId, Vec<u8>, Vec<u8>)>,
}

impl GroupIndex {
    pub fn log(&self) -> GroupLog {
        GroupLog {
            vote: self.vote.clone(),
            committed: self.committed,
            purged: self.purged,
            last: self.last(),
            retained_from: self.retained_from,
            snapshot: self.snapshot.clone(),
        }
    }

    /// The newest entry, or the purge point if nothing lies above it.
    pub fn last(&self) -> Option<LogId> {
        let newest = self.entries.back().map(|entry| LogId { term: entry.term, index: self.end() - 1 });
        if floss_protocol::mutant!("R12") { newest } else { newest.max(self.purged) }
    }

    /// Index after the newest entry.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub fn get(&self, index: u64) -> Option<&EntryAt> {
        self.entries.get(index.checked_sub(self.first)? as usize)
    }

    pub fn get_mut(&mut self, index: u64) -> Option<&mut EntryAt> {
        self.entries.get_mut(index.checked_sub(self.first)? as usize)
    }

    fn cut_from(&mut self, index: u64, files: &mut Files) {
        while !self.entries.is_empty() && self.end() > index {
            files.forget(self.entries.pop_back().expect("just seen"));
        }
    }

    fn cut_below(&mut self, index: u64, files: &mut Files) {
        while !self.entries.is_empty() && self.first < index {
            files.forget(self.entries.pop_front().expect("just seen"));
            self.first += 1;
        }
    }
}

/// Wanted entries per file.
#[derive(Debug, Default)]
pub struct Files {
    pub wanted: BTreeMap<u64, u64>,
}

impl Files {
    pub fn note(&mut self, file: u64) {
        *self.wanted.entry(file).or_default() += 1;
    }

    fn forget(&mut self, entry: EntryAt) {
        if entry.file > 0 {
            let count = self.wanted.get_mut(&entry.file).expect("a located entry was counted");
            *count = count.checked_sub(1).expect("no file forgets more entries than it holds");
        }
    }
}

/// All groups of the node.
#[derive(Debug, Default)]
pub struct Index {
    pub groups: BTreeMap<GroupId, GroupIndex>,
    pub files: Files,
}

impl Index {
    /// Takes an entry that follows the newest one (or starts the log anywhere).
    pub fn push(&mut self, group: GroupId, index: u64, entry: EntryAt) {
        let log = self.groups.entry(group).or_default();
        if log.entries.is_empty() {
            log.first = index;
            if log.retained_from == 0 {
                log.retained_from = index;
            }
        }
        assert!(log.end() == index, "append to {group} at index={index}, expected {}", log.end());
        if entry.file > 0 {
            self.files.note(entry.file);
        }
        log.entries.push_back(entry);
    }

    pub fn truncate_after(&mut self, group: GroupId, last: u64) {
        let from = if floss_protocol::mutant!("R05") { last + 2 } else { last + 1 };
        let log = self.groups.entry(group).or_default();
        if log.end() > from && !log.entries.is_empty() {
            floss_protocol::reached!("truncated_tail");
        }
        log.cut_from(from, &mut self.files);
    }

    pub fn release(&mut self, group: GroupId, index: u64) {
        let Some(log) = self.groups.get_mut(&group) else { return };
        // Raft itself still reads what is not purged.
        let floor = index.min(log.purged.map_or(0, |purged| purged.index) + 1);
        log.retained_from = log.retained_from.max(floor);
        let floor = log.retained_from;
        log.cut_below(floor, &mut self.files);
    }

    pub fn drop_group(&mut self, group: GroupId) {
        if let Some(mut log) = self.groups.remove(&group) {
            log.cut_from(0, &mut self.files);
        }
    }

    /// Replaces a group's log by a snapshot and the entries below it that came along.
    pub fn install(&mut self, group: GroupId, snapshot: StoredSnapshot, retained: Vec<(u64, EntryAt)>) {
        let log = self.groups.entry(group).or_default();
        // What lies above the snapshot stays: Raft decides whether it fits.
        let above = (snapshot.last.index + 1).max(log.first);
        let tail: Vec<EntryAt> = log.entries.drain(log.entries.len().min((above - log.first) as usize)..).collect();
        log.cut_from(0, &mut self.files);
        log.purged = log.purged.max(Some(snapshot.last));
        log.committed = log.committed.max(Some(snapshot.last));
        let snapshot_end = snapshot.last.index + 1;
        log.retained_from = retained.first().map_or(snapshot.last.index + 1, |(index, _)| *index);
        log.snapshot = Some(snapshot);
        let mut next = snapshot_end;
        for (index, entry) in retained {
            self.push(group, index, entry);
        }
        for entry in tail {
            // Counted already.
            let file = entry.file;
            self.push(group, next, entry);
            if file > 0 {
                *self.files.wanted.get_mut(&file).expect("a located entry was counted") -= 1;
            }
            next += 1;
        }
    }

    /// One record of recovery. `retained` collects the entries of an install that is not complete yet.
    pub fn replay(&mut self, frame: &Frame, file: u64, position: u64, retained: &mut Vec<(u64, EntryAt)>) -> Result<(), String> {
        let (group, id) = (frame.group, frame.id);
        let located = || EntryAt {
            term: id.term,
            kind: frame.entry_kind,
            file,
            position,
            bytes: frame.payload.len() as u32,
            payload: None,
        };
        match frame.kind {
            Kind::Entry => {
                let log = self.groups.entry(group).or_default();
                log.cut_from(id.index, &mut self.files);
                // What lay between was truncated or released later on, and its file is gone: a hole that a later record removes.
                while !log.entries.is_empty() && log.end() < id.index {
                    log.entries.push_back(EntryAt { term: 0, kind: 0, file: 0, position: 0, bytes: 0, payload: None });
                }
                self.push(group, id.index, located());
            }
            Kind::Vote => self.groups.entry(group).or_default().vote = Some(frame.payload.clone()),
            Kind::Committed => {
                let log = self.groups.entry(group).or_default();
                log.committed = log.committed.max(Some(id));
            }
            Kind::Truncate => self.truncate_after(group, id.index),
            Kind::Purge => self.groups.entry(group).or_default().purged = Some(id),
            Kind::Release => self.release(group, id.index),
            Kind::Snapshot => self.groups.entry(group).or_default().snapshot = Some(decode_snapshot(&frame.payload)?),
            Kind::Retained => retained.push((id.index, located())),
            Kind::Install => self.install(group, decode_snapshot(&frame.payload)?, std::mem::take(retained)),
            Kind::Drop => self.drop_group(group),
            Kind::Checkpoint => self.checkpoint_in(&frame.payload)?,
        }
        Ok(())
    }

    /// The first hole that recovery did not close: a file with wanted entries is missing.
    pub fn hole(&self) -> Option<(GroupId, u64)> {
        self.groups.iter().find_map(|(group, log)| {
            let place = log.entries.iter().position(|entry| entry.file == 0 && entry.payload.is_none())?;
            Some((*group, log.first + place as u64))
        })
    }

    /// Hard state of all groups, for the head of a new file.
    pub fn checkpoint_out(&self) -> Bytes {
        let marks: Vec<GroupMark> = self
            .groups
            .iter()
            .map(|(group, log)| GroupMark {
                group: *group,
                vote: log.vote.as_ref().map(|vote| vote.to_vec()),
                committed: log.committed,
                purged: log.purged,
                retained_from: log.retained_from,
                last_index: if log.entries.is_empty() { 0 } else { log.end() - 1 },
                snapshot: log.snapshot.as_ref().map(|s| (s.last, s.meta.to_vec(), s.state.to_vec())),
            })
            .collect();
        postcard::to_stdvec(&marks).expect("plain values encode").into()
    }

    fn checkpoint_in(&mut self, payload: &[u8]) -> Result<(), String> {
        let marks: Vec<GroupMark> = postcard::from_bytes(payload).map_err(|error| format!("checkpoint: {error}"))?;
        let named: std::collections::BTreeSet<GroupId> = marks.iter().map(|mark| mark.group).collect();
        let gone: Vec<GroupId> = self.groups.keys().filter(|group| !named.contains(group)).copied().collect();
        for group in gone {
            self.drop_group(group);
        }
        for mark in marks {
            let log = self.groups.entry(mark.group).or_default();
            log.vote = mark.vote.map(Bytes::from);
            log.committed = mark.committed;
            log.purged = mark.purged;
            log.retained_from = mark.retained_from;
            log.snapshot =
                mark.snapshot.map(|(last, meta, state)| StoredSnapshot { last, meta: meta.into(), state: state.into() });
            log.cut_from(mark.last_index + 1, &mut self.files);
            log.cut_below(mark.retained_from, &mut self.files);
        }
        Ok(())
    }
}

pub fn encode_snapshot(snapshot: &StoredSnapshot) -> Bytes {
    let parts = (snapshot.last, &snapshot.meta[..], &snapshot.state[..]);
    postcard::to_stdvec(&parts).expect("plain values encode").into()
}

pub fn decode_snapshot(payload: &[u8]) -> Result<StoredSnapshot, String> {
    let (last, meta, state): (LogId, Vec<u8>, Vec<u8>) =
        postcard::from_bytes(payload).map_err(|error| format!("snapshot record: {error}"))?;
    Ok(StoredSnapshot { last, meta: meta.into(), state: state.into() })
}

/// The frame of an entry that is about to be written.
pub fn entry_frame(kind: Kind, group: GroupId, entry: &JournalEntry) -> Frame {
    Frame { kind, entry_kind: entry.kind, group, id: entry.id, payload: entry.payload.clone() }
}
