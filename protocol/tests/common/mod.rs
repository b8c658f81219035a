//! Reads the golden vectors.

#![allow(dead_code)] // each test binary uses its own part

use bytes::Bytes;
use serde_json::Value;
use std::path::PathBuf;

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
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
