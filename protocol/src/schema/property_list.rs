//! Every `table.*` key there is: its values, its default, whether it may be altered.

use super::duration::parse_duration_ms;
use super::error::SchemaError;
use super::formats::{
    ArrowCompression, ChangelogImage, DeleteBehavior, KvFormat, LakeFormat, LogFormat, MergeEngine, PartitionUnit,
};

/// Keys with this prefix are ours; in an alteration every other key is a custom property.
pub const TABLE_PREFIX: &str = "table.";

/// What the value of a property may be.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// `true` or `false`, any case.
    Boolean,
    /// Inclusive.
    Integer {
        min: i64,
        max: i64,
    },
    /// `<number> <unit>`.
    Duration,
    /// One of a closed set, any case; the text lists it.
    Choice(fn(&str) -> bool, &'static str),
    Text,
}

#[derive(Clone, Copy, Debug)]
pub struct Property {
    pub key: &'static str,
    pub kind: ValueKind,
    /// None = absent means something of its own.
    pub default: Option<&'static str>,
    pub alterable: bool,
}

const fn fixed(key: &'static str, kind: ValueKind, default: Option<&'static str>) -> Property {
    Property { key, kind, default, alterable: false }
}

const fn alterable(key: &'static str, kind: ValueKind, default: Option<&'static str>) -> Property {
    Property { key, kind, default, alterable: true }
}

const POSITIVE: ValueKind = ValueKind::Integer { min: 1, max: i32::MAX as i64 };
const NOT_NEGATIVE: ValueKind = ValueKind::Integer { min: 0, max: i32::MAX as i64 };

/// Sorted by key.
pub const TABLE_PROPERTIES: &[Property] = &[
    fixed("table.auto-increment.cache-size", ValueKind::Integer { min: 1, max: i64::MAX }, Some("100000")),
    alterable("table.auto-partition.enabled", ValueKind::Boolean, Some("false")),
    fixed("table.auto-partition.key", ValueKind::Text, None),
    alterable("table.auto-partition.num-precreate", NOT_NEGATIVE, Some("2")),
    alterable("table.auto-partition.num-retention", NOT_NEGATIVE, Some("7")),
    fixed("table.auto-partition.time-format", ValueKind::Text, None),
    fixed(
        "table.auto-partition.time-unit",
        ValueKind::Choice(|text| PartitionUnit::parse(text).is_some(), "HOUR, DAY, MONTH, QUARTER or YEAR"),
        Some("DAY"),
    ),
    fixed("table.auto-partition.time-zone", ValueKind::Text, None),
    fixed("table.changelog.image", ValueKind::Choice(|text| ChangelogImage::parse(text).is_some(), "FULL or WAL"), Some("FULL")),
    alterable("table.datalake.auto-compaction", ValueKind::Boolean, Some("false")),
    fixed("table.datalake.auto-expire-snapshot", ValueKind::Boolean, Some("false")),
    alterable("table.datalake.enabled", ValueKind::Boolean, Some("false")),
    fixed(
        "table.datalake.format",
        ValueKind::Choice(|text| LakeFormat::parse(text).is_some(), "paimon, iceberg, lance or hudi"),
        None,
    ),
    alterable("table.datalake.freshness", ValueKind::Duration, Some("3 min")),
    alterable("table.datalake.historical-partition.enabled", ValueKind::Boolean, Some("false")),
    fixed(
        "table.delete.behavior",
        ValueKind::Choice(|text| DeleteBehavior::parse(text).is_some(), "ALLOW, IGNORE or DISABLE"),
        None,
    ),
    fixed(
        "table.kv.format",
        ValueKind::Choice(|text| KvFormat::parse(text).is_some(), "COMPACTED or INDEXED"),
        Some("COMPACTED"),
    ),
    fixed("table.kv.format-version", ValueKind::Integer { min: 1, max: 2 }, None),
    alterable("table.kv.standby-replica.enabled", ValueKind::Boolean, None),
    fixed(
        "table.log.arrow.compression.type",
        ValueKind::Choice(|text| ArrowCompression::parse(text).is_some(), "NONE, LZ4_FRAME or ZSTD"),
        Some("ZSTD"),
    ),
    fixed("table.log.arrow.compression.zstd.level", ValueKind::Integer { min: 1, max: 22 }, Some("3")),
    fixed(
        "table.log.format",
        ValueKind::Choice(|text| LogFormat::parse(text).is_some(), "ARROW, INDEXED or COMPACTED"),
        Some("ARROW"),
    ),
    alterable("table.log.local-ttl", ValueKind::Duration, None),
    alterable("table.log.tiered.local-segments", POSITIVE, Some("2")),
    alterable("table.log.ttl", ValueKind::Duration, Some("7 d")),
    fixed(
        "table.merge-engine",
        ValueKind::Choice(|text| MergeEngine::parse(text).is_some(), "first_row, versioned or aggregation"),
        None,
    ),
    fixed("table.merge-engine.versioned.ver-column", ValueKind::Text, None),
    fixed("table.replication.factor", POSITIVE, None),
    alterable("table.statistics.columns", ValueKind::Text, None),
];

impl ValueKind {
    pub fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Integer { min: 0, .. } => "an integer, 0 or more",
            Self::Integer { min: 1, max: 2 } => "1 or 2",
            Self::Integer { min: 1, max: 22 } => "1 to 22",
            Self::Integer { .. } => "an integer, 1 or more",
            Self::Duration => "a duration like '7 d' or '100 ms'",
            Self::Choice(_, expected) => expected,
            Self::Text => "text",
        }
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            Self::Boolean => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            Self::Integer { min, max } => value.trim().parse().is_ok_and(|number| (min..=max).contains(&number)),
            Self::Duration => parse_duration_ms(value).is_some(),
            Self::Choice(accepts, _) => accepts(value),
            Self::Text => true,
        }
    }
}

impl Property {
    /// Errors: `BadProperty`.
    pub fn check(&self, value: &str) -> Result<(), SchemaError> {
        if self.kind.accepts(value) {
            return Ok(());
        }
        Err(SchemaError::BadProperty { key: self.key.to_owned(), expected: self.kind.expected(), found: value.to_owned() })
    }
}

pub fn property(key: &str) -> Option<&'static Property> {
    TABLE_PROPERTIES.binary_search_by(|property| property.key.cmp(key)).ok().map(|index| &TABLE_PROPERTIES[index])
}

/// Whether AlterTable may set `key` (`value` None: reset it). Custom properties may always.
///
/// Errors: `UnknownAlteredProperty`, `NotAlterable`, `BadProperty`.
pub fn check_alter_property(key: &str, value: Option<&str>) -> Result<(), SchemaError> {
    if !key.starts_with(TABLE_PREFIX) {
        return Ok(());
    }
    let property = property(key).ok_or_else(|| SchemaError::UnknownAlteredProperty { key: key.to_owned() })?;
    if !property.alterable {
        return Err(SchemaError::NotAlterable { key: key.to_owned() });
    }
    value.map_or(Ok(()), |value| property.check(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_its_defaults_are_valid() {
        assert!(TABLE_PROPERTIES.is_sorted_by(|left, right| left.key < right.key));
        for listed in TABLE_PROPERTIES {
            assert_eq!(property(listed.key).map(|found| found.key), Some(listed.key));
            if let Some(default) = listed.default {
                assert_eq!(listed.check(default), Ok(()), "{}", listed.key);
            }
        }
        assert!(property("table.nonsense").is_none());
    }

    #[test]
    fn alterations() {
        assert_eq!(check_alter_property("table.log.ttl", Some("1 d")), Ok(()));
        assert_eq!(check_alter_property("table.log.ttl", None), Ok(()));
        assert_eq!(check_alter_property("mine", Some("x")), Ok(()));
        let not_alterable = SchemaError::NotAlterable { key: "table.log.format".to_owned() };
        assert_eq!(check_alter_property("table.log.format", Some("INDEXED")), Err(not_alterable));
        let unknown = SchemaError::UnknownAlteredProperty { key: "table.x".to_owned() };
        assert_eq!(check_alter_property("table.x", Some("1")), Err(unknown));
        let message = check_alter_property("table.log.ttl", Some("often")).map_err(|error| error.to_string());
        assert_eq!(message, Err("property 'table.log.ttl' is 'often', expected a duration like '7 d' or '100 ms'".to_owned()));
    }
}
