//! Named stories, and proof that they and the known plans would notice what they are about.

use super::run::{judge, known_plans};
use super::{UNKNOWN, VIOLATED, lock};
use clap::Args;
use floss_sim::parent::{self, Job, Summary, Task};
use floss_sim::scenarios::{SCENARIOS, Scenario};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub struct Scenarios {
    /// Some of them, by name; all if none is given.
    names: Vec<String>,
    /// Runs each with the planted bugs it names, and demands that it is red. So are the known plans, if no scenario is named.
    #[arg(long)]
    prove: bool,
    /// Lists them.
    #[arg(long)]
    list: bool,
    /// Each with so many seeds; with --prove at most so many. Default: 2, 24.
    #[arg(long)]
    seeds: Option<u64>,
    #[arg(short, long, default_value_t = 2)]
    jobs: usize,
    #[arg(long, default_value = "target/sim/scenarios")]
    out: PathBuf,
}

pub fn run(arguments: &Scenarios) -> anyhow::Result<ExitCode> {
    let is_chosen = |scenario: &&Scenario| arguments.names.is_empty() || arguments.names.iter().any(|name| name == scenario.name);
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(is_chosen).collect();
    if let Some(name) = arguments.names.iter().find(|name| SCENARIOS.iter().all(|scenario| scenario.name != **name)) {
        anyhow::bail!("no scenario {name:?}; `scenarios --list` names them");
    }
    if arguments.list {
        for Scenario { name, issues, story, .. } in chosen {
            println!("{name:30} {issues:18} {story}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let _lock = lock(&arguments.out)?;
    if arguments.prove {
        return prove(&chosen, arguments);
    }
    let mut tasks = Vec::new();
    for scenario in &chosen {
        tasks.extend(plans(scenario, arguments.seeds.unwrap_or(2), &arguments.out)?);
    }
    let job = Job { tasks, jobs: arguments.jobs, twice: true, out: arguments.out.clone(), ..Job::default() };
    let summary = judge(&job, &format!("{} scenarios", chosen.len()));
    Ok(ExitCode::from(match summary {
        Summary { red: 1.., .. } => VIOLATED,
        Summary { unknown: 1.., .. } => UNKNOWN,
        _ => 0,
    }))
}

/// The plans of one scenario, written out for the children.
pub fn plans(scenario: &Scenario, seeds: u64, out: &Path) -> anyhow::Result<Vec<Task>> {
    let dir = out.join("plans");
    fs::create_dir_all(&dir)?;
    let task = |seed: u64| {
        let plan = scenario.plan(seed);
        let path = dir.join(format!("{}-{seed}.json", scenario.name));
        fs::write(&path, serde_json::to_string_pretty(&plan)?)?;
        Ok(Task::of(&plan, path))
    };
    (1..=seeds).map(task).collect()
}

fn prove(chosen: &[&Scenario], arguments: &Scenarios) -> anyhow::Result<ExitCode> {
    let mut claims = Vec::new();
    for scenario in chosen {
        for proof in scenario.proofs {
            claims.push((scenario.name, *proof, plans(scenario, arguments.seeds.unwrap_or(24), &arguments.out)?));
        }
    }
    let known = if arguments.names.is_empty() { known_plans(&arguments.out)? } else { Vec::new() };
    let known = known.into_iter().filter(|(plan, _)| !plan.proof.is_empty());
    claims.extend(known.map(|(plan, task)| (plan.name, plan.proof, vec![task])));
    let mut unproven = 0;
    for (name, proof, tasks) in claims {
        let job = Job {
            tasks,
            jobs: arguments.jobs,
            out: arguments.out.clone(),
            mutant: Some(proof.to_owned()),
            stop_at_red: true,
            ..Job::default()
        };
        let judged = parent::run_seeds(&job, |_| ());
        let red = judged.iter().find_map(|one| Some((one.task.seed, one.red.as_ref()?)));
        let (seeds, said) = match red {
            Some((seed, red)) => (seed.to_string(), format!("{}: {:.90}", red.oracle, red.what.replace('\n', " "))),
            None => ("-".to_owned(), format!("green with the bug in {} seeds", judged.len())),
        };
        unproven += usize::from(red.is_none());
        println!("{name:30} {proof:4} seed {seeds:3} {said}");
    }
    println!("{unproven} not proven");
    Ok(ExitCode::from(if unproven == 0 { 0 } else { VIOLATED }))
}
