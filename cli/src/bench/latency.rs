//! One small batch at a time, flushed, until it is acknowledged.

use super::cluster::{BenchCluster, create, open};
use super::probe::Probe;
use super::{Figure, append, quantile};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use fluss::record::to_arrow_schema;
use std::time::{Duration, Instant};

const ROWS: usize = 16;
const PROBE_BYTES: usize = 4096;

pub async fn run(cluster: &BenchCluster, seconds: u64, output: &Output) -> Result<Vec<Figure>, Failure> {
    output.note("latency: one small batch at a time");
    let connection = cluster.connect(|config| config.writer_batch_timeout_ms = 1).await?;
    let path = create(&connection, "bench_latency", append::integers(4)?, 1).await?;
    let table = open(&connection, &path).await?;
    let schema = to_arrow_schema(table.get_table_info().get_row_type()).or_fail("table schema")?;
    let writer = table.new_append().and_then(|append| append.create_writer()).or_fail("open a writer")?;
    let batch = append::batch(&schema, 4, ROWS)?;
    // In turns, so that whatever slows the disk slows both.
    let mut disk = Probe::new(&cluster.dir, PROBE_BYTES)?;
    let (mut samples, mut probe) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds + 1) {
        let start = Instant::now();
        let ack = writer.append_arrow_batch(batch.clone()).or_fail("append")?;
        // Without it the client waits for company for its batch timeout, which is at least 1 ms.
        writer.flush().await.or_fail("flush")?;
        ack.await.or_fail("append")?;
        let acked = start.elapsed().as_secs_f64();
        let synced = disk.once()?;
        if began.elapsed() > Duration::from_secs(1) {
            samples.push(acked);
            probe.push(synced);
        }
    }
    samples.sort_by(f64::total_cmp);
    probe.sort_by(f64::total_cmp);
    let mut figures = vec![Figure::new("acked latency, samples", samples.len() as f64, "count")];
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (ours, disk) = (quantile(&samples, share), quantile(&probe, share));
        figures.push(Figure::new(format!("acked latency {name}"), ours * 1e3, "ms"));
        figures.push(Figure::new(format!("4 KiB synced write {name}"), disk * 1e3, "ms"));
        figures.push(Figure::new(format!("acked latency {name}, to a 4 KiB synced write"), ours / disk, "ratio"));
    }
    Ok(figures)
}
