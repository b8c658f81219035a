//! Reads the golden vectors.

#![allow(dead_code)] // each test binary uses its own part

use bytes::Bytes;
use serde_json::Value;
use std::path::PathBuf;

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests")).join("tests/vectors").join(name)
}

pub fn json(name: &str) -> Value {
    let path = path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

pub fn unhex(text: &str) -> Bytes {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect::<Vec<_>>().into()
}

/// The bytes of the hex string `key` of vector `name`.
pub fn hex(name: &str, key: &str) -> Bytes {
    unhex(json(name)[key].as_str().unwrap_or_else(|| panic!("{name} has no text at {key}")))
}

/// Every `records` of the vectors that holds log batches of log format ARROW.
pub fn arrow_records() -> Vec<(&'static str, Bytes)> {
    let batch =
        ["log_arrow_none", "log_arrow_lz4", "log_arrow_zstd", "log_arrow_lz4_big", "log_arrow_zstd_big", "log_arrow_stats_v1"];
    let mut all: Vec<_> = batch.into_iter().map(|name| (name, hex(&format!("{name}.json"), "batch_hex"))).collect();
    all.push(("fetch_log_v2_batch", hex("fetch_log_v2_batch.json", "served_batch_hex")));
    all
}

/// Every JSON object found inside the recorded requests and answers, with the file that holds it.
pub fn conversation_json() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(path("conversations")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            for key in ["request_body_hex", "response_body_hex"] {
                let body = unhex(line[key].as_str().unwrap());
                let mut at = 0;
                while let Some(start) = body[at..].windows(2).position(|two| two == b"{\"").map(|start| at + start) {
                    let mut stream = serde_json::Deserializer::from_slice(&body[start..]).into_iter::<Value>();
                    let value = stream.next().unwrap().unwrap_or_else(|error| panic!("{name}: {error}"));
                    at = start + stream.byte_offset();
                    found.push((name.clone(), value));
                }
            }
        }
    }
    found
}

/// Data types of every kind, nested up to `depth`.
pub fn any_type(depth: u32) -> impl proptest::strategy::Strategy<Value = floss_protocol::schema::DataType> {
    use floss_protocol::schema::{DataType, RowField, TypeKind};
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(TypeKind::Boolean),
        Just(TypeKind::TinyInt),
        Just(TypeKind::SmallInt),
        Just(TypeKind::Int),
        Just(TypeKind::BigInt),
        Just(TypeKind::Float),
        Just(TypeKind::Double),
        (1u32..20).prop_map(TypeKind::Char),
        Just(TypeKind::String),
        (1u32..20).prop_map(TypeKind::Binary),
        Just(TypeKind::Bytes),
        (1u8..=38)
            .prop_flat_map(|precision| (Just(precision), 0..=precision))
            .prop_map(|(precision, scale)| TypeKind::Decimal { precision, scale }),
        Just(TypeKind::Date),
        (0u8..=9).prop_map(TypeKind::Time),
        (0u8..=9).prop_map(TypeKind::Timestamp),
        (0u8..=9).prop_map(TypeKind::TimestampLtz),
    ];
    let typed = |kind: BoxedStrategy<TypeKind>| (kind, any::<bool>()).prop_map(|(kind, nullable)| DataType { kind, nullable });
    typed(leaf.boxed()).prop_recursive(depth, 16, 4, move |inner| {
        let row = prop::collection::vec(inner.clone(), 1..4).prop_map(|types| {
            let field = |(index, data_type)| RowField { name: format!("f{index}"), data_type, description: None, field_id: None };
            TypeKind::Row(types.into_iter().enumerate().map(field).collect())
        });
        let map = (inner.clone(), inner.clone())
            .prop_map(|(key, value)| TypeKind::Map(Box::new(DataType { nullable: false, ..key }), Box::new(value)));
        typed(prop_oneof![inner.prop_map(|element| TypeKind::Array(Box::new(element))), map, row].boxed())
    })
}

/// A cheap stream of numbers.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 17
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
