//! A primary-key table: each key's changes in the changelog against what its one writer was told, and the changelog folded
//! against the rows that a scan gives.

use super::log::stalls;
use super::report::Report;
use crate::history::{Event, Kind, PRELOADER, Value};
use floss_checker::{Cell, Engine, Fold, Image, Table};
use std::collections::BTreeMap;

/// Fewer acknowledged writes than this prove nothing.
const ACKED_MIN: usize = 100;

/// One write to a key, in the order of its writer.
#[derive(Clone, Copy)]
struct Put {
    value: Value,
    delete: bool,
    acked: bool,
}

#[derive(Clone, Copy)]
struct Change {
    kind: Kind,
    key: i64,
    row: Value,
}

#[derive(Default)]
struct Seen {
    puts: BTreeMap<i64, Vec<Put>>,
    logs: BTreeMap<i32, BTreeMap<i64, Change>>,
    ends: BTreeMap<i32, i64>,
    rows: BTreeMap<i64, Value>,
    scanned: bool,
}

/// Lost, doubled, reordered, made up; gaps; a changelog that is not well formed; rows that are not its fold.
pub fn check_kv(events: &[Event]) -> Report {
    let mut report = Report::default();
    let seen = gather(events, &mut report);
    for (bucket, end) in &seen.ends {
        let empty = BTreeMap::new();
        let log = seen.logs.get(bucket).unwrap_or(&empty);
        for offset in (0..*end).filter(|offset| !log.contains_key(offset)) {
            report.add("gap", format!("{bucket}@{offset} holds nothing below the end {end}"));
        }
    }
    let mut by_key: BTreeMap<i64, Vec<Put>> = BTreeMap::new();
    let mut folded = BTreeMap::new();
    for (bucket, log) in &seen.logs {
        fold(*bucket, log, &mut folded, &mut by_key, &mut report);
        report.read += log.len();
    }
    for (key, puts) in &seen.puts {
        check_key(*key, puts, by_key.get(key).map_or(&[], Vec::as_slice), &mut report);
    }
    for key in by_key.keys().filter(|key| !seen.puts.contains_key(key)) {
        report.add("phantom", format!("key {key} is in the changelog and was never written"));
    }
    if seen.scanned {
        compare(&folded, &seen.rows, &mut report);
    }
    report.recovery_us = stalls(events);
    if seen.ends.is_empty() || !seen.scanned {
        report.unclear = Some("there was no final read".to_string());
    } else if report.acked < ACKED_MIN {
        report.unclear = Some(format!("only {} writes were acknowledged, at least {ACKED_MIN} are needed", report.acked));
    }
    report
}

fn gather(events: &[Event], report: &mut Report) -> Seen {
    let mut seen = Seen::default();
    let mut at: BTreeMap<Value, (i64, usize)> = BTreeMap::new();
    for event in events {
        match event {
            Event::Preload { rows } => {
                for key in 0..*rows {
                    let value = Value { writer: PRELOADER, sequence: key };
                    seen.puts.entry(key).or_default().push(Put { value, delete: false, acked: true });
                }
            }
            Event::Put { value, key, delete, .. } => {
                let puts = seen.puts.entry(*key).or_default();
                at.insert(*value, (*key, puts.len()));
                puts.push(Put { value: *value, delete: *delete, acked: false });
            }
            Event::Ok { value, .. } => {
                report.acked += 1;
                if let Some((key, index)) = at.get(value) {
                    seen.puts.entry(*key).or_default()[*index].acked = true;
                }
            }
            Event::Unknown { .. } => report.unknown += 1,
            Event::Fault { .. } => report.faults += 1,
            Event::FinalRead { bucket, end, .. } => _ = seen.ends.insert(*bucket, *end),
            Event::Change { bucket, offset, kind, key, row } => {
                let change = Change { kind: *kind, key: *key, row: *row };
                if seen.logs.entry(*bucket).or_default().insert(*offset, change).is_some() {
                    report.add("inconsistent offset", format!("{bucket}@{offset} was read twice"));
                }
            }
            Event::Row { key, row } => {
                seen.scanned = true;
                if seen.rows.insert(*key, *row).is_some() {
                    report.add("duplicate", format!("key {key} is twice in the table"));
                }
            }
            Event::Differs { what } => report.add("replicas differ", what.clone()),
            Event::Invoke { .. } | Event::Read { .. } => {}
        }
    }
    seen
}

/// I9, by the checker that the simulator uses, too. Pairs come together; where batches ended nobody knows any more.
fn fold(
    bucket: i32,
    log: &BTreeMap<i64, Change>,
    rows: &mut BTreeMap<i64, Value>,
    by_key: &mut BTreeMap<i64, Vec<Put>>,
    report: &mut Report,
) {
    let table = Table { key_columns: vec![0], engine: Engine::Replace, image: Image::Full, deletes: true };
    let mut fold = Fold::new(table);
    let mut unit = Vec::new();
    for (offset, change) in log {
        let Change { kind, key, row } = *change;
        let cells = [key, i64::from(row.writer), row.sequence].map(Cell::Int).to_vec();
        unit.push(floss_checker::Change { kind: kind.into(), row: cells });
        match kind {
            Kind::UpdateBefore if unit.len() == 1 => continue,
            Kind::UpdateBefore => {}
            Kind::Insert | Kind::UpdateAfter => {
                rows.insert(key, row);
                by_key.entry(key).or_default().push(Put { value: row, delete: false, acked: true });
            }
            Kind::Delete => {
                rows.remove(&key);
                by_key.entry(key).or_default().push(Put { value: row, delete: true, acked: true });
            }
        }
        if let Err(anomaly) = fold.take(&unit) {
            report.add(anomaly.name, format!("{bucket}@{offset}: {}", anomaly.detail));
        }
        unit.clear();
    }
    if !unit.is_empty() {
        report.add("cut pair", format!("{bucket} ends with a -U, without its +U"));
    }
}

/// The changes of a key are its writes in their order, without some of those whose outcome is unknown.
fn check_key(key: i64, puts: &[Put], changes: &[Put], report: &mut Report) {
    let mut left = puts.iter();
    for change in changes {
        let is_it = |put: &Put| put.delete == change.delete && (put.delete || put.value == change.value);
        loop {
            match left.next() {
                None if puts.iter().any(is_it) => {
                    return report.add("duplicate or reordered", format!("key {key}: {:?} took effect again", change.value));
                }
                None => return report.add("phantom", format!("key {key}: {:?} was never written", change.value)),
                Some(put) if is_it(put) => break,
                Some(put) if put.acked => {
                    report
                        .add("lost write", format!("key {key}: {:?} was acknowledged, then came {:?}", put.value, change.value));
                }
                Some(_) => {}
            }
        }
    }
    for put in left.filter(|put| put.acked) {
        report.add("lost write", format!("key {key}: {:?} was acknowledged and is in no bucket", put.value));
    }
}

fn compare(folded: &BTreeMap<i64, Value>, rows: &BTreeMap<i64, Value>, report: &mut Report) {
    for (key, value) in folded {
        let found = rows.get(key);
        if found != Some(value) {
            report.add("fold differs", format!("key {key}: the changelog says {value:?}, the table {found:?}"));
        }
    }
    for (key, value) in rows.iter().filter(|(key, _)| !folded.contains_key(key)) {
        report.add("fold differs", format!("key {key}: the changelog says nothing, the table {value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn value(sequence: i64) -> Value {
        Value { writer: 1, sequence }
    }

    fn put(sequence: i64, key: i64, delete: bool) -> [Event; 2] {
        let value = value(sequence);
        [Event::Put { at_us: 0, value, key, delete }, Event::Ok { at_us: 0, value }]
    }

    fn change(offset: i64, kind: Kind, key: i64, row: Value) -> Event {
        Event::Change { bucket: 0, offset, kind, key, row }
    }

    /// 200 keys preloaded, each updated once, key 7 deleted and key 8 deleted and inserted again.
    fn good() -> Vec<Event> {
        let old = |key| Value { writer: PRELOADER, sequence: key };
        let mut events = vec![Event::Preload { rows: 200 }];
        for key in 0..200 {
            events.push(change(key, Kind::Insert, key, old(key)));
        }
        for key in 0..200 {
            events.extend(put(key, key, false));
            events.push(change(200 + 2 * key, Kind::UpdateBefore, key, old(key)));
            events.push(change(201 + 2 * key, Kind::UpdateAfter, key, value(key)));
        }
        events.extend(put(200, 7, true));
        events.push(change(600, Kind::Delete, 7, value(7)));
        events.extend(put(201, 8, true));
        events.push(change(601, Kind::Delete, 8, value(8)));
        events.extend(put(202, 8, false));
        events.push(change(602, Kind::Insert, 8, value(202)));
        for key in (0..200).filter(|key| *key != 7) {
            events.push(Event::Row { key, row: value(if key == 8 { 202 } else { key }) });
        }
        events.push(Event::FinalRead { at_us: 0, bucket: 0, end: 603 });
        events
    }

    fn names(change: impl FnOnce(&mut Vec<Event>)) -> BTreeSet<&'static str> {
        let mut events = good();
        change(&mut events);
        check_kv(&events).anomalies.iter().map(|anomaly| anomaly.name).collect()
    }

    fn at(events: &[Event], wanted: i64) -> usize {
        events.iter().position(|event| matches!(event, Event::Change { offset, .. } if *offset == wanted)).unwrap()
    }

    #[test]
    fn a_good_history_passes_and_an_empty_one_does_not() {
        assert_eq!(check_kv(&good()).anomalies, Vec::new());
        assert_eq!(check_kv(&good()).exit_code(10, 11), 0);
        assert_eq!(check_kv(&[]).exit_code(10, 11), 11);
    }

    #[test]
    fn every_anomaly_is_reported_under_its_name() {
        let lost = names(|events| events.extend(put(300, 9, false)));
        assert_eq!(lost, BTreeSet::from(["lost write"]));
        let unknown = names(|events| events.push(put(300, 9, false)[0].clone()));
        assert_eq!(unknown, BTreeSet::new());
        let hole = names(|events| _ = events.remove(at(events, 602)));
        assert_eq!(hole, BTreeSet::from(["gap", "lost write", "fold differs"]));
        let doubled = names(|events| {
            events.push(change(603, Kind::UpdateBefore, 9, value(9)));
            events.push(change(604, Kind::UpdateAfter, 9, value(9)));
        });
        assert_eq!(doubled, BTreeSet::from(["duplicate or reordered"]));
        let insert = names(|events| {
            let at = at(events, 602);
            events[at] = change(602, Kind::Insert, 9, value(202));
        });
        assert!(insert.contains("insert of a live row"));
        let half = names(|events| {
            events.extend(put(300, 9, false));
            events.push(change(603, Kind::UpdateAfter, 9, value(300)));
        });
        assert!(half.contains("cut pair"));
        let stale = names(|events| {
            let row = events.iter().position(|event| matches!(event, Event::Row { key: 3, .. })).unwrap();
            events[row] = Event::Row { key: 3, row: Value { writer: PRELOADER, sequence: 3 } };
        });
        assert_eq!(stale, BTreeSet::from(["fold differs"]));
        let undead = names(|events| events.push(Event::Row { key: 7, row: value(7) }));
        assert_eq!(undead, BTreeSet::from(["fold differs"]));
        let made_up = names(|events| {
            events.push(change(603, Kind::Insert, 999, value(999)));
            events.push(Event::Row { key: 999, row: value(999) });
        });
        assert_eq!(made_up, BTreeSet::from(["phantom"]));
    }
}
