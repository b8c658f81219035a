//! I8: folding the changelog up to the applied offset gives exactly the rows, on every replica, while it runs and after every crash.
//!
//! Replicas at the same offset are compared at once. The fold itself is known at the end, from the first log that is dumped; what was
//! seen before is judged then.

use super::Oracle;
use super::replay::Replay;
use crate::history::{BucketNo, Event, NodeNo};
use floss_checker::{Key, Row, Rows, Table, show};
use std::collections::BTreeMap;

struct Seen {
    rows: Rows,
    /// Who had them first, and when: for people.
    by: String,
}

#[derive(Default)]
pub struct SameRows {
    tables: BTreeMap<BucketNo, Table>,
    /// Until the changelog is known.
    seen: BTreeMap<(BucketNo, i64), Seen>,
    folds: BTreeMap<BucketNo, Replay>,
}

impl SameRows {
    fn see(&mut self, bucket: BucketNo, log_end: i64, rows: &Rows, by: String) -> Result<(), String> {
        let seen = self.seen.entry((bucket, log_end)).or_insert_with(|| Seen { rows: rows.clone(), by: by.clone() });
        match first_difference(&seen.rows, rows) {
            Some((key, one, other)) => {
                Err(format!("rows of b{bucket} at log_end={log_end}: key {key} is {one} on {}, {other} on {by}", seen.by))
            }
            None => Ok(()),
        }
    }

    fn check_fold(&self, bucket: BucketNo, replay: &Replay) -> Result<(), String> {
        for ((_, log_end), seen) in self.seen.range((bucket, i64::MIN)..=(bucket, i64::MAX)) {
            let by = &seen.by;
            let Some(rows) = replay.at(*log_end) else {
                return Err(format!("{by}: rows of b{bucket} stand at log_end={log_end}, no batch ends there"));
            };
            if let Some((key, folded, found)) = first_difference(rows, &seen.rows) {
                return Err(format!(
                    "{by}: rows of b{bucket} at log_end={log_end}: key {key} is {found}, the changelog folds to {folded}"
                ));
            }
        }
        Ok(())
    }
}

/// The first key that differs, for people.
fn first_difference(one: &Rows, other: &Rows) -> Option<(String, String, String)> {
    if one == other {
        return None;
    }
    let text = |row: Option<&Row>| row.map_or_else(|| "absent".to_owned(), |row| show(row));
    let key: &Key = one.keys().chain(other.keys()).find(|key| one.get(*key) != other.get(*key))?;
    Some((show(key), text(one.get(key)), text(other.get(key))))
}

impl Oracle for SameRows {
    fn id(&self) -> &'static str {
        "I8"
    }

    fn observe(&mut self, at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Start { keyed, .. } => self.tables = keyed.clone(),
            Event::Rows { node, bucket, crashed, log_end, row_count, rows } => {
                let by = witness(*node, *crashed, at_ns);
                let rows = rows.as_ref().map_err(|error| format!("{by}: rows of b{bucket} cannot be read: {error}"))?;
                if let Some(count) = row_count.filter(|count| *count != rows.len() as u64) {
                    let found = rows.len();
                    return Err(format!("{by}: b{bucket} counts {count} rows at log_end={log_end}, it has {found}"));
                }
                self.see(*bucket, *log_end, rows, by)?;
            }
            Event::Dump { bucket, log_start: 0, batches: Ok(batches), .. } if !self.folds.contains_key(bucket) => {
                let Some(table) = self.tables.get(bucket) else { return Ok(()) };
                // One that is not well formed is another oracle's finding.
                let Ok(replay) = Replay::new(table, batches) else { return Ok(()) };
                self.check_fold(*bucket, &replay)?;
                self.folds.insert(*bucket, replay);
            }
            _ => {}
        }
        Ok(())
    }
}

fn witness(node: NodeNo, crashed: bool, at_ns: u64) -> String {
    let when = if crashed { " after its crash" } else { "" };
    format!("n{node}{when} ({:.3} s)", at_ns as f64 / 1e9)
}
