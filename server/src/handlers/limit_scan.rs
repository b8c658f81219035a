//! LimitScan: of a log table the newest `limit` records, in whole batches; of a primary-key table the first `limit` rows by key
//! (semantics.md 6).

use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::limits::{LIMIT_SCAN_BYTES_MAX, READ_BARRIER_WAIT};
use crate::net::answer::{Answer, Body};
use crate::replica::error::ReplicaError;
use crate::replica::fetch::ReadLimit;
use crate::replica::replica::Replica;
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::ids::TableBucket;
use floss_protocol::kv_batch::ValueBatchBuilder;
use floss_protocol::rpc;
use floss_raft::env::runtime::time;
use floss_tablet::kv::store::KvRange;
use std::collections::VecDeque;
use std::sync::Arc;

/// Read at a time while the start of the answer is not known.
const CHUNK_BYTES: usize = 4 << 20;

pub(crate) async fn limit_scan(shared: Arc<Shared>, request: rpc::LimitScanRequest) -> Answer {
    let bucket = table_bucket(request.table_id, request.partition_id, request.bucket_id);
    let mut response = rpc::LimitScanResponse::default();
    match read(&shared, bucket, request.limit).await {
        Ok((is_log_table, records)) => {
            response.is_log_table = Some(is_log_table);
            response.records = Some(records);
        }
        Err(error) => {
            response.error_code = Some(replica_code(&error).code());
            response.error_message = Some(error.to_string());
        }
    }
    Ok(Body::message(&response))
}

async fn read(shared: &Shared, bucket: TableBucket, limit: i32) -> Result<(bool, Bytes), ReplicaError> {
    let replica = find_replica(shared, bucket)?;
    replica.wait_leading(time::Instant::now() + READ_BARRIER_WAIT).await?;
    let is_log_table = replica.leading_core()?.kv.is_none();
    let records = if is_log_table { newest(&replica, limit).await? } else { first(&replica, limit).await? };
    Ok((is_log_table, records))
}

async fn first(replica: &Replica, limit: i32) -> Result<Bytes, ReplicaError> {
    let rows_max = usize::try_from(limit).unwrap_or(0);
    let rows = replica.scan(&KvRange { rows_max, bytes_max: LIMIT_SCAN_BYTES_MAX, ..KvRange::all() }).await?;
    let mut batch = ValueBatchBuilder::default();
    for (_, value) in &rows {
        batch.push(value);
    }
    Ok(batch.build())
}

async fn newest(replica: &Replica, limit: i32) -> Result<Bytes, ReplicaError> {
    replica.prove_leadership().await?;
    let (log_start, high_watermark) = {
        let core = replica.leading_core()?;
        (core.tablet.log_start(), core.tablet.high_watermark())
    };
    let mut offset = log_start.max(high_watermark - i64::from(limit.max(0)));
    let mut kept: VecDeque<Bytes> = VecDeque::new();
    let mut bytes = 0;
    while offset < high_watermark {
        let plan = replica.plan_fetch(offset)?;
        let batches = replica.read(&plan, ReadLimit { bytes_max: CHUNK_BYTES, at_least_one: true }, None).await?;
        let Some(end_offset) = batches.end_offset else { break };
        offset = end_offset;
        bytes += batches.bytes;
        kept.extend(batches.pieces);
        // The newest rows are what was asked for, so the oldest batches give way.
        while bytes > LIMIT_SCAN_BYTES_MAX && kept.len() > 1 {
            bytes -= kept.pop_front().map_or(0, |piece| piece.len());
        }
    }
    Ok(kept.into_iter().collect::<Vec<_>>().concat().into())
}
