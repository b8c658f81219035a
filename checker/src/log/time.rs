//! What real time allows: who was answered before another was asked stands before it.

use super::witness::Logs;
use crate::anomaly::Found;
use crate::facts::{Content, Facts, seconds};
use crate::history::{Bucket, Value};
use std::collections::BTreeMap;

/// A batch whose place is known.
struct Placed {
    invoked: u64,
    acked: Option<u64>,
    /// First and last offset.
    first: i64,
    last: i64,
    name: (u64, i64),
}

pub(super) fn check(facts: &Facts<'_>, logs: &Logs<'_>, found: &mut Found) {
    let mut placed: BTreeMap<Bucket, Vec<Placed>> = BTreeMap::new();
    for ((writer, sequence), sent) in &facts.batches {
        let seen = logs.places.get(&Value { writer: *writer, sequence: *sequence, index: 0 }).copied();
        let told = match sent.content {
            Content::Rows(_) => sent.place,
            Content::Put(_) => sent.place.map(|end| end - 1),
        };
        let Some((bucket, first)) = seen.or_else(|| Some((sent.bucket?, told?))) else { continue };
        let last = match sent.content {
            Content::Rows(rows) => first + i64::from(rows) - 1,
            Content::Put(_) => told.unwrap_or(first).max(first),
        };
        let name = (*writer, *sequence);
        placed.entry(bucket).or_default().push(Placed { invoked: sent.invoked, acked: sent.acked, first, last, name });
    }
    for (bucket, batches) in &mut placed {
        batches.sort_by_key(|batch| batch.invoked);
        check_order(*bucket, batches, found);
        check_watermarks(facts, *bucket, batches, found);
    }
    for fetch in &facts.fetches {
        let whole = logs.of.get(&fetch.bucket).and_then(|log| log.whole);
        let (Some(shown), Some(whole)) = (fetch.high_watermark, whole) else { continue };
        if shown > whole.end {
            let (bucket, process, end) = (fetch.bucket, fetch.process, whole.end);
            found.add("broken watermark", || format!("p{process} was shown watermark={shown} of b{bucket}, it ends at {end}"));
        }
    }
}

/// The highest value of `step.1` among the steps before `at`, with its owner. Steps are sorted by time and their values only grow.
fn before<T: Copy>(steps: &[(u64, i64, T)], at: u64) -> Option<(i64, T)> {
    let count = steps.partition_point(|(time, ..)| *time < at);
    steps[..count].last().map(|(_, value, owner)| (*value, *owner))
}

/// Sorts by time and keeps those that are higher than all before.
fn rising<T: Copy>(mut steps: Vec<(u64, i64, T)>) -> Vec<(u64, i64, T)> {
    steps.sort_by_key(|(at, value, _)| (*at, *value));
    let mut highest = i64::MIN;
    steps.retain(|(_, value, _)| {
        let is_higher = *value > highest;
        highest = highest.max(*value);
        is_higher
    });
    steps
}

fn check_order(bucket: Bucket, batches: &[Placed], found: &mut Found) {
    let acks = batches.iter().filter_map(|batch| Some((batch.acked?, batch.last, batch.name)));
    let acks = rising(acks.collect());
    for batch in batches {
        let Some((last, (writer, sequence))) = before(&acks, batch.invoked) else { continue };
        if batch.first <= last && batch.name != (writer, sequence) {
            let (Placed { first, name: (late, of), .. }, at) = (batch, seconds(batch.invoked));
            found.add("append order", || {
                format!("w{late} #{of}, sent at {at}, is at {first} of b{bucket}; w{writer} #{sequence} was acknowledged before, up to {last}")
            });
        }
    }
}

fn check_watermarks(facts: &Facts<'_>, bucket: Bucket, batches: &[Placed], found: &mut Found) {
    let acks = batches.iter().filter_map(|batch| Some((batch.acked?, batch.last, batch.name)));
    let acks = rising(acks.collect());
    let of_bucket = || facts.fetches.iter().filter(|fetch| fetch.bucket == bucket);
    for fetch in of_bucket().filter(|fetch| fetch.fresh) {
        let Some((shown, (last, (writer, sequence)))) = fetch.high_watermark.zip(before(&acks, fetch.asked)) else { continue };
        if shown <= last {
            let (process, at) = (fetch.process, seconds(fetch.asked));
            found.add("stale watermark", || {
                format!("p{process} asked at {at} for b{bucket} and was shown watermark={shown}; w{writer} #{sequence} was acknowledged before, up to {last}")
            });
        }
    }
    let shown = rising(of_bucket().filter_map(|fetch| Some((fetch.at, fetch.high_watermark?, fetch.process))).collect());
    for batch in batches {
        let Some((watermark, process)) = before(&shown, batch.invoked) else { continue };
        if batch.first < watermark {
            let (first, (writer, sequence)) = (batch.first, batch.name);
            found.add("broken watermark", || {
                format!("p{process} was shown watermark={watermark} of b{bucket}, later w{writer} #{sequence} was sent and got offset={first}")
            });
        }
    }
}
