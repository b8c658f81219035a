//! One run: cluster up, writers and readers on, strikes, heal, final read, verdict.

use crate::checker::{Report, check_log};
use crate::cluster::Cluster;
use crate::history::{Event, History};
use crate::nemesis::{Profile, Strike, plan};
use crate::workload::append;
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BUCKETS: i32 = 3;
const WRITERS: i32 = 6;
const READERS: i32 = 2;
const HEALTHY_WAIT: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct Run {
    /// The binary under test
    #[arg(long, value_name = "FILE")]
    floss: PathBuf,
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    #[arg(long, default_value_t = 3)]
    nodes: usize,
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
    append::create_table(&append::connect(&cluster.bootstrap).await?, BUCKETS).await?;
    let struck = strike_under_load(run, &cluster, &history).await;
    let saved = dir.join("history.jsonl");
    history.save(&saved)?;
    struck.with_context(|| format!("history so far in {}, nodes in {}", saved.display(), cluster.dir.display()))?;
    let report = check_log(&history.events());
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
        tasks.push(tokio::spawn(append::write(cluster.bootstrap.clone(), writer, history.clone(), stop.clone())));
    }
    let readers_stop = Arc::new(AtomicBool::new(false));
    for reader in 0..READERS {
        let name = format!("reader-{reader}");
        tasks.push(tokio::spawn(append::follow(cluster.bootstrap.clone(), name, BUCKETS, history.clone(), readers_stop.clone())));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (round, strike) in plan(run.profile, run.seed, run.rounds, run.nodes, BUCKETS).into_iter().enumerate() {
        let hit = one_round(run, cluster, history, strike).await.with_context(|| format!("round {}", round + 1))?;
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
    append::read_all(&cluster.bootstrap, BUCKETS, history).await?;
    readers_stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.context("a reader task")??;
    }
    Ok(())
}

async fn one_round(run: &Run, cluster: &Cluster, history: &History, strike: Strike) -> anyhow::Result<Vec<u64>> {
    let victims = match strike {
        Strike::All => cluster.nodes.clone(),
        Strike::Node { index } => vec![cluster.nodes[index]],
        Strike::Leader { bucket } => {
            let leaders = append::leaders(&append::connect(&cluster.bootstrap).await?, BUCKETS).await?;
            vec![*leaders.get(&bucket).context("the bucket has no leader")?]
        }
    };
    let at_us = history.now_us();
    for node in &victims {
        cluster.kill(*node)?;
    }
    let quorum_left = victims.len() * 2 < cluster.nodes.len();
    history.record(Event::Fault { at_us, what: format!("{strike:?}"), nodes: victims.clone(), quorum_left });
    tokio::time::sleep(Duration::from_millis(run.down_ms)).await;
    for node in &victims {
        cluster.restart(*node)?;
    }
    cluster.wait_healthy(HEALTHY_WAIT)?;
    Ok(victims)
}
