//! Table properties with their defaults, as values.

use super::duration::parse_duration_ms;
use super::error::SchemaError;
use super::formats::{
    ArrowCompression, ChangelogImage, DeleteBehavior, KvFormat, LakeFormat, LogFormat, MergeEngine, PartitionUnit,
};
use super::property_list::property;
use std::collections::BTreeMap;

/// Every property of a table. `None` = absent, where absence is not the same as a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProperties {
    /// None only before `TableDescriptor::complete`.
    pub replication_factor: Option<i32>,
    pub log_format: LogFormat,
    pub arrow_compression: ArrowCompression,
    pub arrow_zstd_level: i32,
    pub kv_format: KvFormat,
    /// How keys are encoded: 1 or 2.
    pub kv_format_version: i32,
    pub auto_partition: AutoPartition,
    /// None = kept for ever.
    pub log_ttl_ms: Option<i64>,
    /// How long the local log is kept once tiered; None = for ever. Defaults to `log_ttl_ms`.
    pub log_local_ttl_ms: Option<i64>,
    pub tiered_local_segments: i32,
    pub datalake_enabled: bool,
    pub datalake_format: Option<LakeFormat>,
    pub datalake_freshness_ms: i64,
    pub datalake_auto_compaction: bool,
    pub datalake_auto_expire_snapshot: bool,
    pub datalake_historical_partition: bool,
    pub merge_engine: Option<MergeEngine>,
    pub version_column: Option<String>,
    pub delete_behavior: Option<DeleteBehavior>,
    pub auto_increment_cache_size: i64,
    pub changelog_image: ChangelogImage,
    /// `*` or a comma-separated list.
    pub statistics_columns: Option<String>,
}

/// Partitions made and dropped by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoPartition {
    pub enabled: bool,
    pub key: Option<String>,
    pub time_unit: PartitionUnit,
    /// None = the unit's own.
    pub time_format: Option<String>,
    /// None = the server's.
    pub time_zone: Option<String>,
    pub num_precreate: i32,
    pub num_retention: i32,
}

impl TableProperties {
    /// Errors: `UnknownProperty`, `BadProperty`.
    pub fn parse(properties: &BTreeMap<String, String>) -> Result<Self, SchemaError> {
        for (key, value) in properties {
            property(key).ok_or_else(|| SchemaError::UnknownProperty { key: key.clone() })?.check(value)?;
        }
        let read = Reader { properties };
        let log_ttl = read.duration("table.log.ttl");
        Ok(Self {
            replication_factor: read.text("table.replication.factor").map(|_| read.int("table.replication.factor")),
            log_format: read.choice("table.log.format", LogFormat::parse).unwrap_or(LogFormat::Arrow),
            arrow_compression: read
                .choice("table.log.arrow.compression.type", ArrowCompression::parse)
                .unwrap_or(ArrowCompression::Zstd),
            arrow_zstd_level: read.int("table.log.arrow.compression.zstd.level"),
            kv_format: read.choice("table.kv.format", KvFormat::parse).unwrap_or(KvFormat::Compacted),
            kv_format_version: read.text("table.kv.format-version").map_or(1, |_| read.int("table.kv.format-version")),
            auto_partition: AutoPartition::read(&read),
            log_ttl_ms: unless_zero(log_ttl),
            log_local_ttl_ms: unless_zero(read.text("table.log.local-ttl").and_then(parse_duration_ms).unwrap_or(log_ttl)),
            tiered_local_segments: read.int("table.log.tiered.local-segments"),
            datalake_enabled: read.boolean("table.datalake.enabled"),
            datalake_format: read.choice("table.datalake.format", LakeFormat::parse),
            datalake_freshness_ms: read.duration("table.datalake.freshness"),
            datalake_auto_compaction: read.boolean("table.datalake.auto-compaction"),
            datalake_auto_expire_snapshot: read.boolean("table.datalake.auto-expire-snapshot"),
            datalake_historical_partition: read.boolean("table.datalake.historical-partition.enabled"),
            merge_engine: read.choice("table.merge-engine", MergeEngine::parse),
            version_column: read.text("table.merge-engine.versioned.ver-column").map(str::to_owned),
            delete_behavior: read.choice("table.delete.behavior", DeleteBehavior::parse),
            auto_increment_cache_size: read.long("table.auto-increment.cache-size"),
            changelog_image: read.choice("table.changelog.image", ChangelogImage::parse).unwrap_or(ChangelogImage::Full),
            statistics_columns: read.text("table.statistics.columns").map(str::to_owned),
        })
    }
}

impl AutoPartition {
    fn read(read: &Reader) -> Self {
        Self {
            enabled: read.boolean("table.auto-partition.enabled"),
            key: read.text("table.auto-partition.key").map(str::to_owned),
            time_unit: read.choice("table.auto-partition.time-unit", PartitionUnit::parse).unwrap_or(PartitionUnit::Day),
            time_format: read.text("table.auto-partition.time-format").map(str::to_owned),
            time_zone: read.text("table.auto-partition.time-zone").map(str::to_owned),
            num_precreate: read.int("table.auto-partition.num-precreate"),
            num_retention: read.int("table.auto-partition.num-retention"),
        }
    }

    /// The pattern of partition values.
    pub fn effective_time_format(&self) -> &str {
        self.time_format.as_deref().unwrap_or_else(|| self.time_unit.default_time_format())
    }
}

fn unless_zero(ms: i64) -> Option<i64> {
    (ms != 0).then_some(ms)
}

/// Reads values that have been checked against the list; the defaults in the list are checked by its test.
struct Reader<'a> {
    properties: &'a BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.properties.get(key).map(String::as_str)
    }

    fn or_default(&self, key: &str) -> &'a str {
        let default = || property(key).and_then(|listed| listed.default).expect("the key is in the list with a default");
        self.text(key).unwrap_or_else(default)
    }

    fn choice<T>(&self, key: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
        self.text(key).and_then(parse)
    }

    fn boolean(&self, key: &str) -> bool {
        self.or_default(key).eq_ignore_ascii_case("true")
    }

    fn long(&self, key: &str) -> i64 {
        let text = self.text(key).unwrap_or_else(|| self.or_default(key));
        text.trim().parse().expect("the list accepts integers only")
    }

    fn int(&self, key: &str) -> i32 {
        i32::try_from(self.long(key)).expect("the list bounds it by 32 bits")
    }

    fn duration(&self, key: &str) -> i64 {
        parse_duration_ms(self.or_default(key)).expect("the list accepts durations only")
    }
}
