//! A table, as CreateTable asks for it and as GetTableInfo tells it.

use super::error::SchemaError;
use super::formats::MergeEngine;
use super::json::{self, Place};
use super::schema::Schema;
use super::table_properties::TableProperties;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Parsed, not checked as a whole: [`TableDescriptor::check`] does that on creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableDescriptor {
    pub schema: Schema,
    pub comment: Option<String>,
    /// Empty = not partitioned.
    pub partition_keys: Vec<String>,
    /// Empty = none given (primary-key tables then get the default by [`TableDescriptor::complete`]).
    pub bucket_keys: Vec<String>,
    /// None only before `complete`: every answer must have it.
    pub bucket_count: Option<i32>,
    /// `table.*` keys.
    pub properties: BTreeMap<String, String>,
    /// Free keys.
    pub custom_properties: BTreeMap<String, String>,
}

impl TableDescriptor {
    /// A log table without keys or properties.
    pub fn new(schema: Schema) -> Self {
        Self {
            schema,
            comment: None,
            partition_keys: Vec::new(),
            bucket_keys: Vec::new(),
            bucket_count: None,
            properties: BTreeMap::new(),
            custom_properties: BTreeMap::new(),
        }
    }

    pub fn has_primary_key(&self) -> bool {
        self.schema.has_primary_key()
    }

    pub fn is_partitioned(&self) -> bool {
        !self.partition_keys.is_empty()
    }

    /// Primary key without partition keys, in order: what a stored key covers.
    pub fn physical_primary_key(&self) -> Vec<String> {
        self.schema.primary_key().iter().filter(|key| !self.partition_keys.contains(key)).cloned().collect()
    }

    /// Errors: `UnknownProperty`, `BadProperty`.
    pub fn table_properties(&self) -> Result<TableProperties, SchemaError> {
        TableProperties::parse(&self.properties)
    }

    /// Fills in what a creator may leave out, as Fluss does: bucket count, default bucket key, replication factor, and for
    /// primary-key tables key format 2, the standby flag and the delete behaviour of merge engines.
    ///
    /// Errors: those of [`TableDescriptor::table_properties`].
    pub fn complete(&mut self, default_bucket_count: i32, default_replication_factor: i32) -> Result<(), SchemaError> {
        let properties = self.table_properties()?;
        let mut set = |key: &str, value: &str| {
            self.properties.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        };
        set("table.replication.factor", &default_replication_factor.to_string());
        if self.schema.has_primary_key() {
            set("table.kv.format-version", "2");
            set("table.kv.standby-replica.enabled", "true");
            match properties.merge_engine {
                Some(MergeEngine::FirstRow | MergeEngine::Versioned | MergeEngine::Aggregation) => {
                    set("table.delete.behavior", "IGNORE")
                }
                None => {}
            }
        }
        if properties.auto_partition.enabled && self.partition_keys.len() > 1 {
            set("table.auto-partition.num-precreate", "0");
        }
        self.bucket_count.get_or_insert(default_bucket_count);
        if self.bucket_keys.is_empty() {
            self.bucket_keys = self.physical_primary_key();
        }
        Ok(())
    }

    /// Errors: `NotJson`, `Missing`, `WrongJson`, `OutOfRange`, `UnknownType`, and those of [`Schema::with_keys`].
    pub fn from_json(text: &[u8]) -> Result<Self, SchemaError> {
        let value = json::parse(text)?;
        let at = Place::root("table");
        let node = json::object(&value, &at)?;
        let required = |key| json::required(node, &at, key);
        let bucket_keys = json::optional(node, "bucket_key");
        // -1 cannot be asked for: it stands for "not given" here.
        let bucket_count = json::integer_or(node, &at, "bucket_count", Some(-1), i64::from(i32::MIN), i64::from(i32::MAX))?;
        let bucket_count = json::optional(node, "bucket_count").map(|_| bucket_count as i32);
        Ok(Self {
            schema: Schema::from_value(required("schema")?, &at.key("schema"))?,
            comment: json::optional_string(node, &at, "comment")?,
            partition_keys: json::strings(required("partition_key")?, &at.key("partition_key"))?,
            bucket_keys: bucket_keys.map(|value| json::strings(value, &at.key("bucket_key"))).transpose()?.unwrap_or_default(),
            bucket_count,
            properties: json::string_map(required("properties")?, &at.key("properties"))?,
            custom_properties: json::string_map(required("custom_properties")?, &at.key("custom_properties"))?,
        })
    }

    /// `bucket_key` and `bucket_count` are left out only if no distribution is known: clients need both in every answer.
    pub fn to_json(&self) -> String {
        let mut node = Map::new();
        node.insert("version".to_owned(), json!(1));
        node.insert("schema".to_owned(), self.schema.to_value());
        if let Some(comment) = &self.comment {
            node.insert("comment".to_owned(), json!(comment));
        }
        node.insert("partition_key".to_owned(), json!(self.partition_keys));
        if self.bucket_count.is_some() || !self.bucket_keys.is_empty() {
            node.insert("bucket_key".to_owned(), json!(self.bucket_keys));
        }
        if let Some(bucket_count) = self.bucket_count {
            node.insert("bucket_count".to_owned(), json!(bucket_count));
        }
        node.insert("properties".to_owned(), json!(self.properties));
        node.insert("custom_properties".to_owned(), json!(self.custom_properties));
        Value::Object(node).to_string()
    }
}

impl TryFrom<String> for TableDescriptor {
    type Error = SchemaError;

    fn try_from(text: String) -> Result<Self, SchemaError> {
        Self::from_json(text.as_bytes())
    }
}

impl From<TableDescriptor> for String {
    fn from(table: TableDescriptor) -> Self {
        table.to_json()
    }
}
