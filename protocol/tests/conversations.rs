//! Recorded conversations between released clients and Apache Fluss: every body decodes and encodes to the same bytes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use bytes::{Buf, Bytes};
use floss_protocol::api::ApiKey;
use floss_protocol::error_code::ErrorCode;
use floss_protocol::rpc::{ErrorResponse, decode_request, decode_response};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// The Java side writes an empty packed list as a field of no bytes; prost leaves it out. Both mean the same. A path is
/// the API, `>` for a request or `<` for a response, and the field numbers from the body inwards. Nothing else may differ.
const EMPTY_LISTS_OF_JAVA: &[&str] = &["FetchLog>.3.3", "GetMetadata>.3", "GetTableStats>.3", "PutKv>.4"];

/// Line, position in the response body, true byte. The recording replaced every letter of an error message by `x`, and
/// took the length byte in front of some messages for a letter too: those say 120 whatever the text is and do not parse.
/// The test puts the true length back (the rest of the enclosing message), so these lines are no evidence for that one byte.
const MASKED_LENGTHS: &[(&str, usize, u8)] = &[
    ("1005-create_table.jsonl:5", 3, b'h'),
    ("1012-get_metadata.jsonl:5", 3, b'N'),
    ("1012-get_metadata.jsonl:6", 3, b'O'),
    ("1015-fetch_log.jsonl:5", 11, b'H'),
    ("1015-fetch_log.jsonl:6", 11, b'I'),
    ("1015-fetch_log.jsonl:7", 13, b'Y'),
    ("1015-fetch_log.jsonl:8", 11, b'I'),
    ("1015-fetch_log.jsonl:9", 25, b'X'),
    ("1015-fetch_log.jsonl:10", 11, b'G'),
    ("1016-put_kv.jsonl:6", 7, b'H'),
    ("1016-put_kv.jsonl:7", 9, b'W'),
    ("1016-put_kv.jsonl:8", 17, b'X'),
    ("1016-put_kv.jsonl:9", 19, b'O'),
    ("1021-list_offsets.jsonl:8", 7, b'H'),
    ("1021-list_offsets.jsonl:9", 7, b'Y'),
    ("1023-get_latest_kv_snapshots.jsonl:3", 3, b'O'),
    ("1032-get_lake_snapshot.jsonl:1", 3, b'A'),
    ("1032-get_lake_snapshot.jsonl:2", 3, b'J'),
    ("1032-get_lake_snapshot.jsonl:3", 3, b'Q'),
    ("1036-create_partition.jsonl:4", 3, b'g'),
    ("1044-alter_table.jsonl:6", 12, b'O'),
    ("1044-alter_table.jsonl:7", 3, b'I'),
];

struct Line {
    name: String,
    key: ApiKey,
    version: i16,
    response_type: i64,
    error_code: Option<i32>,
    request: Bytes,
    response: Bytes,
}

fn lines() -> Vec<Line> {
    let mut files: Vec<_> = std::fs::read_dir(common::path("conversations")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let key = ApiKey::from_key(name[..4].parse().unwrap()).unwrap();
        for (number, text) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            lines.push(Line {
                name: format!("{name}:{}", number + 1),
                key,
                version: value["version"].as_i64().unwrap().try_into().unwrap(),
                response_type: value["response_type"].as_i64().unwrap(),
                error_code: value["error_code"].as_i64().map(|code| code.try_into().unwrap()),
                request: common::unhex(value["request_body_hex"].as_str().unwrap()),
                response: common::unhex(value["response_body_hex"].as_str().unwrap()),
            });
        }
    }
    lines
}

/// One field of an encoded message: its key and, for a length-delimited one, its content.
struct Field {
    key: u64,
    whole: Bytes,
    content: Option<Bytes>,
}

fn varint(bytes: &mut Bytes) -> Option<u64> {
    prost::encoding::decode_varint(bytes).ok()
}

/// `None` when the bytes are no message.
fn fields(mut bytes: Bytes) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while bytes.has_remaining() {
        let start = bytes.clone();
        let key = varint(&mut bytes)?;
        let content = match key & 7 {
            0 => varint(&mut bytes).map(|_| None)?,
            1 => bytes.try_get_u64().ok().map(|_| None)?,
            2 => {
                let length = varint(&mut bytes)? as usize;
                (length <= bytes.len()).then(|| Some(bytes.split_to(length)))?
            }
            5 => bytes.try_get_u32().ok().map(|_| None)?,
            _ => return None,
        };
        fields.push(Field { key, whole: start.slice(..start.len() - bytes.len()), content });
    }
    Some(fields)
}

/// Compares an encoding with the recorded one. Empty length-delimited fields that are recorded and not in ours go into
/// `dropped`, as paths. Any other difference panics.
fn compare(path: &str, recorded: Bytes, ours: Bytes, dropped: &mut BTreeSet<String>) {
    if recorded == ours {
        return;
    }
    let differ = || panic!("{path}: recorded {recorded:02x?}, ours {ours:02x?}");
    let (Some(recorded), Some(ours)) = (fields(recorded.clone()), fields(ours.clone())) else { differ() };
    let mut ours = ours.into_iter().peekable();
    for field in recorded {
        let inner = format!("{path}.{}", field.key >> 3);
        let empty = field.content.as_ref().is_some_and(Bytes::is_empty);
        match ours.next_if(|our| our.key == field.key) {
            Some(our) if our.whole == field.whole => {}
            Some(our) => match (field.content, our.content) {
                (Some(recorded), Some(ours)) => compare(&inner, recorded, ours, dropped),
                _ => differ(),
            },
            None if empty => drop(dropped.insert(inner)),
            None => differ(),
        }
    }
    if ours.next().is_some() {
        differ();
    }
}

/// Puts masked lengths back; says how many.
fn unmask_lengths(name: &str, body: &Bytes) -> (Bytes, usize) {
    let mut body = body.to_vec();
    let masked = MASKED_LENGTHS.iter().filter(|(line, _, _)| *line == name);
    let count = masked.clone().count();
    for (_, position, length) in masked {
        assert_eq!(body[*position], b'x', "{name} is not masked");
        assert!(length.is_ascii_alphabetic(), "{name}: only letters were masked");
        body[*position] = *length;
    }
    (body.into(), count)
}

#[test]
fn every_recorded_body_encodes_back_to_its_bytes() {
    let mut checked: BTreeMap<ApiKey, usize> = BTreeMap::new();
    let mut dropped = BTreeSet::new();
    let mut unmasked = 0;
    for line in lines() {
        let request = decode_request(line.key.key(), line.version, line.request.clone())
            .unwrap_or_else(|error| panic!("{}: request: {error}", line.name));
        compare(&format!("{}>", line.key.name()), line.request, request.encode_to_vec().into(), &mut dropped);
        let path = format!("{}<", line.key.name());
        let (recorded, lengths) = unmask_lengths(&line.name, &line.response);
        unmasked += lengths;
        match line.response_type {
            0 => {
                let response = decode_response(line.key, recorded.clone())
                    .unwrap_or_else(|error| panic!("{}: response: {error}", line.name))
                    .unwrap();
                compare(&path, recorded, response.encode_to_vec().into(), &mut dropped);
            }
            1 => {
                let error = ErrorResponse::decode(recorded.clone()).unwrap_or_else(|error| panic!("{}: {error}", line.name));
                assert_eq!(line.error_code, Some(error.error_code), "{}", line.name);
                assert!(ErrorCode::from_code(error.error_code).is_some(), "{}: {error}", line.name);
                compare(&path, recorded, error.encode_to_vec().into(), &mut dropped);
            }
            other => panic!("{}: response_type={other}", line.name),
        }
        *checked.entry(line.key).or_default() += 1;
    }
    println!("{} lines of {} apis: {checked:?}", checked.values().sum::<usize>(), checked.len());
    assert_eq!(dropped.iter().map(String::as_str).collect::<Vec<_>>(), EMPTY_LISTS_OF_JAVA);
    assert_eq!(unmasked, MASKED_LENGTHS.len());
    // The recording has no conversation for five of the 55 calls with messages.
    let silent: Vec<_> = ApiKey::ALL.iter().filter(|key| key.versions().is_some() && !checked.contains_key(key)).collect();
    use ApiKey::*;
    let expected = [CommitLakeTableSnapshot, LakeTieringHeartbeat, PrepareLakeTableSnapshot, ReleaseKvSnapshotLease, ScanKv];
    assert_eq!(silent, expected.iter().collect::<Vec<_>>());
    assert!(checked.values().all(|lines| *lines > 0));
    assert_eq!((checked.len(), checked.values().sum::<usize>()), (50, 152));
}
