//! PutKv: puts go to the mailboxes of their buckets in the order of arrival; the answer waits for all of them.

use super::produce::{Pending, applied_by};
use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::limits::ACK_WAIT_MAX;
use crate::net::answer::{Answer, Body, Refusal};
use crate::replica::error::ReplicaError;
use crate::replica::mailbox::{Mail, Put, Written};
use crate::shared::Shared;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::ids::TableBucket;
use floss_protocol::rpc;
use floss_raft::env::BoxFuture;
use floss_raft::env::runtime::sync::oneshot;
use floss_raft::env::runtime::time;
use floss_tablet::kv::PutMode;
use floss_tablet::kv::prepare::PutRequest;
use std::time::Duration;

/// Hands the puts over before it returns, so that the order on the connection is the order in the bucket.
///
/// All of acks -1, 0 and 1 are answered after commit and apply (I1).
pub(crate) fn start(shared: &Shared, request: rpc::PutKvRequest) -> BoxFuture<'static, Answer> {
    let mode = match check(&request) {
        Ok(mode) => mode,
        Err(refusal) => return Box::pin(std::future::ready(Err(refusal))),
    };
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(ACK_WAIT_MAX);
    let deadline = time::Instant::now() + wait;
    let target_columns = request.target_columns;
    let pending: Vec<_> = request
        .buckets_req
        .into_iter()
        .map(|bucket| {
            let name = table_bucket(request.table_id, bucket.partition_id, bucket.bucket_id);
            let put = PutRequest { records: bucket.records, target_columns: target_columns.clone(), mode };
            (name, submit(shared, name, put))
        })
        .collect();
    Box::pin(async move {
        let mut buckets_resp = Vec::with_capacity(pending.len());
        for (bucket, pending) in pending {
            let result = match pending {
                Ok(applied) => applied_by(bucket, applied, deadline, wait).await,
                Err(error) => Err(error),
            };
            buckets_resp.push(bucket_response(bucket, result));
        }
        Ok(Body::message(&rpc::PutKvResponse { buckets_resp }))
    })
}

fn check(request: &rpc::PutKvRequest) -> Result<PutMode, Refusal> {
    if !matches!(request.acks, -1..=1) {
        return Err(Refusal::new(ErrorCode::InvalidRequiredAcks, format!("acks={}, expected -1, 0 or 1", request.acks)));
    }
    match request.agg_mode.unwrap_or(0) {
        0 => Ok(PutMode::Merge),
        1 => Ok(PutMode::Overwrite),
        found => Err(Refusal::new(ErrorCode::UnknownServerError, format!("agg_mode={found}, expected 0 or 1"))),
    }
}

/// Hands a put to its bucket.
pub(super) fn submit(shared: &Shared, bucket: TableBucket, request: PutRequest) -> Pending {
    let replica = find_replica(shared, bucket)?;
    let (answer, applied) = oneshot::channel();
    replica.post(Mail::Put(Put { request, answer }))?;
    Ok(applied)
}

fn bucket_response(bucket: TableBucket, result: Result<Written, ReplicaError>) -> rpc::PbPutKvRespForBucket {
    let mut response = rpc::PbPutKvRespForBucket {
        partition_id: bucket.partition_id.map(|id| id.0),
        bucket_id: bucket.bucket.0,
        ..Default::default()
    };
    match result {
        Ok(written) => response.log_end_offset = Some(written.end_offset),
        Err(error) => {
            response.error_code = Some(replica_code(&error).code());
            response.error_message = Some(error.to_string());
        }
    }
    response
}
