//! Batches that real clients and a real server exchanged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use bytes::Bytes;
use floss_protocol::kv_batch::{KvBatch, ValueRecords, split_value};
use floss_protocol::log_batch::{LogBatch, LogBatches};
use floss_protocol::rpc::*;
use prost::Message;
use serde_json::Value;
use std::collections::BTreeMap;

/// Client, request and answer of every successful exchange.
fn exchanges(file: &str) -> Vec<(String, Bytes, Bytes)> {
    let text = std::fs::read_to_string(common::path("conversations").join(file)).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let part = |line: &Value, key: &str| common::unhex(line[key].as_str().unwrap());
    lines
        .filter(|line| line["response_type"] == 0)
        .map(|line| {
            let client = line["client"].as_str().unwrap().to_owned();
            (client, part(&line, "request_body_hex"), part(&line, "response_body_hex"))
        })
        .collect()
}

/// Valid batches of one `records`; empty ones are none.
fn valid(records: &Bytes, what: &str) -> Vec<LogBatch> {
    let batches: Vec<_> =
        LogBatches::new(records.clone()).collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{what}: {error}"));
    for batch in &batches {
        batch.validate().unwrap_or_else(|error| panic!("{what}: {error}"));
        batch.validate_change_types().unwrap();
    }
    batches
}

#[test]
fn produced_batches_of_every_client() {
    let mut seen = BTreeMap::new();
    for (client, request, _) in exchanges("1014-produce_log.jsonl") {
        for bucket in ProduceLogRequest::decode(request).unwrap().buckets_req {
            let batches = valid(&bucket.records, &client);
            assert!(batches.iter().all(|batch| batch.is_append_only() && batch.record_count > 0), "{client}");
            *seen.entry(client.clone()).or_insert(0) += batches.len();
        }
    }
    println!("{seen:?}");
    assert!(seen.len() >= 2, "{seen:?}");
}

#[test]
fn fetched_batches_are_stamped_and_dense() {
    let mut seen = 0;
    for (client, _, answer) in exchanges("1015-fetch_log.jsonl") {
        // Where letters of error messages were masked, so was a length byte that looks like a letter; such answers hold no records.
        let Ok(answer) = FetchLogResponse::decode(answer) else { continue };
        for bucket in answer.tables_resp.into_iter().flat_map(|table| table.buckets_resp) {
            let records = bucket.records.unwrap_or_default();
            let mut next = None;
            for batch in LogBatches::new(records.clone()).map_while(Result::ok) {
                assert_eq!(next.unwrap_or(batch.base_offset), batch.base_offset, "{client}");
                assert!(batch.commit_timestamp_ms > 0, "{client}");
                next = Some(batch.end_offset());
                seen += 1;
            }
        }
    }
    println!("{seen} batches");
    assert!(seen > 0);
}

#[test]
fn put_batches_and_scanned_values() {
    let (mut puts, mut values) = (BTreeMap::new(), 0);
    for (client, request, _) in exchanges("1016-put_kv.jsonl") {
        for bucket in PutKvRequest::decode(request).unwrap().buckets_req {
            let batch = KvBatch::read(&bucket.records).unwrap();
            batch.validate().unwrap_or_else(|error| panic!("{client}: {error}"));
            *puts.entry(client.clone()).or_insert(0) += batch.records().count();
        }
    }
    for (client, _, answer) in exchanges("1033-limit_scan.jsonl") {
        let answer = LimitScanResponse::decode(answer).unwrap();
        let records = answer.records.unwrap_or_default();
        if answer.is_log_table == Some(false) && !records.is_empty() {
            values += ValueRecords::new(&records).unwrap_or_else(|error| panic!("{client}: {error}")).map(Result::unwrap).count();
        } else if answer.is_log_table == Some(true) {
            valid(&records, &client);
        }
    }
    for (_, _, answer) in exchanges("1017-lookup.jsonl") {
        for value in LookupResponse::decode(answer).unwrap().buckets_resp.into_iter().flat_map(|bucket| bucket.values) {
            if let Some(value) = value.values {
                split_value(&value).unwrap();
                values += 1;
            }
        }
    }
    println!("{puts:?} {values}");
    assert!(!puts.is_empty() && values > 0);
}
