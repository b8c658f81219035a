//! The Arrow side of a table: types, random columns, encoding and decoding with arrow-rs.

use super::common::{Numbers, any_type};
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_ipc::{CompressionType, MetadataVersion, root_as_message};
use arrow_schema::{DataType as ArrowType, Field, Fields, Schema as ArrowSchema, TimeUnit};
use bytes::Bytes;
use floss_protocol::log_batch::LogBatch;
use floss_protocol::schema::{Column, DataType, Schema, TypeKind};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

/// records.md 2.1.
pub fn arrow_type(kind: &TypeKind) -> ArrowType {
    let unit = |precision: &u8| match precision {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    };
    match kind {
        TypeKind::Boolean => ArrowType::Boolean,
        TypeKind::TinyInt => ArrowType::Int8,
        TypeKind::SmallInt => ArrowType::Int16,
        TypeKind::Int => ArrowType::Int32,
        TypeKind::BigInt => ArrowType::Int64,
        TypeKind::Float => ArrowType::Float32,
        TypeKind::Double => ArrowType::Float64,
        TypeKind::Char(_) | TypeKind::String => ArrowType::Utf8,
        TypeKind::Binary(length) => ArrowType::FixedSizeBinary(*length as i32),
        TypeKind::Bytes => ArrowType::Binary,
        TypeKind::Decimal { precision, scale } => ArrowType::Decimal128(*precision, *scale as i8),
        TypeKind::Date => ArrowType::Date32,
        TypeKind::Time(precision @ 0..=3) => ArrowType::Time32(unit(precision)),
        TypeKind::Time(precision) => ArrowType::Time64(unit(precision)),
        TypeKind::Timestamp(precision) => ArrowType::Timestamp(unit(precision), None),
        TypeKind::TimestampLtz(precision) => ArrowType::Timestamp(unit(precision), Some("UTC".into())),
        TypeKind::Array(element) => ArrowType::List(Arc::new(field("item", element))),
        TypeKind::Map(key, value) => ArrowType::Map(Arc::new(entries(key, value)), false),
        TypeKind::Row(fields) => ArrowType::Struct(fields.iter().map(|part| field(&part.name, &part.data_type)).collect()),
    }
}

fn entries(key: &DataType, value: &DataType) -> Field {
    let fields = Fields::from(vec![field("key", key), field("value", value)]);
    Field::new("entries", ArrowType::Struct(fields), false)
}

pub fn field(name: &str, data_type: &DataType) -> Field {
    Field::new(name, arrow_type(&data_type.kind), data_type.nullable)
}

pub fn arrow_schema(schema: &Schema) -> Arc<ArrowSchema> {
    let fields: Fields = schema.columns().iter().map(|column| field(&column.name, &column.data_type)).collect();
    Arc::new(ArrowSchema::new(fields))
}

fn nulls(nullable: bool, rows: usize, numbers: &mut Numbers) -> Option<NullBuffer> {
    // A third of the columns has no nulls: their validity buffer is empty on the wire.
    (nullable && numbers.below(3) > 0).then(|| (0..rows).map(|_| numbers.below(3) > 0).collect())
}

fn offsets(rows: usize, numbers: &mut Numbers) -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths((0..rows).map(|_| numbers.below(4)))
}

pub fn column(data_type: &DataType, rows: usize, numbers: &mut Numbers) -> ArrayRef {
    let nulls = nulls(data_type.nullable, rows, numbers);
    macro_rules! numeric {
        ($arrow:ty) => {{
            let values = (0..rows).map(|_| numbers.next() as <$arrow as ArrowPrimitiveType>::Native).collect::<Vec<_>>();
            Arc::new(PrimitiveArray::<$arrow>::new(values.into(), nulls).with_data_type(arrow_type(&data_type.kind)))
        }};
    }
    match &data_type.kind {
        TypeKind::Boolean => Arc::new(BooleanArray::new((0..rows).map(|_| numbers.below(2) > 0).collect(), nulls)),
        TypeKind::TinyInt => numeric!(Int8Type),
        TypeKind::SmallInt => numeric!(Int16Type),
        TypeKind::Int => numeric!(Int32Type),
        TypeKind::BigInt => numeric!(Int64Type),
        TypeKind::Float => numeric!(Float32Type),
        TypeKind::Double => numeric!(Float64Type),
        TypeKind::Date => numeric!(Date32Type),
        TypeKind::Time(0) => numeric!(Time32SecondType),
        TypeKind::Time(1..=3) => numeric!(Time32MillisecondType),
        TypeKind::Time(4..=6) => numeric!(Time64MicrosecondType),
        TypeKind::Time(_) => numeric!(Time64NanosecondType),
        TypeKind::Timestamp(0) | TypeKind::TimestampLtz(0) => numeric!(TimestampSecondType),
        TypeKind::Timestamp(1..=3) | TypeKind::TimestampLtz(1..=3) => numeric!(TimestampMillisecondType),
        TypeKind::Timestamp(4..=6) | TypeKind::TimestampLtz(4..=6) => numeric!(TimestampMicrosecondType),
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => numeric!(TimestampNanosecondType),
        TypeKind::Decimal { .. } => {
            let values = (0..rows).map(|_| numbers.below(10) as i128).collect::<Vec<_>>();
            Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(arrow_type(&data_type.kind)))
        }
        TypeKind::Binary(length) => {
            let values: Buffer = (0..rows * *length as usize).map(|_| numbers.next() as u8).collect::<Vec<_>>().into();
            Arc::new(FixedSizeBinaryArray::new(*length as i32, values, nulls))
        }
        TypeKind::Char(_) | TypeKind::String => {
            let offsets = offsets(rows, numbers);
            let text: Vec<u8> = (0..offsets.last().copied().unwrap()).map(|_| b'a' + numbers.below(26) as u8).collect();
            Arc::new(StringArray::new(offsets, text.into(), nulls))
        }
        TypeKind::Bytes => {
            let offsets = offsets(rows, numbers);
            let bytes: Vec<u8> = (0..offsets.last().copied().unwrap()).map(|_| numbers.next() as u8).collect();
            Arc::new(BinaryArray::new(offsets, bytes.into(), nulls))
        }
        TypeKind::Array(element) => {
            let offsets = offsets(rows, numbers);
            let values = column(element, *offsets.last().unwrap() as usize, numbers);
            Arc::new(ListArray::new(Arc::new(field("item", element)), offsets, values, nulls))
        }
        TypeKind::Map(key, value) => {
            let offsets = offsets(rows, numbers);
            let total = *offsets.last().unwrap() as usize;
            let parts = vec![column(key, total, numbers), column(value, total, numbers)];
            let entries = entries(key, value);
            let ArrowType::Struct(fields) = entries.data_type() else { unreachable!() };
            let structs = StructArray::new(fields.clone(), parts, None);
            Arc::new(MapArray::new(Arc::new(entries), offsets, structs, nulls, false))
        }
        TypeKind::Row(fields) => {
            let parts = fields.iter().map(|part| column(&part.data_type, rows, numbers)).collect();
            let ArrowType::Struct(fields) = arrow_type(&data_type.kind) else { unreachable!() };
            Arc::new(StructArray::new(fields, parts, nulls))
        }
    }
}

pub fn record_batch(schema: &Schema, rows: usize, seed: u64) -> RecordBatch {
    let mut numbers = Numbers(seed);
    let columns = schema.columns().iter().map(|part| column(&part.data_type, rows, &mut numbers)).collect();
    RecordBatch::try_new(arrow_schema(schema), columns).unwrap()
}

/// The encapsulated message, as a Fluss client writes it.
pub fn encode(batch: &RecordBatch, alignment: usize, codec: Option<CompressionType>) -> Bytes {
    let options = IpcWriteOptions::try_new(alignment, false, MetadataVersion::V5).unwrap().try_with_compression(codec).unwrap();
    let mut tracker = DictionaryTracker::new(false);
    let encoded = IpcDataGenerator::default().encode(batch, &mut tracker, &options, &mut CompressionContext::default()).unwrap();
    let encoded = encoded.1;
    let mut out = vec![0xff; 4];
    let padded = (8 + encoded.ipc_message.len()).next_multiple_of(alignment) - 8;
    out.extend_from_slice(&(padded as u32).to_le_bytes());
    out.extend_from_slice(&encoded.ipc_message);
    out.resize(8 + padded, 0);
    out.extend_from_slice(&encoded.arrow_data);
    out.into()
}

/// What a client reads.
pub fn decode(batch: &LogBatch, schema: Arc<ArrowSchema>) -> RecordBatch {
    let message = batch.arrow_message().unwrap();
    let metadata_bytes = u32::from_le_bytes(message[4..8].try_into().unwrap()) as usize;
    let parsed = root_as_message(&message[8..8 + metadata_bytes]).unwrap();
    let body = message.slice((8 + metadata_bytes).next_multiple_of(8)..);
    assert_eq!(body.len(), parsed.bodyLength() as usize);
    let body = Buffer::from(body.to_vec());
    read_record_batch(&body, parsed.header_as_record_batch().unwrap(), schema, &HashMap::new(), None, &parsed.version()).unwrap()
}

/// Schemas of up to 7 columns of any type.
pub fn any_schema(depth: u32) -> impl Strategy<Value = Schema> {
    prop::collection::vec(any_type(depth), 1..8).prop_map(|types| {
        let columns = types.into_iter().enumerate();
        Schema::new(columns.map(|(index, data_type)| Column::new(format!("c{index}"), data_type)).collect()).unwrap()
    })
}
