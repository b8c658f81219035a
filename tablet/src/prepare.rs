//! Leader side: reads state, decides, changes nothing that is replicated.

use crate::command::{APPEND_HEADER_BYTES, Command, append_header};
use crate::error::TabletError;
use crate::in_flight::InFlight;
use crate::log::retention;
use crate::log::writer_state::{WrittenBatch, sequence_after};
use crate::tablet::floss_protocol_log_format::LogFormat;
use crate::tablet::{LogTablet, TabletConfig, acked_offset, ignores_pending_tail};
use bytes::{BufMut, Bytes};
use floss_protocol::ids::LogOffset;
use floss_protocol::log_batch::{LogBatch, LogBatchError, LogBatches, Stamp, stamp_all};
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
    in_flight: InFlight,
    /// End of the pending tail: where the next batch starts.
    next_offset: i64,
    /// Commit timestamp of the pending tail's newest batch; never goes back.
    last_timestamp_ms: i64,
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
    Duplicate { base_offset: i64 },
    /// Duplicates of ones still in flight: success with `base_offset` once the high watermark reaches `end_offset`.
    DuplicateInFlight { base_offset: i64, end_offset: i64 },
}

/// What the sequence of one batch means.
enum Verdict {
    New,
    Duplicate(WrittenBatch),
}

impl Lead {
    /// `tablet` must have applied this term's first entry.
    pub fn new(tablet: &LogTablet, term: u64) -> Self {
        Self {
            term,
            in_flight: InFlight::default(),
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
            match self.judge(tablet, &batch) {
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

    /// Applies the rules of idempotence to one batch: against what is applied and what is in flight.
    fn judge(&self, tablet: &LogTablet, batch: &LogBatch) -> Result<Verdict, TabletError> {
        let Some((writer, sequence)) = batch.writer() else { return Ok(Verdict::New) };
        if let Some(original) = self.in_flight.find(writer.0, sequence) {
            return Ok(Verdict::Duplicate(*original));
        }
        let applied = &tablet.state.writers;
        let is_known = applied.last(writer.0).is_some_and(|last| last.timestamp_ms >= self.expired_before_ms);
        if let (true, Some(original)) = (is_known, applied.find(writer.0, sequence)) {
            return Ok(Verdict::Duplicate(*original));
        }
        let last = self.in_flight.last(writer.0).or_else(|| applied.last(writer.0).filter(|_| is_known));
        let expected = last.map_or(0, |last| sequence_after(last.sequence));
        if sequence != expected {
            reached!("sequence_refused");
            return Err(TabletError::OutOfOrderSequence { writer_id: writer.0, found: sequence, expected });
        }
        Ok(Verdict::New)
    }

    fn encode_append(&self, batches: &[LogBatch], base_offset: i64, commit_timestamp_ms: i64) -> Bytes {
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

fn answer_duplicate(tablet: &LogTablet, base_offset: i64, end_offset: i64) -> Prepared {
    let base_offset = if mutant!("W06") { tablet.state.log_end } else { base_offset };
    if end_offset > tablet.state.log_end {
        reached!("duplicate_in_flight");
        Prepared::DuplicateInFlight { base_offset, end_offset }
    } else {
        reached!("duplicate_answered");
        Prepared::Duplicate { base_offset }
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
