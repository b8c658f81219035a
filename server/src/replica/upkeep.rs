//! Now and then, for all replicas of the node: retention, writer expiry, snapshots. One timer, whatever the number of buckets.

use super::mailbox::Mail;
use super::replica::Replica;
use super::set::Replicas;
use crate::config::Tuning;
use floss_raft::env::runtime::time;
use floss_raft::types::GroupId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Runs until it is dropped.
pub(crate) async fn run(replicas: Arc<Replicas>, tuning: Tuning) {
    let mut compacted: BTreeMap<GroupId, u64> = BTreeMap::new();
    let every = Duration::from_millis(tuning.upkeep_ms);
    loop {
        time::sleep(every).await;
        let all = replicas.all();
        compacted.retain(|group, _| all.binary_search_by_key(group, |replica| replica.group_id).is_ok());
        for replica in &all {
            let leads = replica.leading_core().is_ok();
            if leads {
                // A full mailbox is busy enough; the next round comes.
                drop(replica.post(Mail::Upkeep));
            }
            compact(replica, tuning.compact_entries, &mut compacted).await;
        }
    }
}

/// Takes a snapshot when readers need less than at the last one, or when a restart would replay too much.
async fn compact(replica: &Replica, entries_max: u64, compacted: &mut BTreeMap<GroupId, u64>) {
    let Ok(group) = replica.group() else { return };
    let retained_from = match replica.core() {
        Ok(core) => core.tablet.retained_from(),
        Err(_) => return,
    };
    let pointers = group.pointers();
    let many = pointers.applied.saturating_sub(pointers.snapshot) >= entries_max;
    let before = compacted.get(&replica.group_id).copied();
    // An empty log retains nothing (u64::MAX): worth a snapshot only if there are entries to forget.
    let floor = retained_from.min(pointers.applied);
    let moved = before.is_some_and(|before| floor > before) && retained_from > pointers.purged + 1;
    if before.is_none() {
        compacted.insert(replica.group_id, floor);
    }
    if !many && !moved {
        return;
    }
    match group.compact().await {
        Ok(()) => drop(compacted.insert(replica.group_id, floor)),
        Err(error) => tracing::info!(bucket = %replica.bucket, %error, "no snapshot this time"),
    }
}
