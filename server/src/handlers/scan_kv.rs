//! ScanKv: all rows of a bucket in key order, over many calls, as they were at the first one (semantics.md 6).

use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::limits::{READ_BARRIER_WAIT, SCAN_STEP_BYTES_MAX};
use crate::net::answer::{Answer, Body};
use crate::replica::error::ReplicaError;
use crate::replica::replica::Replica;
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::kv_batch::ValueBatchBuilder;
use floss_protocol::{reached, rpc};
use floss_raft::env::runtime::time;
use floss_tablet::kv::scan::{ScanId, ScanStep};
use std::sync::Arc;

type Refused = (ErrorCode, String);

fn refused(error: &ReplicaError) -> Refused {
    (replica_code(error), error.to_string())
}

fn invalid(message: impl Into<String>) -> Refused {
    (ErrorCode::InvalidScanRequest, message.into())
}

pub(crate) async fn scan_kv(shared: Arc<Shared>, request: rpc::ScanKvRequest) -> Answer {
    let response = answer(&shared, request).await.unwrap_or_else(|(code, message)| rpc::ScanKvResponse {
        error_code: Some(code.code()),
        error_message: Some(message),
        ..Default::default()
    });
    Ok(Body::message(&response))
}

async fn answer(shared: &Shared, request: rpc::ScanKvRequest) -> Result<rpc::ScanKvResponse, Refused> {
    let closes = request.close_scanner.unwrap_or(false);
    match (request.scanner_id, request.bucket_scan_req) {
        (Some(id), None) if closes => {
            shared.scanners.remove(&id);
            Ok(rpc::ScanKvResponse { has_more_results: Some(false), ..Default::default() })
        }
        (Some(id), None) => {
            let call = request.call_seq_id.ok_or_else(|| invalid("call_seq_id is missing"))?;
            go_on(shared, &id, call, bytes_max(request.batch_size_bytes)?)
        }
        (None, Some(bucket)) if !closes => {
            if request.call_seq_id != Some(0) {
                return Err(invalid(format!("call_seq_id={:?}, expected 0", request.call_seq_id)));
            }
            open(shared, bucket, bytes_max(request.batch_size_bytes)?).await
        }
        _ => Err(invalid("exactly one of scanner_id and bucket_scan_req is needed")),
    }
}

fn bytes_max(batch_size_bytes: Option<i32>) -> Result<usize, Refused> {
    let wanted = batch_size_bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    wanted
        .map(|bytes| bytes.min(SCAN_STEP_BYTES_MAX))
        .ok_or_else(|| invalid(format!("batch_size_bytes={batch_size_bytes:?}, expected 1 or more")))
}

async fn open(shared: &Shared, asked: rpc::PbScanReqForBucket, bytes_max: usize) -> Result<rpc::ScanKvResponse, Refused> {
    let bucket = table_bucket(asked.table_id, asked.partition_id, asked.bucket_id);
    let replica = find_replica(shared, bucket).map_err(|error| refused(&error))?;
    replica.wait_readable().await.map_err(|error| refused(&error))?;
    shared.scanners.check_room(&replica)?;
    let rows_max = asked.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0));
    let (scan, log_offset, step) = replica.open_scan(rows_max, bytes_max).map_err(|error| refused(&error))?;
    let scanner_id = (!step.is_last).then(|| shared.scanners.add(replica, scan));
    Ok(rpc::ScanKvResponse { log_offset: Some(log_offset), scanner_id, ..response(&step) })
}

fn go_on(shared: &Shared, id: &Bytes, call: i32, bytes_max: usize) -> Result<rpc::ScanKvResponse, Refused> {
    let scanner = shared.scanners.next(id, call)?;
    if scanner.replica.inspect().leadership.term != scanner.term {
        reached!("scan_outlived_term");
    }
    match scanner.replica.step_scan(scanner.scan, bytes_max) {
        Ok(Some(step)) => {
            if step.is_last {
                shared.scanners.remove(id);
            }
            Ok(rpc::ScanKvResponse { scanner_id: Some(id.clone()), ..response(&step) })
        }
        Ok(None) => {
            shared.scanners.expire(id);
            Err((ErrorCode::ScannerExpired, "too much changed while the scanner was open".to_owned()))
        }
        Err(error) => {
            shared.scanners.remove(id);
            Err(refused(&error))
        }
    }
}

fn response(step: &ScanStep) -> rpc::ScanKvResponse {
    let mut batch = ValueBatchBuilder::default();
    for (_, value) in &step.rows {
        batch.push(value);
    }
    let records = (!step.rows.is_empty()).then(|| batch.build());
    rpc::ScanKvResponse { has_more_results: Some(!step.is_last), records, ..Default::default() }
}

impl Replica {
    /// Returns once this node has proven that it leads and the rows are those of the applied log.
    async fn wait_readable(&self) -> Result<(), ReplicaError> {
        drop(self.primary_key_core()?);
        self.prove_leadership().await?;
        self.wait_folded(time::Instant::now() + READ_BARRIER_WAIT).await
    }

    /// The scan, the offset of the log from which a reader goes on after it, and its first rows.
    fn open_scan(&self, rows_max: usize, bytes_max: usize) -> Result<(ScanId, i64, ScanStep), ReplicaError> {
        let mut core = self.primary_key_core()?;
        if !core.is_folded() {
            return Err(ReplicaError::NotLeader { bucket: self.bucket, leader: None });
        }
        let log_offset = core.tablet.high_watermark();
        let kv = core.kv.as_mut().ok_or(ReplicaError::NotPrimaryKeyTable { bucket: self.bucket })?;
        let scan = kv.open_scan(rows_max);
        let step = kv.step_scan(scan, bytes_max).inspect_err(|_| kv.close_scan(scan));
        let step = step.map_err(|error| ReplicaError::KvStore { bucket: self.bucket, reason: error.to_string() })?;
        Ok((scan, log_offset, step.expect("it was opened above, under the same lock")))
    }

    /// `None`: the scan ended.
    fn step_scan(&self, scan: ScanId, bytes_max: usize) -> Result<Option<ScanStep>, ReplicaError> {
        let mut core = self.primary_key_core()?;
        let kv = core.kv.as_mut().ok_or(ReplicaError::NotPrimaryKeyTable { bucket: self.bucket })?;
        kv.step_scan(scan, bytes_max).map_err(|error| ReplicaError::KvStore { bucket: self.bucket, reason: error.to_string() })
    }
}
