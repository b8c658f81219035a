//! Small red plans, and stories.

use super::{VIOLATED, lock, plan_file};
use clap::Args;
use floss_sim::minimise;
use floss_sim::parent::{self, Job, Judged, Task};
use floss_sim::plan::{Plan, generate};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What is run.
#[derive(Args)]
struct Which {
    /// plan.json, or the directory of a red run.
    plan: Option<PathBuf>,
    /// Instead of a plan.
    #[arg(long, conflicts_with = "plan", required_unless_present = "plan")]
    seed: Option<u64>,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// With this planted bug.
    #[arg(long)]
    mutant: Option<String>,
}

#[derive(Args)]
pub struct Minimise {
    #[command(flatten)]
    which: Which,
    /// Stops with the best so far after so many seconds.
    #[arg(long, default_value_t = 300)]
    budget: u64,
    #[arg(short, long, default_value_t = 2)]
    jobs: usize,
    #[arg(long, default_value = "target/sim/minimised")]
    out: PathBuf,
}

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    which: Which,
    #[arg(long, default_value = "target/sim/explained")]
    out: PathBuf,
}

/// When to stop, however much smaller it could get.
#[derive(Clone, Copy)]
pub struct Enough {
    pub time: Duration,
    /// Faults and batches that a person can read.
    pub size: Option<(usize, u64)>,
}

/// A small plan that is still red, and what it took.
pub struct Shrunk {
    pub plan: Plan,
    /// Batches that its writers send.
    pub sends: u64,
    pub runs: usize,
}

pub fn minimise(arguments: &Minimise) -> anyhow::Result<ExitCode> {
    let _lock = lock(&arguments.out)?;
    let started = Instant::now();
    let plan = arguments.which.plan()?;
    let (faults, enough) = (plan.actions.len(), Enough { time: Duration::from_secs(arguments.budget), size: None });
    let shrunk = shrink(&plan, arguments.which.mutant.as_deref(), enough, arguments.jobs, &arguments.out)?;
    let path = arguments.out.join("minimised.json");
    fs::write(&path, serde_json::to_string_pretty(&shrunk.plan)?)?;
    let one = run_once(&path, arguments.which.mutant.as_deref(), &arguments.out.join("run"), true);
    println!(
        "{faults} faults -> {}, {} batches, {} nodes, {} runs in {:.0} s",
        shrunk.plan.actions.len(),
        shrunk.sends,
        shrunk.plan.nodes,
        shrunk.runs,
        started.elapsed().as_secs_f64()
    );
    if let Some(red) = &one.red {
        println!("RED after {:.3} s  {}\n    {}", red.at_ns as f64 / 1e9, red.oracle, red.what);
    }
    println!("    plan    {}\n    again   {}", path.display(), one.task.again(arguments.which.mutant.as_deref()));
    println!("    look    {}/{{{},{}}}", one.dir.display(), parent::STORY, parent::PAGE);
    Ok(ExitCode::from(VIOLATED))
}

pub fn explain(arguments: &Explain) -> anyhow::Result<ExitCode> {
    let _lock = lock(&arguments.out)?;
    let plan = arguments.which.plan()?;
    fs::create_dir_all(&arguments.out)?;
    let path = arguments.out.join(parent::PLAN);
    fs::write(&path, serde_json::to_string_pretty(&plan)?)?;
    let one = run_once(&path, arguments.which.mutant.as_deref(), &arguments.out.join("run"), true);
    match fs::read_to_string(one.dir.join(parent::STORY)) {
        Ok(story) => print!("{story}"),
        Err(_) => println!("the run left no story: {:?}", one.red),
    }
    println!("look at {}", one.dir.join(parent::PAGE).display());
    Ok(ExitCode::from(if one.red.is_some() { VIOLATED } else { 0 }))
}

impl Which {
    fn plan(&self) -> anyhow::Result<Plan> {
        let Some(path) = self.plan.as_deref().map(plan_file) else {
            return Ok(generate(self.seed.expect("clap demands a seed where there is no plan"), self.seconds));
        };
        Plan::read(&path).map_err(anyhow::Error::msg)
    }
}

/// Error if the plan is not red to begin with.
pub fn shrink(plan: &Plan, mutant: Option<&str>, enough: Enough, jobs: usize, out: &Path) -> anyhow::Result<Shrunk> {
    let deadline = Instant::now() + enough.time;
    let mut runs = 0;
    let mut run_all = |plans: &[Plan]| -> anyhow::Result<Vec<Judged>> {
        runs += plans.len();
        run_plans(plans, mutant, jobs, out)
    };
    let first = run_all(std::slice::from_ref(plan))?.pop();
    let Some((Some(red), mut sends)) = first.map(|one| (one.red, one.result.counts.sends)) else {
        anyhow::bail!("the plan of seed {} is not red: there is nothing to minimise", plan.seed);
    };
    let is_enough =
        |plan: &Plan, sends: u64| enough.size.is_some_and(|(faults, most)| plan.actions.len() <= faults && sends <= most);
    let (mut failed, mut done) = (None, is_enough(plan, sends));
    let plan = minimise::minimise(plan.clone(), &mut |candidates: &[Plan]| {
        for (start, some) in candidates.chunks(jobs.max(1)).enumerate().map(|(at, some)| (at * jobs.max(1), some)) {
            if done || Instant::now() >= deadline {
                return None;
            }
            let judged = match run_all(some) {
                Ok(judged) => judged,
                Err(error) => {
                    failed = Some(error);
                    return None;
                }
            };
            let is_same = |one: &Judged| one.red.as_ref().is_some_and(|other| other.oracle == red.oracle);
            if let Some(index) = judged.iter().position(is_same) {
                sends = judged[index].result.counts.sends;
                done = is_enough(&some[index], sends);
                return Some(start + index);
            }
        }
        None
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(Shrunk { plan, sends, runs }),
    }
}

/// In the order given.
fn run_plans(plans: &[Plan], mutant: Option<&str>, jobs: usize, out: &Path) -> anyhow::Result<Vec<Judged>> {
    let dir = out.join("candidates");
    fs::create_dir_all(&dir)?;
    let mut tasks = Vec::new();
    for (at, plan) in plans.iter().enumerate() {
        let path = dir.join(format!("{at:03}.json"));
        fs::write(&path, serde_json::to_string(plan)?)?;
        tasks.push(Task { seed: at as u64, seconds: 0, plan: Some(path) });
    }
    let job = Job { tasks, jobs, out: dir, mutant: mutant.map(str::to_owned), no_reports: true, ..Job::default() };
    Ok(parent::run_seeds(&job, |_| ()))
}

fn run_once(plan: &Path, mutant: Option<&str>, out: &Path, report: bool) -> Judged {
    let task = Task { seed: 0, seconds: 0, plan: Some(plan.to_owned()) };
    let mutant = mutant.map(str::to_owned);
    let job = Job { tasks: vec![task], out: out.to_owned(), mutant, report, ..Job::default() };
    parent::run_seeds(&job, |_| ()).pop().expect("one task gives one verdict")
}
