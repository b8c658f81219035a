//! A primary-key bucket as plain rows: written from the rules, not from the code.

use floss_protocol::log_batch::ChangeType::{self, Delete, Insert, UpdateAfter, UpdateBefore};
use floss_protocol::row::Value;
use std::collections::BTreeMap;

pub type Row = Vec<Value>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Engine {
    None,
    FirstRow,
    /// By this column.
    Versioned(usize),
    Aggregation,
}

#[derive(Clone, Debug)]
pub struct Rules {
    pub engine: Engine,
    pub wal: bool,
    /// Of the primary key, in front.
    pub key_columns: usize,
    pub columns: usize,
    /// Per column, for aggregation.
    pub functions: Vec<&'static str>,
    /// Of decimal columns.
    pub scales: Vec<Option<(u8, u8)>>,
    pub delete: &'static str,
    pub auto_increment: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Record {
    /// Its key columns are the key.
    pub row: Row,
    pub is_delete: bool,
}

#[derive(Debug, PartialEq)]
pub enum Refused {
    DeletionDisabled,
}

/// Rows by the text of their key.
pub type Table = BTreeMap<String, Row>;

pub fn key(rules: &Rules, row: &[Value]) -> String {
    format!("{:?}", &row[..rules.key_columns])
}

/// The changes of one batch; `table` and `next_id` move on.
pub fn put(
    rules: &Rules,
    table: &mut Table,
    next_id: &mut i64,
    records: &[Record],
    targets: Option<&[usize]>,
    overwrite: bool,
) -> Result<Vec<(ChangeType, Row)>, Refused> {
    let mut changes = Vec::new();
    for record in records {
        let key = key(rules, &record.row);
        let old = table.get(&key).cloned();
        let is_blind = rules.wal && rules.engine == Engine::None && targets.is_none() && rules.auto_increment.is_none();
        let new = if record.is_delete {
            match if overwrite { "ALLOW" } else { rules.delete } {
                "IGNORE" => continue,
                "DISABLE" => return Err(Refused::DeletionDisabled),
                _ => {}
            }
            let Some(old) = &old else { continue };
            after_delete(rules, old, targets)
        } else {
            match after_upsert(rules, old.as_ref(), &record.row, targets, overwrite, next_id) {
                Some(row) => Some(row),
                None => continue,
            }
        };
        match (&old, &new) {
            (None, None) => unreachable!(),
            (_, Some(new)) if is_blind && !record.is_delete => changes.push((UpdateAfter, new.clone())),
            (None, Some(new)) => changes.push((Insert, new.clone())),
            (Some(old), None) => changes.push((Delete, old.clone())),
            (Some(old), Some(new)) => {
                if !rules.wal {
                    changes.push((UpdateBefore, old.clone()));
                }
                changes.push((UpdateAfter, new.clone()));
            }
        }
        match new {
            Some(new) => drop(table.insert(key, new)),
            None => drop(table.remove(&key)),
        }
    }
    Ok(changes)
}

fn after_delete(rules: &Rules, old: &Row, targets: Option<&[usize]>) -> Option<Row> {
    let targets = targets?;
    let others_are_null = (0..rules.columns).filter(|at| !targets.contains(at)).all(|at| old[at] == Value::Null);
    if others_are_null {
        return None;
    }
    let mut row = old.clone();
    for at in targets.iter().filter(|at| **at >= rules.key_columns) {
        row[*at] = Value::Null;
    }
    Some(row)
}

/// `None`: the old row stays.
fn after_upsert(
    rules: &Rules,
    old: Option<&Row>,
    new: &Row,
    targets: Option<&[usize]>,
    overwrite: bool,
    next_id: &mut i64,
) -> Option<Row> {
    let is_target = |at: usize| targets.is_none_or(|targets| targets.contains(&at));
    let Some(old) = old else {
        let mut row: Row = (0..rules.columns).map(|at| if is_target(at) { new[at].clone() } else { Value::Null }).collect();
        if let Some(column) = rules.auto_increment {
            row[column] = Value::BigInt(*next_id);
            *next_id += 1;
        }
        return Some(row);
    };
    let engine = if overwrite { Engine::None } else { rules.engine };
    match engine {
        Engine::FirstRow => return None,
        Engine::Versioned(column) => {
            let rank = |value: &Value| match value {
                Value::Int(number) => (1, i64::from(*number)),
                Value::BigInt(number) => (1, *number),
                _ => (0, 0),
            };
            return (rank(&new[column]) >= rank(&old[column])).then(|| new.clone());
        }
        Engine::None | Engine::Aggregation => {}
    }
    if targets.is_some_and(|targets| targets.iter().all(|at| *at < rules.key_columns)) {
        return None;
    }
    let column = |at: usize| {
        if !is_target(at) {
            return old[at].clone();
        }
        if engine == Engine::Aggregation && at >= rules.key_columns {
            return aggregate(rules.functions[at], rules.scales[at], &old[at], &new[at]);
        }
        new[at].clone()
    };
    Some((0..rules.columns).map(column).collect())
}

fn aggregate(function: &str, scale: Option<(u8, u8)>, old: &Value, new: &Value) -> Value {
    let old_or_new = |take_new: bool| if take_new { new.clone() } else { old.clone() };
    match function {
        "last_value" => return new.clone(),
        "" | "last_value_ignore_nulls" => return old_or_new(*new != Value::Null),
        "first_value" | "first_value_ignore_nulls" => return old_or_new(*old == Value::Null),
        _ => {}
    }
    match (old, new) {
        (Value::Null, _) => return new.clone(),
        (_, Value::Null) => return old.clone(),
        _ => {}
    }
    match (function, old, new) {
        ("listagg", Value::Text(old), Value::Text(new)) => Value::Text(format!("{old},{new}")),
        ("bool_and", Value::Boolean(old), Value::Boolean(new)) => Value::Boolean(old & new),
        ("bool_or", Value::Boolean(old), Value::Boolean(new)) => Value::Boolean(old | new),
        ("max", _, _) => old_or_new(rank(new) > rank(old)),
        ("min", _, _) => old_or_new(rank(old) >= rank(new)),
        ("sum" | "product", Value::Decimal(old), Value::Decimal(new)) => {
            let (precision, scale) = scale.expect("a decimal column");
            decimal(function, *old, *new, precision, scale)
        }
        ("sum", Value::Double(old), Value::Double(new)) => Value::Double(old + new),
        ("product", Value::Double(old), Value::Double(new)) => Value::Double(old * new),
        ("sum" | "product", _, _) => {
            let wide = |value: &Value| match value {
                Value::TinyInt(number) => i128::from(*number),
                Value::Int(number) => i128::from(*number),
                Value::BigInt(number) => i128::from(*number),
                other => panic!("{other:?}"),
            };
            let exact = if function == "sum" { wide(old) + wide(new) } else { wide(old) * wide(new) };
            match old {
                Value::TinyInt(_) => Value::TinyInt(exact as i8),
                Value::Int(_) => Value::Int(exact as i32),
                _ => Value::BigInt(exact as i64),
            }
        }
        other => panic!("{other:?}"),
    }
}

/// Numbers here are small: exact in 128 bits.
fn decimal(function: &str, old: i128, new: i128, precision: u8, scale: u8) -> Value {
    let unit = 10_i128.pow(u32::from(scale));
    let exact = if function == "sum" {
        old + new
    } else {
        let product = old * new;
        let half_up = (product.abs() + unit / 2) / unit;
        half_up * product.signum()
    };
    if exact.abs() < 10_i128.pow(u32::from(precision)) { Value::Decimal(exact) } else { Value::Null }
}

/// Order among values of one type, as text that sorts.
fn rank(value: &Value) -> (i128, Vec<u8>) {
    match value {
        Value::TinyInt(number) => (i128::from(*number), vec![]),
        Value::Int(number) | Value::Date(number) | Value::Time(number) => (i128::from(*number), vec![]),
        Value::BigInt(number) => (i128::from(*number), vec![]),
        Value::Decimal(number) => (*number, vec![]),
        Value::Double(number) => ((*number * 16.0) as i128, vec![]),
        Value::Timestamp { ms, nanos } => (i128::from(*ms) * 1_000_000 + i128::from(*nanos), vec![]),
        Value::Text(text) => (0, text.as_bytes().to_vec()),
        other => panic!("{other:?}"),
    }
}
