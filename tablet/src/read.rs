//! From offsets to raft indexes: what to read for a fetch, a limit scan, a timestamp; and which batches of an entry to send.

use crate::command::Command;
use crate::error::TabletError;
use crate::tablet::LogTablet;
use bytes::Bytes;
use floss_protocol::log_batch::{LogBatch, LogBatches};
use floss_protocol::mutant;
use std::ops::Range;

/// What a client sends instead of an offset to start at the log start.
pub const EARLIEST: i64 = -2;

/// Which entries answer a read. `indexes` (end exclusive) may hold entries without data; skip those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPlan {
    pub indexes: Range<u64>,
    /// First entry's data may start below the wanted offset: batches that end at or below `from_offset` are dropped.
    pub from_offset: i64,
    /// Batches that end above are dropped (I6).
    pub high_watermark: i64,
    pub log_start: i64,
    /// Bytes of batches in the range, as far as the index knows (for min_bytes).
    pub available_bytes: u64,
}

impl LogTablet {
    /// `offset` -2 = earliest. Below the log start or above the high watermark: `OffsetOutOfRange`; equal to it: empty range.
    pub fn plan_fetch(&self, offset: i64) -> Result<ReadPlan, TabletError> {
        let (log_start, log_end) = (self.log_start(), self.state.log_end);
        let high_watermark = self.high_watermark();
        let from_offset = if offset == EARLIEST { log_start } else { offset };
        if !(log_start..=high_watermark).contains(&from_offset) {
            return Err(TabletError::OffsetOutOfRange { offset, log_start, log_end: high_watermark });
        }
        let visible_end = if mutant!("L03") { i64::MAX } else { high_watermark };
        let applied = self.state.index.last().map_or(0, |last| last.raft_index + 1);
        let end = if visible_end > log_end { u64::MAX } else { applied };
        let first = if from_offset < log_end { self.state.index.floor(from_offset) } else { None };
        let start = first.map_or(applied, |first| first.raft_index);
        let available_bytes = first.map_or(0, |first| self.state.index.bytes_from(first));
        Ok(ReadPlan { indexes: start..end, from_offset, high_watermark: visible_end, log_start, available_bytes })
    }

    /// The last `limit` records (whole batches, so maybe some more in front). A limit of 0 or less: an empty range.
    pub fn plan_tail(&self, limit: i64) -> ReadPlan {
        let offset = self.high_watermark().saturating_sub(limit.max(0)).max(self.log_start());
        self.plan_fetch(offset).expect("the offset was clamped to what can be read")
    }

    /// Base offset of the first batch whose commit timestamp is >= `timestamp_ms`, else the high watermark.
    ///
    /// Errors: `FutureTimestamp`.
    pub fn offset_for_timestamp(&self, timestamp_ms: i64, now_ms: i64) -> Result<i64, TabletError> {
        if timestamp_ms > now_ms {
            return Err(TabletError::FutureTimestamp { found: timestamp_ms, now_ms });
        }
        let found = self.state.index.first_since(timestamp_ms);
        Ok(found.map_or(self.high_watermark(), |batch| batch.base_offset.max(self.log_start())))
    }
}

/// Walks the entries of a [`ReadPlan`], all of them and in order, and picks the batches that the reader gets.
///
/// An entry whose decision was stale when it was applied holds no data, although it holds batches: the walk repeats the
/// test of `apply` (term, then base offset) and skips it.
#[derive(Clone, Debug)]
pub struct EntryWalk {
    from_offset: i64,
    high_watermark: i64,
    /// Where the next entry that took effect starts; `None` before the first one, which took effect because the index named it.
    next_offset: Option<i64>,
}

/// What [`EntryWalk::cut`] found in one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryCut {
    /// Slices of the payload.
    pub batches: Vec<LogBatch>,
    /// The budget is used up or the high watermark reached: later entries have nothing for this reader.
    pub is_last: bool,
}

impl EntryWalk {
    pub fn new(plan: &ReadPlan) -> Self {
        Self { from_offset: plan.from_offset, high_watermark: plan.high_watermark, next_offset: None }
    }

    /// The wanted batches of the next entry, at most `bytes_max` bytes of them; the first one even if it is larger, if `at_least_one`.
    ///
    /// `payload` is empty for Raft's own entries.
    /// Errors: `CorruptCommand`, `CorruptBatch`.
    pub fn cut(
        &mut self,
        entry_term: u64,
        payload: &Bytes,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<EntryCut, TabletError> {
        let mut cut = EntryCut::default();
        if payload.is_empty() {
            return Ok(cut);
        }
        let Command::Append { decided_term, batches } = Command::decode(payload)? else { return Ok(cut) };
        if decided_term != entry_term {
            return Ok(cut);
        }
        let mut bytes_left = bytes_max;
        for batch in LogBatches::new(batches) {
            let batch =
                batch.map_err(|error| TabletError::CorruptBatch { position: error.position(), reason: error.to_string() })?;
            if self.next_offset.is_some_and(|next| next != batch.base_offset.0) {
                return Ok(cut);
            }
            let end_offset = batch.end_offset().0;
            if end_offset <= self.from_offset {
                self.next_offset = Some(end_offset);
                continue;
            }
            let is_over_budget = batch.total_bytes() > bytes_left && !(at_least_one && cut.batches.is_empty());
            if end_offset > self.high_watermark || is_over_budget {
                cut.is_last = true;
                return Ok(cut);
            }
            self.next_offset = Some(end_offset);
            bytes_left = bytes_left.saturating_sub(batch.total_bytes());
            cut.batches.push(batch);
        }
        Ok(cut)
    }
}
