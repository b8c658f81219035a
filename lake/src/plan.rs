//! What the next tiering round of a table takes. Pure.

use floss_protocol::ids::TableBucket;
use std::collections::BTreeMap;

/// Where one bucket stands, all read at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketProgress {
    /// End offset that the lake's newest commit names for this bucket (exclusive); 0 for a bucket that it does not name.
    pub tiered_end: i64,
    /// Earliest offset that can still be read.
    pub log_start: i64,
    /// End of what is committed (exclusive). Nothing above is ever tiered: it may be replaced.
    pub high_watermark: i64,
    /// Bytes of log from `tiered_end` to `high_watermark`, as far as known. 0 although there are offsets: only empty batches.
    pub untiered_bytes: u64,
}

/// Offsets `start..end` of one bucket, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TieringRange {
    pub bucket: TableBucket,
    pub start: i64,
    pub end: i64,
}

/// One round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundPlan {
    /// What to read, by bucket.
    pub ranges: Vec<TieringRange>,
    /// What the round's commit says: an end offset for every bucket, also for those without a range.
    pub end_offsets: BTreeMap<TableBucket, i64>,
}

/// The recorded offsets contradict the log. The table's tiering stops and a person looks; guessing would lose or double rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("bucket {bucket}: tiered_end={tiered_end} above high_watermark={high_watermark}, the lake is ahead of the log")]
    LakeAhead { bucket: TableBucket, tiered_end: i64, high_watermark: i64 },
    #[error("bucket {bucket}: log_start={log_start} above tiered_end={tiered_end}, records are gone that were never tiered")]
    LogGone { bucket: TableBucket, tiered_end: i64, log_start: i64 },
}

/// Splits about `round_bytes` over the buckets that have something new, in proportion to what they have.
///
/// Keeps: I12. Each range starts where the lake ends, so rounds neither gap nor overlap. Every bucket with new offsets moves by at least
/// one, whatever the others have; one with only empty batches moves to its high watermark. So repeating it ends.
/// Shape: ends are by average record size, so a round may be larger than `round_bytes` where sizes vary.
/// Errors: `LakeAhead`, `LogGone`.
pub fn plan_round(buckets: &BTreeMap<TableBucket, BucketProgress>, round_bytes: u64) -> Result<RoundPlan, PlanError> {
    buckets.iter().try_for_each(|(bucket, progress)| check(*bucket, progress))?;
    let all_bytes = buckets.values().map(|progress| u128::from(progress.untiered_bytes)).sum();
    let mut plan = RoundPlan::default();
    for (bucket, progress) in buckets {
        let end = range_end(progress, u128::from(round_bytes), all_bytes);
        plan.end_offsets.insert(*bucket, end);
        if end > progress.tiered_end {
            plan.ranges.push(TieringRange { bucket: *bucket, start: progress.tiered_end, end });
        }
    }
    Ok(plan)
}

fn check(bucket: TableBucket, progress: &BucketProgress) -> Result<(), PlanError> {
    let BucketProgress { tiered_end, log_start, high_watermark, .. } = *progress;
    if tiered_end > high_watermark {
        return Err(PlanError::LakeAhead { bucket, tiered_end, high_watermark });
    }
    if log_start > tiered_end {
        return Err(PlanError::LogGone { bucket, tiered_end, log_start });
    }
    Ok(())
}

/// Where this bucket's range ends if the round takes `round_bytes` of `all_bytes`.
fn range_end(progress: &BucketProgress, round_bytes: u128, all_bytes: u128) -> i64 {
    let offsets = progress.high_watermark.abs_diff(progress.tiered_end);
    if offsets == 0 || progress.untiered_bytes == 0 || all_bytes <= round_bytes {
        return progress.high_watermark;
    }
    let share = u128::from(offsets).saturating_mul(round_bytes) / all_bytes;
    let taken = i64::try_from(share).unwrap_or(i64::MAX).max(1);
    // At most the high watermark, because the round takes less than everything.
    progress.tiered_end.saturating_add(taken).min(progress.high_watermark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_protocol::ids::{BucketId, TableId};
    use proptest::prelude::*;

    fn bucket(number: i32) -> TableBucket {
        TableBucket { table_id: TableId(7), partition_id: None, bucket: BucketId(number) }
    }

    fn progress(tiered_end: i64, high_watermark: i64, untiered_bytes: u64) -> BucketProgress {
        BucketProgress { tiered_end, log_start: 0, high_watermark, untiered_bytes }
    }

    #[test]
    fn a_small_backlog_is_taken_whole() {
        let buckets = BTreeMap::from([(bucket(0), progress(5, 9, 400)), (bucket(1), progress(3, 3, 0))]);
        let plan = plan_round(&buckets, 400).unwrap();
        assert_eq!(plan.ranges, [TieringRange { bucket: bucket(0), start: 5, end: 9 }]);
        assert_eq!(plan.end_offsets, BTreeMap::from([(bucket(0), 9), (bucket(1), 3)]));
    }

    #[test]
    fn a_large_backlog_is_shared_and_nobody_starves() {
        let large = progress(0, 1_000, 1_000_000);
        let buckets = BTreeMap::from([(bucket(0), large), (bucket(1), progress(10, 12, 20)), (bucket(2), progress(4, 8, 0))]);
        let plan = plan_round(&buckets, 100_000).unwrap();
        assert_eq!(plan.end_offsets, BTreeMap::from([(bucket(0), 99), (bucket(1), 11), (bucket(2), 8)]));
    }

    #[test]
    fn contradictions_stop_the_table() {
        let ahead = BTreeMap::from([(bucket(0), progress(6, 5, 0))]);
        assert_eq!(plan_round(&ahead, 1), Err(PlanError::LakeAhead { bucket: bucket(0), tiered_end: 6, high_watermark: 5 }));
        let gone = BTreeMap::from([(bucket(0), BucketProgress { log_start: 3, ..progress(2, 5, 9) })]);
        assert_eq!(plan_round(&gone, 1), Err(PlanError::LogGone { bucket: bucket(0), tiered_end: 2, log_start: 3 }));
    }

    proptest! {
        /// Rounds while the log grows, then rounds until nothing is left.
        #[test]
        fn rounds_cover_the_log_once(
            growth in prop::collection::vec(prop::collection::vec((0..40i64, 0..100u64), 3), 1..8), round_bytes in 0..2_000u64,
        ) {
            let mut buckets: BTreeMap<_, _> = (0..3).map(|number| (bucket(number), progress(0, 0, 0))).collect();
            // Average bytes of a record, by bucket, decide what is left.
            let mut covered: BTreeMap<TableBucket, i64> = BTreeMap::new();
            let rounds = growth.into_iter().map(Some).chain(std::iter::repeat_n(None, 300));
            for grown in rounds {
                for (number, (records, record_bytes)) in grown.into_iter().flatten().enumerate() {
                    let progress = buckets.get_mut(&bucket(number as i32)).unwrap();
                    progress.high_watermark += records;
                    progress.untiered_bytes += records as u64 * record_bytes;
                }
                let plan = plan_round(&buckets, round_bytes).unwrap();
                prop_assert_eq!(plan.end_offsets.len(), 3);
                for range in &plan.ranges {
                    prop_assert!(range.start < range.end);
                    prop_assert_eq!(range.start, covered.insert(range.bucket, range.end).unwrap_or(0), "no gap, no overlap");
                }
                for (bucket, progress) in &mut buckets {
                    let end = plan.end_offsets[bucket];
                    prop_assert_eq!(end, covered.get(bucket).copied().unwrap_or(0));
                    prop_assert!(end <= progress.high_watermark);
                    prop_assert!(end > progress.tiered_end || end == progress.high_watermark, "everybody moves");
                    let left = progress.high_watermark.abs_diff(end);
                    let before = progress.high_watermark.abs_diff(progress.tiered_end).max(1);
                    progress.untiered_bytes = progress.untiered_bytes * left / before;
                    progress.tiered_end = end;
                }
            }
            prop_assert!(buckets.values().all(|progress| progress.tiered_end == progress.high_watermark), "it ends");
        }
    }
}
