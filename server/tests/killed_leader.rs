//! A leader dies without a word, again and again: the writer goes on soon, and what was acknowledged stays, once, in order.
#![cfg(not(madsim))]

mod support;

use floss_protocol::rpc;
use floss_raft::env::runtime::sync::oneshot;
use floss_raft::env::runtime::time::Instant;
use floss_raft::env::runtime::{block_on, time};
use floss_server::config::NodeConfig;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;
use support::{Client, arrow_batch, batches, fetch_request, free_ports, log_table, produce_request};

/// A node on a thread and a runtime of its own: killing it drops everything at once, as kill -9 does.
struct Lone {
    address: String,
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

#[allow(clippy::disallowed_methods)] // the thread stands for a process
fn launch(config: NodeConfig, dir: PathBuf) -> Lone {
    let (kill, killed) = oneshot::channel();
    let (ready, address) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        block_on(async move {
            let node = support::start(config, &dir).await;
            ready.send(node.client_address()).expect("the test waits");
            let _ = killed.await;
        });
    });
    Lone { address: address.recv().expect("the node opens"), kill, thread }
}

impl Lone {
    fn kill(self) {
        self.kill.send(()).expect("it runs");
        self.thread.join().expect("it ends");
    }
}

/// Knows addresses only, like a client.
struct Writer {
    addresses: BTreeMap<i32, String>,
    connection: Option<Client>,
}

impl Writer {
    async fn leader(&mut self) -> Option<Client> {
        for address in self.addresses.values() {
            let Some(mut client) = Client::try_connect(address).await else { continue };
            let Ok(metadata) = client.metadata("t").await else { continue };
            let leader = metadata.table_metadata[0].bucket_metadata[0].leader_id.expect("never without a leader");
            return Client::try_connect(self.addresses.get(&leader)?).await;
        }
        None
    }

    /// Repeats until acked; the base offset.
    async fn append(&mut self, table: i64, sequence: i32) -> i64 {
        let until = Instant::now() + support::WAIT;
        loop {
            assert!(Instant::now() < until, "sequence {sequence} not acked");
            if self.connection.is_none() {
                self.connection = self.leader().await;
            }
            let Some(client) = &mut self.connection else {
                time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let request = produce_request(table, 0, arrow_batch(1, sequence));
            match client.call::<rpc::ProduceLogResponse>(1014, &request).await {
                Ok(response) => match (response.buckets_resp[0].error_code, response.buckets_resp[0].base_offset) {
                    (None, Some(base_offset)) => return base_offset,
                    (Some(12 | 21 | 25 | 44), _) => self.connection = None,
                    other => panic!("sequence {sequence}: {other:?}"),
                },
                Err(_) => self.connection = None,
            }
        }
    }
}

fn configs(ports: &[u16], client_ports: &[u16]) -> BTreeMap<i32, NodeConfig> {
    let initial: Vec<String> = ports.iter().zip(1..).map(|(port, id)| format!("{id}=127.0.0.1:{port}")).collect();
    (1..=3)
        .map(|id: i32| {
            let mut config = support::config(id as u64);
            config.peer_listen = format!("127.0.0.1:{}", ports[id as usize - 1]);
            config.listen = format!("127.0.0.1:{}", client_ports[id as usize - 1]);
            config.initial_nodes = initial.clone();
            (id, config)
        })
        .collect()
}

async fn wait_green(path: &Path, address: &str) {
    support::eventually(&format!("green cluster in {path:?}"), async || {
        let Some(mut client) = Client::try_connect(address).await else { return false };
        let health = client.call::<rpc::GetClusterHealthResponse>(1062, &rpc::GetClusterHealthRequest {}).await;
        health.is_ok_and(|health| health.status == 0)
    })
    .await;
}

#[test]
fn the_next_ack_comes_soon_and_no_acked_row_is_lost() {
    block_on(async {
        let configs = configs(&free_ports(3).await, &free_ports(3).await);
        let dirs: BTreeMap<i32, tempfile::TempDir> =
            (1..=3).map(|id| (id, tempfile::tempdir().expect("temporary directory"))).collect();
        let mut nodes: BTreeMap<i32, Lone> =
            configs.iter().map(|(id, config)| (*id, launch(config.clone(), dirs[id].path().to_path_buf()))).collect();
        let addresses: BTreeMap<i32, String> = nodes.iter().map(|(id, node)| (*id, node.address.clone())).collect();
        wait_green(dirs[&1].path(), &addresses[&1]).await;
        let mut client = Client::connect(&addresses[&1]).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        let mut writer = Writer { addresses: addresses.clone(), connection: None };
        let mut sequence = 0;
        let mut gaps = Vec::new();
        for _ in 0..4 {
            for _ in 0..50 {
                assert_eq!(writer.append(table, sequence).await, i64::from(sequence) * 3);
                sequence += 1;
            }
            let metadata = client_of(&addresses).await.metadata("t").await.expect("metadata");
            let leader = metadata.table_metadata[0].bucket_metadata[0].leader_id.expect("a leader");
            nodes.remove(&leader).expect("it runs").kill();
            let killed = Instant::now();
            assert_eq!(writer.append(table, sequence).await, i64::from(sequence) * 3);
            gaps.push(killed.elapsed().as_millis());
            sequence += 1;
            nodes.insert(leader, launch(configs[&leader].clone(), dirs[&leader].path().to_path_buf()));
            for address in addresses.values() {
                wait_green(dirs[&leader].path(), address).await;
            }
        }
        println!("ack gaps after a kill, ms: {gaps:?}");
        assert!(gaps.iter().all(|gap| *gap < 3_000), "ack gaps after a kill, ms: {gaps:?}");
        let mut reader = writer.leader().await.expect("a leader");
        let fetched = reader.fetch(&fetch_request(table, 0, -2)).await;
        let expected: Vec<(i64, i32)> = (0..i64::from(sequence)).map(|batch| (batch * 3, 3)).collect();
        assert_eq!(batches(&fetched.records.expect("records")), expected);
    });
}

async fn client_of(addresses: &BTreeMap<i32, String>) -> Client {
    for address in addresses.values() {
        if let Some(client) = Client::try_connect(address).await {
            return client;
        }
    }
    panic!("no node answers");
}
