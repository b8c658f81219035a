//! `floss-jepsen`: real processes, real faults, recorded histories, checkers.
//!
//! Purpose: break a cluster of real `floss` processes under load from the official client, and prove from the recorded
//! history that nothing acknowledged was lost, doubled or reordered.
//! Must not know: anything inside a node. It runs the binary, links the protocol and the official client only.
//! Reading order: `history`, `report` (what the history is worth: `floss-checker` judges), `cluster`, `nemesis`, `workload/`, `run`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a harness at the edge: files, clocks and processes are its job

mod cluster;
mod history;
mod nemesis;
mod report;
mod run;
mod workload;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A property is violated.
const VIOLATED: u8 = 10;
/// Not enough happened to say anything.
const UNKNOWN: u8 = 11;

#[derive(Parser)]
#[command(name = "floss-jepsen", version, about = "Breaks real Floss processes under load and checks what clients saw")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a cluster, write and read while nodes are killed, check
    Run(run::Run),
    /// Check a recorded history again, also one of the simulator
    Check { history: PathBuf },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let verdict = match cli.verb {
        Verb::Run(run) => run::run(run),
        Verb::Check { history } => history::load(&history).map(|events| report::Report::of(&events)),
    };
    match verdict {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(report.exit_code(VIOLATED, UNKNOWN))
        }
        Err(error) => {
            // The harness itself failed: that is never a pass.
            eprintln!("error: {error:#}");
            ExitCode::from(UNKNOWN)
        }
    }
}
