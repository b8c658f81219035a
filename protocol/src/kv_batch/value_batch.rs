//! Values: a schema id and a row; and batches of them.

use super::batch::{Frames, LENGTH_END};
use super::error::KvBatchError;
use crate::ids::SchemaId;
use bytes::Bytes;

pub const VALUE_BATCH_HEADER_BYTES: usize = 9;
const RECORD_COUNT_AT: usize = 5;

/// A stored value, which is also what Lookup answers.
pub fn join_value(schema_id: SchemaId, row: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(2 + row.len());
    value.extend_from_slice(&schema_id.0.to_le_bytes());
    value.extend_from_slice(row);
    value.into()
}

/// Errors: `ShortValue`.
pub fn split_value(value: &Bytes) -> Result<(SchemaId, Bytes), KvBatchError> {
    let schema_id = value.first_chunk::<2>().ok_or(KvBatchError::ShortValue { found: value.len() })?;
    Ok((SchemaId(i16::from_le_bytes(*schema_id)), value.slice(2..)))
}

/// Collects values for LimitScan and ScanKv.
#[derive(Clone, Debug)]
pub struct ValueBatchBuilder {
    out: Vec<u8>,
    record_count: i32,
}

impl Default for ValueBatchBuilder {
    fn default() -> Self {
        Self { out: vec![0; VALUE_BATCH_HEADER_BYTES], record_count: 0 }
    }
}

impl ValueBatchBuilder {
    /// `value` as made by [`join_value`].
    pub fn push(&mut self, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(&(value.len() as i32).to_le_bytes());
        self.out.extend_from_slice(value);
        self.record_count += 1;
        self
    }

    /// Of the batch so far.
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    pub fn build(mut self) -> Bytes {
        let length = (self.out.len() - LENGTH_END) as i32;
        self.out[..LENGTH_END].copy_from_slice(&length.to_le_bytes());
        self.out[RECORD_COUNT_AT..VALUE_BATCH_HEADER_BYTES].copy_from_slice(&self.record_count.to_le_bytes());
        self.out.into()
    }
}

/// The values of a value batch. After an error it ends.
#[derive(Clone, Debug)]
pub struct ValueRecords {
    frames: Frames,
}

impl ValueRecords {
    /// Errors: `Size`, `UnknownMagic`, `FieldTooSmall`.
    pub fn new(batch: &Bytes) -> Result<Self, KvBatchError> {
        let header = batch
            .first_chunk::<VALUE_BATCH_HEADER_BYTES>()
            .ok_or(KvBatchError::Size { expected: VALUE_BATCH_HEADER_BYTES as i64, found: batch.len() })?;
        let [l0, l1, l2, l3, magic, c0, c1, c2, c3] = *header;
        let expected = i64::from(i32::from_le_bytes([l0, l1, l2, l3])) + LENGTH_END as i64;
        if expected != batch.len() as i64 {
            return Err(KvBatchError::Size { expected, found: batch.len() });
        }
        if magic != 0 {
            return Err(KvBatchError::UnknownMagic { found: magic as i8 });
        }
        let found = i64::from(i32::from_le_bytes([c0, c1, c2, c3]));
        let record_count = usize::try_from(found);
        let record_count = record_count.map_err(|_| KvBatchError::FieldTooSmall { field: "record_count", expected: 0, found })?;
        Ok(Self { frames: Frames::new(batch.slice(VALUE_BATCH_HEADER_BYTES..), record_count) })
    }
}

impl Iterator for ValueRecords {
    type Item = Result<(SchemaId, Bytes), KvBatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frames.next().map(|frame| frame.and_then(|value| split_value(&value)))
    }
}
