//! `floss dev`: a cluster of real processes on loopback, for a first look, for tests, for breaking things.

pub mod process;
pub mod state;
pub mod up;

use crate::exit::Failure;
use crate::output::{Listing, Output};
use clap::{Args, Subcommand};
use serde_json::json;
use state::ClusterState;
use std::path::PathBuf;

#[derive(Args, Clone)]
pub struct Dir {
    /// Where the cluster lives
    #[arg(long, value_name = "DIR", default_value_os_t = default_dir())]
    pub dir: PathBuf,
}

/// `floss/dev` in the user's data folder.
pub fn default_dir() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".local/share");
    std::env::var_os("XDG_DATA_HOME").map_or_else(home, PathBuf::from).join("floss/dev")
}

#[derive(Subcommand)]
pub enum DevVerb {
    /// Start nodes (again), and wait until they serve
    #[command(after_help = "Examples:\n  floss dev up\n  floss dev up --nodes 3 --dir /tmp/floss --detach")]
    Up(up::Up),
    /// Stop all nodes gracefully
    #[command(after_help = "Examples:\n  floss dev down\n  floss dev down --wipe")]
    Down {
        #[command(flatten)]
        dir: Dir,
        /// Remove the data as well
        #[arg(long)]
        wipe: bool,
    },
    /// Which nodes run
    #[command(after_help = "Examples:\n  floss dev status\n  floss dev status -o json")]
    Status(Dir),
    /// SIGKILL a node
    #[command(after_help = "Examples:\n  floss dev kill 2\n  floss dev kill all")]
    Kill(Target),
    /// Start a node that does not run, on the data it has
    #[command(after_help = "Examples:\n  floss dev restart 2\n  floss dev restart all")]
    Restart(Target),
    /// SIGSTOP a node
    #[command(after_help = "Examples:\n  floss dev pause 1\n  floss dev resume 1")]
    Pause(Target),
    /// SIGCONT a node
    #[command(after_help = "Examples:\n  floss dev resume 1\n  floss dev resume all")]
    Resume(Target),
    /// For scripts
    #[command(subcommand)]
    Print(Print),
}

#[derive(Args)]
pub struct Target {
    /// Node id, or `all`
    node: String,
    #[command(flatten)]
    dir: Dir,
}

#[derive(Subcommand)]
pub enum Print {
    /// What test suites need to find the cluster
    #[command(after_help = "Examples:\n  floss dev print cluster-json\n  floss dev print cluster-json --dir /tmp/floss")]
    ClusterJson(Dir),
}

pub async fn run(verb: DevVerb, output: &Output) -> Result<(), Failure> {
    match verb {
        DevVerb::Up(up) => up::run(up, output).await,
        DevVerb::Down { dir, wipe } => down(&dir, wipe, output).await,
        DevVerb::Status(dir) => status(&dir, output),
        DevVerb::Kill(target) => each(&target, process::kill),
        DevVerb::Pause(target) => each(&target, process::pause),
        DevVerb::Resume(target) => each(&target, process::resume),
        DevVerb::Restart(target) => restart(&target).await,
        DevVerb::Print(Print::ClusterJson(dir)) => print_json(&dir),
    }
}

async fn down(dir: &Dir, wipe: bool, output: &Output) -> Result<(), Failure> {
    let state = ClusterState::load(&dir.dir)?;
    process::stop_all(&state.nodes).await?;
    if wipe {
        state.wipe(&dir.dir)?;
    }
    output.note(format!("stopped {} nodes in {}", state.nodes.len(), dir.dir.display()));
    Ok(())
}

fn status(dir: &Dir, output: &Output) -> Result<(), Failure> {
    let state = ClusterState::load(&dir.dir)?;
    let rows = state.nodes.iter().map(|node| {
        vec![json!(node.id), json!(process::status(node)), json!(node.pid), json!(node.address), json!(node.data_dir)]
    });
    output.listing(&Listing {
        name: "dev.status",
        columns: vec!["id", "status", "pid", "address", "data_dir"],
        rows: rows.collect(),
    })
}

fn each(target: &Target, act: impl Fn(&state::NodeState) -> Result<(), Failure>) -> Result<(), Failure> {
    let state = ClusterState::load(&target.dir.dir)?;
    state.select(&target.node)?.iter().try_for_each(|index| act(&state.nodes[*index]))
}

async fn restart(target: &Target) -> Result<(), Failure> {
    let mut state = ClusterState::load(&target.dir.dir)?;
    for index in state.select(&target.node)? {
        if process::status(&state.nodes[index]) != "down" {
            process::stop_all(&state.nodes[index..=index]).await?;
        }
        state.nodes[index].pid = process::spawn(&target.dir.dir, &state.nodes[index])?;
    }
    state.save(&target.dir.dir)?;
    for index in state.select(&target.node)? {
        process::wait_port(&state.nodes[index]).await?;
    }
    Ok(())
}

fn print_json(dir: &Dir) -> Result<(), Failure> {
    let state = ClusterState::load(&dir.dir)?;
    let nodes: Vec<_> = state
        .nodes
        .iter()
        .map(|node| json!({"id": node.id, "pid": node.pid, "address": node.address, "data_dir": node.data_dir}))
        .collect();
    let value = json!({
        "bootstrap_servers": state.bootstrap_servers(),
        "sasl_bootstrap_servers": null,
        "nodes": nodes,
    });
    crate::output::print(format!("{value}\n").as_bytes())
}
