//! The bytes of a FetchLogResponse, with the fetched batches as pieces of their own: prost would copy them.

use crate::net::answer::Body;
use bytes::{BufMut, Bytes, BytesMut};
use floss_protocol::rpc;
use floss_raft::env::runtime::sync::OwnedSemaphorePermit;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

/// One bucket: everything but the records, and the records.
pub(crate) struct BucketAnswer {
    /// `records` is not set here.
    pub head: rpc::PbFetchLogRespForBucket,
    /// None for errors: the field stays out.
    pub records: Option<Vec<Bytes>>,
}

/// One table of the request, in its order.
pub(crate) struct TableAnswer {
    pub table_id: i64,
    pub buckets: Vec<BucketAnswer>,
}

/// Key bytes: (field << 3) | wire type; 2 = length-delimited, 0 = varint.
const RESPONSE_TABLES: u8 = 1 << 3 | 2;
const TABLE_ID: u8 = 1 << 3;
const TABLE_BUCKETS: u8 = 2 << 3 | 2;
const BUCKET_RECORDS: u8 = 8 << 3 | 2;

/// Fields in ascending order, as prost writes them. `room` goes back once the body is written.
pub(crate) fn encode(tables: Vec<TableAnswer>, room: Option<OwnedSemaphorePermit>) -> Body {
    let mut out = Pieces::default();
    for table in tables {
        let buckets: Vec<_> = table.buckets.into_iter().map(EncodedBucket::new).collect();
        let buckets_bytes: usize = buckets.iter().map(|bucket| field_bytes(bucket.bytes())).sum();
        let table_bytes = 1 + encoded_len_varint(table.table_id as u64) + buckets_bytes;
        out.key(RESPONSE_TABLES, table_bytes);
        out.key(TABLE_ID, table.table_id as usize);
        for bucket in buckets {
            out.key(TABLE_BUCKETS, bucket.bytes());
            out.small.put_slice(&bucket.head);
            if let Some(records) = bucket.records {
                out.key(BUCKET_RECORDS, bucket.records_bytes);
                records.into_iter().for_each(|piece| out.large(piece));
            }
        }
    }
    Body { pieces: out.finish(), room }
}

struct EncodedBucket {
    head: Vec<u8>,
    records: Option<Vec<Bytes>>,
    records_bytes: usize,
}

impl EncodedBucket {
    fn new(bucket: BucketAnswer) -> Self {
        let records_bytes = bucket.records.iter().flatten().map(Bytes::len).sum();
        Self { head: bucket.head.encode_to_vec(), records: bucket.records, records_bytes }
    }

    fn bytes(&self) -> usize {
        self.head.len() + if self.records.is_some() { field_bytes(self.records_bytes) } else { 0 }
    }
}

/// Bytes of a length-delimited field with a one-byte key.
fn field_bytes(body_bytes: usize) -> usize {
    1 + encoded_len_varint(body_bytes as u64) + body_bytes
}

#[derive(Default)]
struct Pieces {
    small: BytesMut,
    pieces: Vec<Bytes>,
}

impl Pieces {
    fn key(&mut self, key: u8, value: usize) {
        self.small.put_u8(key);
        encode_varint(value as u64, &mut self.small);
    }

    fn large(&mut self, piece: Bytes) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
        self.pieces.push(piece);
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.small.is_empty() {
            self.pieces.push(self.small.freeze());
        }
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(id: i32, partition: Option<i64>, records: Option<&[&'static [u8]]>) -> BucketAnswer {
        let head = rpc::PbFetchLogRespForBucket {
            partition_id: partition,
            bucket_id: id,
            high_watermark: Some(1 << 40),
            log_start_offset: Some(0),
            ..Default::default()
        };
        let records = records.map(|pieces| pieces.iter().map(|piece| Bytes::from_static(piece)).collect());
        BucketAnswer { head, records }
    }

    /// Against prost, which is checked against recorded answers of the real server.
    #[test]
    fn same_bytes_as_prost() {
        let long: &'static [u8] = &[7; 300];
        let tables = vec![
            TableAnswer { table_id: 5, buckets: vec![bucket(0, None, Some(&[b"abc", long])), bucket(1, None, None)] },
            TableAnswer { table_id: 1 << 33, buckets: vec![bucket(300, Some(9), Some(&[]))] },
            TableAnswer { table_id: 7, buckets: vec![] },
        ];
        let expected = rpc::FetchLogResponse {
            tables_resp: tables
                .iter()
                .map(|table| rpc::PbFetchLogRespForTable {
                    table_id: table.table_id,
                    buckets_resp: table
                        .buckets
                        .iter()
                        .map(|bucket| rpc::PbFetchLogRespForBucket {
                            records: bucket.records.as_ref().map(|pieces| Bytes::from(pieces.concat())),
                            ..bucket.head.clone()
                        })
                        .collect(),
                })
                .collect(),
        };
        let body = encode(tables, None);
        assert_eq!(body.pieces.concat(), expected.encode_to_vec());
    }
}
