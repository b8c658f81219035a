//! Why a request to a bucket is refused. Nothing was changed when one of these is returned.

/// What the caller can do about it; `server::errors` maps variants to wire codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    Reject,
    Retry,
    Fenced,
    Corrupt,
    Fatal,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TabletError {
    #[error("corrupt record batch at position={position}: {reason}")]
    CorruptBatch { position: usize, reason: String },
    #[error("schema_id={found} is unknown, latest={latest}")]
    UnknownSchema { found: i16, latest: i16 },
    #[error("writer_id={writer_id} sent batch_sequence={found}, expected {expected}")]
    OutOfOrderSequence { writer_id: i64, found: i32, expected: i32 },
    #[error("batch of {found} bytes, at most {limit}")]
    BatchTooLarge { found: usize, limit: usize },
    #[error("offset={offset} outside log_start={log_start}..=log_end={log_end}")]
    OffsetOutOfRange { offset: i64, log_start: i64, log_end: i64 },
    #[error("timestamp_ms={found} lies in the future, now_ms={now_ms}")]
    FutureTimestamp { found: i64, now_ms: i64 },
    #[error("target columns: {reason}")]
    InvalidTargetColumns { reason: String },
    #[error("record={record} deletes, table.delete.behavior is DISABLE")]
    DeletionDisabled { record: usize },
    /// Not what its schema says, or its key is not that of the row.
    #[error("record={record}: {reason}")]
    InvalidRow { record: usize, reason: String },
    #[error("put: {reason}")]
    UnsupportedPut { reason: String },
    #[error("table: {reason}")]
    UnsupportedTable { reason: String },
    /// Never leaves the server: it gets more ids and decides again.
    #[error("record={record} needs an id, none is left")]
    OutOfIds { record: usize },
    #[error("rows are folded up to offset={folded}, the log is applied up to {applied}: try again")]
    KvBehind { folded: i64, applied: i64 },
    #[error("stored row: {reason}")]
    CorruptValue { reason: String },
    #[error("{reason}")]
    KvStore { reason: String },
    #[error("decided in term={decided_term}, applied in term={entry_term}: try again")]
    Stale { decided_term: u64, entry_term: u64 },
    #[error("command of a tablet: {reason}")]
    CorruptCommand { reason: String },
    #[error("snapshot of a tablet: {reason}")]
    CorruptSnapshot { reason: String },
}

impl TabletError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CorruptBatch { .. }
            | Self::UnknownSchema { .. }
            | Self::OutOfOrderSequence { .. }
            | Self::BatchTooLarge { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::FutureTimestamp { .. }
            | Self::InvalidTargetColumns { .. }
            | Self::DeletionDisabled { .. }
            | Self::InvalidRow { .. }
            | Self::UnsupportedPut { .. }
            | Self::UnsupportedTable { .. } => ErrorKind::Reject,
            Self::Stale { .. } | Self::OutOfIds { .. } | Self::KvBehind { .. } => ErrorKind::Retry,
            Self::KvStore { .. } => ErrorKind::Fatal,
            Self::CorruptCommand { .. } | Self::CorruptValue { .. } | Self::CorruptSnapshot { .. } => ErrorKind::Corrupt,
        }
    }
}
