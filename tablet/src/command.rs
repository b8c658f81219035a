//! What a log entry of a bucket says. The bytes are a format: numbers are never reused.

use bytes::Bytes;

/// Bytes before the batches in an encoded [`Command::Append`]; readers slice them off, so a fetch copies nothing.
pub const APPEND_HEADER_BYTES: usize = 16;

/// One replicated command.
///
/// ```text
/// 0  1  version = 1
/// 1  1  kind: 1 append, 2 trim, 3 expire writers
/// 2  6  zero
/// 8  8  decided_term, u64 LE
/// 16 .. append: whole log batches, stamped; others: see the fields, LE
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Whole batches, back to back, with base offset, commit timestamp (and leader epoch, V2) stamped by the leader that decided
    /// them in `decided_term`.
    Append { decided_term: u64, batches: Bytes },
    /// Retention: nothing below `log_start` is wanted any more. A batch boundary.
    Trim { decided_term: u64, log_start: i64 },
    /// Writers silent since before `before_ms` are forgotten.
    ExpireWriters { decided_term: u64, before_ms: i64 },
}
