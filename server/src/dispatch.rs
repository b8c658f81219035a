//! Which handler answers which call. What is not in [`SERVED`] is not advertised and is refused with code 2.

use crate::handlers::{
    database, fetch, health, init_writer, kv_snapshot, limit_scan, lookup, metadata, offsets, produce, put_kv,
};
use crate::handlers::{scan_kv, table, table_stats, token, versions};
use crate::net::answer::{Answer, Refusal};
use crate::net::connection::{Connection, Service};
use crate::shared::Shared;
use bytes::Bytes;
use floss_protocol::api::ApiKey;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::frame::RequestFrame;
use floss_protocol::rpc::{RequestError, check_body};
use floss_raft::env::BoxFuture;
use prost::Message;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Calls of this server and the versions it speaks (framing.md 6.3).
pub(crate) const SERVED: &[(ApiKey, RangeInclusive<i16>)] = &[
    (ApiKey::ApiVersions, 0..=0),
    (ApiKey::CreateDatabase, 0..=0),
    (ApiKey::DropDatabase, 0..=0),
    (ApiKey::ListDatabases, 0..=0),
    (ApiKey::DatabaseExists, 0..=0),
    (ApiKey::CreateTable, 0..=0),
    (ApiKey::DropTable, 0..=0),
    (ApiKey::GetTableInfo, 0..=0),
    (ApiKey::ListTables, 0..=0),
    (ApiKey::ListPartitionInfos, 0..=0),
    (ApiKey::TableExists, 0..=0),
    (ApiKey::GetTableSchema, 0..=0),
    (ApiKey::GetMetadata, 0..=0),
    (ApiKey::ProduceLog, 0..=1),
    (ApiKey::FetchLog, 0..=0),
    (ApiKey::PutKv, 0..=2),
    (ApiKey::Lookup, 0..=1),
    (ApiKey::ListOffsets, 0..=0),
    (ApiKey::GetLatestKvSnapshots, 0..=0),
    (ApiKey::GetKvSnapshotMetadata, 0..=0),
    (ApiKey::GetFileSystemSecurityToken, 0..=0),
    (ApiKey::InitWriter, 0..=0),
    (ApiKey::LimitScan, 0..=0),
    (ApiKey::PrefixLookup, 0..=1),
    (ApiKey::GetDatabaseInfo, 0..=0),
    (ApiKey::AcquireKvSnapshotLease, 0..=0),
    (ApiKey::ReleaseKvSnapshotLease, 0..=0),
    (ApiKey::DropKvSnapshotLease, 0..=0),
    (ApiKey::GetTableStats, 0..=0),
    (ApiKey::ScanKv, 0..=0),
    (ApiKey::GetClusterHealth, 0..=0),
    (ApiKey::ListKvSnapshots, 0..=0),
];

/// The node's calls.
pub(crate) struct Dispatch {
    pub shared: Arc<Shared>,
}

impl Service for Dispatch {
    fn start(&self, connection: &Connection, request: RequestFrame) -> BoxFuture<'static, Answer> {
        let checked = self.served(&request).and_then(|key| {
            // The same bytes would fail again, so nothing that a client retries.
            let refuse = |error: RequestError| Refusal::new(error.error_code(), error.to_string());
            check_body(key, &request.body).map(|()| key).map_err(refuse)
        });
        match checked {
            Ok(key) => self.call(key, connection, request.body),
            Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
        }
    }
}

impl Dispatch {
    fn served(&self, request: &RequestFrame) -> Result<ApiKey, Refusal> {
        let found = SERVED
            .iter()
            .find(|(key, versions)| i32::from(key.key()) == i32::from(request.key) && versions.contains(&request.version));
        found.map(|(key, _)| *key).ok_or_else(|| {
            let message = format!("api_key={} version={} is not served", request.key, request.version);
            Refusal::new(ErrorCode::UnsupportedVersion, message)
        })
    }

    fn call(&self, key: ApiKey, connection: &Connection, body: Bytes) -> BoxFuture<'static, Answer> {
        match key {
            ApiKey::ApiVersions => self.with(body, versions::versions),
            ApiKey::CreateDatabase => self.with(body, database::create),
            ApiKey::DropDatabase => self.with(body, database::drop),
            ApiKey::ListDatabases => self.with(body, database::list),
            ApiKey::DatabaseExists => self.with(body, database::exists),
            ApiKey::GetDatabaseInfo => self.with(body, database::info),
            ApiKey::CreateTable => self.with(body, table::create),
            ApiKey::DropTable => self.with(body, table::drop),
            ApiKey::GetTableInfo => self.with(body, table::info),
            ApiKey::ListTables => self.with(body, table::list),
            ApiKey::ListPartitionInfos => self.with(body, table::partitions),
            ApiKey::TableExists => self.with(body, table::exists),
            ApiKey::GetTableSchema => self.with(body, table::schema),
            ApiKey::GetMetadata => self.with(body, metadata::metadata),
            ApiKey::InitWriter => self.with(body, init_writer::init_writer),
            ApiKey::ListOffsets => self.with(body, offsets::list_offsets),
            ApiKey::Lookup => self.with(body, lookup::lookup),
            ApiKey::PrefixLookup => self.with(body, lookup::prefix_lookup),
            ApiKey::ScanKv => self.with(body, scan_kv::scan_kv),
            ApiKey::GetTableStats => self.with(body, table_stats::table_stats),
            ApiKey::GetLatestKvSnapshots => self.with(body, kv_snapshot::latest),
            ApiKey::GetKvSnapshotMetadata => self.with(body, kv_snapshot::metadata),
            ApiKey::AcquireKvSnapshotLease => self.with(body, kv_snapshot::acquire_lease),
            ApiKey::ReleaseKvSnapshotLease => self.with(body, kv_snapshot::release_lease),
            ApiKey::DropKvSnapshotLease => self.with(body, kv_snapshot::drop_lease),
            ApiKey::ListKvSnapshots => self.with(body, kv_snapshot::list),
            ApiKey::LimitScan => self.with(body, limit_scan::limit_scan),
            ApiKey::GetFileSystemSecurityToken => self.with(body, token::security_token),
            ApiKey::GetClusterHealth => self.with(body, health::cluster_health),
            ApiKey::ProduceLog => match decode(body) {
                // Not inside a future: the appends are in their mailboxes before the next frame is read.
                Ok(request) => produce::start(&self.shared, request),
                Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
            },
            ApiKey::PutKv => match decode(body) {
                Ok(request) => put_kv::start(&self.shared, request),
                Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
            },
            ApiKey::FetchLog => {
                let room = connection.answer_room.clone();
                self.with(body, move |shared, request| fetch::fetch_log(shared, request, room))
            }
            _ => {
                let refusal = Refusal::new(ErrorCode::UnsupportedVersion, format!("{key:?} is not served"));
                Box::pin(std::future::ready(Err(refusal)))
            }
        }
    }

    fn with<Request, Handling>(
        &self,
        body: Bytes,
        handler: impl FnOnce(Arc<Shared>, Request) -> Handling,
    ) -> BoxFuture<'static, Answer>
    where
        Request: Message + Default,
        Handling: Future<Output = Answer> + Send + 'static,
    {
        match decode(body) {
            Ok(request) => Box::pin(handler(self.shared.clone(), request)),
            Err(refusal) => Box::pin(std::future::ready(Err(refusal))),
        }
    }
}

/// Error -1: the same bytes would fail again, so nothing that a client retries (framing.md 6.5).
fn decode<Request: Message + Default>(body: Bytes) -> Result<Request, Refusal> {
    Request::decode(body).map_err(|error| Refusal::new(ErrorCode::UnknownServerError, format!("body: {error}")))
}
