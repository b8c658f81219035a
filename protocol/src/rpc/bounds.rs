//! What a request may make its reader allocate. Protobuf needs two bytes for an empty element of a repeated field, and a struct in memory
//! takes tens of times that: without a bound a frame of 100 MB decodes into gigabytes.

use super::RequestError;
use crate::api::ApiKey;
use crate::limits::{ELEMENTS_MAX, REQUEST_FRAME_BYTES_MAX, SMALL_REQUEST_BYTES_MAX};
use bytes::Buf;

/// Largest body of a request of this kind: only those that carry records are large.
pub fn request_bytes_max(key: ApiKey) -> usize {
    match key {
        ApiKey::ProduceLog | ApiKey::PutKv => REQUEST_FRAME_BYTES_MAX,
        _ => SMALL_REQUEST_BYTES_MAX,
    }
}

/// Call before a body is decoded. Errors: [`RequestError::TooLarge`], [`RequestError::TooMany`].
///
/// Bodies that are no protobuf pass: decoding refuses them.
pub fn check_body(key: ApiKey, body: &[u8]) -> Result<(), RequestError> {
    let limit = request_bytes_max(key);
    if body.len() > limit {
        return Err(RequestError::TooLarge { key, length: body.len(), limit });
    }
    // A small body cannot amount to much, whatever is in it.
    if body.len() > SMALL_REQUEST_BYTES_MAX && count_elements(body) > ELEMENTS_MAX {
        return Err(RequestError::TooMany { key, limit: ELEMENTS_MAX });
    }
    Ok(())
}

/// Length-delimited fields at the top level, counted up to one more than allowed, or to where the bytes stop making sense.
fn count_elements(mut body: &[u8]) -> usize {
    let mut count = 0;
    while count <= ELEMENTS_MAX && body.has_remaining() {
        let Ok(tag) = prost::encoding::decode_varint(&mut body) else { break };
        let skipped = match tag & 7 {
            0 => prost::encoding::decode_varint(&mut body).map(|_| 0),
            1 => Ok(8),
            2 => {
                count += 1;
                prost::encoding::decode_varint(&mut body)
            }
            5 => Ok(4),
            _ => break,
        };
        match skipped.ok().and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes <= body.remaining()) {
            Some(bytes) => body.advance(bytes),
            None => break,
        }
    }
    count
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rpc::{PbProduceLogReqForBucket, ProduceLogRequest};
    use bytes::Bytes;
    use prost::Message;

    fn produce(buckets: usize, bytes: usize) -> Vec<u8> {
        let bucket = PbProduceLogReqForBucket { records: Bytes::from(vec![7; bytes]), ..Default::default() };
        ProduceLogRequest { acks: -1, table_id: 5, timeout_ms: 1, buckets_req: vec![bucket; buckets] }.encode_to_vec()
    }

    #[test]
    fn records_may_be_large_and_elements_few() {
        assert_eq!(check_body(ApiKey::ProduceLog, &produce(2, SMALL_REQUEST_BYTES_MAX)), Ok(()));
        assert_eq!(check_body(ApiKey::ProduceLog, &produce(ELEMENTS_MAX, 64)), Ok(()));
        let many = produce(ELEMENTS_MAX + 1, 64);
        assert!(many.len() > SMALL_REQUEST_BYTES_MAX);
        assert_eq!(
            check_body(ApiKey::ProduceLog, &many),
            Err(RequestError::TooMany { key: ApiKey::ProduceLog, limit: ELEMENTS_MAX })
        );
        // The worst: two bytes each.
        let empty = [0x22, 0].repeat(SMALL_REQUEST_BYTES_MAX);
        assert!(check_body(ApiKey::ProduceLog, &empty).is_err());
    }

    #[test]
    fn what_carries_no_records_is_small() {
        let body = vec![0; SMALL_REQUEST_BYTES_MAX + 1];
        let refused = check_body(ApiKey::GetMetadata, &body).unwrap_err();
        assert_eq!(refused.to_string(), "body of GetMetadata (1012), 4194305 bytes, at most 4194304 are taken");
        assert_eq!(check_body(ApiKey::GetMetadata, &body[1..]), Ok(()));
    }

    #[test]
    fn nonsense_is_left_to_the_decoder() {
        let mut body = produce(1, SMALL_REQUEST_BYTES_MAX);
        for bytes in [[0xff; 10], [0x22; 10], [0x07; 10]] {
            body.splice(..0, bytes);
            assert_eq!(check_body(ApiKey::PutKv, &body), Ok(()));
        }
    }
}
