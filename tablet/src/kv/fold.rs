//! One bucket's rows as a replica keeps them: the fold of the changelog, entry by entry.

use super::changelog::{Change, read_changes};
use super::scan::{ScanId, ScanStep, Scans};
use super::store::{KvBucketId, KvPosition, KvRange, KvRow, KvStore, KvStoreError, KvView};
use super::table::KvTable;
use crate::command::Command;
use crate::error::TabletError;
use bytes::Bytes;
use floss_protocol::log_batch::{ChangeType, LogBatch, LogBatches};
use floss_protocol::{mutant, reached};
use std::sync::Arc;

/// The rows of one bucket in the node's store, and how far they are.
///
/// The store may be ahead of a replica that has just started (it kept more than the last snapshot of the log's state) or behind it (a
/// crash took the end, a snapshot was installed, the directory was lost). Ahead: entries up to its position are skipped. Behind:
/// [`Self::apply`] says so and whoever can read the log folds the entries in between with the same call.
///
/// Keeps: I8; rows and position in one atomic write.
#[derive(Debug)]
pub struct KvBucket {
    id: KvBucketId,
    store: Arc<dyn KvStore>,
    table: Arc<KvTable>,
    /// Of the last entry seen here; `raft_index` is at or above what the store says, by entries without rows.
    position: KvPosition,
    scans: Scans,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// The rows are those of the log up to this entry.
    Done,
    /// They were already.
    Before,
    /// Entries from `next_index` on are missing, or the schema of this one is not known yet: nothing was done.
    Behind { next_index: u64 },
}

impl KvBucket {
    /// Errors: the store cannot tell its position.
    pub fn open(id: KvBucketId, store: Arc<dyn KvStore>, table: Arc<KvTable>) -> Result<Self, KvStoreError> {
        let mut position = store.position(id)?;
        if mutant!("K09") && position.raft_index > 0 {
            position.raft_index += 1;
        }
        Ok(Self { id, store, table, position, scans: Scans::default() })
    }

    pub fn table(&self) -> &Arc<KvTable> {
        &self.table
    }

    pub fn store(&self) -> &Arc<dyn KvStore> {
        &self.store
    }

    pub fn id(&self) -> KvBucketId {
        self.id
    }

    /// The table was altered.
    pub fn configure(&mut self, table: Arc<KvTable>) {
        self.table = table;
    }

    pub fn position(&self) -> KvPosition {
        self.position
    }

    /// Entries below `index` that were not seen hold nothing that takes effect.
    pub fn skip_below(&mut self, index: u64) {
        self.position.raft_index = self.position.raft_index.max(index.saturating_sub(1));
    }

    /// Takes the committed entry at raft `(term, index)`; `None` = Raft's own.
    ///
    /// Panics if a committed changelog cannot be read or the store fails: the replica must stop, it must not skip.
    pub fn apply(&mut self, term: u64, index: u64, command: Option<&Command>) -> Folded {
        let next_index = self.position.raft_index + 1;
        if index < next_index {
            return Folded::Before;
        }
        if index > next_index {
            return Folded::Behind { next_index };
        }
        let mut position = KvPosition { raft_index: index, ..self.position };
        if let Some(batches) = self.effective(term, command) {
            let Some(rows) = self.fold(index, &batches, &mut position) else {
                reached!("kv_schema_unknown");
                return Folded::Behind { next_index };
            };
            self.write(&rows, position);
        }
        self.position = position;
        Folded::Done
    }

    /// The batches of an entry that takes effect: the same test as that of the log (term, then base offset).
    fn effective(&self, term: u64, command: Option<&Command>) -> Option<Vec<LogBatch>> {
        let Some(Command::Append { decided_term, batches }) = command else { return None };
        if *decided_term != term {
            return None;
        }
        let read = |batch: Result<LogBatch, _>| batch.unwrap_or_else(|error| panic!("changelog: {error} (journal or our code)"));
        let batches: Vec<LogBatch> = LogBatches::new(batches.clone()).map(read).collect();
        (batches.first()?.base_offset.0 == self.position.log_end).then_some(batches)
    }

    /// `None` if a schema is not known here yet.
    fn fold(&self, index: u64, batches: &[LogBatch], position: &mut KvPosition) -> Option<Vec<KvRow>> {
        let mut rows = Vec::new();
        for batch in batches {
            let changes = match read_changes(&self.table, batch, |change_type| change_type != ChangeType::UpdateBefore) {
                Ok(changes) => changes,
                Err(TabletError::UnknownSchema { .. }) => return None,
                Err(error) => panic!("entry {index}: {error} (journal or our code, it was made by a leader)"),
            };
            for change in changes {
                rows.push(self.row(index, batch, change, position));
            }
            position.log_end += batch.offset_count();
        }
        Some(rows)
    }

    fn row(&self, index: u64, batch: &LogBatch, change: Change, position: &mut KvPosition) -> KvRow {
        let bug = |error: String| -> Bytes { panic!("entry {index}: {error} (our code, a leader decided it)") };
        let key = self.table.key(&change.row).unwrap_or_else(bug);
        let counts = |delta: i64| position.row_count.map(|count| count.saturating_add_signed(delta));
        match change.change_type {
            ChangeType::Insert => position.row_count = counts(1),
            ChangeType::Delete => position.row_count = counts(-1),
            ChangeType::UpdateAfter if mutant!("K15") => position.row_count = counts(1),
            ChangeType::UpdateAfter if self.table.counts_rows() => {}
            // Written without a look at the old row: it may have been an insert.
            ChangeType::UpdateAfter => position.row_count = None,
            ChangeType::UpdateBefore | ChangeType::AppendOnly => {}
        }
        if change.change_type == ChangeType::Delete {
            return (key, None);
        }
        let schema = self.table.schema(batch.schema_id).expect("its batch was read with it");
        let value = self.table.encode_value(batch.schema_id, schema, &change.row).unwrap_or_else(bug);
        (key, Some(value))
    }

    fn write(&mut self, rows: &[KvRow], position: KvPosition) {
        let fail = |error: KvStoreError| panic!("bucket {}: {error} (this disk)", self.id.0);
        self.scans.remember(&*self.store, self.id, rows).unwrap_or_else(fail);
        if mutant!("R16") {
            self.store.write(self.id, &[], position).unwrap_or_else(fail);
        }
        if mutant!("K08") {
            self.store.write(self.id, rows, self.position).unwrap_or_else(fail);
        }
        self.store.write(self.id, rows, position).unwrap_or_else(fail);
    }

    /// A scan of the rows as they are now, of at most `rows_max` of them.
    pub fn open_scan(&mut self, rows_max: usize) -> ScanId {
        self.scans.open(rows_max)
    }

    /// The next rows of a scan; `None` if it is not open (any more).
    pub fn step_scan(&mut self, scan: ScanId, bytes_max: usize) -> Result<Option<ScanStep>, KvStoreError> {
        self.scans.step(&*self.store, self.id, scan, bytes_max)
    }

    /// Does nothing if it is not open.
    pub fn close_scan(&mut self, scan: ScanId) {
        self.scans.close(scan);
    }

    /// Reads without holding the bucket.
    pub fn reader(&self) -> KvReader {
        KvReader { id: self.id, store: self.store.clone() }
    }
}

/// Applied rows of one bucket (I6).
#[derive(Clone, Debug)]
pub struct KvReader {
    id: KvBucketId,
    store: Arc<dyn KvStore>,
}

impl KvReader {
    /// One answer per key.
    pub fn lookup(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, KvStoreError> {
        self.store.multi_get(self.id, keys)
    }

    /// In key order.
    pub fn scan(&self, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, KvStoreError> {
        self.store.scan(self.id, range)
    }

    /// Reads of one moment; see [`KvStore::with_view`].
    pub fn with_view(&self, serve: &mut dyn FnMut(&dyn KvView)) -> Result<(), KvStoreError> {
        self.store.with_view(self.id, serve)
    }
}
