//! Indexed rows: the row format of Java clients that lists the lengths of all variable columns up front.
//!
//! ```text
//! null bits   ceil(arity / 8) bytes, bit i of byte i/8 from the low end, 1 = null
//! lengths     int32 for every variable column; filled in the order of those that are not null, the rest is unused
//! values      of the fields that are not null, back to back
//! ```
//! Fixed: BOOLEAN, TINYINT 1, SMALLINT 2, INT, DATE, TIME, FLOAT 4, BIGINT, DOUBLE 8, CHAR(n), BINARY(n) n, compact DECIMAL
//! and compact timestamps 8, other timestamps 8 + 4. Variable: STRING, BYTES, other DECIMAL, ARRAY, MAP, ROW.

use super::array::{decode_array, decode_map, encode_array, encode_map};
use super::compacted::nanos_of_ms;
use super::cursor::Cursor;
use super::error::RowError;
use super::value::Value;
use super::{is_compact_decimal, is_compact_timestamp, mismatch, unscaled_bytes, unscaled_from};
use crate::schema::{DataType, TypeKind};
use bytes::Bytes;

const LENGTH_BYTES: usize = 4;

fn is_variable(kind: &TypeKind) -> bool {
    match kind {
        TypeKind::Decimal { precision, .. } => !is_compact_decimal(*precision),
        TypeKind::String | TypeKind::Bytes | TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Row(_) => true,
        _ => false,
    }
}

/// Errors: the bytes are not an indexed row of exactly these types.
pub fn decode_indexed_row(bytes: &Bytes, types: &[&DataType]) -> Result<Vec<Value>, RowError> {
    let mut cursor = Cursor::new(bytes.clone());
    let nulls = cursor.take("null bits", types.len().div_ceil(8))?;
    let variable = types.iter().filter(|data_type| is_variable(&data_type.kind)).count();
    let mut lengths = Cursor::new(cursor.take("lengths", variable * LENGTH_BYTES)?);
    let mut values = Vec::with_capacity(types.len());
    for (index, data_type) in types.iter().enumerate() {
        values.push(if nulls[index / 8] >> (index % 8) & 1 == 1 {
            Value::Null
        } else if is_variable(&data_type.kind) {
            let length = lengths.length("length")?;
            decode_variable(&cursor.take("value", length)?, &data_type.kind)?
        } else {
            decode_fixed(&mut cursor, &data_type.kind)?
        });
    }
    cursor.finish()?;
    Ok(values)
}

fn decode_variable(bytes: &Bytes, kind: &TypeKind) -> Result<Value, RowError> {
    let bad_decimal = RowError::BadNumber { at: 0, what: "decimal length", found: bytes.len() as i64 };
    Ok(match kind {
        TypeKind::String => Value::Text(text(bytes)?),
        TypeKind::Decimal { .. } => Value::Decimal(unscaled_from(bytes).ok_or(bad_decimal)?),
        TypeKind::Array(element) => Value::Array(decode_array(bytes, element)?),
        TypeKind::Map(key, value) => Value::Map(decode_map(bytes, key, value)?),
        TypeKind::Row(fields) => {
            let types: Vec<_> = fields.iter().map(|field| &field.data_type).collect();
            Value::Row(decode_indexed_row(bytes, &types)?)
        }
        _ => Value::Bytes(bytes.clone()),
    })
}

fn text(bytes: &[u8]) -> Result<String, RowError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| RowError::NotUtf8 { at: 0 })
}

fn decode_fixed(cursor: &mut Cursor, kind: &TypeKind) -> Result<Value, RowError> {
    let at = cursor.at();
    Ok(match kind {
        TypeKind::Boolean => Value::Boolean(cursor.array::<1>("boolean")? != [0]),
        TypeKind::TinyInt => Value::TinyInt(i8::from_le_bytes(cursor.array("tinyint")?)),
        TypeKind::SmallInt => Value::SmallInt(i16::from_le_bytes(cursor.array("smallint")?)),
        TypeKind::Int => Value::Int(cursor.i32("int")?),
        TypeKind::Date => Value::Date(cursor.i32("date")?),
        TypeKind::Time(_) => Value::Time(cursor.i32("time")?),
        TypeKind::Float => Value::Float(f32::from_le_bytes(cursor.array("float")?)),
        TypeKind::BigInt => Value::BigInt(i64::from_le_bytes(cursor.array("bigint")?)),
        TypeKind::Double => Value::Double(f64::from_le_bytes(cursor.array("double")?)),
        TypeKind::Decimal { .. } => Value::Decimal(i128::from(i64::from_le_bytes(cursor.array("decimal")?))),
        TypeKind::Char(length) => {
            let bytes = cursor.take("char", *length as usize)?;
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            Value::Text(text(&bytes[..end])?)
        }
        TypeKind::Binary(length) => Value::Bytes(cursor.take("binary", *length as usize)?),
        TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision) => {
            let ms = i64::from_le_bytes(cursor.array("timestamp")?);
            let nanos = if is_compact_timestamp(*precision) { 0 } else { cursor.i32("nanoseconds")? as u32 };
            Value::Timestamp { ms, nanos: nanos_of_ms(nanos, at)? }
        }
        TypeKind::String | TypeKind::Bytes | TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Row(_) => {
            unreachable!("the caller asks for fixed types only")
        }
    })
}

/// Errors: `Arity`, `WrongValue`, `TooLong` (text of a CHAR, bytes of a BINARY).
pub fn encode_indexed_row(values: &[Value], types: &[&DataType]) -> Result<Vec<u8>, RowError> {
    if values.len() != types.len() {
        return Err(RowError::Arity { expected: types.len(), found: values.len() });
    }
    let mut lengths_at = values.len().div_ceil(8);
    let variable = types.iter().filter(|data_type| is_variable(&data_type.kind)).count();
    let mut out = vec![0; lengths_at + variable * LENGTH_BYTES];
    for (index, (value, data_type)) in values.iter().zip(types).enumerate() {
        if value.is_null() && data_type.nullable {
            out[index / 8] |= 1 << (index % 8);
            continue;
        }
        let from = out.len();
        encode(&mut out, value, &data_type.kind)?;
        if is_variable(&data_type.kind) {
            let length = (out.len() - from) as i32;
            out[lengths_at..lengths_at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
            lengths_at += LENGTH_BYTES;
        }
    }
    Ok(out)
}

fn encode(out: &mut Vec<u8>, value: &Value, kind: &TypeKind) -> Result<(), RowError> {
    match (kind, value) {
        (TypeKind::Boolean, Value::Boolean(value)) => out.push(u8::from(*value)),
        (TypeKind::TinyInt, Value::TinyInt(value)) => out.push(*value as u8),
        (TypeKind::SmallInt, Value::SmallInt(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (TypeKind::Int, Value::Int(value)) | (TypeKind::Date, Value::Date(value)) | (TypeKind::Time(_), Value::Time(value)) => {
            out.extend_from_slice(&value.to_le_bytes());
        }
        (TypeKind::Float, Value::Float(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (TypeKind::BigInt, Value::BigInt(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (TypeKind::Double, Value::Double(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (TypeKind::Decimal { precision, .. }, Value::Decimal(unscaled)) if is_compact_decimal(*precision) => {
            out.extend_from_slice(&i64::try_from(*unscaled).map_err(|_| mismatch(value, kind))?.to_le_bytes());
        }
        (TypeKind::Decimal { .. }, Value::Decimal(unscaled)) => out.extend_from_slice(&unscaled_bytes(*unscaled)),
        (TypeKind::Char(length), Value::Text(text)) => padded(out, text.as_bytes(), *length as usize)?,
        (TypeKind::Binary(length), Value::Bytes(bytes)) => padded(out, bytes, *length as usize)?,
        (TypeKind::String, Value::Text(text)) => out.extend_from_slice(text.as_bytes()),
        (TypeKind::Bytes, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
        (TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision), Value::Timestamp { ms, nanos }) => {
            out.extend_from_slice(&ms.to_le_bytes());
            if !is_compact_timestamp(*precision) {
                out.extend_from_slice(&nanos.to_le_bytes());
            }
        }
        (TypeKind::Array(element), Value::Array(values)) => out.extend_from_slice(&encode_array(values, element)?),
        (TypeKind::Map(key, of), Value::Map(entries)) => out.extend_from_slice(&encode_map(entries, key, of)?),
        (TypeKind::Row(fields), Value::Row(values)) => {
            let types: Vec<_> = fields.iter().map(|field| &field.data_type).collect();
            out.extend_from_slice(&encode_indexed_row(values, &types)?);
        }
        (kind, value) => return Err(mismatch(value, kind)),
    }
    Ok(())
}

fn padded(out: &mut Vec<u8>, bytes: &[u8], length: usize) -> Result<(), RowError> {
    let pad = length.checked_sub(bytes.len()).ok_or(RowError::TooLong { max: length, found: bytes.len() })?;
    out.extend_from_slice(bytes);
    out.resize(out.len() + pad, 0);
    Ok(())
}
