//! Rows of primary-key tables: what is written, and back from stored rows and changelog batches. Changelogs are decoded with arrow-rs,
//! stored rows with the wire format's own rows: neither shares code with what decides in the server.

use super::layout::Layout;
use super::rows;
use crate::draw::Source;
use crate::history::{Value, WriterNo};
use crate::plan::{KeyedTable, KeyedWriter, Merge};
use arrow_array::{Array, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use floss_checker::{Batch, Cell, Change, Engine, Function, Image, Key, Kind, Op, Row, Table};
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::{KvBatchBuilder, ValueRecords, split_value};
use floss_protocol::log_batch::{ChangeType, LogBatch};
use floss_protocol::row::{self, decode_compacted_row, encode_compacted_row, encode_key};
use std::collections::BTreeMap;

/// Numbered rows are those of new keys: after so many batches of a writer its keys move on by one. They come round, so that all of
/// them take one byte and are ordered as their numbers are.
const KEYS_MOVE_ON_AFTER: u64 = 6;
const KEYS_COME_ROUND_AT: u64 = 100;

/// The descriptor that CreateTable takes.
pub fn table_json(table: &KeyedTable) -> String {
    let layout = Layout::of(table);
    let mut properties = BTreeMap::from([("table.log.arrow.compression.type", "NONE".to_owned())]);
    let mut set = |key, value: &str| drop(properties.insert(key, value.to_owned()));
    if table.wal {
        set("table.changelog.image", "WAL");
    }
    if table.numbers_at_once > 0 {
        set("table.auto-increment.cache-size", &table.numbers_at_once.to_string());
    }
    match table.merge {
        Merge::Replace => {}
        Merge::FirstRow => set("table.merge-engine", "first_row"),
        Merge::Versioned => {
            set("table.merge-engine", "versioned");
            set("table.merge-engine.versioned.ver-column", layout.columns[layout.version()].name);
        }
        Merge::Aggregation => {
            set("table.merge-engine", "aggregation");
            set("table.delete.behavior", if table.deletes { "ALLOW" } else { "IGNORE" });
        }
    }
    let properties: Vec<String> = properties.iter().map(|(key, value)| format!(r#""{key}":"{value}""#)).collect();
    format!(
        r#"{{"version":1,"schema":{},"partition_key":[],"bucket_key":[{}],"bucket_count":{},"properties":{{{}}},"custom_properties":{{}}}}"#,
        layout.json(table.merge == Merge::Aggregation),
        if table.parts > 0 { r#""part""# } else { "" },
        table.buckets,
        properties.join(",")
    )
}

/// The same rules for the checkers.
pub fn rules(table: &KeyedTable) -> Table {
    let layout = Layout::of(table);
    let engine = match table.merge {
        Merge::Replace => Engine::Replace,
        Merge::FirstRow => Engine::FirstRow,
        Merge::Versioned => Engine::Versioned(layout.version()),
        Merge::Aggregation => {
            let of = |column: &super::layout::Column| column.function.map_or(Function::LastNonNull, |(_, function)| function);
            Engine::Aggregation(layout.columns.iter().map(of).collect())
        }
    };
    let image = if table.wal { Image::Wal } else { Image::Full };
    Table { key_columns: (0..layout.key_len).collect(), engine, image, deletes: table.deletes }
}

/// One of the keys that a writer uses by the time of its batch `sequence`.
fn draw_key(draws: &Source, table: &KeyedTable, sequence: i32) -> Key {
    let moved = if table.numbers_at_once > 0 { sequence as u64 / KEYS_MOVE_ON_AFTER } else { 0 };
    let id = Cell::Int(((draws.below(table.keys) + moved) % KEYS_COME_ROUND_AT) as i64);
    if table.parts == 0 { vec![id] } else { vec![Layout::part(draws.below(table.parts)), id] }
}

/// One of all the keys there may be.
pub fn any_key(draws: &Source, table: &KeyedTable) -> Key {
    draw_key(draws, table, if table.numbers_at_once > 0 { draws.below(KEYS_MOVE_ON_AFTER * 50) as i32 } else { 0 })
}

/// The next batch of a writer.
pub fn draw_batch(draws: &Source, table: &KeyedTable, plan: &KeyedWriter, writer: WriterNo, sequence: i32) -> Batch {
    let layout = Layout::of(table);
    let partial = draws.chance(plan.partial_per_mille).then(|| layout.partial(draws.below(layout.partial_kinds())));
    let columns = partial.or_else(|| layout.settable());
    let records = draws.between(1, plan.records_max) as i32;
    let op = |index| {
        let key = draw_key(draws, table, sequence);
        if draws.chance(plan.delete_per_mille) {
            return Op::Delete(key);
        }
        let letter = (b'a' + (index % 26) as u8) as char;
        let text = letter.to_string().repeat(draws.below(plan.text_bytes_max + 1) as usize);
        let number = |end| Cell::Int(draws.below(end) as i64);
        let note = if draws.chance(300) { Cell::Null } else { Cell::Text(format!("n{sequence}{text}")) };
        let stamp = Cell::Text(format!("{}:{text}", Value { writer, sequence, index }));
        let values = [stamp, number(5), number(100), note];
        Op::Upsert(key.into_iter().chain(values).chain(layout.numbered.map(|_| Cell::Null)).collect())
    };
    Batch { ops: (0..records).map(op).collect(), columns }
}

/// A key on the wire and in the store, or the first cells of one.
pub fn key_bytes(layout: &Layout, key: &[Cell]) -> Bytes {
    let values: Vec<row::Value> = key.iter().enumerate().map(|(at, cell)| layout.wire(at, cell)).collect();
    let types: Vec<_> = layout.types[..key.len()].iter().collect();
    encode_key(&values, &types, None).expect("numbers are keys").into()
}

/// The wire form of a batch.
pub fn encode(layout: &Layout, batch: &Batch, writer_id: i64, sequence: i32) -> Bytes {
    let mut builder = KvBatchBuilder::new(SchemaId(1));
    (builder.writer_id, builder.batch_sequence) = (writer_id, sequence);
    for op in &batch.ops {
        match op {
            Op::Delete(key) => _ = builder.delete(&key_bytes(layout, key)),
            Op::Upsert(row) => {
                let speaks_of = |at: usize| batch.columns.as_ref().is_none_or(|columns| columns.contains(&at));
                // Columns that are not spoken of are null on the wire.
                let value = |(at, cell): (usize, &Cell)| if speaks_of(at) { layout.wire(at, cell) } else { row::Value::Null };
                let values: Vec<row::Value> = row.iter().enumerate().map(value).collect();
                let bytes = encode_compacted_row(&values, layout.types.iter()).expect("cells fit their columns");
                builder.upsert(&key_bytes(layout, &row[..layout.key_len]), &bytes);
            }
        }
    }
    builder.build()
}

/// A stored row, as lookups return it.
pub fn decode_value(layout: &Layout, value: &Bytes) -> Result<Row, String> {
    let (schema, bytes) = split_value(value).map_err(|error| error.to_string())?;
    decode_row(layout, schema, &bytes)
}

/// The rows of a value batch, as scans return them.
pub fn decode_values(layout: &Layout, batch: &Bytes) -> Result<Vec<Row>, String> {
    let records = ValueRecords::new(batch).map_err(|error| error.to_string())?;
    let row =
        |record: Result<(SchemaId, Bytes), _>| record.map_err(|error: floss_protocol::kv_batch::KvBatchError| error.to_string());
    records.map(|record| row(record).and_then(|(schema, bytes)| decode_row(layout, schema, &bytes))).collect()
}

fn decode_row(layout: &Layout, schema: SchemaId, bytes: &Bytes) -> Result<Row, String> {
    if schema != SchemaId(1) {
        return Err(format!("a row of schema {}", schema.0));
    }
    let values = decode_compacted_row(bytes, layout.types.iter()).map_err(|error| error.to_string())?;
    values.iter().map(cell).collect()
}

fn cell(value: &row::Value) -> Result<Cell, String> {
    Ok(match value {
        row::Value::Null => Cell::Null,
        row::Value::TinyInt(number) => Cell::Int(i64::from(*number as u8)),
        row::Value::Int(number) => Cell::Int(i64::from(*number)),
        row::Value::BigInt(number) => Cell::Int(*number),
        row::Value::Text(text) => Cell::Text(text.clone()),
        other => return Err(format!("{other:?} in no column")),
    })
}

/// What a batch of a changelog says. Errors: it does not decode.
pub fn decode_changes(layout: &Layout, batch: &LogBatch) -> Result<Vec<Change>, String> {
    if batch.computed_crc() != batch.header().crc {
        return Err("wrong crc".to_owned());
    }
    let count = batch.header().record_count.max(0) as usize;
    if count == 0 {
        return Ok(Vec::new());
    }
    let kinds = batch.change_types().map_err(|error| error.to_string())?;
    let columns = rows::read(batch, layout.arrow.clone())?;
    if kinds.len() != count || columns.num_rows() != count {
        return Err(format!("{} change types and {} rows, the header says {count}", kinds.len(), columns.num_rows()));
    }
    (0..count).map(|row| Ok(Change { kind: kind(kinds[row])?, row: row_at(&columns, row)? })).collect()
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
        let tiny = any.downcast_ref::<Int8Array>().map(|of| Cell::Int(i64::from(of.value(row) as u8)));
        let int = any.downcast_ref::<Int32Array>().map(|of| Cell::Int(i64::from(of.value(row))));
        let long = any.downcast_ref::<Int64Array>().map(|of| Cell::Int(of.value(row)));
        let text = any.downcast_ref::<StringArray>().map(|of| Cell::Text(of.value(row).to_owned()));
        tiny.or(int).or(long).or(text).ok_or_else(|| format!("a column of {:?}", column.data_type()))
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
        KeyedTable { buckets: 2, keys: 3, merge, wal: false, deletes: merge == Merge::Replace, parts: 0, numbers_at_once: 0 }
    }

    /// Each kind of columns.
    fn tables(merge: Merge) -> Vec<KeyedTable> {
        let kinds = [(0, 0), (3, 0), (0, 5), (4, 7)];
        kinds
            .iter()
            .map(|(parts, numbers_at_once)| KeyedTable { parts: *parts, numbers_at_once: *numbers_at_once, ..table(merge) })
            .collect()
    }

    #[test]
    fn the_descriptors_are_some() {
        for table in [Merge::Replace, Merge::FirstRow, Merge::Versioned, Merge::Aggregation].into_iter().flat_map(tables) {
            let mut parsed = TableDescriptor::from_json(table_json(&table).as_bytes()).unwrap();
            parsed.complete(1, 3).unwrap();
            assert_eq!(parsed.bucket_count, Some(2));
            assert!(parsed.has_primary_key());
            assert_eq!(parsed.schema.auto_increment_column().is_some(), table.numbers_at_once > 0);
            assert_eq!(parsed.schema.primary_key().len(), rules(&table).key_columns.len());
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
        for (table, sequence) in tables(Merge::Replace).iter().flat_map(|table| (0..50).map(move |sequence| (table, sequence))) {
            let layout = Layout::of(table);
            let batch = draw_batch(&draws, table, &plan, 4, sequence);
            let read = KvBatch::read(&encode(layout, &batch, 77, sequence)).unwrap();
            read.validate().unwrap();
            let mut values = floss_protocol::kv_batch::ValueBatchBuilder::default();
            let mut rows = Vec::new();
            for (op, record) in batch.ops.iter().zip(read.records()) {
                let record = record.unwrap();
                match (op, record.row) {
                    (Op::Delete(key), None) => assert_eq!(record.key, key_bytes(layout, key)),
                    (Op::Upsert(row), Some(bytes)) => {
                        let value = join_value(SchemaId(1), &bytes);
                        assert_eq!(decode_value(layout, &value).unwrap(), *row);
                        assert_eq!(record.key, key_bytes(layout, &layout.key(row)));
                        values.push(&value);
                        rows.push(row.clone());
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(decode_values(layout, &values.build()), Ok(rows));
        }
    }

    /// What the checkers take for the order of keys is that of their bytes, and parts begin them.
    #[test]
    fn keys_are_ordered_as_their_bytes_are() {
        for table in tables(Merge::Replace) {
            let layout = Layout::of(&table);
            let draws = Draws::new(6).source(Stream::Looker, 0);
            let keys: Vec<Key> = (0..200).map(|sequence| draw_key(&draws, &table, 7 * sequence)).collect();
            for (one, other) in keys.iter().zip(&keys[1..]) {
                assert_eq!(one.cmp(other), key_bytes(layout, one).cmp(&key_bytes(layout, other)), "{one:?} {other:?}");
                assert!(key_bytes(layout, one).starts_with(&key_bytes(layout, &one[..layout.key_len - 1])));
            }
        }
    }
}
