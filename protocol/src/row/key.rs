//! Keys as clients encode them: primary keys, bucket keys, prefixes.
//!
//! The server compares keys bytewise and never needs to look inside, except to rebuild the key columns of a row that a
//! lookup inserts. Source: records.md 9.2.

use super::aligned::encode_aligned_row;
use super::compacted::encode_compacted_key;
use super::error::RowError;
use super::value::Value;
use super::{mismatch, unscaled_bytes};
use crate::schema::{DataType, LakeFormat, TypeKind};

/// Encodes the values of the key columns, in key order. Hudi keys hash texts that only Java knows how to print and are refused.
///
/// Errors: `Arity`, `WrongValue` (also for types that the format cannot have as keys).
pub fn encode_key(values: &[Value], types: &[&DataType], lake: Option<LakeFormat>) -> Result<Vec<u8>, RowError> {
    match lake {
        None | Some(LakeFormat::Lance) => encode_compacted_key(values, types.iter().copied()),
        Some(LakeFormat::Paimon) => match types.iter().zip(values).find(|(data_type, _)| data_type.kind.is_nested()) {
            Some((data_type, value)) => Err(mismatch(value, &data_type.kind)),
            None => encode_aligned_row(values, types.iter().copied()),
        },
        Some(LakeFormat::Iceberg) => match (values, types) {
            ([value], [data_type]) => iceberg_key(value, &data_type.kind),
            _ => Err(RowError::Arity { expected: 1, found: values.len() }),
        },
        Some(LakeFormat::Hudi) => Err(RowError::WrongValue { expected: "a key format known here", found: "a hudi key" }),
    }
}

/// One column: Iceberg's own single-value forms, times in microseconds.
fn iceberg_key(value: &Value, kind: &TypeKind) -> Result<Vec<u8>, RowError> {
    let long = |number: i64| Ok(number.to_le_bytes().to_vec());
    match (kind, value) {
        (TypeKind::Int, Value::Int(value)) | (TypeKind::Date, Value::Date(value)) => long(i64::from(*value)),
        (TypeKind::BigInt, Value::BigInt(value)) => long(*value),
        (TypeKind::Time(_), Value::Time(ms)) => long(i64::from(*ms) * 1_000),
        (TypeKind::Timestamp(_), Value::Timestamp { ms, nanos }) => {
            long(ms.wrapping_mul(1_000).wrapping_add(i64::from(*nanos / 1_000)))
        }
        (TypeKind::Float, Value::Float(value)) => Ok(value.to_le_bytes().to_vec()),
        (TypeKind::Double, Value::Double(value)) => Ok(value.to_le_bytes().to_vec()),
        (TypeKind::Char(_) | TypeKind::String, Value::Text(text)) => Ok(text.as_bytes().to_vec()),
        (TypeKind::Binary(_) | TypeKind::Bytes, Value::Bytes(bytes)) => Ok(bytes.to_vec()),
        (TypeKind::Decimal { .. }, Value::Decimal(unscaled)) => Ok(unscaled_bytes(*unscaled)),
        (kind, value) => Err(mismatch(value, kind)),
    }
}
