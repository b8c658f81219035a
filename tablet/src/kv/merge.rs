//! What becomes of a row when an upsert or a delete meets it. Pure: rows of the latest schema in, a row out.
//!
//! Source: semantics.md 2 to 2.3.

use super::aggregate::compare;
use super::row::Row;
use super::table::{Engine, KvTable};
use floss_protocol::mutant;
use floss_protocol::row::Value;

/// Which columns a put speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    All,
    /// One flag per column of the latest schema; primary key columns are among them.
    Some(Vec<bool>),
}

/// What an upsert does.
#[derive(Debug, PartialEq)]
pub(super) enum Merged {
    /// The stored row stays: no change, no changelog.
    Keep,
    Row(Row),
}

/// What a delete does to a row that exists.
#[derive(Debug, PartialEq)]
pub(super) enum Deleted {
    Row,
    /// Only its target columns were set to null.
    Reduced(Row),
}

/// The row that a first upsert stores: columns that it does not speak of are null.
pub(super) fn insert(columns: &Columns, mut new: Row) -> Row {
    if let Columns::Some(targets) = columns {
        for (value, _) in new.iter_mut().zip(targets).filter(|(_, target)| !**target) {
            *value = Value::Null;
        }
    }
    new
}

/// `overwrite`: the table's engine is not asked, the new row replaces the old one.
///
/// Errors: a value that the column's aggregation function cannot take.
pub(super) fn upsert(table: &KvTable, overwrite: bool, columns: &Columns, old: &Row, new: Row) -> Result<Merged, String> {
    let engine = if overwrite { &Engine::Replace } else { &table.engine };
    match (engine, columns) {
        (Engine::FirstRow, _) => Ok(Merged::Keep),
        (Engine::Versioned { column }, _) => {
            Ok(if is_older(&new[*column], &old[*column]) { Merged::Keep } else { Merged::Row(new) })
        }
        (_, Columns::Some(_)) if is_key_only(table, columns) => Ok(Merged::Keep),
        (Engine::Replace, Columns::All) => Ok(Merged::Row(new)),
        (Engine::Replace, Columns::Some(targets)) => {
            let kept = |old: &Value| if mutant!("K07") { Value::Null } else { old.clone() };
            let merged = new.into_iter().zip(old).zip(targets);
            Ok(Merged::Row(merged.map(|((new, old), target)| if *target { new } else { kept(old) }).collect()))
        }
        (Engine::Aggregation { functions }, columns) => {
            let mut merged = old.clone();
            for (at, (new, function)) in new.into_iter().zip(functions).enumerate() {
                if table.primary_key.contains(&at) {
                    merged[at] = new;
                } else if is_target(columns, at) {
                    merged[at] = function.combine(&old[at], &new)?;
                }
            }
            Ok(Merged::Row(merged))
        }
    }
}

/// A row that exists is deleted as far as `columns` says.
pub(super) fn delete(table: &KvTable, columns: &Columns, old: &Row) -> Deleted {
    let Columns::Some(targets) = columns else { return Deleted::Row };
    if old.iter().zip(targets).all(|(value, target)| *target || value.is_null()) {
        return Deleted::Row;
    }
    let mut reduced = old.clone();
    for (at, value) in reduced.iter_mut().enumerate() {
        if targets[at] && !table.primary_key.contains(&at) {
            *value = Value::Null;
        }
    }
    Deleted::Reduced(reduced)
}

fn is_target(columns: &Columns, at: usize) -> bool {
    match columns {
        Columns::All => true,
        Columns::Some(targets) => targets[at],
    }
}

fn is_key_only(table: &KvTable, columns: &Columns) -> bool {
    match columns {
        Columns::All => false,
        Columns::Some(targets) => targets.iter().enumerate().all(|(at, target)| !target || table.primary_key.contains(&at)),
    }
}

/// Null is the smallest version; an equal one replaces.
fn is_older(new: &Value, old: &Value) -> bool {
    match (new.is_null(), old.is_null()) {
        (_, true) => false,
        (true, false) => true,
        (false, false) if mutant!("K13") => compare(new, old).is_le(),
        (false, false) => compare(new, old).is_lt(),
    }
}
