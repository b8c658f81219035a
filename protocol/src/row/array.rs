//! Arrays and maps inside rows.
//!
//! ```text
//! array:  int32 size; null bits in 4-byte words, bit i = element i is null; elements of fixed width; pad to 8; variable part
//! map:    int32 bytes of the key array; key array; value array
//! ```

use super::cursor::Cursor;
use super::error::RowError;
use super::slot::{SlotReader, element_bytes, write_slot};
use super::value::Value;
use crate::schema::DataType;
use bytes::Bytes;

const SIZE_BYTES: usize = 4;

fn elements_at(size: usize) -> usize {
    SIZE_BYTES + size.div_ceil(32) * 4
}

/// Errors: the bytes are not an array of this type.
pub fn decode_array(bytes: &Bytes, element: &DataType) -> Result<Vec<Value>, RowError> {
    let size = Cursor::new(bytes.clone()).length("array size")?;
    let elements_at = elements_at(size);
    let width = element_bytes(&element.kind);
    // The size comes from 31 bits, so this cannot overflow.
    let fixed_end = elements_at + size * width;
    if fixed_end > bytes.len() {
        return Err(RowError::Short { at: 0, what: "array", expected: fixed_end, found: bytes.len() });
    }
    let mut slots = SlotReader::new(bytes, fixed_end);
    (0..size)
        .map(|index| {
            if bytes[SIZE_BYTES + index / 8] >> (index % 8) & 1 == 1 {
                return Ok(Value::Null);
            }
            slots.read(index, elements_at + index * width, &element.kind)
        })
        .collect()
}

/// Errors: `WrongValue`.
pub fn encode_array(values: &[Value], element: &DataType) -> Result<Vec<u8>, RowError> {
    let elements_at = elements_at(values.len());
    let width = element_bytes(&element.kind);
    let mut out = vec![0; (elements_at + values.len() * width).next_multiple_of(8)];
    out[..SIZE_BYTES].copy_from_slice(&(values.len() as i32).to_le_bytes());
    for (index, value) in values.iter().enumerate() {
        if value.is_null() {
            out[SIZE_BYTES + index / 8] |= 1 << (index % 8);
        } else {
            write_slot(&mut out, elements_at + index * width, value, &element.kind)?;
        }
    }
    Ok(out)
}

/// Errors: the bytes are not a map of these types.
pub fn decode_map(bytes: &Bytes, key: &DataType, value: &DataType) -> Result<Vec<(Value, Value)>, RowError> {
    let mut cursor = Cursor::new(bytes.clone());
    let key_bytes = cursor.length("key array bytes")?;
    let keys = decode_array(&cursor.take("key array", key_bytes)?, key)?;
    let values = decode_array(&cursor.rest(), value)?;
    if keys.len() != values.len() {
        return Err(RowError::MapSizes { keys: keys.len(), values: values.len() });
    }
    if let Some(index) = keys.iter().position(Value::is_null) {
        return Err(RowError::NullKey { index });
    }
    Ok(keys.into_iter().zip(values).collect())
}

/// Errors: `WrongValue`, `NullKey`.
pub fn encode_map(entries: &[(Value, Value)], key: &DataType, value: &DataType) -> Result<Vec<u8>, RowError> {
    if let Some(index) = entries.iter().position(|(key, _)| key.is_null()) {
        return Err(RowError::NullKey { index });
    }
    let (keys, values): (Vec<_>, Vec<_>) = entries.iter().cloned().unzip();
    let keys = encode_array(&keys, key)?;
    let mut out = (keys.len() as i32).to_le_bytes().to_vec();
    out.extend_from_slice(&keys);
    out.extend_from_slice(&encode_array(&values, value)?);
    Ok(out)
}
