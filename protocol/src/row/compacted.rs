//! Compacted rows: null bits, then the values that are not null, without padding.
//!
//! ```text
//! null bits   ceil(arity / 8) bytes, bit i of byte i/8 from the low end, 1 = null
//! values      BOOLEAN, TINYINT 1 byte; SMALLINT 2; FLOAT 4; DOUBLE 8
//!             INT, DATE, TIME uvarint of the 32 bits; BIGINT, compact DECIMAL, timestamp ms uvarint of the 64 bits (no zigzag)
//!             timestamps above precision 3: uvarint of the nanoseconds of the millisecond besides
//!             all others: uvarint length, bytes
//! ```

use super::array::{decode_array, decode_map, encode_array, encode_map};
use super::cursor::{Cursor, put_uvarint};
use super::error::RowError;
use super::value::Value;
use super::{is_compact_decimal, is_compact_timestamp, mismatch, unscaled_bytes, unscaled_from};
use crate::schema::{DataType, TypeKind};
use bytes::Bytes;

/// The null bit of a field that cannot be null is not looked at: writers leave it undefined.
///
/// Errors: the bytes are not a row of exactly these types.
pub fn decode_compacted_row<'t>(
    bytes: &Bytes,
    types: impl ExactSizeIterator<Item = &'t DataType>,
) -> Result<Vec<Value>, RowError> {
    let mut cursor = Cursor::new(bytes.clone());
    let nulls = cursor.take("null bits", types.len().div_ceil(8))?;
    let mut values = Vec::with_capacity(types.len());
    for (index, data_type) in types.enumerate() {
        let null = data_type.nullable && nulls[index / 8] >> (index % 8) & 1 == 1;
        values.push(if null { Value::Null } else { decode(&mut cursor, &data_type.kind)? });
    }
    cursor.finish()?;
    Ok(values)
}

/// Errors: `Arity`, `WrongValue` (null for a field that cannot be null included).
pub fn encode_compacted_row<'t>(
    values: &[Value],
    types: impl ExactSizeIterator<Item = &'t DataType>,
) -> Result<Vec<u8>, RowError> {
    if values.len() != types.len() {
        return Err(RowError::Arity { expected: types.len(), found: values.len() });
    }
    let null_bytes = values.len().div_ceil(8);
    let mut out = Vec::with_capacity(null_bytes + values.iter().map(room).sum::<usize>());
    out.resize(null_bytes, 0);
    for (index, (value, data_type)) in values.iter().zip(types).enumerate() {
        if value.is_null() && data_type.nullable {
            out[index / 8] |= 1 << (index % 8);
        } else {
            encode(&mut out, value, &data_type.kind)?;
        }
    }
    Ok(out)
}

/// About what a value takes, so that a buffer grows once: nested values take what they take.
fn room(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Text(text) => 5 + text.len(),
        Value::Bytes(bytes) => 5 + bytes.len(),
        _ => 10,
    }
}

/// A key: the values of the key columns, none of them null, without null bits.
pub fn decode_compacted_key<'t>(
    bytes: &Bytes,
    types: impl ExactSizeIterator<Item = &'t DataType>,
) -> Result<Vec<Value>, RowError> {
    let mut cursor = Cursor::new(bytes.clone());
    let values = types.map(|data_type| decode(&mut cursor, &data_type.kind)).collect::<Result<_, _>>()?;
    cursor.finish()?;
    Ok(values)
}

/// Errors: `Arity`, `WrongValue`.
pub fn encode_compacted_key<'t>(
    values: &'t [Value],
    types: impl ExactSizeIterator<Item = &'t DataType>,
) -> Result<Vec<u8>, RowError> {
    if values.len() != types.len() {
        return Err(RowError::Arity { expected: types.len(), found: values.len() });
    }
    encode_compacted_key_parts(values.iter().zip(types))
}

/// The same, of values that lie apart.
///
/// Errors: `WrongValue`.
pub fn encode_compacted_key_parts<'t>(parts: impl Iterator<Item = (&'t Value, &'t DataType)>) -> Result<Vec<u8>, RowError> {
    let mut out = Vec::with_capacity(16);
    for (value, data_type) in parts {
        encode(&mut out, value, &data_type.kind)?;
    }
    Ok(out)
}

fn decode(cursor: &mut Cursor, kind: &TypeKind) -> Result<Value, RowError> {
    let at = cursor.at();
    Ok(match kind {
        TypeKind::Boolean => Value::Boolean(cursor.array::<1>("boolean")? != [0]),
        TypeKind::TinyInt => Value::TinyInt(i8::from_le_bytes(cursor.array("tinyint")?)),
        TypeKind::SmallInt => Value::SmallInt(i16::from_le_bytes(cursor.array("smallint")?)),
        TypeKind::Int => Value::Int(cursor.uvarint32()? as i32),
        TypeKind::Date => Value::Date(cursor.uvarint32()? as i32),
        TypeKind::Time(_) => Value::Time(cursor.uvarint32()? as i32),
        TypeKind::BigInt => Value::BigInt(cursor.uvarint64()? as i64),
        TypeKind::Float => Value::Float(f32::from_le_bytes(cursor.array("float")?)),
        TypeKind::Double => Value::Double(f64::from_le_bytes(cursor.array("double")?)),
        TypeKind::Char(_) | TypeKind::String => {
            let text = String::from_utf8(cursor.counted("text")?.to_vec());
            Value::Text(text.map_err(|_| RowError::NotUtf8 { at })?)
        }
        TypeKind::Binary(_) | TypeKind::Bytes => Value::Bytes(cursor.counted("bytes")?),
        TypeKind::Decimal { precision, .. } if is_compact_decimal(*precision) => {
            Value::Decimal(i128::from(cursor.uvarint64()? as i64))
        }
        TypeKind::Decimal { .. } => {
            let bytes = cursor.counted("decimal")?;
            let found = bytes.len() as i64;
            Value::Decimal(unscaled_from(&bytes).ok_or(RowError::BadNumber { at, what: "decimal length", found })?)
        }
        TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision) => {
            let ms = cursor.uvarint64()? as i64;
            let nanos = if is_compact_timestamp(*precision) { 0 } else { cursor.uvarint32()? };
            Value::Timestamp { ms, nanos: nanos_of_ms(nanos, at)? }
        }
        TypeKind::Array(element) => Value::Array(decode_array(&cursor.counted("array")?, element)?),
        TypeKind::Map(key, value) => Value::Map(decode_map(&cursor.counted("map")?, key, value)?),
        TypeKind::Row(fields) => {
            let types = fields.iter().map(|field| &field.data_type);
            Value::Row(decode_compacted_row(&cursor.counted("row")?, types)?)
        }
    })
}

/// Nanoseconds of a millisecond, checked.
pub(super) fn nanos_of_ms(nanos: u32, at: usize) -> Result<i32, RowError> {
    if nanos > 999_999 {
        return Err(RowError::BadNumber { at, what: "nanoseconds", found: i64::from(nanos) });
    }
    Ok(nanos as i32)
}

fn encode(out: &mut Vec<u8>, value: &Value, kind: &TypeKind) -> Result<(), RowError> {
    match (kind, value) {
        (TypeKind::Boolean, Value::Boolean(value)) => out.push(u8::from(*value)),
        (TypeKind::TinyInt, Value::TinyInt(value)) => out.push(*value as u8),
        (TypeKind::SmallInt, Value::SmallInt(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (TypeKind::Int, Value::Int(value)) | (TypeKind::Date, Value::Date(value)) | (TypeKind::Time(_), Value::Time(value)) => {
            put_uvarint(out, u64::from(*value as u32));
        }
        (TypeKind::BigInt, Value::BigInt(value)) => put_uvarint(out, *value as u64),
        (TypeKind::Float, Value::Float(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (TypeKind::Double, Value::Double(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (TypeKind::Char(_) | TypeKind::String, Value::Text(text)) => put_counted(out, text.as_bytes()),
        (TypeKind::Binary(_) | TypeKind::Bytes, Value::Bytes(bytes)) => put_counted(out, bytes),
        (TypeKind::Decimal { precision, .. }, Value::Decimal(unscaled)) if is_compact_decimal(*precision) => {
            put_uvarint(out, i64::try_from(*unscaled).map_err(|_| mismatch(value, kind))? as u64);
        }
        (TypeKind::Decimal { .. }, Value::Decimal(unscaled)) => put_counted(out, &unscaled_bytes(*unscaled)),
        (TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision), Value::Timestamp { ms, nanos }) => {
            put_uvarint(out, *ms as u64);
            if !is_compact_timestamp(*precision) {
                put_uvarint(out, u64::from(*nanos as u32));
            }
        }
        (TypeKind::Array(element), Value::Array(values)) => put_counted(out, &encode_array(values, element)?),
        (TypeKind::Map(key, of), Value::Map(entries)) => put_counted(out, &encode_map(entries, key, of)?),
        (TypeKind::Row(fields), Value::Row(values)) => {
            put_counted(out, &encode_compacted_row(values, fields.iter().map(|field| &field.data_type))?);
        }
        (kind, value) => return Err(mismatch(value, kind)),
    }
    Ok(())
}

fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
