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
/// 0.8 MB each. The nodes keep their newest 64 MB in memory.
const HOT_BATCHES: usize = 60;
const COLD_BATCHES: usize = 320;
const PRUNED_SCANS_PER_ROUND: usize = 5;

pub async fn run(cluster: &BenchCluster, seconds: u64, output: &Output) -> Result<Vec<Figure>, Failure> {
    let mut figures = measure(cluster, "hot", HOT_BATCHES, seconds, output).await?;
    figures.extend(measure(cluster, "cold", COLD_BATCHES, seconds, output).await?);
    Ok(figures)
}

async fn measure(
    cluster: &BenchCluster,
    label: &str,
    batches: usize,
    seconds: u64,
    output: &Output,
) -> Result<Vec<Figure>, Failure> {
    output.note(format!("fetch, {label}: {COLUMNS} columns, {} rows, {seconds} s", batches * ROWS_PER_BATCH));
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
    for _ in 0..batches {
        acks.push(writer.append_arrow_batch(batch.clone()).or_fail("append")?);
    }
    for ack in acks {
        ack.await.or_fail("append")?;
    }
    // Once unmeasured, then alternating, so that drift of the machine hits both alike.
    scan(cluster, &table, COLUMNS, batches).await?;
    let (mut all, mut pruned) = (Scanned::default(), Scanned::default());
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        all.add(scan(cluster, &table, COLUMNS, batches).await?);
        // Process clocks tick every 10 ms: a pruned scan alone is too short for them.
        for _ in 0..PRUNED_SCANS_PER_ROUND {
            pruned.add(scan(cluster, &table, PRUNED, batches).await?);
        }
    }
    let figure = |what: &str, value: f64, unit| Figure::new(format!("fetch {label}, {what}"), value, unit);
    Ok(vec![
        figure("100 columns", all.rows / all.wall / 1e3, "krows/s"),
        figure("10 of 100 columns", pruned.rows / pruned.wall / 1e3, "krows/s"),
        figure("10 columns to 100, rows/s", (pruned.rows / pruned.wall) / (all.rows / all.wall), "ratio"),
        figure("100 columns: all nodes", all.rows / all.cpu / 1e3, "krows per server CPU-s"),
        figure("10 of 100 columns: all nodes", pruned.rows / pruned.cpu / 1e3, "krows per server CPU-s"),
        figure("10 columns to 100, rows per server CPU-s", (pruned.rows / pruned.cpu) / (all.rows / all.cpu), "ratio"),
        figure("100 columns: server CPU", all.cpu / (all.rows * COLUMNS as f64 * 8.0 / 1e9), "CPU-s per GB"),
    ])
}

/// Sums over scans.
#[derive(Default)]
struct Scanned {
    rows: f64,
    wall: f64,
    cpu: f64,
}

impl Scanned {
    fn add(&mut self, scan: Scanned) {
        self.rows += scan.rows;
        self.wall += scan.wall;
        self.cpu += scan.cpu;
    }
}

/// Reads the whole table.
async fn scan(cluster: &BenchCluster, table: &FlussTable<'_>, columns: usize, batches: usize) -> Result<Scanned, Failure> {
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
    while rows < batches * ROWS_PER_BATCH {
        for batch in scanner.poll(Duration::from_secs(5)).await.or_fail("fetch")? {
            rows += batch.num_records();
        }
    }
    let wall = began.elapsed().as_secs_f64();
    Ok(Scanned { rows: rows as f64, wall, cpu: cluster.cpu_seconds()? - cpu })
}
