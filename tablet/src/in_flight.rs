//! What a leader has proposed and not yet seen applied.

use crate::log::writer_state::WrittenBatch;
use std::collections::{BTreeMap, VecDeque};

/// Batches in the order of their offsets, with a way to find those of one writer.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    /// Writer (-1 = not idempotent) and end offset of each batch.
    order: VecDeque<(i64, i64)>,
    /// Of each idempotent writer, the oldest first. No empty windows.
    by_writer: BTreeMap<i64, VecDeque<WrittenBatch>>,
}

impl InFlight {
    pub fn push(&mut self, writer_id: Option<i64>, batch: WrittenBatch) {
        self.order.push_back((writer_id.unwrap_or(-1), batch.end_offset));
        if let Some(writer_id) = writer_id {
            self.by_writer.entry(writer_id).or_default().push_back(batch);
        }
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Takes back the newest batches until `len` are left.
    pub fn cut(&mut self, len: usize) {
        while self.order.len() > len {
            if let Some((writer_id, _)) = self.order.pop_back() {
                self.drop_from(writer_id, VecDeque::pop_back);
            }
        }
    }

    /// Forgets what ends at or below `applied_end`: the tablet knows it now.
    pub fn forget_applied(&mut self, applied_end: i64) {
        while let Some((writer_id, end_offset)) = self.order.front().copied() {
            if end_offset > applied_end {
                return;
            }
            self.order.pop_front();
            self.drop_from(writer_id, VecDeque::pop_front);
        }
    }

    fn drop_from(&mut self, writer_id: i64, pop: fn(&mut VecDeque<WrittenBatch>) -> Option<WrittenBatch>) {
        if let Some(window) = self.by_writer.get_mut(&writer_id) {
            pop(window);
            if window.is_empty() {
                self.by_writer.remove(&writer_id);
            }
        }
    }

    pub fn find(&self, writer_id: i64, sequence: i32) -> Option<&WrittenBatch> {
        self.by_writer.get(&writer_id)?.iter().rev().find(|batch| batch.sequence == sequence)
    }

    /// The newest batch of a writer.
    pub fn last(&self, writer_id: i64) -> Option<&WrittenBatch> {
        self.by_writer.get(&writer_id)?.back()
    }
}
