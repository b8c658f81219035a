//! Replicated append: MB/s, and MB per server CPU-second.

use super::Figure;
use super::cluster::{BenchCluster, create, open};
use super::probe::Probe;
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use arrow59::array::{ArrayRef, Int64Array, RecordBatch};
use fluss::metadata::{DataTypes, Schema};
use fluss::record::to_arrow_schema;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const COLUMNS: usize = 8;
/// More than the client allows per bucket (5), so that it never waits for us.
const IN_FLIGHT_PER_BUCKET: usize = 8;

pub async fn run(cluster: &BenchCluster, seconds: u64, output: &Output) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for (kib, buckets) in [(64, 1), (64, 8), (1024, 1)] {
        output.note(format!("append: {kib} KiB batches, {buckets} buckets, {seconds} s"));
        // The file before and after, so that drift of the machine hits both alike.
        let mut probe = Probe::new(&cluster.dir, kib << 10)?;
        let slice = Duration::from_secs(seconds) / 5;
        let before = probe.throughput(slice)?;
        let stretch = stretch(cluster, kib << 10, buckets, seconds).await?;
        let file_mb_per_second = (before + probe.throughput(slice)?) / 2e6;
        let label = format!("append {kib} KiB, {buckets} buckets");
        figures.push(Figure::new(&label, stretch.mb_per_second, "MB/s"));
        figures.push(Figure::new(format!("{label}: the same writes synced to one file"), file_mb_per_second, "MB/s"));
        figures.push(Figure::new(format!("{label}: to one synced file"), stretch.mb_per_second / file_mb_per_second, "ratio"));
        figures.push(Figure::new(format!("{label}: all nodes"), stretch.mb_per_cpu_second, "MB per server CPU-s"));
    }
    Ok(figures)
}

struct Stretch {
    mb_per_second: f64,
    mb_per_cpu_second: f64,
}

/// A batch whose body is `bytes` of 64-bit integers.
pub fn batch(schema: &arrow59::datatypes::SchemaRef, columns: usize, rows: usize) -> Result<RecordBatch, Failure> {
    let arrays = (0..columns).map(|column| {
        let values = (0..rows as i64).map(|row| row.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64) ^ column as i64);
        Arc::new(Int64Array::from_iter_values(values)) as ArrayRef
    });
    RecordBatch::try_new(schema.clone(), arrays.collect()).or_fail("build a batch")
}

/// A schema of `columns` 64-bit integers.
pub fn integers(columns: usize) -> Result<Schema, Failure> {
    let mut builder = Schema::builder();
    for column in 0..columns {
        builder = builder.column(format!("c{column}"), DataTypes::bigint());
    }
    builder.build().or_fail("build the bench schema")
}

async fn stretch(cluster: &BenchCluster, bytes: usize, buckets: i32, seconds: u64) -> Result<Stretch, Failure> {
    let connection = cluster
        .connect(|config| {
            config.writer_batch_size = 2 * bytes as i32;
            // Checked even when it is off.
            config.writer_dynamic_batch_size_min = bytes as i32;
            config.writer_dynamic_batch_size_enabled = false;
            config.writer_batch_timeout_ms = 1;
            config.writer_bucket_no_key_assigner = fluss::config::NoKeyAssigner::RoundRobin;
        })
        .await?;
    let path = create(&connection, "bench_append", integers(COLUMNS)?, buckets).await?;
    let table = open(&connection, &path).await?;
    let schema = to_arrow_schema(table.get_table_info().get_row_type()).or_fail("table schema")?;
    let writer = table.new_append().and_then(|append| append.create_writer()).or_fail("open a writer")?;
    let batch = batch(&schema, COLUMNS, bytes / 8 / COLUMNS)?;
    let warm_up = Duration::from_secs(1);
    let mut waiting = VecDeque::new();
    let mut measured_from = None;
    let (mut acked, mut cpu_at_start) = (0_u64, 0.0);
    let began = Instant::now();
    while began.elapsed() < warm_up + Duration::from_secs(seconds) {
        waiting.push_back(writer.append_arrow_batch(batch.clone()).or_fail("append")?);
        if waiting.len() >= IN_FLIGHT_PER_BUCKET * buckets as usize {
            waiting.pop_front().expect("just filled").await.or_fail("append")?;
            acked += 1;
        }
        if measured_from.is_none() && began.elapsed() >= warm_up {
            measured_from = Some(Instant::now());
            cpu_at_start = cluster.cpu_seconds()?;
            acked = 0;
        }
    }
    let elapsed = measured_from.map_or(f64::NAN, |from| from.elapsed().as_secs_f64());
    let cpu = cluster.cpu_seconds()? - cpu_at_start;
    for ack in waiting {
        ack.await.or_fail("append")?;
    }
    let mb = acked as f64 * bytes as f64 / 1e6;
    Ok(Stretch { mb_per_second: mb / elapsed, mb_per_cpu_second: mb / cpu })
}
