//! Rows of primary-key tables: what is written, and back from stored rows and changelog batches. Changelogs are decoded with arrow-rs,
//! stored rows with the wire format's own rows: neither shares code with what decides in the server.

use super::rows;
use crate::draw::Source;
use crate::history::{Value, WriterNo};
use crate::plan::{KeyedTable, KeyedWriter, Merge};
use arrow_array::{Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType as Arrow, Field, Schema};
use bytes::Bytes;
use floss_checker::{Batch, Cell, Change, Engine, Function, Image, Kind, Op, Row, Table};
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::{KvBatchBuilder, split_value};
use floss_protocol::log_batch::{ChangeType, LogBatch};
use floss_protocol::row::{self, decode_compacted_row, encode_compacted_row, encode_key};
use floss_protocol::schema::{DataType, TypeKind};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Column 0 is the key, 1 says who wrote the row, 2 is the version, 3 a sum, 4 a text that may be null.
const COLUMNS: [(&str, &str); 5] =
    [("id", "INTEGER"), ("stamp", "STRING"), ("version", "BIGINT"), ("amount", "BIGINT"), ("note", "STRING")];
/// How an aggregating table treats them.
const FUNCTIONS: [(&str, Function); 5] = [
    ("last_value", Function::Last),
    ("last_value", Function::Last),
    ("max", Function::Max),
    ("sum", Function::Sum),
    ("last_value_ignore_nulls", Function::LastNonNull),
];
const VERSION: usize = 2;
/// What partial updates speak of.
const PARTS: [&[usize]; 4] = [&[0, 1, 3], &[0, 2, 4], &[0, 1], &[0]];

/// The descriptor that CreateTable takes.
pub fn table_json(table: &KeyedTable) -> String {
    let column = |(at, (name, kind)): (usize, &(&str, &str))| {
        let nullable = if at == 0 { r#","nullable":false"# } else { "" };
        let function = match table.merge {
            Merge::Aggregation if at > 0 => format!(r#","agg_function":{{"type":"{}"}}"#, FUNCTIONS[at].0),
            _ => String::new(),
        };
        format!(r#"{{"name":"{name}","data_type":{{"type":"{kind}"{nullable}}},"id":{at}{function}}}"#)
    };
    let columns: Vec<String> = COLUMNS.iter().enumerate().map(column).collect();
    let mut properties = BTreeMap::from([("table.log.arrow.compression.type", "NONE")]);
    if table.wal {
        properties.insert("table.changelog.image", "WAL");
    }
    match table.merge {
        Merge::Replace => {}
        Merge::FirstRow => drop(properties.insert("table.merge-engine", "first_row")),
        Merge::Versioned => {
            properties.insert("table.merge-engine", "versioned");
            properties.insert("table.merge-engine.versioned.ver-column", COLUMNS[VERSION].0);
        }
        Merge::Aggregation => {
            properties.insert("table.merge-engine", "aggregation");
            properties.insert("table.delete.behavior", if table.deletes { "ALLOW" } else { "IGNORE" });
        }
    }
    let properties: Vec<String> = properties.iter().map(|(key, value)| format!(r#""{key}":"{value}""#)).collect();
    format!(
        r#"{{"version":1,"schema":{{"version":1,"columns":[{}],"primary_key":["id"],"highest_field_id":4}},"partition_key":[],"bucket_key":[],"bucket_count":{},"properties":{{{}}},"custom_properties":{{}}}}"#,
        columns.join(","),
        table.buckets,
        properties.join(",")
    )
}

/// The same rules for the checkers.
pub fn rules(table: &KeyedTable) -> Table {
    let engine = match table.merge {
        Merge::Replace => Engine::Replace,
        Merge::FirstRow => Engine::FirstRow,
        Merge::Versioned => Engine::Versioned(VERSION),
        Merge::Aggregation => Engine::Aggregation(FUNCTIONS.iter().map(|(_, function)| *function).collect()),
    };
    let image = if table.wal { Image::Wal } else { Image::Full };
    Table { key_columns: vec![0], engine, image, deletes: table.deletes }
}

/// The next batch of a writer.
pub fn draw_batch(draws: &Source, table: &KeyedTable, plan: &KeyedWriter, writer: WriterNo, sequence: i32) -> Batch {
    let columns = draws.chance(plan.partial_per_mille).then(|| draws.pick(&PARTS).to_vec());
    let records = draws.between(1, plan.records_max) as i32;
    let op = |index| {
        let key = Cell::Int(draws.below(table.keys) as i64);
        if draws.chance(plan.delete_per_mille) {
            return Op::Delete(vec![key]);
        }
        let letter = (b'a' + (index % 26) as u8) as char;
        let text = letter.to_string().repeat(draws.below(plan.text_bytes_max + 1) as usize);
        let number = |end| Cell::Int(draws.below(end) as i64);
        let note = if draws.chance(300) { Cell::Null } else { Cell::Text(format!("n{sequence}{text}")) };
        let stamp = Cell::Text(format!("{}:{text}", Value { writer, sequence, index }));
        Op::Upsert(vec![key, stamp, number(5), number(100), note])
    };
    Batch { ops: (0..records).map(op).collect(), columns }
}

fn types() -> Vec<DataType> {
    let kind = |name: &str| match name {
        "INTEGER" => TypeKind::Int,
        "BIGINT" => TypeKind::BigInt,
        _ => TypeKind::String,
    };
    COLUMNS.iter().enumerate().map(|(at, (_, name))| DataType { kind: kind(name), nullable: at > 0 }).collect()
}

fn wire(cell: &Cell, kind: &TypeKind) -> row::Value {
    match (cell, kind) {
        (Cell::Null, _) => row::Value::Null,
        (Cell::Int(number), TypeKind::Int) => row::Value::Int(*number as i32),
        (Cell::Int(number), _) => row::Value::BigInt(*number),
        (Cell::Text(text), _) => row::Value::Text(text.clone()),
    }
}

/// A key on the wire and in the store.
pub fn key_bytes(key: &[Cell]) -> Bytes {
    let types = types();
    let values = [wire(&key[0], &types[0].kind)];
    encode_key(&values, &[&types[0]], None).expect("a number is a key").into()
}

/// The wire form of a batch.
pub fn encode(batch: &Batch, writer_id: i64, sequence: i32) -> Bytes {
    let types = types();
    let mut builder = KvBatchBuilder::new(SchemaId(1));
    (builder.writer_id, builder.batch_sequence) = (writer_id, sequence);
    for op in &batch.ops {
        match op {
            Op::Delete(key) => _ = builder.delete(&key_bytes(key)),
            Op::Upsert(row) => {
                let speaks_of = |at: &usize| batch.columns.as_ref().is_none_or(|columns| columns.contains(at));
                // Columns that are not spoken of are null on the wire.
                let cell = |(at, cell): (usize, &Cell)| if speaks_of(&at) { cell.clone() } else { Cell::Null };
                let cells: Row = row.iter().enumerate().map(cell).collect();
                let values: Vec<row::Value> = cells.iter().zip(&types).map(|(cell, of)| wire(cell, &of.kind)).collect();
                let bytes = encode_compacted_row(&values, types.iter()).expect("cells fit their columns");
                builder.upsert(&key_bytes(&row[..1]), &bytes);
            }
        }
    }
    builder.build()
}

/// A stored row, as lookups return it.
pub fn decode_value(value: &Bytes) -> Result<Row, String> {
    let (schema, bytes) = split_value(value).map_err(|error| error.to_string())?;
    if schema != SchemaId(1) {
        return Err(format!("a row of schema {}", schema.0));
    }
    let values = decode_compacted_row(&bytes, types().iter()).map_err(|error| error.to_string())?;
    values.iter().map(cell).collect()
}

fn cell(value: &row::Value) -> Result<Cell, String> {
    Ok(match value {
        row::Value::Null => Cell::Null,
        row::Value::Int(number) => Cell::Int(i64::from(*number)),
        row::Value::BigInt(number) => Cell::Int(*number),
        row::Value::Text(text) => Cell::Text(text.clone()),
        other => return Err(format!("{other:?} in no column")),
    })
}

/// What a batch of a changelog says. Errors: it does not decode.
pub fn decode_changes(batch: &LogBatch) -> Result<Vec<Change>, String> {
    if batch.computed_crc() != batch.header().crc {
        return Err("wrong crc".to_owned());
    }
    let count = batch.header().record_count.max(0) as usize;
    if count == 0 {
        return Ok(Vec::new());
    }
    let kinds = batch.change_types().map_err(|error| error.to_string())?;
    let columns = rows::read(batch, schema())?;
    if kinds.len() != count || columns.num_rows() != count {
        return Err(format!("{} change types and {} rows, the header says {count}", kinds.len(), columns.num_rows()));
    }
    (0..count).map(|row| Ok(Change { kind: kind(kinds[row])?, row: row_at(&columns, row)? })).collect()
}

fn schema() -> Arc<Schema> {
    let kind = |name: &str| match name {
        "INTEGER" => Arrow::Int32,
        "BIGINT" => Arrow::Int64,
        _ => Arrow::Utf8,
    };
    Arc::new(Schema::new(COLUMNS.iter().map(|(name, of)| Field::new(*name, kind(of), true)).collect::<Vec<_>>()))
}

fn kind(byte: u8) -> Result<Kind, String> {
    Ok(match ChangeType::from_byte(byte) {
        Some(ChangeType::Insert) => Kind::Insert,
        Some(ChangeType::UpdateBefore) => Kind::UpdateBefore,
        Some(ChangeType::UpdateAfter) => Kind::UpdateAfter,
        Some(ChangeType::Delete) => Kind::Delete,
        Some(ChangeType::AppendOnly) => Kind::Append,
        None => return Err(format!("change type {byte}")),
    })
}

fn row_at(columns: &RecordBatch, row: usize) -> Result<Row, String> {
    let cell = |column: &dyn Array| {
        let any = column.as_any();
        if column.is_null(row) {
            return Ok(Cell::Null);
        }
        let int = any.downcast_ref::<Int32Array>().map(|of| Cell::Int(i64::from(of.value(row))));
        let long = any.downcast_ref::<Int64Array>().map(|of| Cell::Int(of.value(row)));
        let text = any.downcast_ref::<StringArray>().map(|of| Cell::Text(of.value(row).to_owned()));
        int.or(long).or(text).ok_or_else(|| format!("a column of {:?}", column.data_type()))
    };
    columns.columns().iter().map(|column| cell(column.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Draws, Stream};
    use floss_protocol::kv_batch::{KvBatch, join_value};
    use floss_protocol::schema::TableDescriptor;

    fn table(merge: Merge) -> KeyedTable {
        KeyedTable { buckets: 2, keys: 3, merge, wal: false, deletes: merge == Merge::Replace }
    }

    #[test]
    fn the_descriptors_are_some() {
        for merge in [Merge::Replace, Merge::FirstRow, Merge::Versioned, Merge::Aggregation] {
            let mut parsed = TableDescriptor::from_json(table_json(&table(merge)).as_bytes()).unwrap();
            parsed.complete(1, 3).unwrap();
            assert_eq!(parsed.bucket_count, Some(2));
            assert!(parsed.has_primary_key());
        }
    }

    #[test]
    fn batches_are_good_and_rows_come_back() {
        let plan = KeyedWriter {
            table: 0,
            pause_ms: 1,
            records_max: 9,
            open_max: 1,
            text_bytes_max: 20,
            delete_per_mille: 300,
            partial_per_mille: 0,
            spans_ms: Vec::new(),
        };
        let draws = Draws::new(5).source(Stream::KeyedWriter, 0);
        for sequence in 0..50 {
            let batch = draw_batch(&draws, &table(Merge::Replace), &plan, 4, sequence);
            let read = KvBatch::read(&encode(&batch, 77, sequence)).unwrap();
            read.validate().unwrap();
            for (op, record) in batch.ops.iter().zip(read.records()) {
                let record = record.unwrap();
                match (op, record.row) {
                    (Op::Delete(key), None) => assert_eq!(record.key, key_bytes(key)),
                    (Op::Upsert(row), Some(bytes)) => {
                        assert_eq!(decode_value(&join_value(SchemaId(1), &bytes)).unwrap(), *row);
                        assert_eq!(record.key, key_bytes(&row[..1]));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
