//! Golden histories of a primary-key bucket: one that keeps every promise, and the smallest changes of it that break each.

use super::*;
use crate::history::{DumpBatch, Outcome, Row as Read, Value};
use floss_checker::{Batch, Cell, Change, Cut, Engine, Image, KeyRange, Kind, Op, Rows, Table};
use std::sync::Arc;

fn row(key: i64, value: i64) -> floss_checker::Row {
    vec![Cell::Int(key), Cell::Int(value)]
}

fn rows(pairs: &[(i64, i64)]) -> Rows {
    pairs.iter().map(|(key, value)| (vec![Cell::Int(*key)], row(*key, *value))).collect()
}

fn change(kind: Kind, key: i64, value: i64) -> Change {
    Change { kind, row: row(key, value) }
}

fn put(sequence: i32, ops: Vec<Op>) -> Event {
    Event::Put { writer: 1, bucket: 0, sequence, batch: Arc::new(Batch { ops, columns: None }) }
}

fn send(sequence: i32) -> Event {
    Event::Send { writer: 1, bucket: 0, sequence, records: 1, node: 1, first: true }
}

fn acked(sequence: i32, end_offset: i64) -> Event {
    Event::Done { writer: 1, bucket: 0, sequence, node: 1, outcome: Outcome::Put { end_offset } }
}

fn held(node: u64, log_end: i64, pairs: &[(i64, i64)]) -> Event {
    let row_count = Some(pairs.len() as u64);
    Event::Rows { node, bucket: 0, crashed: false, log_end, row_count, rows: Ok(rows(pairs)) }
}

/// Asked at event `sent`, answered where it stands.
fn lookup(sent: u64, key: i64, value: Option<i64>) -> Event {
    let found = vec![(vec![Cell::Int(key)], value.map(|value| row(key, value)))];
    Event::Lookup { looker: 0, bucket: 0, node: 1, sent_ns: sent * 1000, found }
}

/// All rows of one moment. Asked at event `sent`, its first answer came at event `at`.
fn scan(sent: u64, at: u64, place: Option<i64>, pairs: &[(i64, i64)]) -> Event {
    let found = rows(pairs).into_iter().map(|(key, row)| (key, Some(row))).collect();
    let cut = Cut { found, range: Some(KeyRange::default()), place };
    Event::Scan { looker: 0, bucket: 0, node: 1, sent_ns: sent * 1000, at_ns: at * 1000, what: "scan".into(), cut }
}

fn count(sent: u64, rows: u64) -> Event {
    Event::RowCount { looker: 0, bucket: 0, node: 1, sent_ns: sent * 1000, rows }
}

fn read(offset: i64, sequence: i32, index: i32, change: Option<Change>) -> Event {
    let rows = vec![Read { offset, value: Ok(Value { writer: 1, sequence, index }), change }];
    Event::Fetch { reader: 3, bucket: 0, node: 1, from: offset, high_watermark: 3, sent_ns: 0, rows }
}

/// A batch of the changelog; without changes it takes one offset all the same.
fn logged(base_offset: i64, sequence: i32, changes: Vec<Change>) -> DumpBatch {
    let records = changes.len().max(1) as i32;
    let rows = (0..records).map(|index| Ok(Value { writer: 1, sequence, index })).collect();
    DumpBatch { base_offset, records: i64::from(records), digest: 7 + sequence as u64, rows, changes }
}

fn log() -> Vec<DumpBatch> {
    vec![
        logged(0, 0, vec![change(Kind::Insert, 1, 10)]),
        logged(1, 1, vec![change(Kind::UpdateBefore, 1, 10), change(Kind::UpdateAfter, 1, 11)]),
        logged(3, 2, Vec::new()),
        logged(4, 3, vec![change(Kind::Delete, 1, 11)]),
    ]
}

fn dump(node: u64, batches: Vec<DumpBatch>) -> Event {
    let high_watermark = batches.iter().map(|batch| batch.records).sum();
    Event::Dump { node, bucket: 0, log_start: 0, high_watermark, batches: Ok(batches) }
}

/// Key 1 is inserted (0), updated (1), key 2 is deleted, which is not there (2), key 1 is deleted (3, whose ack comes after a timeout).
fn good() -> Vec<Event> {
    let table = Table { key_columns: vec![0], engine: Engine::Replace, image: Image::Full, deletes: true };
    vec![
        Event::Start {
            nodes: 3,
            buckets: 1,
            keyed: [(0, table)].into(),
            numbered: Default::default(),
            expiring: Default::default(),
        },
        put(0, vec![Op::Upsert(row(1, 10))]),
        send(0),
        acked(0, 1),
        lookup(4, 1, Some(10)),
        held(1, 1, &[(1, 10)]),
        put(1, vec![Op::Upsert(row(1, 11))]),
        send(1),
        acked(1, 3),
        lookup(7, 1, Some(10)),
        read(1, 1, 0, Some(change(Kind::UpdateBefore, 1, 10))),
        put(2, vec![Op::Delete(vec![Cell::Int(2)])]),
        send(2),
        acked(2, 4),
        held(2, 3, &[(1, 11)]),
        put(3, vec![Op::Delete(vec![Cell::Int(1)])]),
        send(3),
        lookup(16, 1, Some(11)),
        acked(3, 5),
        lookup(19, 1, None),
        held(1, 5, &[]),
        held(3, 4, &[(1, 11)]),
        Event::Healed,
        dump(1, log()),
        dump(2, log()),
        dump(3, log()),
    ]
}

fn judge(events: &[Event]) -> Option<(&'static str, String)> {
    let mut oracles = Oracles::default();
    let red = |violation: Violation| (violation.oracle, violation.what);
    for (at, event) in events.iter().enumerate() {
        if let Err(violation) = oracles.observe(at as u64 * 1000, event) {
            return Some(red(violation));
        }
    }
    oracles.finish(u64::MAX).err().map(red)
}

fn with(at: usize, event: Event) -> Vec<Event> {
    let mut events = good();
    events[at] = event;
    events
}

/// The same wrong log on every replica.
fn with_log(at: usize, batch: DumpBatch) -> Vec<Event> {
    let mut batches = log();
    batches[at] = batch;
    let mut events = good();
    (1..=3).for_each(|node| events[22 + node] = dump(node as u64, batches.clone()));
    events
}

#[test]
fn a_good_history_is_good() {
    assert_eq!(judge(&good()), None);
}

#[test]
fn a_lookup_beside_a_put_may_see_either_row() {
    assert_eq!(judge(&with(19, lookup(17, 1, None))), None);
    assert_eq!(judge(&with(19, lookup(17, 1, Some(11)))), None);
}

#[test]
fn a_scan_or_a_count_may_be_of_any_moment_since_it_was_asked() {
    for (place, pairs) in [(Some(4), &[(1, 11)][..]), (None, &[(1, 11)]), (Some(5), &[]), (None, &[])] {
        assert_eq!(judge(&with(17, scan(16, 17, place, pairs))), None);
        assert_eq!(judge(&with(19, scan(16, 17, place, pairs))), None, "it ended later than its first answer came");
    }
    assert_eq!(judge(&with(17, count(16, 0))), None);
    assert_eq!(judge(&with(17, count(16, 1))), None);
}

/// Two rows, numbered by column 1.
fn numbered(first: i64, second: i64) -> Vec<Event> {
    let table = Table { key_columns: vec![0], engine: Engine::Replace, image: Image::Full, deletes: true };
    let put = |sequence, key| {
        let batch = Arc::new(Batch { ops: vec![Op::Upsert(row(key, 0))], columns: Some(vec![0]) });
        Event::Put { writer: 1, bucket: 0, sequence, batch }
    };
    let log = || vec![logged(0, 0, vec![change(Kind::Insert, 1, first)]), logged(1, 1, vec![change(Kind::Insert, 2, second)])];
    let start = Event::Start {
        nodes: 3,
        buckets: 1,
        keyed: [(0, table)].into(),
        numbered: [(0, (0, 1))].into(),
        expiring: Default::default(),
    };
    let events = vec![start, put(0, 1), send(0), acked(0, 1), put(1, 2), send(1), acked(1, 2), Event::Healed];
    events.into_iter().chain((1..=3).map(|node| dump(node, log()))).collect()
}

#[test]
fn numbers_of_rows_are_given_once() {
    assert_eq!(judge(&numbered(7, 3)), None);
    for (first, second) in [(7, 7), (0, 1)] {
        assert_eq!(judge(&numbered(first, second)).map(|(oracle, _)| oracle), Some("I9"));
    }
}

#[test]
fn bad_histories_are_found_by_the_right_oracle() {
    let lost = || log()[..3].to_vec();
    let mut lost_put = good();
    (1..=3).for_each(|node| lost_put[22 + node] = dump(node as u64, lost()));
    lost_put[20] = held(1, 4, &[(1, 11)]);
    let many = Event::Rows { node: 1, bucket: 0, crashed: false, log_end: 5, row_count: Some(1), rows: Ok(Rows::new()) };
    let unreadable = Event::Rows { node: 1, bucket: 0, crashed: true, log_end: 5, row_count: None, rows: Err("bytes".into()) };
    let update = |kind, old, new| vec![change(Kind::UpdateBefore, 1, old), change(kind, 1, new)];
    let cases: Vec<(&str, &str, Vec<Event>)> = vec![
        ("an acked put is in no log", "I1", lost_put),
        ("a retry is acked elsewhere", "I7", with(19, acked(3, 6))),
        ("a stale row", "I8", with(14, held(2, 3, &[(1, 10)]))),
        ("a row too many after a crash", "I8", with(20, held(1, 5, &[(2, 1)]))),
        ("rows of no log end", "I8", with(14, held(2, 2, &[(1, 10)]))),
        ("replicas differ at one end", "I8", with(21, held(3, 5, &[(1, 11)]))),
        ("rows counted wrong", "I8", with(20, many)),
        ("rows that cannot be read", "I8", with(20, unreadable)),
        ("a wrong before-image", "I9", with_log(1, logged(1, 1, update(Kind::UpdateAfter, 9, 11)))),
        ("a cut pair", "I9", with_log(1, logged(1, 1, update(Kind::Insert, 10, 11)))),
        ("an insert of a live row", "I9", with_log(2, logged(3, 2, vec![change(Kind::Insert, 1, 5)]))),
        ("a delete of nothing", "I9", with_log(2, logged(3, 2, vec![change(Kind::Delete, 2, 5)]))),
        ("a change that nobody asked for", "I9", with_log(2, logged(3, 2, vec![change(Kind::Insert, 2, 5)]))),
        ("a merge of another value", "I9", with_log(0, logged(0, 0, vec![change(Kind::Insert, 1, 12)]))),
        ("a reader was told something else", "I9", with(10, read(1, 1, 0, Some(change(Kind::UpdateBefore, 1, 9))))),
        ("a stale lookup", "linear", with(17, lookup(16, 1, Some(10)))),
        ("a lookup of what never was", "linear", with(17, lookup(16, 1, Some(77)))),
        ("a scan that leaves a row out", "linear", with(17, scan(16, 17, Some(4), &[]))),
        ("a scan of an older state", "linear", with(17, scan(16, 17, Some(3), &[(1, 11)]))),
        ("a scan of another state than it says", "linear", with(17, scan(16, 17, Some(5), &[(1, 11)]))),
        ("a scan that goes on in a later state", "linear", with(19, scan(8, 10, None, &[]))),
        ("a count of what was deleted", "linear", with(19, count(19, 1))),
        ("a count that never was", "linear", with(17, count(16, 2))),
        ("a lookup from the future", "linear", with(4, lookup(4, 1, Some(11)))),
    ];
    for (what, expected, events) in cases {
        let found = judge(&events);
        assert_eq!(found.as_ref().map(|(oracle, _)| *oracle), Some(expected), "{what}: {found:?}");
    }
}
