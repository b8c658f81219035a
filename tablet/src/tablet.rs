//! A log tablet: pointers, offset and time index, idempotent writers; changed only by `apply`.

use crate::command::Command;
use crate::effects::Applied;
use crate::error::TabletError;
use crate::log::offset_index::OffsetIndex;
use crate::log::writer_state::{Writers, WrittenBatch};
use crate::snapshot;
use bytes::Bytes;
use floss_protocol::log_batch::{LogBatch, LogBatches};
use floss_protocol::schema::LogFormat;
use floss_protocol::{mutant, reached};

/// Limits and rules of one bucket, from its table.
#[derive(Clone, Debug)]
pub struct TabletConfig {
    /// Newest schema id; batches with ids 1..=latest are accepted.
    pub latest_schema_id: i16,
    pub batch_bytes_max: usize,
    /// Arrow, indexed or compacted batches.
    pub log_format: LogFormat,
    pub log_ttl_ms: Option<i64>,
}

/// What replicas agree on at an applied entry, and what a snapshot holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TabletState {
    /// Earliest readable offset.
    pub log_start: i64,
    /// End of the applied log, exclusive: the next batch starts here.
    pub log_end: i64,
    /// Of the batches from `log_start` on (I13).
    pub index: OffsetIndex,
    pub writers: Writers,
}

/// The machine. Deterministic: equal commands in equal order give equal state, byte for byte in `snapshot`.
///
/// Keeps: I3 (dense), I4 (log_start <= high watermark; both only grow), I10 (an entry decided in another term does nothing).
#[derive(Debug)]
pub struct LogTablet {
    pub(crate) config: TabletConfig,
    pub(crate) state: TabletState,
}

/// The answer to a writer: where its first record is.
pub(crate) fn acked_offset(base_offset: i64, end_offset: i64) -> i64 {
    if mutant!("L05") { end_offset - 1 } else { base_offset }
}

/// Always false, but in the world where leaders decide on the applied end and appends do not check it.
pub(crate) fn ignores_pending_tail() -> bool {
    mutant!("L04")
}

impl LogTablet {
    pub fn new(config: TabletConfig) -> Self {
        let state = TabletState { log_start: 0, log_end: 0, index: OffsetIndex::new(0), writers: Writers::default() };
        Self { config, state }
    }

    pub fn config(&self) -> &TabletConfig {
        &self.config
    }

    /// The table was altered. Rules of the leader's side only: what is applied does not depend on them.
    pub fn configure(&mut self, config: TabletConfig) {
        self.config = config;
    }

    /// Applies a committed entry at raft `(term, index)`. `None` = Raft's own entry, uses no offset.
    ///
    /// Panics if the entry contradicts the state: it was validated before it was proposed, so that is a bug of ours, and the
    /// replica must stop.
    pub fn apply(&mut self, term: u64, index: u64, command: Option<&Command>) -> Applied {
        let Some(command) = command else {
            if mutant!("L11") {
                self.state.log_end += 1;
            }
            return Applied::Nothing;
        };
        let decided_term = command.decided_term();
        if decided_term != term {
            reached!("applied_stale_term");
            return Applied::Stale { decided_term, entry_term: term };
        }
        match command {
            Command::Append { batches, .. } => self.apply_append(term, index, batches),
            Command::Trim { log_start, .. } => self.apply_trim(*log_start),
            Command::ExpireWriters { before_ms, .. } => {
                reached!("writers_expired");
                Applied::WritersExpired { count: self.state.writers.expire(*before_ms) }
            }
        }
    }

    fn apply_append(&mut self, term: u64, index: u64, batches: &Bytes) -> Applied {
        let mut batches = LogBatches::new(batches.clone()).map(|batch| {
            batch
                .unwrap_or_else(|error| panic!("entry {term}.{index}: {error} (journal or our code, it was valid when proposed)"))
        });
        let first = batches.next().expect("an append without a batch does not decode");
        let base_offset = first.base_offset.0;
        if base_offset != self.state.log_end && !ignores_pending_tail() {
            // An entry before this one was lost or decided nothing: this one was decided on a tail that never came to be.
            reached!("applied_stale_base");
            return Applied::Stale { decided_term: term, entry_term: term };
        }
        self.take(index, &first);
        batches.for_each(|batch| self.take(index, &batch));
        let end_offset = base_offset + (self.state.log_end - base_offset).max(1);
        Applied::Appended { base_offset: acked_offset(base_offset, end_offset), end_offset }
    }

    /// Adds one batch at the log end.
    fn take(&mut self, index: u64, batch: &LogBatch) {
        let state = &mut self.state;
        let base_offset = state.log_end;
        assert!(
            batch.base_offset.0 == base_offset || ignores_pending_tail(),
            "append at base_offset={}, expected {base_offset} (our code)",
            batch.base_offset
        );
        state.index.push(index, base_offset, batch.commit_timestamp_ms, batch.total_bytes() as u64);
        state.log_end += batch.offset_count();
        if let Some((writer, sequence)) = batch.writer() {
            let timestamp_ms = batch.commit_timestamp_ms;
            let written = WrittenBatch { sequence, base_offset, end_offset: state.log_end, timestamp_ms };
            state.writers.record(writer.0, written);
        }
    }

    fn apply_trim(&mut self, log_start: i64) -> Applied {
        let state = &mut self.state;
        if log_start > state.log_start {
            reached!("log_trimmed");
            // A leader asks only for what it has applied; clamped all the same, or I4 would break for good.
            state.log_start = log_start.min(state.log_end);
            state.index.trim(state.log_start, state.log_end);
        }
        Applied::Trimmed { log_start: state.log_start }
    }

    /// Earliest readable offset.
    pub fn log_start(&self) -> i64 {
        self.state.log_start
    }

    /// Applied end = high watermark (exclusive).
    pub fn high_watermark(&self) -> i64 {
        if mutant!("L01") { self.state.log_end + 1 } else { self.state.log_end }
    }

    /// Commit timestamp of the newest batch, 0 if there was none; no later batch has a smaller one.
    pub fn last_commit_timestamp_ms(&self) -> i64 {
        self.state.index.max_timestamp_ms()
    }

    /// The entry that holds the batch with `offset`; `None` at and above the log end.
    pub fn raft_index_of(&self, offset: i64) -> Option<u64> {
        (offset < self.state.log_end).then(|| self.state.index.floor(offset).map(|batch| batch.raft_index)).flatten()
    }

    /// Lowest raft index whose entry still holds readable batches; `u64::MAX` if the log is empty.
    pub fn retained_from(&self) -> u64 {
        self.state.index.first().map_or(u64::MAX, |first| first.raft_index)
    }

    /// A number that differs between replicas whose writer state differs at the same applied entry (I7).
    pub fn writers_digest(&self) -> u64 {
        self.state.writers.digest()
    }

    pub fn writer_count(&self) -> usize {
        self.state.writers.writer_count()
    }

    /// The whole state, the same bytes on every replica that has applied the same entries. Format: see `snapshot.rs`.
    pub fn snapshot(&self) -> Bytes {
        snapshot::encode(&self.state)
    }

    /// Replaces the state. After an error the old one is unchanged.
    ///
    /// Errors: `CorruptSnapshot`.
    pub fn restore(&mut self, state: &Bytes) -> Result<(), TabletError> {
        self.state = snapshot::decode(state)?;
        Ok(())
    }
}
