//! Which response belongs to which request, and decoding by number.

use super::bounds::check_body;
use super::*;
use crate::api::{ApiKey, VersionRange};
use crate::error_code::ErrorCode;
use bytes::Bytes;
use prost::Message;

/// A request message; says under which key it travels and what answers it.
pub trait Rpc: Message + Default {
    const KEY: ApiKey;
    type Response: Message + Default;
}

/// Why the bytes of a request are not a request. The connection stays usable: the frame itself was whole.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    #[error("unknown api key {key}")]
    UnknownApi { key: i16 },
    #[error("{key} version {version} is not supported, versions {}..={} are", .supported.min, .supported.max)]
    UnsupportedVersion { key: ApiKey, version: i16, supported: VersionRange },
    #[error("body of {key}, {length} bytes, at most {limit} are taken")]
    TooLarge { key: ApiKey, length: usize, limit: usize },
    #[error("body of {key} has more than {limit} elements")]
    TooMany { key: ApiKey, limit: usize },
    #[error("body of {key} version {version}, {length} bytes, does not parse: {source}")]
    Malformed { key: ApiKey, version: i16, length: usize, source: prost::DecodeError },
}

impl RequestError {
    /// What to answer. Never silence: fluss-rs has no request timeout and would wait for ever.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::UnknownApi { .. } | Self::UnsupportedVersion { .. } => ErrorCode::UnsupportedVersion,
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::Malformed { .. } => ErrorCode::UnknownServerError,
        }
    }

    pub fn to_response(&self) -> ErrorResponse {
        ErrorResponse::new(self.error_code(), self.to_string())
    }
}

/// A key that has messages here, and a version of it that we speak.
fn check_version(key: i16, version: i16) -> Result<ApiKey, RequestError> {
    let api = ApiKey::from_key(key).ok_or(RequestError::UnknownApi { key })?;
    let supported = api.versions().ok_or(RequestError::UnknownApi { key })?;
    if !supported.contains(version) {
        return Err(RequestError::UnsupportedVersion { key: api, version, supported });
    }
    Ok(api)
}

macro_rules! calls {
    ($($call:ident: $request:ident => $response:ident;)*) => {
        $(impl Rpc for $request {
            const KEY: ApiKey = ApiKey::$call;
            type Response = $response;
        })*

        /// A request of any call.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyRequest {
            $($call($request),)*
        }

        /// A response of any call.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyResponse {
            $($call($response),)*
        }

        $(impl From<$request> for AnyRequest {
            fn from(request: $request) -> Self {
                Self::$call(request)
            }
        }

        impl From<$response> for AnyResponse {
            fn from(response: $response) -> Self {
                Self::$call(response)
            }
        })*

        impl AnyRequest {
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$call(_) => ApiKey::$call,)*
                }
            }

            pub fn encode_to_vec(&self) -> Vec<u8> {
                match self {
                    $(Self::$call(request) => request.encode_to_vec(),)*
                }
            }
        }

        impl AnyResponse {
            pub fn key(&self) -> ApiKey {
                match self {
                    $(Self::$call(_) => ApiKey::$call,)*
                }
            }

            pub fn encode_to_vec(&self) -> Vec<u8> {
                match self {
                    $(Self::$call(response) => response.encode_to_vec(),)*
                }
            }
        }

        fn decode_request_body(key: ApiKey, body: Bytes) -> Result<Option<AnyRequest>, prost::DecodeError> {
            Ok(Some(match key {
                $(ApiKey::$call => AnyRequest::$call($request::decode(body)?),)*
                _ => return Ok(None),
            }))
        }

        /// The response message of `key` in `body`; `None` for a key without messages.
        pub fn decode_response(key: ApiKey, body: Bytes) -> Result<Option<AnyResponse>, prost::DecodeError> {
            Ok(Some(match key {
                $(ApiKey::$call => AnyResponse::$call($response::decode(body)?),)*
                _ => return Ok(None),
            }))
        }
    };
}

calls! {
    ApiVersions: ApiVersionsRequest => ApiVersionsResponse;
    CreateDatabase: CreateDatabaseRequest => CreateDatabaseResponse;
    DropDatabase: DropDatabaseRequest => DropDatabaseResponse;
    ListDatabases: ListDatabasesRequest => ListDatabasesResponse;
    DatabaseExists: DatabaseExistsRequest => DatabaseExistsResponse;
    CreateTable: CreateTableRequest => CreateTableResponse;
    DropTable: DropTableRequest => DropTableResponse;
    GetTableInfo: GetTableInfoRequest => GetTableInfoResponse;
    ListTables: ListTablesRequest => ListTablesResponse;
    ListPartitionInfos: ListPartitionInfosRequest => ListPartitionInfosResponse;
    TableExists: TableExistsRequest => TableExistsResponse;
    GetTableSchema: GetTableSchemaRequest => GetTableSchemaResponse;
    GetMetadata: MetadataRequest => MetadataResponse;
    ProduceLog: ProduceLogRequest => ProduceLogResponse;
    FetchLog: FetchLogRequest => FetchLogResponse;
    PutKv: PutKvRequest => PutKvResponse;
    Lookup: LookupRequest => LookupResponse;
    ListOffsets: ListOffsetsRequest => ListOffsetsResponse;
    GetLatestKvSnapshots: GetLatestKvSnapshotsRequest => GetLatestKvSnapshotsResponse;
    GetKvSnapshotMetadata: GetKvSnapshotMetadataRequest => GetKvSnapshotMetadataResponse;
    GetFileSystemSecurityToken: GetFileSystemSecurityTokenRequest => GetFileSystemSecurityTokenResponse;
    InitWriter: InitWriterRequest => InitWriterResponse;
    CommitLakeTableSnapshot: CommitLakeTableSnapshotRequest => CommitLakeTableSnapshotResponse;
    GetLakeSnapshot: GetLakeSnapshotRequest => GetLakeSnapshotResponse;
    LimitScan: LimitScanRequest => LimitScanResponse;
    PrefixLookup: PrefixLookupRequest => PrefixLookupResponse;
    GetDatabaseInfo: GetDatabaseInfoRequest => GetDatabaseInfoResponse;
    CreatePartition: CreatePartitionRequest => CreatePartitionResponse;
    DropPartition: DropPartitionRequest => DropPartitionResponse;
    Authenticate: AuthenticateRequest => AuthenticateResponse;
    CreateAcls: CreateAclsRequest => CreateAclsResponse;
    ListAcls: ListAclsRequest => ListAclsResponse;
    DropAcls: DropAclsRequest => DropAclsResponse;
    LakeTieringHeartbeat: LakeTieringHeartbeatRequest => LakeTieringHeartbeatResponse;
    AlterTable: AlterTableRequest => AlterTableResponse;
    DescribeClusterConfigs: DescribeClusterConfigsRequest => DescribeClusterConfigsResponse;
    AlterClusterConfigs: AlterClusterConfigsRequest => AlterClusterConfigsResponse;
    AddServerTag: AddServerTagRequest => AddServerTagResponse;
    RemoveServerTag: RemoveServerTagRequest => RemoveServerTagResponse;
    Rebalance: RebalanceRequest => RebalanceResponse;
    ListRebalanceProgress: ListRebalanceProgressRequest => ListRebalanceProgressResponse;
    CancelRebalance: CancelRebalanceRequest => CancelRebalanceResponse;
    PrepareLakeTableSnapshot: PrepareLakeTableSnapshotRequest => PrepareLakeTableSnapshotResponse;
    RegisterProducerOffsets: RegisterProducerOffsetsRequest => RegisterProducerOffsetsResponse;
    GetProducerOffsets: GetProducerOffsetsRequest => GetProducerOffsetsResponse;
    DeleteProducerOffsets: DeleteProducerOffsetsRequest => DeleteProducerOffsetsResponse;
    AcquireKvSnapshotLease: AcquireKvSnapshotLeaseRequest => AcquireKvSnapshotLeaseResponse;
    ReleaseKvSnapshotLease: ReleaseKvSnapshotLeaseRequest => ReleaseKvSnapshotLeaseResponse;
    DropKvSnapshotLease: DropKvSnapshotLeaseRequest => DropKvSnapshotLeaseResponse;
    GetTableStats: GetTableStatsRequest => GetTableStatsResponse;
    AlterDatabase: AlterDatabaseRequest => AlterDatabaseResponse;
    ScanKv: ScanKvRequest => ScanKvResponse;
    GetClusterHealth: GetClusterHealthRequest => GetClusterHealthResponse;
    ListRemoteLogManifests: ListRemoteLogManifestsRequest => ListRemoteLogManifestsResponse;
    ListKvSnapshots: ListKvSnapshotsRequest => ListKvSnapshotsResponse;
}

/// The request in `body`, by the two numbers of its frame header. `bytes` fields are slices of `body`, not copies.
pub fn decode_request(key: i16, version: i16, body: Bytes) -> Result<AnyRequest, RequestError> {
    let api = check_version(key, version)?;
    check_body(api, &body)?;
    let length = body.len();
    decode_request_body(api, body)
        .map_err(|source| RequestError::Malformed { key: api, version, length, source })?
        .ok_or(RequestError::UnknownApi { key })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_key_with_versions_has_messages() {
        for api in ApiKey::ALL {
            let has_messages = decode_response(*api, Bytes::new()).unwrap();
            assert_eq!(has_messages.as_ref().map(AnyResponse::key), api.versions().map(|_| *api));
            let request = decode_request(api.key(), 0, Bytes::new());
            assert_eq!(request.ok().map(|request| request.key()), api.versions().map(|_| *api));
        }
    }

    #[test]
    fn unknown_unsupported_and_malformed_differ() {
        let unknown = decode_request(999, 0, Bytes::new()).unwrap_err();
        assert_eq!(unknown, RequestError::UnknownApi { key: 999 });
        assert_eq!(unknown.error_code(), ErrorCode::UnsupportedVersion);
        let internal = decode_request(ApiKey::StopReplica.key(), 0, Bytes::new()).unwrap_err();
        assert_eq!(internal.error_code(), ErrorCode::UnsupportedVersion);
        let version = decode_request(ApiKey::PutKv.key(), 4, Bytes::new()).unwrap_err();
        assert_eq!(version.to_string(), "PutKv (1016) version 4 is not supported, versions 0..=3 are");
        assert_eq!(version.to_response().error_code, 2);
        let negative = decode_request(ApiKey::GetMetadata.key(), -1, Bytes::new()).unwrap_err();
        assert!(matches!(negative, RequestError::UnsupportedVersion { version: -1, .. }));
        let malformed = decode_request(ApiKey::GetMetadata.key(), 0, Bytes::from_static(&[0x0a, 0x7f])).unwrap_err();
        assert!(matches!(malformed, RequestError::Malformed { .. }));
        assert_eq!(malformed.to_response().error_code, -1);
    }

    #[test]
    fn records_are_slices_of_the_body() {
        let bucket = PbProduceLogReqForBucket { records: Bytes::from(vec![7; 1000]), ..Default::default() };
        let request = ProduceLogRequest { buckets_req: vec![bucket], ..Default::default() };
        let body = Bytes::from(request.encode_to_vec());
        let AnyRequest::ProduceLog(decoded) = decode_request(1014, 1, body.clone()).unwrap() else { panic!("other call") };
        assert!(body.as_ptr_range().contains(&decoded.buckets_req[0].records.as_ptr()));
    }
}
