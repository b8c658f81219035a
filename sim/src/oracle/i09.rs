//! I9: the changelog is well formed, and each batch changed what it should have: inserts only where nothing was, images of the stored
//! row, pairs together, and the merge rules of the table as the checkers know them. Numbers given to new rows are given once in a table
//! and stay.

use super::Oracle;
use super::replay::Replay;
use crate::history::{BucketNo, DumpBatch, Event, WriterNo};
use floss_checker::{Batch, Change, Numbers, Rows, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Default)]
pub struct WellFormed {
    tables: BTreeMap<BucketNo, Table>,
    /// Table and column.
    numbered: BTreeMap<BucketNo, (usize, usize)>,
    numbers: BTreeMap<usize, Numbers>,
    puts: BTreeMap<(BucketNo, WriterNo, i32), Arc<Batch>>,
    /// What readers were told an offset says.
    read: BTreeMap<(BucketNo, i64), (Option<Change>, u32)>,
    checked: BTreeSet<BucketNo>,
}

impl WellFormed {
    fn check_log(&mut self, bucket: BucketNo, table: &Table, batches: &[DumpBatch]) -> Result<(), String> {
        if let Err((offset, anomaly)) = Replay::new(table, batches) {
            return Err(format!("the batch at offset={offset} of b{bucket}: {anomaly}"));
        }
        let mut rows = Rows::new();
        for batch in batches {
            self.check_merge(bucket, table, batch, &mut rows)?;
            self.check_numbers(bucket, batch)?;
            self.check_readers(bucket, batch)?;
        }
        Ok(())
    }

    /// The changes are those that the put makes of the rows before it.
    fn check_merge(&self, bucket: BucketNo, table: &Table, batch: &DumpBatch, rows: &mut Rows) -> Result<(), String> {
        let offset = batch.base_offset;
        let Some(Ok(value)) = batch.rows.first() else { return Ok(()) };
        let (writer, sequence) = (value.writer, value.sequence);
        let Some(put) = self.puts.get(&(bucket, writer, sequence)) else {
            return Err(format!("the batch at offset={offset} of b{bucket} says w{writer} #{sequence}, nobody put that"));
        };
        let expected = match self.numbered.get(&bucket) {
            Some((_, column)) => table.run_numbered(rows, put, *column, &batch.changes),
            None => table.run(rows, put),
        };
        let differ = (0..expected.len().max(batch.changes.len())).find(|at| expected.get(*at) != batch.changes.get(*at));
        let Some(at) = differ else { return Ok(()) };
        let text = |change: Option<&Change>| change.map_or_else(|| "nothing".to_owned(), Change::to_string);
        let (found, expected) = (text(batch.changes.get(at)), text(expected.get(at)));
        let columns = &put.columns;
        Err(format!(
            "wrong merge: w{writer} #{sequence} (columns {columns:?}) at offset={offset} of b{bucket}: change {at} is {found}, expected {expected}"
        ))
    }

    /// Over all buckets of a table.
    fn check_numbers(&mut self, bucket: BucketNo, batch: &DumpBatch) -> Result<(), String> {
        let Some((table, column)) = self.numbered.get(&bucket).copied() else { return Ok(()) };
        let place = format!("offset={} of b{bucket}", batch.base_offset);
        let numbers = self.numbers.entry(table).or_default();
        numbers.take(&batch.changes, column, &place).map_err(|anomaly| anomaly.to_string())
    }

    fn check_readers(&self, bucket: BucketNo, batch: &DumpBatch) -> Result<(), String> {
        for at in 0..batch.rows.len() {
            let offset = batch.base_offset + at as i64;
            let Some((told, reader)) = self.read.get(&(bucket, offset)) else { continue };
            if told.as_ref() != batch.changes.get(at) {
                return Err(format!(
                    "r{reader} read {told:?} at offset={offset} of b{bucket}, it is {:?}",
                    batch.changes.get(at)
                ));
            }
        }
        Ok(())
    }
}

impl Oracle for WellFormed {
    fn id(&self) -> &'static str {
        "I9"
    }

    fn observe(&mut self, _at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Start { keyed, numbered, .. } => (self.tables, self.numbered) = (keyed.clone(), numbered.clone()),
            Event::Put { writer, bucket, sequence, batch } => {
                self.puts.insert((*bucket, *writer, *sequence), batch.clone());
            }
            Event::Fetch { reader, bucket, rows, .. } if self.tables.contains_key(bucket) => {
                for row in rows.iter().filter(|row| row.value.is_ok()) {
                    let (known, first) = self.read.entry((*bucket, row.offset)).or_insert_with(|| (row.change.clone(), *reader));
                    if *known != row.change {
                        let (offset, now) = (row.offset, &row.change);
                        return Err(format!("r{reader} read {now:?} at offset={offset} of b{bucket}, r{first} read {known:?}"));
                    }
                }
            }
            // The others are the same, byte for byte (I2).
            Event::Dump { bucket, log_start: 0, batches: Ok(batches), .. } if self.checked.insert(*bucket) => {
                if let Some(table) = self.tables.get(bucket).cloned() {
                    self.check_log(*bucket, &table, batches)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
