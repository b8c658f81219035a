//! Primary-key tables, bucket by bucket: the changelog first, because all else is judged by it; then rows, lookups and puts; then a
//! second opinion that does not know the changelog.

use crate::anomaly::Found;
use crate::attribute;
use crate::changelog::Fold;
use crate::facts::{Content, Facts, Held, Sent, seconds};
use crate::history::{Bucket, Logged, Stamp};
use crate::log::Logs;
use crate::numbers::Numbers;
use crate::opinion;
use crate::order::{Cut, KeyRange, Operation, Versions, What, check_order};
use crate::table::{Batch, Change, Key, Row, Rows, Table, show};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// One bucket.
struct Keyed<'f, 'a> {
    facts: &'f Facts<'a>,
    bucket: Bucket,
    table: &'a Table,
    /// By how much of the log they are the fold of.
    held: Vec<&'f Held<'a>>,
}

/// Says how many keys were searched, and on how many the search gave up.
pub(crate) fn check(facts: &Facts<'_>, logs: &Logs<'_>, found: &mut Found) -> (u64, u64) {
    let (mut searched, mut gave_up) = (0, 0);
    for (bucket, table) in &facts.tables {
        let mut held: Vec<&Held<'_>> = facts.held.iter().filter(|held| held.bucket == *bucket).collect();
        held.sort_by_key(|held| held.log_end.unwrap_or(i64::MAX));
        let keyed = Keyed { facts, bucket: *bucket, table, held };
        keyed.check_held(found);
        let whole = logs.of.get(bucket).and_then(|log| log.whole).filter(|whole| whole.start == 0);
        let is_fine = whole.is_some_and(|whole| keyed.check_log(whole.batches, found));
        let (keys, open) = opinion::check(facts, *bucket, table, is_fine, found);
        searched += keys;
        gave_up += open;
    }
    check_numbers(facts, logs, found);
    attribute::check(facts, logs, found);
    (searched, gave_up)
}

/// Over all buckets of a table.
fn check_numbers(facts: &Facts<'_>, logs: &Logs<'_>, found: &mut Found) {
    let mut tables: BTreeMap<u64, Numbers> = BTreeMap::new();
    for (bucket, numbered) in &facts.numbered {
        let numbers = tables.entry(numbered.table).or_default();
        let Some(whole) = logs.of.get(bucket).and_then(|log| log.whole) else { continue };
        for batch in whole.batches {
            let place = format!("offset={} of b{bucket}", batch.base_offset);
            if let Err(anomaly) = numbers.take(&batch.changes, numbered.column, &place) {
                found.add(anomaly.name, || anomaly.detail);
            }
        }
    }
}

impl Keyed<'_, '_> {
    /// Replicas at one place have the same rows, whatever the changelog says.
    fn check_held(&self, found: &mut Found) {
        for pair in self.held.windows(2) {
            let (one, other) = (pair[0], pair[1]);
            if one.log_end == other.log_end && one.rows != other.rows {
                let (a, b, bucket, end) = (one.by, other.by, self.bucket, one.log_end);
                found.add("wrong rows", || format!("{a} and {b} have other rows of b{bucket} at log_end={end:?}"));
            }
        }
    }

    /// True if everything fits.
    fn check_log(&self, batches: &[Logged], found: &mut Found) -> bool {
        let before = found.count;
        let mut fold = Fold::new(self.table.clone());
        let mut model = Some(Rows::new());
        let mut versions = Versions::default();
        let mut operations = self.reads();
        // `None`: all keys.
        let asked_for: Option<BTreeSet<Key>> =
            operations.iter().map(keys_of).collect::<Option<Vec<_>>>().map(|keys| keys.into_iter().flatten().collect());
        let mut held = self.held.iter().copied().peekable();
        self.check_rows(&mut held, 0, fold.rows(), found);
        for unit in units(batches) {
            let (bucket, offset, end) = (self.bucket, unit.offset, unit.end);
            if let Err(anomaly) = fold.take(&unit.changes) {
                found.add(anomaly.name, || format!("b{bucket} at offset={offset}: {}", anomaly.detail));
                return false;
            }
            if let Some((put, sent)) = self.put(&unit) {
                if model.as_mut().is_some_and(|rows| !self.check_merge(rows, put, &unit, found)) {
                    model = None;
                }
                let name = format!("the put at offset={offset} of b{bucket}");
                operations.push(Operation { asked: sent.invoked, answered: sent.acked, what: What::Write { place: end }, name });
            }
            let keys: BTreeSet<_> = unit.changes.iter().map(|change| self.table.key(&change.row)).collect();
            let is_asked_for = |key: &&Key| asked_for.as_ref().is_none_or(|keys| keys.contains(*key));
            versions.push(end, keys.iter().filter(is_asked_for), fold.rows());
            self.check_rows(&mut held, end, fold.rows(), found);
        }
        for late in held {
            match late.log_end {
                None => self.check_fold(late, fold.rows(), found),
                Some(end) => self.check_end(late, end, found),
            }
        }
        if let Err(anomaly) = check_order(&versions, operations) {
            found.add(anomaly.name, || format!("b{}: {}", self.bucket, anomaly.detail));
        }
        found.count == before
    }

    fn reads(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let mut read = |what: &str, process: u64, asked: u64, answered: u64, cut: What| {
            let name = format!("the {what} of p{process} answered at {}", seconds(answered));
            operations.push(Operation { asked, answered: Some(answered), what: cut, name });
        };
        for lookup in self.facts.lookups.iter().filter(|lookup| lookup.bucket == self.bucket) {
            let found = lookup.keys.iter().cloned().zip(lookup.rows.iter().cloned()).collect();
            let cut = What::Cut(Cut { found, ..Cut::default() });
            read("lookup", lookup.process, lookup.asked, lookup.at, cut);
        }
        for scan in self.facts.scans.iter().filter(|scan| scan.bucket == self.bucket) {
            let found = scan.rows.iter().map(|row| (self.table.key(row), Some(row.clone()))).collect();
            let range = Some(KeyRange { prefix: scan.prefix.clone(), last: scan.last.cloned() });
            read("scan", scan.process, scan.asked, scan.at, What::Cut(Cut { found, range, place: scan.place }));
        }
        for count in self.facts.counted.iter().filter(|count| count.bucket == self.bucket) {
            read("count", count.process, count.asked, count.at, What::Count { rows: count.rows });
        }
        operations
    }

    fn put(&self, unit: &Unit<'_>) -> Option<(&Batch, &Sent<'_>)> {
        let Stamp::By(value) = unit.stamp else { return None };
        let sent = self.facts.batches.get(&(value.writer, value.sequence))?;
        match sent.content {
            Content::Put(batch) => Some((batch, sent)),
            Content::Rows(_) => None,
        }
    }

    /// The changes are those that the put makes of the rows before it.
    fn check_merge(&self, rows: &mut Rows, put: &Batch, unit: &Unit<'_>, found: &mut Found) -> bool {
        let expected = match self.facts.numbered.get(&self.bucket) {
            Some(numbered) => self.table.run_numbered(rows, put, numbered.column, &unit.changes),
            None => self.table.run(rows, put),
        };
        let changes = &unit.changes[..];
        let differ = (0..expected.len().max(changes.len())).find(|at| expected.get(*at) != changes.get(*at));
        let Some(at) = differ else { return true };
        let text = |change: Option<&Change>| change.map_or_else(|| "nothing".to_owned(), Change::to_string);
        let (is, must) = (text(changes.get(at)), text(expected.get(at)));
        let (bucket, offset, stamp, columns) = (self.bucket, unit.offset, unit.stamp, &put.columns);
        found.add("wrong merge", || {
            format!("{stamp} (columns {columns:?}) at offset={offset} of b{bucket}: change {at} is {is}, expected {must}")
        });
        false
    }

    /// Those that stand at this place or before.
    fn check_rows<'h, 'a: 'h>(
        &self,
        held: &mut std::iter::Peekable<impl Iterator<Item = &'h Held<'a>>>,
        end: i64,
        rows: &Rows,
        found: &mut Found,
    ) {
        while let Some(one) = held.next_if(|one| one.log_end.is_some_and(|at| at <= end)) {
            match one.log_end {
                Some(at) if at < end => self.check_end(one, at, found),
                _ => self.check_fold(one, rows, found),
            }
        }
    }

    fn check_end(&self, held: &Held<'_>, end: i64, found: &mut Found) {
        let (by, bucket, at) = (held.by, self.bucket, seconds(held.at));
        found.add("wrong rows", || format!("rows of b{bucket} on {by} ({at}) stand at log_end={end}, no batch ends there"));
    }

    fn check_fold(&self, held: &Held<'_>, rows: &Rows, found: &mut Found) {
        if held.rows.len() == rows.len() && held.rows.iter().eq(rows.values()) {
            return;
        }
        let there: Rows = held.rows.iter().map(|row| (self.table.key(row), row.clone())).collect();
        let differs = rows.keys().chain(there.keys()).find(|key| rows.get(*key) != there.get(*key));
        let text = |row: Option<&Row>| row.map_or_else(|| "nothing".to_owned(), |row| show(row));
        let detail = match differs {
            Some(key) => format!("{} is {}, the changelog folds to {}", show(key), text(there.get(key)), text(rows.get(key))),
            None if there.len() == held.rows.len() => return,
            None => "a key comes twice".to_owned(),
        };
        let (by, bucket, at, end) = (held.by, self.bucket, seconds(held.at), held.log_end);
        found.add("wrong rows", || format!("b{bucket} on {by} ({at}) at log_end={end:?}: {detail}"));
    }
}

/// The only keys that an operation is about.
fn keys_of(operation: &Operation) -> Option<BTreeSet<Key>> {
    match &operation.what {
        What::Cut(Cut { found, range: None, .. }) => Some(found.keys().cloned().collect()),
        What::Write { .. } => Some(BTreeSet::new()),
        What::Read { key, .. } => Some(BTreeSet::from([key.clone()])),
        What::Cut(_) | What::Count { .. } => None,
    }
}

/// Changes that take effect together.
pub(crate) struct Unit<'a> {
    pub offset: i64,
    pub end: i64,
    pub stamp: &'a Stamp,
    pub changes: Cow<'a, [Change]>,
}

/// Batches as they are stored; where only rows are seen, a row, or a pair of an update.
pub(crate) fn units(batches: &[Logged]) -> Vec<Unit<'_>> {
    use crate::table::Kind;
    let mut units: Vec<Unit<'_>> = Vec::new();
    for batch in batches {
        let stamp = batch.stamps.first().unwrap_or(&Stamp::Untold);
        let new = Unit { offset: batch.base_offset, end: batch.end(), stamp, changes: Cow::Borrowed(&batch.changes[..]) };
        let is_second = |before: &&mut Unit<'_>| {
            matches!(before.changes[..], [Change { kind: Kind::UpdateBefore, .. }])
                && matches!(new.changes[..], [Change { kind: Kind::UpdateAfter, .. }])
                && (before.stamp, stamp) == (&Stamp::Untold, &Stamp::Untold)
        };
        match units.last_mut().filter(is_second) {
            Some(before) => {
                before.end = new.end;
                before.changes.to_mut().extend_from_slice(&new.changes);
            }
            None => units.push(new),
        }
    }
    units
}
