//! The search on a sample of keys, next to the order that the changelog gives. What the order accepts, the search must.

use crate::anomaly::Found;
use crate::facts::{Content, Facts};
use crate::history::Bucket;
use crate::search::{Act, Call, Opinion, SOME_NUMBER, search_numbered};
use crate::table::{Batch, Key, Op, Row, Table, show};
use std::collections::BTreeMap;

/// Of each bucket: those that most is known of.
const KEYS_MAX: usize = 8;
/// Of each key: as many as were asked first. What is cut off later than that has no answer yet.
const CALLS_MAX: usize = 120;
const STEPS_MAX: u64 = 5_000;

/// Says how many keys were searched, and on how many it gave up. Without an acceptable changelog there is nothing to disagree with,
/// but a search that fits nowhere counts all the same.
pub(crate) fn check(facts: &Facts<'_>, bucket: Bucket, table: &Table, is_fine: bool, found: &mut Found) -> (u64, u64) {
    let mut of: Vec<(Key, Vec<Call>)> = calls(facts, bucket, table).into_iter().collect();
    let reads = |calls: &[Call]| calls.iter().filter(|call| matches!(call.act, Act::Read(_))).count();
    of.sort_by_key(|(_, calls)| std::cmp::Reverse(reads(calls)));
    let column = column_of(facts, bucket);
    let (mut searched, mut gave_up) = (0, 0);
    for (key, mut calls) in of.into_iter().take(KEYS_MAX) {
        prefix(&mut calls);
        searched += 1;
        match search_numbered(table, column, &calls, STEPS_MAX) {
            Opinion::Fits => {}
            Opinion::GaveUp => gave_up += 1,
            Opinion::DoesNot => {
                let (key, count) = (show(&key), calls.len());
                let but = if is_fine { ", although its changelog does" } else { "" };
                found.add("no order", || format!("b{bucket}: no order of puts explains the {count} calls on {key}{but}"));
            }
        }
    }
    (searched, gave_up)
}

fn column_of(facts: &Facts<'_>, bucket: Bucket) -> Option<usize> {
    facts.numbered.get(&bucket).map(|numbered| numbered.column)
}

/// By key: what clients asked and were answered. A put counts once, from its first attempt to its first ack. A number that the server
/// gave is nothing that an order could explain.
fn calls(facts: &Facts<'_>, bucket: Bucket, table: &Table) -> BTreeMap<Key, Vec<Call>> {
    let column = column_of(facts, bucket);
    let read = |asked: u64, at: u64, row: Option<&Row>| {
        let mut row = row.cloned();
        if let Some(cell) = row.as_mut().zip(column).and_then(|(row, column)| row.get_mut(column)) {
            *cell = SOME_NUMBER;
        }
        Call { asked, answered: Some(at), act: Act::Read(row) }
    };
    let mut of: BTreeMap<Key, Vec<Call>> = BTreeMap::new();
    for lookup in facts.lookups.iter().filter(|lookup| lookup.bucket == bucket) {
        for (key, row) in lookup.keys.iter().zip(lookup.rows) {
            of.entry(key.clone()).or_default().push(read(lookup.asked, lookup.at, row.as_ref()));
        }
    }
    for scan in facts.scans.iter().filter(|scan| scan.bucket == bucket) {
        for row in scan.rows {
            of.entry(table.key(row)).or_default().push(read(scan.asked, scan.at, Some(row)));
        }
    }
    for sent in facts.batches.values().filter(|sent| sent.bucket == Some(bucket) && !sent.is_aborted()) {
        let Content::Put(batch) = sent.content else { continue };
        let mut parts: BTreeMap<Key, Vec<Op>> = BTreeMap::new();
        for op in &batch.ops {
            let key = match op {
                Op::Upsert(row) => table.key(row),
                Op::Delete(key) => key.clone(),
            };
            parts.entry(key).or_default().push(op.clone());
        }
        for (key, ops) in parts {
            // Keys that nobody looked up fit any order.
            let Some(calls) = of.get_mut(&key) else { continue };
            let act = Act::Write(Batch { ops, columns: batch.columns.clone() });
            calls.push(Call { asked: sent.invoked, answered: sent.acked, act });
        }
    }
    of.values_mut().for_each(|calls| calls.sort_by_key(|call| call.asked));
    of
}

/// The beginning of a history: whatever was answered later than that has no answer in it.
fn prefix(calls: &mut Vec<Call>) {
    let Some(end) = calls.get(CALLS_MAX).map(|call| call.asked) else { return };
    calls.retain(|call| call.asked < end);
    for call in calls.iter_mut() {
        call.answered = call.answered.filter(|answered| *answered < end);
    }
}
