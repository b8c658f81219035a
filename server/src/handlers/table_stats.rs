//! GetTableStats: how many rows a bucket holds. Any node answers: clients ask the coordinator, so buckets led elsewhere are asked for there.

use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::net::answer::{Answer, Body};
use crate::replica::error::ReplicaError;
use crate::shared::Shared;
use floss_protocol::ids::TableBucket;
use floss_protocol::rpc;
use std::sync::Arc;

pub(crate) async fn table_stats(shared: Arc<Shared>, request: rpc::GetTableStatsRequest) -> Answer {
    let mut buckets_resp = Vec::with_capacity(request.buckets_req.len());
    for asked in &request.buckets_req {
        let bucket = table_bucket(request.table_id, asked.partition_id, asked.bucket_id);
        let mut response =
            rpc::PbTableStatsRespForBucket { partition_id: asked.partition_id, bucket_id: asked.bucket_id, ..Default::default() };
        match row_count(&shared, bucket) {
            Ok(count) => response.row_count = count,
            Err(error) => {
                response.error_code = Some(replica_code(&error).code());
                response.error_message = Some(error.to_string());
            }
        }
        buckets_resp.push(response);
    }
    Ok(Body::message(&rpc::GetTableStatsResponse { buckets_resp }))
}

/// What this replica has applied: a statistic, not a read. `None`: not known (WAL images do not tell).
fn row_count(shared: &Shared, bucket: TableBucket) -> Result<Option<i64>, ReplicaError> {
    let replica = find_replica(shared, bucket)?;
    let core = replica.core()?;
    Ok(match &core.kv {
        Some(kv) => kv.position().row_count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
        None => Some(core.tablet.high_watermark() - core.tablet.log_start()),
    })
}
