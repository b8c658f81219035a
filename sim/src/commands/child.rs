//! One run in a process of its own.

use super::VIOLATED;
use clap::Args;
use floss_sim::parent::{self, ChildResult, Red};
use floss_sim::plan::{Plan, generate};
use floss_sim::report;
use floss_sim::run::run_plan;
use std::fs;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub struct Child {
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    plan: Option<PathBuf>,
    #[arg(long)]
    out: PathBuf,
    /// How a person runs it again, for the reports that a red run leaves.
    #[arg(long)]
    again: Option<String>,
    /// Reports also if it is green.
    #[arg(long)]
    report: bool,
}

pub fn run(child: &Child) -> anyhow::Result<ExitCode> {
    start_log();
    let plan: Plan = match &child.plan {
        Some(path) => Plan::read(path).map_err(anyhow::Error::msg)?,
        None => generate(child.seed, child.seconds),
    };
    fs::write(child.out.join(parent::PLAN), serde_json::to_string_pretty(&plan)?)?;
    let finished = run_plan(plan.clone());
    let recorded = finished.recorded;
    fs::write(child.out.join(parent::TRACE), &recorded.trace)?;
    let violation = recorded.violation.as_ref();
    if child.report || violation.is_some() && child.again.is_some() {
        let again = child.again.as_deref().unwrap_or_default();
        let file = |name: &str| child.out.join(name);
        fs::write(file(parent::STORY), report::story(&plan, &recorded.timeline, violation))?;
        fs::write(file(parent::PAGE), report::page(&plan, &recorded.timeline, violation, again))?;
        fs::write(file(parent::PERFETTO), serde_json::to_vec(&report::perfetto(&recorded.timeline, violation))?)?;
        fs::write(file(parent::AGAIN), format!("{again}\n"))?;
        floss_checker::history::write(&recorded.history, BufWriter::new(fs::File::create(file(parent::HISTORY))?))?;
    }
    let red = violation.is_some();
    let result = ChildResult {
        seed: child.seed,
        violation: violation.map(|red| Red { oracle: red.oracle.to_owned(), at_ns: red.at_ns, what: red.what.clone() }),
        unclear: recorded.unclear,
        counts: recorded.counts,
        marks: finished.marks.into_iter().map(str::to_owned).collect(),
        virtual_ms: finished.virtual_ns / 1_000_000,
        cpu_ms: cpu_ms(),
    };
    fs::write(child.out.join(parent::RESULT), serde_json::to_string_pretty(&result)?)?;
    Ok(if red { ExitCode::from(VIOLATED) } else { ExitCode::SUCCESS })
}

/// With FLOSS_SIM_LOG set (`info`, `floss_raft=debug`, ..) the node's own log goes to stderr, in virtual time.
fn start_log() {
    let Ok(filter) = std::env::var("FLOSS_SIM_LOG") else { return };
    struct VirtualTime;
    impl tracing_subscriber::fmt::time::FormatTime for VirtualTime {
        fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
            write!(writer, "{:.6}", floss_sim::recorder::now_ns() as f64 / 1e9)
        }
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(VirtualTime)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

/// CPU time of this process so far.
fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<u64> = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    // Linux counts in 1/100 s for programs, whatever the kernel does.
    ticks.iter().sum::<u64>() * 10
}
