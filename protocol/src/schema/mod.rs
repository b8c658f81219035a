//! What a table is: types, schema, descriptor, properties; and the JSON that carries them.
//!
//! Every value is made by parsing or by a checked constructor, so a `Schema` in hand obeys the rules of a schema.
//! In replicated state and snapshots they travel as their JSON text (the serde implementations do that), which is the
//! one format they have.
//!
//! Reading order: `data_type`, `schema`, `table`, `property_list`, `table_properties`, `names`, `check`.
//! Source: json.md.

mod check;
mod data_type;
mod database;
mod duration;
mod error;
mod formats;
mod json;
mod names;
mod property_list;
#[allow(clippy::module_inception)]
mod schema;
mod table;
mod table_properties;

pub use data_type::{DataType, RowField, TypeKind};
pub use database::DatabaseDescriptor;
pub use duration::{format_duration_ms, parse_duration_ms};
pub use error::{SchemaError, SchemaErrorKind};
pub use formats::{
    ArrowCompression, ChangelogImage, DeleteBehavior, KvFormat, LakeFormat, LogFormat, MergeEngine, PartitionUnit,
};
pub use names::{
    NAME_BYTES_MAX, check_database_name, check_partition_value, check_table_name, is_reserved_column, is_valid_name,
    partition_name,
};
pub use property_list::{Property, TABLE_PREFIX, TABLE_PROPERTIES, ValueKind, check_alter_property, property};
pub use schema::{AggFunction, Column, Schema};
pub use table::TableDescriptor;
pub use table_properties::{AutoPartition, TableProperties};
