//! Planted bugs, hunted seed by seed: the score of the harness.

use super::minimise::{Enough, shrink};
use super::{VIOLATED, lock};
use clap::Args;
use floss_sim::mutants::{MUTANTS, Mutant, NOT_PLANTED, RARE};
use floss_sim::parent::{self, Job, Red, Task};
use floss_sim::plan::generate;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Faults and batches of a plan that a person can read: not made smaller still.
const SMALL: (usize, u64) = (10, 30);

#[derive(Args)]
pub struct Mutants {
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
    /// Shrinks the first red plan of each, for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    minimise: Option<u64>,
    /// Writes the score as a Markdown table.
    #[arg(long)]
    table: Option<PathBuf>,
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
}

/// How one was caught.
struct Caught {
    seed: u64,
    red: Red,
    /// Faults and batches of the smallest plan that is still red.
    small: Option<(usize, u64)>,
}

pub fn run(arguments: &Mutants) -> anyhow::Result<ExitCode> {
    let chosen: Vec<&Mutant> = match &arguments.ids[..] {
        [] => MUTANTS.iter().filter(|mutant| !mutant.expected.is_empty()).collect(),
        ids => ids
            .iter()
            .map(|id| MUTANTS.iter().find(|mutant| mutant.id == id).ok_or_else(|| anyhow::anyhow!("no mutant {id}")))
            .collect::<anyhow::Result<_>>()?,
    };
    let _lock = lock(&arguments.out)?;
    println!("id    seeds  caught by  expected           after    small   what was said");
    let mut score = Vec::new();
    for mutant in chosen {
        let caught = hunt(mutant, arguments)?;
        print(mutant, caught.as_ref(), arguments.seeds);
        score.push((mutant, caught));
    }
    let survivors = score.iter().filter(|(_, caught)| caught.is_none()).count();
    summary(&score, arguments).lines().for_each(|line| println!("{line}"));
    if let Some(path) = &arguments.table {
        fs::write(path, table(&score, arguments))?;
    }
    Ok(ExitCode::from(if survivors == 0 { 0 } else { VIOLATED }))
}

/// None if no seed is red.
fn hunt(mutant: &Mutant, arguments: &Mutants) -> anyhow::Result<Option<Caught>> {
    let tasks = (1..=arguments.seeds).map(|seed| Task { seed, seconds: arguments.seconds, plan: None });
    let job = Job {
        tasks: tasks.collect(),
        jobs: arguments.jobs,
        out: arguments.out.clone(),
        mutant: Some(mutant.id.to_owned()),
        stop_at_red: true,
        ..Job::default()
    };
    let mut reds = BTreeMap::new();
    parent::run_seeds(&job, |one| {
        if let Some(red) = &one.red {
            reds.insert(one.task.seed, red.clone());
        }
    });
    let Some((seed, red)) = reds.into_iter().next() else { return Ok(None) };
    let small = match arguments.minimise {
        None => None,
        Some(seconds) => {
            let plan = generate(seed, arguments.seconds);
            let dir = arguments.out.join(format!("{}-minimise", mutant.id));
            let enough = Enough { time: Duration::from_secs(seconds), size: Some(SMALL) };
            let shrunk = shrink(&plan, Some(mutant.id), enough, arguments.jobs, &dir)?;
            fs::write(small_plan(&arguments.out, mutant), serde_json::to_string_pretty(&shrunk.plan)?)?;
            Some((shrunk.plan.actions.len(), shrunk.sends))
        }
    };
    Ok(Some(Caught { seed, red, small }))
}

fn small_plan(out: &Path, mutant: &Mutant) -> PathBuf {
    out.join(format!("{}-minimised.json", mutant.id))
}

fn is_expected(mutant: &Mutant, red: &Red) -> bool {
    mutant.expected.contains(&red.oracle.as_str())
}

fn print(mutant: &Mutant, caught: Option<&Caught>, seeds: u64) {
    let (id, expected) = (mutant.id, mutant.expected.join(" "));
    let Some(Caught { seed, red, small }) = caught else {
        println!("{id:5} {seeds:5}  nobody     {expected:18} {:8} {:7} survives: {}", "-", "-", mutant.what);
        return;
    };
    let fits = if is_expected(mutant, red) { ' ' } else { '?' };
    let after = format!("{:.1} s", red.at_ns as f64 / 1e9);
    let small = small.map_or_else(|| "-".to_owned(), |(faults, sends)| format!("{faults}f {sends}b"));
    println!("{id:5} {seed:5}  {:9}{fits} {expected:18} {after:8} {small:7} {:.90}", red.oracle, red.what.replace('\n', " "));
}

fn summary(score: &[(&Mutant, Option<Caught>)], arguments: &Mutants) -> String {
    let caught: Vec<(&Mutant, &Caught)> = score.iter().filter_map(|(mutant, caught)| Some((*mutant, caught.as_ref()?))).collect();
    let mut seeds: Vec<u64> = caught.iter().map(|(_, caught)| caught.seed).collect();
    seeds.sort_unstable();
    let median = seeds.get(seeds.len() / 2).copied().unwrap_or(0);
    let by_expected = caught.iter().filter(|(mutant, caught)| is_expected(mutant, &caught.red)).count();
    let mut text = format!(
        "{} of {} caught within {} seeds of {} virtual seconds, {by_expected} by an expected oracle, {median} seeds in the median\n",
        caught.len(),
        score.len(),
        arguments.seeds,
        arguments.seconds
    );
    let small: Vec<(usize, u64)> = caught.iter().filter_map(|(_, caught)| caught.small).collect();
    if !small.is_empty() {
        let (faults_max, sends_max) = SMALL;
        let fits = small.iter().filter(|(faults, sends)| *faults <= faults_max && *sends <= sends_max).count();
        writeln!(
            text,
            "{fits} of {} were minimised to at most {faults_max} faults and {sends_max} batches, each within {} s",
            small.len(),
            arguments.minimise.unwrap_or(0)
        )
        .expect("a string takes everything");
    }
    text
}

fn table(score: &[(&Mutant, Option<Caught>)], arguments: &Mutants) -> String {
    let mut text = String::from("# Planted bugs\n\n");
    let write = |text: &mut String, line: String| writeln!(text, "{line}").expect("a string takes everything");
    write(&mut text, "Made by `make mutants`; edit `sim/src/mutants.rs` instead. Each bug is compiled in and chosen by an environment variable; seeds 1, 2, .. run until".to_owned());
    write(&mut text, "an oracle objects. `?`: an oracle that was not expected to be the first. Small: faults and batches of the smallest plan that is still red.\n".to_owned());
    write(&mut text, summary(score, arguments));
    write(&mut text, "| id | bug | seeds | virtual time | caught by | small |\n|---|---|---|---|---|---|".to_owned());
    for (mutant, caught) in score {
        let Mutant { id, what, .. } = mutant;
        match caught {
            None => write(&mut text, format!("| {id} | {what} | survives {} | | | |", arguments.seeds)),
            Some(Caught { seed, red, small }) => {
                let fits = if is_expected(mutant, red) { "" } else { " ?" };
                let small = small.map_or_else(String::new, |(faults, sends)| format!("{faults} faults, {sends} batches"));
                let after = red.at_ns as f64 / 1e9;
                write(&mut text, format!("| {id} | {what} | {seed} | {after:.1} s | {}{fits} | {small} |", red.oracle));
            }
        }
    }
    let missed: Vec<&Mutant> = score.iter().filter(|(_, caught)| caught.is_none()).map(|(mutant, _)| *mutant).collect();
    if !missed.is_empty() {
        write(&mut text, "\n## Survivors\n".to_owned());
    }
    for Mutant { id, .. } in missed {
        let why = RARE
            .iter()
            .find(|why| why.starts_with(*id))
            .map_or_else(|| format!("{id}: nobody knows why"), |why| (*why).to_owned());
        write(&mut text, format!("- {why}"));
    }
    write(&mut text, "\n## Not for the simulator\n\nThese change nothing that a run could show, or need what no plan contains; the text says who notices.\n".to_owned());
    for Mutant { id, what, .. } in MUTANTS.iter().filter(|mutant| mutant.expected.is_empty()) {
        write(&mut text, format!("- {id}: {what}"));
    }
    write(&mut text, "\n## Not planted\n\nRows of the catalogue that this code cannot hold.\n".to_owned());
    NOT_PLANTED.iter().for_each(|row| write(&mut text, format!("- {row}")));
    text
}
