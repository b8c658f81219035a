//! The in-memory twin of the RocksDB store: same contract, and crashes that can be asked for.

use super::store::{KvBucketId, KvPosition, KvRange, KvRow, KvStore, KvStoreError, KvView, prefix_end};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

/// Writes that a crash may take back at most; beyond it the oldest are flushed, as RocksDB flushes when its buffers are full.
const UNFLUSHED_WRITES_MAX: usize = 1024;

/// A map per bucket. Shared by all buckets of a node.
#[derive(Debug, Default)]
pub struct MemKvStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    current: Buckets,
    /// What a crash leaves for sure.
    flushed: Buckets,
    /// Since then, in the order of the calls.
    unflushed: VecDeque<Write>,
}

type Buckets = BTreeMap<KvBucketId, MemBucket>;

#[derive(Clone, Debug, Default, PartialEq)]
struct MemBucket {
    rows: BTreeMap<Bytes, Bytes>,
    position: Option<KvPosition>,
}

#[derive(Clone, Debug)]
enum Write {
    Rows { bucket: KvBucketId, rows: Vec<KvRow>, position: KvPosition },
    Wipe { bucket: KvBucketId },
}

impl Write {
    fn apply(&self, buckets: &mut Buckets) {
        match self {
            Self::Rows { bucket, rows, position } => {
                let bucket = buckets.entry(*bucket).or_default();
                for (key, value) in rows {
                    match value {
                        Some(value) => drop(bucket.rows.insert(key.clone(), value.clone())),
                        None => drop(bucket.rows.remove(key)),
                    }
                }
                bucket.position = Some(*position);
            }
            Self::Wipe { bucket } => drop(buckets.remove(bucket)),
        }
    }
}

impl Inner {
    fn write(&mut self, write: Write) {
        write.apply(&mut self.current);
        self.unflushed.push_back(write);
        if self.unflushed.len() > UNFLUSHED_WRITES_MAX {
            self.flush(UNFLUSHED_WRITES_MAX / 2);
        }
    }

    /// The `count` oldest writes survive every crash from here on.
    fn flush(&mut self, count: usize) {
        for write in self.unflushed.drain(..count) {
            write.apply(&mut self.flushed);
        }
    }
}

impl MemKvStore {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic happens while the rows are held")
    }

    /// How many writes a crash could take back now.
    pub fn unflushed_count(&self) -> usize {
        self.inner().unflushed.len()
    }

    /// The power goes: of the writes since the last flush the first `kept` are there afterwards, as if a flush of the store's own
    /// had happened just then.
    pub fn crash(&self, kept: usize) {
        let mut inner = self.inner();
        let kept = kept.min(inner.unflushed.len());
        inner.flush(kept);
        inner.unflushed.clear();
        inner.current = inner.flushed.clone();
    }
}

fn scan(rows: &BTreeMap<Bytes, Bytes>, range: &KvRange) -> Vec<(Bytes, Bytes)> {
    let from = match &range.after {
        Some(after) if *after >= range.prefix => Bound::Excluded(after.clone()),
        Some(_) | None => Bound::Included(range.prefix.clone()),
    };
    let end = prefix_end(&range.prefix).map(Bytes::from);
    let mut bytes = 0;
    let mut found = Vec::new();
    for (key, value) in rows.range((from, Bound::Unbounded)) {
        if found.len() >= range.rows_max || (bytes >= range.bytes_max && !found.is_empty()) {
            break;
        }
        if end.as_ref().is_some_and(|end| key >= end) {
            break;
        }
        bytes += key.len() + value.len();
        found.push((key.clone(), value.clone()));
    }
    found
}

impl KvStore for MemKvStore {
    fn get(&self, bucket: KvBucketId, key: &[u8]) -> Result<Option<Bytes>, KvStoreError> {
        Ok(self.inner().current.get(&bucket).and_then(|bucket| bucket.rows.get(key).cloned()))
    }

    fn multi_get(&self, bucket: KvBucketId, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvStoreError> {
        let inner = self.inner();
        let Some(bucket) = inner.current.get(&bucket) else { return Ok(vec![None; keys.len()]) };
        Ok(keys.iter().map(|key| bucket.rows.get(key).cloned()).collect())
    }

    fn scan(&self, bucket: KvBucketId, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, KvStoreError> {
        Ok(self.inner().current.get(&bucket).map(|bucket| scan(&bucket.rows, range)).unwrap_or_default())
    }

    fn write(&self, bucket: KvBucketId, rows: &[KvRow], position: KvPosition) -> Result<(), KvStoreError> {
        self.inner().write(Write::Rows { bucket, rows: rows.to_vec(), position });
        Ok(())
    }

    fn position(&self, bucket: KvBucketId) -> Result<KvPosition, KvStoreError> {
        let inner = self.inner();
        Ok(inner.current.get(&bucket).and_then(|bucket| bucket.position).unwrap_or(KvPosition::START))
    }

    fn flush(&self) -> Result<(), KvStoreError> {
        let mut inner = self.inner();
        let all = inner.unflushed.len();
        inner.flush(all);
        Ok(())
    }

    fn flush_soon(&self) -> Result<(), KvStoreError> {
        self.flush()
    }

    fn with_view(&self, bucket: KvBucketId, serve: &mut dyn FnMut(&dyn KvView)) -> Result<(), KvStoreError> {
        let view = self.inner().current.get(&bucket).cloned().unwrap_or_default();
        serve(&view);
        Ok(())
    }

    fn wipe(&self, bucket: KvBucketId) -> Result<(), KvStoreError> {
        self.inner().write(Write::Wipe { bucket });
        Ok(())
    }

    fn buckets(&self) -> Result<Vec<KvBucketId>, KvStoreError> {
        Ok(self.inner().current.keys().copied().collect())
    }
}

impl KvView for MemBucket {
    fn position(&self) -> Result<KvPosition, KvStoreError> {
        Ok(self.position.unwrap_or(KvPosition::START))
    }

    fn scan(&self, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, KvStoreError> {
        Ok(scan(&self.rows, range))
    }
}
