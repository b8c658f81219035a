//! One journal per node: every durable fact of every group, framed, written once, synced once.
//!
//! A sequence of pre-written, recycled files. Whatever is queued, over all groups, becomes one batch: one write, one sync, then
//! the answers, in order. An entry's payload is the data that readers get: there is no second copy.
//!
//! Each file begins with a checkpoint of what every group stands at, so a file is recycled as soon as nobody wants an entry
//! of it. What Raft needs no more is *purged*; what readers need no more is *released*; only released entries free space.
//!
//! An entry larger than a file gets a file of its own size, which is removed, not recycled. Snapshots are repeated in every
//! checkpoint: they are meant to be small. In memory the journal holds 32 bytes per entry, the snapshots, and a bounded cache
//! of payloads.
//!
//! Absent: a bound on the journal's size (moving old entries into sealed per-bucket segments comes later, behind
//! [`Journal::read`]); a checkpoint of the entry index, so a start reads all files; several writes in flight.
//!
//! Reading order: `frame` (bytes), `mark` and `index` (what they mean), `recover` (bytes to memory), `state` (queue and cache), `writer`
//! (memory to bytes), `shelf` (files), `read`.

pub mod frame;
mod index;
mod mark;
mod read;
pub mod recover;
mod shelf;
mod state;
mod writer;

pub use shelf::file_name;

use crate::env::BoxFuture;
use crate::env::disk::Disk;
use crate::env::runtime::sync::{Notify, oneshot};
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use floss_protocol::mutant;
use frame::{Frame, Kind, PAYLOAD_BYTES_MAX};
use index::Place;
use mark::SnapshotRecord;
use state::{Shared, State};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Sizes. `file_bytes` are pre-written at creation and recycled.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Directory below the disk's root.
    pub dir: String,
    pub file_bytes: u64,
    /// Recent entries kept in memory for replication, apply and tail reads, over all groups.
    pub cache_bytes_max: u64,
    /// One read of a file takes at most this much, and so do the pieces in which a long log is replicated, applied or folded (an
    /// entry that is longer is read whole).
    pub read_bytes_max: usize,
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
/// later call fails with the first error. Calls that contradict what the group stands at (a gap, an install that does not fit)
/// are `InvalidInput` and change nothing.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

type Durable = BoxFuture<'static, io::Result<()>>;

impl Journal {
    /// Recovers what is on disk (cut torn tail, stop at corruption; see `recover`) and starts the writer task.
    pub async fn open(disk: Arc<dyn Disk>, config: JournalConfig) -> io::Result<Journal> {
        disk.create_dir(&config.dir).await?;
        let mut recovered = recover::recover(&*disk, &config.dir).await?;
        let shelf = Arc::new(shelf::Shelf::new(disk.clone(), config.dir.clone(), config.file_bytes));
        shelf.sort(&recovered.unused).await?;
        let index = std::mem::take(&mut recovered.index);
        let marks = index.marks();
        let state = Mutex::new(State::new(index, std::mem::take(&mut recovered.files)));
        let shared = Arc::new(Shared { config, state, work: Notify::new(), ended: Notify::new() });
        let mut writer = writer::Writer::new(shared.clone(), shelf, recovered, marks);
        writer.start().await?;
        crate::env::runtime::spawn(writer.run());
        Ok(Journal { shared })
    }

    /// Groups with any record.
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared.state().index.groups.keys().copied().collect()
    }

    /// See [`JournalConfig`].
    pub fn read_bytes_max(&self) -> usize {
        self.shared.config.read_bytes_max
    }

    /// State of one group; default for an unknown one.
    pub fn group(&self, group: GroupId) -> GroupLog {
        self.shared.state().index.groups.get(&group).map(|log| log.mark.log()).unwrap_or_default()
    }

    /// Queues entries. They are readable at return, durable when `on_durable` is called.
    pub fn append(&self, group: GroupId, entries: Vec<JournalEntry>, on_durable: OnDurable) {
        let mut state = self.shared.state();
        if let Err(error) = state.check_open().and_then(|()| check_append(&state, group, &entries)) {
            drop(state);
            return on_durable(Err(error));
        }
        for entry in entries {
            if let Err(error) = state.push(Frame::of_entry(Kind::Entry, group, entry)) {
                drop(state);
                return on_durable(Err(error));
            }
        }
        state.tell(on_durable);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Queues frames that belong together, and gives a future that ends when they are durable.
    fn record(&self, frames: Vec<Frame>, check: impl FnOnce(&State) -> io::Result<()>) -> Durable {
        let (told, durable) = oneshot::channel();
        let mut state = self.shared.state();
        let queued = state.check_open().and_then(|()| check(&state));
        let queued = queued.and_then(|()| frames.into_iter().try_for_each(|frame| state.push(frame)));
        if let Err(error) = queued {
            return Box::pin(std::future::ready(Err(error)));
        }
        state.tell(Box::new(move |result| _ = told.send(result)));
        drop(state);
        self.shared.work.notify_one();
        Box::pin(async move {
            durable.await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::BrokenPipe, "the journal's writer is gone")))
        })
    }

    /// Ends when everything queued so far is durable.
    pub fn settled(&self) -> Durable {
        self.record(Vec::new(), |_| Ok(()))
    }

    /// Queues a vote; the future ends when it is durable.
    pub fn save_vote(&self, group: GroupId, vote: Bytes) -> Durable {
        let durable = self.record(vec![Frame::new(Kind::Vote, group, LogId::default(), vote)], |_| Ok(()));
        if mutant!("R03") { Box::pin(std::future::ready(Ok(()))) } else { durable }
    }

    /// Queues a committed position. Not waited for: it rides along with the next write, or is written after a while.
    ///
    /// What is written never lies beyond the entries that are durable by then: at most it names the newest one queued before it.
    pub fn save_committed(&self, group: GroupId, committed: LogId) {
        let mut state = self.shared.state();
        let Some(log) = state.index.groups.get(&group).filter(|_| state.check_open().is_ok()) else { return };
        let clamped = log.clamp_committed(committed);
        if clamped <= log.mark.committed {
            return;
        }
        let frame = Frame::new(Kind::Committed, group, clamped.unwrap_or_default(), Bytes::new());
        state.push(frame).expect("noting a position contradicts nothing");
        drop(state);
        self.shared.work.notify_one();
    }

    /// Removes entries above `last` (exclusive; `None` = all). Ends when durable.
    pub fn truncate_after(&self, group: GroupId, last: Option<LogId>) -> Durable {
        let last = last.unwrap_or_default();
        let frame = Frame::new(Kind::Truncate, group, last, Bytes::new());
        if mutant!("R07") {
            let forgotten = self.shared.state().index.apply(&frame, Place::Queued { number: 0 });
            return Box::pin(std::future::ready(forgotten.map_err(io::Error::other)));
        }
        self.record(vec![frame], |state| {
            let purged = state.index.groups.get(&group).and_then(|log| log.mark.purged);
            match purged.filter(|purged| purged.index > last.index) {
                Some(purged) => Err(invalid(format!("{group}: truncate after {last}, but purged to {purged}"))),
                None => Ok(()),
            }
        })
    }

    /// Raft needs nothing up to `upto` (inclusive) any more. Bytes stay for readers until released.
    pub fn purge(&self, group: GroupId, upto: LogId) -> Durable {
        self.record(vec![Frame::new(Kind::Purge, group, upto, Bytes::new())], |_| Ok(()))
    }

    /// Readers need nothing below `index` any more; whole files without wanted records are recycled.
    ///
    /// What is not purged is kept whatever `index` says; call again after the next purge.
    pub fn release(&self, group: GroupId, index: u64) {
        let mut state = self.shared.state();
        let Some(log) = state.index.groups.get(&group).filter(|_| state.check_open().is_ok()) else { return };
        let mut after = log.mark.clone();
        after.release(index);
        if after.start == log.mark.start {
            return;
        }
        let frame = Frame::new(Kind::Release, group, LogId { term: 0, index: after.start }, Bytes::new());
        state.push(frame).expect("a release contradicts nothing");
        drop(state);
        self.shared.work.notify_one();
    }

    /// Stores a snapshot taken by this replica.
    pub fn save_snapshot(&self, group: GroupId, snapshot: StoredSnapshot) -> Durable {
        let (last, retained_from) = (snapshot.last, snapshot.last.index + 1);
        let payload = SnapshotRecord { snapshot, retained_from }.encode();
        self.record(vec![Frame::new(Kind::Snapshot, group, last, payload.clone())], |_| check_payload(group, &payload))
    }

    /// Replaces the log of the group up to `snapshot.last` by a snapshot from a peer and the retained entries that came with it
    /// (contiguous, the last of them at `snapshot.last`, or none). Entries above stay: Raft decides whether they fit. Atomic: after a
    /// crash either the old or the new is there.
    pub fn install(&self, group: GroupId, snapshot: StoredSnapshot, retained: Vec<JournalEntry>) -> Durable {
        let last = snapshot.last;
        let retained_from = retained.first().map_or(last.index + 1, |entry| entry.id.index);
        let fits = (retained_from..).zip(&retained).all(|(index, entry)| entry.id.index == index)
            && retained_from + retained.len() as u64 == last.index + 1;
        let too_long = retained.iter().find_map(|entry| check_payload(group, &entry.payload).err());
        let count = retained.len();
        let payload = SnapshotRecord { snapshot, retained_from }.encode();
        let mut frames: Vec<Frame> = retained.into_iter().map(|entry| Frame::of_entry(Kind::Retained, group, entry)).collect();
        frames.push(Frame::new(Kind::Install, group, last, payload.clone()));
        let durable = self.record(frames, |state| {
            if let Some(error) = too_long {
                return Err(error);
            }
            check_payload(group, &payload)?;
            if !fits {
                return Err(invalid(format!("{group}: install at {last} with {count} entries from index={retained_from}")));
            }
            let snapshot = state.index.groups.get(&group).and_then(|log| log.mark.snapshot.as_ref());
            match snapshot.filter(|snapshot| snapshot.last > last) {
                Some(newer) => Err(invalid(format!("{group}: install at {last}, but a snapshot at {} is here", newer.last))),
                None => Ok(()),
            }
        });
        if mutant!("R21") { Box::pin(std::future::ready(Ok(()))) } else { durable }
    }

    /// Entries of `range` (end exclusive), from memory or disk, stopping after the one that passes `bytes_max` (at least
    /// one if any is there). Missing indexes are an error, as is a payload whose checksum does not match.
    pub fn read(&self, group: GroupId, range: Range<u64>, bytes_max: usize) -> BoxFuture<'static, io::Result<Vec<JournalEntry>>> {
        read::read(self.shared.clone(), group, range, bytes_max)
    }

    /// Forgets the group, durably: also its vote, so nobody may come back to it under the same identity.
    pub fn drop_group(&self, group: GroupId) -> Durable {
        self.record(vec![Frame::new(Kind::Drop, group, LogId::default(), Bytes::new())], |_| Ok(()))
    }

    /// Ends the writer after what is queued.
    pub async fn close(&self) {
        self.shared.state().closing = true;
        self.shared.work.notify_one();
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.state().ended {
                return;
            }
            ended.await;
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn check_payload(group: GroupId, payload: &Bytes) -> io::Result<()> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(invalid(format!("{group}: a payload of {} bytes, at most {PAYLOAD_BYTES_MAX}", payload.len())));
    }
    Ok(())
}

/// Entries follow what is there, and one another.
fn check_append(state: &State, group: GroupId, entries: &[JournalEntry]) -> io::Result<()> {
    let mut next = state.index.groups.get(&group).and_then(|log| log.mark.next());
    for entry in entries {
        check_payload(group, &entry.payload)?;
        if let Some(next) = next.filter(|next| *next != entry.id.index) {
            return Err(invalid(format!("{group}: append at index={}, expected {next}", entry.id.index)));
        }
        next = Some(entry.id.index + 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
