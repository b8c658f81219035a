//! Column pruning by the server: 10 of 100 columns against all of them.

use super::cluster::{BenchCluster, create, open};
use super::{Figure, append};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use fluss::client::{EARLIEST_OFFSET, FlussTable};
use fluss::record::to_arrow_schema;
use std::time::{Duration, Instant};

const COLUMNS: usize = 100;
const PRUNED: usize = 10;
const ROWS_PER_BATCH: usize = 1000;
const BATCHES: usize = 320;

pub async fn run(cluster: &BenchCluster, _seconds: u64, output: &Output) -> Result<Vec<Figure>, Failure> {
    let rows = (BATCHES * ROWS_PER_BATCH) as f64;
    output.note(format!("fetch: {COLUMNS} columns, {rows} rows"));
    let connection = cluster
        .connect(|config| {
            config.scanner_log_max_poll_records = 1 << 20;
            config.scanner_log_fetch_max_bytes_for_bucket = 16 << 20;
        })
        .await?;
    let path = create(&connection, "bench_fetch", append::integers(COLUMNS)?, 1).await?;
    let table = open(&connection, &path).await?;
    let schema = to_arrow_schema(table.get_table_info().get_row_type()).or_fail("table schema")?;
    let writer = table.new_append().and_then(|append| append.create_writer()).or_fail("open a writer")?;
    let batch = append::batch(&schema, COLUMNS, ROWS_PER_BATCH)?;
    let mut acks = Vec::new();
    for _ in 0..BATCHES {
        acks.push(writer.append_arrow_batch(batch.clone()).or_fail("append")?);
    }
    for ack in acks {
        ack.await.or_fail("append")?;
    }
    // Once unmeasured, then alternating, so that drift of the machine hits both alike.
    scan(cluster, &table, COLUMNS).await?;
    let (mut all, mut pruned) = ((0.0, 0.0), (0.0, 0.0));
    const ROUNDS: usize = 3;
    for _ in 0..ROUNDS {
        let (wall, cpu) = scan(cluster, &table, COLUMNS).await?;
        all = (all.0 + wall, all.1 + cpu);
        let (wall, cpu) = scan(cluster, &table, PRUNED).await?;
        pruned = (pruned.0 + wall, pruned.1 + cpu);
    }
    let rows = rows * ROUNDS as f64;
    Ok(vec![
        Figure::new("fetch 100 columns", rows / all.0 / 1e3, "krows/s"),
        Figure::new("fetch 10 of 100 columns", rows / pruned.0 / 1e3, "krows/s"),
        Figure::new("fetch 10 columns to 100, rows/s", all.0 / pruned.0, "ratio"),
        Figure::new("fetch 100 columns, all nodes", rows / all.1 / 1e3, "krows per server CPU-s"),
        Figure::new("fetch 10 of 100 columns, all nodes", rows / pruned.1 / 1e3, "krows per server CPU-s"),
    ])
}

/// Reads the whole table; wall and server CPU seconds.
async fn scan(cluster: &BenchCluster, table: &FlussTable<'_>, columns: usize) -> Result<(f64, f64), Failure> {
    let names: Vec<String> = (0..COLUMNS).step_by(COLUMNS / columns).map(|column| format!("c{column}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut scan = table.new_scan();
    if columns < COLUMNS {
        scan = scan.project_by_name(&names).or_fail("project")?;
    }
    let scanner = scan.create_record_batch_log_scanner().or_fail("open a scanner")?;
    let cpu = cluster.cpu_seconds()?;
    let began = Instant::now();
    scanner.subscribe(0, EARLIEST_OFFSET).await.or_fail("subscribe")?;
    let mut rows = 0;
    while rows < BATCHES * ROWS_PER_BATCH {
        for batch in scanner.poll(Duration::from_secs(5)).await.or_fail("fetch")? {
            rows += batch.num_records();
        }
    }
    let wall = began.elapsed().as_secs_f64();
    // Process clocks tick every 10 ms.
    Ok((wall, (cluster.cpu_seconds()? - cpu).max(0.01)))
}
