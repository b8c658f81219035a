//! One journal per node: every durable fact of every group, framed, written once, synced once.
//!
//! (The journal's owner replaces the bodies; the signatures are the seam that `adapter` and `host` build on.)

use crate::env::BoxFuture;
use crate::env::disk::Disk;
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use std::io;
use std::ops::Range;
use std::sync::Arc;

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
/// Order: operations on one group take effect and become durable in call order. After a failed sync it is poisoned: every
/// later call fails with the first error.
#[derive(Clone)]
pub struct Journal {}

impl Journal {
    /// Recovers what is on disk (cut torn tail, stop at corruption; see `recover`) and starts the writer task.
    pub async fn open(_disk: Arc<dyn Disk>, _config: JournalConfig) -> io::Result<Journal> {
        todo!()
    }

    /// Groups with any record.
    pub fn groups(&self) -> Vec<GroupId> {
        todo!()
    }

    /// State of one group; default for an unknown one.
    pub fn group(&self, _group: GroupId) -> GroupLog {
        todo!()
    }

    /// Queues entries. They are readable at return, durable when `on_durable` is called.
    pub fn append(&self, _group: GroupId, _entries: Vec<JournalEntry>, _on_durable: OnDurable) {
        todo!()
    }

    /// Queues a vote; the future ends when it is durable.
    pub fn save_vote(&self, _group: GroupId, _vote: Bytes) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }

    /// Queues a committed position; clamped to what is durable when it is written. Not waited for.
    pub fn save_committed(&self, _group: GroupId, _committed: LogId) {
        todo!()
    }

    /// Removes entries above `last` (exclusive; `None` = all). Ends when durable.
    pub fn truncate_after(&self, _group: GroupId, _last: Option<LogId>) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }

    /// Raft needs nothing up to `upto` (inclusive) any more. Bytes stay for readers until released.
    pub fn purge(&self, _group: GroupId, _upto: LogId) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }

    /// Readers need nothing below `index` any more; whole files without wanted records are recycled.
    pub fn release(&self, _group: GroupId, _index: u64) {
        todo!()
    }

    /// Stores a snapshot taken by this replica.
    pub fn save_snapshot(&self, _group: GroupId, _snapshot: StoredSnapshot) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }

    /// Replaces the whole log of the group by a snapshot from a peer and the retained entries that came with it
    /// (all at or below `snapshot.last`). Atomic: after a crash either the old or the new is there.
    pub fn install(
        &self,
        _group: GroupId,
        _snapshot: StoredSnapshot,
        _retained: Vec<JournalEntry>,
    ) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }

    /// Entries of `range` (end exclusive), from memory or disk, stopping after the one that passes `bytes_max` (at least
    /// one if any is there). Missing indexes are an error, as is a payload whose checksum does not match.
    pub fn read(
        &self,
        _group: GroupId,
        _range: Range<u64>,
        _bytes_max: usize,
    ) -> BoxFuture<'static, io::Result<Vec<JournalEntry>>> {
        todo!()
    }

    /// Forgets the group, durably.
    pub fn drop_group(&self, _group: GroupId) -> BoxFuture<'static, io::Result<()>> {
        todo!()
    }

    /// Ends the writer after what is queued.
    pub async fn close(&self) {
        todo!()
    }
}
