//! Why bytes are not a KV batch or a value batch.

/// CORRUPT_RECORD on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvBatchError {
    #[error("kv batch of {found} bytes, expected {expected}")]
    Size { expected: i64, found: usize },
    #[error("kv batch has magic={found}, expected 0")]
    UnknownMagic { found: i8 },
    #[error("kv batch has crc={found:#010x}, computed {expected:#010x}")]
    WrongCrc { expected: u32, found: u32 },
    #[error("kv batch has {field}={found}, expected at least {expected}")]
    FieldTooSmall { field: &'static str, expected: i64, found: i64 },
    #[error("record={record} takes {expected} bytes, {found} left")]
    RecordOutside { record: usize, expected: i64, found: usize },
    #[error("record={record} has a key longer than itself, or none")]
    BadKey { record: usize },
    #[error("{found} bytes after the last record")]
    Trailing { found: usize },
    #[error("value of {found} bytes, expected at least 2")]
    ShortValue { found: usize },
}
