//! Lookup and PrefixLookup: applied rows of a leader that has proven that it leads (semantics.md 5).

use super::produce::applied_by;
use super::put_kv::submit;
use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::limits::{ACK_WAIT_MAX, PREFIX_LOOKUP_BYTES_MAX};
use crate::net::answer::{Answer, Body};
use crate::replica::error::ReplicaError;
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::ids::TableBucket;
use floss_protocol::kv_batch::KvBatchBuilder;
use floss_protocol::rpc;
use floss_raft::env::runtime::time;
use floss_tablet::kv::PutMode;
use floss_tablet::kv::prepare::PutRequest;
use floss_tablet::kv::store::KvRange;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// What to do about keys that are not there.
#[derive(Clone, Copy)]
struct InsertMissing {
    wait: Duration,
}

pub(crate) async fn lookup(shared: Arc<Shared>, request: rpc::LookupRequest) -> Answer {
    let wait = Duration::from_millis(u64::try_from(request.timeout_ms.unwrap_or(0)).unwrap_or(0)).min(ACK_WAIT_MAX);
    let insert = request.insert_if_not_exists.unwrap_or(false).then_some(InsertMissing { wait });
    let buckets = request.buckets_req.into_iter().map(|bucket| {
        let name = table_bucket(request.table_id, bucket.partition_id, bucket.bucket_id);
        lookup_bucket(&shared, name, bucket.keys, insert)
    });
    let buckets_resp = join_all(buckets).await;
    Ok(Body::message(&rpc::LookupResponse { buckets_resp }))
}

async fn lookup_bucket(
    shared: &Shared,
    bucket: TableBucket,
    keys: Vec<Bytes>,
    insert: Option<InsertMissing>,
) -> rpc::PbLookupRespForBucket {
    let mut response = rpc::PbLookupRespForBucket {
        partition_id: bucket.partition_id.map(|id| id.0),
        bucket_id: bucket.bucket.0,
        ..Default::default()
    };
    match values(shared, bucket, &keys, insert).await {
        Ok(values) => response.values = values.into_iter().map(|values| rpc::PbValue { values }).collect(),
        Err(error) => {
            response.error_code = Some(replica_code(&error).code());
            response.error_message = Some(error.to_string());
        }
    }
    response
}

async fn values(
    shared: &Shared,
    bucket: TableBucket,
    keys: &[Bytes],
    insert: Option<InsertMissing>,
) -> Result<Vec<Option<Bytes>>, ReplicaError> {
    let replica = find_replica(shared, bucket)?;
    let found = replica.lookup(keys).await?;
    let missing: Vec<&Bytes> = keys.iter().zip(&found).filter(|(_, value)| value.is_none()).map(|(key, _)| key).collect();
    let Some(insert) = insert.filter(|_| !missing.is_empty()) else { return Ok(found) };
    let request = {
        let core = replica.primary_key_core()?;
        let table = core.kv.as_ref().map(|kv| kv.table().clone()).ok_or(ReplicaError::NotPrimaryKeyTable { bucket })?;
        let mut batch = KvBatchBuilder::new(table.latest_schema_id());
        for key in missing {
            let row = table.row_of_key(key).map_err(|source| ReplicaError::Tablet { bucket, source })?;
            batch.upsert(key, &row);
        }
        PutRequest { records: batch.build(), target_columns: table.primary_key_columns(), mode: PutMode::Merge }
    };
    let applied = submit(shared, bucket, request)?;
    applied_by(bucket, applied, time::Instant::now() + insert.wait, insert.wait).await?;
    replica.lookup(keys).await
}

pub(crate) async fn prefix_lookup(shared: Arc<Shared>, request: rpc::PrefixLookupRequest) -> Answer {
    let buckets = request.buckets_req.into_iter().map(|bucket| {
        let name = table_bucket(request.table_id, bucket.partition_id, bucket.bucket_id);
        prefix_lookup_bucket(&shared, name, bucket.keys)
    });
    let buckets_resp = join_all(buckets).await;
    Ok(Body::message(&rpc::PrefixLookupResponse { buckets_resp }))
}

async fn prefix_lookup_bucket(shared: &Shared, bucket: TableBucket, prefixes: Vec<Bytes>) -> rpc::PbPrefixLookupRespForBucket {
    let mut response = rpc::PbPrefixLookupRespForBucket {
        partition_id: bucket.partition_id.map(|id| id.0),
        bucket_id: bucket.bucket.0,
        ..Default::default()
    };
    match value_lists(shared, bucket, &prefixes).await {
        Ok(value_lists) => response.value_lists = value_lists,
        Err(error) => {
            response.error_code = Some(replica_code(&error).code());
            response.error_message = Some(error.to_string());
        }
    }
    response
}

async fn value_lists(shared: &Shared, bucket: TableBucket, prefixes: &[Bytes]) -> Result<Vec<rpc::PbValueList>, ReplicaError> {
    let replica = find_replica(shared, bucket)?;
    let read = |rows: &floss_tablet::kv::fold::KvReader| {
        let mut lists = Vec::with_capacity(prefixes.len());
        let mut bytes = 0;
        for prefix in prefixes {
            // One byte beyond the limit tells a full answer from one that was cut.
            let bytes_max = (PREFIX_LOOKUP_BYTES_MAX + 1_usize).saturating_sub(bytes);
            let found = rows.scan(&KvRange { bytes_max, ..KvRange::prefix(prefix.clone()) })?;
            bytes += found.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            lists.push(rpc::PbValueList { values: found.into_iter().map(|(_, value)| value).collect() });
        }
        Ok((lists, bytes))
    };
    let (lists, bytes) = replica.read_rows(read).await?;
    if bytes > PREFIX_LOOKUP_BYTES_MAX {
        let reason = format!("more than {PREFIX_LOOKUP_BYTES_MAX} bytes start with these prefixes");
        return Err(ReplicaError::InvalidRequest { bucket, reason });
    }
    Ok(lists)
}
