//! Scans over many calls that all see the moment of their first one: what changes meanwhile is remembered as it was then.
//!
//! No snapshot of the store is held: the only thing that grows while a scan is open are the rows that changed and that it has not
//! come to yet, and that is bounded.

use super::store::{KvBucketId, KvRange, KvRow, KvStore, KvStoreError};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Old rows that one scan may make us remember; beyond it the scan ends.
pub const SCAN_REMEMBERED_BYTES_MAX: usize = 64 << 20;

/// One open scan of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScanId(u64);

/// The rows of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanStep {
    /// In key order; at least one unless `is_last`.
    pub rows: Vec<(Bytes, Bytes)>,
    /// There are no more; the scan is closed.
    pub is_last: bool,
}

#[derive(Debug)]
struct Scan {
    /// Rows up to this key were handed out.
    after: Option<Bytes>,
    rows_left: usize,
    /// Keys above `after` that changed since the scan was opened, as they were.
    before: BTreeMap<Bytes, Option<Bytes>>,
    before_bytes: usize,
}

/// The open scans of a bucket.
#[derive(Debug, Default)]
pub(super) struct Scans {
    next: u64,
    open: BTreeMap<ScanId, Scan>,
}

impl Scans {
    pub fn open(&mut self, rows_max: usize) -> ScanId {
        let id = ScanId(self.next);
        self.next += 1;
        let scan = Scan { after: None, rows_left: rows_max, before: BTreeMap::new(), before_bytes: 0 };
        self.open.insert(id, scan);
        id
    }

    pub fn close(&mut self, id: ScanId) {
        self.open.remove(&id);
    }

    /// Called before `rows` are written.
    pub fn remember(&mut self, store: &dyn KvStore, bucket: KvBucketId, rows: &[KvRow]) -> Result<(), KvStoreError> {
        if self.open.is_empty() || mutant!("K22") {
            return Ok(());
        }
        let keys: Vec<Bytes> = rows.iter().map(|(key, _)| key.clone()).collect();
        let values = store.multi_get(bucket, &keys)?;
        for scan in self.open.values_mut() {
            for (key, value) in keys.iter().zip(&values) {
                let is_ahead = scan.after.as_ref().is_none_or(|after| key > after);
                if is_ahead && !scan.before.contains_key(key) {
                    scan.before_bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
                    scan.before.insert(key.clone(), value.clone());
                }
            }
        }
        self.open.retain(|_, scan| {
            let fits = scan.before_bytes <= SCAN_REMEMBERED_BYTES_MAX;
            if !fits {
                reached!("scan_outgrown");
            }
            fits
        });
        Ok(())
    }

    /// The next rows, about `bytes_max` bytes of them. `None`: there is no such scan (any more).
    pub fn step(
        &mut self,
        store: &dyn KvStore,
        bucket: KvBucketId,
        id: ScanId,
        bytes_max: usize,
    ) -> Result<Option<ScanStep>, KvStoreError> {
        let Some(scan) = self.open.get_mut(&id) else { return Ok(None) };
        let mut step = ScanStep::default();
        while step.rows.is_empty() && !step.is_last {
            step = scan.read(store, bucket, bytes_max)?;
        }
        if step.is_last {
            self.open.remove(&id);
        }
        Ok(Some(step))
    }
}

impl Scan {
    fn read(&mut self, store: &dyn KvStore, bucket: KvBucketId, bytes_max: usize) -> Result<ScanStep, KvStoreError> {
        let range = KvRange { after: self.after.clone(), rows_max: self.rows_left, bytes_max, ..KvRange::all() };
        let now = store.scan(bucket, &range)?;
        let bytes: usize = now.iter().map(|(key, value)| key.len() + value.len()).sum();
        let is_end = now.len() < self.rows_left && bytes < bytes_max;
        // Rows up to here were looked at; without an end only as far as the last key.
        let upto = if is_end { None } else { now.last().map(|(key, _)| key.clone()) };
        let mut rows: BTreeMap<Bytes, Bytes> = now.into_iter().collect();
        let from = self.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let to = upto.clone().map_or(Bound::Unbounded, Bound::Included);
        let changed: Vec<Bytes> = self.before.range((from, to)).map(|(key, _)| key.clone()).collect();
        for key in changed {
            match self.before.remove(&key).flatten() {
                Some(value) => drop(rows.insert(key, value)),
                None => drop(rows.remove(&key)),
            }
        }
        let is_cut = rows.len() > self.rows_left;
        let rows: Vec<_> = rows.into_iter().take(self.rows_left).collect();
        self.rows_left -= rows.len();
        let is_last = is_cut || self.rows_left == 0 || upto.is_none();
        self.after = upto;
        Ok(ScanStep { rows, is_last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::mem::MemKvStore;
    use crate::kv::store::KvPosition;
    use proptest::prelude::*;

    const BUCKET: KvBucketId = KvBucketId(1);

    fn row(key: u8, value: Option<u8>) -> KvRow {
        (Bytes::from(vec![key]), value.map(|value| Bytes::from(vec![value; 4])))
    }

    proptest! {
        /// Whatever changes between the calls, the scan gives what was there when it was opened.
        #[test]
        fn a_scan_sees_one_moment(
            first in prop::collection::vec((0..40_u8, any::<u8>()), 0..40),
            later in prop::collection::vec(prop::collection::vec((0..40_u8, prop::option::of(any::<u8>())), 0..6), 0..20),
            bytes_max in 1..40_usize,
            rows_max in prop_oneof![Just(usize::MAX), 1..50_usize],
        ) {
            let store = MemKvStore::default();
            let rows: Vec<KvRow> = first.iter().map(|(key, value)| row(*key, Some(*value))).collect();
            store.write(BUCKET, &rows, KvPosition::START).unwrap();
            let mut expected = store.scan(BUCKET, &KvRange::all()).unwrap();
            expected.truncate(rows_max);
            let mut scans = Scans::default();
            let id = scans.open(rows_max);
            let mut found = Vec::new();
            let mut later = later.into_iter();
            loop {
                let step = scans.step(&store, BUCKET, id, bytes_max).unwrap().unwrap();
                prop_assert!(step.is_last || !step.rows.is_empty());
                found.extend(step.rows);
                if step.is_last {
                    break;
                }
                let rows: Vec<KvRow> = later.next().unwrap_or_default().into_iter().map(|(key, value)| row(key, value)).collect();
                scans.remember(&store, BUCKET, &rows).unwrap();
                store.write(BUCKET, &rows, KvPosition::START).unwrap();
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(scans.step(&store, BUCKET, id, bytes_max), Ok(None));
        }
    }
}
