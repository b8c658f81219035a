//! One journal per node: every durable fact of every group, framed, written once, synced once.
//!
//! A sequence of pre-written, recycled files. Whatever is queued, over all groups, becomes one batch: one write, one sync, then
//! the answers, in order. An entry's payload is the data that readers get: there is no second copy.
//!
//! Each file begins with a checkpoint of every group's hard state, so a file is recycled as soon as no reader and no replica wants an entry
//! of it. What Raft needs no more is *purged*; what readers need no more is *released*; only released entries free space.
//!
//! Absent: a bound on the journal's size. Moving old entries into sealed per-bucket segments comes later, behind [`Journal::read`].
//!
//! Reading order: `frame` (bytes), `index` (memory), `recover` (bytes to memory), `writer` (memory to bytes).

pub mod frame;
mod index;
pub mod recover;
mod writer;

use crate::env::BoxFuture;
use crate::env::disk::{Disk, DiskFile};
use crate::env::runtime::sync::{Notify, oneshot};
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use frame::{FRAME_HEADER_BYTES, Frame, Kind};
use index::{EntryAt, Index, encode_snapshot, entry_frame};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// Sizes. `file_bytes` are pre-written at creation and recycled.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Directory below the disk's root.
    pub dir: String,
    pub file_bytes: u64,
    /// Recent entries kept in memory for replication, apply and tail reads, over all groups.
    pub cache_bytes_max: u64,
}

/// What kind of log entry: opaque here, but kept so that the adapter can tell blank, normal and membership apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    pub id: LogId,
    pub kind: u8,
    pub payload: Bytes,
}

/// Everything the journal knows of one group after recovery, except entry payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLog {
    /// Encoded vote as given to `save_vote`.
    pub vote: Option<Bytes>,
    /// Never beyond the durable end of the log.
    pub committed: Option<LogId>,
    /// Raft may not read at or below this; readers may, down to `retained_from`.
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
    /// First index still kept for readers.
    pub retained_from: u64,
    pub snapshot: Option<StoredSnapshot>,
}

/// A machine's state at one position, as a journal record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    pub last: LogId,
    /// Opaque to the journal: membership and the machine's state, encoded by the adapter.
    pub meta: Bytes,
    pub state: Bytes,
}

/// Told once the record and everything queued before it is on disk, or that the disk is gone. Called from the writer.
pub type OnDurable = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The journal of a node. Clones share it.
///
/// Order: operations on one group take effect and become durable in call order. After a failed write or sync it is poisoned: every
/// later call fails with the first error.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    config: JournalConfig,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Notify,
    /// Told when the writer has ended.
    ended: Notify,
}

struct State {
    index: Index,
    files: BTreeMap<u64, Arc<dyn DiskFile>>,
    /// Frames in order; what they change is already in `index`.
    queue: Vec<Frame>,
    waiting: Vec<OnDurable>,
    /// Payloads in memory, oldest first, and their bytes.
    cached: VecDeque<(GroupId, LogId, usize)>,
    cached_bytes: u64,
    poisoned: Option<(io::ErrorKind, String)>,
    closing: bool,
    ended: bool,
}

impl State {
    fn check(&self) -> io::Result<()> {
        match &self.poisoned {
            Some((kind, what)) => Err(io::Error::new(*kind, what.clone())),
            None if self.closing => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the journal is closed")),
            None => Ok(()),
        }
    }

    fn cache(&mut self, group: GroupId, id: LogId, bytes: usize) {
        self.cached.push_back((group, id, bytes));
        self.cached_bytes += bytes as u64;
    }

    /// Lets go of the oldest payloads that are on disk.
    fn shrink_cache(&mut self, bytes_max: u64) {
        while self.cached_bytes > bytes_max {
            let Some((group, id, bytes)) = self.cached.front().copied() else { return };
            if let Some(entry) =
                self.index.groups.get_mut(&group).and_then(|log| log.get_mut(id.index)).filter(|entry| entry.term == id.term)
            {
                if entry.file == 0 {
                    return;
                }
                entry.payload = None;
            }
            self.cached.pop_front();
            self.cached_bytes -= bytes as u64;
        }
    }
}

impl Journal {
    /// Recovers what is on disk (cut torn tail, stop at corruption; see `recover`) and starts the writer task.
    pub async fn open(disk: Arc<dyn Disk>, config: JournalConfig) -> io::Result<Journal> {
        disk.create_dir(&config.dir).await?;
        let recovered = recover::recover(&*disk, &config.dir).await?;
        // A killed process may have left bytes that were written and never synced: from here on they are relied upon.
        if let Some(newest) = recovered.files.values().last() {
            newest.sync().await?;
        }
        let mut index = recovered.index;
        for sequence in recovered.files.keys() {
            index.files.wanted.entry(*sequence).or_default();
        }
        let state = State {
            index,
            files: recovered.files,
            queue: Vec::new(),
            waiting: Vec::new(),
            cached: VecDeque::new(),
            cached_bytes: 0,
            poisoned: None,
            closing: false,
            ended: false,
        };
        let shared = Arc::new(Shared { disk, config, state: Mutex::new(state), work: Notify::new(), ended: Notify::new() });
        let mut writer = writer::Writer::new(shared.clone(), recovered.last_sequence, recovered.last_end, recovered.next_batch);
        for path in recovered.unused {
            shared.disk.remove(&path).await?;
        }
        writer.start().await?;
        crate::env::runtime::spawn(writer.run());
        Ok(Journal { shared })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no panic happens while the journal's state is held")
    }

    /// Groups with any record.
    pub fn groups(&self) -> Vec<GroupId> {
        self.state().index.groups.keys().copied().collect()
    }

    /// State of one group; default for an unknown one.
    pub fn group(&self, group: GroupId) -> GroupLog {
        self.state().index.groups.get(&group).map(|log| log.log()).unwrap_or_default()
    }

    /// Queues entries. They are readable at return, durable when `on_durable` is called.
    pub fn append(&self, group: GroupId, entries: Vec<JournalEntry>, on_durable: OnDurable) {
        let mut state = self.state();
        if let Err(error) = state.check() {
            drop(state);
            return on_durable(Err(error));
        }
        for entry in entries {
            state.queue.push(entry_frame(Kind::Entry, group, &entry));
            let at = EntryAt {
                term: entry.id.term,
                kind: entry.kind,
                file: 0,
                position: 0,
                bytes: entry.payload.len() as u32,
                payload: Some(entry.payload),
            };
            let bytes = at.bytes as usize;
            state.index.push(group, entry.id.index, at);
            state.cache(group, entry.id, bytes);
        }
        state.waiting.push(on_durable);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Changes the index, queues the frame, and gives a future that ends when it is durable.
    fn record(&self, frame: Frame, change: impl FnOnce(&mut State)) -> BoxFuture<'static, io::Result<()>> {
        let (told, durable) = oneshot::channel();
        let mut state = self.state();
        if let Err(error) = state.check() {
            return Box::pin(std::future::ready(Err(error)));
        }
        change(&mut state);
        state.queue.push(frame);
        state.waiting.push(Box::new(move |result| _ = told.send(result)));
        drop(state);
        self.shared.work.notify_one();
        Box::pin(async move {
            durable.await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::BrokenPipe, "the journal's writer ended")))
        })
    }

    /// Queues a vote; the future ends when it is durable.
    pub fn save_vote(&self, group: GroupId, vote: Bytes) -> BoxFuture<'static, io::Result<()>> {
        let frame = Frame::new(Kind::Vote, group, LogId::default(), vote.clone());
        let durable = self.record(frame, |state| state.index.groups.entry(group).or_default().vote = Some(vote));
        if mutant!("R03") { Box::pin(std::future::ready(Ok(()))) } else { durable }
    }

    /// Queues a committed position; clamped to what is durable when it is written. Not waited for.
    pub fn save_committed(&self, group: GroupId, committed: LogId) {
        let mut state = self.state();
        if state.check().is_err() {
            return;
        }
        let log = state.index.groups.entry(group).or_default();
        // Entries queued before this record are in its batch or an earlier one, so it can never be ahead of them on disk.
        let Some(last) = log.last() else { return };
        let committed = committed.min(last);
        if log.committed < Some(committed) {
            log.committed = Some(committed);
            state.queue.push(Frame::new(Kind::Committed, group, committed, Bytes::new()));
        }
    }

    /// Removes entries above `last` (exclusive; `None` = all). Ends when durable.
    pub fn truncate_after(&self, group: GroupId, last: Option<LogId>) -> BoxFuture<'static, io::Result<()>> {
        let last = last.unwrap_or_default();
        let frame = Frame::new(Kind::Truncate, group, last, Bytes::new());
        if mutant!("R07") {
            self.state().index.truncate_after(group, last.index);
            return Box::pin(std::future::ready(Ok(())));
        }
        self.record(frame, |state| state.index.truncate_after(group, last.index))
    }

    /// Raft needs nothing up to `upto` (inclusive) any more. Bytes stay for readers until released.
    pub fn purge(&self, group: GroupId, upto: LogId) -> BoxFuture<'static, io::Result<()>> {
        let frame = Frame::new(Kind::Purge, group, upto, Bytes::new());
        self.record(frame, |state| {
            let log = state.index.groups.entry(group).or_default();
            log.purged = log.purged.max(Some(upto));
        })
    }

    /// Readers need nothing below `index` any more; whole files without wanted records are recycled.
    pub fn release(&self, group: GroupId, index: u64) {
        let mut state = self.state();
        if state.check().is_err() || state.index.groups.get(&group).is_none_or(|log| log.retained_from >= index) {
            return;
        }
        state.index.release(group, index);
        state.queue.push(Frame::new(Kind::Release, group, LogId { term: 0, index }, Bytes::new()));
        drop(state);
        self.shared.work.notify_one();
    }

    /// Stores a snapshot taken by this replica.
    pub fn save_snapshot(&self, group: GroupId, snapshot: StoredSnapshot) -> BoxFuture<'static, io::Result<()>> {
        let frame = Frame::new(Kind::Snapshot, group, snapshot.last, encode_snapshot(&snapshot));
        self.record(frame, |state| state.index.groups.entry(group).or_default().snapshot = Some(snapshot))
    }

    /// Replaces the whole log of the group by a snapshot from a peer and the retained entries that came with it
    /// (all at or below `snapshot.last`). Atomic: after a crash either the old or the new is there.
    pub fn install(
        &self,
        group: GroupId,
        snapshot: StoredSnapshot,
        retained: Vec<JournalEntry>,
    ) -> BoxFuture<'static, io::Result<()>> {
        reached!("snapshot_installed");
        let frame = Frame::new(Kind::Install, group, snapshot.last, encode_snapshot(&snapshot));
        self.record(frame, |state| {
            let mut located = Vec::with_capacity(retained.len());
            for entry in retained {
                state.queue.push(entry_frame(Kind::Retained, group, &entry));
                state.cache(group, entry.id, entry.payload.len());
                let bytes = entry.payload.len() as u32;
                located.push((
                    entry.id.index,
                    EntryAt { term: entry.id.term, kind: entry.kind, file: 0, position: 0, bytes, payload: Some(entry.payload) },
                ));
            }
            state.index.install(group, snapshot, located);
        })
    }

    /// Entries of `range` (end exclusive), from memory or disk, stopping after the one that passes `bytes_max` (at least
    /// one if any is there). Missing indexes are an error, as is a payload whose checksum does not match.
    pub fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> BoxFuture<'static, io::Result<Vec<JournalEntry>>> {
        let found = self.locate(group, range, bytes_max);
        Box::pin(async move {
            let mut entries = Vec::new();
            for (index, at, file) in found? {
                let payload = match (at.payload, file) {
                    (Some(payload), _) => payload,
                    (None, Some(file)) => {
                        reached!("read_from_disk");
                        let bytes = file.read_at(at.position, FRAME_HEADER_BYTES + at.bytes as usize).await?;
                        let frame = Frame::decode(&bytes, at.file)
                            .filter(|frame| frame.id == LogId { term: at.term, index } && frame.group == group);
                        let damaged = || {
                            let what = format!(
                                "entry {}.{index} of {group} in {} at position={} does not match its checksum",
                                at.term,
                                recover::file_name(at.file),
                                at.position
                            );
                            io::Error::new(io::ErrorKind::InvalidData, what)
                        };
                        frame.ok_or_else(damaged)?.payload
                    }
                    (None, None) => {
                        return Err(io::Error::new(io::ErrorKind::NotFound, format!("entry {index} of {group} was released")));
                    }
                };
                entries.push(JournalEntry { id: LogId { term: at.term, index }, kind: at.kind, payload });
            }
            Ok(entries)
        })
    }

    #[allow(clippy::type_complexity)] // used once, by `read`
    fn locate(
        &self,
        group: GroupId,
        range: Range<u64>,
        bytes_max: usize,
    ) -> io::Result<Vec<(u64, EntryAt, Option<Arc<dyn DiskFile>>)>> {
        let state = self.state();
        if let Some((kind, what)) = &state.poisoned {
            return Err(io::Error::new(*kind, what.clone()));
        }
        let end = if mutant!("R11") && state.index.groups.get(&group).is_some_and(|log| log.end() > range.end) {
            range.end + 1
        } else {
            range.end
        };
        let (mut found, mut bytes) = (Vec::new(), 0);
        for index in range.start..end {
            let entry = state.index.groups.get(&group).and_then(|log| log.get(index));
            let entry = entry.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("entry {index} of {group} is not in the journal"))
            })?;
            found.push((index, entry.clone(), state.files.get(&entry.file).cloned()));
            bytes += entry.bytes as usize;
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(found)
    }

    /// Forgets the group, durably.
    pub fn drop_group(&self, group: GroupId) -> BoxFuture<'static, io::Result<()>> {
        let frame = Frame::new(Kind::Drop, group, LogId::default(), Bytes::new());
        self.record(frame, |state| state.index.drop_group(group))
    }

    /// Ends the writer after what is queued.
    pub async fn close(&self) {
        self.state().closing = true;
        self.shared.work.notify_one();
        loop {
            let ended = self.shared.ended.notified();
            if self.state().ended {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests;
