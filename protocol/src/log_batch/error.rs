//! Why bytes are not a log batch.

/// Every variant means: these bytes were not written by a correct client, or rotted since (CORRUPT_RECORD on the wire).
///
/// `position` is the first byte of the offending batch, counted from the start of `records`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogBatchError {
    #[error("log batch at position={position}: {found} bytes left, its header takes {expected}")]
    ShortHeader { position: usize, expected: usize, found: usize },
    #[error("log batch at position={position}: magic={found}, expected 0, 1 or 2")]
    UnknownMagic { position: usize, found: i8 },
    #[error("log batch at position={position}: length={found}, expected at least {expected}")]
    ShortLength { position: usize, expected: i32, found: i32 },
    #[error("log batch at position={position}: {found} bytes left, its length says {expected}")]
    Truncated { position: usize, expected: usize, found: usize },
    #[error("log batch at position={position}: crc={found:#010x} in the header, computed {expected:#010x}")]
    WrongCrc { position: usize, expected: u32, found: u32 },
    #[error("log batch at position={position}: {field}={found}, expected {expected}")]
    WrongField { position: usize, field: &'static str, expected: i64, found: i64 },
    #[error("log batch at position={position}: {field}={found}, expected at least {expected}")]
    FieldTooSmall { position: usize, field: &'static str, expected: i64, found: i64 },
    #[error("log batch at position={position}: {section} takes {expected} bytes, {found} left")]
    SectionOutside { position: usize, section: &'static str, expected: usize, found: usize },
    #[error("log batch at position={position}: record={record} has change type {found}, expected 0 to 4")]
    UnknownChangeType { position: usize, record: usize, found: u8 },
    #[error("log batch at position={position}: record={record} takes {expected} bytes, {found} left")]
    RowOutside { position: usize, record: usize, expected: i64, found: usize },
    #[error("log batch at position={position}: {found} bytes after its last record")]
    TrailingBytes { position: usize, found: usize },
}

impl LogBatchError {
    /// First byte of the offending batch, counted from the start of `records`.
    pub fn position(&self) -> usize {
        match self {
            Self::ShortHeader { position, .. }
            | Self::UnknownMagic { position, .. }
            | Self::ShortLength { position, .. }
            | Self::Truncated { position, .. }
            | Self::WrongCrc { position, .. }
            | Self::WrongField { position, .. }
            | Self::FieldTooSmall { position, .. }
            | Self::SectionOutside { position, .. }
            | Self::UnknownChangeType { position, .. }
            | Self::RowOutside { position, .. }
            | Self::TrailingBytes { position, .. } => *position,
        }
    }
}
