//! Log record batches: what a `records` field holds, what the journal stores, what a consumer receives.
//!
//! `records` is zero or more batches back to back. All numbers are little-endian.
//!
//! ```text
//! field                 size  V0   V1   V2
//! base_offset              8   0    0    0   stamped by the leader
//! length                   4   8    8    8   bytes after this field: total = length + 12
//! magic                    1  12   12   12   0, 1 or 2
//! commit_timestamp         8  13   13   13   ms; stamped by the leader
//! leader_epoch             4   -    -   21   stamped by the leader
//! crc                      4  21   21   25   CRC-32C from schema_id to the end
//! schema_id                2  25   25   29
//! attributes               1  27   27   31   bit 0 = append-only
//! last_offset_delta        4  28   28   32   records - 1, or 0 for an empty batch
//! writer_id                8  32   32   36   -1 = not idempotent
//! batch_sequence           4  40   40   44   -1 = not idempotent
//! record_count             4  44   44   48
//! statistics_length        4   -   48   52   0 = none
//! statistics                                 statistics_length bytes
//! change types                               record_count bytes, only if bit 0 of attributes is clear (Arrow only)
//! records                                    one Arrow message, or record_count framed rows
//! ```
//!
//! Reading order: `header`, `batch`, `batches`, `stamp`, `rows`, `builder`.
//! Source: records.md 1, 4, 5.

mod batch;
mod batches;
mod builder;
mod change_type;
mod error;
mod header;
mod rows;
mod stamp;

pub use batch::LogBatch;
pub use batches::LogBatches;
pub use builder::LogBatchBuilder;
pub use change_type::ChangeType;
pub use error::LogBatchError;
pub use header::{ATTRIBUTE_APPEND_ONLY, HEADER_BYTES_MAX, LENGTH_END, LogBatchHeader, Magic, NO_BATCH_SEQUENCE, NO_WRITER_ID};
pub use rows::{LogRow, LogRows};
pub use stamp::{Stamp, stamp_all, stamp_batch};
