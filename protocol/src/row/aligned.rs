//! Aligned rows: a slot of 8 bytes for every field, and what does not fit behind.
//!
//! ```text
//! null bits      byte 0 = 0; field i is bit i + 8 from the low end; padded to 8 bytes
//! slots          8 bytes each; a null field has 0
//! variable part
//! ```

use super::error::RowError;
use super::slot::{SlotReader, write_slot};
use super::value::Value;
use crate::schema::DataType;
use bytes::Bytes;

const SLOT_BYTES: usize = 8;
/// Null bits start behind the header byte.
const HEADER_BITS: usize = 8;

fn slots_at(arity: usize) -> usize {
    (arity + HEADER_BITS).div_ceil(64) * 8
}

/// Errors: the bytes are not an aligned row of these types. Nested types do not occur in aligned rows, but would be taken.
pub fn decode_aligned_row<'t>(bytes: &Bytes, types: impl ExactSizeIterator<Item = &'t DataType>) -> Result<Vec<Value>, RowError> {
    let slots_at = slots_at(types.len());
    let fixed_end = slots_at + types.len() * SLOT_BYTES;
    if fixed_end > bytes.len() {
        return Err(RowError::Short { at: 0, what: "aligned row", expected: fixed_end, found: bytes.len() });
    }
    if bytes[0] != 0 {
        return Err(RowError::BadNumber { at: 0, what: "row header", found: i64::from(bytes[0]) });
    }
    let mut slots = SlotReader::new(bytes, fixed_end);
    types
        .enumerate()
        .map(|(field, data_type)| {
            let bit = field + HEADER_BITS;
            if bytes[bit / 8] >> (bit % 8) & 1 == 1 {
                return Ok(Value::Null);
            }
            slots.read(field, slots_at + field * SLOT_BYTES, &data_type.kind)
        })
        .collect()
}

/// Errors: `Arity`, `WrongValue`.
pub fn encode_aligned_row<'t>(values: &[Value], types: impl ExactSizeIterator<Item = &'t DataType>) -> Result<Vec<u8>, RowError> {
    if values.len() != types.len() {
        return Err(RowError::Arity { expected: types.len(), found: values.len() });
    }
    let slots_at = slots_at(values.len());
    let mut out = vec![0; slots_at + values.len() * SLOT_BYTES];
    for (field, (value, data_type)) in values.iter().zip(types).enumerate() {
        let bit = field + HEADER_BITS;
        if value.is_null() {
            out[bit / 8] |= 1 << (bit % 8);
        } else {
            write_slot(&mut out, slots_at + field * SLOT_BYTES, value, &data_type.kind)?;
        }
    }
    Ok(out)
}
