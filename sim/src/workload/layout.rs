//! The columns of a primary-key table of the workload. There are four kinds: the key has one or two columns, and rows are numbered or not.

use crate::plan::KeyedTable;
use arrow_schema::{DataType as Arrow, Field, Schema};
use floss_checker::{Cell, Function, Key, Row};
use floss_protocol::row;
use floss_protocol::schema::{DataType, TypeKind};
use std::sync::{Arc, OnceLock};

/// Which bytes the parts of a key stand for: the first one is the largest byte there is, and its neighbour follows.
const PART_BYTES: [i64; 4] = [255, 0, 254, 1];

/// A column.
pub struct Column {
    pub name: &'static str,
    /// As descriptors call it.
    pub kind: &'static str,
    /// How an aggregating table treats it.
    pub function: Option<(&'static str, Function)>,
}

const fn column(name: &'static str, kind: &'static str, function: &'static str, of: Function) -> Column {
    Column { name, kind, function: Some((function, of)) }
}

const PART: Column = Column { name: "part", kind: "TINYINT", function: None };
const ID: Column = Column { name: "id", kind: "INTEGER", function: None };
/// Who wrote the row, its version, a sum, and a text that may be null.
const VALUES: [Column; 4] = [
    column("stamp", "STRING", "last_value", Function::Last),
    column("version", "BIGINT", "max", Function::Max),
    column("amount", "BIGINT", "sum", Function::Sum),
    column("note", "STRING", "last_value_ignore_nulls", Function::LastNonNull),
];
/// Given by the server.
const NUMBER: Column = Column { name: "number", kind: "BIGINT", function: None };
/// What partial updates speak of, beside the key: places in `VALUES`.
const PARTIAL: [&[usize]; 4] = [&[0, 2], &[1, 3], &[0], &[]];

pub struct Layout {
    pub columns: Vec<Column>,
    /// The key columns are the first ones.
    pub key_len: usize,
    /// The auto-increment column.
    pub numbered: Option<usize>,
    pub types: Vec<DataType>,
    pub arrow: Arc<Schema>,
}

impl Layout {
    pub fn of(table: &KeyedTable) -> &'static Self {
        static LAYOUTS: [OnceLock<Layout>; 4] = [const { OnceLock::new() }; 4];
        let (has_parts, is_numbered) = (table.parts > 0, table.numbers_at_once > 0);
        LAYOUTS[usize::from(has_parts) + 2 * usize::from(is_numbered)].get_or_init(|| Self::new(has_parts, is_numbered))
    }

    fn new(has_parts: bool, is_numbered: bool) -> Self {
        let columns: Vec<Column> =
            has_parts.then_some(PART).into_iter().chain([ID]).chain(VALUES).chain(is_numbered.then_some(NUMBER)).collect();
        let key_len = 1 + usize::from(has_parts);
        let of_type = |(at, column): (usize, &Column)| DataType { kind: type_kind(column.kind), nullable: at >= key_len };
        let types: Vec<DataType> = columns.iter().enumerate().map(of_type).collect();
        let fields: Vec<Field> = columns.iter().map(|column| Field::new(column.name, arrow_type(column.kind), true)).collect();
        let numbered = is_numbered.then_some(columns.len() - 1);
        Self { columns, key_len, numbered, types, arrow: Arc::new(Schema::new(fields)) }
    }

    /// The column whose larger number wins in a versioned table.
    pub fn version(&self) -> usize {
        self.key_len + 1
    }

    /// What a partial update speaks of.
    pub fn partial(&self, kind: u64) -> Vec<usize> {
        let values = PARTIAL[kind as usize % PARTIAL.len()];
        (0..self.key_len).chain(values.iter().map(|value| self.key_len + value)).collect()
    }

    pub fn partial_kinds(&self) -> u64 {
        PARTIAL.len() as u64
    }

    /// All columns that clients may set, if there are others.
    pub fn settable(&self) -> Option<Vec<usize>> {
        self.numbered.map(|numbered| (0..numbered).collect())
    }

    pub fn key(&self, row: &Row) -> Key {
        row[..self.key_len].to_vec()
    }

    /// A part of a key, by its number.
    pub fn part(number: u64) -> Cell {
        Cell::Int(PART_BYTES[number as usize % PART_BYTES.len()])
    }

    /// The form in which a cell travels. Parts are shown without a sign, so that they are ordered as their bytes are.
    pub fn wire(&self, at: usize, cell: &Cell) -> row::Value {
        match (cell, &self.types[at].kind) {
            (Cell::Null, _) => row::Value::Null,
            (Cell::Int(number), TypeKind::TinyInt) => row::Value::TinyInt(*number as i8),
            (Cell::Int(number), TypeKind::Int) => row::Value::Int(*number as i32),
            (Cell::Int(number), _) => row::Value::BigInt(*number),
            (Cell::Text(text), _) => row::Value::Text(text.clone()),
        }
    }

    pub fn json(&self, is_aggregating: bool) -> String {
        let json = |(at, column): (usize, &Column)| {
            let nullable = if at < self.key_len { r#","nullable":false"# } else { "" };
            let function = column.function.filter(|_| is_aggregating);
            let function = function.map_or_else(String::new, |(name, _)| format!(r#","agg_function":{{"type":"{name}"}}"#));
            let Column { name, kind, .. } = column;
            format!(r#"{{"name":"{name}","data_type":{{"type":"{kind}"{nullable}}},"id":{at}{function}}}"#)
        };
        let columns: Vec<String> = self.columns.iter().enumerate().map(json).collect();
        let key: Vec<String> = self.columns[..self.key_len].iter().map(|column| format!(r#""{}""#, column.name)).collect();
        let numbered = self.numbered.map(|at| format!(r#","auto_increment_column":["{}"]"#, self.columns[at].name));
        format!(
            r#"{{"version":1,"columns":[{}],"primary_key":[{}]{},"highest_field_id":{}}}"#,
            columns.join(","),
            key.join(","),
            numbered.unwrap_or_default(),
            self.columns.len() - 1
        )
    }
}

fn type_kind(name: &str) -> TypeKind {
    match name {
        "TINYINT" => TypeKind::TinyInt,
        "INTEGER" => TypeKind::Int,
        "BIGINT" => TypeKind::BigInt,
        _ => TypeKind::String,
    }
}

fn arrow_type(name: &str) -> Arrow {
    match name {
        "TINYINT" => Arrow::Int8,
        "INTEGER" => Arrow::Int32,
        "BIGINT" => Arrow::Int64,
        _ => Arrow::Utf8,
    }
}
