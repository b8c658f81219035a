//! Rows, keys, KV batches and buckets: golden bytes, round trips, hostile bytes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;
#[path = "common/values.rs"]
mod values;

use bytes::Bytes;
use common::{any_type, hex, json, unhex};
use floss_protocol::bucketing::{KeyTail, bucket_of};
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::*;
use floss_protocol::log_batch::LogBatch;
use floss_protocol::row::*;
use floss_protocol::schema::{DataType, LakeFormat, RowField, TypeKind};
use proptest::prelude::*;

fn types(kinds: &[TypeKind]) -> Vec<DataType> {
    kinds.iter().cloned().map(DataType::from).collect()
}

fn int() -> Box<DataType> {
    Box::new(TypeKind::Int.into())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Both ways, byte for byte.
fn compacted(bytes: &Bytes, types: &[DataType], values: &[Value]) {
    assert_eq!(decode_compacted_row(bytes, types.iter()).unwrap(), values);
    assert_eq!(encode_compacted_row(values, types.iter()).unwrap(), bytes[..]);
}

#[test]
fn compacted_rows_of_the_vectors() {
    let kinds = [
        TypeKind::Boolean,
        TypeKind::TinyInt,
        TypeKind::SmallInt,
        TypeKind::Int,
        TypeKind::BigInt,
        TypeKind::Float,
        TypeKind::Double,
        TypeKind::String,
        TypeKind::Bytes,
        TypeKind::Decimal { precision: 10, scale: 2 },
        TypeKind::Decimal { precision: 20, scale: 0 },
        TypeKind::Timestamp(3),
        TypeKind::TimestampLtz(9),
    ];
    let values = [
        Value::Boolean(true),
        Value::TinyInt(-2),
        Value::SmallInt(-3),
        Value::Int(300),
        Value::BigInt(-1),
        Value::Float(1.5),
        Value::Double(-2.25),
        text("hi"),
        Value::Bytes(Bytes::from_static(&[0xde, 0xad])),
        Value::Decimal(12345),
        Value::Decimal(65536),
        Value::Timestamp { ms: 1000, nanos: 0 },
        Value::Timestamp { ms: 1000, nanos: 123456 },
    ];
    compacted(&hex("compacted_row_types.json", "row_hex"), &types(&kinds), &values);

    let one = Value::Int(1);
    let mut values = vec![Value::Null, Value::Int(7), one.clone(), one.clone(), one.clone(), one.clone(), one.clone(), one];
    values.push(Value::Null);
    compacted(&hex("compacted_row_nulls.json", "row_hex"), &types(&vec![TypeKind::Int; 9]), &values);
}

fn row_of_x_and_y() -> TypeKind {
    let field =
        |name: &str, kind: TypeKind| RowField { name: name.into(), data_type: kind.into(), description: None, field_id: None };
    TypeKind::Row(vec![field("x", TypeKind::Int), field("y", TypeKind::String)])
}

#[test]
fn nested_rows_of_the_vectors() {
    let string = Box::new(DataType::from(TypeKind::String));
    let map = TypeKind::Map(Box::new(DataType::not_null(TypeKind::String)), int());
    let kinds = [TypeKind::Int, TypeKind::Array(int()), TypeKind::Array(string.clone()), map, row_of_x_and_y()];
    let ints = vec![Value::Int(1), Value::Null, Value::Int(3)];
    let texts = vec![text("short"), text("longer-than-7")];
    let entries = vec![(text("k"), Value::Int(5))];
    let row = [
        Value::Int(1),
        Value::Array(ints.clone()),
        Value::Array(texts.clone()),
        Value::Map(entries.clone()),
        Value::Row(vec![Value::Int(9), Value::Null]),
    ];
    let file = "kv_nested_types.json";
    let (array_int, array_string, map) = (hex(file, "array_int_hex"), hex(file, "array_string_hex"), hex(file, "map_hex"));
    assert_eq!((encode_array(&ints, &int()).unwrap(), decode_array(&array_int, &int())), (array_int.to_vec(), Ok(ints)));
    assert_eq!(
        (encode_array(&texts, &string).unwrap(), decode_array(&array_string, &string)),
        (array_string.to_vec(), Ok(texts))
    );
    assert_eq!((encode_map(&entries, &string, &int()).unwrap(), decode_map(&map, &string, &int())), (map.to_vec(), Ok(entries)));

    let batch = KvBatch::read(&hex(file, "batch_hex")).unwrap();
    batch.validate().unwrap();
    let records: Vec<_> = batch.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 1);
    compacted(records[0].row.as_ref().unwrap(), &types(&kinds), &row);
}

#[test]
fn kv_batches_of_the_vectors_are_built_again() {
    let user = types(&[TypeKind::Int, TypeKind::String, TypeKind::BigInt]);
    let dated = types(&[TypeKind::Int, TypeKind::String, TypeKind::Int]);
    type Case<'a> = (&'a str, &'a [u8], Option<Vec<Value>>, &'a [DataType], i32);
    let cases: [Case; 4] = [
        ("kv_upsert.json", &[1], Some(vec![Value::Int(1), text("alice"), Value::BigInt(300)]), &user, 0),
        ("kv_delete.json", &[1], None, &user, 1),
        ("kv_partial_update.json", &[1], Some(vec![Value::Int(1), Value::Null, Value::BigInt(-1)]), &user, 2),
        ("kv_partitioned.json", &[5], Some(vec![Value::Int(5), text("20240101"), Value::Int(1)]), &dated, 0),
    ];
    for (file, key, values, types, sequence) in cases {
        let bytes = hex(file, "batch_hex");
        let batch = KvBatch::read(&bytes).unwrap();
        batch.validate().unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!((batch.schema_id, batch.writer_id, batch.batch_sequence), (SchemaId(1), 1000, sequence), "{file}");
        let row = values.as_ref().map(|values| Bytes::from(encode_compacted_row(values, types.iter()).unwrap()));
        let record = KvRecord { key: Bytes::copy_from_slice(key), row };
        assert_eq!(batch.records().collect::<Vec<_>>(), [Ok(record.clone())], "{file}");
        let mut build = KvBatchBuilder::new(SchemaId(1));
        (build.writer_id, build.batch_sequence) = (1000, sequence);
        match &record.row {
            Some(row) => build.upsert(key, row),
            None => build.delete(key),
        };
        assert_eq!(build.build(), bytes, "{file}");
    }
}

#[test]
fn values_of_the_vectors() {
    let value = hex("lookup.json", "value_hex_served");
    let user = types(&[TypeKind::Int, TypeKind::String, TypeKind::BigInt]);
    let (schema_id, row) = split_value(&value).unwrap();
    assert_eq!(schema_id, SchemaId(1));
    compacted(&row, &user, &[Value::Int(1), text("alice"), Value::BigInt(300)]);
    assert_eq!(join_value(schema_id, &row), value);
    assert_eq!(split_value(&Bytes::from_static(&[1])), Err(KvBatchError::ShortValue { found: 1 }));

    let batch = hex("limit_scan_kv.json", "value_record_batch_hex_served");
    let read: Vec<_> = ValueRecords::new(&batch).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, [(schema_id, row.clone()), (schema_id, row)]);
    let mut build = ValueBatchBuilder::default();
    build.push(&value).push(&value);
    assert_eq!(build.bytes(), batch.len());
    assert_eq!(build.build(), batch);
    let empty = ValueBatchBuilder::default().build();
    assert_eq!((empty.len(), ValueRecords::new(&empty).unwrap().count()), (9, 0));
}

#[test]
fn statistics_of_a_captured_batch() {
    let batch = LogBatch::read(&hex("log_arrow_stats_v1.json", "batch_hex"), 0).unwrap();
    let statistics = batch.statistics().unwrap();
    let kinds = types(&[TypeKind::Int, TypeKind::String]);
    // version 1, n = 2, two indexes of 2 bytes, two null counts of 4; then each row with its size in front.
    let min = statistics.slice(19..19 + 24);
    let max = statistics.slice(19 + 24 + 4..);
    for (bytes, values) in [(min, [Value::Int(1), text("alice")]), (max, [Value::Int(3), text("carol-longer")])] {
        assert_eq!(encode_aligned_row(&values, kinds.iter()).unwrap(), bytes);
        assert_eq!(decode_aligned_row(&bytes, kinds.iter()).unwrap(), values);
    }
}

fn key_of(name: &str) -> (TypeKind, Value) {
    let bytes = Value::Bytes(Bytes::from_static(&[1, 2, 3]));
    let at = 1_700_000_000_123;
    match name {
        "BOOLEAN" => (TypeKind::Boolean, Value::Boolean(true)),
        "TINYINT" => (TypeKind::TinyInt, Value::TinyInt(-2)),
        "SMALLINT" => (TypeKind::SmallInt, Value::SmallInt(-3)),
        "INT" => (TypeKind::Int, Value::Int(123456)),
        "INT_NEG" => (TypeKind::Int, Value::Int(-1)),
        "BIGINT" => (TypeKind::BigInt, Value::BigInt(1234567890123)),
        "FLOAT" => (TypeKind::Float, Value::Float(1.5)),
        "DOUBLE" => (TypeKind::Double, Value::Double(-2.25)),
        "STRING" => (TypeKind::String, text("fluss")),
        "STRING_LONG" => (TypeKind::String, text("a-longer-string-key")),
        "CHAR(5)" => (TypeKind::Char(5), text("abcde")),
        "BYTES" => (TypeKind::Bytes, bytes),
        "BINARY(3)" => (TypeKind::Binary(3), bytes),
        "DECIMAL(10,2)" => (TypeKind::Decimal { precision: 10, scale: 2 }, Value::Decimal(12345)),
        "DECIMAL(25,5)" => (TypeKind::Decimal { precision: 25, scale: 5 }, Value::Decimal(12_345_678_901_234_567_890)),
        "DATE" => (TypeKind::Date, Value::Date(19723)),
        "TIME(3)" => (TypeKind::Time(3), Value::Time(3_661_000)),
        "TIMESTAMP(3)" => (TypeKind::Timestamp(3), Value::Timestamp { ms: at, nanos: 0 }),
        "TIMESTAMP(6)" => (TypeKind::Timestamp(6), Value::Timestamp { ms: at, nanos: 456_000 }),
        "TIMESTAMP_LTZ(9)" => (TypeKind::TimestampLtz(9), Value::Timestamp { ms: at, nanos: 456_789 }),
        other => panic!("{other}"),
    }
}

#[test]
fn keys_and_buckets_of_both_client_families() {
    let vector = json("bucket_keys.json");
    let buckets = vector["num_buckets"].as_i64().unwrap() as i32;
    let (mut keys, mut differ) = (0, 0);
    for row in vector["rows"].as_array().unwrap() {
        let lake = LakeFormat::parse(row["lake"].as_str().unwrap());
        let (kind, value) = key_of(row["type"].as_str().unwrap());
        let data_type = DataType::not_null(kind);
        let encoded = encode_key(&[value], &[&data_type], lake);
        let Some(key) = row["key_hex"].as_str() else {
            assert!(encoded.is_err(), "{row}");
            continue;
        };
        keys += 1;
        assert_eq!(encoded.unwrap(), unhex(key), "{row}");
        let bucket = |tail| bucket_of(&unhex(key), buckets, lake, tail).map(i64::from);
        assert_eq!(bucket(KeyTail::Unsigned), row["bucket_rust_client"].as_i64(), "{row}");
        if let Some(java) = row["bucket_java_class"].as_i64() {
            assert_eq!(bucket(KeyTail::Signed), Some(java), "{row}");
            differ += u32::from(bucket(KeyTail::Signed) != bucket(KeyTail::Unsigned));
        } else {
            assert_eq!(bucket(KeyTail::Signed), bucket(KeyTail::Unsigned), "{row}");
        }
    }
    assert_eq!((keys, differ), (76, 16));
}

#[test]
fn buckets_at_the_edges() {
    assert_eq!(bucket_of(&[0, 0, 1, 0], 1000, Some(LakeFormat::Hudi), KeyTail::Signed), Some(256));
    assert_eq!(bucket_of(&[0x80, 0, 1, 0], 1000, Some(LakeFormat::Hudi), KeyTail::Signed), Some(256));
    assert_eq!(bucket_of(&[0, 0, 1], 1000, Some(LakeFormat::Hudi), KeyTail::Signed), None);
    assert_eq!(bucket_of(&[1], 0, None, KeyTail::Signed), None);
    assert_eq!(bucket_of(&[1], 1, None, KeyTail::Signed), Some(0));
}

fn rows() -> impl Strategy<Value = (Vec<DataType>, Vec<Value>)> {
    (prop::collection::vec(any_type(3), 1..10), any::<u64>()).prop_map(|(types, seed)| {
        let mut numbers = common::Numbers(seed);
        let values = types.iter().map(|data_type| values::value(data_type, &mut numbers)).collect();
        (types, values)
    })
}

/// The bytes with something wrong.
fn damaged(bytes: &[u8], damage: &[(prop::sample::Index, u8)], cut: bool) -> Bytes {
    let mut bytes = bytes.to_vec();
    for (at, with) in damage {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = *with;
        }
    }
    if cut {
        bytes.pop();
    }
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rows_come_back(row in rows()) {
        let (types, values) = row;
        let compacted = Bytes::from(encode_compacted_row(&values, types.iter()).unwrap());
        prop_assert_eq!(&decode_compacted_row(&compacted, types.iter()).unwrap(), &values);
        let aligned = Bytes::from(encode_aligned_row(&values, types.iter()).unwrap());
        prop_assert_eq!(&decode_aligned_row(&aligned, types.iter()).unwrap(), &values);
        prop_assert_eq!(aligned.len() % 8, 0);
        let all: Vec<_> = types.iter().collect();
        let indexed = Bytes::from(encode_indexed_row(&values, &all).unwrap());
        prop_assert_eq!(&decode_indexed_row(&indexed, &all).unwrap(), &values);
        prop_assert!(decode_compacted_row(&compacted.slice(..compacted.len() - 1), types.iter()).is_err());
    }

    #[test]
    fn keys_come_back(row in rows()) {
        let (types, values) = row;
        if values.iter().all(|value| !value.is_null()) {
            let key = Bytes::from(encode_compacted_key(&values, types.iter()).unwrap());
            prop_assert_eq!(decode_compacted_key(&key, types.iter()).unwrap(), values);
        }
    }

    #[test]
    fn hostile_rows_never_panic(
        row in rows(), damage in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6), cut: bool, garbage in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (types, values) = row;
        let all: Vec<_> = types.iter().collect();
        let forms = [
            encode_compacted_row(&values, types.iter()).unwrap(),
            encode_aligned_row(&values, types.iter()).unwrap(),
            encode_indexed_row(&values, &all).unwrap(),
            garbage,
        ];
        for form in forms {
            let bytes = damaged(&form, &damage, cut);
            let _ = decode_compacted_row(&bytes, types.iter());
            let _ = decode_aligned_row(&bytes, types.iter());
            let _ = decode_indexed_row(&bytes, &all);
            let _ = decode_compacted_key(&bytes, types.iter());
            for data_type in &types {
                let _ = decode_array(&bytes, data_type);
                let _ = decode_map(&bytes, data_type, data_type);
            }
        }
    }

    #[test]
    fn kv_batches_come_back(records in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..9), prop::collection::vec(any::<u8>(), 0..9)), 0..9)) {
        let mut build = KvBatchBuilder::new(SchemaId(3));
        for (key, row) in &records {
            build.upsert(key, row);
        }
        let batch = KvBatch::read(&build.build()).unwrap();
        batch.validate().unwrap();
        let read: Vec<_> = batch.records().map(|record| record.unwrap()).collect();
        let expected: Vec<_> = records
            .into_iter()
            .map(|(key, row)| KvRecord { key: key.into(), row: (!row.is_empty()).then(|| row.into()) })
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn a_flipped_bit_of_a_kv_batch_is_refused(bit in any::<prop::sample::Index>()) {
        let mut bytes = hex("kv_nested_types.json", "batch_hex").to_vec();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = KvBatch::read(&bytes.into()).and_then(|batch| batch.validate());
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn hostile_kv_batches_never_panic(damage in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6), cut: bool) {
        for bytes in [hex("kv_nested_types.json", "batch_hex"), hex("limit_scan_kv.json", "value_record_batch_hex_served")] {
            let bytes = damaged(&bytes, &damage, cut);
            if let Ok(batch) = KvBatch::read(&bytes) {
                let _ = batch.validate();
                batch.records().for_each(drop);
            }
            if let Ok(values) = ValueRecords::new(&bytes) {
                values.for_each(drop);
            }
        }
    }
}

/// Pointers that share bytes would let a few bytes become a huge value.
#[test]
fn slots_that_share_bytes_are_refused() {
    let string = DataType::from(TypeKind::String);
    let mut bytes = encode_array(&[text("longer-than-7"), text("also-longer-than-7")], &string).unwrap();
    let first: [u8; 8] = bytes[8..16].try_into().unwrap();
    bytes[16..24].copy_from_slice(&first);
    let refused = decode_array(&bytes.into(), &string);
    assert_eq!(refused, Err(RowError::BadPointer { field: 1, offset: 24, end: 37, from: 37, to: 64 }));
}

#[test]
fn wrong_values_are_refused() {
    let not_null = DataType::not_null(TypeKind::Int);
    let refused = encode_compacted_row(&[Value::Null], [&not_null].into_iter()).unwrap_err();
    assert_eq!(refused.to_string(), "value is null, expected INTEGER");
    let char_2 = DataType::from(TypeKind::Char(2));
    assert_eq!(encode_indexed_row(&[text("abc")], &[&char_2]), Err(RowError::TooLong { max: 2, found: 3 }));
    assert_eq!(encode_compacted_row(&[], [&not_null].into_iter()), Err(RowError::Arity { expected: 1, found: 0 }));
}
