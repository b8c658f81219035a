//! Writers that append self-describing rows through the official client, and readers that follow them.

use crate::history::{Event, History, Value};
use anyhow::{Context, anyhow};
use arrow59::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch};
use arrow59::datatypes::{Int32Type, Int64Type, SchemaRef};
use fluss::client::{EARLIEST_OFFSET, FlussConnection, RecordBatchLogScanner};
use fluss::config::Config;
use fluss::metadata::{DataTypes, Schema, TableBucket, TableDescriptor, TablePath};
use fluss::record::{ScanBatch, to_arrow_schema};
use fluss::rpc::message::OffsetSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const IN_FLIGHT: usize = 4;

pub fn path() -> TablePath {
    TablePath::new("fluss", "jepsen_append")
}

pub async fn connect(bootstrap: &str) -> anyhow::Result<FlussConnection> {
    let config = Config { bootstrap_servers: bootstrap.to_string(), writer_batch_timeout_ms: 1, ..Default::default() };
    FlussConnection::new(config).await.map_err(|error| anyhow!("connect to {bootstrap}: {error}"))
}

pub async fn create_table(connection: &FlussConnection, buckets: i32) -> anyhow::Result<()> {
    let schema = Schema::builder()
        .column("writer", DataTypes::int())
        .column("sequence", DataTypes::bigint())
        .column("checksum", DataTypes::bigint())
        .build()?;
    let descriptor =
        TableDescriptor::builder().schema(schema).distributed_by(Some(buckets), vec!["writer".to_string()]).build()?;
    Ok(connection.get_admin()?.create_table(&path(), &descriptor, false).await?)
}

/// The node that leads each bucket, freshly asked.
pub async fn leaders(connection: &FlussConnection, path: &TablePath, buckets: i32) -> anyhow::Result<BTreeMap<i32, u64>> {
    let metadata = connection.get_metadata();
    metadata.update_table_metadata(path).await?;
    let cluster = metadata.get_cluster();
    let table_id = cluster.get_table_id(path).context("the table is unknown")?;
    let leader = |bucket| Some((bucket, cluster.leader_for(&TableBucket::new(table_id, bucket))?.id() as u64));
    Ok((0..buckets).filter_map(leader).collect())
}

/// Appends until told to stop; a few rows in flight; every outcome is recorded.
pub async fn write(bootstrap: String, writer: i32, history: History, stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    let connection = connect(&bootstrap).await?;
    let table = connection.get_table(&path()).await?;
    let schema = to_arrow_schema(table.get_table_info().get_row_type())?;
    let appender = table.new_append()?.create_writer()?;
    let mut waiting = std::collections::VecDeque::new();
    let mut sequence = 0;
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        if !stopping && waiting.len() < IN_FLIGHT {
            let value = Value { writer, sequence };
            sequence += 1;
            history.record(Event::Invoke { at_us: history.now_us(), value });
            waiting.push_back((value, appender.append_arrow_batch(row(&schema, value)?)?));
            continue;
        }
        let Some((value, ack)) = waiting.pop_front() else { return Ok(()) };
        let outcome = ack.await;
        let at_us = history.now_us();
        match outcome {
            Ok(()) => history.record(Event::Ok { at_us, value }),
            Err(error) => history.record(Event::Unknown { at_us, value, error: error.to_string() }),
        }
        // A steady trickle: more would only fill memory with history.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn row(schema: &SchemaRef, value: Value) -> anyhow::Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![value.writer])),
        Arc::new(Int64Array::from(vec![value.sequence])),
        Arc::new(Int64Array::from(vec![value.checksum()])),
    ];
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// Follows all buckets until told to stop.
pub async fn follow(
    bootstrap: String,
    name: String,
    buckets: i32,
    history: History,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let connection = connect(&bootstrap).await?;
    let scanner = scanner(&connection, buckets).await?;
    while !stop.load(Ordering::Relaxed) {
        for batch in scanner.poll(Duration::from_millis(500)).await? {
            record(&history, &name, &batch);
        }
    }
    Ok(())
}

/// Reads every bucket to its end.
pub async fn read_all(bootstrap: &str, buckets: i32, history: &History) -> anyhow::Result<()> {
    let connection = connect(bootstrap).await?;
    let all: Vec<i32> = (0..buckets).collect();
    let ends = connection.get_admin()?.list_offsets(&path(), &all, OffsetSpec::Latest).await?;
    let ends: BTreeMap<i32, i64> = ends.into_iter().collect();
    let scanner = scanner(&connection, buckets).await?;
    let mut reached: BTreeMap<i32, i64> = all.iter().map(|bucket| (*bucket, 0)).collect();
    while ends.iter().any(|(bucket, end)| reached[bucket] < *end) {
        for batch in scanner.poll(Duration::from_secs(2)).await? {
            record(history, "final", &batch);
            reached.insert(batch.bucket().bucket_id(), batch.last_offset() + 1);
        }
    }
    for (bucket, end) in ends {
        history.record(Event::FinalRead { at_us: history.now_us(), bucket, end });
    }
    Ok(())
}

async fn scanner(connection: &FlussConnection, buckets: i32) -> anyhow::Result<RecordBatchLogScanner> {
    let table = connection.get_table(&path()).await?;
    let scanner = table.new_scan().create_record_batch_log_scanner()?;
    let offsets = (0..buckets).map(|bucket| (bucket, EARLIEST_OFFSET)).collect();
    scanner.subscribe_buckets(&offsets).await?;
    Ok(scanner)
}

fn record(history: &History, reader: &str, batch: &ScanBatch) {
    let rows = batch.batch();
    let (writers, sequences, checksums) = (
        rows.column(0).as_primitive::<Int32Type>(),
        rows.column(1).as_primitive::<Int64Type>(),
        rows.column(2).as_primitive::<Int64Type>(),
    );
    for index in 0..rows.num_rows() {
        let value = Value { writer: writers.value(index), sequence: sequences.value(index) };
        history.record(Event::Read {
            at_us: history.now_us(),
            reader: reader.to_string(),
            bucket: batch.bucket().bucket_id(),
            offset: batch.base_offset() + index as i64,
            value: (value.checksum() == checksums.value(index)).then_some(value),
        });
    }
}
