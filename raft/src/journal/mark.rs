//! What each group stands at: the part of the journal that every file's first frame repeats.

use super::frame::{Frame, Kind};
use super::{GroupLog, StoredSnapshot};
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use floss_protocol::mutant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One group without its entries. The same changes, in the same order, are made to it when a call comes in, when its record
/// was written, and when the record is read back: so all three agree.
///
/// Invariants: entries `start..end` are held, and `end` is one above the newest; nothing at or above `end` is purged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMark {
    pub vote: Option<Bytes>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    /// First index that is held, or would be.
    pub start: u64,
    pub end: u64,
    /// Term of the newest entry, if there is one.
    pub last_term: u64,
    pub snapshot: Option<StoredSnapshot>,
}

impl GroupMark {
    pub fn log(&self) -> GroupLog {
        GroupLog {
            vote: self.vote.clone(),
            committed: self.committed,
            purged: self.purged,
            last: self.last(),
            retained_from: self.start,
            snapshot: self.snapshot.clone(),
        }
    }

    /// The newest entry, or the purge point if nothing lies above it.
    pub fn last(&self) -> Option<LogId> {
        let newest = (self.start < self.end).then(|| LogId { term: self.last_term, index: self.end - 1 });
        if mutant!("R12") { newest } else { newest.max(self.purged) }
    }

    /// The index that the next entry must have; `None` = any, nothing was ever here.
    pub fn next(&self) -> Option<u64> {
        if self.start < self.end { Some(self.end) } else { self.purged.map(|purged| purged.index + 1) }
    }

    /// Takes one entry; whatever was at its index and above is gone.
    pub fn append(&mut self, id: LogId) -> Result<(), String> {
        if let Some(next) = self.next().filter(|next| *next < id.index) {
            return Err(format!("append at index={}, expected {next}", id.index));
        }
        if self.start == self.end {
            self.start = id.index;
        }
        self.start = self.start.min(id.index);
        (self.end, self.last_term) = (id.index + 1, id.term);
        Ok(())
    }

    /// Entries above `last` are gone.
    pub fn truncate_after(&mut self, last: LogId) {
        let end = if mutant!("R05") { last.index + 2 } else { last.index + 1 };
        if self.end > end {
            self.end = end.max(self.start);
            self.last_term = last.term;
            self.committed = self.committed.min(self.last());
        }
    }

    /// Nothing up to `upto` is Raft's any more.
    pub fn purge(&mut self, upto: LogId) {
        self.purged = self.purged.max(Some(upto));
        if self.end <= upto.index {
            (self.start, self.end) = (upto.index + 1, upto.index + 1);
        }
    }

    /// Nothing below `index` is the readers'; Raft itself still reads what is not purged.
    pub fn release(&mut self, index: u64) {
        let unpurged = self.purged.map_or(0, |purged| purged.index + 1);
        self.start = self.start.max(index.min(unpurged));
    }

    /// A snapshot and the entries `retained_from..=last` replace what lies up to `last`. Raft decides what becomes of the rest; only
    /// if the newest is of an older term than the snapshot, it certainly does not fit.
    pub fn install(&mut self, snapshot: StoredSnapshot, retained_from: u64) {
        let end = snapshot.last.index + 1;
        let goes_on = self.start <= end && end < self.end && self.last_term >= snapshot.last.term;
        if !goes_on {
            (self.end, self.last_term) = (end, snapshot.last.term);
        }
        self.start = retained_from;
        self.purged = self.purged.max(Some(snapshot.last));
        self.committed = self.committed.max(Some(snapshot.last));
        self.snapshot = Some(snapshot);
    }

    /// A change that its frame describes completely.
    pub fn apply(&mut self, frame: &Frame) -> Result<(), String> {
        match frame.kind {
            Kind::Entry => self.append(frame.id)?,
            Kind::Vote => self.vote = Some(frame.payload.clone()),
            Kind::Committed => self.committed = self.committed.max(Some(frame.id)),
            Kind::Truncate => self.truncate_after(frame.id),
            Kind::Purge => self.purge(frame.id),
            Kind::Release => self.release(frame.id.index),
            Kind::Snapshot => {
                let snapshot = SnapshotRecord::decode(&frame.payload)?.snapshot;
                // One that was being built while a newer one was installed comes too late.
                if self.snapshot.as_ref().is_none_or(|present| present.last <= snapshot.last) {
                    self.snapshot = Some(snapshot);
                }
            }
            Kind::Install => {
                let record = SnapshotRecord::decode(&frame.payload)?;
                self.install(record.snapshot, record.retained_from);
            }
            Kind::Retained => {}
            Kind::Drop | Kind::Checkpoint => return Err(format!("{:?} is not about what a group stands at", frame.kind)),
        }
        Ok(())
    }

    /// I5, as far as the journal can see it.
    pub fn check(&self) -> Result<(), String> {
        let purged = self.purged.map_or(0, |purged| purged.index);
        if self.start > self.end {
            return Err(format!("held from index={} but ends at {}", self.start, self.end));
        }
        if purged > 0 && purged >= self.end {
            return Err(format!("purged to index={purged} but ends at {}", self.end));
        }
        if self.start > purged + 1 && purged > 0 {
            return Err(format!("released to index={} but purged only to {purged}", self.start));
        }
        if let Some(committed) = self.committed.filter(|committed| committed.index >= self.end) {
            return Err(format!("committed={committed} but ends at {}", self.end));
        }
        Ok(())
    }
}

/// Payload of `Snapshot` and `Install`.
pub struct SnapshotRecord {
    pub snapshot: StoredSnapshot,
    /// First of the entries that came with it; one above the snapshot if there is none.
    pub retained_from: u64,
}

impl SnapshotRecord {
    pub fn encode(&self) -> Bytes {
        let parts = (self.snapshot.last, self.retained_from, &self.snapshot.meta[..], &self.snapshot.state[..]);
        postcard::to_stdvec(&parts).expect("plain values encode").into()
    }

    pub fn decode(payload: &[u8]) -> Result<Self, String> {
        let (last, retained_from, meta, state): (LogId, u64, Vec<u8>, Vec<u8>) =
            postcard::from_bytes(payload).map_err(|error| format!("snapshot record: {error}"))?;
        Ok(Self { snapshot: StoredSnapshot { last, meta: meta.into(), state: state.into() }, retained_from })
    }
}

/// All groups.
pub type Marks = BTreeMap<GroupId, GroupMark>;

/// Brings `marks` to the state after `frame`.
pub fn apply(marks: &mut Marks, frame: &Frame) -> Result<(), String> {
    match frame.kind {
        Kind::Checkpoint => {}
        Kind::Drop => _ = marks.remove(&frame.group),
        _ => marks.entry(frame.group).or_default().apply(frame)?,
    }
    Ok(())
}

/// First frame of a file: everything that is true before the second one, so that no earlier file is needed for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The files before this one that hold wanted entries, and where their last batch ends.
    pub ends: BTreeMap<u64, u64>,
    pub marks: Marks,
}

#[derive(Serialize, Deserialize)]
struct MarkRecord {
    group: GroupId,
    vote: Option<Vec<u8>>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    start: u64,
    end: u64,
    last_term: u64,
    snapshot: Option<(LogId, Vec<u8>, Vec<u8>)>,
}

impl Checkpoint {
    pub fn encode(ends: &BTreeMap<u64, u64>, marks: &Marks) -> Bytes {
        let marks: Vec<MarkRecord> = marks
            .iter()
            .map(|(group, mark)| MarkRecord {
                group: *group,
                vote: mark.vote.as_ref().map(|vote| vote.to_vec()),
                committed: mark.committed,
                purged: mark.purged,
                start: mark.start,
                end: mark.end,
                last_term: mark.last_term,
                snapshot: mark.snapshot.as_ref().map(|s| (s.last, s.meta.to_vec(), s.state.to_vec())),
            })
            .collect();
        postcard::to_stdvec(&(ends, marks)).expect("plain values encode").into()
    }

    pub fn decode(payload: &[u8]) -> Result<Self, String> {
        let (ends, marks): (BTreeMap<u64, u64>, Vec<MarkRecord>) =
            postcard::from_bytes(payload).map_err(|error| format!("checkpoint: {error}"))?;
        let marks = marks.into_iter().map(|record| {
            let snapshot =
                record.snapshot.map(|(last, meta, state)| StoredSnapshot { last, meta: meta.into(), state: state.into() });
            let mark = GroupMark {
                vote: record.vote.map(Bytes::from),
                committed: record.committed,
                purged: record.purged,
                start: record.start,
                end: record.end,
                last_term: record.last_term,
                snapshot,
            };
            (record.group, mark)
        });
        Ok(Self { ends, marks: marks.collect() })
    }
}
