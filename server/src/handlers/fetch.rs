//! FetchLog: plan, wait until there is enough to read, read, answer (semantics.md 3.1).

use super::projection::TableProjection;
use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::limits::{FETCH_BYTES_MAX, FETCH_WAIT_DEFAULT, FETCH_WAIT_MAX, LEADER_READY_WAIT};
use crate::net::answer::{Answer, Body};
use crate::net::connection::permits;
use crate::replica::error::ReplicaError;
use crate::replica::fetch::{Batches, Project, ReadLimit};
use crate::replica::replica::{Replica, Seen};
use crate::shared::Shared;
use floss_protocol::ids::{TableBucket, TableId};
use floss_protocol::log_batch::LogBatch;
use floss_protocol::rpc::{self, FetchedBucket, FetchedTable, encode_fetch_response};
use floss_raft::env::runtime::sync::{Notify, Semaphore};
use floss_raft::env::runtime::time;
use floss_tablet::read::ReadPlan;
use std::sync::Arc;
use std::time::Duration;

/// One bucket of the request and how far it got.
struct BucketFetch {
    bucket: TableBucket,
    replica: Result<Arc<Replica>, ReplicaError>,
    projection: Option<Arc<TableProjection>>,
    offset: i64,
    bytes_max: usize,
    plan: Result<ReadPlan, ReplicaError>,
}

/// Whether to go on waiting.
#[derive(Debug, PartialEq, Eq)]
enum Readiness {
    Answer,
    /// Something may still come.
    Wait,
    /// A bucket was won a moment ago and cannot be read yet.
    WaitForLeader,
}

pub(crate) async fn fetch_log(shared: Arc<Shared>, request: rpc::FetchLogRequest, room: Arc<Semaphore>) -> Answer {
    let tables: Vec<(i64, usize)> = request.tables_req.iter().map(|table| (table.table_id, table.buckets_req.len())).collect();
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
    let min_bytes = request.min_bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0));
    let wait = wait_of(&request);
    let mut buckets = start_buckets(&shared, request.tables_req);
    wait_readable(&mut buckets, min_bytes, wait, shared.node_id).await;

    let wanted = buckets.iter().map(|bucket| bucket.bytes_max).sum::<usize>().min(bytes_max);
    let room = room.acquire_many_owned(permits(wanted.max(1))).await.expect("never closed");
    let mut left = bytes_max;
    let mut any = false;
    let mut answers = Vec::with_capacity(buckets.len());
    for bucket in buckets {
        let limit = ReadLimit { bytes_max: bucket.bytes_max.min(left), at_least_one: !any };
        let result = bucket.read(limit).await;
        if let Ok((_, batches)) = &result {
            left = left.saturating_sub(batches.bytes);
            any |= batches.bytes > 0;
        }
        answers.push(bucket.answer(result));
    }
    let mut answers = answers.into_iter();
    let tables: Vec<_> = tables
        .into_iter()
        .map(|(table_id, count)| FetchedTable { table_id, buckets: answers.by_ref().take(count).collect() })
        .collect();
    Ok(Body { pieces: encode_fetch_response(&tables), room: Some(room) })
}

/// Zero = answer at once.
fn wait_of(request: &rpc::FetchLogRequest) -> Duration {
    match (request.min_bytes, request.max_wait_ms) {
        (None, _) => Duration::ZERO,
        (Some(_), None) => FETCH_WAIT_DEFAULT,
        (Some(_), Some(wait_ms)) => Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0)).min(FETCH_WAIT_MAX),
    }
}

fn start_buckets(shared: &Shared, tables: Vec<rpc::PbFetchLogReqForTable>) -> Vec<BucketFetch> {
    let mut buckets = Vec::new();
    for table in tables {
        let projection = match table.projection_pushdown_enabled {
            true => shared.projections.of(&shared.catalog.view(), TableId(table.table_id), &table.projected_fields),
            false => Ok(None),
        };
        for request in table.buckets_req {
            let bucket = table_bucket(table.table_id, request.partition_id, request.bucket_id);
            let replica = find_replica(shared, bucket).and_then(|replica| match &projection {
                Ok(_) => Ok(replica),
                Err(reason) => Err(ReplicaError::Projection { bucket, reason: reason.clone() }),
            });
            buckets.push(BucketFetch {
                bucket,
                replica,
                projection: projection.as_ref().ok().cloned().flatten(),
                offset: request.fetch_offset,
                bytes_max: usize::try_from(request.max_fetch_bytes).unwrap_or(0).min(FETCH_BYTES_MAX),
                plan: Err(ReplicaError::Unknown { bucket }),
            });
        }
    }
    buckets
}

/// Returns with a plan or an error in every bucket.
async fn wait_readable(buckets: &mut [BucketFetch], min_bytes: Option<u64>, wait: Duration, node: u64) {
    let started = time::Instant::now();
    let wake = Arc::new(Notify::new());
    loop {
        let mut lost = false;
        for bucket in buckets.iter_mut() {
            let was_readable = bucket.plan.is_ok();
            bucket.plan().await;
            lost |= was_readable && bucket.plan.is_err();
        }
        let deadline = match readiness(buckets, min_bytes, node) {
            Readiness::Answer => return,
            Readiness::Wait if lost => return,
            Readiness::Wait => started + wait,
            Readiness::WaitForLeader => started + wait.max(LEADER_READY_WAIT),
        };
        if time::Instant::now() >= deadline {
            return;
        }
        let guards: Vec<_> = buckets.iter().filter_map(|bucket| bucket.wait(&wake)).collect();
        // Woken or too late: either way the next look decides.
        drop(time::timeout_at(deadline, wake.notified()).await);
        drop(guards);
    }
}

fn readiness(buckets: &[BucketFetch], min_bytes: Option<u64>, node: u64) -> Readiness {
    let mut readable = 0;
    let mut open = false;
    let mut fresh_leader = false;
    for bucket in buckets {
        match &bucket.plan {
            Ok(plan) => {
                readable += plan.available_bytes;
                open = true;
            }
            Err(ReplicaError::NotLeader { leader: Some(leader), .. }) if *leader == node => fresh_leader = true,
            Err(error) if error.is_elsewhere() => {}
            Err(_) => return Readiness::Answer,
        }
    }
    match min_bytes {
        Some(min_bytes) if readable >= min_bytes => Readiness::Answer,
        _ if fresh_leader && readable == 0 => Readiness::WaitForLeader,
        None => Readiness::Answer,
        Some(_) if open => Readiness::Wait,
        Some(_) => Readiness::Answer,
    }
}

impl BucketFetch {
    async fn plan(&mut self) {
        self.plan = match &self.replica {
            Ok(replica) => replica.plan_fetch_sure(self.offset).await,
            Err(error) => Err(error.clone()),
        };
    }

    fn wait(&self, wake: &Arc<Notify>) -> Option<crate::replica::replica::WaitGuard> {
        let replica = self.replica.as_ref().ok()?;
        let seen = match &self.plan {
            Ok(plan) => Seen { high_watermark: plan.high_watermark, readable: true },
            Err(_) => Seen { high_watermark: i64::MAX, readable: false },
        };
        Some(replica.wait_above(seen, wake))
    }

    async fn read(&self, limit: ReadLimit) -> Result<(&ReadPlan, Batches), ReplicaError> {
        let plan = self.plan.as_ref().map_err(ReplicaError::clone)?;
        let replica = self.replica.as_ref().map_err(ReplicaError::clone)?;
        if limit.bytes_max == 0 && !limit.at_least_one {
            return Ok((plan, Batches::default()));
        }
        let batches = match &self.projection {
            None => replica.read(plan, limit, None).await?,
            Some(projection) => {
                let bucket = self.bucket;
                let project =
                    |batch: &LogBatch| projection.project(batch).map_err(|reason| ReplicaError::CorruptBatch { bucket, reason });
                replica.read(plan, limit, Some(&project as Project<'_>)).await?
            }
        };
        Ok((plan, batches))
    }

    fn answer(&self, result: Result<(&ReadPlan, Batches), ReplicaError>) -> FetchedBucket {
        let mut head = rpc::PbFetchLogRespForBucket {
            partition_id: self.bucket.partition_id.map(|id| id.0),
            bucket_id: self.bucket.bucket.0,
            ..Default::default()
        };
        match result {
            Ok((plan, batches)) => {
                head.high_watermark = Some(plan.high_watermark);
                head.log_start_offset = Some(plan.log_start);
                FetchedBucket { answer: head, records: Some(batches.pieces) }
            }
            Err(error) => {
                head.error_code = Some(replica_code(&error).code());
                head.error_message = Some(error.to_string());
                FetchedBucket { answer: head, records: None }
            }
        }
    }
}
