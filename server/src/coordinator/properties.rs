//! The `table.*` properties: which exist, what values they take. Pure.
//!
//! Source: protocol/json.md 6.

use super::reject::CatalogReject;
use super::table::{LogFormat, TableSettings};
use std::collections::BTreeMap;

pub const REPLICATION_FACTOR: &str = "table.replication.factor";
pub const LOG_FORMAT: &str = "table.log.format";
pub const LOG_TTL: &str = "table.log.ttl";
pub const STATISTICS_COLUMNS: &str = "table.statistics.columns";
pub const DATALAKE_ENABLED: &str = "table.datalake.enabled";
pub const AUTO_PARTITION_ENABLED: &str = "table.auto-partition.enabled";
/// Clients compare these with case, so they get them back in upper case.
const UPPER_CASE: [&str; 3] = ["table.log.arrow.compression.type", LOG_FORMAT, "table.kv.format"];
/// Only primary-key tables have these.
const PRIMARY_KEY_ONLY: [&str; 3] = ["table.merge-engine", "table.merge-engine.versioned.ver-column", "table.delete.behavior"];

/// Log kept for seven days unless the table says otherwise.
const LOG_TTL_MS_DEFAULT: i64 = 7 * 24 * 3_600 * 1_000;

/// What a value must look like.
enum Kind {
    Text,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    Duration,
    /// One of these, in any case.
    Word(&'static [&'static str]),
}

const KNOWN: [(&str, Kind); 29] = [
    (REPLICATION_FACTOR, Kind::Integer { min: i32::MIN as i64, max: i32::MAX as i64 }),
    (LOG_FORMAT, Kind::Word(&["ARROW", "INDEXED", "COMPACTED"])),
    ("table.log.arrow.compression.type", Kind::Word(&["NONE", "LZ4_FRAME", "ZSTD"])),
    ("table.log.arrow.compression.zstd.level", Kind::Integer { min: 1, max: 22 }),
    ("table.kv.format", Kind::Word(&["COMPACTED", "INDEXED"])),
    ("table.kv.format-version", Kind::Integer { min: 1, max: 2 }),
    ("table.kv.standby-replica.enabled", Kind::Boolean),
    (AUTO_PARTITION_ENABLED, Kind::Boolean),
    ("table.auto-partition.key", Kind::Text),
    ("table.auto-partition.time-unit", Kind::Word(&["HOUR", "DAY", "MONTH", "QUARTER", "YEAR"])),
    ("table.auto-partition.time-format", Kind::Text),
    ("table.auto-partition.time-zone", Kind::Text),
    ("table.auto-partition.num-precreate", Kind::Integer { min: 0, max: i32::MAX as i64 }),
    ("table.auto-partition.num-retention", Kind::Integer { min: 0, max: i32::MAX as i64 }),
    (LOG_TTL, Kind::Duration),
    ("table.log.local-ttl", Kind::Duration),
    ("table.log.tiered.local-segments", Kind::Integer { min: 1, max: i32::MAX as i64 }),
    (DATALAKE_ENABLED, Kind::Boolean),
    ("table.datalake.format", Kind::Word(&["PAIMON", "ICEBERG", "LANCE", "HUDI"])),
    ("table.datalake.freshness", Kind::Duration),
    ("table.datalake.auto-compaction", Kind::Boolean),
    ("table.datalake.auto-expire-snapshot", Kind::Boolean),
    ("table.datalake.historical-partition.enabled", Kind::Boolean),
    ("table.merge-engine", Kind::Word(&["FIRST_ROW", "VERSIONED", "AGGREGATION"])),
    ("table.merge-engine.versioned.ver-column", Kind::Text),
    ("table.delete.behavior", Kind::Word(&["ALLOW", "IGNORE", "DISABLE"])),
    ("table.auto-increment.cache-size", Kind::Integer { min: 1, max: i64::MAX }),
    ("table.changelog.image", Kind::Word(&["FULL", "WAL"])),
    (STATISTICS_COLUMNS, Kind::Text),
];

/// Checks every property by itself, and brings those into upper case that clients compare with case.
///
/// Errors: InvalidConfig (39) for an unknown key or a value that does not fit.
pub fn check_properties(properties: &mut BTreeMap<String, String>) -> Result<(), CatalogReject> {
    for (key, value) in properties.iter_mut() {
        let Some((_, kind)) = KNOWN.iter().find(|(known, _)| known == key) else {
            return Err(invalid(format!("{key} is not a table property")));
        };
        if let Err(expected) = check_value(kind, value) {
            return Err(invalid(format!("{key}={value}, expected {expected}")));
        }
        if UPPER_CASE.contains(&key.as_str()) {
            *value = value.to_ascii_uppercase();
        }
    }
    Ok(())
}

/// What a log table may not say. `columns` = its column names.
///
/// Errors: InvalidConfig (39).
pub fn check_log_table(properties: &BTreeMap<String, String>, columns: &[&str]) -> Result<(), CatalogReject> {
    if let Some(key) = PRIMARY_KEY_ONLY.iter().find(|key| properties.contains_key(**key)) {
        return Err(invalid(format!("{key} is for primary-key tables")));
    }
    if is_true(properties, DATALAKE_ENABLED) {
        return Err(invalid(format!("{DATALAKE_ENABLED}=true, but the cluster has no lake")));
    }
    if is_true(properties, AUTO_PARTITION_ENABLED) {
        return Err(invalid(format!("{AUTO_PARTITION_ENABLED}=true, but the table is not partitioned")));
    }
    let listed = properties.get(STATISTICS_COLUMNS).map(String::as_str).filter(|listed| *listed != "*");
    let missing = listed.and_then(|listed| listed.split(',').map(str::trim).find(|column| !columns.contains(column)));
    match missing {
        Some(column) => Err(invalid(format!("{STATISTICS_COLUMNS} names {column}, which is no column"))),
        None => Ok(()),
    }
}

/// What replicas need, from checked properties.
pub fn settings_of(properties: &BTreeMap<String, String>) -> TableSettings {
    let log_format = match properties.get(LOG_FORMAT).map(String::as_str) {
        Some("INDEXED") => LogFormat::Indexed,
        Some("COMPACTED") => LogFormat::Compacted,
        Some(_) | None => LogFormat::Arrow,
    };
    let ttl_ms = properties.get(LOG_TTL).and_then(|text| parse_duration_ms(text)).unwrap_or(LOG_TTL_MS_DEFAULT);
    TableSettings { log_format, log_ttl_ms: Some(ttl_ms).filter(|ttl_ms| *ttl_ms > 0) }
}

/// The factor that was asked for, if any.
pub fn replication_factor(properties: &BTreeMap<String, String>) -> Option<i32> {
    properties.get(REPLICATION_FACTOR).and_then(|text| text.trim().parse().ok())
}

fn is_true(properties: &BTreeMap<String, String>, key: &str) -> bool {
    properties.get(key).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

fn check_value(kind: &Kind, value: &str) -> Result<(), String> {
    let value = value.trim();
    match kind {
        Kind::Text => Ok(()),
        Kind::Boolean => {
            let known = value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
            if known { Ok(()) } else { Err("true or false".to_owned()) }
        }
        Kind::Integer { min, max } => match value.parse::<i64>() {
            Ok(number) if (*min..=*max).contains(&number) => Ok(()),
            Ok(_) | Err(_) => Err(format!("a number in {min}..={max}")),
        },
        Kind::Duration => parse_duration_ms(value).map(|_| ()).ok_or_else(|| "a duration such as 7 d or 500 ms".to_owned()),
        Kind::Word(words) => {
            let known = words.iter().any(|word| word.eq_ignore_ascii_case(value));
            if known { Ok(()) } else { Err(format!("one of {}", words.join(", "))) }
        }
    }
}

/// `<number> <unit>`, in whole milliseconds (what is shorter rounds down). None if it is not one, or does not fit.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().ok()?;
    match unit.trim().to_ascii_lowercase().as_str() {
        "d" | "day" | "days" => number.checked_mul(86_400_000),
        "h" | "hour" | "hours" => number.checked_mul(3_600_000),
        "m" | "min" | "minute" | "minutes" => number.checked_mul(60_000),
        "s" | "sec" | "secs" | "second" | "seconds" => number.checked_mul(1_000),
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => Some(number),
        "\u{b5}s" | "micro" | "micros" | "microsecond" | "microseconds" => Some(number / 1_000),
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => Some(number / 1_000_000),
        _ => None,
    }
}

fn invalid(reason: String) -> CatalogReject {
    CatalogReject::InvalidConfig { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn durations() {
        let good =
            [("7d", 604_800_000), ("7 days", 604_800_000), ("2 H", 7_200_000), ("3min", 180_000), ("0ms", 0), ("5 s", 5_000)];
        for (text, ms) in good {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for bad in ["", "often", "7", "d", "-1 d", "7 fortnights", "99999999999999999999 d", "9223372036854775807 d"] {
            assert_eq!(parse_duration_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_are_checked_by_kind() {
        for (key, bad, good) in [
            (REPLICATION_FACTOR, "many", "3"),
            (LOG_FORMAT, "CSV", "indexed"),
            ("table.log.arrow.compression.zstd.level", "23", "22"),
            ("table.kv.format-version", "3", "2"),
            (LOG_TTL, "often", "1 h"),
            (DATALAKE_ENABLED, "yes", "FALSE"),
        ] {
            assert!(check_properties(&mut one(key, bad)).is_err(), "{key}={bad}");
            assert!(check_properties(&mut one(key, good)).is_ok(), "{key}={good}");
        }
        for unknown in ["table.nope", "client.timeout", ""] {
            assert!(check_properties(&mut one(unknown, "1")).is_err(), "{unknown}");
        }
    }

    #[test]
    fn settings_have_defaults() {
        let seven_days = TableSettings { log_format: LogFormat::Arrow, log_ttl_ms: Some(LOG_TTL_MS_DEFAULT) };
        assert_eq!(settings_of(&BTreeMap::new()), seven_days);
        assert_eq!(settings_of(&one(LOG_TTL, "0ms")).log_ttl_ms, None, "zero means for ever");
        let mut lower = one(LOG_FORMAT, "indexed");
        check_properties(&mut lower).expect("known");
        assert_eq!(settings_of(&lower).log_format, LogFormat::Indexed);
    }
}
