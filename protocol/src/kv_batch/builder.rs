//! Makes KV batches, as clients do.

use super::batch::{CRC_AT, CRC_FROM, KV_HEADER_BYTES, LENGTH_END};
use crate::ids::SchemaId;
use crate::log_batch::{NO_BATCH_SEQUENCE, NO_WRITER_ID};
use crate::row::put_uvarint;
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvBatchBuilder {
    pub schema_id: SchemaId,
    pub writer_id: i64,
    pub batch_sequence: i32,
    record_count: i32,
    records: Vec<u8>,
}

impl KvBatchBuilder {
    /// From a writer that is not idempotent.
    pub fn new(schema_id: SchemaId) -> Self {
        Self { schema_id, writer_id: NO_WRITER_ID, batch_sequence: NO_BATCH_SEQUENCE, record_count: 0, records: Vec::new() }
    }

    /// `row` not empty: that would be a delete.
    pub fn upsert(&mut self, key: &[u8], row: &[u8]) -> &mut Self {
        let mut record = Vec::with_capacity(key.len() + row.len() + 5);
        put_uvarint(&mut record, key.len() as u64);
        record.extend_from_slice(key);
        record.extend_from_slice(row);
        self.records.extend_from_slice(&(record.len() as i32).to_le_bytes());
        self.records.extend_from_slice(&record);
        self.record_count += 1;
        self
    }

    pub fn delete(&mut self, key: &[u8]) -> &mut Self {
        self.upsert(key, &[])
    }

    pub fn build(&self) -> Bytes {
        let total = KV_HEADER_BYTES + self.records.len();
        let mut out = Vec::with_capacity(total);
        out.extend_from_slice(&((total - LENGTH_END) as i32).to_le_bytes());
        out.push(0);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.schema_id.0.to_le_bytes());
        out.push(0);
        out.extend_from_slice(&self.writer_id.to_le_bytes());
        out.extend_from_slice(&self.batch_sequence.to_le_bytes());
        out.extend_from_slice(&self.record_count.to_le_bytes());
        out.extend_from_slice(&self.records);
        let crc = crc32c::crc32c(&out[CRC_FROM..]);
        out[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_le_bytes());
        out.into()
    }
}
