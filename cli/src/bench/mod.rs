//! `floss bench`: figures as ratios inside one run, on a cluster of its own, driven by the official client.

mod append;
mod cluster;
mod fetch;
mod idle;
mod latency;
mod lookup;
mod probe;
mod rows;
mod upsert;
mod wire;

use crate::exit::Failure;
use crate::output::{Listing, Output};
use clap::{Args, Subcommand};
use cluster::BenchCluster;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args, Clone)]
pub struct Common {
    /// Where the bench cluster lives; the disk under it is what is measured. Default: a temporary directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// Seconds of each measured stretch
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Subcommand)]
pub enum BenchVerb {
    /// Replicated, synced append against the same bytes written and synced to one file
    #[command(after_help = "Examples:\n  floss bench append\n  floss bench append --seconds 10 -o json")]
    Append(Common),
    /// Acknowledged latency of one small batch against one small synced write
    #[command(after_help = "Examples:\n  floss bench latency\n  floss bench latency -o json")]
    Latency(Common),
    /// 10 of 100 columns against all of them
    #[command(after_help = "Examples:\n  floss bench fetch\n  floss bench fetch -o json")]
    Fetch(Common),
    /// Lookups over the wire against the same keys read in process
    #[command(after_help = "Examples:\n  floss bench lookup\n  floss bench lookup --rows 1000000 -o json")]
    Lookup {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = ROWS)]
        rows: u64,
    },
    /// Upserts of new and of present rows against reading and writing the same rows in process
    #[command(after_help = "Examples:\n  floss bench upsert\n  floss bench upsert --rows 1000000 -o json")]
    Upsert {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = ROWS)]
        rows: u64,
    },
    /// Create buckets, then let them rest
    #[command(after_help = "Examples:\n  floss bench idle\n  floss bench idle --buckets 100")]
    Idle {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 1000)]
        buckets: i32,
    },
    /// All of them, one after the other
    #[command(after_help = "Examples:\n  floss bench all\n  floss bench all --seconds 2 -o csv")]
    All(Common),
}

/// Of primary-key tables.
const ROWS: u64 = 300_000;

/// One printed line.
pub struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
}

impl Figure {
    fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit }
    }
}

pub async fn run(verb: BenchVerb, output: &Output) -> Result<(), Failure> {
    let common = match &verb {
        BenchVerb::Append(common) | BenchVerb::Latency(common) | BenchVerb::Fetch(common) | BenchVerb::All(common) => common,
        BenchVerb::Idle { common, .. } | BenchVerb::Lookup { common, .. } | BenchVerb::Upsert { common, .. } => common,
    };
    let cluster = BenchCluster::up(common.dir.clone(), common.nodes, output).await?;
    let result = measure(&verb, common, &cluster, output).await;
    cluster.down().await?;
    let mut figures = result?;
    figures.splice(0..0, machine());
    let rows = figures.iter().map(|figure| vec![json!(figure.what), rounded(figure.value), json!(figure.unit)]);
    output.listing(&Listing { name: "bench", columns: vec!["what", "value", "unit"], rows: rows.collect() })
}

async fn measure(verb: &BenchVerb, common: &Common, cluster: &BenchCluster, output: &Output) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    match verb {
        BenchVerb::Append(_) => figures.extend(append::run(cluster, common.seconds, output).await?),
        BenchVerb::Latency(_) => figures.extend(latency::run(cluster, common.seconds, output).await?),
        BenchVerb::Fetch(_) => figures.extend(fetch::run(cluster, common.seconds, output).await?),
        BenchVerb::Lookup { rows, .. } => figures.extend(lookup::run(cluster, *rows, common.seconds, output).await?),
        BenchVerb::Upsert { rows, .. } => figures.extend(upsert::run(cluster, *rows, output).await?),
        BenchVerb::Idle { buckets, .. } => figures.extend(idle::run(cluster, *buckets, common.seconds, output).await?),
        BenchVerb::All(_) => {
            figures.extend(append::run(cluster, common.seconds, output).await?);
            figures.extend(latency::run(cluster, common.seconds, output).await?);
            figures.extend(fetch::run(cluster, common.seconds, output).await?);
            figures.extend(lookup::run(cluster, ROWS, common.seconds, output).await?);
            figures.extend(upsert::run(cluster, ROWS, output).await?);
            figures.extend(idle::run(cluster, 1000, common.seconds, output).await?);
        }
    }
    Ok(figures)
}

/// What the figures depend on.
fn machine() -> Vec<Figure> {
    let cores = std::thread::available_parallelism().map_or(f64::NAN, |cores| cores.get() as f64);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN);
    vec![
        Figure::new("machine, shared by client and nodes", cores, "cores"),
        Figure::new("load average at the end (1 min)", load, "tasks"),
    ]
}

fn rounded(value: f64) -> Value {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        3
    };
    json!(format!("{value:.digits$}"))
}

/// The value below which the given share of the sorted samples lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
