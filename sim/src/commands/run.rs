//! Seeds and plans, judged.

use super::{UNKNOWN, VIOLATED, build, lock, plan_file, scenarios, seeds};
use clap::Args;
use floss_sim::marks::MARKS;
use floss_sim::parent::{self, Job, Judged, Summary, Task};
use floss_sim::plan::{FAULTS, Plan};
use floss_sim::regressions::{REGRESSIONS, Regression};
use floss_sim::scenarios::SCENARIOS;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const SEEDS_PER_LINE: usize = 8;
/// What a sweep demands of itself: less would not be a test.
const FAULTS_PER_RUN_MIN: u64 = 25;
const SEEDS_PER_KIND_MIN_PERCENT: usize = 20;

#[derive(Args)]
pub struct Run {
    /// One seed, or a range: 7, 1..64 (both ends included).
    #[arg(long, visible_alias = "seed", default_value = "1..64")]
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
    /// Runs the plans of `regressions.rs` and the scenarios first.
    #[arg(long)]
    regressions: bool,
    /// Where red runs leave plan, trace, story, page and trace for Perfetto.
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
}

#[derive(Args)]
pub struct Sweep {
    /// How many seeds, from 1.
    #[arg(short, default_value_t = 200)]
    n: u64,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(short, long, default_value_t = 2)]
    jobs: usize,
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
}

#[derive(Args)]
pub struct Replay {
    /// plan.json, or the directory of a red run.
    plan: PathBuf,
    /// With this planted bug.
    #[arg(long)]
    mutant: Option<String>,
    #[arg(long, default_value = "target/sim/replay")]
    out: PathBuf,
}

pub fn run(run: &Run) -> anyhow::Result<ExitCode> {
    let _lock = lock(&run.out)?;
    let mut tasks = Vec::new();
    if run.regressions {
        tasks.extend(known_plans(&run.out)?.into_iter().map(|(_, task)| task));
        for scenario in SCENARIOS {
            tasks.extend(scenarios::plans(scenario, 1, &run.out)?);
        }
    }
    let task = |seed| Task { seed, seconds: run.seconds, plan: None };
    match &run.plan {
        Some(plan) => tasks.push(Task { plan: Some(plan_file(plan)), ..task(0) }),
        None => tasks.extend(seeds(&run.seeds)?.into_iter().map(task)),
    }
    let what = format!("seeds {} x {} s", run.seeds, run.seconds);
    let job = Job { tasks, jobs: run.jobs, twice: !run.once, out: run.out.clone(), ..Job::default() };
    Ok(ExitCode::from(verdict(&judge(&job, &what))))
}

/// Red, too, if it has not exercised enough.
pub fn sweep(sweep: &Sweep) -> anyhow::Result<ExitCode> {
    let _lock = lock(&sweep.out)?;
    let tasks = (1..=sweep.n).map(|seed| Task { seed, seconds: sweep.seconds, plan: None }).collect();
    let job = Job { tasks, jobs: sweep.jobs, twice: true, out: sweep.out.clone(), ..Job::default() };
    let summary = judge(&job, &format!("seeds 1..{} x {} s", sweep.n, sweep.seconds));
    let mut missing = Vec::new();
    for (mark, _) in MARKS.iter().filter(|(mark, why_not)| why_not.is_empty() && !summary.marks.contains_key(*mark)) {
        missing.push(format!("mark {mark} was never reached"));
    }
    let runs = job.tasks.len();
    let effective = summary.counts.faults.values().sum::<u64>() / runs.max(1) as u64;
    if effective < FAULTS_PER_RUN_MIN {
        missing.push(format!("{effective} effective faults per run, expected {FAULTS_PER_RUN_MIN}"));
    }
    for (kind, _) in FAULTS {
        let seeds = summary.kinds.get(*kind).copied().unwrap_or(0);
        if seeds * 100 < runs * SEEDS_PER_KIND_MIN_PERCENT {
            missing
                .push(format!("fault {kind} had an effect in {seeds} of {runs} seeds, expected {SEEDS_PER_KIND_MIN_PERCENT} %"));
        }
    }
    missing.iter().for_each(|line| println!("MISSING {line}"));
    let code = verdict(&summary);
    Ok(ExitCode::from(if missing.is_empty() { code } else { VIOLATED }))
}

pub fn replay(replay: Replay) -> anyhow::Result<ExitCode> {
    let _lock = lock(&replay.out)?;
    let path = plan_file(&replay.plan);
    let plan = Plan::read(&path).map_err(anyhow::Error::msg)?;
    let job = Job {
        tasks: vec![Task::of(&plan, path)],
        twice: true,
        jobs: 1,
        out: replay.out,
        mutant: replay.mutant,
        ..Job::default()
    };
    Ok(ExitCode::from(verdict(&judge(&job, &format!("plan {}", replay.plan.display())))))
}

fn verdict(summary: &Summary) -> u8 {
    match summary {
        Summary { red: 1.., .. } => VIOLATED,
        Summary { unknown: 1.., .. } | Summary { green: 0, .. } => UNKNOWN,
        _ => 0,
    }
}

/// Known plans, written out for the children.
pub fn known_plans(out: &Path) -> anyhow::Result<Vec<(&'static Regression, Task)>> {
    let dir = out.join("plans");
    fs::create_dir_all(&dir)?;
    let task = |known: &'static Regression| {
        let path = dir.join(format!("{}.json", known.name));
        fs::write(&path, known.plan)?;
        let plan = Plan::parse(known.plan.as_bytes()).map_err(anyhow::Error::msg)?;
        Ok((known, Task::of(&plan, path)))
    };
    REGRESSIONS.iter().map(task).collect()
}

/// Runs everything, prints as it goes, and the summary at the end.
pub fn judge(job: &Job, what: &str) -> Summary {
    let started = Instant::now();
    let build = build();
    println!("sim  build {build}  {} runs, {what}  {} processes", job.tasks.len(), job.jobs);
    let (mut summary, mut line) = (Summary::default(), Vec::new());
    parent::run_seeds(job, |one| {
        summary.add(one);
        line.push(one.clone());
        if one.red.is_some() {
            print_red(one, &build);
        }
        if line.len() == SEEDS_PER_LINE {
            print_line(&std::mem::take(&mut line));
        }
    });
    if !line.is_empty() {
        print_line(&line);
    }
    summary.lines(started, job.twice).iter().for_each(|text| println!("{text}"));
    summary
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
    let seed = one.task.seed;
    println!("RED seed {seed}  build {build}  after {:.3} s  {}", red.at_ns as f64 / 1e9, red.oracle);
    println!("    {}", red.what);
    println!("    again   {}", one.task.again(None));
    println!("    look    {}/{{{},{},{}}}", one.dir.display(), parent::STORY, parent::PAGE, parent::TRACE);
}
