//! Tables and their JSON: the captured documents, and the rules.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use floss_protocol::schema::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn table(value: &Value) -> Result<TableDescriptor, SchemaError> {
    TableDescriptor::from_json(value.to_string().as_bytes())
}

fn printed(text: String) -> Value {
    serde_json::from_str(&text).unwrap()
}

fn kv_json() -> Value {
    common::json("table_json_kv.json")
}

fn log_json() -> Value {
    common::json("table_json_log.json")
}

#[test]
fn captured_tables_come_back_equal() {
    for value in [kv_json(), log_json()] {
        let parsed = table(&value).unwrap();
        assert_eq!(printed(parsed.to_json()), value);
        let again: TableDescriptor = serde_json::from_str(&serde_json::to_string(&parsed).unwrap()).unwrap();
        assert_eq!(again, parsed);
    }
    let kv = table(&kv_json()).unwrap();
    assert_eq!((kv.bucket_count, kv.schema.primary_key()), (Some(3), &["id".to_owned()][..]));
    assert_eq!(kv.schema.columns()[0].data_type, DataType::not_null(TypeKind::Int));
    let log = table(&log_json()).unwrap();
    assert_eq!(log.table_properties().unwrap().arrow_compression, ArrowCompression::None);
}

#[test]
fn every_document_of_the_conversations_comes_back_equal() {
    let (mut tables, mut schemas, mut databases, mut types) = (0, 0, 0, 0);
    for (file, value) in common::conversation_json() {
        let text = value.to_string();
        let again = if value.get("schema").is_some() {
            tables += 1;
            let mut parsed = table(&value).unwrap_or_else(|error| panic!("{file}: {error}"));
            let printed = parsed.to_json();
            if parsed.table_properties().is_ok() {
                parsed.complete(1, 1).unwrap();
                parsed.check(4096).unwrap_or_else(|error| panic!("{file}: {error}"));
            }
            printed
        } else if value.get("columns").is_some() {
            schemas += 1;
            Schema::from_json(text.as_bytes()).unwrap().to_json()
        } else if value.get("custom_properties").is_some() {
            databases += 1;
            DatabaseDescriptor::from_json(text.as_bytes()).unwrap().to_json()
        } else if value.get("type").is_some() {
            types += 1;
            DataType::from_json(text.as_bytes()).unwrap().to_json()
        } else {
            panic!("{file}: {value}");
        };
        assert_eq!(printed(again), value, "{file}");
    }
    assert!(tables >= 12 && schemas >= 1 && databases >= 2 && types >= 2, "{tables} {schemas} {databases} {types}");
}

/// Answers for tables made without distribution, as the real server gave them.
#[test]
fn completing_gives_what_the_real_server_answers() {
    let mut asked = kv_json();
    for key in ["bucket_key", "bucket_count"] {
        asked.as_object_mut().unwrap().remove(key);
    }
    let mut kv = table(&asked).unwrap();
    assert_eq!((kv.bucket_count, kv.bucket_keys.len()), (None, 0));
    kv.complete(5, 3).unwrap();
    let expected =
        json!({"table.replication.factor": "3", "table.kv.format-version": "2", "table.kv.standby-replica.enabled": "true"});
    let answer = printed(kv.to_json());
    assert_eq!((&answer["properties"], &answer["bucket_key"], &answer["bucket_count"]), (&expected, &json!(["id"]), &json!(5)));

    let mut log = table(&log_json()).unwrap();
    log.properties.clear();
    log.bucket_count = None;
    log.complete(2, 1).unwrap();
    let answer = printed(log.to_json());
    let expected = json!({"table.replication.factor": "1"});
    assert_eq!((&answer["properties"], &answer["bucket_key"], &answer["bucket_count"]), (&expected, &json!([]), &json!(2)));
}

#[test]
fn ids_are_assigned_depth_first() {
    let int = json!({"type": "INTEGER"});
    let row = json!({"type": "ROW", "fields": [
        {"name": "x", "field_type": {"type": "ARRAY", "element_type": {"type": "ROW", "fields": [{"name": "deep", "field_type": int}]}}},
        {"name": "y", "field_type": int, "field_id": -1},
    ]});
    let schema =
        json!({"columns": [{"name": "a", "data_type": int}, {"name": "r", "data_type": row}, {"name": "z", "data_type": int}]});
    let schema = Schema::from_json(schema.to_string().as_bytes()).unwrap();
    let ids: Vec<_> = schema.columns().iter().map(|column| column.id.unwrap()).collect();
    assert_eq!((ids, schema.highest_field_id()), (vec![0, 1, 5], 5));
    let printed = printed(schema.to_json());
    let fields = &printed["columns"][1]["data_type"]["fields"];
    assert_eq!(fields[0]["field_id"], 2);
    assert_eq!(fields[0]["field_type"]["element_type"]["fields"][0]["field_id"], 3);
    assert_eq!(fields[1]["field_id"], 4);

    let added = schema.with_column(Column::new(
        "new",
        TypeKind::Row(vec![RowField {
            name: "inner".into(),
            data_type: TypeKind::Int.into(),
            description: None,
            field_id: None,
        }]),
    ));
    let added = added.unwrap();
    assert_eq!((added.columns()[3].id, added.highest_field_id()), (Some(6), 7));
    assert_eq!(added.with_column(Column::new("new", TypeKind::Int)).unwrap_err().kind(), SchemaErrorKind::Alter);
    assert_eq!(
        added.with_column(Column::new("n2", DataType::not_null(TypeKind::Int))).unwrap_err().kind(),
        SchemaErrorKind::Alter
    );
}

#[test]
fn highest_field_id_is_kept_when_columns_were_dropped() {
    let mut value = log_json();
    value["schema"]["highest_field_id"] = json!(9);
    let parsed = table(&value).unwrap();
    assert_eq!(parsed.schema.highest_field_id(), 9);
    assert_eq!(printed(parsed.to_json()), value);
    assert_eq!(parsed.schema.with_column(Column::new("c", TypeKind::Int)).unwrap().columns()[2].id, Some(10));
}

/// Changes one thing in a good document and expects this message.
fn broken(change: impl FnOnce(&mut Value), expected: &str) {
    let mut value = kv_json();
    change(&mut value);
    let verdict = table(&value).and_then(|mut table| {
        table.complete(1, 1)?;
        table.check(4096)
    });
    assert_eq!(verdict.map_err(|error| error.to_string()), Err(expected.to_owned()));
}

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().unwrap().remove(key).unwrap();
}

#[test]
fn documents_with_something_missing_or_wrong() {
    broken(|t| remove(t, "schema"), "table has no schema");
    broken(|t| remove(t, "partition_key"), "table has no partition_key");
    broken(|t| remove(t, "properties"), "table has no properties");
    broken(|t| remove(t, "custom_properties"), "table has no custom_properties");
    broken(|t| t["properties"] = json!({"a": 1}), "table.properties.a is 1, expected a string");
    broken(|t| t["bucket_count"] = json!("3"), "table.bucket_count is a string, expected an integer");
    broken(|t| t["schema"]["columns"] = json!([]), "a schema needs at least one column");
    broken(|t| remove(&mut t["schema"]["columns"][1], "name"), "table.schema.columns[1] has no name");
    broken(|t| remove(&mut t["schema"]["columns"][1], "id"), "either every column and field has an id or none has");
    broken(|t| t["schema"]["columns"][1]["id"] = json!(0), "field id=0 of 'name' is negative or used twice");
    broken(|t| t["schema"]["columns"][1]["name"] = json!("id"), "column 'id' appears twice");
    broken(|t| t["schema"]["columns"][1]["name"] = json!(" "), "a column or field has a blank name");
    broken(|t| t["schema"]["columns"][1]["name"] = json!("__offset"), "column '__offset' is a system column");
    broken(
        |t| t["schema"]["columns"][1]["data_type"] = json!({"type": "INT"}),
        "table.schema.columns[1].data_type: unknown type 'INT'",
    );
    broken(
        |t| t["schema"]["columns"][1]["data_type"] = json!({"type": "DECIMAL", "precision": 39}),
        "table.schema.columns[1].data_type.precision=39, expected 1 to 38",
    );
    broken(|t| t["schema"]["primary_key"] = json!(["nope"]), "primary key 'nope' is not a column");
    broken(|t| t["schema"]["primary_key"] = json!(["id", "id"]), "primary key column 'id' appears twice");
    broken(|t| t["schema"]["primary_key"] = json!([]), "primary key is empty");
    broken(|t| t["bucket_key"] = json!(["name"]), "bucket key 'name' is not allowed: it is not part of the primary key");
    broken(|t| t["bucket_count"] = json!(4097), "bucket_count=4097, expected 1 to 4096");
    broken(|t| t["bucket_count"] = json!(-1), "bucket_count=-1, expected 1 to 4096");
    broken(|t| t["partition_key"] = json!(["name"]), "partition key 'name' is not allowed: it is not part of the primary key");
    broken(|t| t["partition_key"] = json!(["id"]), "partition key 'id' is not allowed: it is part of the bucket key");
    broken(|t| t["properties"] = json!({"table.nope": "1"}), "property 'table.nope' is unknown");
    broken(|t| t["properties"] = json!({"mine": "1"}), "property 'mine' is unknown");
    broken(
        |t| t["properties"] = json!({"table.kv.format-version": "3"}),
        "property 'table.kv.format-version' is '3', expected 1 or 2",
    );
    broken(
        |t| t["properties"] = json!({"table.auto-partition.enabled": "true"}),
        "property 'table.auto-partition.enabled': the table is not partitioned",
    );
    broken(
        |t| t["properties"] = json!({"table.merge-engine": "versioned"}),
        "property 'table.merge-engine.versioned.ver-column': the versioned merge engine needs it",
    );
    let text = TableDescriptor::from_json(b"{").unwrap_err();
    assert_eq!(text.kind(), SchemaErrorKind::Table);
}

#[test]
fn ids_of_nested_fields_count_too() {
    let with_field = |field_id: i32| {
        move |table: &mut Value| {
            let field = json!({"name": "x", "field_type": {"type": "INTEGER"}, "field_id": field_id});
            table["schema"]["columns"][1]["data_type"] =
                json!({"type": "ARRAY", "element_type": {"type": "ROW", "fields": [field]}});
        }
    };
    broken(with_field(2), "field id=2 of 'score' is negative or used twice");
    broken(with_field(-1), "either every column and field has an id or none has");
    let mut value = kv_json();
    with_field(7)(&mut value);
    assert_eq!(table(&value).unwrap().schema.highest_field_id(), 7);
}

#[test]
fn unknown_keys_are_ignored() {
    let mut value = kv_json();
    value["surprise"] = json!({"a": [1]});
    value["schema"]["columns"][0]["data_type"]["surprise"] = json!(1);
    assert_eq!(printed(table(&value).unwrap().to_json()), kv_json());
}

#[test]
fn properties_have_their_defaults() {
    let mut log = table(&log_json()).unwrap();
    log.properties.clear();
    let properties = log.table_properties().unwrap();
    assert_eq!((properties.log_ttl_ms, properties.log_local_ttl_ms), (Some(604_800_000), Some(604_800_000)));
    assert_eq!((properties.arrow_compression, properties.arrow_zstd_level), (ArrowCompression::Zstd, 3));
    assert_eq!((properties.log_format, properties.kv_format_version, properties.replication_factor), (LogFormat::Arrow, 1, None));
    log.properties.insert("table.log.ttl".into(), "0ms".into());
    log.properties.insert("table.log.format".into(), "indexed".into());
    log.properties.insert("table.replication.factor".into(), "3".into());
    let properties = log.table_properties().unwrap();
    assert_eq!((properties.log_ttl_ms, properties.log_local_ttl_ms), (None, None));
    assert_eq!((properties.log_format, properties.replication_factor), (LogFormat::Indexed, Some(3)));
    log.properties.insert("table.log.ttl".into(), "often".into());
    assert_eq!(log.table_properties().unwrap_err().kind(), SchemaErrorKind::Config);
}

#[test]
fn deep_nesting_is_refused_not_overflowed() {
    let text =
        format!("{}{{\"type\":\"INTEGER\"}}{}", "{\"type\":\"ARRAY\",\"element_type\":".repeat(100_000), "}".repeat(100_000));
    assert!(matches!(DataType::from_json(text.as_bytes()), Err(SchemaError::NotJson { .. })));
}

proptest! {
    #[test]
    fn types_come_back(data_type in common::any_type(4)) {
        prop_assert_eq!(DataType::from_json(data_type.to_json().as_bytes()), Ok(data_type));
    }

    #[test]
    fn schemas_come_back(types in prop::collection::vec(common::any_type(3), 1..8)) {
        let columns = types.into_iter().enumerate().map(|(index, data_type)| Column::new(format!("c{index}"), data_type)).collect();
        let schema = Schema::new(columns).unwrap();
        prop_assert_eq!(Schema::from_json(schema.to_json().as_bytes()), Ok(schema));
    }

    /// Any subtree replaced by anything: a value or an error.
    #[test]
    fn damaged_documents_never_panic(at in any::<prop::sample::Index>(), with in "[\\[\\]{}\":,0-9a-z-]{0,6}", cut in 0usize..12) {
        let mut text = kv_json().to_string();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        text.replace_range(at..end, &with);
        if let Ok(mut table) = TableDescriptor::from_json(text.as_bytes()) {
            let _ = table.complete(1, 1).and_then(|()| table.check(100));
        }
    }
}
