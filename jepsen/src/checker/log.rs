//! An append log, per bucket: one array from offset to value, filled by every read; then a few scans over it.

use super::report::{Anomaly, Report};
use crate::history::{Event, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Acknowledgements that may still arrive after the kill of the node that sent them.
const IN_FLIGHT_ANSWERS: usize = 50;
/// How long.
const UNDER_WAY_US: u64 = 100_000;
/// Fewer acknowledged rows than this prove nothing.
const ACKED_MIN: usize = 100;

/// Lost, doubled, reordered, inconsistent, missing in between, made up: or nothing of that.
pub fn check_log(events: &[Event]) -> Report {
    let mut report = Report::default();
    let mut acked = BTreeSet::new();
    let mut invoked = BTreeSet::new();
    let mut logs: BTreeMap<i32, BTreeMap<i64, Value>> = BTreeMap::new();
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for event in events {
        match event {
            Event::Invoke { value, .. } => _ = invoked.insert(*value),
            Event::Ok { value, .. } => _ = acked.insert(*value),
            Event::Unknown { .. } => report.unknown += 1,
            Event::Fault { .. } => report.faults += 1,
            Event::FinalRead { bucket, end, .. } => _ = ends.insert(*bucket, *end),
            Event::Preload { .. } | Event::Put { .. } | Event::Change { .. } | Event::Row { .. } | Event::Differs { .. } => {}
            Event::Read { reader, bucket, offset, value, .. } => {
                let Some(value) = value else {
                    report.add("phantom", format!("{reader} read a row with a wrong checksum at {bucket}@{offset}"));
                    continue;
                };
                let before = logs.entry(*bucket).or_default().insert(*offset, *value);
                if let Some(before) = before.filter(|before| before != value) {
                    report.add("inconsistent offset", format!("{bucket}@{offset} was {before:?}, {reader} read {value:?}"));
                }
            }
        }
    }
    report.recovery_us = stalls(events);
    report.acked = acked.len();
    report.read = logs.values().map(BTreeMap::len).sum();
    for (bucket, end) in &ends {
        check_dense(*bucket, *end, logs.get(bucket), &mut report);
    }
    check_values(&logs, &acked, &invoked, &mut report);
    if ends.is_empty() {
        report.unclear = Some("there was no final read".to_string());
    } else if report.acked < ACKED_MIN {
        report.unclear = Some(format!("only {} rows were acknowledged, at least {ACKED_MIN} are needed", report.acked));
    }
    report
}

impl Report {
    pub(super) fn add(&mut self, name: &'static str, detail: String) {
        self.anomalies.push(Anomaly { name, detail });
    }
}

fn check_dense(bucket: i32, end: i64, log: Option<&BTreeMap<i64, Value>>, report: &mut Report) {
    let empty = BTreeMap::new();
    let log = log.unwrap_or(&empty);
    for offset in (0..end).filter(|offset| !log.contains_key(offset)) {
        report.add("gap", format!("{bucket}@{offset} holds nothing below the end {end}"));
    }
    for (offset, value) in log.range(end..) {
        report.add("unstable read", format!("{bucket}@{offset} = {value:?} was read, the log ends at {end}"));
    }
}

fn check_values(
    logs: &BTreeMap<i32, BTreeMap<i64, Value>>,
    acked: &BTreeSet<Value>,
    invoked: &BTreeSet<Value>,
    report: &mut Report,
) {
    let mut seen: BTreeMap<Value, (i32, i64)> = BTreeMap::new();
    for (bucket, log) in logs {
        let mut newest: BTreeMap<i32, i64> = BTreeMap::new();
        for (offset, value) in log {
            if let Some((other, at)) = seen.insert(*value, (*bucket, *offset)) {
                report.add("duplicate", format!("{value:?} at {other}@{at} and at {bucket}@{offset}"));
            }
            if !invoked.contains(value) {
                report.add("phantom", format!("{value:?} at {bucket}@{offset} was never written"));
            }
            let last = newest.insert(value.writer, value.sequence);
            if let Some(last) = last.filter(|last| *last > value.sequence) {
                report.add("reordered", format!("{value:?} at {bucket}@{offset} comes after sequence {last}"));
            }
        }
    }
    for value in acked.iter().filter(|value| !seen.contains_key(value)) {
        report.add("lost write", format!("{value:?} was acknowledged and is in no bucket"));
    }
}

/// Per fault that left a quorum: the longest time that any writer went without an acknowledgement around it. Sorted.
///
/// A wait during which the quorum was lost, too, says nothing about that fault.
pub(super) fn stalls(events: &[Event]) -> Vec<u64> {
    let mut acks: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for event in events {
        if let Event::Ok { at_us, value } = event {
            acks.entry(value.writer).or_default().push(*at_us);
        }
    }
    let lost: Vec<u64> = events.iter().filter_map(quorum_lost).collect();
    // Answers that were under way when the last node died still arrive.
    let is_of_its_own = |from: u64, to: u64| !lost.iter().any(|at| (from.saturating_sub(UNDER_WAY_US)..=to).contains(at));
    let mut worst = Vec::new();
    for event in events {
        let Event::Fault { at_us, quorum_left: true, .. } = event else { continue };
        // The gap that the fault falls into, or the one after it if an answer was already under way.
        let gap = |times: &Vec<u64>| {
            let after = times.partition_point(|time| time <= at_us);
            let pair = |index: usize| {
                let (from, to) = (*times.get(index.checked_sub(1)?)?, *times.get(index)?);
                is_of_its_own(from, to).then(|| to - from)
            };
            (after..after + IN_FLIGHT_ANSWERS).filter_map(pair).max()
        };
        worst.extend(acks.values().filter_map(gap).max());
    }
    worst.sort_unstable();
    worst
}

fn quorum_lost(event: &Event) -> Option<u64> {
    match event {
        Event::Fault { at_us, quorum_left: false, .. } => Some(*at_us),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(sequence: i64) -> Value {
        Value { writer: 1, sequence }
    }

    /// 200 rows written, acknowledged and read back.
    fn good() -> Vec<Event> {
        let mut events = Vec::new();
        for sequence in 0..200 {
            events.push(Event::Invoke { at_us: sequence as u64, value: value(sequence) });
            events.push(Event::Ok { at_us: sequence as u64, value: value(sequence) });
            events.push(read(sequence, sequence));
        }
        events.push(Event::FinalRead { at_us: 999, bucket: 0, end: 200 });
        events
    }

    fn read(offset: i64, sequence: i64) -> Event {
        Event::Read { at_us: 1, reader: "r".to_string(), bucket: 0, offset, value: Some(value(sequence)) }
    }

    fn names(events: &[Event]) -> BTreeSet<&'static str> {
        check_log(events).anomalies.iter().map(|anomaly| anomaly.name).collect()
    }

    #[test]
    fn a_good_history_passes_and_an_empty_one_does_not() {
        assert_eq!(check_log(&good()).exit_code(10, 11), 0);
        assert_eq!(check_log(&[]).exit_code(10, 11), 11);
    }

    /// Acknowledgements at these times, in ms; then a fault that left a quorum, and one that did not.
    fn waits(acks_ms: &[u64], kill_ms: u64, all_died_ms: u64) -> Vec<u64> {
        let us = |ms: u64| ms * 1_000;
        let acks = acks_ms.iter().map(|at_ms| Event::Ok { at_us: us(*at_ms), value: value(*at_ms as i64) });
        let fault =
            |at_ms: u64, quorum_left: bool| Event::Fault { at_us: us(at_ms), what: "kill".into(), nodes: vec![1], quorum_left };
        let mut events: Vec<Event> = acks.collect();
        events.extend([fault(kill_ms, true), fault(all_died_ms, false)]);
        stalls(&events).into_iter().map(|wait_us| wait_us / 1_000).collect()
    }

    #[test]
    fn a_wait_is_laid_to_a_kill_only_if_the_quorum_was_not_lost_in_it() {
        assert_eq!(waits(&[0, 10, 500, 510], 20, 900), [490], "from the last answer before the kill to the first after it");
        assert_eq!(waits(&[0, 10, 3_000, 3_010], 20, 500), [10], "the quorum was lost within the long wait");
        assert_eq!(waits(&[0, 10, 3_000, 3_010], 20, 5), [10], "it was lost just before, answers were still under way");
        assert_eq!(waits(&[0, 1_000, 3_000, 3_010], 1_020, 5), [2_000], "it was lost long before");
    }

    #[test]
    fn every_anomaly_is_reported_under_its_name() {
        let with = |change: &dyn Fn(&mut Vec<Event>)| {
            let mut events = good();
            change(&mut events);
            names(&events)
        };
        let position = |events: &[Event], offset: i64| {
            events.iter().position(|event| matches!(event, Event::Read { offset: at, .. } if *at == offset)).unwrap()
        };
        let lost = with(&|events| {
            let last = position(events, 199);
            events.remove(last);
            *events.last_mut().unwrap() = Event::FinalRead { at_us: 999, bucket: 0, end: 199 };
        });
        assert_eq!(lost, BTreeSet::from(["lost write"]));
        let swapped = with(&|events| {
            let (a, b) = (position(events, 7), position(events, 8));
            events[a] = read(7, 8);
            events[b] = read(8, 7);
        });
        assert_eq!(swapped, BTreeSet::from(["reordered"]));
        let doubled = with(&|events| {
            events.push(read(200, 199));
            events.push(Event::FinalRead { at_us: 999, bucket: 0, end: 201 });
        });
        assert_eq!(doubled, BTreeSet::from(["duplicate"]));
        let hole = with(&|events| {
            events.push(Event::FinalRead { at_us: 999, bucket: 0, end: 201 });
        });
        assert_eq!(hole, BTreeSet::from(["gap"]));
        let unstable = with(&|events| events.push(read(5, 6)));
        assert!(unstable.contains("inconsistent offset"));
        let made_up = with(&|events| {
            events.push(read(200, 777));
            events.push(Event::FinalRead { at_us: 999, bucket: 0, end: 201 });
        });
        assert_eq!(made_up, BTreeSet::from(["phantom"]));
    }
}
