//! Leader side of a put: decide against the pending tail and the store, make the changelog entry.

use super::changelog::{self, Change};
use super::decide::{Put, PutMode};
use super::fold::KvBucket;
use super::store::KvRow;
use super::table::KvTable;
use crate::error::TabletError;
use crate::log::writer_state::WrittenBatch;
use crate::prepare::{Lead, Prepared, Verdict, answer_duplicate};
use crate::tablet::LogTablet;
use bytes::Bytes;
use floss_protocol::kv_batch::KvBatch;
use floss_protocol::log_batch::LogBatch;
use floss_protocol::{mutant, reached};
use std::ops::Range;

/// Rows before compression and both images of an update make a changelog larger than the batch that it came from; beyond this many
/// times the largest batch it is refused.
const CHANGELOG_GROWTH_MAX: usize = 2;

/// One bucket's part of a PutKv.
#[derive(Clone, Debug)]
pub struct PutRequest {
    /// One KV batch.
    pub records: Bytes,
    /// Positions in the latest schema; empty = all.
    pub target_columns: Vec<i32>,
    pub mode: PutMode,
}

impl Lead {
    /// Decides a put and builds the entry with its one changelog batch. `ids` is shortened by those that were used.
    ///
    /// Shape: `kv` has folded everything that `tablet` has applied.
    /// Keeps: I7 (writer order; a duplicate changes nothing), I9 (before-images from the pending tail, else the store).
    /// Errors: `CorruptBatch`, `BatchTooLarge`, `UnknownSchema`, `OutOfOrderSequence`, `InvalidTargetColumns`, `UnsupportedPut`,
    /// `DeletionDisabled`, `InvalidRow`, `OutOfIds` (call again with more), `KvBehind`, `KvStore`; nothing is in flight then that
    /// was not before.
    pub fn prepare_put(
        &mut self,
        tablet: &LogTablet,
        kv: &KvBucket,
        request: &PutRequest,
        ids: &mut Range<i64>,
        now_ms: i64,
    ) -> Result<Prepared, TabletError> {
        self.in_flight.forget_applied(tablet.state.log_end);
        if kv.position().log_end != tablet.state.log_end {
            return Err(TabletError::KvBehind { folded: kv.position().log_end, applied: tablet.state.log_end });
        }
        self.pending.forget_applied(tablet.state.log_end);
        let batch_bytes_max = tablet.config.batch_bytes_max;
        let batch = read_batch(&request.records, batch_bytes_max)?;
        if let Some((writer, sequence)) = batch.writer()
            && let Verdict::Duplicate(original) = self.judge(tablet, writer.0, sequence)?
        {
            return Ok(answer_duplicate(tablet, original.base_offset, original.end_offset));
        }
        let put = Put {
            table: kv.table(),
            batch: &batch,
            target_columns: &request.target_columns,
            mode: request.mode,
            ids: ids.clone(),
            bytes_max: batch_bytes_max.saturating_mul(CHANGELOG_GROWTH_MAX),
        };
        let decision = put.decide(&mut |keys| self.lookup(kv, keys))?;
        let writer = batch.writer().map(|(writer, sequence)| (writer.0, sequence));
        if mutant!("K04") {
            drop(kv.store().write(kv.id(), &decision.rows, kv.position()));
        }
        let changelog = build(kv.table(), &decision.changes, writer)?;
        let base_offset = self.next_offset;
        let end_offset = base_offset + changelog.iter().map(|batch| batch.offset_count()).sum::<i64>();
        let timestamp_ms = self.last_timestamp_ms.max(now_ms);
        if let Some((writer_id, sequence)) = writer {
            let written = WrittenBatch { sequence, base_offset, end_offset, timestamp_ms };
            self.in_flight.push(Some(writer_id), written);
        }
        self.pending.push(end_offset, decision.rows);
        self.next_offset = end_offset;
        self.last_timestamp_ms = timestamp_ms;
        ids.start += decision.ids_used;
        if decision.changes.is_empty() {
            reached!("put_changed_nothing");
        }
        let entry = self.encode_append(&changelog, base_offset, timestamp_ms);
        Ok(Prepared::Propose { entry, base_offset, end_offset })
    }

    /// Old rows: what was decided last, else what is applied.
    fn lookup(&self, kv: &KvBucket, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, TabletError> {
        let mut found: Vec<Option<Option<Bytes>>> = keys.iter().map(|key| self.pending.get(key)).collect();
        let stored: Vec<Bytes> =
            keys.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(key, _)| key.clone()).collect();
        if !stored.is_empty() {
            let values = kv.reader().lookup(&stored).map_err(|error| TabletError::KvStore { reason: error.to_string() })?;
            let missing = found.iter_mut().filter(|found| found.is_none());
            missing.zip(values).for_each(|(missing, value)| *missing = Some(value));
        }
        Ok(found.into_iter().map(Option::flatten).collect())
    }

    /// Takes over what another lead had decided: what no lead may do (K02).
    pub fn keep_pending_of(&mut self, old: Self) {
        self.pending = old.pending;
    }

    /// What no reader may see before it is applied.
    pub fn pending_rows(&self) -> impl Iterator<Item = KvRow> + '_ {
        self.pending.iter()
    }

    /// Keys whose newest state is decided but not applied.
    pub fn pending_row_count(&self) -> usize {
        self.pending.len()
    }
}

/// The one batch of a put (K19: two).
fn build(table: &KvTable, changes: &[Change], writer: Option<(i64, i32)>) -> Result<Vec<LogBatch>, TabletError> {
    let parts = match changes.split_last() {
        Some((last, before)) if mutant!("K19") && !before.is_empty() => vec![before, std::slice::from_ref(last)],
        _ => vec![changes],
    };
    let batches = parts.into_iter().map(|part| {
        let batch = changelog::build(table, part, writer)?;
        Ok(LogBatch::read(&batch, 0).expect("built a line above"))
    });
    batches.collect()
}

fn read_batch(records: &Bytes, bytes_max: usize) -> Result<KvBatch, TabletError> {
    let corrupt = |reason: String| TabletError::CorruptBatch { position: 0, reason };
    if records.len() > bytes_max {
        return Err(TabletError::BatchTooLarge { found: records.len(), limit: bytes_max });
    }
    let batch = KvBatch::read(records).map_err(|error| corrupt(error.to_string()))?;
    batch.validate().map_err(|error| corrupt(error.to_string()))?;
    Ok(batch)
}
