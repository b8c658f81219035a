//! Leader side: reads state, decides, changes nothing that is replicated.

use crate::command::{APPEND_HEADER_BYTES, Command, append_header};
use crate::error::TabletError;
use crate::in_flight::InFlight;
use crate::kv::pending::Pending;
use crate::log::retention;
use crate::log::writer_state::{WrittenBatch, sequence_after};
use crate::tablet::{LogTablet, TabletConfig, acked_offset, ignores_pending_tail};
use bytes::{BufMut, Bytes};
use floss_protocol::ids::LogOffset;
use floss_protocol::log_batch::{LogBatch, LogBatchError, LogBatches, Stamp, stamp_all};
use floss_protocol::schema::LogFormat;
use floss_protocol::{mutant, reached};

/// What the leader of a term knows beyond the applied state: the tail that it has proposed but not yet seen applied.
/// Made anew on every gain of leadership, dropped on its loss.
///
/// The contract with whoever proposes:
/// - `new` is called when this term's first entry is applied and nothing that an earlier `Lead` decided is still under way in this
///   term; then the applied state is the whole truth.
/// - Entries are proposed in the order in which they were prepared, each at most once.
/// - If one proposal fails, or is applied as [`crate::effects::Applied::Stale`], the `Lead` is dropped: what it believes to be in
///   flight may never come to be. Entries that were prepared after the failed one start at offsets that the log does not
///   reach, so `apply` turns them into `Stale`; all of them have an end before a new `Lead` is made.
#[derive(Debug)]
pub struct Lead {
    term: u64,
    pub(crate) in_flight: InFlight,
    /// Rows of the pending tail; empty for log tables.
    pub(crate) pending: Pending,
    /// End of the pending tail: where the next batch starts.
    pub(crate) next_offset: i64,
    /// Commit timestamp of the pending tail's newest batch; never goes back.
    pub(crate) last_timestamp_ms: i64,
    /// Log start of the newest trim that was proposed.
    trimmed_to: i64,
    /// Writers silent since before this are as good as forgotten: that command is under way.
    expired_before_ms: i64,
}

/// What to do with one bucket's `records` of a ProduceLog.
#[derive(Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Propose `entry` (an encoded `Command::Append`); the answer is `base_offset` once applied.
    Propose { entry: Bytes, base_offset: i64, end_offset: i64 },
    /// All batches are duplicates of ones already applied: success with the original first offset.
    Duplicate { base_offset: i64, end_offset: i64 },
    /// Duplicates of ones still in flight: success with `base_offset` once the high watermark reaches `end_offset`.
    DuplicateInFlight { base_offset: i64, end_offset: i64 },
}

/// What the sequence of one batch means.
pub(crate) enum Verdict {
    New,
    Duplicate(WrittenBatch),
}

impl Lead {
    /// `tablet` must have applied this term's first entry.
    pub fn new(tablet: &LogTablet, term: u64) -> Self {
        Self {
            term,
            in_flight: InFlight::default(),
            pending: Pending::default(),
            next_offset: tablet.state.log_end,
            last_timestamp_ms: tablet.last_commit_timestamp_ms(),
            trimmed_to: tablet.log_start(),
            expired_before_ms: i64::MIN,
        }
    }

    /// Validates `records` (CRC, sizes, schema id, writer sequence), assigns offsets, stamps base offset and commit timestamp.
    ///
    /// Shape: one or more whole batches back to back; all are taken or, after an error, none. Duplicates among new batches are
    /// left out and the answer is the first offset that the new ones took (official clients send one batch per bucket, so
    /// this is nobody's normal case).
    /// Keeps: I3 (dense), I7 (writer order).
    /// Errors: `CorruptBatch`, `BatchTooLarge`, `UnknownSchema`, `OutOfOrderSequence`; nothing is in flight then that was not before.
    pub fn prepare_append(&mut self, tablet: &LogTablet, records: Bytes, now_ms: i64) -> Result<Prepared, TabletError> {
        self.in_flight.forget_applied(tablet.state.log_end);
        let batches = validate(&tablet.config, &records)?;
        let in_flight_before = self.in_flight.len();
        let base_offset = if ignores_pending_tail() { tablet.state.log_end } else { self.next_offset };
        let timestamp_ms = self.last_timestamp_ms.max(now_ms);
        let mut end_offset = base_offset;
        let mut fresh = Vec::with_capacity(batches.len());
        let mut duplicates: Option<(i64, i64)> = None;
        for batch in batches {
            let verdict = match batch.writer() {
                Some((writer, sequence)) => self.judge(tablet, writer.0, sequence),
                None => Ok(Verdict::New),
            };
            match verdict {
                Ok(Verdict::New) => {
                    let from = end_offset;
                    end_offset += batch.offset_count();
                    let written = WrittenBatch { sequence: batch.batch_sequence, base_offset: from, end_offset, timestamp_ms };
                    self.in_flight.push(batch.writer().map(|(writer, _)| writer.0), written);
                    fresh.push(batch);
                }
                Ok(Verdict::Duplicate(original)) => {
                    let (first, end) = duplicates.unwrap_or((original.base_offset, original.end_offset));
                    duplicates = Some((first, end.max(original.end_offset)));
                }
                Err(error) => {
                    self.in_flight.cut(in_flight_before);
                    return Err(error);
                }
            }
        }
        if let (true, Some((first, end))) = (fresh.is_empty(), duplicates) {
            return Ok(answer_duplicate(tablet, first, end));
        }
        self.next_offset = end_offset;
        self.last_timestamp_ms = timestamp_ms;
        let entry = self.encode_append(&fresh, base_offset, timestamp_ms);
        Ok(Prepared::Propose { entry, base_offset: acked_offset(base_offset, end_offset), end_offset })
    }

    /// Applies the rules of idempotence to one batch of a writer: against what is applied and what is in flight.
    pub(crate) fn judge(&self, tablet: &LogTablet, writer_id: i64, sequence: i32) -> Result<Verdict, TabletError> {
        if let Some(original) = self.in_flight.find(writer_id, sequence) {
            return Ok(Verdict::Duplicate(*original));
        }
        let applied = &tablet.state.writers;
        let is_known = applied.last(writer_id).is_some_and(|last| last.timestamp_ms >= self.expired_before_ms);
        if let (true, Some(original)) = (is_known, applied.find(writer_id, sequence)) {
            return Ok(Verdict::Duplicate(*original));
        }
        let last = self.in_flight.last(writer_id).or_else(|| applied.last(writer_id).filter(|_| is_known));
        let expected = last.map_or(0, |last| sequence_after(last.sequence));
        if sequence != expected {
            reached!("sequence_refused");
            return Err(TabletError::OutOfOrderSequence { writer_id, found: sequence, expected });
        }
        Ok(Verdict::New)
    }

    pub(crate) fn encode_append(&self, batches: &[LogBatch], base_offset: i64, commit_timestamp_ms: i64) -> Bytes {
        let mut entry = append_header(self.term, batches.iter().map(|batch| batch.total_bytes()).sum());
        batches.iter().for_each(|batch| entry.put_slice(batch.bytes()));
        let leader_epoch = i32::try_from(self.term).unwrap_or(i32::MAX);
        let stamp = Stamp { base_offset: LogOffset(base_offset), commit_timestamp_ms, leader_epoch };
        stamp_all(&mut entry[APPEND_HEADER_BYTES..], stamp).expect("these batches were read a moment ago");
        entry.freeze()
    }

    /// Retention and writer expiry that are due, as encoded commands.
    ///
    /// Each is returned once; what it does is visible when it is applied.
    pub fn prepare_upkeep(&mut self, tablet: &LogTablet, now_ms: i64) -> Vec<Bytes> {
        let mut due = Vec::new();
        let state = &tablet.state;
        let trim = tablet.config.log_ttl_ms.and_then(|ttl_ms| retention::plan_trim(&state.index, state.log_end, ttl_ms, now_ms));
        if let Some(log_start) = trim.filter(|log_start| *log_start > self.trimmed_to) {
            self.trimmed_to = log_start;
            due.push(Command::Trim { decided_term: self.term, log_start }.encode());
        }
        let expiry = retention::plan_writer_expiry(&state.writers, now_ms);
        if let Some(before_ms) = expiry.filter(|before_ms| *before_ms > self.expired_before_ms) {
            self.expired_before_ms = before_ms;
            due.push(Command::ExpireWriters { decided_term: self.term, before_ms }.encode());
        }
        due
    }
}

pub(crate) fn answer_duplicate(tablet: &LogTablet, base_offset: i64, end_offset: i64) -> Prepared {
    let base_offset = if mutant!("W06") { tablet.state.log_end } else { base_offset };
    if end_offset > tablet.state.log_end {
        reached!("duplicate_in_flight");
        Prepared::DuplicateInFlight { base_offset, end_offset }
    } else {
        reached!("duplicate_answered");
        Prepared::Duplicate { base_offset, end_offset }
    }
}

/// The batches of `records`, each known to be whole and acceptable to this table.
fn validate(config: &TabletConfig, records: &Bytes) -> Result<Vec<LogBatch>, TabletError> {
    if records.is_empty() {
        return Err(TabletError::CorruptBatch { position: 0, reason: "no batch".to_string() });
    }
    LogBatches::new(records.clone()).map(|batch| validate_batch(config, batch)).collect()
}

fn validate_batch(config: &TabletConfig, batch: Result<LogBatch, LogBatchError>) -> Result<LogBatch, TabletError> {
    let corrupt = |error: LogBatchError| TabletError::CorruptBatch { position: error.position(), reason: error.to_string() };
    let batch = batch.map_err(corrupt)?;
    if batch.total_bytes() > config.batch_bytes_max {
        return Err(TabletError::BatchTooLarge { found: batch.total_bytes(), limit: config.batch_bytes_max });
    }
    batch.validate().map_err(corrupt)?;
    let found = batch.schema_id.0;
    if !(1..=config.latest_schema_id).contains(&found) {
        return Err(TabletError::UnknownSchema { found, latest: config.latest_schema_id });
    }
    match config.log_format {
        LogFormat::Arrow => batch.validate_change_types(),
        LogFormat::Indexed | LogFormat::Compacted => batch.validate_rows(),
    }
    .map_err(corrupt)?;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_protocol::ids::SchemaId;
    use floss_protocol::log_batch::{ChangeType, LogBatchBuilder, Magic};

    fn tablet() -> LogTablet {
        let log_format = LogFormat::Compacted;
        LogTablet::new(TabletConfig { latest_schema_id: 2, batch_bytes_max: 200, log_format, log_ttl_ms: None })
    }

    fn rows(count: usize) -> LogBatchBuilder {
        LogBatchBuilder::rows(SchemaId(1), vec![(ChangeType::AppendOnly, b"row".as_slice()); count])
    }

    fn refused(records: Bytes) -> TabletError {
        let tablet = tablet();
        let mut lead = Lead::new(&tablet, 1);
        let error = lead.prepare_append(&tablet, records, 5).unwrap_err();
        assert_eq!(lead.next_offset, 0, "nothing is in flight after an error");
        assert_eq!(lead.in_flight.len(), 0);
        error
    }

    #[test]
    fn validates_what_it_is_given() {
        let good = rows(2).build();
        let mut flipped = good.to_vec();
        flipped[60] ^= 1;
        assert!(matches!(refused(flipped.into()), TabletError::CorruptBatch { position: 0, .. }));
        let second_is_cut = [&good[..], &good[..good.len() - 1]].concat();
        assert!(matches!(refused(second_is_cut.into()), TabletError::CorruptBatch { position, .. } if position == good.len()));
        assert!(matches!(refused(Bytes::new()), TabletError::CorruptBatch { .. }));
        let unframed = LogBatchBuilder { record_count: 1, records: Bytes::from_static(b"no row"), ..rows(0) };
        assert!(matches!(refused(unframed.build()), TabletError::CorruptBatch { .. }));
        assert_eq!(refused(rows(30).build()), TabletError::BatchTooLarge { found: 48 + 30 * 8, limit: 200 });
        for found in [0, 3] {
            let batch = LogBatchBuilder { schema_id: SchemaId(found), ..rows(1) };
            assert_eq!(refused(batch.build()), TabletError::UnknownSchema { found, latest: 2 });
        }
    }

    #[test]
    fn stamps_every_batch() {
        let tablet = tablet();
        let mut lead = Lead::new(&tablet, 7);
        let v2 = LogBatchBuilder { magic: Magic::V2, ..rows(3) }.build();
        let records = Bytes::from([&rows(2).build()[..], &v2].concat());
        let prepared = lead.prepare_append(&tablet, records.clone(), 1_000).unwrap();
        let Prepared::Propose { entry, base_offset: 0, end_offset: 5 } = prepared else { panic!("{prepared:?}") };
        let stamped: Vec<LogBatch> = LogBatches::new(entry.slice(APPEND_HEADER_BYTES..)).map(Result::unwrap).collect();
        assert_eq!(stamped.iter().map(|batch| batch.base_offset.0).collect::<Vec<_>>(), [0, 2]);
        assert!(stamped.iter().all(|batch| batch.commit_timestamp_ms == 1_000 && batch.validate().is_ok()));
        assert_eq!(stamped[1].leader_epoch, Some(7));
        let earlier = lead.prepare_append(&tablet, records, 400).unwrap();
        let Prepared::Propose { entry, base_offset: 5, .. } = earlier else { panic!("{earlier:?}") };
        let first = LogBatch::read(&entry, APPEND_HEADER_BYTES).unwrap();
        assert_eq!(first.commit_timestamp_ms, 1_000, "commit timestamps never go back");
    }

    /// A tablet whose writer 4 wrote `sequence` at `timestamp_ms`.
    fn tablet_after(sequence: i32, timestamp_ms: i64) -> LogTablet {
        let mut tablet = tablet();
        let batch = LogBatchBuilder { writer_id: 4, batch_sequence: sequence, commit_timestamp_ms: timestamp_ms, ..rows(1) };
        let command = Command::Append { decided_term: 1, batches: batch.build() };
        tablet.apply(1, 1, Some(&command));
        tablet
    }

    fn append(lead: &mut Lead, tablet: &LogTablet, sequence: i32) -> Result<Prepared, TabletError> {
        let batch = LogBatchBuilder { writer_id: 4, batch_sequence: sequence, ..rows(1) };
        lead.prepare_append(tablet, batch.build(), 9)
    }

    #[test]
    fn the_sequence_after_the_largest_is_zero() {
        let tablet = tablet_after(i32::MAX, 1);
        let mut lead = Lead::new(&tablet, 1);
        assert_eq!(append(&mut lead, &tablet, i32::MAX), Ok(Prepared::Duplicate { base_offset: 0, end_offset: 1 }));
        assert!(matches!(append(&mut lead, &tablet, 0), Ok(Prepared::Propose { base_offset: 1, end_offset: 2, .. })));
        assert_eq!(append(&mut lead, &tablet, 0), Ok(Prepared::DuplicateInFlight { base_offset: 1, end_offset: 2 }));
        let error = TabletError::OutOfOrderSequence { writer_id: 4, found: 2, expected: 1 };
        assert_eq!(append(&mut lead, &tablet, 2), Err(error));
    }

    #[test]
    fn a_writer_whose_expiry_is_under_way_is_unknown() {
        let tablet = tablet_after(6, 1);
        let mut lead = Lead::new(&tablet, 1);
        assert_eq!(lead.prepare_upkeep(&tablet, retention::WRITER_SILENT_MS_MAX + 1), Vec::<Bytes>::new());
        assert_eq!(lead.prepare_upkeep(&tablet, retention::WRITER_SILENT_MS_MAX + 2).len(), 1);
        assert!(matches!(append(&mut lead, &tablet, 7), Err(TabletError::OutOfOrderSequence { expected: 0, .. })));
        assert!(matches!(append(&mut lead, &tablet, 0), Ok(Prepared::Propose { .. })));
    }
}
