//! The one place where our errors become wire codes. Every match is exhaustive: a new error must be given its code.
//!
//! Codes above 57 (except 72) are not retriable for the Rust client, so "try again" is always 12, 25, 26 or 44
//! (protocol/README.md trap 10).

use crate::coordinator::catalog::CatalogError;
use crate::coordinator::reject::CatalogReject;
use crate::net::answer::Refusal;
use crate::replica::error::ReplicaError;
use floss_protocol::error_code::ErrorCode;
use floss_raft::types::GroupError;
use floss_tablet::error::TabletError;

pub(crate) fn replica_code(error: &ReplicaError) -> ErrorCode {
    match error {
        ReplicaError::Unknown { .. } => ErrorCode::UnknownTableOrBucket,
        ReplicaError::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
        ReplicaError::Tablet { source, .. } => tablet_code(source),
        ReplicaError::Group { source, .. } => group_code(source),
        ReplicaError::Timeout { .. } | ReplicaError::MailboxFull { .. } => ErrorCode::RequestTimeOut,
        ReplicaError::Failed { .. } | ReplicaError::Read { .. } => ErrorCode::StorageException,
        ReplicaError::CorruptBatch { .. } => ErrorCode::CorruptRecord,
        ReplicaError::Projection { .. } => ErrorCode::InvalidColumnProjection,
        ReplicaError::NotPrimaryKeyTable { .. } => ErrorCode::NonPrimaryKeyTable,
        ReplicaError::PrimaryKeyTable { .. } => ErrorCode::InvalidTable,
        ReplicaError::KvStore { .. } => ErrorCode::KvStorageException,
        ReplicaError::NoIds { .. } => ErrorCode::RequestTimeOut,
        ReplicaError::InvalidRequest { .. } => ErrorCode::UnknownServerError,
    }
}

pub(crate) fn tablet_code(error: &TabletError) -> ErrorCode {
    match error {
        TabletError::CorruptBatch { .. } => ErrorCode::CorruptRecord,
        TabletError::UnknownSchema { .. } => ErrorCode::SchemaNotExist,
        TabletError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequence,
        TabletError::BatchTooLarge { .. } => ErrorCode::RecordTooLarge,
        TabletError::OffsetOutOfRange { .. } => ErrorCode::LogOffsetOutOfRange,
        TabletError::FutureTimestamp { .. } => ErrorCode::InvalidTimestamp,
        // Nothing happened: the writer asks again, here or at the new leader.
        TabletError::Stale { .. } => ErrorCode::NotLeaderOrFollower,
        TabletError::InvalidTargetColumns { .. } => ErrorCode::InvalidTargetColumn,
        TabletError::DeletionDisabled { .. } => ErrorCode::DeletionDisabled,
        // The same bytes would fail again: nothing that a client retries.
        TabletError::InvalidRow { .. } | TabletError::UnsupportedPut { .. } => ErrorCode::UnknownServerError,
        TabletError::UnsupportedTable { .. } => ErrorCode::InvalidTable,
        TabletError::OutOfIds { .. } | TabletError::KvBehind { .. } => ErrorCode::NotLeaderOrFollower,
        TabletError::KvStore { .. } | TabletError::CorruptValue { .. } => ErrorCode::KvStorageException,
        TabletError::CorruptCommand { .. } | TabletError::CorruptSnapshot { .. } => ErrorCode::StorageException,
    }
}

pub(crate) fn group_code(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
        GroupError::Timeout { .. } => ErrorCode::RequestTimeOut,
        GroupError::Stopped { .. } => ErrorCode::NotLeaderOrFollower,
    }
}

pub(crate) fn reject_code(reject: &CatalogReject) -> ErrorCode {
    match reject {
        CatalogReject::DatabaseNotExist { .. } => ErrorCode::DatabaseNotExist,
        CatalogReject::DatabaseNotEmpty { .. } => ErrorCode::DatabaseNotEmpty,
        CatalogReject::DatabaseExists { .. } => ErrorCode::DatabaseAlreadyExist,
        CatalogReject::TableNotExist { .. } => ErrorCode::TableNotExist,
        CatalogReject::TableExists { .. } => ErrorCode::TableAlreadyExist,
        CatalogReject::SchemaNotExist { .. } => ErrorCode::SchemaNotExist,
        CatalogReject::InvalidTable { .. } => ErrorCode::InvalidTable,
        CatalogReject::InvalidDatabase { .. } => ErrorCode::InvalidDatabase,
        CatalogReject::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
        CatalogReject::InvalidConfig { .. } => ErrorCode::InvalidConfig,
        CatalogReject::TooManyBuckets { .. } => ErrorCode::BucketMaxNum,
        CatalogReject::TableNotPartitioned { .. } => ErrorCode::TableNotPartitioned,
        CatalogReject::NotFormed => ErrorCode::LeaderNotAvailable,
        CatalogReject::AlreadyFormed { .. } | CatalogReject::WipedNode { .. } | CatalogReject::RequestForgotten => {
            ErrorCode::UnknownServerError
        }
    }
}

impl From<CatalogReject> for Refusal {
    fn from(reject: CatalogReject) -> Self {
        Refusal::new(reject_code(&reject), reject.to_string())
    }
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Rejected(reject) => reject.into(),
            CatalogError::Unavailable { .. } => Refusal::new(ErrorCode::RequestTimeOut, error.to_string()),
        }
    }
}
