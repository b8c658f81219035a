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
            | Self::FutureTimestamp { .. } => ErrorKind::Reject,
            Self::Stale { .. } => ErrorKind::Retry,
            Self::CorruptCommand { .. } | Self::CorruptSnapshot { .. } => ErrorKind::Corrupt,
        }
    }
}
