//! The seam to whatever keeps the rows of primary-key tables: RocksDB, or a map with the same crash semantics.

use bytes::Bytes;
use std::fmt::Debug;

/// The rows of one bucket in a store. Given by whoever opens the bucket; never reused for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KvBucketId(pub u64);

/// How much of a bucket's log is folded into its rows. Written together with the rows, atomically (K08).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvPosition {
    /// The last entry that was folded; 0 = none.
    pub raft_index: u64,
    /// Log end after that entry.
    pub log_end: i64,
    /// Live keys; `None` if the changelog does not tell (WAL images written without a look at the old row).
    pub row_count: Option<u64>,
}

impl KvPosition {
    /// Before the first entry.
    pub const START: Self = Self { raft_index: 0, log_end: 0, row_count: Some(0) };
}

/// A key and its value; `None` = no such key.
pub type KvRow = (Bytes, Option<Bytes>);

/// A part of a bucket, in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvRange {
    /// Only keys that start with this. Empty = all.
    pub prefix: Bytes,
    /// Only keys above this; `None` = from the start.
    pub after: Option<Bytes>,
    /// At most so many rows, and no further row once so many bytes of keys and values are reached (so at least one row).
    pub rows_max: usize,
    pub bytes_max: usize,
}

impl KvRange {
    pub fn all() -> Self {
        Self { prefix: Bytes::new(), after: None, rows_max: usize::MAX, bytes_max: usize::MAX }
    }

    pub fn prefix(prefix: Bytes) -> Self {
        Self { prefix, ..Self::all() }
    }
}

/// Bucket, expected and found where they help. Any of them is fatal for a replica that applies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvStoreError {
    #[error("kv store: {action} failed: {reason}")]
    Failed { action: &'static str, reason: String },
    #[error("kv store: bucket={bucket} holds a position of {found} bytes, expected {expected}")]
    BadPosition { bucket: u64, expected: usize, found: usize },
}

/// Reads of one moment of one bucket.
pub trait KvView {
    fn position(&self) -> Result<KvPosition, KvStoreError>;

    /// In key order.
    fn scan(&self, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, KvStoreError>;
}

/// Rows of many buckets, each with the position up to which they are the fold of their log.
///
/// - A write is atomic: rows and position, in one bucket, all or nothing, also across a crash.
/// - A crash loses writes from the end only, across all buckets in the order of the writes, and never one that a `flush` before it
///   has returned for. What is lost is folded from the log again.
/// - Keys are compared bytewise. Reads see every write that returned before.
pub trait KvStore: Debug + Send + Sync + 'static {
    fn get(&self, bucket: KvBucketId, key: &[u8]) -> Result<Option<Bytes>, KvStoreError>;

    /// One answer per key, in their order.
    fn multi_get(&self, bucket: KvBucketId, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvStoreError>;

    /// In key order.
    fn scan(&self, bucket: KvBucketId, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, KvStoreError>;

    /// Puts and deletes; of a key that occurs twice, the last counts.
    fn write(&self, bucket: KvBucketId, rows: &[KvRow], position: KvPosition) -> Result<(), KvStoreError>;

    /// [`KvPosition::START`] if nothing was written yet.
    fn position(&self, bucket: KvBucketId) -> Result<KvPosition, KvStoreError>;

    /// Once it returns, no crash takes back what was written before the call.
    fn flush(&self) -> Result<(), KvStoreError>;

    /// Asks for a flush and does not wait for it: bounds what is folded again after a crash.
    fn flush_soon(&self) -> Result<(), KvStoreError>;

    /// Calls `serve` with a view that later writes do not change.
    fn with_view(&self, bucket: KvBucketId, serve: &mut dyn FnMut(&dyn KvView)) -> Result<(), KvStoreError>;

    /// Forgets rows and position of a bucket.
    fn wipe(&self, bucket: KvBucketId) -> Result<(), KvStoreError>;

    /// Buckets that have a position, ascending.
    fn buckets(&self) -> Result<Vec<KvBucketId>, KvStoreError>;
}

/// The first key after all those that start with `prefix`; `None` if there is none (it is empty or all 0xff).
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    if floss_protocol::mutant!("K14") {
        let mut end = prefix.to_vec();
        let last = end.last_mut()?;
        *last = last.wrapping_add(1);
        return Some(end);
    }
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_with_a_carry() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }
}
