//! The rows of the workload as Arrow batches: self-describing, so that a torn or mixed one shows.

use crate::history::{BucketNo, Row, Value};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch};
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_ipc::{MetadataVersion, root_as_message};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use floss_protocol::log_batch::{LogBatch, LogBatchBuilder, LogBatches};
use std::collections::HashMap;
use std::sync::Arc;

/// The table of the workload.
pub fn table_json(buckets: i32) -> String {
    let column =
        |id: usize, (name, kind): (&str, &str)| format!(r#"{{"name":"{name}","data_type":{{"type":"{kind}"}},"id":{id}}}"#);
    let columns: Vec<String> = COLUMNS.iter().enumerate().map(|(id, declared)| column(id, *declared)).collect();
    format!(
        r#"{{"version":1,"schema":{{"version":1,"columns":[{}],"highest_field_id":4}},"partition_key":[],"bucket_key":[],"bucket_count":{buckets},"properties":{{"table.log.arrow.compression.type":"NONE"}},"custom_properties":{{}}}}"#,
        columns.join(",")
    )
}

const COLUMNS: [(&str, &str); 5] =
    [("writer", "INTEGER"), ("sequence", "INTEGER"), ("index", "INTEGER"), ("checksum", "BIGINT"), ("payload", "BYTES")];

fn schema(columns: Option<&[i32]>) -> SchemaRef {
    let field = |(name, kind): (&str, &str)| {
        let kind = match kind {
            "INTEGER" => DataType::Int32,
            "BIGINT" => DataType::Int64,
            _ => DataType::Binary,
        };
        Field::new(name, kind, true)
    };
    let wanted = |at: usize| columns.is_none_or(|columns| columns.contains(&(at as i32)));
    let fields: Vec<Field> =
        COLUMNS.iter().enumerate().filter(|(at, _)| wanted(*at)).map(|(_, declared)| field(*declared)).collect();
    Arc::new(Schema::new(fields))
}

/// A batch of `records` rows of one writer, as a client sends it.
pub fn encode(bucket: BucketNo, first: Value, records: i32, payload_bytes: usize, writer_id: i64) -> Bytes {
    let values: Vec<Value> = (0..records).map(|index| Value { index, ..first }).collect();
    let payload = vec![first.sequence as u8; payload_bytes];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(values.iter().map(|value| value.writer as i32))),
        Arc::new(Int32Array::from_iter_values(values.iter().map(|value| value.sequence))),
        Arc::new(Int32Array::from_iter_values(values.iter().map(|value| value.index))),
        Arc::new(Int64Array::from_iter_values(values.iter().map(|value| value.checksum(bucket)))),
        Arc::new(BinaryArray::from_iter_values(values.iter().map(|_| &payload[..]))),
    ];
    let batch = RecordBatch::try_new(schema(None), columns).expect("the columns fit the schema");
    let (_, data) = IpcDataGenerator::default()
        .encode(&batch, &mut DictionaryTracker::new(false), &IpcWriteOptions::default(), &mut CompressionContext::default())
        .expect("plain columns encode");
    let padded = data.ipc_message.len().next_multiple_of(8);
    let mut message = Vec::with_capacity(8 + padded + data.arrow_data.len());
    message.extend_from_slice(&[0xff; 4]);
    message.extend_from_slice(&(padded as i32).to_le_bytes());
    message.extend_from_slice(&data.ipc_message);
    message.resize(8 + padded, 0);
    message.extend_from_slice(&data.arrow_data);
    let builder = LogBatchBuilder {
        append_only: true,
        writer_id,
        batch_sequence: first.sequence,
        record_count: records,
        records: message.into(),
        ..Default::default()
    };
    builder.build()
}

/// All rows of `records` from offset `from` on. A batch that does not decode gives rows that say so.
pub fn decode(bucket: BucketNo, records: Bytes, from: i64, columns: Option<&[i32]>) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in LogBatches::new(records) {
        match batch {
            Ok(batch) => {
                let values = values_of(bucket, &batch, columns);
                let offsets = batch.base_offset.0..;
                rows.extend(offsets.zip(values).map(|(offset, value)| Row { offset, value }).filter(|row| row.offset >= from));
            }
            Err(error) => rows.push(Row { offset: from, value: Err(error.to_string()) }),
        }
    }
    rows
}

/// The values of one batch, one per record.
pub fn values_of(bucket: BucketNo, batch: &LogBatch, columns: Option<&[i32]>) -> Vec<Result<Value, String>> {
    let count = batch.offset_count().max(0) as usize;
    match read(batch, columns) {
        Ok(rows) if rows.num_rows() == count => (0..count).map(|row| value_at(bucket, &rows, row, columns)).collect(),
        Ok(rows) => vec![Err(format!("{} rows in a batch of {count}", rows.num_rows())); count],
        Err(error) => vec![Err(error); count],
    }
}

fn value_at(bucket: BucketNo, rows: &RecordBatch, row: usize, columns: Option<&[i32]>) -> Result<Value, String> {
    let int = |column: usize| rows.column(column).as_primitive::<Int32Type>().value(row);
    let value = Value { writer: int(0) as u32, sequence: int(1), index: int(2) };
    if columns.is_none_or(|columns| columns.contains(&3)) {
        let found = rows.column(3).as_primitive::<Int64Type>().value(row);
        if found != value.checksum(bucket) {
            return Err(format!("{value} carries a wrong checksum"));
        }
    }
    Ok(value)
}

fn read(batch: &LogBatch, columns: Option<&[i32]>) -> Result<RecordBatch, String> {
    let message = batch.arrow_message().map_err(|error| error.to_string())?;
    let length = message.get(4..8).map(|bytes| i32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize);
    let length = length.ok_or("the arrow message is cut short")?;
    let metadata = message.get(8..8 + length).ok_or("the arrow metadata is cut short")?;
    let header = root_as_message(metadata).map_err(|error| error.to_string())?;
    let header = header.header_as_record_batch().ok_or("not a record batch")?;
    let body = arrow_buffer::Buffer::from(&message[8 + length..]);
    read_record_batch(&body, header, schema(columns), &HashMap::new(), None, &MetadataVersion::V5)
        .map_err(|error| error.to_string())
}
