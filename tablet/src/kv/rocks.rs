//! The KV store on disk: one RocksDB per node for the rows of all its buckets.
//!
//! ```text
//! key     0  8  bucket, u64 BE: the buckets lie one after the other
//!         8  1  0 = position, 1 = row
//!         9 ..  row: the stored key, as it is
//! value   of a row: the stored value; of a position:
//!         0  1  version = 1
//!         1  8  raft_index, u64 LE
//!         9  8  log_end, i64 LE
//!        17  1  1 if the row count is known
//!        18  8  row_count, u64 LE
//! ```
//! There is no write-ahead log: the Raft log is it. After a crash the store is as it was at one of its own flushes, and because all
//! buckets share one column family, that is a moment of all of them.

use super::store::{KvBucketId, KvPosition, KvRange, KvRow, KvStore, KvStoreError, KvView, prefix_end};
use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, FlushOptions, Options, ReadOptions, Snapshot, WriteBatch,
    WriteBufferManager, WriteOptions,
};
use std::fmt;
use std::path::Path;

const KIND_AT: usize = 8;
const KIND_POSITION: u8 = 0;
const KIND_ROW: u8 = 1;
/// Above every kind: ends a bucket.
const KIND_END: u8 = 2;
const KEY_PREFIX_BYTES: usize = KIND_AT + 1;

const POSITION_VERSION: u8 = 1;
const POSITION_BYTES: usize = 26;

const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// Of the write buffer.
const MEMTABLE_BLOOM_SHARE: f64 = 0.02;

/// What one node's store may take.
#[derive(Clone, Debug)]
pub struct RocksLimits {
    /// Blocks, indexes and filters that are kept in memory.
    pub cache_bytes: usize,
    /// Rows not yet flushed; beyond it RocksDB flushes.
    pub write_buffer_bytes: usize,
    pub open_files_max: i32,
    pub background_jobs_max: i32,
}

impl Default for RocksLimits {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, write_buffer_bytes: 128 << 20, open_files_max: 1024, background_jobs_max: 2 }
    }
}

/// Shared by all buckets of a node.
pub struct RocksKvStore {
    db: DB,
    write: WriteOptions,
}

impl fmt::Debug for RocksKvStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksKvStore").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

fn failed(action: &'static str) -> impl Fn(rocksdb::Error) -> KvStoreError {
    move |error| KvStoreError::Failed { action, reason: error.to_string() }
}

fn options(limits: &RocksLimits) -> Options {
    let cache = Cache::new_lru_cache(limits.cache_bytes);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    // Indexes and filters count against the same limit as blocks.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(limits.write_buffer_bytes, false));
    options.set_write_buffer_size(limits.write_buffer_bytes / 2);
    options.set_max_write_buffer_number(3);
    // Most lookups of an insert find nothing, and should not search the memtable for it.
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE);
    options.set_max_open_files(limits.open_files_max);
    options.set_max_background_jobs(limits.background_jobs_max);
    options.set_keep_log_file_num(2);
    options.set_stats_dump_period_sec(0);
    options
}

/// The key of `key` in the one key space.
fn row_key(bucket: KvBucketId, key: &[u8]) -> Vec<u8> {
    let mut full = kind_key(bucket, KIND_ROW);
    full.extend_from_slice(key);
    full
}

fn kind_key(bucket: KvBucketId, kind: u8) -> Vec<u8> {
    let mut full = Vec::with_capacity(KEY_PREFIX_BYTES + 32);
    full.extend_from_slice(&bucket.0.to_be_bytes());
    full.push(kind);
    full
}

fn encode_position(position: KvPosition) -> [u8; POSITION_BYTES] {
    let mut out = [0; POSITION_BYTES];
    out[0] = POSITION_VERSION;
    out[1..9].copy_from_slice(&position.raft_index.to_le_bytes());
    out[9..17].copy_from_slice(&position.log_end.to_le_bytes());
    out[17] = u8::from(position.row_count.is_some());
    out[18..].copy_from_slice(&position.row_count.unwrap_or(0).to_le_bytes());
    out
}

fn decode_position(bucket: KvBucketId, bytes: Option<&[u8]>) -> Result<KvPosition, KvStoreError> {
    let Some(bytes) = bytes else { return Ok(KvPosition::START) };
    let bad = KvStoreError::BadPosition { bucket: bucket.0, expected: POSITION_BYTES, found: bytes.len() };
    let fixed: &[u8; POSITION_BYTES] = bytes.try_into().map_err(|_| bad)?;
    if fixed[0] != POSITION_VERSION {
        let reason = format!("version={} of bucket={}, expected {POSITION_VERSION}", fixed[0], bucket.0);
        return Err(KvStoreError::Failed { action: "reading a position", reason });
    }
    let word = |at: usize| fixed[at..at + 8].try_into().expect("8 bytes of a fixed layout");
    Ok(KvPosition {
        raft_index: u64::from_le_bytes(word(1)),
        log_end: i64::from_le_bytes(word(9)),
        row_count: (fixed[17] == 1).then(|| u64::from_le_bytes(word(18))),
    })
}

/// Reads bounded by the bucket and the prefix.
fn read_options(bucket: KvBucketId, range: &KvRange) -> ReadOptions {
    let mut options = ReadOptions::default();
    let end = prefix_end(&range.prefix).map_or_else(|| kind_key(bucket, KIND_END), |end| row_key(bucket, &end));
    options.set_iterate_upper_bound(end);
    options
}

fn scan(mut rows: DBRawIterator<'_>, bucket: KvBucketId, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, KvStoreError> {
    match &range.after {
        Some(after) if *after >= range.prefix => {
            let full = row_key(bucket, after);
            rows.seek(&full);
            if rows.key() == Some(&full) {
                rows.next();
            }
        }
        Some(_) | None => rows.seek(row_key(bucket, &range.prefix)),
    }
    let mut found = Vec::new();
    let mut bytes = 0;
    while let Some((key, value)) = rows.item() {
        if found.len() >= range.rows_max || (bytes >= range.bytes_max && !found.is_empty()) {
            return Ok(found);
        }
        let key = &key[KEY_PREFIX_BYTES..];
        bytes += key.len() + value.len();
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        rows.next();
    }
    rows.status().map_err(failed("scan"))?;
    Ok(found)
}

impl RocksKvStore {
    /// Opens or makes the store in `directory`, whose parent exists.
    ///
    /// Errors: another process has it open, or its files are damaged: then it can be deleted, the log has everything.
    pub fn open(directory: &Path, limits: &RocksLimits) -> Result<Self, KvStoreError> {
        let db = DB::open(&options(limits), directory).map_err(failed("open"))?;
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        Ok(Self { db, write })
    }
}

impl RocksKvStore {
    /// What is flushed in `directory`, to look at; it is not changed, and every write fails.
    ///
    /// Errors: there is no store, or its files are damaged. It does not notice a process that has it open.
    pub fn open_read_only(directory: &Path, limits: &RocksLimits) -> Result<Self, KvStoreError> {
        let db = DB::open_for_read_only(&options(limits), directory, false).map_err(failed("open"))?;
        Ok(Self { db, write: WriteOptions::default() })
    }
}

impl KvStore for RocksKvStore {
    fn get(&self, bucket: KvBucketId, key: &[u8]) -> Result<Option<Bytes>, KvStoreError> {
        let value = self.db.get_pinned(row_key(bucket, key)).map_err(failed("get"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn multi_get(&self, bucket: KvBucketId, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvStoreError> {
        let full: Vec<_> = keys.iter().map(|key| row_key(bucket, key)).collect();
        let values = self.db.multi_get(&full).into_iter();
        values.map(|value| value.map(|value| value.map(Bytes::from)).map_err(failed("multi_get"))).collect()
    }

    fn scan(&self, bucket: KvBucketId, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, KvStoreError> {
        scan(self.db.raw_iterator_opt(read_options(bucket, range)), bucket, range)
    }

    fn write(&self, bucket: KvBucketId, rows: &[KvRow], position: KvPosition) -> Result<(), KvStoreError> {
        let mut batch = WriteBatch::default();
        // In key order the memtable finds the next place from the last one: several times cheaper. Of a key that occurs twice the
        // order stays, so the last counts.
        let mut ordered: Vec<&KvRow> = rows.iter().collect();
        ordered.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (key, value) in ordered {
            match value {
                Some(value) => batch.put(row_key(bucket, key), value),
                None => batch.delete(row_key(bucket, key)),
            }
        }
        batch.put(kind_key(bucket, KIND_POSITION), encode_position(position));
        self.db.write_opt(batch, &self.write).map_err(failed("write"))
    }

    fn position(&self, bucket: KvBucketId) -> Result<KvPosition, KvStoreError> {
        let value = self.db.get_pinned(kind_key(bucket, KIND_POSITION)).map_err(failed("get"))?;
        decode_position(bucket, value.as_deref())
    }

    fn flush(&self) -> Result<(), KvStoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(failed("flush"))
    }

    fn flush_soon(&self) -> Result<(), KvStoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.db.flush_opt(&options).map_err(failed("flush"))
    }

    fn with_view(&self, bucket: KvBucketId, serve: &mut dyn FnMut(&dyn KvView)) -> Result<(), KvStoreError> {
        serve(&RocksView { snapshot: self.db.snapshot(), bucket });
        Ok(())
    }

    fn wipe(&self, bucket: KvBucketId) -> Result<(), KvStoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_range(kind_key(bucket, KIND_POSITION), kind_key(bucket, KIND_END));
        self.db.write_opt(batch, &self.write).map_err(failed("wipe"))
    }

    fn buckets(&self) -> Result<Vec<KvBucketId>, KvStoreError> {
        let mut rows = self.db.raw_iterator();
        let mut found = Vec::new();
        rows.seek_to_first();
        while let Some(number) = rows.key().and_then(|key| key.first_chunk::<KIND_AT>()) {
            let bucket = KvBucketId(u64::from_be_bytes(*number));
            found.push(bucket);
            rows.seek(kind_key(bucket, KIND_END));
        }
        rows.status().map_err(failed("scan"))?;
        Ok(found)
    }
}

struct RocksView<'a> {
    snapshot: Snapshot<'a>,
    bucket: KvBucketId,
}

impl KvView for RocksView<'_> {
    fn position(&self) -> Result<KvPosition, KvStoreError> {
        let value = self.snapshot.get_pinned(kind_key(self.bucket, KIND_POSITION)).map_err(failed("get"))?;
        decode_position(self.bucket, value.as_deref())
    }

    fn scan(&self, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, KvStoreError> {
        scan(self.snapshot.raw_iterator_opt(read_options(self.bucket, range)), self.bucket, range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A format: these bytes lie on disks.
    #[test]
    fn golden_position() {
        let position = KvPosition { raft_index: 0x0102, log_end: 0x0304, row_count: Some(5) };
        let bytes = encode_position(position);
        assert_eq!(&bytes, b"\x01\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0\x01\x05\0\0\0\0\0\0\0");
        assert_eq!(decode_position(KvBucketId(1), Some(&bytes)), Ok(position));
        assert!(decode_position(KvBucketId(1), Some(&bytes[1..])).is_err());
        assert!(decode_position(KvBucketId(1), Some(&[2; POSITION_BYTES])).is_err());
    }
}
