//! Nodes in this process, and a client that speaks frames to them.
#![allow(dead_code)] // not every test file uses everything

use bytes::{Buf, BufMut, Bytes, BytesMut};
use floss_protocol::ids::SchemaId;
use floss_protocol::log_batch::{LogBatch, LogBatchBuilder};
use floss_protocol::rpc;
use floss_raft::env::clock::SystemClock;
use floss_raft::env::disk_os::OsDisk;
use floss_raft::env::runtime::io::{AsyncReadExt, AsyncWriteExt};
use floss_raft::env::runtime::net::TcpStream;
use floss_raft::env::runtime::time;
use floss_server::config::{NodeConfig, Tuning};
use floss_server::node::{self, Node, Seams};
use floss_tablet::kv::mem::MemKvStore;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub const WAIT: Duration = Duration::from_secs(30);

/// Small files, so that a test directory stays small.
pub fn tuning() -> Tuning {
    Tuning { journal_file_bytes: 4 << 20, journal_cache_bytes: 8 << 20, ..Tuning::default() }
}

pub fn config(node_id: u64) -> NodeConfig {
    NodeConfig {
        node_id,
        data_dir: String::new(),
        listen: "127.0.0.1:0".to_owned(),
        advertise: None,
        peer_listen: "127.0.0.1:0".to_owned(),
        peer_advertise: None,
        admin_listen: Some("127.0.0.1:0".to_owned()),
        initial_nodes: Vec::new(),
        join: Vec::new(),
        rejoin: false,
        tuning: tuning(),
    }
}

pub async fn start(config: NodeConfig, dir: &std::path::Path) -> Node {
    let seams = Seams {
        disk: Arc::new(OsDisk::new(dir.to_path_buf())),
        kv: Arc::new(MemKvStore::default()),
        clock: Arc::new(SystemClock),
        wrap_transport: Seams::plain_transport(),
    };
    node::open(config, seams).await.expect("node opens")
}

/// Ports that were free a moment ago.
pub async fn free_ports(count: usize) -> Vec<u16> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        let listener = floss_raft::env::runtime::net::TcpListener::bind("127.0.0.1:0").await;
        listeners.push(listener.expect("a free port"));
    }
    listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect()
}

/// Nodes 1..=count of one cluster, each with its directory.
pub struct Cluster {
    pub nodes: BTreeMap<u64, Node>,
    pub configs: BTreeMap<u64, NodeConfig>,
    pub dirs: BTreeMap<u64, tempfile::TempDir>,
}

impl Cluster {
    pub async fn start(count: u64) -> Self {
        let ports = free_ports(count as usize).await;
        let initial: Vec<String> = (1..=count).map(|id| format!("{id}=127.0.0.1:{}", ports[id as usize - 1])).collect();
        let mut cluster = Self { nodes: BTreeMap::new(), configs: BTreeMap::new(), dirs: BTreeMap::new() };
        for id in 1..=count {
            let mut config = config(id);
            config.peer_listen = format!("127.0.0.1:{}", ports[id as usize - 1]);
            if count > 1 {
                config.initial_nodes = initial.clone();
            }
            cluster.configs.insert(id, config);
            cluster.dirs.insert(id, tempfile::tempdir().expect("temporary directory"));
            cluster.start_node(id).await;
        }
        cluster
    }

    pub async fn start_node(&mut self, id: u64) {
        let node = start(self.configs[&id].clone(), self.dirs[&id].path()).await;
        self.nodes.insert(id, node);
    }

    pub async fn stop_node(&mut self, id: u64) {
        self.nodes.remove(&id).expect("runs").stop().await;
    }

    pub async fn client(&self, id: u64) -> Client {
        Client::connect(&self.nodes[&id].client_address()).await
    }

    /// Until the cluster is green as every node sees it.
    pub async fn healthy(&self) {
        for id in self.nodes.keys() {
            let mut client = self.client(*id).await;
            eventually("a green cluster", async || {
                let health: rpc::GetClusterHealthResponse =
                    client.call(1062, &rpc::GetClusterHealthRequest {}).await.expect("health");
                health.status == 0
            })
            .await;
        }
    }

    pub async fn stop(mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.stop().await;
        }
    }
}

/// Asks until it is so.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = time::Instant::now() + WAIT;
    while !holds().await {
        assert!(time::Instant::now() < until, "no {what} within {WAIT:?}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

/// Stands for "the connection is gone".
pub const LOST: i32 = i32::MIN;

/// A refused request.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: i32,
    pub message: String,
}

pub struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    next_id: i32,
    /// Answers that came while another was waited for.
    early: BTreeMap<i32, Result<Bytes, Refused>>,
}

impl Client {
    pub async fn connect(address: &str) -> Self {
        Self::try_connect(address).await.expect("connect")
    }

    pub async fn try_connect(address: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).expect("nodelay");
        let client = Self { stream, buffer: BytesMut::new(), next_id: 0, early: BTreeMap::new() };
        Some(client)
    }

    pub async fn send_bytes(&mut self, key: i16, version: i16, body: &[u8]) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        let mut frame = BytesMut::new();
        frame.put_i32(8 + body.len() as i32);
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(id);
        frame.put_slice(body);
        // A connection that is gone shows when the answer is read.
        let _ = self.stream.write_all(&frame).await;
        let _ = self.stream.flush().await;
        id
    }

    pub async fn send(&mut self, key: i16, request: &impl Message) -> i32 {
        self.send_bytes(key, 0, &request.encode_to_vec()).await
    }

    /// The answer to one request, whatever comes before it.
    pub async fn answer_bytes(&mut self, id: i32) -> Result<Bytes, Refused> {
        loop {
            if let Some(answer) = self.early.remove(&id) {
                return answer;
            }
            let (got, answer) = time::timeout(WAIT, self.next_answer()).await.expect("an answer in time")?;
            self.early.insert(got, answer);
        }
    }

    pub async fn answer<Response: Message + Default>(&mut self, id: i32) -> Result<Response, Refused> {
        self.answer_bytes(id).await.map(|body| Response::decode(body).expect("decodes"))
    }

    async fn next_answer(&mut self) -> Result<(i32, Result<Bytes, Refused>), Refused> {
        while self.buffer.len() < 4 || self.buffer.len() < 4 + (&self.buffer[..]).get_i32() as usize {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) => return Err(Refused { code: LOST, message: "the server closed the connection".to_owned() }),
                Err(error) => return Err(Refused { code: LOST, message: error.to_string() }),
            }
        }
        let length = self.buffer.get_i32() as usize;
        let mut frame = self.buffer.split_to(length).freeze();
        let kind = frame.get_u8();
        let id = frame.get_i32();
        let answer = match kind {
            0 => Ok(frame),
            1 => {
                let error = rpc::ErrorResponse::decode(frame).expect("decodes");
                Err(Refused { code: error.error_code, message: error.error_message.unwrap_or_default() })
            }
            other => panic!("response type {other}"),
        };
        Ok((id, answer))
    }

    pub async fn call<Response: Message + Default>(&mut self, key: i16, request: &impl Message) -> Result<Response, Refused> {
        let id = self.send(key, request).await;
        self.answer(id).await
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("write");
        self.stream.flush().await.expect("flush");
    }

    /// True once the server has closed the connection.
    pub async fn is_closed(&mut self) -> bool {
        let read = time::timeout(Duration::from_secs(5), self.stream.read_buf(&mut self.buffer)).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }

    pub async fn create_table(&mut self, name: &str, table_json: &str) -> Result<(), Refused> {
        let request = rpc::CreateTableRequest {
            table_path: path(name),
            table_json: Bytes::from(table_json.to_owned()),
            ignore_if_exists: false,
        };
        self.call::<rpc::CreateTableResponse>(1005, &request).await.map(|_| ())
    }

    pub async fn metadata(&mut self, name: &str) -> Result<rpc::MetadataResponse, Refused> {
        self.call(1012, &rpc::MetadataRequest { table_path: vec![path(name)], ..Default::default() }).await
    }

    pub async fn table_id(&mut self, name: &str) -> i64 {
        self.metadata(name).await.expect("metadata").table_metadata[0].table_id
    }

    pub async fn produce(&mut self, table_id: i64, bucket: i32, records: Bytes) -> rpc::PbProduceLogRespForBucket {
        let response: rpc::ProduceLogResponse =
            self.call(1014, &produce_request(table_id, bucket, records)).await.expect("produce");
        assert_eq!(response.buckets_resp.len(), 1);
        response.buckets_resp[0].clone()
    }

    pub async fn fetch(&mut self, request: &rpc::FetchLogRequest) -> rpc::PbFetchLogRespForBucket {
        let response: rpc::FetchLogResponse = self.call(1015, request).await.expect("fetch");
        response.tables_resp[0].buckets_resp[0].clone()
    }
}

pub fn path(name: &str) -> rpc::PbTablePath {
    rpc::PbTablePath { database_name: "fluss".to_owned(), table_name: name.to_owned() }
}

pub fn produce_request(table_id: i64, bucket: i32, records: Bytes) -> rpc::ProduceLogRequest {
    let bucket = rpc::PbProduceLogReqForBucket { bucket_id: bucket, records, ..Default::default() };
    rpc::ProduceLogRequest { acks: -1, table_id, timeout_ms: 30_000, buckets_req: vec![bucket] }
}

pub fn fetch_request(table_id: i64, bucket: i32, offset: i64) -> rpc::FetchLogRequest {
    let bucket =
        rpc::PbFetchLogReqForBucket { bucket_id: bucket, fetch_offset: offset, max_fetch_bytes: 1 << 20, ..Default::default() };
    let table = rpc::PbFetchLogReqForTable { table_id, buckets_req: vec![bucket], ..Default::default() };
    rpc::FetchLogRequest {
        follower_server_id: -1,
        max_bytes: 16 << 20,
        tables_req: vec![table],
        max_wait_ms: Some(500),
        min_bytes: Some(1),
        ..Default::default()
    }
}

/// `id INT, name STRING`, as the Rust client sends it.
pub fn log_table(buckets: i32) -> String {
    format!(
        r#"{{"bucket_count":{buckets},"bucket_key":[],"custom_properties":{{}},"partition_key":[],"properties":{{"table.log.arrow.compression.type":"NONE"}},"schema":{{"columns":[{{"data_type":{{"type":"INTEGER"}},"id":0,"name":"id"}},{{"data_type":{{"type":"STRING"}},"id":1,"name":"name"}}],"highest_field_id":1,"version":1}},"version":1}}"#
    )
}

fn vector(text: &str) -> Bytes {
    let value: serde_json::Value = serde_json::from_str(text).expect("vector");
    let hex = value["batch_hex"].as_str().expect("batch_hex");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

/// Three rows (1, alice), (2, null), (3, carol-longer) from a captured batch, under another writer.
pub fn arrow_batch(writer_id: i64, batch_sequence: i32) -> Bytes {
    let captured = vector(include_str!("../../../protocol/tests/vectors/log_arrow_none.json"));
    let batch = LogBatch::read(&captured, 0).expect("captured");
    LogBatchBuilder {
        schema_id: SchemaId(1),
        append_only: true,
        writer_id,
        batch_sequence,
        record_count: 3,
        records: batch.arrow_message().expect("captured"),
        ..LogBatchBuilder::default()
    }
    .build()
}

/// `(base offset, records)` of each batch.
pub fn batches(records: &Bytes) -> Vec<(i64, i32)> {
    floss_protocol::log_batch::LogBatches::new(records.clone())
        .map(|batch| {
            let batch = batch.expect("whole batches");
            (batch.header().base_offset.0, batch.header().record_count)
        })
        .collect()
}

/// The whole answer to `"GET /path"`.
pub async fn http(address: &str, target: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!("{target} HTTP/1.1\r\nhost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    stream.flush().await.expect("flush");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}
