//! Idempotent writers: what each of them wrote last, so that a repeated batch is recognised (I7).

use floss_protocol::mutant;
use std::collections::{BTreeMap, VecDeque};

/// Clients keep at most five batches in flight per bucket, so an older one is never repeated.
pub const BATCHES_REMEMBERED: usize = 5;

/// One batch of an idempotent writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenBatch {
    pub sequence: i32,
    pub base_offset: i64,
    pub end_offset: i64,
    pub timestamp_ms: i64,
}

/// The sequence that must follow `sequence`: after 2^31-1 comes 0.
pub fn sequence_after(sequence: i32) -> i32 {
    if sequence == i32::MAX && !mutant!("W05") { 0 } else { sequence.wrapping_add(1) }
}

/// The last batches of every writer of a bucket, the oldest first. Ordered by writer id, so that replicas hold the same bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Writers {
    windows: BTreeMap<i64, VecDeque<WrittenBatch>>,
}

impl Writers {
    /// The newest batch of a writer; `None` if the writer is unknown.
    pub fn last(&self, writer_id: i64) -> Option<&WrittenBatch> {
        self.windows.get(&writer_id)?.back()
    }

    /// The remembered batch with this sequence.
    pub fn find(&self, writer_id: i64, sequence: i32) -> Option<&WrittenBatch> {
        self.windows.get(&writer_id)?.iter().rev().find(|batch| batch.sequence == sequence)
    }

    /// Adds the newest batch of a writer and forgets its sixth.
    pub fn record(&mut self, writer_id: i64, batch: WrittenBatch) {
        let window = self.windows.entry(writer_id).or_default();
        window.push_back(batch);
        let remembered = if mutant!("W03") { 1 } else { BATCHES_REMEMBERED };
        while window.len() > remembered {
            window.pop_front();
        }
    }

    pub fn any_silent_since(&self, before_ms: i64) -> bool {
        self.windows.values().any(|window| is_silent(window, before_ms))
    }

    /// Forgets writers whose newest batch is older than `before_ms`; returns how many.
    pub fn expire(&mut self, before_ms: i64) -> u32 {
        let known = self.windows.len();
        self.windows.retain(|_, window| !is_silent(window, before_ms));
        u32::try_from(known - self.windows.len()).unwrap_or(u32::MAX)
    }

    pub fn writer_count(&self) -> usize {
        self.windows.len()
    }

    /// Every writer with its window, by writer id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &VecDeque<WrittenBatch>)> {
        self.windows.iter().map(|(writer_id, window)| (*writer_id, window))
    }

    /// A number that differs (but for chance) if two replicas remember different things. FNV-1a over all fields.
    pub fn digest(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |number: i64| {
            for byte in number.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (writer_id, window) in &self.windows {
            add(*writer_id);
            add(window.len() as i64);
            for batch in window {
                [i64::from(batch.sequence), batch.base_offset, batch.end_offset, batch.timestamp_ms]
                    .into_iter()
                    .for_each(&mut add);
            }
        }
        hash
    }
}

fn is_silent(window: &VecDeque<WrittenBatch>, before_ms: i64) -> bool {
    window.back().is_none_or(|batch| batch.timestamp_ms < before_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sequence: i32) -> WrittenBatch {
        let base_offset = i64::from(sequence) * 10;
        WrittenBatch { sequence, base_offset, end_offset: base_offset + 10, timestamp_ms: i64::from(sequence) }
    }

    #[test]
    fn remembers_the_last_five() {
        let mut writers = Writers::default();
        (0..7).for_each(|sequence| writers.record(1, batch(sequence)));
        assert_eq!(writers.find(1, 1), None);
        assert_eq!(writers.find(1, 2), Some(&batch(2)));
        assert_eq!(writers.last(1), Some(&batch(6)));
        assert_eq!(writers.find(2, 6), None);
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0), 1);
        assert_eq!(sequence_after(i32::MAX), 0);
    }

    #[test]
    fn digest_sees_every_field() {
        let of = |batch| {
            let mut writers = Writers::default();
            writers.record(1, batch);
            writers.digest()
        };
        let base = batch(3);
        let changed = [
            WrittenBatch { sequence: 4, ..base },
            WrittenBatch { base_offset: 31, ..base },
            WrittenBatch { end_offset: 41, ..base },
            WrittenBatch { timestamp_ms: 4, ..base },
        ];
        assert!(changed.into_iter().all(|other| of(other) != of(base)));
        assert_ne!(of(base), Writers::default().digest());
    }
}
