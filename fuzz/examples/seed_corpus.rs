//! Writes the first inputs of every target into `corpus/`: from the golden vectors of the protocol crate, and from our own encoders.
//!
//! Run it again when vectors are added: `cargo run -p floss-fuzz --example seed_corpus`. It removes nothing: inputs that were found
//! by fuzzing lie beside these.
#![allow(clippy::disallowed_methods)] // writes files of the repository

use bytes::Bytes;
use floss_fuzz::journal::sample_file;
use floss_protocol::ids::SchemaId;
use floss_protocol::log_batch::{ChangeType, LogBatchBuilder, Magic};
use floss_tablet::command::Command;
use floss_tablet::prepare::{Lead, Prepared};
use floss_tablet::tablet::{LogTablet, TabletConfig};
use std::path::{Path, PathBuf};

/// Messages per call and direction, the smallest first.
const MESSAGES_MAX: usize = 4;

fn main() {
    messages();
    let batches = batches();
    for (name, records) in &batches {
        put("log_batch", name, records);
        for schema in 0..2_u8 {
            put("projection", &format!("{name}-s{schema}"), &[&[schema, 0b0101], &records[..]].concat());
        }
        put("append", &format!("{name}-arrow"), &[&[0], &records[..]].concat());
    }
    let rows = [(ChangeType::AppendOnly, b"one".as_slice()), (ChangeType::Insert, b"".as_slice())];
    let rows = LogBatchBuilder { writer_id: 5, batch_sequence: 0, ..LogBatchBuilder::rows(SchemaId(1), rows) };
    let v2 = LogBatchBuilder { magic: Magic::V2, batch_sequence: 1, ..rows.clone() };
    let two = [rows.build(), v2.build()].concat();
    put("log_batch", "rows-two", &two);
    put("append", "rows-two-compacted", &[&[2], &two[..]].concat());
    let damaged = LogBatchBuilder { records: Bytes::from_static(b"\x09\0\0\0\x01cut"), ..rows };
    put("append", "rows-cut-indexed", &[&[1], &damaged.build()[..]].concat());
    frames();
    descriptors();
    tablet(&two);
    for (at, script) in
        [&b""[..], &[3, 1, 2, 40, 60, 2, 0, 9], &[11, 0, 2, 255, 255, 255, 1, 2, 200, 200, 200]].into_iter().enumerate()
    {
        put("journal_recovery", &format!("script-{at}"), script);
        put("journal_file", &format!("file-{at}"), &sample_file(script));
    }
}

fn put(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests")).join("corpus").join(target);
    std::fs::create_dir_all(&dir).expect("the repository can be written");
    std::fs::write(dir.join(name), bytes).expect("the repository can be written");
}

fn vectors(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .join("../protocol/tests/vectors")
        .join(dir);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("the directory can be listed").path()).collect();
    paths.sort();
    paths
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).expect("vectors are in hex")).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// Whole requests, alone and three in a row, cut in odd places.
fn frames() {
    let mut stream = Vec::new();
    for path in vectors("").into_iter().filter(|path| path.to_string_lossy().contains("/frame_")) {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("listed a moment ago");
        let vector: serde_json::Value = serde_json::from_str(&text).expect("vectors are JSON");
        let Some(frame) = vector["frame_hex"].as_str().map(hex) else { continue };
        put("frame", &name, &[&[1, 6, 0], &frame[..]].concat());
        stream.extend(frame);
    }
    put("frame", "stream", &[&[3, 3, 0, 40, 0, 100, 0], &stream[..]].concat());
    put("frame", "error-response", &[0, 0, 0, 0, 7, 1, 0, 0, 0, 9, 8, 1]);
    put("frame", "too-long", &[0, 0x7f, 0xff, 0xff, 0xff, 0, 0]);
}

fn messages() {
    for path in vectors("conversations") {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let key: i16 = name[..4].parse().expect("the name starts with the key");
        let text = std::fs::read_to_string(&path).expect("listed a moment ago");
        let (mut requests, mut responses) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let message: serde_json::Value = serde_json::from_str(line).expect("one object a line");
            let version = message["version"].as_i64().expect("a number") as i16;
            let body = |field: &str| hex(message[field].as_str().expect("a string"));
            requests.push([&key.to_be_bytes()[..], &version.to_be_bytes(), &body("request_body_hex")].concat());
            if message["response_type"] == 0 {
                responses.push([&key.to_be_bytes()[..], &body("response_body_hex")].concat());
            }
        }
        for (target, mut inputs) in [("request", requests), ("response", responses)] {
            inputs.sort_by_key(|input| (input.len(), input.clone()));
            inputs.dedup();
            for (at, input) in inputs.iter().take(MESSAGES_MAX).enumerate() {
                put(target, &format!("{name}-{at}"), input);
            }
        }
    }
}

/// Everything named `...batch...hex` in the vectors about log batches.
fn batches() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for path in vectors("") {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        if !(name.starts_with("log_arrow") || name.starts_with("fetch_log")) || path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("listed a moment ago");
        let vector: serde_json::Value = serde_json::from_str(&text).expect("vectors are JSON");
        let fields = vector.as_object().expect("an object").iter();
        let wanted = fields.filter(|(field, _)| field.contains("batch") || field.contains("records"));
        found.extend(wanted.filter_map(|(field, value)| Some((format!("{name}-{field}"), hex(value.as_str()?)))));
    }
    assert!(found.len() >= 8, "only {} batches in the vectors", found.len());
    found
}

fn descriptors() {
    for path in vectors("conversations").into_iter().filter(|path| path.to_string_lossy().contains("1005-create_table")) {
        let text = std::fs::read_to_string(&path).expect("listed a moment ago");
        for (at, line) in text.lines().enumerate() {
            let message: serde_json::Value = serde_json::from_str(line).expect("one object a line");
            let body = hex(message["request_body_hex"].as_str().expect("a string"));
            let from = body.iter().position(|byte| *byte == b'{');
            let to = body.iter().rposition(|byte| *byte == b'}');
            if let (Some(from), Some(to)) = (from, to) {
                put("descriptor", &format!("table-{at}"), &body[from..=to]);
            }
        }
    }
    put("descriptor", "database", br#"{"version":1,"comment":"c","custom_properties":{"a":"b"}}"#);
}

fn tablet(records: &[u8]) {
    let log_format = floss_protocol::schema::LogFormat::Compacted;
    let config = TabletConfig { latest_schema_id: 3, batch_bytes_max: 1 << 20, log_format, log_ttl_ms: None };
    let mut tablet = LogTablet::new(config);
    put("tablet_snapshot", "empty", &tablet.snapshot());
    let prepared = Lead::new(&tablet, 2).prepare_append(&tablet, Bytes::copy_from_slice(records), 1_000);
    let Ok(Prepared::Propose { entry, .. }) = prepared else { panic!("{prepared:?}") };
    put("command", "append", &entry);
    tablet.apply(2, 3, Some(&Command::decode(&entry).expect("we encoded it")));
    put("tablet_snapshot", "two-batches", &tablet.snapshot());
    let trim = Command::Trim { decided_term: 2, log_start: 3 };
    tablet.apply(2, 4, Some(&trim));
    put("command", "trim", &trim.encode());
    put("tablet_snapshot", "trimmed", &tablet.snapshot());
    put("command", "expire", &Command::ExpireWriters { decided_term: 2, before_ms: 9 }.encode());
}
