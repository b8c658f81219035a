//! KV record batches (what PutKv brings) and value record batches (what scans of primary-key tables answer).
//!
//! ```text
//! KV batch                       value batch
//!  0  4  length after this        0  4  length after this
//!  4  1  magic = 0                4  1  magic = 0
//!  5  4  crc from schema_id       5  4  record_count
//!  9  2  schema_id                9 ..  record_count x { int32 length after this; int16 schema_id; row }
//! 11  1  attributes = 0
//! 12  8  writer_id               KV record
//! 20  4  batch_sequence           0  4  length after this
//! 24  4  record_count             4 ..  uvarint key length; key; row: empty = delete
//! 28 ..  records
//! ```
//!
//! Source: records.md 6, 7.

mod batch;
mod builder;
mod error;
mod value_batch;

pub use batch::{KV_HEADER_BYTES, KvBatch, KvRecord, KvRecords};
pub use builder::KvBatchBuilder;
pub use error::KvBatchError;
pub use value_batch::{VALUE_BATCH_HEADER_BYTES, ValueBatchBuilder, ValueRecords, join_value, split_value};
