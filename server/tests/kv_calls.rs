//! Calls about rows: recorded requests get answers of the recorded shape, bad requests their code, and those change nothing.
#![cfg(not(madsim))]

mod support;

use bytes::{Buf, Bytes};
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::{KvBatch, KvBatchBuilder};
use floss_protocol::row::{Value, encode_compacted_key, encode_compacted_row};
use floss_protocol::rpc;
use floss_protocol::schema::{DataType, TypeKind};
use floss_raft::env::runtime::block_on;
use prost::Message;
use std::collections::BTreeSet;
use std::path::Path;
use support::{Client, Cluster};

async fn one_node() -> Cluster {
    let cluster = Cluster::start(1).await;
    cluster.healthy().await;
    cluster
}

/// `columns`: name and JSON type; the key columns come first.
fn table_json(columns: &[(&str, &str)], keys: usize, buckets: i32) -> String {
    let column = |(id, (name, kind)): (usize, &(&str, &str))| {
        let nullable = if id < keys { r#","nullable":false"# } else { "" };
        format!(r#"{{"data_type":{{"type":"{kind}"{nullable}}},"id":{id},"name":"{name}"}}"#)
    };
    let described: Vec<String> = columns.iter().enumerate().map(column).collect();
    let named: Vec<String> = columns[..keys].iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let (key, bucket_key) = if keys == 0 { (String::new(), String::new()) } else { (named.join(","), named[0].clone()) };
    let key = if keys == 0 { String::new() } else { format!(r#""primary_key":[{key}],"#) };
    format!(
        r#"{{"bucket_count":{buckets},"bucket_key":[{bucket_key}],"custom_properties":{{}},"partition_key":[],"properties":{{}},"schema":{{"columns":[{}],{key}"highest_field_id":{},"version":1}},"version":1}}"#,
        described.join(","),
        columns.len() - 1
    )
}

struct Line {
    name: &'static str,
    request: Vec<u8>,
    response: Vec<u8>,
    /// Of a request that failed as a whole.
    code: Option<i32>,
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

/// `FILE:LINE` of the recorded conversations.
#[allow(clippy::disallowed_methods)] // a test reads its vectors
fn line(name: &'static str) -> Line {
    let (file, number) = name.split_once(':').expect("FILE:LINE");
    let dir = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
        .join("../protocol/tests/vectors/conversations");
    let text = std::fs::read_to_string(dir.join(format!("{file}.jsonl"))).expect("conversation");
    let number: usize = number.parse().expect("a number");
    let value: serde_json::Value = serde_json::from_str(text.lines().nth(number - 1).expect("line")).expect("json");
    let bytes = |field: &str| from_hex(value[field].as_str().expect("hex"));
    let code = (value["response_type"] == 1).then(|| value["error_code"].as_i64().expect("code") as i32);
    Line { name, request: bytes("request_body_hex"), response: bytes("response_body_hex"), code }
}

/// Which fields a message has, as paths; `nested` are the paths of those that are messages.
fn shape(bytes: &[u8], nested: &[&str]) -> BTreeSet<String> {
    fn walk(mut bytes: &[u8], at: &str, nested: &[&str], found: &mut BTreeSet<String>) {
        while bytes.has_remaining() {
            let tag = prost::encoding::decode_varint(&mut bytes).expect("a tag");
            let path = format!("{at}{}", tag >> 3);
            match tag & 7 {
                0 => drop(prost::encoding::decode_varint(&mut bytes).expect("a number")),
                2 => {
                    let length = prost::encoding::decode_varint(&mut bytes).expect("a length") as usize;
                    // The recording masks letters of messages, and some of their lengths with them.
                    let length = length.min(bytes.len());
                    if nested.contains(&path.as_str()) {
                        walk(&bytes[..length], &format!("{path}."), nested, found);
                    }
                    bytes.advance(length);
                }
                other => panic!("wire type {other}"),
            }
            found.insert(path);
        }
    }
    let mut found = BTreeSet::new();
    walk(bytes, "", nested, &mut found);
    found
}

async fn same_shape(client: &mut Client, line: &Line, version: i16, body: &[u8], nested: &[&str]) {
    let key: i16 = line.name[..4].parse().expect("a key");
    let id = client.send_bytes(key, version, body).await;
    match (client.answer_bytes(id).await, line.code) {
        (Ok(answer), None) => assert_eq!(shape(&answer, nested), shape(&line.response, nested), "{}: {answer:?}", line.name),
        (Err(refused), Some(code)) => assert_eq!(refused.code, code, "{}: {}", line.name, refused.message),
        (answer, code) => panic!("{}: {answer:?}, recorded {code:?}", line.name),
    }
}

/// The same rows under no writer: the recorded one was in the middle of its sequence.
fn without_writer(records: &Bytes) -> Bytes {
    let batch = KvBatch::read(records).expect("recorded");
    let mut builder = KvBatchBuilder::new(batch.schema_id);
    for record in batch.records() {
        let record = record.expect("recorded");
        match record.row {
            Some(row) => builder.upsert(&record.key, &row),
            None => builder.delete(&record.key),
        };
    }
    builder.build()
}

const PUT: [&str; 1] = ["1"];
const LOOKUP: [&str; 2] = ["1", "1.5"];

/// The partitioned ones are left out: there are no partitions yet.
#[test]
fn recorded_puts_and_lookups_get_answers_of_the_same_shape() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        let text = [("id", "INTEGER"), ("name", "STRING")];
        let wide = [("id", "INTEGER"), ("a", "STRING"), ("b", "BIGINT"), ("c", "STRING"), ("d", "STRING"), ("e", "STRING")];
        client.create_table("text", &table_json(&text, 1, 2)).await.expect("create");
        client.create_table("wide", &table_json(&wide, 1, 1)).await.expect("create");
        client.create_table("number", &table_json(&[("id", "INTEGER"), ("v", "INTEGER")], 1, 1)).await.expect("create");
        // 1016-put_kv:6 was refused by a node that did not lead; a bucket that is not there is refused as well.
        let puts = [
            ("1016-put_kv:1", "wide", 0),
            ("1016-put_kv:3", "wide", 0),
            ("1016-put_kv:4", "number", 0),
            ("1016-put_kv:6", "text", 9),
        ];
        for (name, table, bucket) in puts {
            let line = line(name);
            let mut request = rpc::PutKvRequest::decode(&line.request[..]).expect("recorded");
            request.table_id = client.table_id(table).await;
            for put in &mut request.buckets_req {
                put.bucket_id = bucket;
                put.records = without_writer(&put.records);
            }
            same_shape(&mut client, &line, 2, &request.encode_to_vec(), &PUT).await;
        }
        let table_id = client.table_id("text").await;
        for bucket in 0..2 {
            let rows: Vec<(i32, Option<String>)> = (0..40).map(|id| (id, Some(format!("name_{id}")))).collect();
            assert_eq!(put_text(&mut client, table_id, bucket, &rows, &[]).await.error_code, None);
        }
        for (name, table) in
            [("1017-lookup:1", "number"), ("1017-lookup:3", "text"), ("1017-lookup:4", "text"), ("1017-lookup:8", "text")]
        {
            let line = line(name);
            let mut request = rpc::LookupRequest::decode(&line.request[..]).expect("recorded");
            request.table_id = client.table_id(table).await;
            if name == "1017-lookup:1" {
                request.buckets_req[0].keys = vec![vec![77].into()];
            }
            same_shape(&mut client, &line, 1, &request.encode_to_vec(), &LOOKUP).await;
        }
        cluster.stop().await;
    });
}

#[test]
fn recorded_scans_and_snapshot_calls_get_answers_of_the_same_shape() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client
            .create_table("pairs", &table_json(&[("a", "INTEGER"), ("b", "STRING"), ("v", "INTEGER")], 2, 1))
            .await
            .expect("create");
        client.create_table("k", &table_json(&[("id", "INTEGER"), ("v", "INTEGER")], 1, 2)).await.expect("create");
        client.create_table("l", &table_json(&[("id", "INTEGER")], 0, 1)).await.expect("create");
        let types = [DataType::not_null(TypeKind::Int), DataType::not_null(TypeKind::String), TypeKind::Int.into()];
        let mut batch = KvBatchBuilder::new(SchemaId(1));
        for number in 1..5 {
            let row = [Value::Int(1), Value::Text(format!("b{number}")), Value::Int(number)];
            let key = encode_compacted_key(&row[..2], types[..2].iter()).expect("a key");
            batch.upsert(&key, &encode_compacted_row(&row, types.iter()).expect("a row"));
        }
        let pairs = client.table_id("pairs").await;
        assert_eq!(put(&mut client, pairs, 0, batch.build(), &[]).await.error_code, None);
        for (name, prefix) in [("1034-prefix_lookup:1", 9), ("1034-prefix_lookup:4", 1)] {
            let line = line(name);
            let mut request = rpc::PrefixLookupRequest::decode(&line.request[..]).expect("recorded");
            request.table_id = pairs;
            request.buckets_req[0].bucket_id = 0;
            request.buckets_req[0].keys = vec![vec![prefix].into()];
            let recorded_bucket = rpc::PrefixLookupResponse::decode(&line.response[..]).expect("recorded").buckets_resp.len();
            assert_eq!(recorded_bucket, 1);
            same_shape(&mut client, &line, 1, &request.encode_to_vec(), &LOOKUP).await;
        }
        for (name, table) in [("1033-limit_scan:1", "l"), ("1033-limit_scan:2", "pairs")] {
            let line = line(name);
            let mut request = rpc::LimitScanRequest::decode(&line.request[..]).expect("recorded");
            request.table_id = client.table_id(table).await;
            same_shape(&mut client, &line, 0, &request.encode_to_vec(), &[]).await;
        }
        for (name, table) in [("1023-get_latest_kv_snapshots:1", "k"), ("1023-get_latest_kv_snapshots:3", "l")] {
            let line = line(name);
            let mut request = rpc::GetLatestKvSnapshotsRequest::decode(&line.request[..]).expect("recorded");
            request.table_path = support::path(table);
            same_shape(&mut client, &line, 0, &request.encode_to_vec(), &["3"]).await;
        }
        let line = line("1024-get_kv_snapshot_metadata:1");
        let mut request = rpc::GetKvSnapshotMetadataRequest::decode(&line.request[..]).expect("recorded");
        request.table_id = client.table_id("k").await;
        same_shape(&mut client, &line, 0, &request.encode_to_vec(), &[]).await;
        cluster.stop().await;
    });
}

async fn put(client: &mut Client, table_id: i64, bucket_id: i32, records: Bytes, columns: &[i32]) -> rpc::PbPutKvRespForBucket {
    let request = rpc::PutKvRequest {
        acks: -1,
        table_id,
        timeout_ms: 10_000,
        target_columns: columns.to_vec(),
        buckets_req: vec![rpc::PbPutKvReqForBucket { bucket_id, records, ..Default::default() }],
        ..Default::default()
    };
    let response: rpc::PutKvResponse = client.call(1016, &request).await.expect("answer");
    response.buckets_resp[0].clone()
}

fn text_batch(rows: &[(i32, Option<String>)]) -> Bytes {
    let types = [DataType::not_null(TypeKind::Int), TypeKind::String.into()];
    let mut batch = KvBatchBuilder::new(SchemaId(1));
    for (id, name) in rows {
        let key = encode_compacted_key(&[Value::Int(*id)], types[..1].iter()).expect("a key");
        match name {
            Some(name) => {
                let row = [Value::Int(*id), Value::Text(name.clone())];
                batch.upsert(&key, &encode_compacted_row(&row, types.iter()).expect("a row"))
            }
            None => batch.delete(&key),
        };
    }
    batch.build()
}

async fn put_text(
    client: &mut Client,
    table_id: i64,
    bucket: i32,
    rows: &[(i32, Option<String>)],
    columns: &[i32],
) -> rpc::PbPutKvRespForBucket {
    put(client, table_id, bucket, text_batch(rows), columns).await
}

fn damaged(mut bytes: Vec<u8>, at_from_end: usize) -> Bytes {
    let at = bytes.len() - at_from_end;
    bytes[at] ^= 0x55;
    bytes.into()
}

/// One record with this key and row, in this schema.
fn one_row(schema: i16, key: &[u8], row: &[u8]) -> Bytes {
    KvBatchBuilder::new(SchemaId(schema)).upsert(key, row).build()
}

/// What the bucket holds: its rows, its log end.
async fn state(client: &mut Client, table_id: i64) -> (Option<Bytes>, i64) {
    let scan = rpc::LimitScanRequest { table_id, bucket_id: 0, limit: 100, ..Default::default() };
    let rows: rpc::LimitScanResponse = client.call(1033, &scan).await.expect("scan");
    let fetched = client.fetch(&support::fetch_request(table_id, 0, 0)).await;
    (rows.records, fetched.high_watermark.expect("a high watermark"))
}

#[test]
fn bad_puts_get_their_code_and_change_nothing() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        let columns = [("id", "INTEGER"), ("name", "STRING")];
        client.create_table("rows", &table_json(&columns, 1, 1)).await.expect("create");
        let kept =
            table_json(&columns, 1, 1).replace(r#""properties":{}"#, r#""properties":{"table.delete.behavior":"disable"}"#);
        client.create_table("kept", &kept).await.expect("create");
        let (rows, kept) = (client.table_id("rows").await, client.table_id("kept").await);
        for table in [rows, kept] {
            let first = put_text(&mut client, table, 0, &[(1, Some("a".to_owned())), (2, Some("b".to_owned()))], &[]).await;
            assert_eq!((first.error_code, first.log_end_offset), (None, Some(2)));
        }
        let good = text_batch(&[(3, Some("c".to_owned()))]);
        let huge = text_batch(&[(3, Some("x".repeat(65 << 20)))]);
        // Row: null bits, id 3, "c".
        let row = [0, 3, 1, b'c'];
        let cases: Vec<(&str, i64, Bytes, &[i32], i32)> = vec![
            ("no batch", rows, Bytes::from_static(b"no batch"), &[], 14),
            ("a broken row", rows, damaged(good.to_vec(), 1), &[], 14),
            ("a broken header", rows, damaged(good.to_vec(), good.len() - 12), &[], 14),
            ("half a batch", rows, good.slice(..good.len() - 3), &[], 14),
            ("an unknown schema", rows, one_row(7, &[3], &row), &[], 9),
            ("schema 0", rows, one_row(0, &[3], &row), &[], 9),
            ("the key of another row", rows, one_row(1, &[4], &row), &[], -1),
            ("an empty key", rows, one_row(1, &[], &row), &[], 14),
            ("a row that ends early", rows, one_row(1, &[3], &row[..2]), &[], -1),
            ("a row with too much", rows, one_row(1, &[3], &[0, 3, 1, b'c', 9]), &[], -1),
            ("text that is none", rows, one_row(1, &[3], &[0, 3, 1, 0xff]), &[], -1),
            ("a column out of range", rows, good.clone(), &[0, 2], 35),
            ("a negative column", rows, good.clone(), &[0, -1], 35),
            ("target columns without the key", rows, good.clone(), &[1], 35),
            ("a batch that is too large", rows, huge, &[], 13),
            ("a delete where none is allowed", kept, text_batch(&[(1, None)]), &[], 57),
            ("a good row before a bad one", kept, text_batch(&[(3, Some("c".to_owned())), (1, None)]), &[], 57),
        ];
        for (what, table, records, columns, code) in cases {
            let before = state(&mut client, table).await;
            let answer = put(&mut client, table, 0, records, columns).await;
            assert_eq!(answer.error_code, Some(code), "{what}: {:?}", answer.error_message);
            assert_eq!(answer.log_end_offset, None, "{what}");
            assert_eq!(state(&mut client, table).await, before, "{what} changed something");
        }
        for (what, bucket_id, code) in [("a bucket that is not there", 5, 21), ("a negative bucket", -1, 21)] {
            assert_eq!(put(&mut client, rows, bucket_id, good.clone(), &[]).await.error_code, Some(code), "{what}");
        }
        assert_eq!(put(&mut client, rows, 0, good, &[]).await.log_end_offset, Some(3), "the bucket still works");
        cluster.stop().await;
    });
}
