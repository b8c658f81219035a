//! From offsets and timestamps to raft indexes.

use floss_protocol::mutant;
use std::collections::VecDeque;

/// One batch that can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedBatch {
    pub base_offset: i64,
    /// The entry that holds the batch; an entry may hold several.
    pub raft_index: u64,
    /// Largest commit timestamp of this batch and all before it, so that a search by time can halve.
    pub max_timestamp_ms: i64,
    /// Bytes of the batches before this one since the index was made. Only differences mean something.
    bytes_before: u64,
}

/// Every batch that can still be read, in offset order, 32 bytes each.
///
/// Keeps: I3. A batch ends where the next one starts; the last one ends at the tablet's log end.
#[derive(Debug, Default)]
pub struct OffsetIndex {
    batches: VecDeque<IndexedBatch>,
    /// Bytes of all batches since the index was made, dropped ones included.
    bytes_total: u64,
    /// Survives the dropping of batches.
    max_timestamp_ms: i64,
}

/// Equal for readers: what was dropped before does not count.
impl PartialEq for OffsetIndex {
    fn eq(&self, other: &Self) -> bool {
        let key = |(batch, bytes): (&IndexedBatch, u64)| (batch.base_offset, batch.raft_index, batch.max_timestamp_ms, bytes);
        self.max_timestamp_ms == other.max_timestamp_ms && self.iter().map(key).eq(other.iter().map(key))
    }
}

impl Eq for OffsetIndex {}

impl OffsetIndex {
    /// An index without batches behind a log whose largest timestamp so far was `max_timestamp_ms`.
    pub fn new(max_timestamp_ms: i64) -> Self {
        Self { batches: VecDeque::new(), bytes_total: 0, max_timestamp_ms }
    }

    /// Adds the batch at the end of the log.
    pub fn push(&mut self, raft_index: u64, base_offset: i64, timestamp_ms: i64, bytes: u64) {
        if let Some(last) = self.batches.back() {
            assert!(last.base_offset < base_offset, "batch at base_offset={base_offset} after {} (our code)", last.base_offset);
            assert!(last.raft_index <= raft_index, "entry raft_index={raft_index} after {} (our code)", last.raft_index);
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        let max_timestamp_ms = if mutant!("L07") { timestamp_ms } else { self.max_timestamp_ms };
        self.batches.push_back(IndexedBatch { base_offset, raft_index, max_timestamp_ms, bytes_before: self.bytes_total });
        self.bytes_total += bytes;
    }

    /// Drops the batches that end at or below `log_start`; `log_end` is where the last one ends.
    pub fn trim(&mut self, log_start: i64, log_end: i64) {
        while !self.batches.is_empty() {
            let end_offset = self.batches.get(1).map_or(log_end, |next| next.base_offset);
            if end_offset > log_start {
                return;
            }
            self.batches.pop_front();
        }
    }

    pub fn first(&self) -> Option<&IndexedBatch> {
        self.batches.front()
    }

    pub fn last(&self) -> Option<&IndexedBatch> {
        self.batches.back()
    }

    pub fn batch_count(&self) -> usize {
        self.batches.len()
    }

    pub fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms
    }

    /// The batch that holds `offset`: the last one that starts at or below it.
    pub fn floor(&self, offset: i64) -> Option<&IndexedBatch> {
        if mutant!("L06") {
            let ceiling = self.batches.partition_point(|batch| batch.base_offset < offset);
            return self.batches.get(ceiling);
        }
        let after = self.batches.partition_point(|batch| batch.base_offset <= offset);
        self.batches.get(after.checked_sub(1)?)
    }

    /// The first batch whose commit timestamp is `timestamp_ms` or later.
    pub fn first_since(&self, timestamp_ms: i64) -> Option<&IndexedBatch> {
        self.batches.get(self.batches.partition_point(|batch| batch.max_timestamp_ms < timestamp_ms))
    }

    /// Base offset of the first entry that has a batch of `timestamp_ms` or later; `None` if all entries are older.
    pub fn first_entry_since(&self, timestamp_ms: i64) -> Option<i64> {
        let raft_index = self.first_since(timestamp_ms)?.raft_index;
        let first = self.batches.partition_point(|batch| batch.raft_index < raft_index);
        self.batches.get(first).map(|batch| batch.base_offset)
    }

    /// Bytes of the batches from `batch` on.
    pub fn bytes_from(&self, batch: &IndexedBatch) -> u64 {
        self.bytes_total - batch.bytes_before
    }

    /// There were newer batches, dropped since.
    pub(crate) fn raise_max_timestamp_ms(&mut self, timestamp_ms: i64) {
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
    }

    /// Each batch and its bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&IndexedBatch, u64)> {
        let ends = self.batches.iter().skip(1).map(|next| next.bytes_before).chain([self.bytes_total]);
        self.batches.iter().zip(ends).map(|(batch, end)| (batch, end - batch.bytes_before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Batches of 10, 1 and 5 records in two entries, then one more.
    fn index() -> OffsetIndex {
        let mut index = OffsetIndex::new(0);
        index.push(4, 100, 1_000, 50);
        index.push(4, 110, 1_000, 60);
        index.push(7, 111, 1_500, 70);
        index.push(9, 116, 2_000, 80);
        index
    }

    #[test]
    fn floor_is_the_batch_that_holds_the_offset() {
        let index = index();
        let base = |offset| index.floor(offset).map(|batch| batch.base_offset);
        assert_eq!(base(99), None);
        assert_eq!(base(100), Some(100));
        assert_eq!(base(109), Some(100));
        assert_eq!(base(110), Some(110));
        assert_eq!(base(115), Some(111));
        assert_eq!(base(900), Some(116));
    }

    #[test]
    fn trim_keeps_the_batch_that_ends_above() {
        let mut trimmed = index();
        trimmed.trim(110, 120);
        assert_eq!(trimmed.first().map(|batch| batch.base_offset), Some(110));
        trimmed.trim(115, 120);
        assert_eq!(trimmed.first().map(|batch| batch.base_offset), Some(111));
        assert_eq!(trimmed.bytes_from(trimmed.first().unwrap()), 150);
        trimmed.trim(120, 120);
        assert_eq!(trimmed.first(), None);
        assert_eq!(trimmed.max_timestamp_ms(), 2_000);
    }

    #[test]
    fn an_entry_is_kept_whole() {
        let mut index = OffsetIndex::new(0);
        index.push(1, 0, 10, 1);
        index.push(2, 1, 10, 1);
        index.push(2, 2, 20, 1);
        assert_eq!(index.first_since(15).map(|batch| batch.base_offset), Some(2));
        assert_eq!(index.first_entry_since(15), Some(1));
        assert_eq!(index.first_entry_since(21), None);
    }

    proptest! {
        /// Timestamps that go back cannot come from our leader; the search must be right even then.
        #[test]
        fn searching_equals_walking(
            batches in prop::collection::vec((1i64..5, 0i64..50, 1u64..100), 1..40), trim in 0i64..100, wanted in 0i64..60,
        ) {
            let mut index = OffsetIndex::new(0);
            let mut model: Vec<(i64, i64, i64, u64)> = Vec::new();
            let mut end = 0;
            for (at, (records, timestamp_ms, bytes)) in batches.into_iter().enumerate() {
                index.push(at as u64, end, timestamp_ms, bytes);
                model.push((end, end + records, timestamp_ms, bytes));
                end += records;
            }
            let untrimmed = model.iter().find(|batch| batch.2 >= wanted).map(|batch| batch.0);
            prop_assert_eq!(index.first_since(wanted).map(|batch| batch.base_offset), untrimmed);
            let log_start = trim.min(end);
            index.trim(log_start, end);
            model.retain(|batch| batch.1 > log_start);
            for offset in log_start..end {
                let holder = model.iter().find(|batch| batch.0 <= offset && offset < batch.1).unwrap();
                prop_assert_eq!(index.floor(offset).unwrap().base_offset, holder.0);
            }
            let found: Vec<_> = index.iter().map(|(batch, bytes)| (batch.base_offset, bytes)).collect();
            prop_assert_eq!(found, model.iter().map(|batch| (batch.0, batch.3)).collect::<Vec<_>>());
        }
    }
}
