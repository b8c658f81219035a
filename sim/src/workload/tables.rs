//! Makes the database and the tables of a run, before any fault.

use super::{keyed_rows, rows, table_name};
use crate::client::{CallError, Session};
use crate::plan::Plan;
use bytes::Bytes;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::rpc::{CreateDatabaseRequest, CreateTableRequest, PbTablePath};
use floss_raft::env::runtime::time;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(25);

/// Table ids in order. Errors: what was still wrong after a minute.
pub async fn create_tables(session: &Session, plan: &Plan) -> Result<Vec<i64>, String> {
    let mut last = "nothing tried".to_owned();
    for _ in 0..200 {
        match create_all(session, plan).await {
            Ok(()) => break,
            Err(error) => last = error.text(),
        }
        time::sleep(Duration::from_millis(300)).await;
    }
    let mut ids = Vec::new();
    for table in plan.tables() {
        ids.push(table_id(session, table).await.map_err(|error| format!("{}; before: {last}", error.text()))?);
    }
    Ok(ids)
}

async fn create_all(session: &Session, plan: &Plan) -> Result<(), CallError> {
    let connection = session.connect_any().await?;
    let database = session.path().database_name;
    let request = CreateDatabaseRequest { database_name: database.clone(), ignore_if_exists: true, database_json: None };
    connection.send(request).answer(PATIENCE).await?;
    for table in plan.tables() {
        let table_path = PbTablePath { database_name: database.clone(), table_name: table_name(table) };
        let table_json = Bytes::from(match plan.keyed(table) {
            Some(keyed) => keyed_rows::table_json(keyed),
            None => rows::table_json(plan.bucket_count(table), plan.workload.log_ttl_ms),
        });
        let request = CreateTableRequest { table_path, table_json, ignore_if_exists: true };
        connection.send(request).answer(PATIENCE).await?;
    }
    Ok(())
}

async fn table_id(session: &Session, table: usize) -> Result<i64, CallError> {
    let table_path = PbTablePath { table_name: table_name(table), ..session.path() };
    let request = floss_protocol::rpc::GetTableInfoRequest { table_path };
    let not_sent = CallError::Refused { code: ErrorCode::UnknownServerError as i32, message: "nobody answers".into() };
    for _ in 0..20 {
        if let Ok(connection) = session.connect_any().await
            && let Ok(info) = connection.send(request.clone()).answer(PATIENCE).await
        {
            return Ok(info.table_id);
        }
        time::sleep(Duration::from_millis(100)).await;
    }
    Err(not_sent)
}
