//! ListOffsets: earliest, latest, by timestamp; bucket by bucket (semantics.md 4).

use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::limits::READ_BARRIER_WAIT;
use crate::net::answer::{Answer, Body};
use crate::replica::error::ReplicaError;
use crate::shared::Shared;
use floss_protocol::ids::TableBucket;
use floss_protocol::rpc;
use floss_raft::env::runtime::time;
use std::sync::Arc;

const EARLIEST: i32 = 0;
const LATEST: i32 = 1;
const TIMESTAMP: i32 = 2;

pub(crate) async fn list_offsets(shared: Arc<Shared>, request: rpc::ListOffsetsRequest) -> Answer {
    let mut buckets_resp = Vec::with_capacity(request.bucket_id.len());
    for bucket_id in &request.bucket_id {
        let bucket = table_bucket(request.table_id, request.partition_id, *bucket_id);
        let mut response = rpc::PbListOffsetsRespForBucket { bucket_id: *bucket_id, ..Default::default() };
        match offset_of(&shared, bucket, &request).await {
            Ok(offset) => response.offset = Some(offset),
            Err(error) => {
                response.error_code = Some(replica_code(&error).code());
                response.error_message = Some(error.to_string());
            }
        }
        buckets_resp.push(response);
    }
    Ok(Body::message(&rpc::ListOffsetsResponse { buckets_resp }))
}

/// The end of the log is what a reader stops at: only a leader that can prove that it leads may name it.
async fn offset_of(shared: &Shared, bucket: TableBucket, request: &rpc::ListOffsetsRequest) -> Result<i64, ReplicaError> {
    let replica = find_replica(shared, bucket)?;
    replica.wait_leading(time::Instant::now() + READ_BARRIER_WAIT).await?;
    match request.offset_type {
        EARLIEST => Ok(replica.leading_core()?.tablet.log_start()),
        LATEST => {
            replica.prove_leadership().await?;
            Ok(replica.leading_core()?.tablet.high_watermark())
        }
        TIMESTAMP => {
            let reason = "start_timestamp is missing".to_owned();
            let timestamp_ms = request.start_timestamp.ok_or(ReplicaError::InvalidRequest { bucket, reason })?;
            replica.prove_leadership().await?;
            let now_ms = shared.clock.now_ms();
            let core = replica.leading_core()?;
            let offset = core.tablet.offset_for_timestamp(timestamp_ms, now_ms);
            offset.map_err(|source| ReplicaError::Tablet { bucket, source })
        }
        other => Err(ReplicaError::InvalidRequest { bucket, reason: format!("offset_type={other}, expected 0, 1 or 2") }),
    }
}
