//! A whole cluster in one thread, from one seed.
//!
//! Purpose: run the shipped server under faults that are data, judge what clients and replicas saw, and say the seed that shows a
//! bug. Only with `--cfg madsim` does it run clusters; the judging parts compile everywhere.
//! Must not know: how the server works inside, beyond what `server::node` shows.
//! Reading order: `draw`, `plan`, `history`, `oracle`, `recovery`, `recorder`, `disk`, `network`, `cluster`, `client`, `workload`, `progress`, `nemesis`, `run`,
//! `parent`, `minimise`, `report`, `marks`, `mutants`, `regressions`, `scenarios`.
#![allow(clippy::disallowed_methods)] // the harness itself reads files, starts processes and measures time

pub mod client;
#[cfg(madsim)]
pub mod cluster;
pub mod disk;
pub mod draw;
pub mod history;
pub mod marks;
pub mod minimise;
pub mod mutants;
#[cfg(madsim)]
pub mod nemesis;
pub mod network;
pub mod oracle;
pub mod parent;
pub mod plan;
#[cfg(madsim)]
pub mod progress;
pub mod recorder;
pub mod recovery;
pub mod regressions;
pub mod report;
#[cfg(madsim)]
pub mod run;
pub mod scenarios;
pub mod workload;
