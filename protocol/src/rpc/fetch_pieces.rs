//! A fetch response without copying its records.

use super::{FetchLogResponse, PbFetchLogRespForBucket};
use crate::limits::PIECE_INLINE_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, int32, int64, key_len, message, string};

/// One table of a fetch response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchedTable {
    pub table_id: i64,
    pub buckets: Vec<FetchedBucket>,
}

/// One bucket of a fetch response; its records may lie in many slices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchedBucket {
    /// Everything but the records: its own field `records` is `None`.
    pub answer: PbFetchLogRespForBucket,
    /// The bytes of whole batches, cut anywhere. `None` leaves the field out, which differs from no bytes.
    pub records: Option<Vec<Bytes>>,
}

impl From<FetchLogResponse> for Vec<FetchedTable> {
    fn from(response: FetchLogResponse) -> Self {
        let bucket = |mut answer: PbFetchLogRespForBucket| {
            let records = answer.records.take().map(|records| vec![records]);
            FetchedBucket { answer, records }
        };
        let tables = response.tables_resp.into_iter();
        tables
            .map(|table| FetchedTable { table_id: table.table_id, buckets: table.buckets_resp.into_iter().map(bucket).collect() })
            .collect()
    }
}

/// The body of a `FetchLogResponse`, in pieces to be written one after another.
///
/// Shape: together exactly the bytes that prost writes for the same response. Slices of records longer than
/// [`PIECE_INLINE_BYTES_MAX`] are pieces of their own, shared with the caller; shorter ones are copied into the
/// envelope between them.
/// Source: performance notes, "keep payloads out of prost encoding".
pub fn encode_fetch_response(tables: &[FetchedTable]) -> Vec<Bytes> {
    let mut pieces = Pieces::default();
    for table in tables {
        let bucket_bytes: Vec<usize> = table.buckets.iter().map(bucket_len).collect();
        let buckets_len: usize = bucket_bytes.iter().map(|bytes| delimited_len(TABLE_BUCKETS_RESP, *bytes)).sum();
        let table_len = int64::encoded_len(TABLE_ID, &table.table_id) + buckets_len;
        pieces.start_field(TABLES_RESP, table_len);
        int64::encode(TABLE_ID, &table.table_id, &mut pieces.envelope);
        for (bucket, bytes) in table.buckets.iter().zip(bucket_bytes) {
            pieces.start_field(TABLE_BUCKETS_RESP, bytes);
            encode_bucket(bucket, &mut pieces);
        }
    }
    pieces.finish()
}

// Field numbers of FetchLogResponse, PbFetchLogRespForTable and PbFetchLogRespForBucket.
const TABLES_RESP: u32 = 1;
const TABLE_ID: u32 = 1;
const TABLE_BUCKETS_RESP: u32 = 2;
const RECORDS: u32 = 8;

#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    /// Bytes since the last piece.
    envelope: BytesMut,
}

impl Pieces {
    /// Key and length of a length-delimited field; its content follows.
    fn start_field(&mut self, number: u32, bytes: usize) {
        encode_key(number, WireType::LengthDelimited, &mut self.envelope);
        encode_varint(bytes as u64, &mut self.envelope);
    }

    fn push(&mut self, slice: &Bytes) {
        if slice.len() <= PIECE_INLINE_BYTES_MAX {
            self.envelope.extend_from_slice(slice);
            return;
        }
        self.close_envelope();
        self.done.push(slice.clone());
    }

    fn close_envelope(&mut self) {
        if !self.envelope.is_empty() {
            self.done.push(self.envelope.split().freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.close_envelope();
        self.done
    }
}

fn delimited_len(number: u32, bytes: usize) -> usize {
    key_len(number) + encoded_len_varint(bytes as u64) + bytes
}

fn records_len(records: &[Bytes]) -> usize {
    records.iter().map(Bytes::len).sum()
}

fn bucket_len(bucket: &FetchedBucket) -> usize {
    assert!(bucket.answer.records.is_none(), "our code filled answer.records; records belong beside the answer");
    let records = bucket.records.as_ref().map_or(0, |records| delimited_len(RECORDS, records_len(records)));
    prost::Message::encoded_len(&bucket.answer) + records
}

/// Fields in ascending order, as prost writes them. The pattern names every field, so that a new one does not compile
/// until it is written here too.
fn encode_bucket(bucket: &FetchedBucket, pieces: &mut Pieces) {
    let PbFetchLogRespForBucket {
        partition_id,
        bucket_id,
        error_code,
        error_message,
        high_watermark,
        log_start_offset,
        remote_log_fetch_info,
        records: _,
        filtered_end_offset,
        min_retain_offset,
    } = &bucket.answer;
    let out = &mut pieces.envelope;
    partition_id.iter().for_each(|value| int64::encode(1, value, out));
    int32::encode(2, bucket_id, out);
    error_code.iter().for_each(|value| int32::encode(3, value, out));
    error_message.iter().for_each(|value| string::encode(4, value, out));
    high_watermark.iter().for_each(|value| int64::encode(5, value, out));
    log_start_offset.iter().for_each(|value| int64::encode(6, value, out));
    remote_log_fetch_info.iter().for_each(|value| message::encode(7, value, out));
    if let Some(records) = &bucket.records {
        pieces.start_field(RECORDS, records_len(records));
        records.iter().for_each(|slice| pieces.push(slice));
    }
    let out = &mut pieces.envelope;
    filtered_end_offset.iter().for_each(|value| int64::encode(9, value, out));
    min_retain_offset.iter().for_each(|value| int64::encode(10, value, out));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::*;
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn bucket() -> impl Strategy<Value = FetchedBucket> {
        let slices = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1500).prop_map(Bytes::from), 0..4);
        let numbers = (any::<Option<i64>>(), any::<i32>(), any::<Option<i32>>(), any::<[Option<i64>; 4]>());
        let segment = any::<(String, i64, i64, i32, Option<i64>)>().prop_map(|(id, start, end, size, time)| PbRemoteLogSegment {
            remote_log_segment_id: id,
            remote_log_start_offset: start,
            remote_log_end_offset: end,
            segment_size_in_bytes: size,
            max_timestamp: time,
        });
        let remote = (any::<(String, Option<String>, Option<i32>)>(), prop::collection::vec(segment, 0..3)).prop_map(
            |(head, segments)| PbRemoteLogFetchInfo {
                remote_log_tablet_dir: head.0,
                partition_name: head.1,
                remote_log_segments: segments,
                first_start_pos: head.2,
            },
        );
        let rest = (any::<Option<String>>(), prop::option::of(remote), prop::option::of(slices));
        (numbers, rest).prop_map(|((partition_id, bucket_id, error_code, offsets), (error_message, remote, records))| {
            let answer = PbFetchLogRespForBucket {
                partition_id,
                bucket_id,
                error_code,
                error_message,
                high_watermark: offsets[0],
                log_start_offset: offsets[1],
                remote_log_fetch_info: remote,
                records: None,
                filtered_end_offset: offsets[2],
                min_retain_offset: offsets[3],
            };
            FetchedBucket { answer, records }
        })
    }

    fn tables() -> impl Strategy<Value = Vec<FetchedTable>> {
        let table = (any::<i64>(), prop::collection::vec(bucket(), 0..4));
        prop::collection::vec(table.prop_map(|(table_id, buckets)| FetchedTable { table_id, buckets }), 0..4)
    }

    /// The same response as one message.
    fn joined(tables: &[FetchedTable]) -> FetchLogResponse {
        let bucket = |bucket: &FetchedBucket| PbFetchLogRespForBucket {
            records: bucket.records.as_ref().map(|slices| slices.concat().into()),
            ..bucket.answer.clone()
        };
        let table = |table: &FetchedTable| PbFetchLogRespForTable {
            table_id: table.table_id,
            buckets_resp: table.buckets.iter().map(bucket).collect(),
        };
        FetchLogResponse { tables_resp: tables.iter().map(table).collect() }
    }

    proptest! {
        #[test]
        fn pieces_are_what_prost_writes(tables in tables()) {
            let message = joined(&tables);
            prop_assert_eq!(encode_fetch_response(&tables).concat(), message.encode_to_vec());
            let again: Vec<FetchedTable> = message.clone().into();
            prop_assert_eq!(encode_fetch_response(&again).concat(), message.encode_to_vec());
        }
    }

    #[test]
    fn long_slices_are_shared_and_short_ones_joined() {
        let (long, short) = (Bytes::from(vec![1; 5000]), Bytes::from(vec![2; 20]));
        let records = Some(vec![short.clone(), long.clone(), short.clone(), short, long.clone()]);
        let bucket = FetchedBucket { records, ..Default::default() };
        let pieces = encode_fetch_response(&[FetchedTable { table_id: 1, buckets: vec![bucket] }]);
        assert_eq!(pieces.len(), 4);
        assert_eq!(pieces[1].as_ptr(), long.as_ptr());
        assert_eq!(pieces[3].as_ptr(), long.as_ptr());
    }
}
