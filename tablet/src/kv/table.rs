//! What the rows of a primary-key table are and how they meet: read once from schema and properties.

use super::aggregate::Aggregate;
use super::arrow::arrow_schema;
use super::row::{self, Row};
use crate::error::TabletError;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::{join_value, split_value};
use floss_protocol::row::{Value, decode_compacted_key, encode_compacted_key_parts, encode_key};
use floss_protocol::schema::{
    ArrowCompression, ChangelogImage, DataType, DeleteBehavior, KvFormat, LakeFormat, LogFormat, MergeEngine, Schema,
    TableDescriptor, TypeKind,
};
use std::collections::BTreeMap;

/// Of one table. Replicas may hold different versions for a moment; what they fold does not depend on it, only on schemas by id.
#[derive(Debug)]
pub struct KvTable {
    latest: SchemaId,
    schemas: BTreeMap<SchemaId, KvSchema>,
    pub(super) kv_format: KvFormat,
    pub(super) log_format: LogFormat,
    pub(super) compression: ArrowCompression,
    pub(super) engine: Engine,
    pub(super) delete: DeleteBehavior,
    pub(super) image: ChangelogImage,
    /// Position in the latest schema.
    pub(super) auto_increment: Option<usize>,
    auto_increment_cache_size: i64,
    /// Of all primary key columns, in the latest schema; columns are only ever appended, so older ones agree.
    pub(super) primary_key: Vec<usize>,
    /// Of the columns that a stored key covers, in key order.
    key_columns: Vec<usize>,
    /// `None`: compacted keys.
    key_format: Option<LakeFormat>,
}

/// One schema of the table's history.
#[derive(Debug)]
pub(super) struct KvSchema {
    pub types: Vec<DataType>,
    pub arrow: SchemaRef,
    /// For each column of the latest schema, where it is in this one.
    to_latest: Vec<Option<usize>>,
}

/// How an upsert meets an existing row.
#[derive(Debug)]
pub(super) enum Engine {
    Replace,
    FirstRow,
    /// The row with the larger value in this column stays.
    Versioned {
        column: usize,
    },
    /// One function per column of the latest schema.
    Aggregation {
        functions: Vec<Aggregate>,
    },
}

impl KvTable {
    /// `schemas`: every schema of the table; the newest one rules.
    ///
    /// Errors: `UnsupportedTable` if these properties cannot be served.
    pub fn new(schemas: &BTreeMap<SchemaId, Schema>, table: &TableDescriptor) -> Result<Self, TabletError> {
        let unsupported = |reason: String| TabletError::UnsupportedTable { reason };
        let (latest, newest) = schemas.last_key_value().ok_or_else(|| unsupported("it has no schema".to_owned()))?;
        let properties = table.table_properties().map_err(|error| unsupported(error.to_string()))?;
        let position = |name: &String| {
            let found = newest.columns().iter().position(|column| column.name == *name);
            found.ok_or_else(|| unsupported(format!("column {name:?} does not exist")))
        };
        let positions = |names: &[String]| names.iter().map(position).collect::<Result<Vec<_>, _>>();
        let physical_key = table.physical_primary_key();
        let key_columns = positions(&physical_key)?;
        if key_columns.is_empty() {
            return Err(unsupported("it has no primary key".to_owned()));
        }
        let has_default_buckets = table.bucket_keys.is_empty() || table.bucket_keys == physical_key;
        let key_format = match properties.datalake_format {
            Some(LakeFormat::Hudi) | None => None,
            Some(_) if properties.kv_format_version >= 2 && !has_default_buckets => None,
            Some(lake) => Some(lake),
        };
        let engine = match properties.merge_engine {
            None => Engine::Replace,
            Some(MergeEngine::FirstRow) => Engine::FirstRow,
            Some(MergeEngine::Versioned) => {
                let name = properties.version_column.ok_or_else(|| unsupported("it names no version column".to_owned()))?;
                Engine::Versioned { column: position(&name)? }
            }
            Some(MergeEngine::Aggregation) => {
                let functions = newest.columns().iter().map(Aggregate::of).collect::<Result<_, _>>();
                Engine::Aggregation { functions: functions.map_err(unsupported)? }
            }
        };
        let default_delete = if matches!(engine, Engine::Replace) { DeleteBehavior::Allow } else { DeleteBehavior::Ignore };
        Ok(Self {
            latest: *latest,
            schemas: schemas.iter().map(|(id, schema)| (*id, KvSchema::new(schema, newest))).collect(),
            kv_format: properties.kv_format,
            log_format: properties.log_format,
            compression: properties.arrow_compression,
            engine,
            delete: properties.delete_behavior.unwrap_or(default_delete),
            image: properties.changelog_image,
            auto_increment: newest.auto_increment_column().map(|name| position(&name.to_owned())).transpose()?,
            auto_increment_cache_size: properties.auto_increment_cache_size,
            primary_key: positions(newest.primary_key())?,
            key_columns,
            key_format,
        })
    }

    pub fn latest_schema_id(&self) -> SchemaId {
        self.latest
    }

    /// Every change type of an update says whether the row was there before.
    pub(super) fn counts_rows(&self) -> bool {
        self.image == ChangelogImage::Full || !matches!(self.engine, Engine::Replace) || self.auto_increment.is_some()
    }

    /// How many ids a leader takes at a time.
    pub fn auto_increment_cache_size(&self) -> i64 {
        self.auto_increment_cache_size
    }

    pub fn has_auto_increment(&self) -> bool {
        self.auto_increment.is_some()
    }

    pub fn knows_schema(&self, id: SchemaId) -> bool {
        self.schemas.contains_key(&id)
    }

    pub(super) fn schema(&self, id: SchemaId) -> Option<&KvSchema> {
        self.schemas.get(&id)
    }

    pub(super) fn newest(&self) -> &KvSchema {
        &self.schemas[&self.latest]
    }

    /// Types of the latest schema.
    pub(super) fn types(&self) -> &[DataType] {
        &self.newest().types
    }

    /// The largest number that the auto-increment column can hold.
    pub(super) fn auto_increment_max(&self) -> i64 {
        match self.auto_increment.map(|column| &self.types()[column].kind) {
            Some(TypeKind::Int) => i64::from(i32::MAX),
            _ => i64::MAX,
        }
    }

    /// The stored key of a row.
    ///
    /// Errors: why the row has none.
    pub(super) fn key(&self, row: &[Value]) -> Result<Bytes, String> {
        let types = self.types();
        if self.key_format.is_none() {
            let parts = self.key_columns.iter().map(|column| (&row[*column], &types[*column]));
            return encode_compacted_key_parts(parts).map(Bytes::from).map_err(|error| error.to_string());
        }
        let values: Vec<_> = self.key_columns.iter().map(|column| row[*column].clone()).collect();
        let types: Vec<_> = self.key_columns.iter().map(|column| &types[*column]).collect();
        encode_key(&values, &types, self.key_format).map(Bytes::from).map_err(|error| error.to_string())
    }

    /// A row of which only the primary key is known, in stored form: what a lookup inserts for a key that it did not find.
    ///
    /// Errors: `InvalidRow` if the key is not one of this table's, or cannot be taken apart (lake formats, partition columns).
    pub fn row_of_key(&self, key: &Bytes) -> Result<Vec<u8>, TabletError> {
        let row = self.values_of_key(key)?;
        // Columns that are not set are null here, whatever their type says: they are not looked at.
        let relaxed: Vec<_> = self.types().iter().map(|of| DataType { kind: of.kind.clone(), nullable: true }).collect();
        row::encode(self.kv_format, &row, &relaxed)
            .map_err(|error| TabletError::InvalidRow { record: 0, reason: error.to_string() })
    }

    /// The key columns of a stored key, all others null.
    ///
    /// Errors: as of [`Self::row_of_key`].
    pub(super) fn values_of_key(&self, key: &Bytes) -> Result<Row, TabletError> {
        let invalid = |reason: String| TabletError::InvalidRow { record: 0, reason };
        if self.key_format.is_some() || self.key_columns.len() != self.primary_key.len() {
            return Err(invalid("a row cannot be made of this table's keys".to_owned()));
        }
        let types = self.types();
        let mut row = vec![Value::Null; types.len()];
        let key_types: Vec<_> = self.key_columns.iter().map(|column| types[*column].clone()).collect();
        let values = decode_compacted_key(key, key_types.iter()).map_err(|error| invalid(error.to_string()))?;
        for (column, value) in self.key_columns.iter().zip(values) {
            row[*column] = value;
        }
        Ok(row)
    }

    /// Positions of the primary key columns, as target columns of a put.
    pub fn primary_key_columns(&self) -> Vec<i32> {
        self.primary_key.iter().map(|column| *column as i32).collect()
    }

    /// A row as written by a client in one of the table's schemas, in the latest one.
    ///
    /// Columns that the schema did not have yet are null.
    /// Errors: why the bytes are not a row.
    pub(super) fn decode_row(&self, schema: &KvSchema, bytes: &Bytes) -> Result<Row, String> {
        let row = row::decode(self.kv_format, bytes, &schema.types).map_err(|error| error.to_string())?;
        Ok(schema.widen(row))
    }

    /// A stored value, in the latest schema.
    pub(super) fn decode_value(&self, value: &Bytes) -> Result<Row, String> {
        let (id, bytes) = split_value(value).map_err(|error| error.to_string())?;
        let schema = self.schema(id).ok_or_else(|| format!("schema_id={id} is unknown"))?;
        self.decode_row(schema, &bytes)
    }

    /// The stored form of a row of schema `id`.
    pub(super) fn encode_value(&self, id: SchemaId, schema: &KvSchema, row: &[Value]) -> Result<Bytes, String> {
        let bytes = row::encode(self.kv_format, row, &schema.types).map_err(|error| error.to_string())?;
        Ok(join_value(id, &bytes))
    }
}

impl KvSchema {
    fn new(schema: &Schema, newest: &Schema) -> Self {
        let columns = schema.columns();
        let place = |id: Option<i32>| columns.iter().position(|column| column.id == id);
        Self {
            types: columns.iter().map(|column| column.data_type.clone()).collect(),
            arrow: arrow_schema(schema),
            to_latest: newest.columns().iter().map(|column| place(column.id)).collect(),
        }
    }

    /// To the latest schema.
    pub fn widen(&self, mut row: Row) -> Row {
        let unchanged =
            self.to_latest.len() == row.len() && self.to_latest.iter().enumerate().all(|(at, from)| *from == Some(at));
        if unchanged {
            return row;
        }
        let mut take = |from: &Option<usize>| match from {
            Some(from) => std::mem::replace(&mut row[*from], Value::Null),
            None => Value::Null,
        };
        self.to_latest.iter().map(&mut take).collect()
    }
}
