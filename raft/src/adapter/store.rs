//! openraft's log storage over one group of the journal.

use super::codec::{decode, encode, entry_from_journal, entry_to_journal, to_ours, to_theirs};
use super::{Entry, RaftLogId, RaftVote, Shared, Types};
use crate::journal::{Journal, JournalEntry};
use crate::types::{GroupId, LogId};
use floss_protocol::{mutant, reached};
use futures_util::{Stream, StreamExt};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Clones share the group's log.
#[derive(Clone)]
pub struct LogStore {
    journal: Journal,
    group: GroupId,
    shared: Arc<Shared>,
}

impl LogStore {
    pub fn new(journal: Journal, group: GroupId, shared: Arc<Shared>) -> Self {
        Self { journal, group, shared }
    }

    /// Waits until an entry with `id` has its place. openraft may append behind a snapshot that the machine has not installed
    /// yet; the journal takes no entry that leaves a hole.
    async fn follows(&self, id: LogId) -> io::Result<()> {
        loop {
            let told = self.shared.installed.notified();
            self.check_whole()?;
            let last = self.journal.group(self.group).last.map_or(0, |last| last.index);
            if id.index <= last + 1 || (last == 0 && !self.shared.installing.load(Ordering::SeqCst)) {
                return Ok(());
            }
            reached!("append_waited_for_install");
            told.await;
        }
    }

    /// A replica that lost an append must not go on: openraft may ask for those entries, to apply them, before it hears of the loss,
    /// and would take what is missing for applied.
    fn check_whole(&self) -> io::Result<()> {
        if self.shared.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other(format!("the replica of {} is broken", self.group)));
        }
        Ok(())
    }

    async fn read(&self, range: (u64, u64), bytes_max: usize) -> io::Result<Vec<Entry>> {
        self.check_whole()?;
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

fn bounds(range: impl RangeBounds<u64>) -> (u64, u64) {
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
    (start, end)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        self.read(bounds(range), usize::MAX).await
    }

    /// In pieces: what is to be applied after a long absence may be far more than memory.
    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(range);
        let pieces = futures_util::stream::unfold((self.clone(), start), move |(store, start)| async move {
            if start >= end {
                return None;
            }
            let read = store.read((start, end), store.journal.read_bytes_max()).await;
            let next = match &read {
                Ok(entries) => entries.last().map_or(end, |last| last.log_id.index + 1),
                Err(_) => end,
            };
            if next < end {
                reached!("log_read_in_pieces");
            }
            Some((read, (store, next)))
        });
        pieces.flat_map(|read| {
            let (entries, error) = match read {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            futures_util::stream::iter(entries.into_iter().map(Ok).chain(error.map(Err)))
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        self.journal.group(self.group).vote.map(|vote| decode(&vote)).transpose()
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read((start, end), self.journal.read_bytes_max()).await
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
        let entries: Vec<JournalEntry> = entries.into_iter().map(entry_to_journal).collect();
        if let Some(first) = entries.first() {
            self.follows(first.id).await?;
        }
        let shared = self.shared.clone();
        let told = move |result: io::Result<()>| {
            if result.is_err() {
                shared.end();
            }
            callback.io_completed(result);
        };
        self.journal.append(self.group, entries, Box::new(told));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        let last: Option<LogId> = last.as_ref().map(to_ours);
        self.journal.truncate_after(self.group, last).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let upto = to_ours(&upto);
        let upto = if mutant!("R08") { self.journal.group(self.group).committed.unwrap_or(upto) } else { upto };
        self.journal.purge(self.group, upto).await?;
        self.journal.release(self.group, self.shared.wanted_from.load(Ordering::SeqCst));
        Ok(())
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
