//! What is done to primary-key tables: few keys, so that writers meet.

use super::{Reader, Workload};
use crate::draw::Source;
use serde::{Deserialize, Serialize};

/// A primary-key table of the workload. Each bucket has the keys `0..keys` of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedTable {
    pub buckets: i32,
    pub keys: u64,
    pub merge: Merge,
    /// The changelog has no before-images.
    pub wal: bool,
    /// False: deletes are ignored.
    pub deletes: bool,
    /// The key begins with one of so many parts, by which rows are looked up together; 0 = the key has one column.
    #[serde(default, skip_serializing_if = "is_none")]
    pub parts: u64,
    /// Rows have numbers given by the server, whose nodes take so many at once; 0 = they have none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub numbers_at_once: u64,
}

fn is_none(number: &u64) -> bool {
    *number == 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    Replace,
    FirstRow,
    Versioned,
    Aggregation,
}

/// Upserts, deletes and partial updates in every bucket of its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedWriter {
    /// Counted over all tables.
    pub table: usize,
    /// Mean pause between batches of one bucket.
    pub pause_ms: u64,
    pub records_max: u64,
    /// Batches that may be open at once.
    pub open_max: u64,
    pub text_bytes_max: u64,
    pub delete_per_mille: u64,
    pub partial_per_mille: u64,
    /// As of [`super::Writer`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans_ms: Vec<(u64, u64)>,
}

/// Looks keys up at the leader, and at nodes that may not lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looker {
    /// Counted over all tables.
    pub table: usize,
    /// Lookups under way at once.
    pub tasks: u64,
    pub pause_ms: u64,
    pub keys_max: u64,
    /// Mean pause between lookups at any node, which has to refuse if it does not lead; 0 = none of them.
    #[serde(default)]
    pub stray_ms: u64,
    /// Mean pause between questions about many rows (prefix lookups, limit scans, row counts); 0 = none of them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub range_ms: u64,
    /// Mean pause between the calls of a scan of all rows, one after the other; 0 = none of them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub scan_ms: u64,
}

/// Adds primary-key tables and their clients to a workload, or none.
pub(super) fn add_keyed(workload: &mut Workload, swarm: &Source) {
    if !swarm.chance(650) {
        return;
    }
    let shapes: &[i32] = swarm.pick::<&[i32]>(&[&[1], &[1], &[2], &[1, 1]]);
    for buckets in shapes {
        let table = workload.tables.len() + workload.keyed.len();
        let merge =
            *swarm.pick(&[Merge::Replace, Merge::Replace, Merge::Replace, Merge::FirstRow, Merge::Versioned, Merge::Aggregation]);
        workload.keyed.push(KeyedTable {
            buckets: *buckets,
            keys: *swarm.pick(&[2, 5, 20]),
            merge,
            wal: swarm.chance(300) && merge != Merge::Aggregation,
            deletes: merge == Merge::Replace || (swarm.chance(500) && merge == Merge::Aggregation),
            parts: 0,
            numbers_at_once: 0,
        });
        for _ in 0..swarm.between(1, 2) {
            let partial = matches!(merge, Merge::Replace | Merge::Aggregation);
            workload.keyed_writers.push(KeyedWriter {
                table,
                pause_ms: *swarm.pick(&[60, 150, 300]),
                records_max: *swarm.pick(&[1, 3, 6]),
                open_max: *swarm.pick(&[1, 5, 5]),
                text_bytes_max: *swarm.pick(&[4, 40, 400]),
                delete_per_mille: *swarm.pick(&[0, 100, 300]),
                partial_per_mille: if partial { *swarm.pick(&[0, 200, 500]) } else { 0 },
                spans_ms: Vec::new(),
            });
        }
        workload.lookers.push(Looker {
            table,
            tasks: swarm.between(1, 3),
            pause_ms: *swarm.pick(&[50, 120, 300]),
            keys_max: *swarm.pick(&[1, 3]),
            stray_ms: *swarm.pick(&[0, 100, 200]),
            range_ms: 0,
            scan_ms: 0,
        });
        workload.readers.push(Reader {
            table,
            projection: None,
            max_wait_ms: *swarm.pick(&[100, 500]),
            max_bytes: *swarm.pick(&[2_000, 1 << 20]),
            rescan_ms: *swarm.pick(&[0, 10_000]),
        });
    }
}

/// Gives some of the tables keys of two columns, or numbered rows, and their lookers more to ask.
pub(super) fn add_kinds(workload: &mut Workload, swarm: &Source) {
    for table in &mut workload.keyed {
        if swarm.chance(400) {
            table.parts = swarm.between(2, 4);
            table.keys = table.keys.div_ceil(2);
        }
        // Other engines refuse updates of some columns, which tables with numbered rows need.
        let takes_numbers = matches!(table.merge, Merge::Replace | Merge::Aggregation);
        if swarm.chance(600) && takes_numbers {
            table.numbers_at_once = *swarm.pick(&[1, 4, 20]);
        }
    }
    for looker in &mut workload.lookers {
        looker.range_ms = *swarm.pick(&[0, 150, 400]);
        looker.scan_ms = *swarm.pick(&[0, 60, 200, 800]);
    }
}
