//! openraft's log storage over one group of the journal.

use super::codec::{decode, encode, entry_from_journal, entry_to_journal, to_ours, to_theirs};
use super::{Entry, RaftLogId, RaftVote, Types};
use crate::journal::Journal;
use crate::types::{GroupId, LogId};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of one read for replication.
const READ_BYTES_MAX: usize = 8 << 20;

/// Clones share the group's log.
#[derive(Clone)]
pub struct LogStore {
    journal: Journal,
    group: GroupId,
    /// First index that readers still want, kept by the state machine.
    wanted_from: Arc<AtomicU64>,
}

impl LogStore {
    pub fn new(journal: Journal, group: GroupId, wanted_from: Arc<AtomicU64>) -> Self {
        Self { journal, group, wanted_from }
    }

    async fn read(&self, range: (u64, u64), bytes_max: usize) -> io::Result<Vec<Entry>> {
        let log = self.journal.group(self.group);
        let first = (log.purged.map_or(0, |purged| purged.index) + 1).max(log.retained_from);
        let end = log.last.map_or(0, |last| last.index) + 1;
        let (start, end) = (range.0.saturating_add(1).max(first), range.1.saturating_add(1).min(end));
        if start >= end {
            return Ok(Vec::new());
        }
        let entries = self.journal.read(self.group, start..end, bytes_max).await?;
        entries.into_iter().map(entry_from_journal).collect()
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read((start, end), usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        self.journal.group(self.group).vote.map(|vote| decode(&vote)).transpose()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read((start, end), READ_BYTES_MAX).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = self.journal.group(self.group);
        Ok(LogState { last_purged_log_id: log.purged.map(to_theirs), last_log_id: log.last.map(to_theirs) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.journal.save_vote(self.group, encode(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.journal.save_committed(self.group, to_ours(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.journal.group(self.group).committed.map(to_theirs))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(entry_to_journal).collect();
        self.journal.append(self.group, entries, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        let last: Option<LogId> = last.as_ref().map(to_ours);
        self.journal.truncate_after(self.group, last).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        self.journal.purge(self.group, to_ours(&upto)).await?;
        self.journal.release(self.group, self.wanted_from.load(Ordering::SeqCst));
        Ok(())
    }
}
