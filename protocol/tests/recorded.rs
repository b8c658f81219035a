//! Batches that real clients and a real server exchanged.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

#[allow(dead_code)]
#[path = "common/arrow.rs"]
mod arrow;
mod common;

use bytes::Bytes;
use floss_protocol::kv_batch::{KvBatch, ValueRecords, split_value};
use floss_protocol::log_batch::{LogBatch, LogBatches};
use floss_protocol::project::{ArrowLayout, ProjectionPlan};
use floss_protocol::rpc::*;
use floss_protocol::schema::{Column, Schema, TypeKind};
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

/// What the Java client writes is laid out otherwise (validity always there, 8-byte padding, other field order in the metadata).
#[test]
fn a_java_batch_is_projected() {
    let columns = [("id", TypeKind::BigInt), ("name", TypeKind::String), ("extra", TypeKind::Int)];
    let schema = |count: usize| {
        let columns = columns.iter().take(count).map(|(name, kind)| Column::new(*name, kind.clone()));
        Schema::new(columns.collect()).unwrap()
    };
    let mut projected = 0;
    for (_, request, _) in exchanges("1014-produce_log.jsonl").into_iter().filter(|(client, ..)| client == "java") {
        for bucket in ProduceLogRequest::decode(request).unwrap().buckets_req {
            for batch in valid(&bucket.records, "java") {
                let schema = schema(if batch.schema_id.0 == 1 { 2 } else { 3 });
                ArrowLayout::new(&schema).check(&batch).unwrap();
                let whole = arrow::decode(&batch, arrow::arrow_schema(&schema));
                for field in 0..schema.columns().len() {
                    let plan = ProjectionPlan::new(&schema, &schema, &[field as i32]).unwrap();
                    let pieces = plan.project(&batch).unwrap().pieces.concat();
                    let one = LogBatch::read(&pieces.into(), 0).unwrap();
                    let wanted = whole.project(&[field]).unwrap();
                    assert_eq!(arrow::decode(&one, wanted.schema()), wanted);
                    projected += 1;
                }
            }
        }
    }
    assert!(projected > 0);
}
