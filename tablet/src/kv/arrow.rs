//! Rows to one Arrow message and back, for changelogs.
//!
//! Messages are written here and read on every replica, always by this code: a message that cannot be read back is a bug of ours.
//! Source: records.md 2.

use super::row::Row;
use arrow_array::builder::BufferBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, MapArray, PrimitiveArray, RecordBatch,
    StringArray, StructArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_ipc::{CompressionType, MetadataVersion, root_as_message};
use arrow_schema::{ArrowError, DataType as ArrowType, Field, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};
use bytes::Bytes;
use floss_protocol::row::Value;
use floss_protocol::schema::{ArrowCompression, DataType, Schema, TypeKind};
use std::collections::HashMap;
use std::sync::Arc;

const ALIGNMENT: usize = 8;
/// Continuation marker and metadata length.
const PREFIX_BYTES: usize = 8;

pub(super) fn arrow_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.columns().iter().map(|column| field(&column.name, &column.data_type)).collect();
    Arc::new(ArrowSchema::new(fields))
}

fn field(name: &str, data_type: &DataType) -> Field {
    Field::new(name, arrow_type(&data_type.kind), data_type.nullable)
}

fn entries(key: &DataType, value: &DataType) -> Field {
    // Arrow's maps have keys that are not null, whatever the table says.
    let key = Field::new("key", arrow_type(&key.kind), false);
    Field::new("entries", ArrowType::Struct(Fields::from(vec![key, field("value", value)])), false)
}

fn unit(precision: u8) -> TimeUnit {
    match precision {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn arrow_type(kind: &TypeKind) -> ArrowType {
    match kind {
        TypeKind::Boolean => ArrowType::Boolean,
        TypeKind::TinyInt => ArrowType::Int8,
        TypeKind::SmallInt => ArrowType::Int16,
        TypeKind::Int => ArrowType::Int32,
        TypeKind::BigInt => ArrowType::Int64,
        TypeKind::Float => ArrowType::Float32,
        TypeKind::Double => ArrowType::Float64,
        TypeKind::Char(_) | TypeKind::String => ArrowType::Utf8,
        TypeKind::Binary(length) => ArrowType::FixedSizeBinary(i32::try_from(*length).unwrap_or(i32::MAX)),
        TypeKind::Bytes => ArrowType::Binary,
        TypeKind::Decimal { precision, scale } => ArrowType::Decimal128(*precision, *scale as i8),
        TypeKind::Date => ArrowType::Date32,
        TypeKind::Time(precision @ 0..=3) => ArrowType::Time32(unit(*precision)),
        TypeKind::Time(precision) => ArrowType::Time64(unit(*precision)),
        TypeKind::Timestamp(precision) => ArrowType::Timestamp(unit(*precision), None),
        TypeKind::TimestampLtz(precision) => ArrowType::Timestamp(unit(*precision), Some("UTC".into())),
        TypeKind::Array(element) => ArrowType::List(Arc::new(field("element", element))),
        TypeKind::Map(key, value) => ArrowType::Map(Arc::new(entries(key, value)), false),
        TypeKind::Row(fields) => ArrowType::Struct(fields.iter().map(|part| field(&part.name, &part.data_type)).collect()),
    }
}

/// One encapsulated message with all rows. `rows` are canonical (see `row::canonical`).
///
/// Errors: more than an Arrow message holds (2 GiB of text in a column).
pub(super) fn encode(
    rows: &[&Row],
    types: &[DataType],
    schema: &SchemaRef,
    compression: ArrowCompression,
) -> Result<Bytes, ArrowError> {
    let columns = types.iter().enumerate().map(|(at, data_type)| {
        let values: Vec<&Value> = rows.iter().map(|row| &row[at]).collect();
        build(data_type, &values)
    });
    let batch = RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)?;
    let codec = match compression {
        ArrowCompression::None => None,
        ArrowCompression::Lz4Frame => Some(CompressionType::LZ4_FRAME),
        ArrowCompression::Zstd => Some(CompressionType::ZSTD),
    };
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?.try_with_compression(codec)?;
    let (_, encoded) = IpcDataGenerator::default().encode(
        &batch,
        &mut DictionaryTracker::new(false),
        &options,
        &mut CompressionContext::default(),
    )?;
    let metadata_bytes = (PREFIX_BYTES + encoded.ipc_message.len()).next_multiple_of(ALIGNMENT) - PREFIX_BYTES;
    let mut out = Vec::with_capacity(PREFIX_BYTES + metadata_bytes + encoded.arrow_data.len());
    out.extend_from_slice(&[0xff; 4]);
    out.extend_from_slice(&(metadata_bytes as u32).to_le_bytes());
    out.extend_from_slice(&encoded.ipc_message);
    out.resize(PREFIX_BYTES + metadata_bytes, 0);
    out.extend_from_slice(&encoded.arrow_data);
    Ok(out.into())
}

/// The rows of a message with the given numbers, ascending.
///
/// Errors: it is not a message of these types.
pub(super) fn decode(message: &Bytes, types: &[DataType], schema: &SchemaRef, wanted: &[usize]) -> Result<Vec<Row>, ArrowError> {
    let malformed = || ArrowError::IpcError("not one encapsulated record batch".to_owned());
    let metadata_bytes = message.get(4..PREFIX_BYTES).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let metadata_end = PREFIX_BYTES + metadata_bytes.ok_or_else(malformed)? as usize;
    let metadata = message.get(PREFIX_BYTES..metadata_end).ok_or_else(malformed)?;
    let parsed = root_as_message(metadata).map_err(|error| ArrowError::IpcError(error.to_string()))?;
    let header = parsed.header_as_record_batch().ok_or_else(malformed)?;
    let body = message.get(metadata_end.next_multiple_of(ALIGNMENT)..).ok_or_else(malformed)?;
    // Copied once: the buffers of an uncompressed body must be aligned, and a journal's slice is not.
    let body = Buffer::from_slice_ref(body);
    let batch = read_record_batch(&body, header, schema.clone(), &HashMap::new(), None, &parsed.version())?;
    if wanted.last().is_some_and(|last| *last >= batch.num_rows()) {
        return Err(malformed());
    }
    let mut rows: Vec<Row> = wanted.iter().map(|_| Vec::with_capacity(types.len())).collect();
    for (data_type, column) in types.iter().zip(batch.columns()) {
        for (row, at) in rows.iter_mut().zip(wanted) {
            row.push(read(data_type, column.as_ref(), *at));
        }
    }
    Ok(rows)
}

fn wrong(value: &Value, kind: &TypeKind) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("{} in a column of {}", value.name(), kind.root()))
}

/// A column of primitives.
fn primitive<T: ArrowPrimitiveType>(
    data_type: &DataType,
    values: &[&Value],
    number: impl Fn(&Value) -> Option<T::Native>,
) -> Result<ArrayRef, ArrowError> {
    let mut numbers = BufferBuilder::<T::Native>::new(values.len());
    for value in values {
        numbers.append(match value {
            Value::Null => T::Native::default(),
            value => number(value).ok_or_else(|| wrong(value, &data_type.kind))?,
        });
    }
    let array = PrimitiveArray::<T>::try_new(numbers.finish().into(), nulls(values))?;
    Ok(Arc::new(array.with_data_type(arrow_type(&data_type.kind))))
}

/// `None` if no value is null: the validity buffer is empty then.
fn nulls(values: &[&Value]) -> Option<NullBuffer> {
    values.iter().any(|value| value.is_null()).then(|| values.iter().map(|value| !value.is_null()).collect())
}

macro_rules! numbers {
    ($arrow:ty, $data_type:expr, $values:expr, $pattern:pat => $number:expr) => {
        primitive::<$arrow>($data_type, $values, |value| match value {
            $pattern => Some($number),
            _ => None,
        })
    };
}

fn build(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    match &data_type.kind {
        TypeKind::TinyInt => numbers!(Int8Type, data_type, values, Value::TinyInt(number) => *number),
        TypeKind::SmallInt => numbers!(Int16Type, data_type, values, Value::SmallInt(number) => *number),
        TypeKind::Int => numbers!(Int32Type, data_type, values, Value::Int(number) => *number),
        TypeKind::BigInt => numbers!(Int64Type, data_type, values, Value::BigInt(number) => *number),
        TypeKind::Float => numbers!(Float32Type, data_type, values, Value::Float(number) => *number),
        TypeKind::Double => numbers!(Float64Type, data_type, values, Value::Double(number) => *number),
        TypeKind::Date => numbers!(Date32Type, data_type, values, Value::Date(days) => *days),
        TypeKind::Decimal { .. } => numbers!(Decimal128Type, data_type, values, Value::Decimal(unscaled) => *unscaled),
        TypeKind::Time(precision) => build_time(*precision, data_type, values),
        TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision) => build_timestamp(*precision, data_type, values),
        TypeKind::Boolean | TypeKind::Char(_) | TypeKind::String | TypeKind::Binary(_) | TypeKind::Bytes => {
            build_flat(data_type, values)
        }
        TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Row(_) => build_nested(data_type, values),
    }
}

fn build_time(precision: u8, data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    match unit(precision) {
        TimeUnit::Second => numbers!(Time32SecondType, data_type, values, Value::Time(ms) => ms.div_euclid(1_000)),
        TimeUnit::Millisecond => numbers!(Time32MillisecondType, data_type, values, Value::Time(ms) => *ms),
        TimeUnit::Microsecond => numbers!(Time64MicrosecondType, data_type, values, Value::Time(ms) => i64::from(*ms) * 1_000),
        TimeUnit::Nanosecond => numbers!(Time64NanosecondType, data_type, values, Value::Time(ms) => i64::from(*ms) * 1_000_000),
    }
}

fn build_timestamp(precision: u8, data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    // Canonical values are in range, so nothing overflows.
    match unit(precision) {
        TimeUnit::Second => {
            numbers!(TimestampSecondType, data_type, values, Value::Timestamp { ms, .. } => ms.div_euclid(1_000))
        }
        TimeUnit::Millisecond => numbers!(TimestampMillisecondType, data_type, values, Value::Timestamp { ms, .. } => *ms),
        TimeUnit::Microsecond => numbers!(
            TimestampMicrosecondType, data_type, values,
            Value::Timestamp { ms, nanos } => ms * 1_000 + i64::from(nanos / 1_000)
        ),
        TimeUnit::Nanosecond => numbers!(
            TimestampNanosecondType, data_type, values,
            Value::Timestamp { ms, nanos } => ms * 1_000_000 + i64::from(*nanos)
        ),
    }
}

fn build_flat(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let kind = &data_type.kind;
    if matches!(kind, TypeKind::Boolean) {
        let bits = values.iter().map(|value| match value {
            Value::Boolean(value) => Ok(*value),
            Value::Null => Ok(false),
            value => Err(wrong(value, kind)),
        });
        let bits = bits.collect::<Result<Vec<_>, _>>()?;
        return Ok(Arc::new(BooleanArray::new(bits.into(), nulls(values))));
    }
    let length = match kind {
        TypeKind::Binary(length) => *length as usize,
        _ => 0,
    };
    let zeros = vec![0; length];
    let pieces = values.iter().map(|value| match value {
        Value::Text(text) => Ok(text.as_bytes()),
        Value::Bytes(bytes) => Ok(&bytes[..]),
        Value::Null => Ok(&zeros[..]),
        value => Err(wrong(value, kind)),
    });
    let pieces = pieces.collect::<Result<Vec<_>, _>>()?;
    if let TypeKind::Binary(length) = kind {
        let length = i32::try_from(*length).map_err(|_| ArrowError::InvalidArgumentError(format!("BINARY({length})")))?;
        return Ok(Arc::new(FixedSizeBinaryArray::try_new(length, pieces.concat().into(), nulls(values))?));
    }
    let offsets = offsets(pieces.iter().map(|piece| piece.len()))?;
    let data: Buffer = pieces.concat().into();
    Ok(match kind {
        TypeKind::Bytes => Arc::new(BinaryArray::try_new(offsets, data, nulls(values))?),
        _ => Arc::new(StringArray::try_new(offsets, data, nulls(values))?),
    })
}

fn build_nested(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let kind = &data_type.kind;
    match kind {
        TypeKind::Array(element) => {
            let parts = values.iter().map(|value| match value {
                Value::Array(parts) => Ok(&parts[..]),
                Value::Null => Ok(&[][..]),
                value => Err(wrong(value, kind)),
            });
            let parts: Vec<&[Value]> = parts.collect::<Result<_, _>>()?;
            let offsets = offsets(parts.iter().map(|part| part.len()))?;
            let elements: Vec<&Value> = parts.into_iter().flatten().collect();
            let elements = build(element, &elements)?;
            Ok(Arc::new(ListArray::try_new(Arc::new(field("element", element)), offsets, elements, nulls(values))?))
        }
        TypeKind::Map(key, of) => {
            let parts = values.iter().map(|value| match value {
                Value::Map(parts) => Ok(&parts[..]),
                Value::Null => Ok(&[][..]),
                value => Err(wrong(value, kind)),
            });
            let parts: Vec<&[(Value, Value)]> = parts.collect::<Result<_, _>>()?;
            let offsets = offsets(parts.iter().map(|part| part.len()))?;
            let (keys, of_keys): (Vec<&Value>, Vec<&Value>) =
                parts.into_iter().flatten().map(|(key, value)| (key, value)).unzip();
            let entries = entries(key, of);
            let ArrowType::Struct(fields) = entries.data_type() else { unreachable!("entries are a struct") };
            let structs = StructArray::try_new(fields.clone(), vec![build(key, &keys)?, build(of, &of_keys)?], None)?;
            Ok(Arc::new(MapArray::try_new(Arc::new(entries), offsets, structs, nulls(values), false)?))
        }
        TypeKind::Row(fields) => {
            let parts = fields.iter().enumerate().map(|(at, part)| {
                let of_part = values.iter().map(|value| match value {
                    Value::Row(parts) => parts.get(at).ok_or_else(|| wrong(value, kind)),
                    Value::Null => Ok(&Value::Null),
                    value => Err(wrong(value, kind)),
                });
                build(&part.data_type, &of_part.collect::<Result<Vec<_>, _>>()?)
            });
            let ArrowType::Struct(arrow_fields) = arrow_type(kind) else { unreachable!("a row is a struct") };
            Ok(Arc::new(StructArray::try_new(arrow_fields, parts.collect::<Result<_, _>>()?, nulls(values))?))
        }
        _ => unreachable!("called for nested types only"),
    }
}

fn offsets(lengths: impl Iterator<Item = usize>) -> Result<OffsetBuffer<i32>, ArrowError> {
    let mut end = 0_i32;
    let mut offsets = vec![0];
    for length in lengths {
        let next = i32::try_from(length).ok().and_then(|length| end.checked_add(length));
        end = next.ok_or_else(|| ArrowError::InvalidArgumentError("more than 2 GiB in a column".to_owned()))?;
        offsets.push(end);
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

/// The value at `at`. The array is of the type: it was read with the schema.
fn read(data_type: &DataType, array: &dyn Array, at: usize) -> Value {
    if array.is_null(at) {
        return Value::Null;
    }
    match &data_type.kind {
        TypeKind::Boolean => Value::Boolean(array.as_boolean().value(at)),
        TypeKind::TinyInt => Value::TinyInt(array.as_primitive::<Int8Type>().value(at)),
        TypeKind::SmallInt => Value::SmallInt(array.as_primitive::<Int16Type>().value(at)),
        TypeKind::Int => Value::Int(array.as_primitive::<Int32Type>().value(at)),
        TypeKind::BigInt => Value::BigInt(array.as_primitive::<Int64Type>().value(at)),
        TypeKind::Float => Value::Float(array.as_primitive::<Float32Type>().value(at)),
        TypeKind::Double => Value::Double(array.as_primitive::<Float64Type>().value(at)),
        TypeKind::Char(_) | TypeKind::String => Value::Text(array.as_string::<i32>().value(at).to_owned()),
        TypeKind::Binary(_) => Value::Bytes(Bytes::copy_from_slice(array.as_fixed_size_binary().value(at))),
        TypeKind::Bytes => Value::Bytes(Bytes::copy_from_slice(array.as_binary::<i32>().value(at))),
        TypeKind::Decimal { .. } => Value::Decimal(array.as_primitive::<Decimal128Type>().value(at)),
        TypeKind::Date => Value::Date(array.as_primitive::<Date32Type>().value(at)),
        TypeKind::Time(precision) => Value::Time(read_time(*precision, array, at)),
        TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision) => read_timestamp(*precision, array, at),
        TypeKind::Array(element) => {
            let elements = array.as_list::<i32>().value(at);
            Value::Array((0..elements.len()).map(|at| read(element, elements.as_ref(), at)).collect())
        }
        TypeKind::Map(key, of) => {
            let entries = array.as_map().value(at);
            let (keys, values) = (entries.column(0), entries.column(1));
            let entry = |at| (read(key, keys.as_ref(), at), read(of, values.as_ref(), at));
            Value::Map((0..entries.len()).map(entry).collect())
        }
        TypeKind::Row(fields) => {
            let parts = array.as_struct().columns().iter().zip(fields);
            Value::Row(parts.map(|(part, field)| read(&field.data_type, part.as_ref(), at)).collect())
        }
    }
}

fn read_time(precision: u8, array: &dyn Array, at: usize) -> i32 {
    match unit(precision) {
        TimeUnit::Second => array.as_primitive::<Time32SecondType>().value(at) * 1_000,
        TimeUnit::Millisecond => array.as_primitive::<Time32MillisecondType>().value(at),
        TimeUnit::Microsecond => (array.as_primitive::<Time64MicrosecondType>().value(at) / 1_000) as i32,
        TimeUnit::Nanosecond => (array.as_primitive::<Time64NanosecondType>().value(at) / 1_000_000) as i32,
    }
}

fn read_timestamp(precision: u8, array: &dyn Array, at: usize) -> Value {
    let split = |number: i64, per_ms: i64, nanos_each: i64| Value::Timestamp {
        ms: number.div_euclid(per_ms),
        nanos: (number.rem_euclid(per_ms) * nanos_each) as i32,
    };
    match unit(precision) {
        TimeUnit::Second => Value::Timestamp { ms: array.as_primitive::<TimestampSecondType>().value(at) * 1_000, nanos: 0 },
        TimeUnit::Millisecond => Value::Timestamp { ms: array.as_primitive::<TimestampMillisecondType>().value(at), nanos: 0 },
        TimeUnit::Microsecond => split(array.as_primitive::<TimestampMicrosecondType>().value(at), 1_000, 1_000),
        TimeUnit::Nanosecond => split(array.as_primitive::<TimestampNanosecondType>().value(at), 1_000_000, 1),
    }
}
