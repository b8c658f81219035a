//! What may be forgotten, and when. Pure: the answer goes through the log before anything is dropped.

use crate::log::offset_index::OffsetIndex;
use crate::log::writer_state::Writers;

/// A writer that was silent for longer is forgotten; its next batch starts at sequence 0 again.
pub const WRITER_SILENT_MS_MAX: i64 = 7 * 24 * 60 * 60 * 1000;

/// The log start if all entries older than `log_ttl_ms` go. Whole entries only; may be the log end.
///
/// `None`: nothing is due.
pub fn plan_trim(index: &OffsetIndex, log_end: i64, log_ttl_ms: i64, now_ms: i64) -> Option<i64> {
    let first = index.first()?.base_offset;
    let log_start = index.first_entry_since(now_ms.saturating_sub(log_ttl_ms)).unwrap_or(log_end);
    (log_start > first).then_some(log_start)
}

/// Writers whose last batch is older than the returned time may go. `None`: nobody was silent for long enough.
pub fn plan_writer_expiry(writers: &Writers, now_ms: i64) -> Option<i64> {
    let before_ms = now_ms.saturating_sub(WRITER_SILENT_MS_MAX);
    writers.any_silent_since(before_ms).then_some(before_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::writer_state::WrittenBatch;

    #[test]
    fn entries_go_once_they_are_older_than_the_ttl() {
        let mut index = OffsetIndex::new(0);
        index.push(1, 0, 1_000, 10);
        index.push(2, 3, 2_000, 10);
        assert_eq!(plan_trim(&index, 5, 100, 1_100), None);
        assert_eq!(plan_trim(&index, 5, 100, 1_101), Some(3));
        assert_eq!(plan_trim(&index, 5, 100, 2_101), Some(5));
        index.trim(5, 5);
        assert_eq!(plan_trim(&index, 5, 100, 9_000), None);
    }

    #[test]
    fn writers_go_after_seven_days_of_silence() {
        let mut writers = Writers::default();
        writers.record(7, WrittenBatch { sequence: 0, base_offset: 0, end_offset: 1, timestamp_ms: 5 });
        assert_eq!(plan_writer_expiry(&writers, WRITER_SILENT_MS_MAX + 5), None);
        assert_eq!(plan_writer_expiry(&writers, WRITER_SILENT_MS_MAX + 6), Some(6));
    }
}
