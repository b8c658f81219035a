//! The verbs of the binary.

use clap::{Args, Parser, Subcommand};
use floss_sim::mutants::{MUTANTS, Mutant};
use floss_sim::parent::{self, ChildResult, Job, Judged, Red, Summary, Task};
use floss_sim::plan::{Plan, generate};
use floss_sim::regressions::{REGRESSIONS, Regression};
use floss_sim::run::run_plan;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::Instant;

/// A promise was broken.
const VIOLATED: u8 = 10;
/// Nothing was exercised: neither good nor bad.
const UNKNOWN: u8 = 11;
const SEEDS_PER_LINE: usize = 8;

#[derive(Parser)]
#[command(name = "floss-sim", about = "A whole Floss cluster in one thread, from one seed")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs seeds, each in two processes whose traces must be identical.
    Run(Run),
    /// Runs planted bugs until each is noticed.
    Mutants(Mutants),
    /// Prints the plan of a seed as JSON; edit it and run it with `run --plan`.
    Plan {
        #[arg(long)]
        seed: u64,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// One run in this process.
    #[command(hide = true)]
    Child(Child),
}

#[derive(Args)]
struct Run {
    /// One seed, or a range: 7, 1..64 (both ends included).
    #[arg(long, default_value = "1..64")]
    seeds: String,
    /// Virtual seconds per seed.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(short, long, default_value_t = 2)]
    jobs: usize,
    /// Runs this plan instead of the seed's own.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// One process per seed only.
    #[arg(long)]
    once: bool,
    /// Runs the plans of `regressions.rs` first.
    #[arg(long)]
    regressions: bool,
    /// Where red runs leave plan and trace.
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
}

#[derive(Args)]
struct Mutants {
    /// Some of them: R01,L04.
    #[arg(long, value_delimiter = ',')]
    ids: Vec<String>,
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Virtual seconds per seed; short runs find most of them sooner.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    #[arg(short, long, default_value_t = 2)]
    jobs: usize,
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
}

#[derive(Args)]
struct Child {
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    plan: Option<PathBuf>,
    #[arg(long)]
    out: PathBuf,
}

pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(run) => run_seeds(&run),
        Verb::Mutants(mutants) => run_mutants(&mutants),
        Verb::Plan { seed, seconds } => {
            let plan = serde_json::to_string_pretty(&generate(seed, seconds)).expect("plans are plain data");
            println!("{plan}");
            Ok(ExitCode::SUCCESS)
        }
        Verb::Child(child) => run_child(&child),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn run_child(child: &Child) -> anyhow::Result<ExitCode> {
    start_log();
    let plan: Plan = match &child.plan {
        Some(path) => serde_json::from_slice(&fs::read(path)?)?,
        None => generate(child.seed, child.seconds),
    };
    fs::write(child.out.join(parent::PLAN), serde_json::to_string_pretty(&plan)?)?;
    let finished = run_plan(plan);
    fs::write(child.out.join(parent::TRACE), &finished.trace)?;
    let violation = finished.violation.map(|red| Red { oracle: red.oracle.to_owned(), at_ns: red.at_ns, what: red.what });
    let red = violation.is_some();
    let result = ChildResult {
        seed: child.seed,
        violation,
        counts: finished.counts,
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

fn seeds(text: &str) -> anyhow::Result<Vec<u64>> {
    Ok(match text.split_once("..") {
        Some((first, last)) => (first.parse()?..=last.trim_start_matches('=').parse()?).collect(),
        None => vec![text.parse()?],
    })
}

fn build() -> String {
    let describe = Process::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = describe
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}

fn run_seeds(run: &Run) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let build = build();
    let mut tasks = Vec::new();
    if run.regressions {
        tasks.extend(regressions(&run.out)?);
    }
    let task = |seed| Task { seed, seconds: run.seconds, plan: None };
    match &run.plan {
        Some(plan) => tasks.push(Task { plan: Some(plan.clone()), ..task(0) }),
        None => tasks.extend(seeds(&run.seeds)?.into_iter().map(task)),
    }
    let job = Job { tasks, jobs: run.jobs, twice: !run.once, out: run.out.clone(), mutant: None, stop_at_red: false };
    let mut summary = Summary::default();
    run_job(&job, run, &build, &mut summary);
    for text in summary.lines(started, job.twice) {
        println!("{text}");
    }
    let code = match summary {
        Summary { red: 1.., .. } => VIOLATED,
        Summary { unknown: 1.., .. } => UNKNOWN,
        Summary { green: 0, .. } => UNKNOWN,
        _ => 0,
    };
    Ok(ExitCode::from(code))
}

/// Known plans, written out for the children.
fn regressions(out: &Path) -> anyhow::Result<Vec<Task>> {
    let dir = out.join("plans");
    fs::create_dir_all(&dir)?;
    let task = |known: &Regression| {
        let path = dir.join(format!("{}.json", known.name));
        fs::write(&path, known.plan)?;
        let plan: Plan = serde_json::from_str(known.plan)?;
        Ok(Task { seed: plan.seed, seconds: (plan.heal_at_ms + plan.calm_ms) / 1000, plan: Some(path) })
    };
    REGRESSIONS.iter().map(task).collect()
}

fn run_job(job: &Job, run: &Run, build: &str, summary: &mut Summary) {
    let (count, jobs) = (job.tasks.len(), job.jobs);
    println!("sim  build {build}  {count} runs, seeds {} x {} s  {jobs} processes", run.seeds, run.seconds);
    let mut line = Vec::new();
    parent::run_seeds(job, |one| {
        summary.add(one);
        line.push(one.clone());
        if one.red.is_some() {
            print_red(one, build);
        }
        if line.len() == SEEDS_PER_LINE {
            print_line(&std::mem::take(&mut line));
        }
    });
    if !line.is_empty() {
        print_line(&line);
    }
}

fn print_line(line: &[Judged]) {
    let seeds: Vec<String> = line.iter().map(|one| one.task.name()).collect();
    let acked: u64 = line.iter().map(|one| one.result.counts.acked).sum();
    let faults: u64 = line.iter().flat_map(|one| one.result.counts.faults.values()).sum();
    let red = line.iter().filter(|one| one.red.is_some()).count();
    let unknown = line.iter().filter(|one| one.is_unknown()).count();
    let green = line.len() - red - unknown;
    println!("  {green:2} green {red:2} red {unknown:2} unknown  acked {acked:6}  faults {faults:4}  {}", seeds.join(" "));
}

fn print_red(one: &Judged, build: &str) {
    let Some(red) = &one.red else { return };
    let Task { seed, seconds, plan } = &one.task;
    println!("RED seed {seed}  build {build}  after {:.3} s  {}", red.at_ns as f64 / 1e9, red.oracle);
    println!("    {}", red.what);
    let again = match plan {
        Some(plan) => format!("make sim PLAN={}", plan.display()),
        None if *seconds == 60 => format!("make sim SEED={seed}"),
        None => format!("make sim SEED={seed} SECONDS_VIRTUAL={seconds}"),
    };
    println!("    again   {again}");
    println!("    look    {}", one.dir.join(parent::TRACE).display());
}

fn run_mutants(arguments: &Mutants) -> anyhow::Result<ExitCode> {
    let chosen: Vec<&Mutant> = match &arguments.ids[..] {
        [] => MUTANTS.iter().filter(|mutant| !mutant.expected.is_empty()).collect(),
        ids => ids
            .iter()
            .map(|id| MUTANTS.iter().find(|mutant| mutant.id == id).ok_or_else(|| anyhow::anyhow!("no mutant {id}")))
            .collect::<anyhow::Result<_>>()?,
    };
    let mut survivors = 0;
    println!("id    seeds  caught by  expected           after    what was said");
    for mutant in chosen {
        survivors += usize::from(!hunt(mutant, arguments, &arguments.out));
    }
    println!("{survivors} not caught within {} seeds", arguments.seeds);
    Ok(ExitCode::from(if survivors == 0 { 0 } else { VIOLATED }))
}

/// True if some seed is red.
fn hunt(mutant: &Mutant, arguments: &Mutants, out: &Path) -> bool {
    let job = Job {
        tasks: (1..=arguments.seeds).map(|seed| Task { seed, seconds: arguments.seconds, plan: None }).collect(),
        jobs: arguments.jobs,
        twice: false,
        out: out.to_owned(),
        mutant: Some(mutant.id.to_owned()),
        stop_at_red: true,
    };
    let mut reds = BTreeMap::new();
    let judged = parent::run_seeds(&job, |one| {
        if let Some(red) = &one.red {
            reds.insert(one.task.seed, red.clone());
        }
    });
    let expected = mutant.expected.join(" ");
    let Some((seed, red)) = reds.into_iter().next() else {
        println!("{:5} {:5}  nobody     {expected:18} {:8} survives: {}", mutant.id, judged.len(), "-", mutant.what);
        return false;
    };
    let fits = if mutant.expected.contains(&red.oracle.as_str()) { ' ' } else { '?' };
    let after = format!("{:.1} s", red.at_ns as f64 / 1e9);
    println!("{:5} {seed:5}  {:9}{fits} {expected:18} {after:8} {:.90}", mutant.id, red.oracle, red.what.replace('\n', " "));
    true
}
