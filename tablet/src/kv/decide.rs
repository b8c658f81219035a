//! From a KV batch and the rows that exist to the changes it makes. Reads state, changes nothing.
//!
//! ```text
//! event                        old row   changelog FULL      changelog WAL
//! upsert                       none      +I new              +I new; +U new if the old row is not looked up
//! upsert, merged row differs   exists    -U old, +U merged   +U merged
//! upsert, old row stays        exists    nothing             nothing
//! delete                       none      nothing             nothing
//! delete                       exists    -D old              -D old
//! delete of some columns       exists    -U old, +U reduced  +U reduced
//! ```
//! The old row is not looked up for upserts of whole rows, if the image is WAL and there is no merge engine and no auto-increment
//! column. Source: semantics.md 2.

use super::changelog::Change;
use super::merge::{self, Columns, Deleted, Merged};
use super::row::{Row, canonical};
use super::store::KvRow;
use super::table::{Engine, KvSchema, KvTable};
use crate::error::TabletError;
use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::{KvBatch, KvRecord};
use floss_protocol::log_batch::ChangeType;
use floss_protocol::mutant;
use floss_protocol::row::Value;
use floss_protocol::schema::{ChangelogImage, DataType, DeleteBehavior, TypeKind};
use std::collections::HashMap;
use std::ops::Range;

/// Old rows looked up at a time: bounds what a batch of small deletes of large rows holds in memory.
const LOOKUP_KEYS_MAX: usize = 512;

/// Whether the table's merge engine is asked (`agg_mode` on the wire).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    Merge,
    /// As if the table had no merge engine; deletes are allowed.
    Overwrite,
}

/// What a batch changes.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// In the order of the records.
    pub changes: Vec<Change>,
    /// The last state of every key that changed, stored form.
    pub rows: Vec<KvRow>,
    /// Ids used of the range that was given.
    pub ids_used: i64,
}

/// Everything that decides about a batch, but the rows.
pub(super) struct Put<'a> {
    pub table: &'a KvTable,
    pub batch: &'a KvBatch,
    pub target_columns: &'a [i32],
    pub mode: PutMode,
    /// Ids for the auto-increment column; may be empty.
    pub ids: Range<i64>,
    /// Of the changed rows, before compression.
    pub bytes_max: usize,
}

/// Looks up old rows in stored form, one answer per key.
pub(super) type Lookup<'a> = &'a mut dyn FnMut(&[Bytes]) -> Result<Vec<Option<Bytes>>, TabletError>;

/// The newest state of a key.
enum Newest {
    /// As it is stored.
    Stored(Option<Row>),
    /// As this change leaves it.
    Changed(usize),
    Deleted,
}

struct Decider<'a> {
    put: &'a Put<'a>,
    schema: &'a KvSchema,
    columns: Columns,
    /// What the client's rows are read with.
    row_types: Vec<DataType>,
    /// Upserts do not need the old row.
    is_blind: bool,
    /// Keys seen or changed by this batch.
    rows: HashMap<Bytes, Newest>,
    /// Each key once, in the order of its first change.
    changed: Vec<Bytes>,
    changes: Vec<Change>,
    bytes: usize,
    ids_used: i64,
}

impl Put<'_> {
    /// Errors: `UnknownSchema`, `InvalidTargetColumns`, `UnsupportedPut`, `DeletionDisabled`, `InvalidRow`, `BatchTooLarge`,
    /// `OutOfIds`, and what `lookup` says.
    pub fn decide(&self, lookup: Lookup) -> Result<Decision, TabletError> {
        let table = self.table;
        let SchemaId(found) = self.batch.schema_id;
        let unknown = TabletError::UnknownSchema { found, latest: table.latest_schema_id().0 };
        let schema = table.schema(self.batch.schema_id).ok_or(unknown)?;
        let columns = self.columns()?;
        let is_blind = table.image == ChangelogImage::Wal
            && matches!(table.engine, Engine::Replace)
            && columns == Columns::All
            && table.auto_increment.is_none();
        let row_types = row_types(schema, &columns);
        let mut decider = Decider {
            put: self,
            schema,
            columns,
            row_types,
            is_blind,
            rows: HashMap::new(),
            changed: Vec::new(),
            changes: Vec::new(),
            bytes: 0,
            ids_used: 0,
        };
        let records = self.batch.records().collect::<Result<Vec<_>, _>>();
        let records = records.map_err(|error| TabletError::CorruptBatch { position: 0, reason: error.to_string() })?;
        for (at, records) in records.chunks(LOOKUP_KEYS_MAX).enumerate() {
            decider.load(records, lookup)?;
            for (in_chunk, record) in records.iter().enumerate() {
                decider.take(at * LOOKUP_KEYS_MAX + in_chunk, record)?;
            }
        }
        decider.finish()
    }

    /// Errors: `InvalidTargetColumns`, `UnsupportedPut`.
    fn columns(&self) -> Result<Columns, TabletError> {
        let table = self.table;
        let types = table.types();
        let refuse = |reason: String| Err(TabletError::InvalidTargetColumns { reason });
        if self.target_columns.is_empty() {
            return match table.auto_increment {
                Some(_) => refuse("a table with an auto-increment column needs target columns without it".to_owned()),
                None => Ok(Columns::All),
            };
        }
        let mut targets = vec![false; types.len()];
        for column in self.target_columns {
            let target = usize::try_from(*column).ok().and_then(|column| targets.get_mut(column));
            let Some(target) = target else { return refuse(format!("column {column} of {} does not exist", types.len())) };
            *target = true;
        }
        if table.auto_increment.is_some_and(|column| targets[column]) {
            return refuse("the auto-increment column is set by the server".to_owned());
        }
        if targets.iter().all(|target| *target) {
            return Ok(Columns::All);
        }
        if let Some(column) = table.primary_key.iter().find(|column| !targets[**column]) {
            return refuse(format!("primary key column {column} is missing"));
        }
        let is_set_by_others = |column: usize| table.primary_key.contains(&column) || table.auto_increment == Some(column);
        let not_null = (0..types.len()).find(|column| !types[*column].nullable && !is_set_by_others(*column));
        if let Some(column) = not_null {
            return refuse(format!("column {column} is not nullable, a partial update needs it to be"));
        }
        let ordered = matches!(table.engine, Engine::FirstRow | Engine::Versioned { .. });
        if ordered && self.mode == PutMode::Merge {
            let reason = "merge engines first_row and versioned do not take partial updates".to_owned();
            return Err(TabletError::UnsupportedPut { reason });
        }
        Ok(Columns::Some(targets))
    }
}

/// Columns that a partial update does not speak of hold anything, null as well.
fn row_types(schema: &KvSchema, columns: &Columns) -> Vec<DataType> {
    let relax = |(at, data_type): (usize, &DataType)| {
        let is_target = match columns {
            Columns::All => true,
            Columns::Some(targets) => targets.get(at).copied().unwrap_or(true),
        };
        DataType { kind: data_type.kind.clone(), nullable: data_type.nullable || !is_target }
    };
    schema.types.iter().enumerate().map(relax).collect()
}

impl Decider<'_> {
    /// Fetches the old rows of `records` that are not known yet.
    fn load(&mut self, records: &[KvRecord], lookup: Lookup) -> Result<(), TabletError> {
        let is_needed = |record: &&KvRecord| {
            let is_unseen = self.is_blind && record.row.is_some();
            !is_unseen && !self.rows.contains_key(&record.key)
        };
        let needed = records.iter().filter(is_needed);
        let mut keys: Vec<Bytes> = needed.map(|record| record.key.clone()).collect();
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            return Ok(());
        }
        for (key, value) in keys.iter().zip(lookup(&keys)?) {
            let row = value.map(|value| self.put.table.decode_value(&value));
            let row = row.transpose().map_err(|reason| TabletError::CorruptValue { reason })?;
            self.rows.insert(key.clone(), Newest::Stored(row));
        }
        Ok(())
    }

    /// The newest row of a key, to be replaced: what is stored is moved out.
    fn take_row(&mut self, key: &Bytes) -> Option<Row> {
        match self.rows.get_mut(key) {
            None | Some(Newest::Deleted) => None,
            Some(Newest::Stored(row)) => row.take(),
            Some(Newest::Changed(at)) => Some(self.changes[*at].row.clone()),
        }
    }

    /// It was taken, and stays.
    fn put_back(&mut self, key: &Bytes, row: Row) {
        if let Some(newest @ Newest::Stored(_)) = self.rows.get_mut(key) {
            *newest = Newest::Stored(Some(row));
        }
    }

    fn take(&mut self, at: usize, record: &KvRecord) -> Result<(), TabletError> {
        match &record.row {
            None => self.delete(at, &record.key),
            Some(row) => {
                let new = self.read_row(at, &record.key, row)?;
                self.upsert(at, &record.key, new)
            }
        }
    }

    /// The client's row, checked, in the latest schema.
    fn read_row(&self, at: usize, key: &Bytes, bytes: &Bytes) -> Result<Row, TabletError> {
        let table = self.put.table;
        let invalid = |reason: String| TabletError::InvalidRow { record: at, reason };
        let row = super::row::decode(table.kv_format, bytes, &self.row_types).map_err(|error| invalid(error.to_string()))?;
        let mut row = merge::insert(&self.columns, self.schema.widen(row));
        let columns = row.iter_mut().zip(table.types()).enumerate();
        for (column, (value, data_type)) in columns {
            let is_later = value.is_null() && table.auto_increment == Some(column);
            if !is_later {
                canonical(value, data_type).map_err(|reason| invalid(format!("column {column}: {reason}")))?;
            }
        }
        let expected = table.key(&row).map_err(invalid)?;
        if expected != *key {
            return Err(invalid(format!("key of {} bytes is not that of the row ({} bytes)", key.len(), expected.len())));
        }
        Ok(row)
    }

    fn upsert(&mut self, at: usize, key: &Bytes, new: Row) -> Result<(), TabletError> {
        if self.is_blind {
            return self.push(key, None, Some((ChangeType::UpdateAfter, new)));
        }
        let Some(old) = self.take_row(key) else {
            let row = self.with_id(at, new)?;
            return self.push(key, None, Some((ChangeType::Insert, row)));
        };
        let overwrite = self.put.mode == PutMode::Overwrite;
        let merged = merge::upsert(self.put.table, overwrite, &self.columns, &old, new);
        match merged.map_err(|reason| TabletError::InvalidRow { record: at, reason })? {
            Merged::Keep if mutant!("K06") => self.update(key, old.clone(), old),
            Merged::Keep => {
                self.put_back(key, old);
                Ok(())
            }
            Merged::Row(row) => self.update(key, old, row),
        }
    }

    fn delete(&mut self, at: usize, key: &Bytes) -> Result<(), TabletError> {
        let behavior = match self.put.mode {
            PutMode::Merge => self.put.table.delete,
            PutMode::Overwrite => DeleteBehavior::Allow,
        };
        match behavior {
            DeleteBehavior::Allow => {}
            DeleteBehavior::Ignore => return Ok(()),
            DeleteBehavior::Disable => return Err(TabletError::DeletionDisabled { record: at }),
        }
        match self.take_row(key) {
            None if mutant!("K05") => {
                let row = self.put.table.values_of_key(key)?;
                self.push(key, Some((ChangeType::Delete, row)), None)
            }
            None => Ok(()),
            Some(old) => match merge::delete(self.put.table, &self.columns, &old) {
                Deleted::Row => self.push(key, Some((ChangeType::Delete, old)), None),
                Deleted::Reduced(row) => self.update(key, old, row),
            },
        }
    }

    fn update(&mut self, key: &Bytes, old: Row, new: Row) -> Result<(), TabletError> {
        let before = match self.put.table.image {
            ChangelogImage::Full => Some((ChangeType::UpdateBefore, old)),
            ChangelogImage::Wal => None,
        };
        self.push(key, before, Some((ChangeType::UpdateAfter, new)))
    }

    /// `before`: what was there; `after`: what is there now, nothing = deleted.
    fn push(
        &mut self,
        key: &Bytes,
        before: Option<(ChangeType, Row)>,
        after: Option<(ChangeType, Row)>,
    ) -> Result<(), TabletError> {
        let is_there = after.is_some();
        for (change_type, row) in before.into_iter().chain(after) {
            self.bytes += row.iter().map(value_bytes).sum::<usize>();
            self.changes.push(Change { change_type, row });
        }
        if self.bytes > self.put.bytes_max {
            return Err(TabletError::BatchTooLarge { found: self.bytes, limit: self.put.bytes_max });
        }
        let newest = if is_there { Newest::Changed(self.changes.len() - 1) } else { Newest::Deleted };
        if let None | Some(Newest::Stored(_)) = self.rows.insert(key.clone(), newest) {
            self.changed.push(key.clone());
        }
        Ok(())
    }

    /// A new row, with the next id in its auto-increment column.
    fn with_id(&mut self, at: usize, mut row: Row) -> Result<Row, TabletError> {
        let table = self.put.table;
        let Some(column) = table.auto_increment else { return Ok(row) };
        let Range { start, end } = self.put.ids;
        let id = start.saturating_add(self.ids_used);
        if id >= end {
            return Err(TabletError::OutOfIds { record: at });
        }
        if id > table.auto_increment_max() {
            return Err(TabletError::InvalidRow { record: at, reason: format!("id={id} overflows the auto-increment column") });
        }
        self.ids_used += 1;
        row[column] = match table.types()[column].kind {
            TypeKind::Int => Value::Int(id as i32),
            _ => Value::BigInt(id),
        };
        Ok(row)
    }

    fn finish(self) -> Result<Decision, TabletError> {
        let table = self.put.table;
        let (id, schema) = (table.latest_schema_id(), table.newest());
        let mut rows = Vec::with_capacity(self.changed.len());
        for key in self.changed {
            let value = match &self.rows[&key] {
                Newest::Changed(at) => Some(table.encode_value(id, schema, &self.changes[*at].row)),
                Newest::Deleted | Newest::Stored(_) => None,
            };
            let value = value.transpose().map_err(|reason| TabletError::InvalidRow { record: 0, reason })?;
            rows.push((key, value));
        }
        Ok(Decision { changes: self.changes, rows, ids_used: self.ids_used })
    }
}

/// About what a value takes in a batch.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => 5 + text.len(),
        Value::Bytes(bytes) => 5 + bytes.len(),
        Value::Array(values) | Value::Row(values) => 5 + values.iter().map(value_bytes).sum::<usize>(),
        Value::Map(entries) => 5 + entries.iter().map(|(key, value)| value_bytes(key) + value_bytes(value)).sum::<usize>(),
        Value::Decimal(_) => 16,
        _ => 8,
    }
}
