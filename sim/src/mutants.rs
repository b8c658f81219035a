//! The catalogue of planted bugs that the code holds, and the campaign that shows which of them the simulator notices.

use crate::parent::{Options, run};
use std::path::PathBuf;

/// One planted bug: its id in code, what it does, who is expected to notice.
pub struct Mutant {
    pub id: &'static str,
    pub what: &'static str,
    pub expected: &'static str,
}

const fn mutant(id: &'static str, what: &'static str, expected: &'static str) -> Mutant {
    Mutant { id, what, expected }
}

/// All of them, by id.
pub const MUTANTS: &[Mutant] = &[
    mutant("R01", "an append is told durable before the sync", "oracle-1"),
    mutant("R02", "the directory entry of a new file is not synced", "oracle-1"),
    mutant("R03", "a vote is written, not synced", "oracle-10"),
    mutant("R05", "truncation leaves one entry too many", "oracle-2"),
    mutant("R07", "truncation is forgotten at a restart", "oracle-2"),
    mutant("R09", "recovery does not compare checksums", "oracle-2"),
    mutant("R10", "damage in the middle is taken for a torn tail", "oracle-1"),
    mutant("R11", "a read range includes its end", "oracle-2"),
    mutant("R12", "the last position after a restart ignores the purge point", "liveness"),
    mutant("R14", "a failed sync is swallowed", "oracle-1"),
    mutant("R18", "a read barrier asks only whether this node leads", "oracle-6"),
    mutant("L01", "the watermark is one too high", "oracle-6"),
    mutant("L03", "a fetch is not capped at the watermark", "oracle-6"),
    mutant("L04", "the base offset is taken from the applied end, not from the pending tail", "oracle-7"),
    mutant("L05", "an ack carries the last offset, not the first", "oracle-1"),
    mutant("L06", "the offset index takes the next entry, not the one that holds the offset", "oracle-3"),
    mutant("L07", "the time index uses the first timestamp, not the largest", "-"),
    mutant("L10", "the log start is not in the snapshot", "oracle-13"),
    mutant("L11", "entries of Raft's own use offsets", "oracle-3"),
    mutant("M08", "a write is acknowledged before a majority has it", "oracle-1"),
    mutant("M09", "metadata is never refreshed", "liveness"),
    mutant("W01", "writer state is missing in the snapshot", "oracle-7"),
    mutant("W03", "only the last sequence is remembered", "oracle-7"),
    mutant("W05", "the sequence does not wrap", "-"),
    mutant("W06", "a duplicate is answered with the end offset", "oracle-7"),
];

/// Runs each until it is noticed. True if all were.
pub fn campaign(ids: &[String], seeds: u64, seconds: u64, jobs: usize, out: PathBuf) -> bool {
    println!("{:<5} {:<6} {:<9} {:<9} what was said", "id", "seeds", "expected", "found by");
    let mut all = true;
    for mutant in MUTANTS.iter().filter(|mutant| ids.is_empty() || ids.iter().any(|id| id == mutant.id)) {
        let options = Options {
            seeds: (1..=seeds).collect(),
            seconds,
            jobs,
            once: true,
            out: out.join(mutant.id),
            mutant: Some(mutant.id.to_owned()),
            stop_at_red: true,
            quiet: true,
            plan: None,
        };
        let summary = run(&options);
        let tried = summary.green + summary.red.len() as u64;
        match summary.red.first() {
            Some((_, what)) => {
                let by = what.split_whitespace().next().unwrap_or("?");
                println!("{:<5} {tried:<6} {:<9} {by:<9} {what:.110}", mutant.id, mutant.expected);
            }
            None => {
                all = false;
                println!("{:<5} {tried:<6} {:<9} {:<9} SURVIVED: {}", mutant.id, mutant.expected, "-", mutant.what);
            }
        }
    }
    all
}
