//! Calls about databases: writes go through the catalog, reads look at the newest copy that can be had soon.

use super::{find_in_catalog, newest_catalog};
use crate::coordinator::command::CatalogCommand;
use crate::coordinator::validate::check_database;
use crate::limits::CATALOG_PROPOSE_WAIT;
use crate::net::answer::{Answer, Body};
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::rpc;
use std::sync::Arc;

pub(crate) async fn create(shared: Arc<Shared>, request: rpc::CreateDatabaseRequest) -> Answer {
    let database_json = check_database(&request.database_name, request.database_json.as_deref())?;
    let command =
        CatalogCommand::CreateDatabase { name: request.database_name, ignore_if_exists: request.ignore_if_exists, database_json };
    shared.catalog.propose(command, CATALOG_PROPOSE_WAIT).await?;
    Ok(Body::message(&rpc::CreateDatabaseResponse {}))
}

pub(crate) async fn drop(shared: Arc<Shared>, request: rpc::DropDatabaseRequest) -> Answer {
    let command = CatalogCommand::DropDatabase {
        name: request.database_name,
        ignore_if_not_exists: request.ignore_if_not_exists,
        cascade: request.cascade,
    };
    shared.catalog.propose(command, CATALOG_PROPOSE_WAIT).await?;
    Ok(Body::message(&rpc::DropDatabaseResponse {}))
}

pub(crate) async fn list(shared: Arc<Shared>, request: rpc::ListDatabasesRequest) -> Answer {
    let state = newest_catalog(&shared).await?;
    let mut response = rpc::ListDatabasesResponse::default();
    if !request.include_summary.unwrap_or(false) {
        response.database_name = state.databases().keys().cloned().collect();
        return Ok(Body::message(&response));
    }
    for database in state.databases().values() {
        let tables = state.tables_of(&database.name).map_or(0, |tables| tables.len());
        response.database_summary.push(rpc::PbDatabaseSummary {
            database_name: database.name.clone(),
            created_time: database.created_ms,
            table_count: i32::try_from(tables).unwrap_or(i32::MAX),
        });
    }
    Ok(Body::message(&response))
}

pub(crate) async fn exists(shared: Arc<Shared>, request: rpc::DatabaseExistsRequest) -> Answer {
    let state = newest_catalog(&shared).await?;
    let exists = state.databases().contains_key(&request.database_name);
    Ok(Body::message(&rpc::DatabaseExistsResponse { exists }))
}

pub(crate) async fn info(shared: Arc<Shared>, request: rpc::GetDatabaseInfoRequest) -> Answer {
    let database = find_in_catalog(&shared, |catalog| catalog.database(&request.database_name).cloned()).await?;
    Ok(Body::message(&rpc::GetDatabaseInfoResponse {
        database_json: Bytes::from(database.database_json.clone()),
        created_time: database.created_ms,
        modified_time: database.modified_ms,
    }))
}
