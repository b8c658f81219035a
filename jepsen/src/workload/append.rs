//! Writers that append self-describing rows through the official client, and readers that follow them.

use crate::history::{History, Value};
use anyhow::{Context, anyhow};
use arrow59::array::{ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch};
use arrow59::datatypes::{Int32Type, Int64Type, SchemaRef};
use floss_checker::history::{Answer, Event, Logged, Outcome, Request, Seen, Source, Stamp};
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
            let op =
                history.ask(writer as u64, None, Request::Append { writer: writer as u64, sequence: value.sequence, rows: 1 });
            waiting.push_back((op, appender.append_arrow_batch(row(&schema, value)?)?));
            continue;
        }
        let Some((op, ack)) = waiting.pop_front() else { return Ok(()) };
        let outcome = match ack.await {
            Ok(()) => Outcome::Ok(Answer::Appended { base_offset: None }),
            Err(error) => Outcome::Unknown(error.to_string()),
        };
        history.answer(op, outcome);
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
    process: u64,
    buckets: i32,
    history: History,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let connection = connect(&bootstrap).await?;
    let scanner = scanner(&connection, buckets).await?;
    while !stop.load(Ordering::Relaxed) {
        let asked = history.now();
        let mut rows: BTreeMap<u32, Vec<Seen>> = BTreeMap::new();
        for batch in scanner.poll(Duration::from_millis(500)).await? {
            rows.entry(batch.bucket().bucket_id() as u32).or_default().extend(seen(&batch));
        }
        for (bucket, rows) in rows {
            let answer = Answer::Fetched { high_watermark: None, rows };
            history.was_told(process, bucket, asked, Request::Fetch { from: None, fresh: false }, answer);
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
    let mut logs: BTreeMap<i32, Vec<Logged>> = all.iter().map(|bucket| (*bucket, Vec::new())).collect();
    while ends.iter().any(|(bucket, end)| logs[bucket].last().map_or(0, Logged::end) < *end) {
        for batch in scanner.poll(Duration::from_secs(2)).await? {
            logs.entry(batch.bucket().bucket_id()).or_default().extend(seen(&batch).into_iter().map(logged));
        }
    }
    for (bucket, end) in ends {
        let batches = Ok(logs.remove(&bucket).unwrap_or_default());
        history.record(Event::Log { by: Source::Reader, bucket: bucket as u32, start: 0, end, batches });
    }
    Ok(())
}

/// Where batches ended nobody knows any more.
pub(super) fn logged(row: Seen) -> Logged {
    Logged { base_offset: row.offset, digest: None, stamps: vec![row.stamp], changes: row.change.into_iter().collect() }
}

async fn scanner(connection: &FlussConnection, buckets: i32) -> anyhow::Result<RecordBatchLogScanner> {
    let table = connection.get_table(&path()).await?;
    let scanner = table.new_scan().create_record_batch_log_scanner()?;
    let offsets = (0..buckets).map(|bucket| (bucket, EARLIEST_OFFSET)).collect();
    scanner.subscribe_buckets(&offsets).await?;
    Ok(scanner)
}

fn seen(batch: &ScanBatch) -> Vec<Seen> {
    let rows = batch.batch();
    let (writers, sequences, checksums) = (
        rows.column(0).as_primitive::<Int32Type>(),
        rows.column(1).as_primitive::<Int64Type>(),
        rows.column(2).as_primitive::<Int64Type>(),
    );
    let stamp = |index: usize| -> Stamp {
        let value = Value { writer: writers.value(index), sequence: sequences.value(index) };
        value.stamp(checksums.value(index))
    };
    let seen = |index: usize| Seen { offset: batch.base_offset() + index as i64, stamp: stamp(index), change: None };
    (0..rows.num_rows()).map(seen).collect()
}
