//! Slots of 8 bytes with a variable part behind: what aligned rows and arrays have in common.
//!
//! ```text
//! up to 7 bytes of text or bytes   bytes 0..7 = data, byte 7 = 0x80 + length
//! longer, or nested                (offset << 32) + length; data there, padded with zeros to 8
//! DECIMAL above precision 18       the same, 16 bytes reserved
//! timestamps above precision 3     (offset << 32) + nanoseconds of the millisecond; 8 bytes of ms there
//! ```
//! Offsets count from the start of the row or array.

use super::array::{decode_array, decode_map, encode_array, encode_map};
use super::compacted::{decode_compacted_row, encode_compacted_row, nanos_of_ms};
use super::error::RowError;
use super::value::Value;
use super::{is_compact_decimal, is_compact_timestamp, mismatch, unscaled_bytes, unscaled_from};
use crate::schema::TypeKind;
use bytes::Bytes;
use std::ops::Range;

const INLINE_BYTES_MAX: usize = 7;
const DECIMAL_RESERVED_BYTES: usize = 16;

/// How many bytes a value has in the fixed part of an array.
pub(super) fn element_bytes(kind: &TypeKind) -> usize {
    match kind {
        TypeKind::Boolean | TypeKind::TinyInt => 1,
        TypeKind::SmallInt => 2,
        TypeKind::Int | TypeKind::Float | TypeKind::Date | TypeKind::Time(_) => 4,
        _ => 8,
    }
}

/// Reads slots in order. Pointers must go forward and not overlap, which every writer does: so what is decoded
/// is no larger than the bytes, however nested.
pub(super) struct SlotReader<'a> {
    bytes: &'a Bytes,
    /// End of what earlier slots pointed to.
    free_from: usize,
}

impl<'a> SlotReader<'a> {
    /// `variable_from`: where the fixed part ends.
    pub fn new(bytes: &'a Bytes, variable_from: usize) -> Self {
        Self { bytes, free_from: variable_from }
    }

    /// The value of field number `field`, whose slot starts at `at` (checked by the caller to be inside).
    pub fn read(&mut self, field: usize, at: usize, kind: &TypeKind) -> Result<Value, RowError> {
        Ok(match kind {
            TypeKind::Boolean => Value::Boolean(self.bytes[at] != 0),
            TypeKind::TinyInt => Value::TinyInt(self.bytes[at] as i8),
            TypeKind::SmallInt => Value::SmallInt(i16::from_le_bytes(self.fixed(at))),
            TypeKind::Int => Value::Int(i32::from_le_bytes(self.fixed(at))),
            TypeKind::Date => Value::Date(i32::from_le_bytes(self.fixed(at))),
            TypeKind::Time(_) => Value::Time(i32::from_le_bytes(self.fixed(at))),
            TypeKind::Float => Value::Float(f32::from_le_bytes(self.fixed(at))),
            TypeKind::BigInt => Value::BigInt(i64::from_le_bytes(self.fixed(at))),
            TypeKind::Double => Value::Double(f64::from_le_bytes(self.fixed(at))),
            TypeKind::Decimal { precision, .. } if is_compact_decimal(*precision) => {
                Value::Decimal(i128::from(i64::from_le_bytes(self.fixed(at))))
            }
            TypeKind::Decimal { .. } => {
                let range = self.pointed(field, at, DECIMAL_RESERVED_BYTES)?;
                let found = range.len() as i64;
                let unscaled = unscaled_from(&self.bytes[range]);
                Value::Decimal(unscaled.ok_or(RowError::BadNumber { at, what: "decimal length", found })?)
            }
            TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision) if is_compact_timestamp(*precision) => {
                Value::Timestamp { ms: i64::from_le_bytes(self.fixed(at)), nanos: 0 }
            }
            TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
                let slot = u64::from_le_bytes(self.fixed(at));
                let range = self.claim(field, (slot >> 32) as usize, 8, 8)?;
                Value::Timestamp { ms: i64::from_le_bytes(self.fixed(range.start)), nanos: nanos_of_ms(slot as u32, at)? }
            }
            TypeKind::Char(_) | TypeKind::String => {
                let range = self.inline_or_pointed(field, at)?;
                let text = String::from_utf8(self.bytes[range].to_vec());
                Value::Text(text.map_err(|_| RowError::NotUtf8 { at })?)
            }
            TypeKind::Binary(_) | TypeKind::Bytes => Value::Bytes(self.bytes.slice(self.inline_or_pointed(field, at)?)),
            TypeKind::Array(element) => Value::Array(decode_array(&self.nested(field, at)?, element)?),
            TypeKind::Map(key, value) => Value::Map(decode_map(&self.nested(field, at)?, key, value)?),
            TypeKind::Row(fields) => {
                let types = fields.iter().map(|field| &field.data_type);
                Value::Row(decode_compacted_row(&self.nested(field, at)?, types)?)
            }
        })
    }

    fn fixed<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes[at..at + N].try_into().expect("a slice of N bytes is an array of N bytes")
    }

    fn nested(&mut self, field: usize, at: usize) -> Result<Bytes, RowError> {
        self.pointed(field, at, 0).map(|range| self.bytes.slice(range))
    }

    fn inline_or_pointed(&mut self, field: usize, at: usize) -> Result<Range<usize>, RowError> {
        let tag = self.bytes[at + INLINE_BYTES_MAX];
        if tag & 0x80 == 0 {
            return self.pointed(field, at, 0);
        }
        let length = usize::from(tag & 0x7f);
        if length > INLINE_BYTES_MAX {
            return Err(RowError::BadNumber { at, what: "inline length", found: length as i64 });
        }
        Ok(at..at + length)
    }

    fn pointed(&mut self, field: usize, at: usize, reserved: usize) -> Result<Range<usize>, RowError> {
        let slot = u64::from_le_bytes(self.fixed(at));
        let length = (slot as u32) as usize;
        self.claim(field, (slot >> 32) as usize, length, reserved)
    }

    /// Takes `length` bytes at `offset`, and the space up to `reserved` with them.
    fn claim(&mut self, field: usize, offset: usize, length: usize, reserved: usize) -> Result<Range<usize>, RowError> {
        // Both come from 32 bits, so this cannot overflow.
        let end = offset + length;
        if offset < self.free_from || end > self.bytes.len() {
            return Err(RowError::BadPointer { field, offset, end, from: self.free_from, to: self.bytes.len() });
        }
        self.free_from = end.max(offset + reserved);
        Ok(offset..end)
    }
}

/// Writes the value into its slot, and behind `out` what does not fit.
///
/// Shape: `out[at..]` has the slot, all zeros. For arrays the slots are [`element_bytes`] wide.
pub(super) fn write_slot(out: &mut Vec<u8>, at: usize, value: &Value, kind: &TypeKind) -> Result<(), RowError> {
    match (kind, value) {
        (TypeKind::Boolean, Value::Boolean(value)) => out[at] = u8::from(*value),
        (TypeKind::TinyInt, Value::TinyInt(value)) => out[at] = *value as u8,
        (TypeKind::SmallInt, Value::SmallInt(value)) => set(out, at, &value.to_le_bytes()),
        (TypeKind::Int, Value::Int(value)) | (TypeKind::Date, Value::Date(value)) | (TypeKind::Time(_), Value::Time(value)) => {
            set(out, at, &value.to_le_bytes());
        }
        (TypeKind::Float, Value::Float(value)) => set(out, at, &value.to_le_bytes()),
        (TypeKind::BigInt, Value::BigInt(value)) => set(out, at, &value.to_le_bytes()),
        (TypeKind::Double, Value::Double(value)) => set(out, at, &value.to_le_bytes()),
        (TypeKind::Decimal { precision, .. }, Value::Decimal(unscaled)) if is_compact_decimal(*precision) => {
            set(out, at, &i64::try_from(*unscaled).map_err(|_| mismatch(value, kind))?.to_le_bytes());
        }
        (TypeKind::Decimal { .. }, Value::Decimal(unscaled)) => {
            let bytes = unscaled_bytes(*unscaled);
            append(out, at, &bytes, bytes.len(), DECIMAL_RESERVED_BYTES);
        }
        (TypeKind::Timestamp(precision) | TypeKind::TimestampLtz(precision), Value::Timestamp { ms, .. })
            if is_compact_timestamp(*precision) =>
        {
            set(out, at, &ms.to_le_bytes());
        }
        (TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_), Value::Timestamp { ms, nanos }) => {
            append(out, at, &ms.to_le_bytes(), *nanos as usize, 8);
        }
        (TypeKind::Char(_) | TypeKind::String, Value::Text(text)) => inline_or_append(out, at, text.as_bytes()),
        (TypeKind::Binary(_) | TypeKind::Bytes, Value::Bytes(bytes)) => inline_or_append(out, at, bytes),
        (TypeKind::Array(element), Value::Array(values)) => append_all(out, at, &encode_array(values, element)?),
        (TypeKind::Map(key, of), Value::Map(entries)) => append_all(out, at, &encode_map(entries, key, of)?),
        (TypeKind::Row(fields), Value::Row(values)) => {
            append_all(out, at, &encode_compacted_row(values, fields.iter().map(|field| &field.data_type))?);
        }
        (kind, value) => return Err(mismatch(value, kind)),
    }
    Ok(())
}

fn set(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn inline_or_append(out: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.len() > INLINE_BYTES_MAX {
        return append_all(out, at, bytes);
    }
    set(out, at, bytes);
    out[at + INLINE_BYTES_MAX] = 0x80 | bytes.len() as u8;
}

fn append_all(out: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    append(out, at, bytes, bytes.len(), 0);
}

/// Puts `bytes` behind everything, padded to `reserved` and to 8, and a pointer with `low` as its lower half into the slot.
fn append(out: &mut Vec<u8>, at: usize, bytes: &[u8], low: usize, reserved: usize) {
    let offset = out.len();
    out.extend_from_slice(bytes);
    out.resize((offset + bytes.len().max(reserved)).next_multiple_of(8), 0);
    set(out, at, &((offset as u64) << 32 | low as u64).to_le_bytes());
}
