//! Golden histories: one that keeps every promise, and the smallest changes of it that break each.

use super::i13::CAUGHT_UP;
use super::*;
use crate::history::{DumpBatch, Expiry, Outcome, Replica, Row, Value};

fn value(sequence: i32, index: i32) -> Value {
    Value { writer: 1, sequence, index }
}

fn batch(base_offset: i64, sequence: i32, records: i32) -> DumpBatch {
    let rows = (0..records).map(|index| Ok(value(sequence, index))).collect();
    DumpBatch { base_offset, records: i64::from(records), digest: 100 + sequence as u64, rows, changes: Vec::new() }
}

fn send(sequence: i32, records: i32, first: bool) -> Event {
    Event::Send { writer: 1, bucket: 0, sequence, records, node: 1, first }
}

fn done(sequence: i32, outcome: Outcome) -> Event {
    Event::Done { writer: 1, bucket: 0, sequence, node: 1, outcome }
}

fn acked(sequence: i32, base_offset: i64) -> Event {
    done(sequence, Outcome::Acked { base_offset })
}

fn fetch(from: i64, high_watermark: i64, values: Vec<Value>) -> Event {
    let rows = values.into_iter().zip(from..).map(|(value, offset)| Row { offset, value: Ok(value), change: None }).collect();
    Event::Fetch { reader: 9, bucket: 0, node: 2, from, high_watermark, sent_ns: 0, rows }
}

fn dump(node: u64, batches: Vec<DumpBatch>) -> Event {
    let high_watermark = batches.iter().map(|batch| batch.records).sum();
    Event::Dump { node, bucket: 0, log_start: 0, high_watermark, batches: Ok(batches) }
}

fn probe(node: u64, term: u64, leader: u64, pointers: [u64; 5]) -> Event {
    let replica = Replica { group: 3, bucket: Some(0), term, leader: Some(leader), pointers, ..Replica::default() };
    Event::Probe { node, boot: 1, replicas: vec![replica] }
}

/// Batches #0 (2 records, offset 0), #1 (1 record, offset 2), #2 (2 records, offset 3, ack lost, then a duplicate's answer).
fn good() -> Vec<Event> {
    let log = || vec![batch(0, 0, 2), batch(2, 1, 1), batch(3, 2, 2)];
    vec![
        Event::Start {
            nodes: 3,
            buckets: 1,
            keyed: Default::default(),
            numbered: Default::default(),
            expiring: Default::default(),
        },
        send(0, 2, true),
        probe(1, 2, 1, [0, 0, 1, 1, 2]),
        probe(2, 2, 1, [0, 0, 1, 1, 1]),
        acked(0, 0),
        fetch(0, 2, vec![value(0, 0), value(0, 1)]),
        send(1, 1, true),
        send(2, 2, true),
        acked(1, 2),
        done(2, Outcome::Unknown { why: "timeout".into() }),
        send(2, 2, false),
        fetch(2, 5, vec![value(1, 0), value(2, 0), value(2, 1)]),
        probe(1, 2, 1, [0, 1, 4, 4, 4]),
        acked(2, 3),
        Event::Healed,
        Event::Progress { what: super::CAUGHT_UP.into(), kept: true },
        dump(1, log()),
        dump(2, log()),
        dump(3, log()),
    ]
}

fn judge(events: &[Event]) -> Option<&'static str> {
    let mut oracles = Oracles::default();
    for (at, event) in events.iter().enumerate() {
        if let Err(violation) = oracles.observe(at as u64 * 1000, event) {
            return Some(violation.oracle);
        }
    }
    oracles.finish(u64::MAX).err().map(|violation| violation.oracle)
}

/// The good history with the event at `at` replaced.
fn with(at: usize, event: Event) -> Vec<Event> {
    let mut events = good();
    events[at] = event;
    events
}

#[test]
fn a_good_history_is_good() {
    assert_eq!(judge(&good()), None);
}

#[test]
fn bad_histories_are_found_by_the_right_oracle() {
    let whole = || vec![batch(0, 0, 2), batch(2, 1, 1), batch(3, 2, 2)];
    let mut other_bytes = whole();
    other_bytes[1].digest = 7;
    let mut torn = whole();
    torn[2].rows[1] = Ok(Value { index: 0, ..value(2, 0) });
    let mut garbage = whole();
    garbage[0].rows[0] = Err("checksum".into());
    let mut gap = whole();
    gap[2].base_offset = 4;
    let stale_ack = vec![fetch(0, 3, vec![value(0, 0), value(0, 1)]), send(1, 1, true), acked(1, 2)];
    let unreadable = Event::Dump { node: 3, bucket: 0, log_start: 0, high_watermark: 5, batches: Err("checksum".into()) };
    let late_start = Event::Dump { node: 3, bucket: 0, log_start: 2, high_watermark: 5, batches: Ok(whole()[1..].to_vec()) };
    let mut missing_dumps = good();
    missing_dumps.truncate(17);
    let mut both_sent: Vec<Event> = good()[..5].to_vec();
    both_sent.extend(stale_ack);
    let cases: Vec<(&str, &str, Vec<Event>)> = vec![
        ("lost tail on one replica", "I1", with(18, dump(3, whole()[..2].to_vec()))),
        ("replicas that cannot be read", "I1", missing_dumps),
        ("other value at an acked offset", "I2", with(5, fetch(0, 2, vec![value(0, 1), value(0, 1)]))),
        ("replicas differ in bytes", "I2", with(17, dump(2, other_bytes))),
        ("garbage in a log", "I2", with(16, dump(1, garbage))),
        ("ack says another offset than the reader saw", "I2", with(13, acked(2, 4))),
        ("hole in a log", "I3", with(16, dump(1, gap))),
        ("hole in an answer", "I3", {
            let row = |offset, value| Row { offset, value: Ok(value), change: None };
            let rows = vec![row(2, value(1, 0)), row(4, value(2, 1))];
            with(11, Event::Fetch { reader: 9, bucket: 0, node: 2, from: 2, high_watermark: 5, sent_ns: 0, rows })
        }),
        ("applied above committed", "I5", with(12, probe(1, 2, 1, [0, 1, 5, 4, 5]))),
        ("applied goes back", "I5", with(12, probe(1, 2, 1, [0, 0, 0, 1, 4]))),
        ("term goes back", "I5", with(12, probe(1, 1, 1, [0, 1, 4, 4, 4]))),
        ("row above the watermark", "I6", with(11, fetch(2, 4, vec![value(1, 0), value(2, 0), value(2, 1)]))),
        ("watermark over a free offset", "I6", both_sent),
        ("retry is acked elsewhere", "I7", {
            let mut events = good()[..9].to_vec();
            events.extend([acked(2, 3), done(2, Outcome::Acked { base_offset: 5 })]);
            // I2 sees no clash: offsets 5 and 6 are new.
            events
        }),
        ("value read twice", "I7", with(11, fetch(2, 5, vec![value(1, 0), value(1, 0), value(2, 1)]))),
        ("torn batch", "I2", with(16, dump(1, torn))),
        ("writer in order refused", "I7", with(13, done(2, Outcome::OutOfOrder { certain: true }))),
        ("unexpected error", "I7", with(13, done(2, Outcome::Refused { code: 14, message: "crc".into() }))),
        ("two leaders in a term", "I10", with(3, probe(2, 2, 2, [0, 0, 1, 1, 1]))),
        ("log that cannot be read", "I13", with(18, unreadable)),
        ("log that starts late", "I13", with(18, late_start)),
        ("no progress", "liveness", with(15, Event::Progress { what: "w1 stuck".into(), kept: false })),
    ];
    for (what, expected, events) in cases {
        assert_eq!(judge(&events), Some(expected), "{what}");
    }
}

#[test]
fn entries_expire_neither_early_nor_never() {
    let second =
        Event::Dump { node: 2, bucket: 0, log_start: 2, high_watermark: 5, batches: Ok(vec![batch(2, 1, 1), batch(3, 2, 2)]) };
    let judged = |log_start_ns: u64, expiry: Expiry| {
        let mut events = good();
        let Some(Event::Start { expiring, .. }) = events.first_mut() else { panic!("a history begins with its start") };
        expiring.insert(0, expiry);
        let mut oracles = Oracles::default();
        for (at, event) in events[..16].iter().enumerate() {
            assert_eq!(oracles.observe(at as u64 * 1_000_000, event), Ok(()));
        }
        oracles.observe(log_start_ns, &second).err().map(|violation| violation.oracle)
    };
    // The first batch was sent after 1 ms and acked after 4, the last one was acked after 13.
    assert_eq!(judged(100_000_000, Expiry { kept_ms: 99, gone_ms: 92 }), None);
    assert_eq!(judged(100_000_000, Expiry { kept_ms: 100, gone_ms: 92 }), Some("I13"));
    assert_eq!(judged(100_000_000, Expiry { kept_ms: 99, gone_ms: 91 }), Some("I13"), "the second batch was acked after 8 ms");
}

#[test]
fn out_of_order_is_fine_only_if_an_earlier_batch_got_lost() {
    let refused = || with(9, done(2, Outcome::OutOfOrder { certain: false }));
    let mut lost = refused();
    // The first send of #1 got nowhere.
    lost[8] = done(1, Outcome::Unknown { why: "reset".into() });
    lost.splice(10..10, [send(1, 1, false), acked(1, 2)]);
    assert_eq!(judge(&lost), None);
    assert_eq!(judge(&refused()), Some("I7"), "#1 was sent once and acked, so it was under way when #2 came");
    let mut before = refused();
    before.swap(8, 9);
    assert_eq!(judge(&before), Some("I7"), "the refusal may come first");
}

#[test]
fn replicas_that_are_at_rest_know_the_same_voters() {
    let at_rest = |node, voters: &[u64], last| {
        let replica = Replica { group: 4, voters: Some(voters.to_vec()), pointers: [0, 0, 5, 5, last], ..Replica::default() };
        Event::Probe { node, boot: 1, replicas: vec![replica] }
    };
    let quiet = || Event::Progress { what: CAUGHT_UP.into(), kept: true };
    let after = |second| [good(), vec![quiet(), at_rest(1, &[1, 2, 3], 5), second]].concat();
    assert_eq!(judge(&after(at_rest(2, &[1, 2, 3], 5))), None);
    assert_eq!(judge(&after(at_rest(2, &[], 5))), Some("I13"));
    assert_eq!(judge(&after(at_rest(2, &[1, 2, 4], 6))), None, "a change of members may be under way");
    let before = [good()[..1].to_vec(), vec![at_rest(1, &[1, 2, 3], 5), at_rest(2, &[], 5)]].concat();
    assert_eq!(judge(&before), None, "a probe of a replica that works is not of one moment");
}

#[test]
fn restarts_may_apply_again_but_not_go_back_within_a_life() {
    let mut events = good();
    let again = Event::Probe {
        node: 1,
        boot: 2,
        replicas: vec![Replica {
            group: 3,
            bucket: Some(0),
            term: 3,
            leader: Some(2),
            pointers: [0, 1, 1, 1, 4],
            ..Replica::default()
        }],
    };
    events.insert(14, again);
    assert_eq!(judge(&events), None);
}
