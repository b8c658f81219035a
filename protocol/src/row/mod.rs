//! Rows: bytes <-> values, for the four row formats of Fluss.
//!
//! - compacted: rows of KV batches, stored values, nested rows, keys (without the null bits);
//! - indexed: the alternative of Java clients, decoded only;
//! - aligned: bounds in batch statistics, Paimon keys;
//! - arrays and maps, inside any of them.
//!
//! Decoding is strict: every byte has a meaning, what points somewhere points forward, so decoded values are never larger
//! than the bytes justify. Recursion is bounded by the type, not by the bytes.
//!
//! Reading order: `value`, `cursor`, `compacted`, `slot`, `array`, `aligned`, `indexed`.
//! Source: records.md 8.

mod aligned;
mod array;
mod compacted;
mod cursor;
mod error;
mod indexed;
mod key;
mod slot;
mod value;

pub use aligned::{decode_aligned_row, encode_aligned_row};
pub use array::{decode_array, decode_map, encode_array, encode_map};
pub use compacted::{
    decode_compacted_key, decode_compacted_row, encode_compacted_key, encode_compacted_key_parts, encode_compacted_row,
};
pub(crate) use cursor::{Cursor, put_uvarint};
pub use error::RowError;
pub use indexed::{decode_indexed_row, encode_indexed_row};
pub use key::encode_key;
pub use value::Value;

use crate::schema::TypeKind;

/// Decimals up to this precision are 64-bit numbers, others are bytes.
const COMPACT_DECIMAL_PRECISION_MAX: u8 = 18;
/// Timestamps up to this precision are milliseconds, others have nanoseconds besides.
const COMPACT_TIMESTAMP_PRECISION_MAX: u8 = 3;

fn is_compact_decimal(precision: u8) -> bool {
    precision <= COMPACT_DECIMAL_PRECISION_MAX
}

fn is_compact_timestamp(precision: u8) -> bool {
    precision <= COMPACT_TIMESTAMP_PRECISION_MAX
}

/// What an encoder says when a value is not of the column's type.
fn mismatch(value: &Value, kind: &TypeKind) -> RowError {
    RowError::WrongValue { expected: kind.root(), found: value.name() }
}

/// Minimal two's complement, big-endian: at least one byte.
fn unscaled_bytes(unscaled: i128) -> Vec<u8> {
    let bytes = unscaled.to_be_bytes();
    let fill = if unscaled < 0 { 0xff } else { 0 };
    // A leading byte goes if it is only sign, and the next one still shows the sign.
    let redundant = bytes.windows(2).take_while(|two| two[0] == fill && (two[1] ^ fill) & 0x80 == 0).count();
    bytes[redundant..].to_vec()
}

/// Back from [`unscaled_bytes`]; longer forms of the same number are taken too. None if empty or more than 128 bits.
fn unscaled_from(bytes: &[u8]) -> Option<i128> {
    if bytes.is_empty() || bytes.len() > 16 {
        return None;
    }
    let fill = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [fill; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unscaled_numbers_are_minimal() {
        let cases: [(i128, &[u8]); 7] = [
            (0, &[0]),
            (127, &[127]),
            (128, &[0, 128]),
            (-128, &[128]),
            (-129, &[0xff, 0x7f]),
            (65536, &[1, 0, 0]),
            (-1, &[0xff]),
        ];
        for (number, bytes) in cases {
            assert_eq!(unscaled_bytes(number), bytes, "{number}");
        }
        assert_eq!(unscaled_from(&[]), None);
        assert_eq!(unscaled_from(&[0; 17]), None);
    }

    proptest! {
        #[test]
        fn unscaled_numbers_come_back(number: i128, shift in 0u32..127) {
            let number = number >> shift;
            prop_assert_eq!(unscaled_from(&unscaled_bytes(number)), Some(number));
        }
    }
}
