//! Values as Arrow rows, and back. Encoded and decoded with arrow-rs: shares no code with the server's projection.

use crate::history::{BucketNo, Value, WriterNo};
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_buffer::Buffer;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_ipc::{MetadataVersion, root_as_message};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::log_batch::{LogBatch, LogBatchBuilder};
use std::collections::HashMap;
use std::sync::Arc;

const ALIGNMENT: usize = 8;

/// Column 0 writer, 1 sequence, 2 index, 3 checksum, 4 payload.
const COLUMNS: [(&str, DataType); 5] = [
    ("writer", DataType::Int64),
    ("sequence", DataType::Int32),
    ("index", DataType::Int32),
    ("checksum", DataType::Int64),
    ("payload", DataType::Utf8),
];

/// The descriptor that CreateTable takes. `ttl_ms` 0 = everything is kept.
pub fn table_json(buckets: i32, ttl_ms: u64) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .zip(0..)
        .map(|((name, kind), id)| {
            let kind = match kind {
                DataType::Int64 => "BIGINT",
                DataType::Int32 => "INTEGER",
                _ => "STRING",
            };
            format!(r#"{{"name":"{name}","data_type":{{"type":"{kind}"}},"id":{id}}}"#)
        })
        .collect();
    format!(
        r#"{{"version":1,"schema":{{"version":1,"columns":[{}],"highest_field_id":4}},"partition_key":[],"bucket_key":[],"bucket_count":{buckets},"properties":{{"table.log.ttl":"{ttl_ms} ms","table.log.arrow.compression.type":"NONE"}},"custom_properties":{{}}}}"#,
        columns.join(",")
    )
}

fn schema(projection: Option<&[i32]>) -> Arc<Schema> {
    let all: Vec<i32> = (0..COLUMNS.len() as i32).collect();
    let columns = projection.unwrap_or(&all).iter().map(|at| &COLUMNS[*at as usize]);
    Arc::new(Schema::new(columns.map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

fn payload(value: Value, bytes: usize) -> String {
    let letter = (b'a' + (value.index % 26) as u8) as char;
    format!("{value}:{}", letter.to_string().repeat(bytes))
}

/// One batch of a writer: rows `0..records` of its sequence.
pub fn encode(bucket: BucketNo, writer: WriterNo, sequence: i32, records: i32, payload_bytes: usize, writer_id: i64) -> Bytes {
    let values: Vec<Value> = (0..records).map(|index| Value { writer, sequence, index }).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(values.iter().map(|value| i64::from(value.writer)))),
        Arc::new(Int32Array::from_iter_values(values.iter().map(|value| value.sequence))),
        Arc::new(Int32Array::from_iter_values(values.iter().map(|value| value.index))),
        Arc::new(Int64Array::from_iter_values(values.iter().map(|value| value.checksum(bucket)))),
        Arc::new(StringArray::from_iter_values(values.iter().map(|value| payload(*value, payload_bytes)))),
    ];
    let batch = RecordBatch::try_new(schema(None), columns).expect("columns fit the schema");
    LogBatchBuilder {
        schema_id: SchemaId(1),
        append_only: true,
        writer_id,
        batch_sequence: sequence,
        record_count: records,
        records: message(&batch),
        ..LogBatchBuilder::default()
    }
    .build()
}

fn message(batch: &RecordBatch) -> Bytes {
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5).expect("8 is an alignment");
    let mut tracker = DictionaryTracker::new(false);
    let mut compression = CompressionContext::default();
    let encoded = IpcDataGenerator::default().encode(batch, &mut tracker, &options, &mut compression);
    let (_, encoded) = encoded.expect("plain columns always encode");
    let mut out = vec![0xff; 4];
    let padded = (8 + encoded.ipc_message.len()).next_multiple_of(ALIGNMENT) - 8;
    out.extend_from_slice(&(padded as u32).to_le_bytes());
    out.extend_from_slice(&encoded.ipc_message);
    out.resize(8 + padded, 0);
    out.extend_from_slice(&encoded.arrow_data);
    out.into()
}

/// The rows of a batch as a client with `projection` reads it; one error for all if it does not decode.
pub fn decode(bucket: BucketNo, batch: &LogBatch, projection: Option<&[i32]>) -> Vec<Result<Value, String>> {
    let count = batch.header().record_count.max(0) as usize;
    if projection.is_none() && batch.computed_crc() != batch.header().crc {
        return vec![Err("wrong crc".to_owned()); count];
    }
    match read(batch, schema(projection)) {
        Ok(columns) if columns.num_rows() == count => (0..count).map(|row| value_at(bucket, &columns, row)).collect(),
        Ok(columns) => vec![Err(format!("{} rows, the header says {count}", columns.num_rows())); count.max(1)],
        Err(error) => vec![Err(error); count.max(1)],
    }
}

pub(super) fn read(batch: &LogBatch, schema: Arc<Schema>) -> Result<RecordBatch, String> {
    let message = batch.arrow_message().map_err(|error| error.to_string())?;
    let length = message.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes).ok_or("no message length")?;
    let metadata = message.get(8..8 + length as usize).ok_or("message longer than the batch")?;
    let parsed = root_as_message(metadata).map_err(|error| error.to_string())?;
    let body_at = (8 + length as usize).next_multiple_of(ALIGNMENT).min(message.len());
    let header = parsed.header_as_record_batch().ok_or("not a record batch")?;
    let body = Buffer::from(&message[body_at..]);
    read_record_batch(&body, header, schema, &HashMap::new(), None, &parsed.version()).map_err(|error| error.to_string())
}

fn value_at(bucket: BucketNo, columns: &RecordBatch, row: usize) -> Result<Value, String> {
    let value = Value {
        writer: cell::<Int64Array>(columns, "writer")?.value(row) as WriterNo,
        sequence: cell::<Int32Array>(columns, "sequence")?.value(row),
        index: cell::<Int32Array>(columns, "index")?.value(row),
    };
    if let Ok(checksums) = cell::<Int64Array>(columns, "checksum")
        && checksums.value(row) != value.checksum(bucket)
    {
        return Err(format!("{value} with checksum={:x}, expected {:x}", checksums.value(row), value.checksum(bucket)));
    }
    if let Ok(payloads) = cell::<StringArray>(columns, "payload") {
        let found = payloads.value(row);
        let bytes = found.len().saturating_sub(value.to_string().len() + 1);
        if found != payload(value, bytes) {
            return Err(format!("{value} with payload {found:.40}"));
        }
    }
    Ok(value)
}

fn cell<'a, A: Array + 'static>(columns: &'a RecordBatch, name: &str) -> Result<&'a A, String> {
    columns.column_by_name(name).and_then(|column| column.as_any().downcast_ref()).ok_or_else(|| format!("no column {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_protocol::schema::TableDescriptor;

    fn batch(bucket: BucketNo) -> LogBatch {
        LogBatch::read(&encode(bucket, 7, 3, 4, 10, 99), 0).unwrap()
    }

    #[test]
    fn rows_come_back_and_damage_is_noticed() {
        let good = batch(2);
        good.validate().unwrap();
        let expected: Vec<_> = (0..4).map(|index| Ok(Value { writer: 7, sequence: 3, index })).collect();
        assert_eq!(decode(2, &good, None), expected);
        assert!(decode(1, &good, None).iter().all(Result::is_err), "another bucket's rows");
        let mut bytes = good.bytes().to_vec();
        let last = bytes.len() - 40;
        bytes[last] ^= 1;
        let bad = LogBatch::read(&bytes.into(), 0).unwrap();
        assert!(decode(2, &bad, None).iter().all(Result::is_err));
    }

    #[test]
    fn the_descriptor_is_one() {
        let table = TableDescriptor::from_json(table_json(3, 0).as_bytes()).unwrap();
        assert_eq!(table.bucket_count, Some(3));
        assert_eq!(table.schema.columns().len(), 5);
    }
}
