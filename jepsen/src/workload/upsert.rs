//! Writers that upsert and delete rows of a primary-key table through the official client; each key has one writer.

use super::append;
use crate::history::{DAMAGED, Event, History, Kind, PRELOADER, Value};
use anyhow::{Context, bail};
use arrow59::array::AsArray;
use arrow59::datatypes::{Int32Type, Int64Type};
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

/// Keys 0..rows, before anything goes wrong.
pub async fn preload(bootstrap: &str, rows: i64, history: &History) -> anyhow::Result<()> {
    let connection = append::connect(bootstrap).await?;
    let table = connection.get_table(&path()).await?;
    let writer = table.new_upsert()?.create_writer()?;
    let mut last: Option<WriteResultFuture> = None;
    for key in 0..rows {
        last = Some(writer.upsert(&row(key, Value { writer: PRELOADER, sequence: key }))?);
        if key % 1024 == 0 {
            tokio::task::yield_now().await;
        }
    }
    writer.flush().await?;
    if let Some(last) = last {
        last.await?;
    }
    history.record(Event::Preload { rows });
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
            history.record(Event::Put { at_us: history.now_us(), value, key, delete });
            waiting.push_back((value, key, put(&sink, key, value, delete)?));
            continue;
        }
        let Some((value, key, ack)) = waiting.pop_front() else { return Ok(()) };
        let outcome = ack.await;
        let at_us = history.now_us();
        match outcome {
            Ok(()) => history.record(Event::Ok { at_us, value }),
            Err(error) => {
                keys.unclear.insert(key);
                history.record(Event::Unknown { at_us, value, error: error.to_string() });
            }
        }
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
    for number in 0..buckets {
        let scan = table.new_scan().limit(i32::MAX)?;
        let mut scanner = scan.create_bucket_batch_scanner(TableBucket::new(table_id, number))?;
        while let Some(batch) = scanner.next_batch().await? {
            let rows = batch.batch();
            let number = |column: usize, at: usize| rows.column(column).as_primitive::<Int64Type>().value(at);
            for at in 0..rows.num_rows() {
                let writer = rows.column(1).as_primitive::<Int32Type>().value(at);
                let row = checked(Value { writer, sequence: number(2, at) }, number(3, at));
                history.record(Event::Row { key: number(0, at), row });
            }
        }
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
    let mut reached: BTreeMap<i32, i64> = all.iter().map(|bucket| (*bucket, 0)).collect();
    let mut quiet = 0;
    while ends.iter().any(|(bucket, end)| reached[bucket] < *end) {
        let polled = scanner.poll(Duration::from_secs(2)).await?.into_records_by_buckets();
        quiet = if polled.is_empty() { quiet + 1 } else { 0 };
        if quiet > 10 {
            bail!("the changelog ends at {reached:?}, expected {ends:?}");
        }
        let mut polled: Vec<(i32, Vec<ScanRecord>)> =
            polled.into_iter().map(|(bucket, records)| (bucket.bucket_id(), records)).collect();
        polled.sort_by_key(|(bucket, _)| *bucket);
        for (bucket, records) in polled {
            for record in records.iter() {
                history.record(change(bucket, record)?);
                reached.insert(bucket, record.offset() + 1);
            }
        }
    }
    for (bucket, end) in ends {
        history.record(Event::FinalRead { at_us: history.now_us(), bucket, end });
    }
    Ok(())
}

fn change(bucket: i32, record: &ScanRecord) -> anyhow::Result<Event> {
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
    Ok(Event::Change { bucket, offset: record.offset(), kind, key: long(0)?, row: checked(value, long(3)?) })
}

fn checked(value: Value, checksum: i64) -> Value {
    if value.checksum() == checksum { value } else { DAMAGED }
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
