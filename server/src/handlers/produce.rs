//! ProduceLog: appends go to the mailboxes of their buckets in the order of arrival; the answer waits for all of them.

use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::limits::ACK_WAIT_MAX;
use crate::net::answer::{Answer, Body, Refusal};
use crate::replica::error::ReplicaError;
use crate::replica::mailbox::{Append, Mail, Written};
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::ids::TableBucket;
use floss_protocol::rpc;
use floss_raft::env::BoxFuture;
use floss_raft::env::runtime::sync::oneshot;
use floss_raft::env::runtime::time;
use std::time::Duration;

pub(super) type Pending = Result<oneshot::Receiver<Result<Written, ReplicaError>>, ReplicaError>;

/// Hands the batches over before it returns, so that the order on the connection is the order in the bucket.
///
/// All of acks -1, 0 and 1 are answered after commit and apply: an acknowledged write is on a majority's disks (I1).
pub(crate) fn start(shared: &Shared, request: rpc::ProduceLogRequest) -> BoxFuture<'static, Answer> {
    if !matches!(request.acks, -1..=1) {
        let refusal = Refusal::new(ErrorCode::InvalidRequiredAcks, format!("acks={}, expected -1, 0 or 1", request.acks));
        return Box::pin(std::future::ready(Err(refusal)));
    }
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(ACK_WAIT_MAX);
    let deadline = time::Instant::now() + wait;
    let pending: Vec<_> = request
        .buckets_req
        .into_iter()
        .map(|bucket| {
            let name = table_bucket(request.table_id, bucket.partition_id, bucket.bucket_id);
            (name, submit(shared, name, bucket.records))
        })
        .collect();
    Box::pin(finish(pending, deadline, wait))
}

fn submit(shared: &Shared, bucket: TableBucket, records: Bytes) -> Pending {
    let replica = find_replica(shared, bucket)?;
    let (answer, applied) = oneshot::channel();
    replica.post(Mail::Append(Append { records, answer }))?;
    Ok(applied)
}

async fn finish(pending: Vec<(TableBucket, Pending)>, deadline: time::Instant, wait: Duration) -> Answer {
    let mut buckets_resp = Vec::with_capacity(pending.len());
    for (bucket, pending) in pending {
        let result = match pending {
            Ok(applied) => applied_by(bucket, applied, deadline, wait).await,
            Err(error) => Err(error),
        };
        buckets_resp.push(bucket_response(bucket, result));
    }
    Ok(Body::message(&rpc::ProduceLogResponse { buckets_resp }))
}

/// After the deadline the append may still take effect; the writer's repetition is then a duplicate.
pub(super) async fn applied_by(
    bucket: TableBucket,
    applied: oneshot::Receiver<Result<Written, ReplicaError>>,
    deadline: time::Instant,
    wait: Duration,
) -> Result<Written, ReplicaError> {
    match time::timeout_at(deadline, applied).await {
        Ok(Ok(result)) => result,
        // The mailbox went away with its replica: dropped, or the node stops.
        Ok(Err(_)) => Err(ReplicaError::NotLeader { bucket, leader: None }),
        Err(_) => Err(ReplicaError::Timeout { bucket, waited_ms: wait.as_millis() as u64 }),
    }
}

fn bucket_response(bucket: TableBucket, result: Result<Written, ReplicaError>) -> rpc::PbProduceLogRespForBucket {
    let mut response = rpc::PbProduceLogRespForBucket {
        partition_id: bucket.partition_id.map(|id| id.0),
        bucket_id: bucket.bucket.0,
        ..Default::default()
    };
    match result {
        Ok(written) => response.base_offset = Some(written.base_offset),
        Err(error) => {
            response.error_code = Some(replica_code(&error).code());
            response.error_message = Some(error.to_string());
        }
    }
    response
}
