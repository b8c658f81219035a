//! Upserts of new rows and of rows that are there, against the reads and writes of the store alone.

use super::Figure;
use super::cluster::{BenchCluster, leader, open};
use super::rows::{self, RawStore};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// What acknowledged rows still cost followers and flushes shows within it.
const SETTLE: Duration = Duration::from_millis(300);

pub async fn run(cluster: &BenchCluster, rows: u64, output: &Output) -> Result<Vec<Figure>, Failure> {
    let connection = cluster.connect(|config| config.writer_batch_timeout_ms = 1).await?;
    let path = rows::create(&connection, "bench_upsert").await?;
    let table = open(&connection, &path).await?;
    let writer = table.new_upsert().and_then(|upsert| upsert.create_writer()).or_fail("open a writer")?;
    let leader = leader(&connection, &table, &path).await?;
    let raw = RawStore::new(cluster)?;
    let mut figures = Vec::new();
    for (version, what) in [(1, "insert"), (2, "update")] {
        output.note(format!("upsert: {what} {rows} rows"));
        let batches = RawStore::batches(rows, version);
        let before = own_cpu_seconds();
        raw.upsert(&batches)?;
        let alone = (own_cpu_seconds() - before) / rows as f64 * 1e6;
        let (before, leader_before) = (cluster.cpu_seconds()?, cluster.cpu_seconds_at(&leader)?);
        let began = Instant::now();
        rows::upsert_all(&writer, rows, version).await?;
        let wall = began.elapsed().as_secs_f64();
        tokio::time::sleep(SETTLE).await;
        let per_row = |seconds: f64| seconds / rows as f64 * 1e6;
        let ours = per_row(cluster.cpu_seconds()? - before);
        let at_leader = per_row(cluster.cpu_seconds_at(&leader)? - leader_before);
        figures.push(Figure::new(format!("upsert, {what}"), rows as f64 / wall / 1e3, "krows/s"));
        figures.push(Figure::new(format!("upsert, {what}: all nodes"), ours, "server CPU us per row"));
        figures.push(Figure::new(format!("upsert, {what}: multi_get and write batch in process"), alone, "CPU us per row"));
        figures.push(Figure::new(format!("upsert, {what}: the leader"), at_leader, "server CPU us per row"));
        figures.push(Figure::new(format!("upsert, {what}: the leader to in process"), at_leader / alone, "ratio"));
        figures.push(Figure::new(format!("upsert, {what}: all nodes to in process"), ours / alone, "ratio"));
    }
    Ok(figures)
}

/// Of this process, all threads: the store's own flushes and compactions count.
fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
