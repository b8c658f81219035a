//! One run: cluster up, writers and readers on, strikes, heal, final read, verdict.

use crate::cluster::Cluster;
use crate::history::{History, READERS_FROM};
use crate::nemesis::{Profile, Strike, plan};
use crate::report::Report;
use crate::workload::{append, upsert};
use anyhow::Context;
use clap::Args;
use floss_checker::history::{Event, Source};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BUCKETS: i32 = 3;
const WRITERS: i32 = 6;
const READERS: i32 = 2;
const HEALTHY_WAIT: Duration = Duration::from_secs(60);

/// What the clients do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Rows into a log table, two readers behind them
    Append,
    /// Upserts and deletes on a primary-key table
    Upsert,
}

#[derive(Args)]
pub struct Run {
    /// The binary under test
    #[arg(long, value_name = "FILE")]
    floss: PathBuf,
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    #[arg(long, value_enum, default_value_t = Workload::Append)]
    workload: Workload,
    /// Of workload upsert: rows in the table before the first strike
    #[arg(long, default_value_t = 10_000)]
    preload: i64,
    /// Of workload upsert: the node struck in the middle round comes back without its rows
    #[arg(long)]
    lose_rows: bool,
    #[arg(long, value_enum, default_value_t = Profile::Mixed)]
    profile: Profile,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Milliseconds between a strike and the restart
    #[arg(long, default_value_t = 1500)]
    down_ms: u64,
    /// Where the cluster and the history live; default: a temporary directory, removed when all is well
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn run(run: Run) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(campaign(&run));
    runtime.shutdown_background();
    report
}

async fn campaign(run: &Run) -> anyhow::Result<Report> {
    let dir = run.dir.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("floss-jepsen-{}", std::process::id())));
    let cluster = Cluster::up(run.floss.clone(), dir.join("cluster"), run.nodes)?;
    let history = History::new();
    let connection = append::connect(&cluster.bootstrap).await?;
    match run.workload {
        Workload::Append => append::create_table(&connection, BUCKETS).await?,
        Workload::Upsert => {
            upsert::create_table(&connection, BUCKETS).await?;
            upsert::preload(&cluster.bootstrap, run.preload, BUCKETS, &history).await?;
        }
    }
    let struck = strike_under_load(run, &cluster, &history).await;
    let saved = dir.join("history.jsonl");
    if let Err(error) = &struck {
        history.record(Event::Harness { at: history.now(), what: format!("{error:#}") });
    }
    history.save(&saved)?;
    struck.with_context(|| format!("history so far in {}, nodes in {}", saved.display(), cluster.dir.display()))?;
    if run.workload == Workload::Upsert {
        compare_stores(&cluster, &history)?;
        history.save(&saved)?;
    }
    let report = history.with(Report::of);
    cluster.down()?;
    if report.exit_code(1, 1) == 0 && run.dir.is_none() {
        std::fs::remove_dir_all(&dir)?;
    } else {
        eprintln!("history: {}   check it again: floss-jepsen check {}", saved.display(), saved.display());
    }
    Ok(report)
}

async fn strike_under_load(run: &Run, cluster: &Cluster, history: &History) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let (bootstrap, history, stop) = (cluster.bootstrap.clone(), history.clone(), stop.clone());
        tasks.push(match run.workload {
            Workload::Append => tokio::spawn(append::write(bootstrap, writer, history, stop)),
            Workload::Upsert => tokio::spawn(upsert::write(bootstrap, writer, WRITERS, run.preload, history, stop)),
        });
    }
    let readers_stop = Arc::new(AtomicBool::new(false));
    for reader in 0..if run.workload == Workload::Append { READERS } else { 0 } {
        let process = READERS_FROM + reader as u64;
        tasks.push(tokio::spawn(append::follow(
            cluster.bootstrap.clone(),
            process,
            BUCKETS,
            history.clone(),
            readers_stop.clone(),
        )));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (round, strike) in plan(run.profile, run.seed, run.rounds, run.nodes, BUCKETS).into_iter().enumerate() {
        let loses_rows = run.lose_rows && round as u64 == run.rounds / 2;
        let hit = one_round(run, cluster, history, strike, loses_rows).await.with_context(|| format!("round {}", round + 1))?;
        eprintln!("round {:>3}/{}  {strike:?} killed {hit:?}", round + 1, run.rounds);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    let finish = async {
        for task in tasks.drain(..WRITERS as usize) {
            task.await.context("a writer task")??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(HEALTHY_WAIT, finish).await.context("a writer is stuck for ever")??;
    match run.workload {
        Workload::Append => append::read_all(&cluster.bootstrap, BUCKETS, history).await?,
        Workload::Upsert => upsert::read_all(&cluster.bootstrap, BUCKETS, history).await?,
    }
    readers_stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.context("a reader task")??;
    }
    Ok(())
}

/// Every replica holds the same rows once all rest; what a node lacks in its directory of rows it folds from the log.
fn compare_stores(cluster: &Cluster, history: &History) -> anyhow::Result<()> {
    cluster.stop()?;
    let stores: Vec<(u64, String)> =
        cluster.nodes.iter().map(|node| Ok((*node, cluster.rows_of(*node)?))).collect::<anyhow::Result<_>>()?;
    let (first, expected) = stores.first().context("a cluster has nodes")?;
    for (node, rows) in stores.iter().filter(|(_, rows)| rows != expected) {
        let (at, by, rows) = (history.now(), Source::Replica(*node), Err(format!("{rows:?}, node {first} holds {expected:?}")));
        history.record(Event::Rows { at, by, bucket: 0, log_end: None, count: None, rows });
    }
    Ok(())
}

async fn one_round(
    run: &Run,
    cluster: &Cluster,
    history: &History,
    strike: Strike,
    loses_rows: bool,
) -> anyhow::Result<Vec<u64>> {
    let victims = match strike {
        Strike::All => cluster.nodes.clone(),
        Strike::Node { index } => vec![cluster.nodes[index]],
        Strike::Leader { bucket } => {
            let path = if run.workload == Workload::Append { append::path() } else { upsert::path() };
            let leaders = append::leaders(&append::connect(&cluster.bootstrap).await?, &path, BUCKETS).await?;
            vec![*leaders.get(&bucket).context("the bucket has no leader")?]
        }
    };
    let at = history.now();
    for node in &victims {
        cluster.kill(*node)?;
    }
    let quorum_left = victims.len() * 2 < cluster.nodes.len();
    history.record(Event::Fault { at, what: format!("{strike:?}"), nodes: victims.clone(), quorum_left });
    tokio::time::sleep(Duration::from_millis(run.down_ms)).await;
    for node in &victims {
        if loses_rows {
            cluster.lose_rows(*node)?;
            eprintln!("node {node} has lost its rows");
        }
        cluster.restart(*node)?;
    }
    cluster.wait_healthy(HEALTHY_WAIT)?;
    Ok(victims)
}
