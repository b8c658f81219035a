//! Each mistake gets its code; what is right comes back complete.

use super::*;
use crate::coordinator::table::{LogFormat, TableSettings};
use proptest::prelude::*;
use serde_json::{Value, json};

const DEFAULTS: TableDefaults = TableDefaults { bucket_count: 1, replication_factor: None };

fn check(table: &Value) -> Result<NewTable, CatalogReject> {
    check_table(TablePath::new("fluss", "t"), table.to_string().as_bytes(), DEFAULTS, 3)
}

/// The smallest table that the recorded Java client sends.
fn log_table() -> Value {
    json!({
        "version": 1,
        "schema": {
            "version": 1,
            "columns": [
                {"name": "id", "data_type": {"type": "BIGINT"}, "id": 0},
                {"name": "name", "data_type": {"type": "STRING"}, "id": 1}
            ],
            "highest_field_id": 1
        },
        "partition_key": [],
        "properties": {},
        "custom_properties": {}
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut table = log_table();
    change(&mut table);
    table
}

fn with_column(data_type: Value) -> Value {
    with(|table| table["schema"]["columns"] = json!([{"name": "c", "data_type": data_type}]))
}

/// The wire code, as far as these tests need it.
fn code(result: Result<NewTable, CatalogReject>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(CatalogReject::InvalidTable { .. }) => 15,
        Err(CatalogReject::InvalidDatabase { .. }) => 16,
        Err(CatalogReject::InvalidReplicationFactor { .. }) => 17,
        Err(CatalogReject::InvalidConfig { .. }) => 39,
        Err(CatalogReject::TooManyBuckets { .. }) => 49,
        Err(other) => panic!("unexpected {other}"),
    }
}

#[test]
fn defaults_are_filled_in() {
    let table = check(&log_table()).expect("a plain log table");
    assert_eq!((table.bucket_count, table.replication_factor), (1, 3));
    assert_eq!(table.settings, TableSettings { log_format: LogFormat::Arrow, log_ttl_ms: Some(604_800_000) });
    let back: Value = serde_json::from_str(&table.table_json).expect("JSON");
    assert_eq!(back["bucket_key"], json!([]));
    assert_eq!(back["bucket_count"], json!(1));
    assert_eq!(back["properties"], json!({"table.replication.factor": "3"}));
    assert_eq!(back["schema"], log_table()["schema"]);
    assert_eq!(serde_json::from_str::<Value>(&table.schema_json).expect("JSON"), log_table()["schema"]);
}

#[test]
fn replication_follows_the_number_of_nodes() {
    let factor = |nodes| {
        check_table(TablePath::new("fluss", "t"), log_table().to_string().as_bytes(), DEFAULTS, nodes)
            .map(|t| t.replication_factor)
    };
    assert_eq!([factor(1), factor(2), factor(3), factor(5)], [Ok(1), Ok(1), Ok(3), Ok(3)]);
    let asked = |text: &str| code(check(&with(|table| table["properties"] = json!({"table.replication.factor": text}))));
    assert_eq!([asked("1"), asked("2"), asked("3"), asked("9"), asked("0"), asked("x")], [0, 0, 0, 17, 17, 39]);
}

#[test]
fn ids_are_assigned_depth_first_if_there_are_none() {
    let table = with(|table| {
        table["schema"] = json!({"columns": [
            {"name": "a", "data_type": {"type": "ROW", "fields": [{"name": "x", "field_type": {"type": "DATE"}}]}},
            {"name": "b", "data_type": {"type": "BYTES"}}
        ]});
    });
    let schema: Value = serde_json::from_str(&check(&table).expect("valid").schema_json).expect("JSON");
    assert_eq!(schema["columns"][0]["id"], json!(0));
    assert_eq!(schema["columns"][0]["data_type"]["fields"][0]["field_id"], json!(1));
    assert_eq!(schema["columns"][1]["id"], json!(2));
    assert_eq!(schema["highest_field_id"], json!(2));
}

#[test]
fn each_mistake_has_its_code() {
    let cases = [
        (15, "no schema", with(|table| table["schema"] = Value::Null)),
        (15, "no columns", with(|table| table["schema"]["columns"] = json!([]))),
        (15, "column twice", with(|table| table["schema"]["columns"][1]["name"] = json!("id"))),
        (15, "column without name", with(|table| table["schema"]["columns"][1] = json!({"data_type": {"type": "DATE"}}))),
        (15, "reserved column", with(|table| table["schema"]["columns"][1]["name"] = json!("__offset"))),
        (15, "id twice", with(|table| table["schema"]["columns"][1]["id"] = json!(0))),
        (15, "one id", with(|table| drop(table["schema"]["columns"][1].as_object_mut().expect("object").remove("id")))),
        (15, "partitioned", with(|table| table["partition_key"] = json!(["name"]))),
        (15, "bucket key of no column", with(|table| table["bucket_key"] = json!(["nope"]))),
        (15, "bucket key twice", with(|table| table["bucket_key"] = json!(["id", "id"]))),
        (15, "bucket key is no list", with(|table| table["bucket_key"] = json!("id"))),
        (15, "bucket count 0", with(|table| table["bucket_count"] = json!(0))),
        (15, "bucket count text", with(|table| table["bucket_count"] = json!("3"))),
        (49, "bucket count 4097", with(|table| table["bucket_count"] = json!(4097))),
        (15, "bucket count 2^40", with(|table| table["bucket_count"] = json!(1i64 << 40))),
        (0, "bucket count 4096", with(|table| table["bucket_count"] = json!(4096))),
        (39, "unknown property", with(|table| table["properties"] = json!({"table.nope": "1"}))),
        (39, "foreign property", with(|table| table["properties"] = json!({"nope": "1"}))),
        (39, "bad duration", with(|table| table["properties"] = json!({"table.log.ttl": "often"}))),
        (39, "merge engine", with(|table| table["properties"] = json!({"table.merge-engine": "first_row"}))),
        (39, "auto partition", with(|table| table["properties"] = json!({"table.auto-partition.enabled": "true"}))),
        (39, "lake", with(|table| table["properties"] = json!({"table.datalake.enabled": "true"}))),
        (39, "statistics", with(|table| table["properties"] = json!({"table.statistics.columns": "id, nope"}))),
        (0, "statistics", with(|table| table["properties"] = json!({"table.statistics.columns": "id, name"}))),
        (15, "property is no text", with(|table| table["properties"] = json!({"table.replication.factor": 1}))),
        (0, "custom property", with(|table| table["custom_properties"] = json!({"anything": "goes"}))),
        (15, "unknown type", with_column(json!({"type": "INT"}))),
        (15, "decimal", with_column(json!({"type": "DECIMAL", "precision": 39, "scale": 0}))),
        (0, "decimal", with_column(json!({"type": "DECIMAL", "precision": 38, "scale": 38}))),
        (15, "char", with_column(json!({"type": "CHAR", "length": 0}))),
        (15, "timestamp", with_column(json!({"type": "TIMESTAMP_WITHOUT_TIME_ZONE", "precision": 10}))),
        (
            0,
            "nested",
            with_column(json!({"type": "MAP", "key_type": {"type": "DATE"},
            "value_type": {"type": "ARRAY", "element_type": {"type": "FLOAT"}}})),
        ),
        (15, "nested", with_column(json!({"type": "MAP", "key_type": {"type": "DATE"}}))),
    ];
    for (expected, what, table) in cases {
        let result = check(&table);
        assert_eq!(code(result.clone()), expected, "{what}: {result:?}");
    }
    let nested_key = with(|table| {
        table["schema"]["columns"][1]["data_type"] = json!({"type": "ARRAY", "element_type": {"type": "DATE"}});
        table["bucket_key"] = json!(["name"]);
    });
    assert_eq!(code(check(&nested_key)), 15);
}

#[test]
fn names_are_checked() {
    let table = |database: &str, table: &str| {
        code(check_table(TablePath::new(database, table), log_table().to_string().as_bytes(), DEFAULTS, 1))
    };
    assert_eq!([table("a-b_C9", "x"), table("", "x"), table("a", "__x"), table("a", "x.y")], [0, 16, 15, 15]);
    assert_eq!([table("a", &"x".repeat(200)), table("a", &"x".repeat(201)), table("a", "täble")], [0, 15, 15]);
}

#[test]
fn databases() {
    assert_eq!(check_database("d", None).as_deref(), Ok(EMPTY_DATABASE_JSON));
    let full = br#"{"version":1,"comment":"c","custom_properties":{"k":"v"}}"#;
    let back: Value = serde_json::from_str(&check_database("d", Some(full)).expect("valid")).expect("JSON");
    assert_eq!(back, serde_json::from_slice::<Value>(full).expect("JSON"));
    assert!(check_database("a b", None).is_err());
    assert!(check_database("d", Some(b"{")).is_err());
    assert!(check_database("d", Some(br#"{"custom_properties":3}"#)).is_err());
}

#[test]
fn compression_comes_back_in_upper_case() {
    let table = with(|table| table["properties"] = json!({"table.log.arrow.compression.type": "zstd"}));
    let back: Value = serde_json::from_str(&check(&table).expect("valid").table_json).expect("JSON");
    assert_eq!(back["properties"]["table.log.arrow.compression.type"], json!("ZSTD"));
}

#[test]
fn endless_nesting_is_refused_not_followed() {
    let endless = "[".repeat(100_000);
    assert!(check_table(TablePath::new("fluss", "t"), endless.as_bytes(), DEFAULTS, 3).is_err());
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check_table(TablePath::new("fluss", "t"), &bytes, DEFAULTS, 3).is_err());
    }
}
