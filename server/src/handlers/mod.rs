//! One file per call or family of calls. A handler turns a request message into an answer; it knows no sockets.

pub(crate) mod database;
pub(crate) mod fetch;
pub(crate) mod health;
pub(crate) mod init_writer;
pub(crate) mod kv_snapshot;
pub(crate) mod limit_scan;
pub(crate) mod lookup;
pub(crate) mod metadata;
pub(crate) mod offsets;
pub(crate) mod produce;
pub(crate) mod projection;
pub(crate) mod put_kv;
pub(crate) mod scan_kv;
pub(crate) mod table;
pub(crate) mod table_stats;
pub(crate) mod token;
pub(crate) mod versions;

use crate::coordinator::state::CatalogState;
use crate::coordinator::table::TablePath;
use crate::limits::CATALOG_BARRIER_WAIT;
use crate::replica::error::ReplicaError;
use crate::replica::replica::Replica;
use crate::shared::Shared;
use floss_protocol::ids::{BucketId, PartitionId, TableBucket, TableId};
use floss_protocol::rpc;
use std::sync::Arc;

/// The newest catalog if it can be had soon, else this node's copy: an old answer is better than none.
pub(crate) async fn fresh_catalog(shared: &Shared) -> Arc<CatalogState> {
    match shared.catalog.barrier(CATALOG_BARRIER_WAIT).await {
        Ok(state) => state,
        Err(_) => shared.catalog.view(),
    }
}

pub(crate) fn table_path(path: rpc::PbTablePath) -> TablePath {
    TablePath::new(path.database_name, path.table_name)
}

pub(crate) fn table_bucket(table_id: i64, partition_id: Option<i64>, bucket: i32) -> TableBucket {
    TableBucket { table_id: TableId(table_id), partition_id: partition_id.map(PartitionId), bucket: BucketId(bucket) }
}

/// This node's replica of a bucket, or why it has none: it lives on other nodes (12) or nowhere (21).
pub(crate) fn find_replica(shared: &Shared, bucket: TableBucket) -> Result<Arc<Replica>, ReplicaError> {
    shared.replicas.get(bucket).map_err(|unknown| match shared.catalog.view().bucket(bucket) {
        Some((_, placement)) => {
            let leader = shared.leaders.get(placement.group).map(|known| known.leader);
            ReplicaError::NotLeader { bucket, leader }
        }
        None => unknown,
    })
}
