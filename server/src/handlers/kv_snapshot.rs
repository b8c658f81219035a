//! Calls about KV snapshots in remote storage: there are none, and readers then take the changelog from its start, which is kept.

use super::{find_in_catalog, newest_catalog, table_path};
use crate::coordinator::table::TableInfo;
use crate::net::answer::{Answer, Body, Refusal};
use crate::shared::Shared;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::ids::TableId;
use floss_protocol::rpc;
use floss_protocol::schema::TableDescriptor;
use std::sync::Arc;

/// Per bucket "no snapshot".
pub(crate) async fn latest(shared: Arc<Shared>, request: rpc::GetLatestKvSnapshotsRequest) -> Answer {
    let path = table_path(request.table_path);
    let table = find_in_catalog(&shared, |catalog| catalog.table(&path).cloned()).await?;
    check_primary_key(&table)?;
    if request.partition_name.is_some() {
        return Err(Refusal::new(ErrorCode::TableNotPartitioned, format!("table {} is not partitioned", table.path)));
    }
    let none = |bucket_id| rpc::PbKvSnapshot { bucket_id, snapshot_id: None, log_offset: None };
    Ok(Body::message(&rpc::GetLatestKvSnapshotsResponse {
        table_id: table.id.0,
        partition_id: None,
        latest_snapshots: (0..table.bucket_count).map(none).collect(),
    }))
}

fn check_primary_key(table: &TableInfo) -> Result<(), Refusal> {
    let has_key = TableDescriptor::from_json(table.table_json.as_bytes()).is_ok_and(|descriptor| descriptor.has_primary_key());
    match has_key {
        true => Ok(()),
        false => Err(Refusal::new(ErrorCode::NonPrimaryKeyTable, format!("table {} has no primary key", table.path))),
    }
}

pub(crate) async fn metadata(_shared: Arc<Shared>, request: rpc::GetKvSnapshotMetadataRequest) -> Answer {
    let rpc::GetKvSnapshotMetadataRequest { table_id, bucket_id, snapshot_id, .. } = request;
    let message = format!("bucket {table_id}/{bucket_id} has no snapshot {snapshot_id}");
    Err(Refusal::new(ErrorCode::KvSnapshotNotExist, message))
}

/// All of them are unavailable.
pub(crate) async fn acquire_lease(_shared: Arc<Shared>, request: rpc::AcquireKvSnapshotLeaseRequest) -> Answer {
    let unavailable_snapshots = request.snapshots_to_lease;
    Ok(Body::message(&rpc::AcquireKvSnapshotLeaseResponse { unavailable_snapshots }))
}

pub(crate) async fn release_lease(_shared: Arc<Shared>, _request: rpc::ReleaseKvSnapshotLeaseRequest) -> Answer {
    Ok(Body::message(&rpc::ReleaseKvSnapshotLeaseResponse {}))
}

pub(crate) async fn drop_lease(_shared: Arc<Shared>, _request: rpc::DropKvSnapshotLeaseRequest) -> Answer {
    Ok(Body::message(&rpc::DropKvSnapshotLeaseResponse {}))
}

pub(crate) async fn list(shared: Arc<Shared>, request: rpc::ListKvSnapshotsRequest) -> Answer {
    let state = newest_catalog(&shared).await?;
    if state.table_by_id(TableId(request.table_id)).is_none() {
        return Err(Refusal::new(ErrorCode::TableNotExist, format!("table {} does not exist", request.table_id)));
    }
    Ok(Body::message(&rpc::ListKvSnapshotsResponse {
        table_id: request.table_id,
        partition_id: request.partition_id,
        active_snapshots: Vec::new(),
    }))
}
