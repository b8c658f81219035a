//! Failures that users of Apache Fluss reported, as plans: what happened to them happens here, and an oracle watches.
//!
//! Each names planted bugs that make Floss fail as Fluss did; `floss sim scenarios --prove` runs it with them and demands red. Numbers are
//! issues of apache/fluss.

use crate::disk::Latency;
use crate::plan::{Action, Environment, Fault, KeyedTable, KeyedWriter, Looker, Merge, Plan, Reader, Target, Workload, Writer};

/// One story.
pub struct Scenario {
    pub name: &'static str,
    pub issues: &'static str,
    /// What went wrong there, and what is demanded here.
    pub story: &'static str,
    pub faults: fn() -> Vec<Action>,
    /// With a primary-key table instead of a log table.
    pub keyed: bool,
    /// Planted bugs that turn it red; empty: no planted bug is like it, the oracles are those of any run.
    pub proofs: &'static [&'static str],
}

const LEADER: Target = Target::LeaderOf(0);
const FOLLOWER: Target = Target::FollowerOf(0);
const OTHER: Target = Target::LastFollowerOf(0);

fn at(at_ms: u64, lasts_ms: u64, fault: Fault) -> Action {
    Action { at_ms, lasts_ms, fault }
}

/// The same story several times, `every_ms` apart.
fn again(times: u64, every_ms: u64, story: &[Action]) -> Vec<Action> {
    let moved = |turn: u64| story.iter().map(move |action| at(action.at_ms + turn * every_ms, action.lasts_ms, action.fault));
    (0..times).flat_map(moved).collect()
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tail-of-a-dead-leader",
        issues: "#673, #674",
        story: "a leader dies with entries that nobody has, others write over them, it comes back: it must drop its own tail by term, not by watermark",
        faults: || again(4, 5_000, &[at(1_000, 900, Fault::Mute(LEADER)), at(1_600, 1_500, Fault::Crash(LEADER))]),
        keyed: false,
        proofs: &["R05"],
    },
    Scenario {
        name: "clean-moves",
        issues: "#4269",
        story: "leaders move by graceful stops, one after the other, under load: every replica must hold the same bytes afterwards",
        faults: || again(6, 2_500, &[at(700, 900, Fault::Stop(LEADER))]),
        keyed: false,
        proofs: &["L04"],
    },
    Scenario {
        name: "page-cache-then-handover",
        issues: "#662",
        story: "one replica loses power, then the others are stopped in turn: it must not lead with less than what was acknowledged",
        faults: || {
            let slow = at(800, 1_500, Fault::SlowDisk { target: Target::All, ms: 60 });
            again(5, 4_000, &[slow, at(1_800, 700, Fault::PowerLoss(Target::All)), at(3_200, 500, Fault::Stop(LEADER))])
        },
        keyed: false,
        proofs: &["R01"],
    },
    Scenario {
        name: "one-dies-nothing-is-truncated",
        issues: "#596",
        story: "one server fails and returns while idempotent writers run: the log still begins where it began, and has every acknowledged row",
        faults: || again(5, 3_000, &[at(800, 1_500, Fault::Crash(FOLLOWER)), at(1_500, 400, Fault::Crash(LEADER))]),
        keyed: false,
        proofs: &["L11"],
    },
    Scenario {
        name: "whole-cluster-restarts",
        issues: "#644",
        story: "all nodes restart at once, again and again, on slow disks: never two leaders of one term",
        faults: || {
            let slow = at(700, 900, Fault::SlowDisk { target: Target::All, ms: 500 });
            let votes = [slow, at(800, 900, Fault::Crash(LEADER)), at(1_600, 2_500, Fault::Isolate(LEADER))];
            let restarts = [at(1_600, 100, Fault::PowerLoss(FOLLOWER)), at(4_300, 200, Fault::PowerLoss(Target::All))];
            again(
                6,
                5_500,
                &[votes, [restarts[0].clone(), restarts[1].clone(), at(4_900, 100, Fault::Crash(Target::All))]].concat(),
            )
        },
        keyed: false,
        proofs: &["R03"],
    },
    Scenario {
        name: "last-replica-stops",
        issues: "#2162, #3927",
        story: "replicas stop one after the other until none is left, and come back in another order: the bucket is led again without help",
        faults: || {
            let story = [at(500, 4_000, Fault::Stop(Target::Node(1))), at(1_200, 2_000, Fault::Stop(Target::Node(2)))];
            again(3, 6_000, &[story[0].clone(), story[1].clone(), at(1_900, 2_000, Fault::Stop(Target::Node(3)))])
        },
        keyed: false,
        proofs: &["M09"],
    },
    Scenario {
        name: "torn-last-batch",
        issues: "#2941",
        story: "power is lost in the middle of writes: a torn last batch is normal, the node starts and lacks nothing acknowledged",
        faults: || {
            again(
                8,
                2_200,
                &[at(600, 1_000, Fault::SlowDisk { target: Target::All, ms: 30 }), at(1_200, 150, Fault::PowerLoss(Target::All))],
            )
        },
        keyed: false,
        proofs: &["R01"],
    },
    Scenario {
        name: "torn-new-file",
        issues: "#3009",
        story: "power is lost while files are begun: a header that is not whole, or a file that has no name yet, stops nobody",
        faults: || again(12, 1_500, &[at(700, 150, Fault::PowerLoss(Target::All))]),
        keyed: false,
        proofs: &["R02"],
    },
    Scenario {
        name: "killed-while-it-recovers",
        issues: "#2028",
        story: "nodes are killed again before they have recovered: each try starts from the same place, and the cluster serves in the end",
        faults: || (0..12).map(|turn| at(800 + turn * 700, 120, Fault::Crash(Target::All))).collect(),
        keyed: false,
        proofs: &["L11"],
    },
    Scenario {
        name: "left-behind-by-a-snapshot",
        issues: "#4012, #4013",
        story: "a replica misses so much that it gets a snapshot, and dies while and after it is installed: nothing of its old log is in the way",
        faults: || {
            let story = [at(500, 3_500, Fault::Isolate(FOLLOWER)), at(4_150, 100, Fault::Crash(FOLLOWER))];
            again(4, 5_500, &[story[0].clone(), story[1].clone(), at(4_500, 200, Fault::PowerLoss(FOLLOWER))])
        },
        keyed: false,
        proofs: &[],
    },
    Scenario {
        name: "writers-known-to-all",
        issues: "#1624, #1383",
        story: "what is known of a writer travels with snapshots: after a failover to a replica that was away, its retry is still a duplicate",
        faults: || {
            // What is taken without an answer reaches the follower in a snapshot, and is sent again to whoever leads next.
            let story = [at(500, 3_900, Fault::Isolate(FOLLOWER)), at(4_000, 1_100, Fault::LoseAnswers(LEADER))];
            again(4, 7_500, &[story[0].clone(), story[1].clone(), at(5_000, 1_500, Fault::Crash(LEADER))])
        },
        keyed: false,
        proofs: &["W03"],
    },
    Scenario {
        name: "answers-get-lost",
        issues: "#2826, #4125",
        story: "answers get lost after the batch was taken: the retry gets the first offset, and the writer goes on",
        faults: || again(6, 2_000, &[at(500, 400, Fault::LoseAnswers(LEADER)), at(1_300, 0, Fault::ResetClients)]),
        keyed: false,
        proofs: &["W06"],
    },
    Scenario {
        name: "cut-off-leader",
        issues: "#2708",
        story: "a leader that is cut off acknowledges nothing by itself, and a majority elects another one",
        faults: || again(4, 4_000, &[at(700, 2_000, Fault::Isolate(LEADER))]),
        keyed: false,
        proofs: &["M08"],
    },
    Scenario {
        name: "disk-full",
        issues: "#3224",
        story: "disks fill up, nodes die of it, space comes back: everybody recovers",
        faults: || again(4, 4_000, &[at(600, 1_500, Fault::FullDisk(LEADER)), at(1_400, 300, Fault::PowerLoss(LEADER))]),
        keyed: false,
        proofs: &[],
    },
    Scenario {
        name: "offline-for-ever",
        issues: "#3011, #3012",
        story: "a replica fails by its disk and then the leader dies: who failed once can lead again after its restart",
        faults: || {
            again(
                4,
                4_500,
                &[
                    at(500, 300, Fault::FailSync(FOLLOWER)),
                    at(1_400, 1_500, Fault::Crash(LEADER)),
                    at(2_000, 300, Fault::FailSync(OTHER)),
                ],
            )
        },
        keyed: false,
        proofs: &["R14"],
    },
    Scenario {
        name: "coordinator-comes-and-goes",
        issues: "#4362, #4382",
        story: "the coordinator is cut off, paused, and loses power: another one takes over each time, and buckets are led all the while",
        faults: || {
            let story =
                [at(500, 1_500, Fault::Isolate(Target::Coordinator)), at(2_500, 1_500, Fault::Pause(Target::Coordinator))];
            again(3, 6_000, &[story[0].clone(), story[1].clone(), at(4_500, 800, Fault::PowerLoss(Target::Coordinator))])
        },
        keyed: false,
        proofs: &["M09"],
    },
    Scenario {
        name: "rows-after-failover",
        issues: "#1478, #3977",
        story: "the leader of a primary-key bucket dies again and again: the next one has the rows already, and they are the fold of the changelog",
        faults: || again(5, 3_000, &[at(800, 1_200, Fault::Crash(LEADER))]),
        keyed: true,
        proofs: &["K09", "K05"],
    },
    Scenario {
        name: "stale-lookups",
        issues: "found in its code",
        story: "a leader that is cut off or paused and does not know of its successor answers no lookup",
        faults: || again(4, 8_500, &[at(500, 1_800, Fault::Isolate(LEADER)), at(2_600, 5_000, Fault::Pause(LEADER))]),
        keyed: true,
        proofs: &["R18"],
    },
];

impl Scenario {
    /// Quick disks and links; whatever happens, happens because the story says so.
    pub fn plan(&self, seed: u64) -> Plan {
        let actions = (self.faults)();
        let end = actions.iter().map(|action| action.at_ms + action.lasts_ms).max().unwrap_or(0);
        Plan {
            seed,
            nodes: 3,
            spares: 0,
            heal_at_ms: end + 500,
            rests_ms: Vec::new(),
            calm_ms: 3_000,
            environment: plain_environment(),
            workload: if self.keyed { keyed_workload() } else { log_workload() },
            actions,
        }
    }
}

fn plain_environment() -> Environment {
    Environment {
        disk: Latency { sync_ms_min: 0, sync_ms_max: 2, read_miss_per_mille: 10 },
        link_us_min: 200,
        link_us_max: 2_000,
        loss_per_mille: 0,
        clock_skew_ms: vec![0; 3],
        clock_drift_ppm: Vec::new(),
        journal_file_bytes: 64 << 10,
        journal_cache_bytes: 16 << 10,
        sleep_after_ms: 1_000,
        tail_entries: 2,
        compact_entries: 10,
        upkeep_ms: 300,
        rows_lost_per_mille: 0,
        journal_read_bytes: 4 << 20,
        unrecoverable: false,
    }
}

fn log_workload() -> Workload {
    let always =
        Writer { table: 0, pause_ms: 30, records_max: 3, payload_bytes_max: 500, busy_ms: 0, idle_ms: 0, spans_ms: Vec::new() };
    // What is known of it must last while it says nothing.
    let sometimes = Writer { busy_ms: 600, idle_ms: 3_500, ..always.clone() };
    let reader = Reader { table: 0, projection: None, max_wait_ms: 100, max_bytes: 100_000, rescan_ms: 5_000 };
    Workload { tables: vec![1], writers: vec![always, sometimes], readers: vec![reader], ..Workload::default() }
}

fn keyed_workload() -> Workload {
    let table =
        KeyedTable { buckets: 1, keys: 5, merge: Merge::Replace, wal: false, deletes: true, parts: 0, numbers_at_once: 0 };
    let writer = KeyedWriter {
        table: 0,
        pause_ms: 60,
        records_max: 3,
        open_max: 5,
        text_bytes_max: 40,
        delete_per_mille: 200,
        partial_per_mille: 200,
        spans_ms: Vec::new(),
    };
    let looker = Looker { table: 0, tasks: 3, pause_ms: 50, keys_max: 2, stray_ms: 500, range_ms: 0, scan_ms: 0 };
    let reader = Reader { table: 0, projection: None, max_wait_ms: 100, max_bytes: 100_000, rescan_ms: 5_000 };
    Workload {
        keyed: vec![table],
        keyed_writers: vec![writer.clone(), writer],
        lookers: vec![looker],
        makers: Vec::new(),
        readers: vec![reader],
        ..Workload::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::MUTANTS;

    #[test]
    fn stories_have_names_of_their_own_and_proofs_that_exist() {
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            assert!(SCENARIOS[..at].iter().all(|other| other.name != scenario.name), "{}", scenario.name);
            for proof in scenario.proofs {
                assert!(MUTANTS.iter().any(|mutant| mutant.id == *proof), "{}: {proof}", scenario.name);
            }
            let plan = scenario.plan(1);
            assert!(plan.actions.iter().all(|action| action.at_ms < plan.heal_at_ms), "{}", scenario.name);
        }
        assert!(SCENARIOS.len() >= 15);
    }
}
