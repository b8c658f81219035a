//! Rows of plain cells, what clients ask to do with them, and what a changelog says was done.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// One value of a row. Two types are enough to tell right from wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    Null,
    Int(i64),
    Text(String),
}

/// All columns, in order.
pub type Row = Vec<Cell>;
/// The cells of the key columns, in their order.
pub type Key = Vec<Cell>;
/// Live rows.
pub type Rows = BTreeMap<Key, Row>;

/// What an upsert of an existing row does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    Replace,
    FirstRow,
    /// A smaller number in this column loses.
    Versioned(usize),
    /// One per column; those of key columns are not looked at.
    Aggregation(Vec<Function>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    Last,
    LastNonNull,
    FirstNonNull,
    Max,
    Sum,
}

/// Whether updates say what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    Full,
    Wal,
}

/// The rules of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Positions of the primary key.
    pub key_columns: Vec<usize>,
    pub engine: Engine,
    pub image: Image,
    /// False: deletes are skipped silently.
    pub deletes: bool,
}

impl Table {
    pub fn key(&self, row: &Row) -> Key {
        self.key_columns.iter().map(|column| row[*column].clone()).collect()
    }
}

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Upsert(Row),
    Delete(Key),
}

/// What a client sends at once: takes effect whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub ops: Vec<Op>,
    /// Columns that it speaks of, the key columns among them; `None` = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<usize>>,
}

/// What a record of a changelog says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    #[serde(rename = "+I")]
    Insert,
    #[serde(rename = "-U")]
    UpdateBefore,
    #[serde(rename = "+U")]
    UpdateAfter,
    #[serde(rename = "-D")]
    Delete,
    /// No changelog at all, a plain log.
    #[serde(rename = "+A")]
    Append,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub kind: Kind,
    pub row: Row,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "-"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:.24}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
            Self::Append => "+A",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind, show(&self.row))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upsert(row) => write!(f, "put{}", show(row)),
            Self::Delete(key) => write!(f, "delete{}", show(key)),
        }
    }
}

/// Cells for people: `(7, w1#3.0:aa, -)`.
pub fn show(cells: &[Cell]) -> String {
    let cells: Vec<String> = cells.iter().map(Cell::to_string).collect();
    format!("({})", cells.join(", "))
}
