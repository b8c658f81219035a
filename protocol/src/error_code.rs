//! The error codes of the wire.

use crate::rpc::ErrorResponse;

/// Which clients send the same request again after this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    /// Retriable for the Java client; fluss-rs 1.0.0 takes it for an unknown error and gives up.
    JavaOnly,
    EveryClient,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $retry:ident;)*) => {
        /// Every code a Fluss 1.0 client may see. A code is an int32 in `error_code` fields.
        ///
        /// fluss-rs 1.0.0 takes every code above 57, except 72, for `UnknownServerError`: for "try again" use
        /// `NotLeaderOrFollower`, `LeaderNotAvailable` or `RequestTimeOut`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i32)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant = $code,)*
        }

        impl ErrorCode {
            /// In ascending order.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// `None` for a number that Fluss 1.0 does not define.
            pub fn from_code(code: i32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Fluss's name of it, in capitals.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            pub fn retry(self) -> Retry {
                match self {
                    $(Self::$variant => Retry::$retry,)*
                }
            }
        }
    };
}

error_codes! {
    /// Also the answer to a body that does not parse: `CorruptMessage` would make a client send the same bytes again.
    UnknownServerError = -1, "UNKNOWN_SERVER_ERROR", Never;
    /// Success.
    None = 0, "NONE", Never;
    NetworkException = 1, "NETWORK_EXCEPTION", EveryClient;
    UnsupportedVersion = 2, "UNSUPPORTED_VERSION", Never;
    CorruptMessage = 3, "CORRUPT_MESSAGE", EveryClient;
    DatabaseNotExist = 4, "DATABASE_NOT_EXIST", Never;
    DatabaseNotEmpty = 5, "DATABASE_NOT_EMPTY", Never;
    DatabaseAlreadyExist = 6, "DATABASE_ALREADY_EXIST", Never;
    TableNotExist = 7, "TABLE_NOT_EXIST", Never;
    TableAlreadyExist = 8, "TABLE_ALREADY_EXIST", Never;
    /// fluss-rs does not retry it for writes.
    SchemaNotExist = 9, "SCHEMA_NOT_EXIST", EveryClient;
    LogStorageException = 10, "LOG_STORAGE_EXCEPTION", EveryClient;
    KvStorageException = 11, "KV_STORAGE_EXCEPTION", EveryClient;
    /// Clients refresh their metadata and retry.
    NotLeaderOrFollower = 12, "NOT_LEADER_OR_FOLLOWER", EveryClient;
    RecordTooLarge = 13, "RECORD_TOO_LARGE", Never;
    CorruptRecord = 14, "CORRUPT_RECORD", EveryClient;
    InvalidTable = 15, "INVALID_TABLE", Never;
    InvalidDatabase = 16, "INVALID_DATABASE", Never;
    InvalidReplicationFactor = 17, "INVALID_REPLICATION_FACTOR", Never;
    InvalidRequiredAcks = 18, "INVALID_REQUIRED_ACKS", Never;
    LogOffsetOutOfRange = 19, "LOG_OFFSET_OUT_OF_RANGE", Never;
    NonPrimaryKeyTable = 20, "NON_PRIMARY_KEY_TABLE", Never;
    /// Clients refresh their metadata and retry.
    UnknownTableOrBucket = 21, "UNKNOWN_TABLE_OR_BUCKET", EveryClient;
    InvalidUpdateVersion = 22, "INVALID_UPDATE_VERSION", Never;
    InvalidCoordinator = 23, "INVALID_COORDINATOR", Never;
    FencedLeaderEpoch = 24, "FENCED_LEADER_EPOCH", Never;
    RequestTimeOut = 25, "REQUEST_TIME_OUT", EveryClient;
    StorageException = 26, "STORAGE_EXCEPTION", EveryClient;
    OperationNotAttempted = 27, "OPERATION_NOT_ATTEMPTED", Never;
    NotEnoughReplicasAfterAppend = 28, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", EveryClient;
    NotEnoughReplicas = 29, "NOT_ENOUGH_REPLICAS", EveryClient;
    SecurityTokenException = 30, "SECURITY_TOKEN_EXCEPTION", Never;
    /// Writers handle it themselves.
    OutOfOrderSequence = 31, "OUT_OF_ORDER_SEQUENCE", Never;
    /// Writers count it as success.
    DuplicateSequence = 32, "DUPLICATE_SEQUENCE", Never;
    /// Writers handle it themselves.
    UnknownWriterId = 33, "UNKNOWN_WRITER_ID", Never;
    InvalidColumnProjection = 34, "INVALID_COLUMN_PROJECTION", Never;
    InvalidTargetColumn = 35, "INVALID_TARGET_COLUMN", Never;
    PartitionNotExists = 36, "PARTITION_NOT_EXISTS", Never;
    TableNotPartitioned = 37, "TABLE_NOT_PARTITIONED", Never;
    InvalidTimestamp = 38, "INVALID_TIMESTAMP", Never;
    InvalidConfig = 39, "INVALID_CONFIG", Never;
    LakeStorageNotConfigured = 40, "LAKE_STORAGE_NOT_CONFIGURED", Never;
    KvSnapshotNotExist = 41, "KV_SNAPSHOT_NOT_EXIST", Never;
    PartitionAlreadyExists = 42, "PARTITION_ALREADY_EXISTS", Never;
    PartitionSpecInvalid = 43, "PARTITION_SPEC_INVALID", Never;
    /// Clients refresh their metadata and retry.
    LeaderNotAvailable = 44, "LEADER_NOT_AVAILABLE", EveryClient;
    PartitionMaxNum = 45, "PARTITION_MAX_NUM", Never;
    AuthenticateException = 46, "AUTHENTICATE_EXCEPTION", Never;
    SecurityDisabled = 47, "SECURITY_DISABLED", Never;
    AuthorizationException = 48, "AUTHORIZATION_EXCEPTION", Never;
    BucketMaxNum = 49, "BUCKET_MAX_NUM", Never;
    FencedTieringEpoch = 50, "FENCED_TIERING_EPOCH", Never;
    /// Clients retry on the same connection, during the handshake only.
    RetriableAuthenticateException = 51, "RETRIABLE_AUTHENTICATE_EXCEPTION", Never;
    InvalidServerRackInfo = 52, "INVALID_SERVER_RACK_INFO", Never;
    LakeSnapshotNotExist = 53, "LAKE_SNAPSHOT_NOT_EXIST", Never;
    LakeTableAlreadyExist = 54, "LAKE_TABLE_ALREADY_EXIST", Never;
    IneligibleReplica = 55, "INELIGIBLE_REPLICA", Never;
    InvalidAlterTable = 56, "INVALID_ALTER_TABLE", Never;
    DeletionDisabled = 57, "DELETION_DISABLED", Never;
    ServerNotExist = 58, "SERVER_NOT_EXIST", Never;
    ServerTagAlreadyExist = 59, "SERVER_TAG_ALREADY_EXIST", Never;
    ServerTagNotExist = 60, "SERVER_TAG_NOT_EXIST", Never;
    RebalanceFailure = 61, "REBALANCE_FAILURE", Never;
    NoRebalanceInProgress = 62, "NO_REBALANCE_IN_PROGRESS", Never;
    InvalidProducerId = 63, "INVALID_PRODUCER_ID", Never;
    ConfigException = 64, "CONFIG_EXCEPTION", Never;
    NotCoordinatorLeader = 65, "NOT_COORDINATOR_LEADER", Never;
    ScannerExpired = 66, "SCANNER_EXPIRED", Never;
    UnknownScannerId = 67, "UNKNOWN_SCANNER_ID", Never;
    InvalidScanRequest = 68, "INVALID_SCAN_REQUEST", Never;
    TooManyScanners = 69, "TOO_MANY_SCANNERS", Never;
    DiskWriteLocked = 70, "DISK_WRITE_LOCKED", JavaOnly;
    InsufficientKvLeaderReplicaCapacity = 71, "INSUFFICIENT_KV_LEADER_REPLICA_CAPACITY", Never;
    /// Only to a PutKv of version 2 or higher; older ones get `KvStorageException`.
    StorageBackpressure = 72, "STORAGE_BACKPRESSURE", EveryClient;
    HistoricalPartitionThrottled = 73, "HISTORICAL_PARTITION_THROTTLED", JavaOnly;
    InvalidBucketRouting = 74, "INVALID_BUCKET_ROUTING", Never;
}

impl ErrorCode {
    pub fn code(self) -> i32 {
        self as i32
    }

    /// Whether the Java client retries it; fluss-rs agrees except where [`Retry::JavaOnly`].
    pub fn is_retriable(self) -> bool {
        self.retry() != Retry::Never
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

impl ErrorResponse {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { error_code: code.code(), error_message: Some(message.into()) }
    }

    /// `None` for a number that Fluss 1.0 does not define.
    pub fn code(&self) -> Option<ErrorCode> {
        ErrorCode::from_code(self.error_code)
    }
}

impl std::fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code() {
            Some(code) => write!(f, "{code}")?,
            None => write!(f, "error code {}", self.error_code)?,
        }
        match &self.error_message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_names_unique() {
        let codes: Vec<i32> = ErrorCode::ALL.iter().map(|code| code.code()).collect();
        assert_eq!(codes, (-1..=74).collect::<Vec<_>>());
        let names: std::collections::BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        assert!(ErrorCode::ALL.iter().all(|code| ErrorCode::from_code(code.code()) == Some(*code)));
        assert_eq!(ErrorCode::from_code(75), None);
    }

    #[test]
    fn retry_classes() {
        let every: Vec<i32> = ErrorCode::ALL.iter().filter(|c| c.retry() == Retry::EveryClient).map(|c| c.code()).collect();
        assert_eq!(every, [1, 3, 9, 10, 11, 12, 14, 21, 25, 26, 28, 29, 44, 72]);
        let java: Vec<i32> = ErrorCode::ALL.iter().filter(|c| c.retry() == Retry::JavaOnly).map(|c| c.code()).collect();
        assert_eq!(java, [70, 73]);
    }

    #[test]
    fn display_says_name_number_and_message() {
        assert_eq!(ErrorResponse::new(ErrorCode::TableNotExist, "no t").to_string(), "TABLE_NOT_EXIST (7): no t");
        assert_eq!(ErrorResponse { error_code: 99, error_message: None }.to_string(), "error code 99");
    }
}
