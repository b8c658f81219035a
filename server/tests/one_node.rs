//! One node, end to end over a socket: create, append, repeat, fetch, wait, list, scan, mistakes.
#![cfg(not(madsim))]

mod support;

use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::KvBatchBuilder;
use floss_protocol::log_batch::LogBatchBuilder;
use floss_protocol::row::{Value, encode_compacted_key, encode_compacted_row};
use floss_protocol::rpc;
use floss_protocol::schema::{DataType, TypeKind};
use floss_raft::env::runtime::block_on;
use floss_raft::env::runtime::time::Instant;
use std::time::Duration;
use support::{Cluster, arrow_batch, batches, fetch_request, log_table, path, produce_request};

async fn one_node() -> Cluster {
    let cluster = Cluster::start(1).await;
    cluster.healthy().await;
    cluster
}

#[test]
fn appends_come_back_and_duplicates_do_not() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        let writer: rpc::InitWriterResponse = client.call(1026, &rpc::InitWriterRequest::default()).await.expect("writer");
        for (sequence, base) in [(0, 0), (1, 3), (0, 0), (2, 6), (1, 3)] {
            let answer = client.produce(table, 0, arrow_batch(writer.writer_id, sequence)).await;
            assert_eq!((answer.error_code, answer.base_offset), (None, Some(base)), "sequence {sequence}");
        }
        let gap = client.produce(table, 0, arrow_batch(writer.writer_id, 7)).await;
        assert_eq!(gap.error_code, Some(31));

        let fetched = client.fetch(&fetch_request(table, 0, -2)).await;
        assert_eq!((fetched.error_code, fetched.high_watermark), (None, Some(9)));
        assert_eq!(batches(&fetched.records.expect("records")), [(0, 3), (3, 3), (6, 3)]);
        let middle = client.fetch(&fetch_request(table, 0, 4)).await;
        assert_eq!(batches(&middle.records.expect("records")), [(3, 3), (6, 3)], "the batch that holds the offset is first");
        let end = client.fetch(&fetch_request(table, 0, 9)).await;
        assert_eq!((end.error_code, end.records), (None, Some(Bytes::new())));
        let beyond = client.fetch(&fetch_request(table, 0, 10)).await;
        assert_eq!(beyond.error_code, Some(19));
        cluster.stop().await;
    });
}

#[test]
fn many_appends_in_flight_keep_their_order() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        let mut sent = Vec::new();
        for sequence in 0..200 {
            sent.push(client.send(1014, &produce_request(table, 0, arrow_batch(5, sequence))).await);
        }
        for (sequence, id) in sent.into_iter().enumerate() {
            let response: rpc::ProduceLogResponse = client.answer(id).await.expect("produce");
            let bucket = &response.buckets_resp[0];
            assert_eq!((bucket.error_code, bucket.base_offset), (None, Some(3 * sequence as i64)));
        }
        cluster.stop().await;
    });
}

#[test]
fn budgets_are_kept_in_whole_batches() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(2)).await.expect("create");
        let table = client.table_id("t").await;
        let bytes = arrow_batch(1, 0).len() as i32;
        for bucket in 0..2 {
            for sequence in 0..4 {
                client.produce(table, bucket, arrow_batch(1, sequence)).await;
            }
        }
        let both = |bucket_max: i32, max: i32| {
            let mut request = fetch_request(table, 0, 0);
            let mut second = request.tables_req[0].buckets_req[0];
            second.bucket_id = 1;
            request.tables_req[0].buckets_req.push(second);
            request.tables_req[0].buckets_req.iter_mut().for_each(|bucket| bucket.max_fetch_bytes = bucket_max);
            request.max_bytes = max;
            request
        };
        for (bucket_max, max, expected) in [
            (1 << 20, 1 << 20, [4, 4]),
            (2 * bytes, 1 << 20, [2, 2]),
            (2 * bytes + 1, 3 * bytes, [2, 1]),
            // Smaller than a batch: the first bucket still gives one.
            (1, 1 << 20, [1, 0]),
            (1 << 20, 0, [1, 0]),
        ] {
            let response: rpc::FetchLogResponse = client.call(1015, &both(bucket_max, max)).await.expect("fetch");
            let counts: Vec<usize> = response.tables_resp[0]
                .buckets_resp
                .iter()
                .map(|bucket| batches(bucket.records.as_ref().expect("records")).len())
                .collect();
            assert_eq!(counts, expected, "bucket_max={bucket_max} max={max}");
        }
        cluster.stop().await;
    });
}

#[test]
fn a_waiting_fetch_wakes_when_something_is_committed() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        let mut request = fetch_request(table, 0, 0);
        request.max_wait_ms = Some(20_000);
        let started = Instant::now();
        let waiting = client.send(1015, &request).await;
        // The long poll does not hold up what comes after it on the same connection.
        let produced = client.produce(table, 0, arrow_batch(1, 0)).await;
        assert_eq!(produced.base_offset, Some(0));
        let response: rpc::FetchLogResponse = client.answer(waiting).await.expect("fetch");
        assert_eq!(batches(response.tables_resp[0].buckets_resp[0].records.as_ref().expect("records")), [(0, 3)]);
        assert!(started.elapsed() < Duration::from_secs(10), "woken, not timed out");

        request.tables_req[0].buckets_req[0].fetch_offset = 3;
        request.max_wait_ms = Some(150);
        let started = Instant::now();
        let empty = client.fetch(&request).await;
        assert_eq!(empty.records, Some(Bytes::new()));
        assert!(started.elapsed() >= Duration::from_millis(140), "answered after {:?}", started.elapsed());
        cluster.stop().await;
    });
}

#[test]
fn projection_takes_columns_and_refuses_nonsense() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        client.produce(table, 0, arrow_batch(1, 0)).await;
        let mut request = fetch_request(table, 0, 0);
        request.tables_req[0].projection_pushdown_enabled = true;
        request.tables_req[0].projected_fields = vec![0];
        let pruned = client.fetch(&request).await;
        let records = pruned.records.expect("records");
        assert_eq!(batches(&records), [(0, 3)]);
        assert!(records.len() < arrow_batch(1, 0).len());
        for fields in [vec![], vec![1, 0], vec![0, 0], vec![2], vec![-1]] {
            request.tables_req[0].projected_fields = fields.clone();
            assert_eq!(client.fetch(&request).await.error_code, Some(34), "{fields:?}");
        }
        cluster.stop().await;
    });
}

#[test]
fn offsets_and_limit_scan() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        for sequence in 0..3 {
            client.produce(table, 0, arrow_batch(1, sequence)).await;
        }
        let ask = |offset_type, start_timestamp| rpc::ListOffsetsRequest {
            follower_server_id: -1,
            offset_type,
            table_id: table,
            bucket_id: vec![0],
            start_timestamp,
            ..Default::default()
        };
        let far = Some(i64::MAX / 2);
        for (request, offset, error) in [
            (ask(0, None), Some(0), None),
            (ask(1, None), Some(9), None),
            (ask(2, Some(0)), Some(0), None),
            (ask(2, far), None, Some(38)),
            (ask(2, None), None, Some(-1)),
        ] {
            let response: rpc::ListOffsetsResponse = client.call(1021, &request).await.expect("offsets");
            let bucket = &response.buckets_resp[0];
            assert_eq!((bucket.offset, bucket.error_code), (offset, error), "{request:?}");
        }
        for (limit, expected) in [(2, vec![(6, 3)]), (4, vec![(3, 3), (6, 3)]), (100, vec![(0, 3), (3, 3), (6, 3)])] {
            let request = rpc::LimitScanRequest { table_id: table, bucket_id: 0, limit, ..Default::default() };
            let response: rpc::LimitScanResponse = client.call(1033, &request).await.expect("scan");
            assert_eq!(batches(&response.records.expect("records")), expected, "limit {limit}");
        }
        cluster.stop().await;
    });
}

#[test]
fn mistakes_get_their_codes() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        // Unknown calls and versions are answered, never dropped.
        for (key, version) in [(1016, 3), (999, 0), (1012, 9), (1014, 2), (-5, 0)] {
            let id = client.send_bytes(key, version, &[]).await;
            assert_eq!(client.answer_bytes(id).await.expect_err("refused").code, 2, "{key} v{version}");
        }
        let id = client.send_bytes(1014, 0, &[0xff; 7]).await;
        assert_eq!(client.answer_bytes(id).await.expect_err("refused").code, -1);
        let mut acks = produce_request(table, 0, arrow_batch(1, 0));
        acks.acks = 2;
        let refused = client.call::<rpc::ProduceLogResponse>(1014, &acks).await.expect_err("refused");
        assert_eq!(refused.code, 18);

        assert_eq!(client.produce(table, 3, arrow_batch(1, 0)).await.error_code, Some(21));
        assert_eq!(client.produce(table + 9, 0, arrow_batch(1, 0)).await.error_code, Some(21));
        let mut broken = arrow_batch(1, 0).to_vec();
        *broken.last_mut().expect("not empty") ^= 1;
        assert_eq!(client.produce(table, 0, broken.into()).await.error_code, Some(14));
        assert_eq!(client.fetch(&fetch_request(table, 3, 0)).await.error_code, Some(21));
        assert_eq!(client.metadata("none").await.expect_err("refused").code, 7);
        let mut partition = rpc::MetadataRequest { table_path: vec![path("t")], ..Default::default() };
        partition.partitions_id = vec![10];
        assert_eq!(client.call::<rpc::MetadataResponse>(1012, &partition).await.expect_err("refused").code, 36);
        let schema = rpc::GetTableSchemaRequest { table_path: path("t"), schema_id: Some(9) };
        assert_eq!(client.call::<rpc::GetTableSchemaResponse>(1011, &schema).await.expect_err("refused").code, 9);
        cluster.stop().await;
    });
}

#[test]
fn a_frame_that_is_too_large_ends_the_connection() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.send_raw(&(101i32 << 20).to_be_bytes()).await;
        assert!(client.is_closed().await);
        cluster.stop().await;
    });
}

#[test]
fn everything_is_there_after_a_restart() {
    block_on(async {
        let mut cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(2)).await.expect("create");
        let table = client.table_id("t").await;
        for sequence in 0..5 {
            client.produce(table, 1, arrow_batch(1, sequence)).await;
        }
        cluster.stop_node(1).await;
        cluster.start_node(1).await;
        cluster.healthy().await;
        let mut client = cluster.client(1).await;
        assert_eq!(client.table_id("t").await, table);
        let fetched = client.fetch(&fetch_request(table, 1, -2)).await;
        assert_eq!(batches(&fetched.records.expect("records")).len(), 5);
        // The writer's state came back too.
        assert_eq!(client.produce(table, 1, arrow_batch(1, 4)).await.base_offset, Some(12));
        assert_eq!(client.produce(table, 1, arrow_batch(1, 5)).await.base_offset, Some(15));
        cluster.stop().await;
    });
}

#[test]
fn a_dropped_table_leaves_nothing() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(3)).await.expect("create");
        let table = client.table_id("t").await;
        client.produce(table, 0, arrow_batch(1, 0)).await;
        let request = rpc::DropTableRequest { table_path: path("t"), ignore_if_not_exists: false };
        client.call::<rpc::DropTableResponse>(1006, &request).await.expect("drop");
        let again = client.call::<rpc::DropTableResponse>(1006, &request).await.expect_err("refused");
        assert_eq!(again.code, 7);
        support::eventually("replica dropped", async || cluster.nodes[&1].probe().replicas.len() == 1).await;
        assert_eq!(client.produce(table, 0, arrow_batch(1, 1)).await.error_code, Some(21));
        client.create_table("t", &log_table(1)).await.expect("create again");
        assert!(client.table_id("t").await > table, "table ids are never used twice");
        cluster.stop().await;
    });
}

#[test]
fn only_what_is_served_is_advertised() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        let request =
            rpc::ApiVersionsRequest { client_software_name: "test".to_owned(), client_software_version: "1".to_owned() };
        let versions: rpc::ApiVersionsResponse = client.call(1000, &request).await.expect("versions");
        assert_eq!(versions.server_type, None, "one port is both roles");
        let keys: Vec<i32> = versions.api_versions.iter().map(|api| api.api_key).collect();
        let expected = [
            1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 1015, 1016, 1017, 1021, 1023,
            1024, 1025, 1026, 1033, 1034, 1035, 1056, 1057, 1058, 1059, 1061, 1062, 1064,
        ];
        assert_eq!(keys, expected);
        // Everything advertised has a handler: an empty body gets an answer of its own, never "unsupported".
        for key in keys {
            let id = client.send_bytes(key as i16, 0, &[]).await;
            if let Err(refused) = client.answer_bytes(id).await {
                assert_ne!(refused.code, 2, "{key}: {}", refused.message);
            }
        }
        cluster.stop().await;
    });
}

#[test]
fn the_operators_port_tells_how_the_node_is() {
    block_on(async {
        let cluster = one_node().await;
        cluster.client(1).await.create_table("t", &log_table(2)).await.expect("create");
        let address = cluster.nodes[&1].admin_address().expect("it is on");
        for (target, status, words) in [
            ("GET /livez", "200", "ok"),
            ("GET /readyz", "200", "ok"),
            ("GET /metrics", "200", "floss_replicas_led 2"),
            ("GET /api/v1/status", "200", "\"table\": \"fluss.t\""),
            ("GET /nothing", "404", "try"),
            ("POST /livez", "405", "GET"),
        ] {
            let answer = support::http(&address, target).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
            assert!(answer.contains(words), "{target}: {answer}");
        }
        cluster.stop().await;
    });
}

#[test]
fn an_arrow_batch_that_nobody_could_read_is_refused() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        // Its checksum is right, but what it calls an Arrow message is none.
        let batch = LogBatchBuilder {
            append_only: true,
            record_count: 3,
            records: Bytes::from_static(&[0x55; 64]),
            ..LogBatchBuilder::default()
        };
        assert_eq!(client.produce(table, 0, batch.build()).await.error_code, Some(-1));
        assert_eq!(client.produce(table, 0, arrow_batch(1, 0)).await.base_offset, Some(0));
        cluster.stop().await;
    });
}

fn key_table() -> String {
    log_table(1).replace(r#""highest_field_id""#, r#""primary_key":["id"],"highest_field_id""#)
}

#[test]
fn wrong_kinds_of_tables_are_refused_per_bucket() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("log", &log_table(1)).await.expect("create");
        client.create_table("rows", &key_table()).await.expect("create");
        let (log, rows) = (client.table_id("log").await, client.table_id("rows").await);
        assert_eq!(client.produce(rows, 0, arrow_batch(1, 0)).await.error_code, Some(15));
        let put = |table_id, bucket_id, records: &'static [u8]| rpc::PutKvRequest {
            acks: -1,
            table_id,
            timeout_ms: 5_000,
            buckets_req: vec![rpc::PbPutKvReqForBucket { bucket_id, records: records.into(), ..Default::default() }],
            ..Default::default()
        };
        for (table, bucket, code) in [(log, 0, 20), (rows, 0, 14), (rows, 5, 21)] {
            let response: rpc::PutKvResponse = client.call(1016, &put(table, bucket, b"no batch")).await.expect("answer");
            assert_eq!(response.buckets_resp[0].error_code, Some(code));
        }
        let lookup = |table_id| rpc::LookupRequest {
            table_id,
            buckets_req: vec![rpc::PbLookupReqForBucket { bucket_id: 0, keys: vec![vec![1].into()], ..Default::default() }],
            ..Default::default()
        };
        let response: rpc::LookupResponse = client.call(1017, &lookup(log)).await.expect("answer");
        assert_eq!(response.buckets_resp[0].error_code, Some(20));
        let response: rpc::LookupResponse = client.call(1017, &lookup(rows)).await.expect("answer");
        assert_eq!(response.buckets_resp[0].values, [rpc::PbValue { values: None }]);
        cluster.stop().await;
    });
}

/// Rows (id, name) of `key_table`.
fn kv_batch(rows: &[(i32, Option<&str>)]) -> Bytes {
    let mut batch = KvBatchBuilder::new(SchemaId(1));
    for (id, name) in rows {
        let key = encode_compacted_key(&[Value::Int(*id)], [DataType::not_null(TypeKind::Int)].iter()).expect("a key");
        match name {
            Some(name) => {
                let types = [DataType::not_null(TypeKind::Int), TypeKind::String.into()];
                let row = encode_compacted_row(&[Value::Int(*id), Value::Text((*name).to_owned())], types.iter()).expect("a row");
                batch.upsert(&key, &row);
            }
            None => {
                batch.delete(&key);
            }
        }
    }
    batch.build()
}

/// The last byte of each value: names have one letter.
fn letters(records: Option<Bytes>) -> String {
    let Some(records) = records else { return String::new() };
    let values = floss_protocol::kv_batch::ValueRecords::new(&records).expect("a value batch");
    values.map(|value| char::from(*value.expect("a value").1.last().expect("not empty"))).collect()
}

#[test]
fn a_kv_scan_sees_the_moment_of_its_first_call() {
    block_on(async {
        let cluster = one_node().await;
        let mut client = cluster.client(1).await;
        client.create_table("rows", &key_table()).await.expect("create");
        let table_id = client.table_id("rows").await;
        let put = |rows: &[(i32, Option<&str>)]| rpc::PutKvRequest {
            acks: -1,
            table_id,
            timeout_ms: 5_000,
            buckets_req: vec![rpc::PbPutKvReqForBucket { bucket_id: 0, records: kv_batch(rows), ..Default::default() }],
            ..Default::default()
        };
        let first = put(&[(1, Some("a")), (2, Some("b")), (3, Some("c")), (4, Some("d"))]);
        let response: rpc::PutKvResponse = client.call(1016, &first).await.expect("put");
        assert_eq!((response.buckets_resp[0].error_code, response.buckets_resp[0].log_end_offset), (None, Some(4)));
        let bucket = rpc::PbScanReqForBucket { table_id, bucket_id: 0, ..Default::default() };
        let opening = rpc::ScanKvRequest {
            bucket_scan_req: Some(bucket),
            call_seq_id: Some(0),
            batch_size_bytes: Some(1),
            ..Default::default()
        };
        let opened: rpc::ScanKvResponse = client.call(1061, &opening).await.expect("open");
        assert_eq!((opened.error_code, opened.has_more_results, opened.log_offset), (None, Some(true), Some(4)));
        assert_eq!(letters(opened.records), "a");
        let changes = put(&[(1, Some("z")), (2, None), (3, Some("y")), (9, Some("x"))]);
        let _: rpc::PutKvResponse = client.call(1016, &changes).await.expect("put");
        let scanner_id = opened.scanner_id;
        let next = |call| rpc::ScanKvRequest {
            scanner_id: scanner_id.clone(),
            call_seq_id: Some(call),
            batch_size_bytes: Some(1),
            ..Default::default()
        };
        let wrong: rpc::ScanKvResponse = client.call(1061, &next(2)).await.expect("answer");
        assert_eq!(wrong.error_code, Some(68));
        let mut seen = String::new();
        for call in 1..10 {
            let step: rpc::ScanKvResponse = client.call(1061, &next(call)).await.expect("answer");
            assert_eq!((step.error_code, step.log_offset), (None, None));
            seen += &letters(step.records);
            if step.has_more_results == Some(false) {
                break;
            }
        }
        assert_eq!(seen, "bcd");
        let over: rpc::ScanKvResponse = client.call(1061, &next(5)).await.expect("answer");
        assert_eq!(over.error_code, Some(67));
        let limit: rpc::LimitScanResponse = client
            .call(1033, &rpc::LimitScanRequest { table_id, bucket_id: 0, limit: 2, ..Default::default() })
            .await
            .expect("scan");
        assert_eq!((limit.is_log_table, letters(limit.records)), (Some(false), "zy".to_owned()));
        cluster.stop().await;
    });
}
