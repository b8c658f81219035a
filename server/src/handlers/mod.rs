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

use crate::coordinator::reject::CatalogReject;
use crate::coordinator::state::CatalogState;
use crate::coordinator::table::TablePath;
use crate::limits::{CATALOG_BARRIER_WAIT, CATALOG_PROPOSE_WAIT};
use crate::net::answer::Refusal;
use crate::replica::error::ReplicaError;
use crate::replica::replica::Replica;
use crate::shared::Shared;
use floss_protocol::ids::{BucketId, PartitionId, TableBucket, TableId};
use floss_protocol::{mutant, reached, rpc};
use std::sync::Arc;

/// Everything that was decided before the call. Errors: `RequestTimeOut`, it cannot be had.
pub(crate) async fn newest_catalog(shared: &Shared) -> Result<Arc<CatalogState>, Refusal> {
    Ok(shared.catalog.barrier(CATALOG_PROPOSE_WAIT).await?)
}

/// What `read` finds in the newest catalog, or in this node's copy if the newest cannot be had soon: an old answer is better than none.
/// But that something is not there is said of the newest only. Clients give up on it, and the copy of a node that has just started may
/// hold nothing yet.
///
/// Errors: what `read` says; `RequestTimeOut`, nobody knows.
pub(crate) async fn find_in_catalog<T>(
    shared: &Shared,
    read: impl Fn(&CatalogState) -> Result<T, CatalogReject>,
) -> Result<T, Refusal> {
    let (state, is_newest) = match shared.catalog.barrier(CATALOG_BARRIER_WAIT).await {
        Ok(state) => (state, true),
        Err(_) => (shared.catalog.view(), false),
    };
    match read(&state) {
        Err(_) if !is_newest && !mutant!("M13") => {
            reached!("catalog_read_again");
            Ok(read(&*newest_catalog(shared).await?)?)
        }
        found => Ok(found?),
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
