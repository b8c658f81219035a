//! What each reader is told: from where it asked on, without holes, and nothing at or above the watermark.

use crate::anomaly::Found;
use crate::facts::{Facts, Fetch};
use crate::history::Bucket;
use std::collections::BTreeMap;

pub(super) fn check(facts: &Facts<'_>, found: &mut Found) {
    let mut ends: BTreeMap<(u64, Bucket), i64> = BTreeMap::new();
    for fetch in &facts.fetches {
        let reader = (fetch.process, fetch.bucket);
        check_rows(fetch, fetch.from.or_else(|| ends.get(&reader).copied()), found);
        if let Some(last) = fetch.rows.last() {
            ends.insert(reader, last.offset + 1);
        }
    }
}

fn check_rows(fetch: &Fetch<'_>, expected: Option<i64>, found: &mut Found) {
    let (process, bucket) = (fetch.process, fetch.bucket);
    let Some(first) = fetch.rows.first().map(|row| row.offset) else { return };
    let detail = |found: i64, expected: i64| format!("p{process} got offset={found} of b{bucket}, expected {expected}");
    match expected {
        Some(expected) if first > expected => found.add("poll skip", || detail(first, expected)),
        Some(expected) if first < expected => found.add("nonmonotonic poll", || detail(first, expected)),
        _ => {}
    }
    for pair in fetch.rows.windows(2) {
        let (at, expected) = (pair[1].offset, pair[0].offset + 1);
        if at > expected {
            found.add("internal skip", || detail(at, expected));
        } else if at < expected {
            found.add("internal nonmonotonic", || detail(at, expected));
        }
    }
    if let Some(end) = fetch.high_watermark
        && let Some(row) = fetch.rows.iter().find(|row| row.offset >= end)
    {
        found.add("uncommitted read", || format!("p{process} got offset={} of b{bucket}, watermark={end}", row.offset));
    }
}
