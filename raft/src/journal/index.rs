//! What the journal knows in memory: per group its mark and where its entries lie, per file how much of it is still wanted.

use super::frame::{Frame, Kind};
use super::mark::{Checkpoint, GroupMark, Marks, SnapshotRecord};
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use floss_protocol::reached;
use std::collections::{BTreeMap, VecDeque};

/// Where one entry lies: 32 bytes each, for every entry of every group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryAt {
    pub term: u64,
    /// Of its frame in the file; while it is queued, which frame of the queue it is.
    pub position: u64,
    file: u32,
    /// Payload bytes.
    pub bytes: u32,
    pub kind: u8,
}

/// Queued: its payload is in memory.
const FILE_QUEUED: u32 = 0;
/// Found in no file (yet): only during recovery.
const FILE_MISSING: u32 = u32::MAX;
/// Above any sequence that is ever reached: 64 MiB each, this is 256 PiB.
pub const SEQUENCE_MAX: u64 = FILE_MISSING as u64 - 1;

impl EntryAt {
    const MISSING: EntryAt = EntryAt { term: 0, position: 0, file: FILE_MISSING, bytes: 0, kind: 0 };

    fn new(frame: &Frame, place: Place) -> Self {
        let bytes = u32::try_from(frame.payload.len()).expect("payloads are bounded where they come in");
        let (file, position) = match place {
            Place::Queued { number } => (FILE_QUEUED, number),
            Place::File { sequence, position } => (file_number(sequence), position),
        };
        Self { term: frame.id.term, position, file, bytes, kind: frame.entry_kind }
    }

    /// Sequence of the file that holds it; `None` while it is queued.
    pub fn file(&self) -> Option<u64> {
        (self.file != FILE_QUEUED && self.file != FILE_MISSING).then_some(u64::from(self.file))
    }
}

fn file_number(sequence: u64) -> u32 {
    assert!(sequence <= SEQUENCE_MAX, "journal file sequence={sequence} is above {SEQUENCE_MAX}");
    sequence as u32
}

/// Where a frame is when it is applied.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// `number` as in `Files::queued_count`.
    Queued {
        number: u64,
    },
    File {
        sequence: u64,
        position: u64,
    },
}

/// One group. Invariant: `entries` are those of `mark.start..mark.end`.
#[derive(Clone, Debug, Default)]
pub struct GroupIndex {
    pub mark: GroupMark,
    first: u64,
    entries: VecDeque<EntryAt>,
    /// Payloads in memory, by index.
    cached: BTreeMap<u64, Bytes>,
    /// Entries of an install whose own record has not come yet.
    retained: Vec<EntryAt>,
}

impl GroupIndex {
    pub fn get(&self, index: u64) -> Option<&EntryAt> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn get_mut(&mut self, index: u64) -> Option<&mut EntryAt> {
        self.entries.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    pub fn cached(&self, index: u64) -> Option<&Bytes> {
        self.cached.get(&index)
    }

    /// What may be noted as committed: never beyond what is queued before the note, so never beyond the durable end.
    pub fn clamp_committed(&self, committed: LogId) -> Option<LogId> {
        let last = self.mark.last()?;
        if Some(committed) <= self.mark.purged {
            return self.mark.purged;
        }
        if committed.index > last.index {
            // Of the same leader, so ours is what it has there.
            return (committed.term == last.term).then_some(last);
        }
        self.get(committed.index).filter(|entry| entry.term == committed.term).map(|_| committed)
    }

    /// Lets go of what the mark does not hold (any more).
    fn follow_mark(&mut self, files: &mut Files) {
        while self.first + self.entries.len() as u64 > self.mark.end {
            let Some(gone) = self.entries.pop_back() else { break };
            files.forget(&gone);
        }
        while self.first < self.mark.start {
            let Some(gone) = self.entries.pop_front() else { break };
            files.forget(&gone);
            self.first += 1;
        }
        if self.entries.is_empty() {
            self.first = self.mark.start;
        }
        self.forget_payloads();
    }

    fn forget_payloads(&mut self) {
        drop(self.cached.split_off(&self.mark.end));
        if self.cached.first_key_value().is_some_and(|(index, _)| *index < self.mark.start) {
            self.cached = self.cached.split_off(&self.mark.start);
        }
    }

    fn append(&mut self, frame: &Frame, place: Place, files: &mut Files) -> Result<(), String> {
        let id = frame.id;
        if id.index < self.mark.end && self.mark.start < self.mark.end {
            self.cut_from(id.index, files);
        }
        self.mark.append(id)?;
        if self.entries.is_empty() {
            self.first = self.mark.start;
        }
        let entry = EntryAt::new(frame, place);
        files.note(&entry);
        self.entries.push_back(entry);
        if matches!(place, Place::Queued { .. }) {
            self.cached.insert(id.index, frame.payload.clone());
        }
        Ok(())
    }

    fn cut_from(&mut self, index: u64, files: &mut Files) {
        while !self.entries.is_empty() && self.first + self.entries.len() as u64 > index {
            files.forget(&self.entries.pop_back().expect("it is not empty"));
        }
        drop(self.cached.split_off(&index));
    }

    fn install(&mut self, frame: &Frame, files: &mut Files) -> Result<(), String> {
        let record = SnapshotRecord::decode(&frame.payload)?;
        let retained = std::mem::take(&mut self.retained);
        let snapshot_end = record.snapshot.last.index + 1;
        if record.retained_from + retained.len() as u64 != snapshot_end {
            let count = retained.len();
            return Err(format!("snapshot at {} with {count} entries from {}", record.snapshot.last, record.retained_from));
        }
        let old_first = self.first;
        self.mark.install(record.snapshot, record.retained_from);
        let mut before = std::mem::take(&mut self.entries);
        let above = usize::try_from(snapshot_end.saturating_sub(old_first)).unwrap_or(usize::MAX).min(before.len());
        let mut above = before.split_off(above);
        before.iter().for_each(|gone| files.forget(gone));
        if self.mark.end == snapshot_end {
            above.drain(..).for_each(|gone| files.forget(&gone));
        }
        retained.iter().for_each(|entry| files.note(entry));
        self.entries = retained.into();
        self.entries.append(&mut above);
        self.first = self.mark.start;
        self.forget_payloads();
        Ok(())
    }

    /// Takes the shape of `mark`, keeping what is known to lie inside; the rest is missing until another record takes it out.
    fn restart(&mut self, mark: GroupMark, files: &mut Files) {
        self.mark = mark;
        self.follow_mark(files);
        while self.first > self.mark.start {
            self.entries.push_front(EntryAt::MISSING);
            self.first -= 1;
        }
        while self.first + (self.entries.len() as u64) < self.mark.end {
            self.entries.push_back(EntryAt::MISSING);
        }
    }
}

/// How much of each file is wanted.
#[derive(Debug, Default)]
pub struct Files {
    by_sequence: BTreeMap<u64, Wanted>,
    /// Frames queued so far.
    pub queued_count: u64,
}

#[derive(Debug, Default)]
struct Wanted {
    entries: u64,
    /// The frame that took the last entry away, counted as in `queued_count`: until it is durable, a crash brings the entry back.
    idle_since: u64,
}

impl Files {
    pub fn add(&mut self, sequence: u64) {
        self.by_sequence.entry(sequence).or_default();
    }

    fn note(&mut self, entry: &EntryAt) {
        if let Some(file) = entry.file() {
            self.by_sequence.entry(file).or_default().entries += 1;
        }
    }

    fn forget(&mut self, entry: &EntryAt) {
        let Some(file) = entry.file() else { return };
        let wanted = self.by_sequence.get_mut(&file).expect("a located entry was counted");
        wanted.entries = wanted.entries.checked_sub(1).expect("no file forgets more entries than it holds");
        wanted.idle_since = self.queued_count;
    }

    /// Files before `current` of which nothing is wanted, now that `durable_count` frames are durable; they are forgotten.
    pub fn take_idle(&mut self, current: u64, durable_count: u64) -> Vec<u64> {
        let idle = |wanted: &Wanted| wanted.entries == 0 && wanted.idle_since <= durable_count;
        let idle: Vec<u64> =
            self.by_sequence.range(..current).filter(|(_, wanted)| idle(wanted)).map(|(sequence, _)| *sequence).collect();
        for sequence in &idle {
            self.by_sequence.remove(sequence);
        }
        idle
    }
}

/// All groups of the node.
#[derive(Debug, Default)]
pub struct Index {
    pub groups: BTreeMap<GroupId, GroupIndex>,
    pub files: Files,
}

impl Index {
    /// Brings everything to the state after `frame`. The same for calls and for recovery.
    pub fn apply(&mut self, frame: &Frame, place: Place) -> Result<(), String> {
        match frame.kind {
            Kind::Drop => {
                if let Some(group) = self.groups.remove(&frame.group) {
                    group.entries.iter().for_each(|gone| self.files.forget(gone));
                }
                return Ok(());
            }
            Kind::Checkpoint => return self.restart(Checkpoint::decode(&frame.payload)?),
            _ => {}
        }
        let group = self.groups.entry(frame.group).or_default();
        match frame.kind {
            Kind::Entry => group.append(frame, place, &mut self.files)?,
            Kind::Retained => {
                group.retained.push(EntryAt::new(frame, place));
                if matches!(place, Place::Queued { .. }) {
                    group.cached.insert(frame.id.index, frame.payload.clone());
                }
            }
            Kind::Install => {
                reached!("snapshot_installed");
                group.install(frame, &mut self.files)?;
            }
            _ => {
                let end = group.mark.end;
                group.mark.apply(frame)?;
                if frame.kind == Kind::Truncate && group.mark.end < end {
                    reached!("truncated_tail");
                }
                group.follow_mark(&mut self.files);
            }
        }
        Ok(())
    }

    fn restart(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
        let mut groups = std::mem::take(&mut self.groups);
        for (id, mark) in checkpoint.marks {
            mark.check().map_err(|reason| format!("{id}: {reason}"))?;
            let mut group = groups.remove(&id).unwrap_or_default();
            group.restart(mark, &mut self.files);
            self.groups.insert(id, group);
        }
        for group in groups.values() {
            group.entries.iter().for_each(|gone| self.files.forget(gone));
        }
        Ok(())
    }

    /// Where the entry of the queue's frame `number` came to lie. It may have been truncated or replaced while it was being written,
    /// even by one of the same term and index, if the group was dropped and came back.
    pub fn locate(&mut self, frame: &Frame, number: u64, sequence: u64, position: u64) {
        let entry = self.groups.get_mut(&frame.group).and_then(|group| group.get_mut(frame.id.index));
        if let Some(entry) = entry.filter(|entry| entry.file == FILE_QUEUED && entry.position == number) {
            *entry = EntryAt::new(frame, Place::File { sequence, position });
            self.files.note(entry);
        }
    }

    /// Lets go of one payload. False: it is not written yet, so it stays.
    pub fn evict(&mut self, group: GroupId, id: LogId) -> bool {
        let Some(group) = self.groups.get_mut(&group) else { return true };
        match group.get(id.index).filter(|entry| entry.term == id.term) {
            Some(entry) if entry.file == FILE_QUEUED => false,
            Some(_) => {
                group.cached.remove(&id.index);
                true
            }
            None => true,
        }
    }

    pub fn marks(&self) -> Marks {
        self.groups.iter().map(|(id, group)| (*id, group.mark.clone())).collect()
    }

    /// The first entry that a group holds and no file has: a file is missing.
    pub fn missing(&self) -> Option<(GroupId, u64)> {
        self.groups.iter().find_map(|(id, group)| {
            let place = group.entries.iter().position(|entry| entry.file == FILE_MISSING)?;
            Some((*id, group.first + place as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_costs_32_bytes() {
        assert_eq!(std::mem::size_of::<EntryAt>(), 32);
    }

    #[test]
    fn committed_is_noted_only_for_entries_that_are_here() {
        let mut index = Index::default();
        let id = |term, index| LogId { term, index };
        for at in [id(1, 1), id(1, 2), id(2, 3), id(2, 4)] {
            let frame = Frame::new(Kind::Entry, GroupId(1), at, Bytes::new());
            index.apply(&frame, Place::Queued { number: at.index }).expect("in order");
        }
        let group = &index.groups[&GroupId(1)];
        assert_eq!(group.clamp_committed(id(1, 2)), Some(id(1, 2)));
        assert_eq!(group.clamp_committed(id(2, 9)), Some(id(2, 4)), "the same leader's, so ours is its prefix");
        assert_eq!(group.clamp_committed(id(3, 9)), None, "another leader's: ours may be no part of it");
        assert_eq!(group.clamp_committed(id(3, 3)), None, "a conflict");
    }
}
