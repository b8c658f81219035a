//! Writers that upsert and delete rows of a primary-key table through the official client; each key has one writer.

use super::append::{self, logged};
use crate::history::{History, PRELOADER, Value};
use anyhow::{Context, bail};
use arrow59::array::AsArray;
use arrow59::datatypes::{Int32Type, Int64Type};
use floss_checker::history::{Answer, Event, Logged, Outcome, Request, Seen, Source, Stamp};
use floss_checker::{Batch, Cell, Change, Engine, Image, Kind, Op, Row, Table};
use fluss::client::{EARLIEST_OFFSET, FlussConnection, FlussTable, UpsertWriter, WriteResultFuture};
use fluss::metadata::{DataTypes, Schema, TableBucket, TableDescriptor, TablePath};
use fluss::record::{ChangeType, ScanRecord};
use fluss::row::{DataGetters, GenericRow};
use fluss::rpc::message::OffsetSpec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const IN_FLIGHT: usize = 4;
/// Keys of one writer that come up again and again; the others are scattered over what was loaded.
const HOT_KEYS: i64 = 50;
/// Told as one operation.
const PRELOADED_AT_ONCE: i64 = 1000;

/// What is loaded under a key.
fn loaded(key: i64) -> Value {
    Value { writer: PRELOADER as i32, sequence: key }
}

pub fn path() -> TablePath {
    TablePath::new("fluss", "jepsen_upsert")
}

pub async fn create_table(connection: &FlussConnection, buckets: i32) -> anyhow::Result<()> {
    let schema = Schema::builder()
        .column("id", DataTypes::bigint())
        .column("writer", DataTypes::int())
        .column("sequence", DataTypes::bigint())
        .column("checksum", DataTypes::bigint())
        .primary_key(["id"])?
        .build()?;
    let descriptor = TableDescriptor::builder().schema(schema).distributed_by(Some(buckets), vec![]).build()?;
    Ok(connection.get_admin()?.create_table(&path(), &descriptor, false).await?)
}

fn row(key: i64, value: Value) -> GenericRow<'static> {
    let mut row = GenericRow::new(4);
    row.set_field(0, key);
    row.set_field(1, value.writer);
    row.set_field(2, value.sequence);
    row.set_field(3, value.checksum());
    row
}

/// What the checkers know of a row: its key, who wrote it, and which of theirs it is.
fn cells(key: i64, value: Value) -> Row {
    [key, i64::from(value.writer), value.sequence].map(Cell::Int).to_vec()
}

/// The rules of the table, for the checkers.
fn rules() -> Table {
    Table { key_columns: vec![0], engine: Engine::Replace, image: Image::Full, deletes: true }
}

/// Keys 0..rows, before anything goes wrong.
pub async fn preload(bootstrap: &str, rows: i64, buckets: i32, history: &History) -> anyhow::Result<()> {
    let connection = append::connect(bootstrap).await?;
    let table = connection.get_table(&path()).await?;
    let writer = table.new_upsert()?.create_writer()?;
    let tables = (0..buckets as u32).map(|bucket| (bucket, rules())).collect();
    history.record(Event::Start { tables, numbered: BTreeMap::new(), expiring: BTreeSet::new() });
    let mut last: Option<WriteResultFuture> = None;
    let mut asked = Vec::new();
    for key in 0..rows {
        if key % PRELOADED_AT_ONCE == 0 {
            let keys = key..rows.min(key + PRELOADED_AT_ONCE);
            let ops = keys.map(|key| Op::Upsert(cells(key, loaded(key)))).collect();
            let batch = Batch { ops, columns: None };
            asked.push(history.ask(PRELOADER, None, Request::Put { writer: PRELOADER, sequence: key, batch }));
        }
        last = Some(writer.upsert(&row(key, loaded(key)))?);
        if key % 1024 == 0 {
            tokio::task::yield_now().await;
        }
    }
    writer.flush().await?;
    if let Some(last) = last {
        last.await?;
    }
    asked.into_iter().for_each(|op| history.answer(op, Outcome::Ok(Answer::Put { end_offset: None })));
    Ok(())
}

/// What one writer knows of its keys. Every write changes something: an offset of the changelog without a row would be a gap.
struct Keys {
    writer: i32,
    writers: i32,
    preloaded: i64,
    drawn: u64,
    /// Those that are there and were not loaded, or were loaded and are not there.
    flipped: BTreeSet<i64>,
    /// Nobody knows whether they are there.
    unclear: BTreeSet<i64>,
}

impl Keys {
    fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.drawn >> 33
    }

    /// A key of this writer, and whether it is to be deleted.
    fn next(&mut self) -> (i64, bool) {
        loop {
            let of_writer = (self.preloaded / i64::from(self.writers)).max(HOT_KEYS);
            let hot = !self.draw().is_multiple_of(4);
            let number = self.draw() as i64 % if hot { HOT_KEYS } else { of_writer };
            let key = number * i64::from(self.writers) + i64::from(self.writer);
            if self.unclear.contains(&key) {
                continue;
            }
            let loaded = key < self.preloaded;
            let delete = loaded != self.flipped.contains(&key) && self.draw().is_multiple_of(8);
            if loaded == delete {
                self.flipped.insert(key);
            } else {
                self.flipped.remove(&key);
            }
            return (key, delete);
        }
    }
}

/// Upserts and deletes until told to stop; a few in flight; every outcome is recorded.
pub async fn write(
    bootstrap: String,
    writer: i32,
    writers: i32,
    preloaded: i64,
    history: History,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let connection = append::connect(&bootstrap).await?;
    let table = connection.get_table(&path()).await?;
    let sink = table.new_upsert()?.create_writer()?;
    let drawn = 0x9E37_79B9 ^ (writer as u64) << 17;
    let mut keys = Keys { writer, writers, preloaded, drawn, flipped: BTreeSet::new(), unclear: BTreeSet::new() };
    let mut waiting = VecDeque::new();
    let mut sequence = 0;
    loop {
        if !stop.load(Ordering::Relaxed) && waiting.len() < IN_FLIGHT {
            let value = Value { writer, sequence };
            sequence += 1;
            let (key, delete) = keys.next();
            let op = if delete { Op::Delete(vec![Cell::Int(key)]) } else { Op::Upsert(cells(key, value)) };
            let batch = Batch { ops: vec![op], columns: None };
            let request = Request::Put { writer: writer as u64, sequence: value.sequence, batch };
            let op = history.ask(writer as u64, None, request);
            waiting.push_back((op, key, put(&sink, key, value, delete)?));
            continue;
        }
        let Some((op, key, ack)) = waiting.pop_front() else { return Ok(()) };
        let outcome = match ack.await {
            Ok(()) => Outcome::Ok(Answer::Put { end_offset: None }),
            Err(error) => {
                keys.unclear.insert(key);
                Outcome::Unknown(error.to_string())
            }
        };
        history.answer(op, outcome);
        // A steady trickle: more would only fill memory with history.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn put(sink: &UpsertWriter, key: i64, value: Value, delete: bool) -> anyhow::Result<WriteResultFuture> {
    let row = row(key, value);
    Ok(if delete { sink.delete(&row)? } else { sink.upsert(&row)? })
}

/// Reads the changelog of every bucket to its end, and then the table.
pub async fn read_all(bootstrap: &str, buckets: i32, history: &History) -> anyhow::Result<()> {
    let connection = append::connect(bootstrap).await?;
    let table = connection.get_table(&path()).await?;
    read_changelog(&connection, &table, buckets, history).await?;
    let table_id = table.get_table_info().get_table_id();
    for bucket in 0..buckets {
        let scan = table.new_scan().limit(i32::MAX)?;
        let mut scanner = scan.create_bucket_batch_scanner(TableBucket::new(table_id, bucket))?;
        let mut found = Vec::new();
        while let Some(batch) = scanner.next_batch().await? {
            let rows = batch.batch();
            let number = |column: usize, at: usize| rows.column(column).as_primitive::<Int64Type>().value(at);
            for at in 0..rows.num_rows() {
                let writer = rows.column(1).as_primitive::<Int32Type>().value(at);
                found.push(checked(number(0, at), Value { writer, sequence: number(2, at) }, number(3, at)).0);
            }
        }
        let (at, by, rows) = (history.now(), Source::Reader, Ok(found));
        history.record(Event::Rows { at, by, bucket: bucket as u32, log_end: None, count: None, rows });
    }
    Ok(())
}

async fn read_changelog(
    connection: &FlussConnection,
    table: &FlussTable<'_>,
    buckets: i32,
    history: &History,
) -> anyhow::Result<()> {
    let all: Vec<i32> = (0..buckets).collect();
    let ends: BTreeMap<i32, i64> =
        connection.get_admin()?.list_offsets(&path(), &all, OffsetSpec::Latest).await?.into_iter().collect();
    let scanner = table.new_scan().create_log_scanner()?;
    scanner.subscribe_buckets(&all.iter().map(|bucket| (*bucket, EARLIEST_OFFSET)).collect()).await?;
    let mut logs: BTreeMap<i32, Vec<Logged>> = all.iter().map(|bucket| (*bucket, Vec::new())).collect();
    let mut quiet = 0;
    while ends.iter().any(|(bucket, end)| logs[bucket].last().map_or(0, Logged::end) < *end) {
        let polled = scanner.poll(Duration::from_secs(2)).await?.into_records_by_buckets();
        quiet = if polled.is_empty() { quiet + 1 } else { 0 };
        if quiet > 10 {
            let reached: Vec<i64> = logs.values().map(|log| log.last().map_or(0, Logged::end)).collect();
            bail!("the changelog ends at {reached:?}, expected {ends:?}");
        }
        let mut polled: Vec<(i32, Vec<ScanRecord>)> =
            polled.into_iter().map(|(bucket, records)| (bucket.bucket_id(), records)).collect();
        polled.sort_by_key(|(bucket, _)| *bucket);
        for (bucket, records) in polled {
            for record in records.iter() {
                logs.entry(bucket).or_default().push(logged(change(bucket, record)?));
            }
        }
    }
    for (bucket, end) in ends {
        let batches = Ok(logs.remove(&bucket).unwrap_or_default());
        history.record(Event::Log { by: Source::Reader, bucket: bucket as u32, start: 0, end, batches });
    }
    Ok(())
}

fn change(bucket: i32, record: &ScanRecord) -> anyhow::Result<Seen> {
    let kind = match record.change_type() {
        ChangeType::Insert => Kind::Insert,
        ChangeType::UpdateBefore => Kind::UpdateBefore,
        ChangeType::UpdateAfter => Kind::UpdateAfter,
        ChangeType::Delete => Kind::Delete,
        other => bail!("{bucket}@{} is {other:?}, not a change", record.offset()),
    };
    let row = record.row();
    let long = |column: usize| row.get_long(column).context("a changelog row");
    let value = Value { writer: row.get_int(1).context("a changelog row")?, sequence: long(2)? };
    let (row, stamp) = checked(long(0)?, value, long(3)?);
    Ok(Seen { offset: record.offset(), stamp, change: Some(Change { kind, row }) })
}

/// Changes do not say whose they are: those before an update are another writer's.
fn checked(key: i64, value: Value, checksum: i64) -> (Row, Stamp) {
    match value.stamp(checksum) {
        Stamp::Garbage(why) => (vec![Cell::Int(key), Cell::Text(why.clone())], Stamp::Garbage(why)),
        _ => (cells(key, value), Stamp::Untold),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deletes only what is there, and keys stay apart.
    #[test]
    fn keys_are_known() {
        for preloaded in [0, 1000] {
            let mut there: BTreeSet<i64> = (0..preloaded).collect();
            let mut keys =
                Keys { writer: 2, writers: 6, preloaded, drawn: 1, flipped: BTreeSet::new(), unclear: BTreeSet::new() };
            let mut deletes = 0;
            for _ in 0..10_000 {
                let (key, delete) = keys.next();
                assert_eq!(key % 6, 2);
                if delete {
                    deletes += 1;
                    assert!(there.remove(&key), "key {key} was deleted and is not there");
                } else {
                    there.insert(key);
                }
            }
            assert!(deletes > 500, "{deletes}");
        }
    }
}
