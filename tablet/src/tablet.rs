//! A log tablet: pointers, offset and time index, idempotent writers; changed only by `apply`.
//!
//! (The tablet's owner replaces the bodies; the signatures are the seam that `server::replica` builds on.)

use crate::command::Command;
use crate::effects::Applied;
use crate::error::TabletError;
use bytes::Bytes;

/// Limits and rules of one bucket, from its table.
#[derive(Clone, Debug)]
pub struct TabletConfig {
    /// Newest schema id; batches with ids 1..=latest are accepted.
    pub latest_schema_id: i16,
    pub batch_bytes_max: usize,
    /// Arrow, indexed or compacted batches.
    pub log_format: floss_protocol_log_format::LogFormat,
    pub log_ttl_ms: Option<i64>,
}

/// Placeholder path until `floss_protocol::schema` brings the type.
pub mod floss_protocol_log_format {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum LogFormat {
        Arrow,
        Indexed,
        Compacted,
    }
}

/// The machine. Deterministic: equal commands in equal order give equal state, byte for byte in `snapshot`.
#[derive(Debug)]
pub struct LogTablet {}

impl LogTablet {
    pub fn new(_config: TabletConfig) -> Self {
        todo!()
    }

    /// Applies a committed entry at raft `(term, index)`. `None` = Raft's own entry, uses no offset.
    pub fn apply(&mut self, _term: u64, _index: u64, _command: Option<&Command>) -> Applied {
        todo!()
    }

    /// Earliest readable offset.
    pub fn log_start(&self) -> i64 {
        todo!()
    }

    /// Applied end = high watermark (exclusive).
    pub fn high_watermark(&self) -> i64 {
        todo!()
    }

    /// Lowest raft index whose entry still holds readable batches; `u64::MAX` if the log is empty.
    pub fn retained_from(&self) -> u64 {
        todo!()
    }

    pub fn snapshot(&self) -> Bytes {
        todo!()
    }

    pub fn restore(&mut self, _state: &Bytes) -> Result<(), TabletError> {
        todo!()
    }
}
