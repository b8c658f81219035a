//! `floss-sim`: the command line of the simulator.
#![recursion_limit = "512"]
#![allow(clippy::disallowed_methods)] // the harness itself reads files, starts processes and measures time

use clap::{Parser, Subcommand};
use floss_sim::parent::{self, Options, UNKNOWN, VIOLATED};
use floss_sim::{mutants, plan};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "floss-sim", version, about = "A whole cluster in one thread, from one seed")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Seeds, each in two processes whose traces must be equal
    Run {
        /// `7` or `1..64`
        #[arg(long, default_value = "1..64")]
        seeds: String,
        /// Virtual seconds of each
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        #[arg(short, long, default_value_t = 2)]
        jobs: usize,
        /// Do not repeat each seed
        #[arg(long)]
        once: bool,
        #[arg(long, default_value = "/tmp/floss-sim")]
        out: PathBuf,
        /// A saved (and edited) plan instead of the seed's own
        #[arg(long)]
        plan: Option<PathBuf>,
    },
    /// Planted bugs: how many seeds until each is noticed
    Mutants {
        #[arg(long, value_delimiter = ',')]
        ids: Vec<String>,
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        #[arg(short, long, default_value_t = 2)]
        jobs: usize,
        #[arg(long, default_value = "/tmp/floss-sim-mutants")]
        out: PathBuf,
    },
    /// The plan of a seed, as JSON
    Plan {
        seed: u64,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// One run in this process (what `run` starts)
    #[command(hide = true)]
    One {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        seconds: u64,
        #[arg(long)]
        out: PathBuf,
        #[arg(long)]
        plan: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let code = match Cli::parse().verb {
        Verb::Run { seeds, seconds, jobs, once, out, plan } => {
            let Some(seeds) = parse_seeds(&seeds) else {
                eprintln!("error: seeds {seeds}, expected a number or FIRST..LAST");
                return ExitCode::from(2);
            };
            let began = std::time::Instant::now();
            let options = Options { seeds, seconds, jobs, once, out, mutant: None, stop_at_red: false, quiet: false, plan };
            parent::finish(&options, &parent::run(&options), began)
        }
        Verb::Mutants { ids, seeds, seconds, jobs, out } => {
            if mutants::campaign(&ids, seeds, seconds, jobs, out) {
                0
            } else {
                VIOLATED
            }
        }
        Verb::Plan { seed, seconds } => {
            println!("{}", serde_json::to_string_pretty(&plan::generate(seed, seconds)).expect("a plan is plain data"));
            0
        }
        Verb::One { seed, seconds, out, plan } => one(seed, seconds, out, plan),
    };
    ExitCode::from(code as u8)
}

/// First to last, both included.
fn parse_seeds(text: &str) -> Option<Vec<u64>> {
    match text.split_once("..") {
        Some((first, last)) => Some((first.parse().ok()?..=last.parse().ok()?).collect()),
        None => Some(vec![text.parse().ok()?]),
    }
}

#[cfg(not(madsim))]
fn one(_seed: u64, _seconds: u64, _out: PathBuf, _plan: Option<PathBuf>) -> i32 {
    eprintln!("error: this binary was built without the simulator's runtime; use: make sim");
    _ = VIOLATED;
    UNKNOWN
}

#[cfg(madsim)]
fn one(seed: u64, seconds: u64, out: PathBuf, plan: Option<PathBuf>) -> i32 {
    let plan = match plan {
        Some(path) => match std::fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
        {
            Ok(plan) => plan,
            Err(error) => {
                eprintln!("error: {}: {error}", path.display());
                return UNKNOWN;
            }
        },
        None => plan::generate(seed, seconds),
    };
    parent::save_plan(&out, &plan).expect("the plan can be saved");
    let filter = tracing_subscriber::EnvFilter::new(&std::env::var("FLOSS_SIM_LOG").unwrap_or("error,openraft=off".to_owned()));
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).with_writer(std::io::stderr).init();
    // A thread of its own: the seed decides its hash states before anything else could.
    let simulate = move || {
        let runtime = madsim::runtime::Runtime::with_seed_and_config(plan.seed, madsim::Config::default());
        runtime.block_on(async move {
            // Clients need an address of their own.
            let clients = madsim::runtime::Handle::current().create_node().name("clients").ip([10, 0, 1, 1].into()).build();
            clients.spawn(floss_sim::run::run(plan)).await.expect("the harness does not panic")
        })
    };
    let report = std::thread::spawn(simulate).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    std::fs::write(out.join("trace"), &report.trace).expect("the trace can be saved");
    let verdict = parent::Verdict {
        seed,
        violation: report.violation.as_ref().map(|violation| violation.to_string()),
        acked: report.acked,
        faults: report.faults.iter().map(|(kind, count)| (kind.to_string(), *count)).collect(),
        marks: report.marks.iter().map(|mark| mark.to_string()).collect(),
        virtual_seconds: report.virtual_seconds,
    };
    std::fs::write(out.join("verdict.json"), serde_json::to_vec(&verdict).expect("plain data"))
        .expect("the verdict can be saved");
    // What is still running in the simulated nodes is of no interest any more.
    std::process::exit(if report.violation.is_some() { VIOLATED } else { 0 })
}
