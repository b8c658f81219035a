//! Runs seeds in child processes, each twice, and compares what they did (I14).

use crate::oracle::first_difference;
use crate::plan::Plan;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// A property is violated, or the same seed ran differently.
pub const VIOLATED: i32 = 10;
/// Nothing can be said.
pub const UNKNOWN: i32 = 11;

/// What a child said about one run.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    pub seed: u64,
    pub violation: Option<String>,
    pub acked: u64,
    pub faults: BTreeMap<String, u64>,
    pub marks: Vec<String>,
    pub virtual_seconds: f64,
}

/// A seed on its way: two runs, in directories of their own.
struct Job {
    seed: u64,
    dirs: [PathBuf; 2],
    children: Vec<(usize, Child)>,
}

pub struct Options {
    pub seeds: Vec<u64>,
    pub seconds: u64,
    pub jobs: usize,
    pub once: bool,
    pub out: PathBuf,
    pub mutant: Option<String>,
    pub stop_at_red: bool,
    pub quiet: bool,
    pub plan: Option<PathBuf>,
}

#[derive(Default)]
pub struct Summary {
    pub green: u64,
    /// Seed and what was wrong.
    pub red: Vec<(u64, String)>,
    pub marks: BTreeSet<String>,
    pub faults: BTreeMap<String, u64>,
    pub acked: u64,
    pub virtual_seconds: f64,
}

/// Runs all seeds; prints a line per eight.
pub fn run(options: &Options) -> Summary {
    let began = Instant::now();
    let mut left: VecDeque<u64> = options.seeds.iter().copied().collect();
    let mut running: Vec<Job> = Vec::new();
    let mut summary = Summary::default();
    let mut done = 0;
    while !left.is_empty() || !running.is_empty() {
        while running.len() < options.jobs && !left.is_empty() && !(options.stop_at_red && !summary.red.is_empty()) {
            let seed = left.pop_front().expect("just seen");
            running.push(start(options, seed));
        }
        if running.is_empty() {
            break;
        }
        let mut at = 0;
        let mut ended = false;
        while at < running.len() {
            if advance(options, &mut running[at]) {
                let job = running.remove(at);
                judge(options, job, &mut summary);
                done += 1;
                ended = true;
                if !options.quiet && done % 8 == 0 {
                    println!(
                        "seeds {done:>4}/{}  green {}  red {}  {} s",
                        options.seeds.len(),
                        summary.green,
                        summary.red.len(),
                        began.elapsed().as_secs()
                    );
                }
            } else {
                at += 1;
            }
        }
        if !ended {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    summary
}

fn start(options: &Options, seed: u64) -> Job {
    let dir = |turn: &str| options.out.join(format!("seed-{seed}-{turn}"));
    let mut job = Job { seed, dirs: [dir("a"), dir("b")], children: Vec::new() };
    job.children.push((0, spawn(options, seed, &job.dirs[0], "first")));
    job
}

fn spawn(options: &Options, seed: u64, dir: &Path, salt: &str) -> Child {
    std::fs::create_dir_all(dir).expect("the output directory can be made");
    let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
    command.args(["one", "--seed", &seed.to_string(), "--seconds", &options.seconds.to_string(), "--out"]).arg(dir);
    if let Some(plan) = &options.plan {
        command.arg("--plan").arg(plan);
    }
    // Another directory and another environment: none of that may show in the trace.
    command.current_dir(dir).env("FLOSS_SIM_SALT", salt.repeat(seed as usize % 7 + 1));
    match &options.mutant {
        Some(mutant) => command.env("FLOSS_MUTANT", mutant),
        None => command.env_remove("FLOSS_MUTANT"),
    };
    let log = std::fs::File::create(dir.join("log")).expect("the log can be written");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("this binary starts")
}

/// True when the job is over.
fn advance(options: &Options, job: &mut Job) -> bool {
    let Some((turn, child)) = job.children.last_mut() else { return true };
    let Some(status) = child.try_wait().expect("a child can be asked") else { return false };
    let turn = *turn;
    if turn == 0 && !options.once && status.success() {
        let child = spawn(options, job.seed, &job.dirs[1], "another");
        job.children.push((1, child));
        return false;
    }
    true
}

fn judge(options: &Options, mut job: Job, summary: &mut Summary) {
    let status: Vec<ExitStatus> = job.children.iter_mut().map(|(_, child)| child.wait().expect("it has ended")).collect();
    let verdict: Option<Verdict> =
        std::fs::read(job.dirs[0].join("verdict.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let trace = |turn: usize| std::fs::read(job.dirs[turn].join("trace")).unwrap_or_default();
    let wrong = match &verdict {
        None => Some(format!("the run died ({}): {}", status[0], last_line(&job.dirs[0].join("log")))),
        Some(verdict) => verdict.violation.clone(),
    };
    let wrong = wrong.or_else(|| {
        (!options.once && trace(0) != trace(1))
            .then(|| format!("I14: two runs of the seed differ, first at {}", first_difference(&trace(0), &trace(1))))
    });
    if let Some(verdict) = verdict {
        summary.acked += verdict.acked;
        summary.virtual_seconds += verdict.virtual_seconds;
        summary.marks.extend(verdict.marks);
        for (kind, count) in verdict.faults {
            *summary.faults.entry(kind).or_default() += count;
        }
    }
    match wrong {
        None => {
            summary.green += 1;
            job.dirs.iter().for_each(|dir| _ = std::fs::remove_dir_all(dir));
        }
        Some(what) => {
            if !options.quiet {
                println!("RED seed {}  {what}", job.seed);
                println!("  build   {}", option_env!("FLOSS_BUILD").unwrap_or(env!("CARGO_PKG_VERSION")));
                println!("  again   make sim SEED={} SECONDS_VIRTUAL={}", job.seed, options.seconds);
                println!("  look    {}", job.dirs[0].display());
            }
            summary.red.push((job.seed, what));
        }
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let said = text.lines().rev().find(|line| line.contains("panicked") || line.contains("error"));
    said.or(text.lines().last()).unwrap_or("it said nothing").to_owned()
}

/// Prints the totals; the exit code.
pub fn finish(options: &Options, summary: &Summary, began: Instant) -> i32 {
    let faults: Vec<String> =
        summary.faults.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| format!("{kind} {count}")).collect();
    println!(
        "seeds {}  green {}  red {}  virtual {:.0} s  wall {} s  acknowledged batches {}",
        options.seeds.len(),
        summary.green,
        summary.red.len(),
        summary.virtual_seconds,
        began.elapsed().as_secs(),
        summary.acked
    );
    println!("effective faults {} ({})", summary.faults.values().sum::<u64>(), faults.join("  "));
    println!("reached {}: {}", summary.marks.len(), summary.marks.iter().cloned().collect::<Vec<_>>().join(" "));
    if !summary.red.is_empty() {
        return VIOLATED;
    }
    if summary.acked == 0 || summary.faults.values().sum::<u64>() == 0 { UNKNOWN } else { 0 }
}

/// The plan of a run, for people and for replay.
pub fn save_plan(dir: &Path, plan: &Plan) -> std::io::Result<()> {
    std::fs::write(dir.join("plan.json"), serde_json::to_vec_pretty(plan)?)
}
