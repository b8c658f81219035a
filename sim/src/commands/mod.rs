//! The verbs of the binary.

mod child;
mod minimise;
mod mutants;
mod run;
mod scenarios;

use clap::{Parser, Subcommand};
use floss_sim::plan::{FAULTS, generate};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};

/// A promise was broken.
const VIOLATED: u8 = 10;
/// Nothing was exercised: neither good nor bad.
const UNKNOWN: u8 = 11;

#[derive(Parser)]
#[command(name = "floss-sim", version, about = "A whole Floss cluster in one thread, from one seed")]
#[command(after_help = "Exit codes: 0 green, 2 usage, 10 a promise was broken, 11 nothing was exercised.

  floss sim run --seeds 1..8 --seconds 20     eight clusters, each twice, traces compared
  floss sim replay red/plan.json              again what was red
  floss sim minimise red/plan.json            the smallest plan that is still red
  floss sim explain --seed 7                  what happens in seed 7, told in text")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs seeds, each in two processes whose traces must be identical.
    Run(run::Run),
    /// Many seeds, and what they must have exercised: marks, kinds of faults, faults per run.
    Sweep(run::Sweep),
    /// Runs a saved plan (or the plan of a red run's directory) again, in two processes.
    Replay(run::Replay),
    /// Takes everything out of a red plan that is not needed for it to be red.
    Minimise(minimise::Minimise),
    /// Runs a plan and tells what happened: faults, starts, leaders, and the last events before the violation.
    Explain(minimise::Explain),
    /// Runs planted bugs until each is noticed.
    Mutants(mutants::Mutants),
    /// Stories of failures that users of Apache Fluss reported.
    Scenarios(scenarios::Scenarios),
    /// What can break, one line each.
    ListFaults,
    /// Prints the plan of a seed as JSON; edit it and run it with `replay`.
    Plan {
        #[arg(long)]
        seed: u64,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// One run in this process.
    #[command(hide = true)]
    Child(child::Child),
}

pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run(run) => run::run(&run),
        Verb::Sweep(sweep) => run::sweep(&sweep),
        Verb::Replay(replay) => run::replay(replay),
        Verb::Minimise(minimise) => minimise::minimise(&minimise),
        Verb::Explain(explain) => minimise::explain(&explain),
        Verb::Mutants(mutants) => mutants::run(&mutants),
        Verb::Scenarios(scenarios) => scenarios::run(&scenarios),
        Verb::ListFaults => {
            FAULTS.iter().for_each(|(kind, what)| println!("{kind:14} {what}"));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Plan { seed, seconds } => {
            let plan = serde_json::to_string_pretty(&generate(seed, seconds)).expect("plans are plain data");
            println!("{plan}");
            Ok(ExitCode::SUCCESS)
        }
        Verb::Child(child) => child::run(&child),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

/// `7`, or `1..64` with both ends.
fn seeds(text: &str) -> anyhow::Result<Vec<u64>> {
    let number = |part: &str| {
        part.parse::<u64>().map_err(|error| anyhow::anyhow!("seeds {text:?}: {part:?} is {error}, expected 7 or 1..64"))
    };
    let seeds: Vec<u64> = match text.split_once("..") {
        Some((first, last)) => (number(first)?..=number(last.trim_start_matches('='))?).collect(),
        None => vec![number(text)?],
    };
    anyhow::ensure!(!seeds.is_empty(), "seeds {text:?}: expected the first not above the last");
    Ok(seeds)
}

/// A plan's file; a directory of a red run stands for the plan in it.
fn plan_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(floss_sim::parent::PLAN) } else { path.to_owned() }
}

/// Two runs must not write to one directory: each would take away what the other compares. Held until it is dropped.
fn lock(out: &Path) -> anyhow::Result<fs::File> {
    fs::create_dir_all(out)?;
    let file = fs::File::create(out.join(".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(error) => anyhow::bail!("{} is in use by another run ({error}); choose another with --out", out.display()),
    }
}

fn build() -> String {
    let describe = Process::new("git").args(["describe", "--always", "--dirty"]).output();
    let text = describe
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned())
}
