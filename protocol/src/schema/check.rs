//! What CreateTable refuses. Pure rules; whether there are enough nodes or a lake is for the catalog to say.

use super::data_type::TypeKind;
use super::error::SchemaError;
use super::formats::{ChangelogImage, DeleteBehavior, KvFormat, LogFormat, MergeEngine, PartitionUnit};
use super::is_reserved_column;
use super::schema::Column;
use super::table::TableDescriptor;
use super::table_properties::TableProperties;

impl TableDescriptor {
    /// Checks a completed descriptor as a whole. Order matters little: the first broken rule is told.
    ///
    /// Errors: all but `NotJson` and its like. Source: json.md 6.1.
    pub fn check(&self, bucket_count_max: i32) -> Result<(), SchemaError> {
        let properties = self.table_properties()?;
        for column in self.schema.columns() {
            if is_reserved_column(&column.name) {
                return Err(SchemaError::ReservedColumn { column: column.name.clone() });
            }
        }
        let bucket_count = self.bucket_count.unwrap_or(0);
        if !(1..=bucket_count_max).contains(&bucket_count) {
            return Err(SchemaError::BucketCount { found: bucket_count, max: bucket_count_max });
        }
        self.check_keys()?;
        self.check_auto_partition(&properties)?;
        if self.has_primary_key() { self.check_primary_key_table(&properties) } else { self.check_log_table(&properties) }
    }

    fn key_column(&self, role: &'static str, name: &str) -> Result<&Column, SchemaError> {
        self.schema.column(name).ok_or_else(|| SchemaError::UnknownColumn { role, column: name.to_owned() })
    }

    fn check_keys(&self) -> Result<(), SchemaError> {
        let primary_key = self.schema.primary_key();
        let roles: [(&'static str, &[String]); 3] =
            [("primary key", primary_key), ("bucket key", &self.bucket_keys), ("partition key", &self.partition_keys)];
        for (role, keys) in roles {
            for (index, key) in keys.iter().enumerate() {
                let kind = &self.key_column(role, key)?.data_type.kind;
                if kind.is_nested() {
                    let expected = "a type that is not nested";
                    return Err(SchemaError::WrongColumnType { role, column: key.clone(), expected, found: kind.root() });
                }
                if keys[..index].contains(key) {
                    return Err(SchemaError::Duplicate { what: role, name: key.clone() });
                }
            }
        }
        for key in &self.partition_keys {
            let refuse = |reason| Err(SchemaError::KeyRule { role: "partition key", column: key.clone(), reason });
            if matches!(self.key_column("partition key", key)?.data_type.kind, TypeKind::Decimal { .. }) {
                return refuse("a partition is not named by a decimal");
            }
            if self.bucket_keys.contains(key) {
                return refuse("it is part of the bucket key");
            }
            if !primary_key.is_empty() && !primary_key.contains(key) {
                return refuse("it is not part of the primary key");
            }
        }
        if primary_key.is_empty() {
            return Ok(());
        }
        if primary_key.iter().all(|key| self.partition_keys.contains(key)) {
            let reason = "it holds nothing but partition keys";
            return Err(SchemaError::TableRule { role: "primary key", reason });
        }
        match self.bucket_keys.iter().find(|key| !primary_key.contains(key)) {
            Some(key) => {
                let reason = "it is not part of the primary key";
                Err(SchemaError::KeyRule { role: "bucket key", column: key.clone(), reason })
            }
            None => Ok(()),
        }
    }

    fn check_auto_partition(&self, properties: &TableProperties) -> Result<(), SchemaError> {
        let auto = &properties.auto_partition;
        if !auto.enabled {
            return Ok(());
        }
        if !self.is_partitioned() {
            let reason = "the table is not partitioned";
            return Err(SchemaError::PropertyRule { key: "table.auto-partition.enabled", reason });
        }
        let key = match (&auto.key, self.partition_keys.as_slice()) {
            (Some(key), keys) if keys.contains(key) => key,
            (Some(key), _) => return Err(SchemaError::UnknownColumn { role: "auto partition key", column: key.clone() }),
            (None, [only]) => only,
            (None, _) => {
                let reason = "several partition keys need table.auto-partition.key";
                return Err(SchemaError::TableRule { role: "auto partition", reason });
            }
        };
        if self.partition_keys.len() > 1 && auto.num_precreate != 0 {
            let reason = "several partition keys need table.auto-partition.num-precreate 0";
            return Err(SchemaError::TableRule { role: "auto partition", reason });
        }
        let is_date = matches!(self.key_column("auto partition key", key)?.data_type.kind, TypeKind::Date);
        if is_date && (auto.time_unit != PartitionUnit::Day || auto.effective_time_format() != "yyyy-MM-dd") {
            let reason = "a key of type DATE needs time unit DAY and time format yyyy-MM-dd";
            return Err(SchemaError::TableRule { role: "auto partition", reason });
        }
        Ok(())
    }

    fn check_log_table(&self, properties: &TableProperties) -> Result<(), SchemaError> {
        if properties.merge_engine.is_some() {
            return Err(SchemaError::PropertyRule { key: "table.merge-engine", reason: "the table has no primary key" });
        }
        match self.schema.columns().iter().find(|column| column.agg_function.is_some()) {
            Some(_) => {
                let reason = "an aggregation function needs the aggregation merge engine";
                Err(SchemaError::PropertyRule { key: "table.merge-engine", reason })
            }
            None => Ok(()),
        }
    }

    fn check_primary_key_table(&self, properties: &TableProperties) -> Result<(), SchemaError> {
        let refuse = |key, reason| Err(SchemaError::PropertyRule { key, reason });
        match (properties.kv_format, properties.log_format) {
            (_, LogFormat::Arrow) | (KvFormat::Compacted, LogFormat::Compacted) | (KvFormat::Indexed, LogFormat::Indexed) => {}
            (KvFormat::Compacted | KvFormat::Indexed, LogFormat::Indexed | LogFormat::Compacted) => {
                return refuse("table.log.format", "a primary-key table logs ARROW or its own kv format");
            }
        }
        let engine = properties.merge_engine;
        let aggregates = self.schema.columns().iter().any(|column| column.agg_function.is_some());
        if aggregates && engine != Some(MergeEngine::Aggregation) {
            return refuse("table.merge-engine", "an aggregation function needs the aggregation merge engine");
        }
        if engine == Some(MergeEngine::Aggregation) && properties.changelog_image == ChangelogImage::Wal {
            return refuse("table.changelog.image", "the aggregation merge engine needs FULL");
        }
        let ordered = matches!(engine, Some(MergeEngine::FirstRow | MergeEngine::Versioned));
        if ordered && properties.delete_behavior == Some(DeleteBehavior::Allow) {
            return refuse("table.delete.behavior", "merge engines first_row and versioned cannot allow deletes");
        }
        if engine == Some(MergeEngine::Versioned) {
            let Some(name) = &properties.version_column else {
                return refuse("table.merge-engine.versioned.ver-column", "the versioned merge engine needs it");
            };
            let Some(column) = self.schema.column(name) else {
                return refuse("table.merge-engine.versioned.ver-column", "there is no such column");
            };
            if !matches!(
                column.data_type.kind,
                TypeKind::Int | TypeKind::BigInt | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_)
            ) {
                return refuse("table.merge-engine.versioned.ver-column", "it must be INTEGER, BIGINT or a timestamp");
            }
        }
        Ok(())
    }
}
