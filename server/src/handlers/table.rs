//! Calls about tables: writes go through the catalog, reads look at the newest copy that can be had soon.

use super::{find_in_catalog, newest_catalog, table_path};
use crate::coordinator::command::{CatalogCommand, CatalogDone};
use crate::coordinator::reject::CatalogReject;
use crate::coordinator::validate::{TableDefaults, check_table};
use crate::limits::{CATALOG_PROPOSE_WAIT, CREATE_TABLE_WAIT};
use crate::net::answer::{Answer, Body};
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::ids::{SchemaId, TableId};
use floss_protocol::rpc;
use floss_raft::env::runtime::time;
use std::sync::Arc;

/// Answers when every bucket has a leader, so that the first write needs no second try.
pub(crate) async fn create(shared: Arc<Shared>, request: rpc::CreateTableRequest) -> Answer {
    let deadline = time::Instant::now() + CREATE_TABLE_WAIT;
    let path = table_path(request.table_path);
    let defaults = TableDefaults {
        bucket_count: shared.tuning.default_bucket_count,
        replication_factor: shared.tuning.default_replication_factor,
    };
    // The number of nodes decides about the replication factor: it must not come from an old copy.
    let nodes = newest_catalog(&shared).await?.nodes().len();
    let table = check_table(path, &request.table_json, defaults, nodes)?;
    let command =
        CatalogCommand::CreateTable { table, ignore_if_exists: request.ignore_if_exists, suspected: shared.leaders.suspected() };
    if let CatalogDone::TableCreated { table_id } = shared.catalog.propose(command, CATALOG_PROPOSE_WAIT).await? {
        wait_led(&shared, table_id, deadline).await;
    }
    Ok(Body::message(&rpc::CreateTableResponse {}))
}

/// Gives up at the deadline: the table is there, its leaders will come.
async fn wait_led(shared: &Shared, table_id: TableId, deadline: time::Instant) {
    let groups = shared.catalog.view().table_by_id(table_id).map(|table| table.groups()).unwrap_or_default();
    if !shared.leaders.wait_all_led(&groups, deadline).await {
        tracing::info!(table = %table_id, "created, but not every bucket has a leader yet");
    }
}

pub(crate) async fn drop(shared: Arc<Shared>, request: rpc::DropTableRequest) -> Answer {
    let command =
        CatalogCommand::DropTable { path: table_path(request.table_path), ignore_if_not_exists: request.ignore_if_not_exists };
    shared.catalog.propose(command, CATALOG_PROPOSE_WAIT).await?;
    Ok(Body::message(&rpc::DropTableResponse {}))
}

pub(crate) async fn info(shared: Arc<Shared>, request: rpc::GetTableInfoRequest) -> Answer {
    let path = table_path(request.table_path);
    let table = find_in_catalog(&shared, |catalog| catalog.table(&path).cloned()).await?;
    Ok(Body::message(&rpc::GetTableInfoResponse {
        table_id: table.id.0,
        schema_id: i32::from(table.latest_schema().0.0),
        table_json: Bytes::from(table.table_json.clone()),
        created_time: table.created_ms,
        modified_time: table.modified_ms,
        remote_data_dir: None,
        bucket_count_epoch: None,
    }))
}

pub(crate) async fn list(shared: Arc<Shared>, request: rpc::ListTablesRequest) -> Answer {
    let state = newest_catalog(&shared).await?;
    let tables = state.tables_of(&request.database_name)?;
    let table_name = tables.into_iter().map(|table| table.path.table.clone()).collect();
    Ok(Body::message(&rpc::ListTablesResponse { table_name }))
}

/// Partitioned tables are refused at creation, so every table there is has none to list.
pub(crate) async fn partitions(shared: Arc<Shared>, request: rpc::ListPartitionInfosRequest) -> Answer {
    let path = table_path(request.table_path);
    let table = find_in_catalog(&shared, |catalog| catalog.table(&path).cloned()).await?;
    if !table.is_partitioned() {
        return Err(CatalogReject::TableNotPartitioned { path: table.path.clone() }.into());
    }
    Ok(Body::message(&rpc::ListPartitionInfosResponse::default()))
}

pub(crate) async fn exists(shared: Arc<Shared>, request: rpc::TableExistsRequest) -> Answer {
    let state = newest_catalog(&shared).await?;
    let exists = state.table(&table_path(request.table_path)).is_ok();
    Ok(Body::message(&rpc::TableExistsResponse { exists }))
}

pub(crate) async fn schema(shared: Arc<Shared>, request: rpc::GetTableSchemaRequest) -> Answer {
    let path = table_path(request.table_path);
    let table = find_in_catalog(&shared, |catalog| catalog.table(&path).cloned()).await?;
    let (schema_id, schema_json) = match request.schema_id {
        None => table.latest_schema(),
        Some(wanted) => i16::try_from(wanted)
            .ok()
            .and_then(|id| table.schemas.get_key_value(&SchemaId(id)))
            .map(|(id, json)| (*id, json.as_str()))
            .ok_or(CatalogReject::SchemaNotExist { path, schema_id: wanted })?,
    };
    Ok(Body::message(&rpc::GetTableSchemaResponse {
        schema_id: i32::from(schema_id.0),
        schema_json: Bytes::from(schema_json.to_owned()),
    }))
}
