//! Whose write a change was, where the changelog does not say: clients that see rows, not batches. Possible because each key has one
//! writer: its changes are its writes in their order, without some of those whose outcome is unknown. Whole rows only.

use crate::anomaly::Found;
use crate::facts::{Content, Facts};
use crate::history::{Stamp, Writer};
use crate::keyed::units;
use crate::log::Logs;
use crate::table::{Engine, Key, Kind, Op, Row, show};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One write to a key.
struct Put<'a> {
    /// `None`: a delete.
    row: Option<&'a Row>,
    acked: bool,
    name: (Writer, i64),
}

/// Offset, and the row from there on.
type Changed<'a> = (i64, Option<Cow<'a, Row>>);

pub(crate) fn check(facts: &Facts<'_>, logs: &Logs<'_>, found: &mut Found) {
    let mut changes: BTreeMap<Key, Vec<Changed<'_>>> = BTreeMap::new();
    let mut table = None;
    for (bucket, of) in &facts.tables {
        let Some(whole) = logs.of.get(bucket).and_then(|log| log.whole) else { continue };
        if of.engine != Engine::Replace || whole.batches.iter().any(|batch| matches!(batch.stamps.first(), Some(Stamp::By(_)))) {
            return;
        }
        table = Some(of);
        for unit in units(whole.batches) {
            let (key, change) = match unit.changes {
                Cow::Borrowed(changes) => {
                    let Some(change) = changes.last() else { continue };
                    (of.key(&change.row), (change.kind != Kind::Delete).then_some(Cow::Borrowed(&change.row)))
                }
                Cow::Owned(mut changes) => {
                    let Some(change) = changes.pop() else { continue };
                    (of.key(&change.row), (change.kind != Kind::Delete).then_some(Cow::Owned(change.row)))
                }
            };
            changes.entry(key).or_default().push((unit.offset, change));
        }
    }
    let Some(table) = table else { return };
    let mut puts: BTreeMap<Key, Vec<(u64, Put<'_>)>> = BTreeMap::new();
    for (name, sent) in &facts.batches {
        let Content::Put(batch) = sent.content else { continue };
        for op in &batch.ops {
            let (key, row) = match op {
                Op::Upsert(row) => (table.key(row), Some(row)),
                Op::Delete(key) => (key.clone(), None),
            };
            let put = Put { row, acked: sent.acked.is_some(), name: *name };
            puts.entry(key).or_default().push((sent.invoked, put));
        }
    }
    for (key, of_key) in &mut puts {
        of_key.sort_by_key(|(invoked, put)| (*invoked, put.name));
        check_key(key, of_key, changes.get(key).map_or(&[], Vec::as_slice), found);
    }
    for (key, _) in changes.iter().filter(|(key, _)| !puts.contains_key(*key)) {
        found.add("phantom", || format!("{} is in a changelog and was never written", show(key)));
    }
}

fn check_key(key: &Key, puts: &[(u64, Put<'_>)], changes: &[Changed<'_>], found: &mut Found) {
    let key = || show(key);
    let mut left = puts.iter().map(|(_, put)| put);
    for (offset, row) in changes {
        let row = row.as_deref();
        loop {
            match left.next() {
                None if puts.iter().any(|(_, put)| put.row == row) => {
                    return found.add("duplicate", || format!("a write of key {} takes effect again at offset={offset}", key()));
                }
                None => return found.add("phantom", || format!("nobody wrote what key {} is at offset={offset}", key())),
                Some(put) if put.row == row => break,
                Some(put) if put.acked => {
                    let (writer, sequence) = put.name;
                    let detail =
                        || format!("w{writer} #{sequence} of key {} was acknowledged; at offset={offset} is a later one", key());
                    found.add("lost write", detail);
                }
                Some(_) => {}
            }
        }
    }
    for put in left.filter(|put| put.acked) {
        let (writer, sequence) = put.name;
        found.add("lost write", || format!("w{writer} #{sequence} of key {} was acknowledged and is nowhere", key()));
    }
}
