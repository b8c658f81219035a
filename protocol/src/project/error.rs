//! Why columns cannot be taken out of a batch.

use crate::log_batch::LogBatchError;

/// Either the request asks for columns that cannot be ([`ProjectError::is_bad_request`]), or the batch is not what its schema says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProjectError {
    #[error("no columns are projected")]
    NoColumns,
    #[error("projected column={found} after {previous}, expected ascending order")]
    ColumnOrder { previous: i32, found: i32 },
    #[error("projected column={found}, the table has {columns}")]
    ColumnOutside { found: i32, columns: usize },
    #[error(transparent)]
    Batch(#[from] LogBatchError),
    #[error("arrow message: {found} bytes, expected at least {expected}")]
    ShortMessage { expected: usize, found: usize },
    #[error("arrow message starts with {found:#010x}, expected 0xffffffff")]
    NoContinuation { found: u32 },
    #[error("arrow metadata: {reason}")]
    Metadata { reason: String },
    #[error("arrow message holds {found}, expected a record batch")]
    NotRecordBatch { found: u8 },
    #[error("arrow message has {found} {what}, expected {expected}")]
    Count { what: &'static str, expected: usize, found: usize },
    #[error("arrow message has length={found}, the batch has record_count={expected}")]
    Length { expected: i64, found: i64 },
    #[error("arrow buffer={buffer} at offset={offset} length={length}, the body has {body_bytes} bytes")]
    BufferOutside { buffer: usize, offset: i64, length: i64, body_bytes: usize },
    #[error("arrow buffer={buffer} at offset={offset}, the buffer before it ends at {previous_end}")]
    BufferOverlap { buffer: usize, offset: usize, previous_end: usize },
    #[error("columns of nulls would take {found} bytes, at most {max}")]
    TooManyNulls { found: u64, max: u64 },
    #[error("projected batch would take {found} bytes, at most {max}")]
    TooLarge { found: usize, max: usize },
}

impl ProjectError {
    /// True if no batch of the table could answer it (INVALID_COLUMN_PROJECTION); else the batch is at fault.
    pub fn is_bad_request(&self) -> bool {
        match self {
            Self::NoColumns | Self::ColumnOrder { .. } | Self::ColumnOutside { .. } => true,
            Self::Batch(_)
            | Self::ShortMessage { .. }
            | Self::NoContinuation { .. }
            | Self::Metadata { .. }
            | Self::NotRecordBatch { .. }
            | Self::Count { .. }
            | Self::Length { .. }
            | Self::BufferOutside { .. }
            | Self::BufferOverlap { .. }
            | Self::TooManyNulls { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}
