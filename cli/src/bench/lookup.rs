//! Lookups: over the wire against the same keys read in this process, and through the official client.

use super::cluster::{BenchCluster, leader, open};
use super::rows::{self, RawStore};
use super::wire::Wire;
use super::{Figure, quantile};
use crate::exit::{Failure, OrFail};
use crate::output::Output;
use fluss::client::FlussTable;
use fluss::row::GenericRow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BATCH_KEYS: usize = 128;
const BATCHES_IN_FLIGHT: usize = 8;
/// Through the client, each one key.
const LOOKUPS_IN_FLIGHT: usize = 512;
/// Both sides in turns, so that drift of the machine hits both alike.
const SLICES: u32 = 5;

pub async fn run(cluster: &BenchCluster, rows: u64, seconds: u64, output: &Output) -> Result<Vec<Figure>, Failure> {
    output.note(format!("lookup: {rows} rows, {seconds} s each"));
    let connection = cluster
        .connect(|config| {
            config.writer_batch_timeout_ms = 1;
            config.lookup_batch_timeout_ms = 1;
        })
        .await?;
    let path = rows::create(&connection, "bench_lookup").await?;
    let table = open(&connection, &path).await?;
    let writer = table.new_upsert().and_then(|upsert| upsert.create_writer()).or_fail("open a writer")?;
    rows::upsert_all(&writer, rows, 1).await?;
    let raw = RawStore::new(cluster)?;
    raw.upsert(&RawStore::batches(rows, 1))?;
    raw.flush()?;
    let table_id = table.get_table_info().get_table_id();
    let mut wire = Wire::connect(&leader(&connection, &table, &path).await?).await?;
    let slice = Duration::from_secs(seconds) / SLICES;
    let mut keys = Keys { rows, next: 0 };
    over_wire(cluster, &mut wire, table_id, &mut keys, Duration::from_secs(1)).await?;
    let (mut ours, mut theirs) = (Stretch::default(), Stretch::default());
    for _ in 0..SLICES {
        ours.add(over_wire(cluster, &mut wire, table_id, &mut keys, slice).await?);
        theirs.add(in_process(&raw, &mut keys, slice)?);
    }
    let (client, latencies) = through_client(cluster, &table, rows, Duration::from_secs(seconds)).await?;
    Ok(vec![
        Figure::new("lookup, batches of 128, 8 in flight", ours.keys / ours.wall / 1e3, "kkeys/s"),
        Figure::new("lookup: multi_get of 128 in process", theirs.keys / theirs.wall / 1e3, "kkeys/s"),
        Figure::new("lookup, over the wire to in process", (ours.keys / ours.wall) / (theirs.keys / theirs.wall), "ratio"),
        Figure::new("lookup, batches of 128: all nodes", ours.cpu / ours.keys * 1e6, "server CPU us per key"),
        Figure::new("lookup, fluss-rs, 512 in flight", client.keys / client.wall / 1e3, "kkeys/s"),
        Figure::new("lookup, fluss-rs, 512 in flight: all nodes", client.cpu / client.keys * 1e6, "server CPU us per key"),
        Figure::new("lookup, fluss-rs, 512 in flight p50", quantile(&latencies, 0.5) * 1e3, "ms"),
        Figure::new("lookup, fluss-rs, 512 in flight p99", quantile(&latencies, 0.99) * 1e3, "ms"),
    ])
}

/// Keys that exist, scattered.
struct Keys {
    rows: u64,
    next: u64,
}

impl Keys {
    fn batch(&mut self) -> Vec<bytes::Bytes> {
        let from = self.next;
        self.next += BATCH_KEYS as u64;
        (from..self.next).map(|index| rows::key(rows::shuffled(index, self.rows))).collect()
    }
}

/// Sums over slices.
#[derive(Default)]
struct Stretch {
    keys: f64,
    wall: f64,
    cpu: f64,
}

impl Stretch {
    fn add(&mut self, other: Stretch) {
        self.keys += other.keys;
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

async fn over_wire(
    cluster: &BenchCluster,
    wire: &mut Wire,
    table_id: i64,
    keys: &mut Keys,
    time: Duration,
) -> Result<Stretch, Failure> {
    let cpu = cluster.cpu_seconds()?;
    let began = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    while began.elapsed() < time || answered < sent {
        while began.elapsed() < time && sent - answered < BATCHES_IN_FLIGHT {
            wire.send_lookup(table_id, keys.batch()).await?;
            sent += 1;
        }
        if answered < sent {
            let found = wire.lookup_answer().await?;
            answered += 1;
            if found != BATCH_KEYS {
                return Err(Failure::failed("look up").why(format!("{found} of {BATCH_KEYS} rows were there")));
            }
        }
    }
    let wall = began.elapsed().as_secs_f64();
    Ok(Stretch { keys: (answered * BATCH_KEYS) as f64, wall, cpu: cluster.cpu_seconds()? - cpu })
}

fn in_process(raw: &RawStore, keys: &mut Keys, time: Duration) -> Result<Stretch, Failure> {
    let began = Instant::now();
    let mut found = 0;
    while began.elapsed() < time {
        found += raw.multi_get(&keys.batch())?;
    }
    Ok(Stretch { keys: found as f64, wall: began.elapsed().as_secs_f64(), cpu: 0.0 })
}

async fn through_client(
    cluster: &BenchCluster,
    table: &FlussTable<'_>,
    rows: u64,
    time: Duration,
) -> Result<(Stretch, Vec<f64>), Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let cpu = cluster.cpu_seconds()?;
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..LOOKUPS_IN_FLIGHT {
        let mut lookuper = table.new_lookup().and_then(|lookup| lookup.create_lookuper()).or_fail("look up")?;
        let next = next.clone();
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < time {
                let mut row = GenericRow::new(1);
                row.set_field(0, rows::shuffled(next.fetch_add(1, Ordering::Relaxed), rows));
                let start = Instant::now();
                lookuper.lookup(&row).await?;
                latencies.push(start.elapsed().as_secs_f64());
            }
            Ok::<_, fluss::error::Error>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        let done = task.await.map_err(|error| Failure::failed("look up").why(error))?;
        latencies.extend(done.or_fail("look up")?);
    }
    let wall = began.elapsed().as_secs_f64();
    let stretch = Stretch { keys: latencies.len() as f64, wall, cpu: cluster.cpu_seconds()? - cpu };
    latencies.sort_by(f64::total_cmp);
    Ok((stretch, latencies))
}
