//! Runs seeds in child processes, two per seed, and compares their traces byte for byte (I14).

use crate::oracle::first_difference;
use crate::plan::Plan;
use crate::recorder::Counts;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Instant;

pub const TRACE: &str = "trace.txt";
pub const PLAN: &str = "plan.json";
pub const RESULT: &str = "result.json";
/// What a red run leaves for people.
pub const STORY: &str = "story.txt";
pub const PAGE: &str = "report.html";
pub const PERFETTO: &str = "perfetto.json";
pub const AGAIN: &str = "command.txt";
/// For `floss-jepsen check`.
pub const HISTORY: &str = "history.jsonl";

/// What a child writes beside its trace. `cpu_ms` is the only part that may differ between two runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChildResult {
    pub seed: u64,
    pub violation: Option<Red>,
    /// Why it proves nothing, if it is not red.
    #[serde(default)]
    pub unclear: Option<String>,
    pub counts: Counts,
    pub marks: BTreeSet<String>,
    pub virtual_ms: u64,
    pub cpu_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Red {
    pub oracle: String,
    pub at_ns: u64,
    pub what: String,
}

/// One thing to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    pub seed: u64,
    /// Virtual seconds. A plan says by itself how long it lasts.
    pub seconds: u64,
    /// Instead of the seed's own.
    pub plan: Option<PathBuf>,
}

impl Task {
    /// A plan that lies in a file.
    pub fn of(plan: &Plan, file: PathBuf) -> Self {
        Self { seed: plan.seed, seconds: (plan.heal_at_ms + plan.calm_ms) / 1000, plan: Some(file) }
    }

    pub fn name(&self) -> String {
        let stem = self.plan.as_ref().and_then(|plan| plan.file_stem());
        stem.map_or_else(|| format!("seed-{}", self.seed), |stem| format!("plan-{}", stem.to_string_lossy()))
    }

    /// The command that runs it again.
    pub fn again(&self, mutant: Option<&str>) -> String {
        let mutant = mutant.map_or_else(String::new, |mutant| format!(" --mutant {mutant}"));
        match &self.plan {
            Some(plan) => format!("floss sim replay {}{mutant}", plan.display()),
            None if mutant.is_empty() => format!("floss sim run --seed {} --seconds {}", self.seed, self.seconds),
            None => format!("floss sim explain --seed {} --seconds {}{mutant}", self.seed, self.seconds),
        }
    }
}

/// How tasks are run.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub tasks: Vec<Task>,
    pub jobs: usize,
    /// A second process per seed, whose trace must be the same.
    pub twice: bool,
    pub out: PathBuf,
    pub mutant: Option<String>,
    /// No more seeds after the first red one.
    pub stop_at_red: bool,
    /// Red runs leave plan and trace only.
    pub no_reports: bool,
    /// Green runs leave everything, too.
    pub report: bool,
}

/// One seed, judged.
#[derive(Clone, Debug)]
pub struct Judged {
    pub task: Task,
    pub result: ChildResult,
    pub red: Option<Red>,
    pub dir: PathBuf,
}

impl Judged {
    /// Nothing happened: neither green nor red.
    pub fn is_unknown(&self) -> bool {
        let is_idle = self.result.counts.acked < 10 || self.result.counts.rows < 10;
        self.red.is_none() && (is_idle || self.result.unclear.is_some())
    }
}

/// Runs all tasks, `jobs` at a time; `on_judged` is called in the order in which they end.
pub fn run_seeds(job: &Job, mut on_judged: impl FnMut(&Judged)) -> Vec<Judged> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let mut judged = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..job.jobs.max(1) {
            let sender = sender.lock().expect("no worker panics with it").clone();
            let (next, stop) = (&next, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let Some(task) = job.tasks.get(next.fetch_add(1, Ordering::SeqCst)) else { return };
                    let one = judge(job, task);
                    if one.red.is_some() && job.stop_at_red {
                        stop.store(true, Ordering::SeqCst);
                    }
                    if sender.send(one).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for one in receiver {
            on_judged(&one);
            judged.push(one);
        }
    });
    judged.sort_by(|one, other| one.task.cmp(&other.task));
    judged
}

fn judge(job: &Job, task: &Task) -> Judged {
    let prefix = job.mutant.as_ref().map_or_else(String::new, |mutant| format!("{mutant}-"));
    let dir = job.out.join(prefix + &task.name());
    drop(fs::remove_dir_all(&dir));
    let first = run_child(job, task, &dir, false);
    let result = first.as_ref().cloned().unwrap_or_default();
    let mut red = first.map_or_else(|error| Some(red("process", error)), |result| result.violation);
    if job.twice && red.as_ref().is_none_or(|red| red.oracle != "process") {
        let again = dir.join("again");
        let second = run_child(job, task, &again, true).err().map(|error| red_of("process", error));
        // A difference comes first: a run that cannot be repeated proves nothing else.
        red = compare(&dir.join(TRACE), &again.join(TRACE)).map(|what| red_of("I14", what)).or(second).or(red);
    }
    if red.is_none() && !job.report {
        drop(fs::remove_dir_all(&dir));
    }
    Judged { task: task.clone(), result, red, dir }
}

fn red(oracle: &str, what: String) -> Red {
    red_of(oracle, what)
}

fn red_of(oracle: &str, what: String) -> Red {
    Red { oracle: oracle.to_owned(), at_ns: 0, what }
}

/// The child inherits a cleared environment; the second one gets other noise, to find what leaks in.
fn run_child(job: &Job, task: &Task, dir: &Path, other: bool) -> Result<ChildResult, String> {
    let text = |what: &str, error: std::io::Error| format!("{what}: {error}");
    fs::create_dir_all(dir).map_err(|error| text("create the directory of a run", error))?;
    let dir = dir.canonicalize().map_err(|error| text("find the directory of a run", error))?;
    let program = std::env::current_exe().map_err(|error| text("find this program", error))?;
    let mut command = Command::new(program);
    command.arg("child").args(["--seed", &task.seed.to_string(), "--seconds", &task.seconds.to_string()]);
    command.arg("--out").arg(&dir);
    if let Some(plan) = &task.plan {
        command.arg("--plan").arg(plan.canonicalize().map_err(|error| text("find the plan", error))?);
    }
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    for name in ["FLOSS_SIM_LOG", "RUST_BACKTRACE", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if !job.no_reports && !other {
        command.arg("--again").arg(task.again(job.mutant.as_deref()));
    }
    if job.report {
        command.arg("--report");
    }
    if let Some(mutant) = &job.mutant {
        command.env("FLOSS_MUTANT", mutant);
    }
    if other {
        let noise: OsString = "x".repeat(1000 + task.seed as usize % 97).into();
        command.env("FLOSS_NOISE", noise).env("TZ", "Asia/Kathmandu").current_dir("/");
    } else {
        command.current_dir(&dir);
    }
    let log = fs::File::create(dir.join("stderr.txt")).map_err(|error| text("create stderr.txt", error))?;
    let status = command.stderr(log).status().map_err(|error| text("start a child", error))?;
    let result = fs::read(dir.join(RESULT)).map_err(|error| format!("child ended with {status}, no result: {error}"))?;
    serde_json::from_slice(&result).map_err(|error| format!("result of a child: {error}"))
}

/// The first line in which two traces differ.
fn compare(first: &Path, second: &Path) -> Option<String> {
    let (Ok(one), Ok(two)) = (fs::read(first), fs::read(second)) else {
        return Some("a trace is missing".to_owned());
    };
    if one == two {
        return None;
    }
    Some(format!("the same seed gave two traces; {}", first_difference(&one, &two)))
}

/// The numbers of a sweep.
#[derive(Default)]
pub struct Summary {
    pub green: usize,
    pub red: usize,
    pub unknown: usize,
    pub counts: Counts,
    pub marks: BTreeMap<String, usize>,
    pub kinds: BTreeMap<String, usize>,
    virtual_ms: u64,
    cpu_ms: u64,
    /// Virtual seconds per CPU second of each run.
    speeds: Vec<u64>,
}

impl Summary {
    pub fn add(&mut self, one: &Judged) {
        match (&one.red, one.is_unknown()) {
            (Some(_), _) => self.red += 1,
            (None, true) => self.unknown += 1,
            (None, false) => self.green += 1,
        }
        let ChildResult { counts, marks, virtual_ms, cpu_ms, .. } = &one.result;
        self.virtual_ms += virtual_ms;
        self.cpu_ms += cpu_ms;
        self.speeds.push(virtual_ms / cpu_ms.max(&1));
        for (total, part) in [
            (&mut self.counts.sends, counts.sends),
            (&mut self.counts.resends, counts.resends),
            (&mut self.counts.acked, counts.acked),
            (&mut self.counts.unknown, counts.unknown),
            (&mut self.counts.out_of_order, counts.out_of_order),
            (&mut self.counts.fetches, counts.fetches),
            (&mut self.counts.rows, counts.rows),
            (&mut self.counts.boots, counts.boots),
            (&mut self.counts.checks, counts.checks),
            (&mut self.counts.lookups, counts.lookups),
            (&mut self.counts.lookups_failed, counts.lookups_failed),
            (&mut self.counts.scans, counts.scans),
            (&mut self.counts.tables, counts.tables),
        ] {
            *total += part;
        }
        for (kind, count) in &counts.faults {
            *self.counts.faults.entry(kind.clone()).or_default() += count;
            *self.kinds.entry(kind.clone()).or_default() += 1;
        }
        for mark in marks {
            *self.marks.entry(mark.clone()).or_default() += 1;
        }
    }

    /// The last lines of a sweep.
    pub fn lines(&mut self, started: Instant, twice: bool) -> Vec<String> {
        let seeds = self.green + self.red + self.unknown;
        self.speeds.sort_unstable();
        let median = self.speeds.get(self.speeds.len() / 2).copied().unwrap_or(0);
        let effective: u64 = self.counts.faults.values().sum();
        let mut kinds: Vec<(&String, &u64)> = self.counts.faults.iter().collect();
        kinds.sort_by_key(|(kind, count)| (std::cmp::Reverse(**count), *kind));
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let Counts {
            sends,
            resends,
            acked,
            unknown,
            out_of_order,
            fetches,
            rows,
            boots,
            checks,
            lookups,
            lookups_failed,
            scans,
            tables,
            ..
        } = &self.counts;
        let cpu = self.cpu_ms as f64 / 1000.0;
        vec![
            format!(
                "seeds {seeds}: green {}, red {}, unknown {}{}",
                self.green,
                self.red,
                self.unknown,
                if twice { ", each run twice" } else { "" }
            ),
            format!(
                "virtual {:.0} s in {cpu:.0} CPU s (first runs), {median} virtual s per CPU s in the median, wall {:.0} s",
                self.virtual_ms as f64 / 1000.0,
                started.elapsed().as_secs_f64()
            ),
            format!("faults {effective} effective, {} per run ({})", effective / (seeds as u64).max(1), kinds.join(", ")),
            format!("reached {} marks: {}", self.marks.len(), self.marks.keys().cloned().collect::<Vec<_>>().join(" ")),
            format!(
                "appends {sends} (+{resends} retries): acked {acked}, unknown {unknown}, out of order {out_of_order}; fetches {fetches}, rows {rows}; lookups {lookups} (+{lookups_failed} without an answer), scans {scans}; tables made, dropped, looked at {tables}; starts {boots}; checks {checks}"
            ),
        ]
    }
}
