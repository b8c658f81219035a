//! Random tables and rows.

use crate::model::{Engine, Rules};
use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::row::Value;
use floss_protocol::schema::{AggFunction, Column, DataType, RowField, Schema, TableDescriptor, TypeKind};
use floss_tablet::kv::table::KvTable;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table, and what the model knows of it.
#[derive(Clone, Debug)]
pub struct Made {
    pub table: Arc<KvTable>,
    pub rules: Rules,
    /// Of the latest schema.
    pub types: Vec<DataType>,
    /// Columns of schema 1: the last one may be missing there.
    pub columns_before: usize,
    pub indexed: bool,
    pub arrow_log: bool,
}

/// Numbers that shape a table.
#[derive(Clone, Debug)]
pub struct Shape {
    pub engine: u8,
    pub wal: bool,
    pub format: u8,
    pub codec: u8,
    pub delete: u8,
    pub two_keys: bool,
    pub auto_increment: bool,
    pub evolved: bool,
    pub columns: Vec<u8>,
    pub functions: Vec<u8>,
}

pub fn shape() -> impl Strategy<Value = Shape> {
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
    let columns = (prop::collection::vec(0..KINDS, 1..6), prop::collection::vec(any::<u8>(), 6));
    (0..4_u8, 0..4_u8, 0..3_u8, 0..3_u8, flags, columns).prop_map(
        |(engine, format, codec, delete, (wal, two_keys, auto_increment, evolved), (columns, functions))| Shape {
            engine,
            wal,
            format,
            codec,
            delete,
            two_keys,
            auto_increment,
            evolved,
            columns,
            functions,
        },
    )
}

const KINDS: u8 = 17;

fn kind(number: u8) -> TypeKind {
    let field = |name: &str, kind: TypeKind| RowField {
        name: name.to_owned(),
        data_type: kind.into(),
        description: None,
        field_id: None,
    };
    match number {
        0 => TypeKind::Boolean,
        1 => TypeKind::TinyInt,
        2 => TypeKind::Int,
        3 => TypeKind::BigInt,
        4 => TypeKind::Double,
        5 => TypeKind::String,
        6 => TypeKind::Char(60),
        7 => TypeKind::Bytes,
        8 => TypeKind::Binary(3),
        9 => TypeKind::Decimal { precision: 6, scale: 2 },
        10 => TypeKind::Decimal { precision: 25, scale: 3 },
        11 => TypeKind::Date,
        12 => TypeKind::Time(0),
        13 => TypeKind::Timestamp(6),
        14 => TypeKind::TimestampLtz(9),
        15 => TypeKind::Array(Box::new(TypeKind::Int.into())),
        _ => TypeKind::Row(vec![
            field("a", TypeKind::String),
            field("b", TypeKind::Map(Box::new(DataType::not_null(TypeKind::Int)), Box::new(TypeKind::String.into()))),
        ]),
    }
}

fn functions(kind: &TypeKind) -> Vec<&'static str> {
    let mut all = vec!["", "last_value", "last_value_ignore_nulls", "first_value", "first_value_ignore_nulls"];
    match kind {
        TypeKind::Boolean => all.extend(["bool_and", "bool_or"]),
        TypeKind::TinyInt | TypeKind::Int | TypeKind::BigInt | TypeKind::Double | TypeKind::Decimal { .. } => {
            all.extend(["sum", "product", "max", "min", "sum", "product"]);
        }
        TypeKind::String => all.extend(["listagg", "max", "min"]),
        TypeKind::Date | TypeKind::Time(_) | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => all.extend(["max", "min"]),
        _ => {}
    }
    all
}

/// `None` if there is no such table.
pub fn make(shape: &Shape) -> Option<Made> {
    let mut columns = vec![Column::new("k", DataType::not_null(TypeKind::Int))];
    if shape.two_keys {
        columns.push(Column::new("l", DataType::not_null(TypeKind::String)));
    }
    let key_columns = columns.len();
    let primary_key: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let engine = match shape.engine {
        0 => Engine::None,
        1 => Engine::FirstRow,
        2 => Engine::Versioned(key_columns),
        _ => Engine::Aggregation,
    };
    if engine == Engine::Aggregation && shape.wal {
        return None;
    }
    for (at, number) in shape.columns.iter().enumerate() {
        let kind = if at == 0 && shape.engine == 2 { TypeKind::BigInt } else { kind(*number) };
        let mut column = Column::new(format!("c{at}"), kind);
        if engine == Engine::Aggregation {
            let all = functions(&column.data_type.kind);
            let name = all[usize::from(shape.functions[at]) % all.len()];
            let function = AggFunction { name: name.to_owned(), parameters: BTreeMap::new() };
            column.agg_function = (!name.is_empty()).then_some(function);
        }
        columns.push(column);
    }
    // First row and versioned tables take no partial updates, which an auto-increment column needs.
    let auto_increment = shape.auto_increment && matches!(engine, Engine::None | Engine::Aggregation);
    if auto_increment {
        columns.push(Column::new("id", DataType::not_null(TypeKind::BigInt)));
    }
    let function = |column: &Column| column.agg_function.as_ref().map_or("", |function| FUNCTIONS[find(&function.name)]);
    let functions = columns.iter().map(function).collect();
    let types: Vec<DataType> = columns.iter().map(|column| column.data_type.clone()).collect();
    let evolved = shape.evolved && !auto_increment && columns.len() > key_columns + 1;
    let columns_before = columns.len() - usize::from(evolved);
    let id_column = auto_increment.then(|| "id".to_owned());
    let schema = |columns: &[Column]| Schema::with_keys(columns.to_vec(), primary_key.clone(), id_column.clone(), None).unwrap();
    let mut schemas = BTreeMap::from([(SchemaId(1), schema(&columns[..columns_before]))]);
    if evolved {
        schemas.insert(SchemaId(2), schema(&columns));
    }
    let (indexed, arrow_log) = (shape.format >= 2, shape.format.is_multiple_of(2));
    let own_format = if indexed { "INDEXED" } else { "COMPACTED" };
    let mut table = TableDescriptor::new(schema(&columns));
    let mut set = |key: &str, value: &str| drop(table.properties.insert(key.to_owned(), value.to_owned()));
    set("table.kv.format", own_format);
    set("table.log.format", if arrow_log { "ARROW" } else { own_format });
    set("table.log.arrow.compression.type", ["NONE", "LZ4_FRAME", "ZSTD"][usize::from(shape.codec)]);
    set("table.changelog.image", if shape.wal { "WAL" } else { "FULL" });
    let delete = ["ALLOW", "IGNORE", "DISABLE"][usize::from(shape.delete)];
    set("table.delete.behavior", delete);
    match engine {
        Engine::None => {}
        Engine::FirstRow => set("table.merge-engine", "FIRST_ROW"),
        Engine::Versioned(_) => {
            set("table.merge-engine", "VERSIONED");
            set("table.merge-engine.versioned.ver-column", "c0");
        }
        Engine::Aggregation => set("table.merge-engine", "AGGREGATION"),
    }
    let scale = |of: &DataType| match of.kind {
        TypeKind::Decimal { precision, scale } => Some((precision, scale)),
        _ => None,
    };
    let rules = Rules {
        engine,
        wal: shape.wal,
        key_columns,
        columns: types.len(),
        functions,
        scales: types.iter().map(scale).collect(),
        delete,
        auto_increment: auto_increment.then(|| types.len() - 1),
    };
    let table = Arc::new(KvTable::new(&schemas, &table).unwrap());
    Some(Made { table, rules, types, columns_before, indexed, arrow_log })
}

const FUNCTIONS: [&str; 11] = [
    "last_value",
    "last_value_ignore_nulls",
    "first_value",
    "first_value_ignore_nulls",
    "bool_and",
    "bool_or",
    "sum",
    "product",
    "max",
    "min",
    "listagg",
];

fn find(name: &str) -> usize {
    FUNCTIONS.iter().position(|function| *function == name).unwrap()
}

/// A value of the column, from a number: few different ones, so that they meet again.
pub fn value(data_type: &DataType, number: u64) -> Value {
    if data_type.nullable && number.is_multiple_of(5) {
        return Value::Null;
    }
    let small = (number % 200) as i32 - 100;
    let text = || "xyz"[..(number % 4) as usize].to_owned();
    match &data_type.kind {
        TypeKind::Boolean => Value::Boolean(number.is_multiple_of(2)),
        TypeKind::TinyInt => Value::TinyInt(small as i8),
        TypeKind::Int => Value::Int(small.wrapping_mul(40_000_000)),
        TypeKind::BigInt => Value::BigInt(i64::from(small)),
        TypeKind::Double => Value::Double(f64::from(small % 4) / 4.0),
        TypeKind::String | TypeKind::Char(_) => Value::Text(text()),
        TypeKind::Bytes => Value::Bytes(Bytes::from(text())),
        TypeKind::Binary(length) => Value::Bytes(Bytes::from(vec![number as u8; *length as usize])),
        TypeKind::Decimal { .. } => Value::Decimal(i128::from(small) * 77),
        TypeKind::Date => Value::Date(small),
        TypeKind::Time(_) => Value::Time(small.abs() * 1_000),
        TypeKind::Timestamp(_) => Value::Timestamp { ms: i64::from(small), nanos: 1_000 * (number % 7) as i32 },
        TypeKind::TimestampLtz(_) => Value::Timestamp { ms: i64::from(small), nanos: (number % 7) as i32 },
        TypeKind::Array(element) => Value::Array((0..number % 4).map(|at| value(element, number + at)).collect()),
        TypeKind::Map(key, of) => Value::Map((1..number % 3).map(|at| (value(key, at), value(of, number + at))).collect()),
        TypeKind::Row(fields) => Value::Row(fields.iter().map(|field| value(&field.data_type, number / 2)).collect()),
        other => panic!("{other:?}"),
    }
}
