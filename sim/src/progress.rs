//! What a cluster owes its clients as soon as nothing is broken: leaders, acks, replicas that catch up, within a bound.

use crate::cluster::Cluster;
use crate::history::{Event, Replica};
use crate::oracle::{ALL_LED, CAUGHT_UP};
use crate::plan::{Maker, Plan};
use crate::workload::Shared;
use floss_raft::env::runtime::time;
use floss_raft::env::runtime::time::Instant;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// From the end of all faults until everybody must have made progress.
const PROGRESS_WAIT: Duration = Duration::from_secs(20);
/// From the end of new appends until replicas and readers must have everything.
const CATCH_UP_WAIT: Duration = Duration::from_secs(20);
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Waits until every bucket has a leader and every writer new acks. False, and the run is red, if that takes too long.
pub async fn goes_on(cluster: &Cluster, shared: &Shared) -> bool {
    until(cluster, shared, PROGRESS_WAIT, ALL_LED, || leaderless(cluster, &shared.plan)).await
        && until(cluster, shared, PROGRESS_WAIT, "every writer goes on", || stuck_writer(shared)).await
}

/// Waits until every voter has what anybody had applied when this was called, whatever is written meanwhile.
pub async fn catches_up(cluster: &Cluster, shared: &Shared) -> bool {
    let mut goals = BTreeMap::<u64, u64>::new();
    for (_, replica) in replicas(cluster) {
        let goal = goals.entry(replica.group).or_default();
        *goal = (*goal).max(replica.pointers[2]);
    }
    until(cluster, shared, CATCH_UP_WAIT, "every voter has what was committed by then", || left_behind(cluster, &goals)).await
}

pub async fn makers_are_answered(cluster: &Cluster, shared: &Shared) -> bool {
    until(cluster, shared, PROGRESS_WAIT, "every maker of tables is answered", || unanswered_maker(shared)).await
}

/// Nothing new is written any more: waits until all have everything.
pub async fn comes_to_rest(cluster: &Cluster, shared: &Shared) -> bool {
    let open = || {
        let open = shared.open_batches.load(Ordering::SeqCst);
        (open > 0).then(|| format!("{open} batches are open"))
    };
    until(cluster, shared, CATCH_UP_WAIT, "every batch is acked", open).await
        && until(cluster, shared, CATCH_UP_WAIT, CAUGHT_UP, || lagging_replica(cluster, &shared.plan)).await
        && until(cluster, shared, CATCH_UP_WAIT, "every reader catches up", || lagging_reader(cluster, shared)).await
        && until(cluster, shared, CATCH_UP_WAIT, "tables are whole or gone", || misplaced_table(cluster, shared)).await
}

/// All that nodes hold which run, as they see it.
pub fn replicas(cluster: &Cluster) -> Vec<(u64, Replica)> {
    let of = |event| match event {
        Event::Probe { node, replicas, .. } => replicas.into_iter().map(|replica| (node, replica)).collect(),
        _ => Vec::new(),
    };
    cluster.probe().into_iter().flat_map(of).collect()
}

fn leaderless(cluster: &Cluster, plan: &Plan) -> Option<String> {
    let replicas = replicas(cluster);
    let led = |is_it: &dyn Fn(&Replica) -> bool| {
        replicas.iter().any(|(node, replica)| is_it(replica) && replica.leader == Some(*node) && replica.ready)
    };
    if !led(&|replica| replica.group == 0) {
        return Some("the catalog has no leader".to_owned());
    }
    let bucket = (0..plan.buckets()).find(|bucket| !led(&|replica| replica.bucket == Some(*bucket)))?;
    Some(format!("b{bucket} has no leader"))
}

fn stuck_writer(shared: &Shared) -> Option<String> {
    for (writer, table) in (0..).zip(shared.plan.writer_tables()) {
        if let Some(bucket) = shared.plan.buckets_of(table).find(|bucket| !shared.recorder.has_progressed(*bucket, writer)) {
            return Some(format!("w{writer} got nothing new into b{bucket}"));
        }
    }
    None
}

fn unanswered_maker(shared: &Shared) -> Option<String> {
    let makers = 0..shared.plan.workload.makers.len() as u32;
    let waiting = makers.into_iter().find(|maker| !shared.recorder.is_answered(*maker))?;
    Some(format!("m{waiting} is not"))
}

/// Of a table that was dropped nothing is left on any node; one that is there has all its replicas.
fn misplaced_table(cluster: &Cluster, shared: &Shared) -> Option<String> {
    let held = cluster.replicas_by_table();
    for (id, is_there) in shared.made() {
        let found = held.get(&id).copied().unwrap_or(0);
        let expected = |maker: &Maker| maker.buckets as usize * cluster.replication_factor();
        let fits = match is_there {
            false => found == 0,
            true => shared.plan.workload.makers.iter().any(|maker| expected(maker) == found),
        };
        if !fits {
            let state = if is_there { "is there" } else { "was dropped" };
            return Some(format!("table id {id} {state} and has {found} replicas"));
        }
    }
    None
}

fn lagging_replica(cluster: &Cluster, plan: &Plan) -> Option<String> {
    let replicas = replicas(cluster);
    for bucket in 0..plan.buckets() {
        let of: Vec<_> = replicas.iter().filter(|(_, replica)| replica.bucket == Some(bucket)).collect();
        let expected = cluster.replication_factor();
        if of.len() != expected {
            return Some(format!("b{bucket} has {} replicas, expected {expected}", of.len()));
        }
        let ends = of.iter().map(|(_, replica)| (replica.pointers[2], replica.high_watermark));
        let (low, high) = (ends.clone().min(), ends.max());
        if low != high {
            return Some(format!("b{bucket}: replicas are between {low:?} and {high:?} (applied, watermark)"));
        }
        if let Some((node, replica)) = of.iter().find(|(_, replica)| replica.pointers[2] != replica.pointers[4]) {
            return Some(format!("b{bucket} on n{node}: applied={} last={}", replica.pointers[2], replica.pointers[4]));
        }
    }
    None
}

fn lagging_reader(cluster: &Cluster, shared: &Shared) -> Option<String> {
    let replicas = replicas(cluster);
    // Nobody reads what has expired.
    let end_of = |replica: &Replica| if replica.log_start < replica.high_watermark { replica.high_watermark } else { 0 };
    for (reader, plan) in (0..).zip(&shared.plan.workload.readers) {
        for bucket in shared.plan.buckets_of(plan.table) {
            let ends = replicas.iter().filter(|(_, replica)| replica.bucket == Some(bucket)).map(|(_, replica)| end_of(replica));
            let (end, read) = (ends.max().unwrap_or(0), shared.recorder.read_end(reader, bucket));
            if read < end {
                return Some(format!("r{reader} has read b{bucket} up to offset={read}, it ends at {end}"));
            }
        }
    }
    None
}

/// A member that has not applied what its group had committed.
fn left_behind(cluster: &Cluster, goals: &BTreeMap<u64, u64>) -> Option<String> {
    let replicas = replicas(cluster);
    for (node, replica) in &replicas {
        // Only of those that still belong to it: one that was replaced gets nothing more.
        let leads =
            |(leader, other): &&(u64, Replica)| other.group == replica.group && other.leader == Some(*leader) && other.ready;
        let Some((_, leader)) = replicas.iter().find(leads) else { continue };
        let goal = goals.get(&replica.group).copied().unwrap_or(0);
        if replica.pointers[2] < goal && leader.voters.as_ref().is_some_and(|voters| voters.contains(node)) {
            return Some(format!("g{} on n{node}: applied={}, expected {goal}", replica.group, replica.pointers[2]));
        }
    }
    None
}

/// Waits until `missing` finds nothing. False, and a broken promise, if that takes longer than `patience`.
async fn until(cluster: &Cluster, shared: &Shared, patience: Duration, what: &str, missing: impl Fn() -> Option<String>) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if shared.recorder.is_red() {
            return false;
        }
        let Some(left) = missing() else {
            shared.recorder.push(Event::Progress { what: what.to_owned(), kept: true });
            return true;
        };
        if Instant::now() >= deadline {
            let seconds = patience.as_secs();
            let what = format!("{seconds} s after all faults ended: expected that {what}, but {left}");
            shared.recorder.lack_progress(&what, &cluster.without_disk(), &replicas(cluster));
            return false;
        }
        time::sleep(LOOK_EVERY).await;
    }
}
