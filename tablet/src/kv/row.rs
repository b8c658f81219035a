//! Rows as values: stored form, key form, and the form that every later step can carry without loss.

use bytes::Bytes;
use floss_protocol::row::{RowError, Value, decode_compacted_row, decode_indexed_row, encode_compacted_row, encode_indexed_row};
use floss_protocol::schema::{DataType, KvFormat, TypeKind};

/// The values of all columns of a schema, in order.
pub type Row = Vec<Value>;

/// Errors: the bytes are not a row of these types.
pub(super) fn decode(format: KvFormat, bytes: &Bytes, types: &[DataType]) -> Result<Row, RowError> {
    match format {
        KvFormat::Compacted => decode_compacted_row(bytes, types.iter()),
        KvFormat::Indexed => decode_indexed_row(bytes, &types.iter().collect::<Vec<_>>()),
    }
}

/// Errors: a value does not fit its type.
pub(super) fn encode(format: KvFormat, row: &[Value], types: &[DataType]) -> Result<Vec<u8>, RowError> {
    match format {
        KvFormat::Compacted => encode_compacted_row(row, types.iter()),
        KvFormat::Indexed => encode_indexed_row(row, &types.iter().collect::<Vec<_>>()),
    }
}

/// Cuts a value to what a changelog can hold: times and timestamps to their precision.
///
/// What a replica stores is the fold of the changelog (I8), so the leader must decide on the cut value.
/// Errors: why the value cannot be in a column of this type.
pub(super) fn canonical(value: &mut Value, data_type: &DataType) -> Result<(), String> {
    match (&data_type.kind, value) {
        (_, Value::Null) if data_type.nullable => {}
        (_, Value::Null) => return Err("null in a column that is not nullable".to_owned()),
        (TypeKind::Time(0), Value::Time(ms)) => {
            *ms = ms.checked_sub(ms.rem_euclid(1_000)).ok_or("time below all seconds")?;
        }
        (TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision), Value::Timestamp { ms, nanos }) => {
            cut_timestamp(*precision, ms, nanos)?;
        }
        (TypeKind::Binary(length), Value::Bytes(bytes)) if bytes.len() != *length as usize => {
            return Err(format!("{} bytes, expected {length}", bytes.len()));
        }
        (TypeKind::Decimal { precision, .. }, Value::Decimal(unscaled))
            if unscaled.unsigned_abs() >= 10_u128.pow(u32::from(*precision)) =>
        {
            return Err(format!("decimal of more than {precision} digits"));
        }
        (TypeKind::Array(element), Value::Array(values)) => {
            values.iter_mut().try_for_each(|value| canonical(value, element))?;
        }
        (TypeKind::Map(key, of), Value::Map(entries)) => {
            for (entry_key, value) in entries {
                canonical(entry_key, key)?;
                canonical(value, of)?;
            }
        }
        (TypeKind::Row(fields), Value::Row(values)) => {
            for (value, field) in values.iter_mut().zip(fields) {
                canonical(value, &field.data_type)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn cut_timestamp(precision: u8, ms: &mut i64, nanos: &mut i32) -> Result<(), String> {
    let per_ms: i64 = match precision {
        0 => {
            *ms = ms.checked_sub(ms.rem_euclid(1_000)).ok_or("timestamp below all seconds")?;
            *nanos = 0;
            return Ok(());
        }
        1..=3 => {
            *nanos = 0;
            return Ok(());
        }
        4..=6 => {
            *nanos -= *nanos % 1_000;
            1_000
        }
        _ => 1_000_000,
    };
    // One less than what fits, so that adding the nanoseconds cannot overflow.
    if ms.unsigned_abs() >= (i64::MAX / per_ms) as u64 {
        return Err(format!("timestamp of {ms} ms does not fit precision {precision}"));
    }
    Ok(())
}
