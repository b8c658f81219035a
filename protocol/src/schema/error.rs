//! Why a description of a table is refused.

/// What the caller answers with; `server::errors` maps kinds to wire codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaErrorKind {
    /// INVALID_TABLE
    Table,
    /// INVALID_DATABASE
    Database,
    /// INVALID_CONFIG
    Config,
    /// INVALID_ALTER_TABLE
    Alter,
    /// BUCKET_MAX_NUM
    TooManyBuckets,
    /// PARTITION_SPEC_INVALID
    Partition,
}

/// Nothing was made or changed when one of these is returned. `at` is a path into the JSON, like `schema.columns[2].data_type`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("not json: {reason}")]
    NotJson { reason: String },
    #[error("{at} has no {key}")]
    Missing { at: String, key: &'static str },
    #[error("{at} is {found}, expected {expected}")]
    WrongJson { at: String, expected: &'static str, found: String },
    #[error("{at}={found}, expected {min} to {max}")]
    OutOfRange { at: String, min: i64, max: i64, found: i64 },
    #[error("{at}: unknown type '{found}'")]
    UnknownType { at: String, found: String },
    #[error("a schema needs at least one column")]
    NoColumns,
    #[error("a column or field has a blank name")]
    BlankName,
    #[error("{what} '{name}' appears twice")]
    Duplicate { what: &'static str, name: String },
    #[error("column '{column}' is a system column")]
    ReservedColumn { column: String },
    #[error("{role} '{column}' is not a column")]
    UnknownColumn { role: &'static str, column: String },
    #[error("{role} '{column}' has type {found}, expected {expected}")]
    WrongColumnType { role: &'static str, column: String, expected: &'static str, found: &'static str },
    #[error("primary key is empty")]
    EmptyPrimaryKey,
    #[error("either every column and field has an id or none has")]
    PartialIds,
    #[error("field id={id} of '{name}' is negative or used twice")]
    BadFieldId { id: i32, name: String },
    #[error("column '{column}' exists already")]
    ColumnExists { column: String },
    #[error("column '{column}' must be nullable: existing rows do not have it")]
    NewColumnNotNull { column: String },
    #[error("{role} '{column}' is not allowed: {reason}")]
    KeyRule { role: &'static str, column: String, reason: &'static str },
    #[error("{role} is not allowed: {reason}")]
    TableRule { role: &'static str, reason: &'static str },
    #[error("bucket_count={found}, expected 1 to {max}")]
    BucketCount { found: i32, max: i32 },
    #[error("property '{key}' is unknown")]
    UnknownProperty { key: String },
    #[error("property '{key}' is '{found}', expected {expected}")]
    BadProperty { key: String, expected: &'static str, found: String },
    #[error("property '{key}' cannot be altered")]
    NotAlterable { key: String },
    #[error("property '{key}' of table alteration is unknown")]
    UnknownAlteredProperty { key: String },
    #[error("property '{key}': {reason}")]
    PropertyRule { key: &'static str, reason: &'static str },
    #[error("table name '{name}': {reason}")]
    TableName { name: String, reason: &'static str },
    #[error("database name '{name}': {reason}")]
    DatabaseName { name: String, reason: &'static str },
    #[error("partition value '{value}': {reason}")]
    PartitionValue { value: String, reason: &'static str },
}

impl SchemaError {
    pub fn kind(&self) -> SchemaErrorKind {
        match self {
            Self::NotJson { .. }
            | Self::Missing { .. }
            | Self::WrongJson { .. }
            | Self::OutOfRange { .. }
            | Self::UnknownType { .. }
            | Self::NoColumns
            | Self::BlankName
            | Self::Duplicate { .. }
            | Self::ReservedColumn { .. }
            | Self::UnknownColumn { .. }
            | Self::WrongColumnType { .. }
            | Self::EmptyPrimaryKey
            | Self::PartialIds
            | Self::BadFieldId { .. }
            | Self::KeyRule { .. }
            | Self::TableRule { .. }
            | Self::TableName { .. } => SchemaErrorKind::Table,
            Self::DatabaseName { .. } => SchemaErrorKind::Database,
            Self::UnknownProperty { .. } | Self::BadProperty { .. } | Self::PropertyRule { .. } => SchemaErrorKind::Config,
            Self::ColumnExists { .. }
            | Self::NewColumnNotNull { .. }
            | Self::NotAlterable { .. }
            | Self::UnknownAlteredProperty { .. } => SchemaErrorKind::Alter,
            Self::BucketCount { .. } => SchemaErrorKind::TooManyBuckets,
            Self::PartitionValue { .. } => SchemaErrorKind::Partition,
        }
    }
}
