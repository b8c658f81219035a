//! Reads bytes from front to back, never past the end.

use super::error::RowError;
use bytes::Bytes;

#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    bytes: Bytes,
    at: usize,
}

impl Cursor {
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn take(&mut self, what: &'static str, expected: usize) -> Result<Bytes, RowError> {
        let found = self.left();
        if expected > found {
            return Err(RowError::Short { at: self.at, what, expected, found });
        }
        let taken = self.bytes.slice(self.at..self.at + expected);
        self.at += expected;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], RowError> {
        let found = self.left();
        let chunk = self.bytes[self.at..].first_chunk::<N>().copied();
        let chunk = chunk.ok_or(RowError::Short { at: self.at, what, expected: N, found })?;
        self.at += N;
        Ok(chunk)
    }

    pub fn i32(&mut self, what: &'static str) -> Result<i32, RowError> {
        self.array(what).map(i32::from_le_bytes)
    }

    /// A number of bytes or things: an int32 that is not negative.
    pub fn length(&mut self, what: &'static str) -> Result<usize, RowError> {
        let at = self.at;
        let found = self.i32(what)?;
        usize::try_from(found).map_err(|_| RowError::BadNumber { at, what, found: i64::from(found) })
    }

    pub fn rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.at..);
        self.at = self.bytes.len();
        rest
    }

    /// Errors if something is left.
    pub fn finish(self) -> Result<(), RowError> {
        match self.left() {
            0 => Ok(()),
            found => Err(RowError::Trailing { found }),
        }
    }

    pub fn uvarint32(&mut self) -> Result<u32, RowError> {
        let at = self.at;
        u32::try_from(self.uvarint(5)?).map_err(|_| RowError::LongNumber { at })
    }

    pub fn uvarint64(&mut self) -> Result<u64, RowError> {
        self.uvarint(10)
    }

    /// A uvarint32 length and so many bytes.
    pub fn counted(&mut self, what: &'static str) -> Result<Bytes, RowError> {
        let length = self.uvarint32()? as usize;
        self.take(what, length)
    }

    /// 7 bits a byte, low group first, the high bit says that more follow.
    fn uvarint(&mut self, bytes_max: u32) -> Result<u64, RowError> {
        let start = self.at;
        let mut number = 0u64;
        for index in 0..bytes_max {
            let [byte] = self.array("number")?;
            let group = u64::from(byte & 0x7f);
            if group << (7 * index) >> (7 * index) != group {
                return Err(RowError::LongNumber { at: start });
            }
            number |= group << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(RowError::LongNumber { at: start })
    }
}

pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64, shift in 0u32..64) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, number);
            let mut cursor = Cursor::new(bytes.clone().into());
            prop_assert_eq!(cursor.uvarint64(), Ok(number));
            prop_assert_eq!(cursor.finish(), Ok(()));
            let small = Cursor::new(bytes.into()).uvarint32();
            prop_assert_eq!(small.ok(), u32::try_from(number).ok());
        }
    }

    #[test]
    fn numbers_with_too_many_bits() {
        let refused = |bytes: &'static [u8]| Cursor::new(Bytes::from_static(bytes)).uvarint64();
        assert_eq!(refused(&[0xff; 9]), Err(RowError::Short { at: 9, what: "number", expected: 1, found: 0 }));
        assert_eq!(refused(&[0xff; 10]), Err(RowError::LongNumber { at: 0 }));
        assert_eq!(refused(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]), Err(RowError::LongNumber { at: 0 }));
    }
}
