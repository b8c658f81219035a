//! GetTableStats: how many rows a bucket holds. Any node answers: clients ask the coordinator, so buckets led elsewhere are counted there.

use super::{find_replica, table_bucket};
use crate::errors::replica_code;
use crate::limits::READ_BARRIER_WAIT;
use crate::net::answer::{Answer, Body};
use crate::replica::error::ReplicaError;
use crate::replica::replica::{Core, Replica};
use crate::replica::set::Replicas;
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::ids::TableBucket;
use floss_protocol::{mutant, rpc};
use floss_raft::env::runtime::time;
use futures_util::future::join_all;
use std::sync::Arc;

/// Method on `PeerChannel::Server`: the row count of a bucket that the asked node leads.
///
/// ```text
/// question   version 1, table id i64, partition id i64 (-1 = none), bucket i32; all little-endian
/// answer     version 1, row count i64 (-1 = not known)
/// ```
pub(crate) const PEER_ROW_COUNT: u8 = 32;
const PEER_VERSION: u8 = 1;
const NONE: i64 = -1;

pub(crate) async fn table_stats(shared: Arc<Shared>, request: rpc::GetTableStatsRequest) -> Answer {
    let counts = request.buckets_req.iter().map(|asked| bucket_stats(&shared, request.table_id, asked));
    let buckets_resp = join_all(counts).await;
    Ok(Body::message(&rpc::GetTableStatsResponse { buckets_resp }))
}

async fn bucket_stats(shared: &Shared, table_id: i64, asked: &rpc::PbTableStatsReqForBucket) -> rpc::PbTableStatsRespForBucket {
    let bucket = table_bucket(table_id, asked.partition_id, asked.bucket_id);
    let mut response =
        rpc::PbTableStatsRespForBucket { partition_id: asked.partition_id, bucket_id: asked.bucket_id, ..Default::default() };
    match row_count(shared, bucket).await {
        Ok(count) => response.row_count = count,
        Err(error) => {
            response.error_code = Some(replica_code(&error).code());
            response.error_message = Some(error.to_string());
        }
    }
    response
}

/// As of now, counted by the leader. `None`: not known (WAL images do not tell).
async fn row_count(shared: &Shared, bucket: TableBucket) -> Result<Option<i64>, ReplicaError> {
    let counted = match find_replica(shared, bucket) {
        Ok(replica) => replica.count_rows().await,
        Err(error) => Err(error),
    };
    let Err(ReplicaError::NotLeader { leader: Some(leader), .. }) = &counted else { return counted };
    if *leader == shared.node_id {
        return counted;
    }
    let answer = shared.catalog.call(*leader, PEER_ROW_COUNT, encode_question(bucket), READ_BARRIER_WAIT).await;
    match answer.and_then(|answer| decode_answer(&answer)) {
        Ok(count) => Ok(count),
        // The client asks again; by then there may be another leader.
        Err(_) => counted,
    }
}

/// Answers a question of another node.
pub(crate) async fn serve_row_count(replicas: &Replicas, question: &[u8]) -> Result<Bytes, String> {
    let bucket = decode_question(question)?;
    let replica = replicas.get(bucket).map_err(|error| error.to_string())?;
    let count = replica.count_rows().await.map_err(|error| error.to_string())?;
    Ok([&[PEER_VERSION][..], &count.unwrap_or(NONE).to_le_bytes()].concat().into())
}

fn encode_question(bucket: TableBucket) -> Bytes {
    let partition = bucket.partition_id.map_or(NONE, |id| id.0);
    let parts = [&[PEER_VERSION][..], &bucket.table_id.0.to_le_bytes(), &partition.to_le_bytes(), &bucket.bucket.0.to_le_bytes()];
    parts.concat().into()
}

fn decode_question(bytes: &[u8]) -> Result<TableBucket, String> {
    let bad = || format!("a question of {} bytes for a row count", bytes.len());
    let (version, rest) = bytes.split_first_chunk::<1>().ok_or_else(bad)?;
    let (table, rest) = rest.split_first_chunk().ok_or_else(bad)?;
    let (partition, rest) = rest.split_first_chunk().ok_or_else(bad)?;
    let bucket: [u8; 4] = rest.try_into().map_err(|_| bad())?;
    if *version != [PEER_VERSION] {
        return Err(format!("version={} of a question for a row count, expected {PEER_VERSION}", version[0]));
    }
    let partition = Some(i64::from_le_bytes(*partition)).filter(|partition| *partition != NONE);
    Ok(table_bucket(i64::from_le_bytes(*table), partition, i32::from_le_bytes(bucket)))
}

fn decode_answer(bytes: &[u8]) -> Result<Option<i64>, String> {
    let bad = || format!("a row count of {} bytes, version {:?}", bytes.len(), bytes.first());
    let count = bytes.strip_prefix(&[PEER_VERSION]).and_then(|rest| rest.try_into().ok()).ok_or_else(bad)?;
    Ok(Some(i64::from_le_bytes(count)).filter(|count| *count != NONE))
}

impl Replica {
    /// With everything counted that was acknowledged anywhere before the call.
    async fn count_rows(self: &Arc<Self>) -> Result<Option<i64>, ReplicaError> {
        if mutant!("K23") {
            return Ok(self.core()?.row_count());
        }
        let deadline = time::Instant::now() + READ_BARRIER_WAIT;
        self.wait_leading(deadline).await?;
        self.prove_leadership().await?;
        self.wait_folded(deadline).await?;
        Ok(self.leading_core()?.row_count())
    }
}

impl Core {
    /// Of a log table: the records that can be read.
    fn row_count(&self) -> Option<i64> {
        match &self.kv {
            Some(kv) => kv.position().row_count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
            None => Some(self.tablet.high_watermark() - self.tablet.log_start()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_protocol::ids::{BucketId, PartitionId, TableId};

    #[test]
    fn golden_bytes_version_1() {
        let bucket = TableBucket { table_id: TableId(3), partition_id: None, bucket: BucketId(2) };
        let bytes = [&[1, 3, 0, 0, 0, 0, 0, 0, 0][..], &[255; 8], &[2, 0, 0, 0]].concat();
        assert_eq!(encode_question(bucket), bytes);
        assert_eq!(decode_question(&bytes), Ok(bucket));
        let other = TableBucket { partition_id: Some(PartitionId(9)), ..bucket };
        assert_eq!(decode_question(&encode_question(other)), Ok(other));
        assert_eq!(decode_answer(&[1, 7, 0, 0, 0, 0, 0, 0, 0]), Ok(Some(7)));
        assert_eq!(decode_answer(&[&[1][..], &[255; 8]].concat()), Ok(None));
        for bad in [&bytes[1..], &bytes[..20], &[]] {
            assert!(decode_question(bad).is_err());
        }
        assert!(decode_answer(&[2, 7, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
