//! Three nodes in one process over real sockets: every node answers, leaders move, nothing is lost.
#![cfg(not(madsim))]

mod support;

use floss_protocol::rpc;
use floss_raft::env::runtime::{block_on, time};
use std::time::Duration;
use support::{Client, Cluster, arrow_batch, batches, eventually, fetch_request, log_table, path};

async fn three_nodes() -> Cluster {
    let cluster = Cluster::start(3).await;
    cluster.healthy().await;
    cluster
}

/// The address that metadata names as leader of a bucket.
async fn leader_of(client: &mut Client, table: &str, bucket: usize) -> (i32, String) {
    let metadata = client.metadata(table).await.expect("metadata");
    let leader = metadata.table_metadata[0].bucket_metadata[bucket].leader_id.expect("never without a leader");
    let server = metadata.tablet_servers.iter().find(|server| server.node_id == leader).expect("the leader is listed");
    (leader, format!("{}:{}", server.host, server.port))
}

/// What a client does: on error 12, 21, 25, 44 or a broken connection ask again who leads.
async fn produce_until_acked(cluster: &Cluster, table: &str, sequence: i32) -> i64 {
    let until = time::Instant::now() + support::WAIT;
    loop {
        assert!(time::Instant::now() < until, "sequence {sequence} was not acked within {:?}", support::WAIT);
        let any = *cluster.nodes.keys().next().expect("a node runs");
        let mut client = cluster.client(any).await;
        let (leader, address) = leader_of(&mut client, table, 0).await;
        if !cluster.nodes.contains_key(&(leader as u64)) {
            time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let table_id = client.table_id(table).await;
        let answer = Client::connect(&address).await.produce(table_id, 0, arrow_batch(1, sequence)).await;
        match (answer.error_code, answer.base_offset) {
            (None, Some(base_offset)) => return base_offset,
            (Some(12 | 21 | 25 | 44), _) => {}
            other => panic!("sequence {sequence}: {other:?}"),
        }
    }
}

#[test]
fn every_node_answers_every_call() {
    block_on(async {
        let cluster = three_nodes().await;
        // Each node creates a table; each other node knows it at once.
        for creator in 1..=3 {
            let name = format!("t{creator}");
            cluster.client(creator).await.create_table(&name, &log_table(3)).await.expect("create");
            for reader in 1..=3 {
                let mut client = cluster.client(reader).await;
                let metadata = client.metadata(&name).await.expect("metadata");
                assert_eq!(metadata.tablet_servers.len(), 3);
                assert!(metadata.coordinator_server.is_some());
                let table = &metadata.table_metadata[0];
                assert_eq!(table.bucket_metadata.len(), 3);
                for bucket in &table.bucket_metadata {
                    assert!(bucket.leader_id.is_some_and(|leader| (1..=3).contains(&leader)));
                    assert_eq!(bucket.replica_id.len(), 3);
                }
                let exists = rpc::TableExistsRequest { table_path: path(&name) };
                assert!(client.call::<rpc::TableExistsResponse>(1010, &exists).await.expect("answer").exists);
            }
        }
        let mut ids = Vec::new();
        for node in [1, 2, 3, 1] {
            let request = rpc::InitWriterRequest::default();
            ids.push(cluster.client(node).await.call::<rpc::InitWriterResponse>(1026, &request).await.expect("id").writer_id);
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 4, "writer ids are unique over all nodes");
        cluster.stop().await;
    });
}

#[test]
fn only_leaders_take_appends_and_serve_reads() {
    block_on(async {
        let cluster = three_nodes().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        let (leader, _) = leader_of(&mut client, "t", 0).await;
        for id in 1..=3u64 {
            let mut client = cluster.client(id).await;
            let produced = client.produce(table, 0, arrow_batch(1, 0)).await;
            let fetched = client.fetch(&fetch_request(table, 0, 0)).await;
            let expected = if id == leader as u64 { None } else { Some(12) };
            assert_eq!((produced.error_code, fetched.error_code), (expected, expected), "node {id}");
        }
        cluster.stop().await;
    });
}

#[test]
fn rows_are_counted_by_the_leader_whoever_is_asked() {
    block_on(async {
        let cluster = three_nodes().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table_id = client.table_id("t").await;
        for sequence in 0..5 {
            produce_until_acked(&cluster, "t", sequence).await;
            for id in 1..=3 {
                let buckets_req = vec![rpc::PbTableStatsReqForBucket { bucket_id: 0, ..Default::default() }];
                let request = rpc::GetTableStatsRequest { table_id, buckets_req, ..Default::default() };
                let stats: rpc::GetTableStatsResponse = cluster.client(id).await.call(1059, &request).await.expect("stats");
                let bucket = &stats.buckets_resp[0];
                let expected = i64::from(sequence + 1) * 3;
                assert_eq!((bucket.error_code, bucket.row_count), (None, Some(expected)), "node {id}");
            }
        }
        cluster.stop().await;
    });
}

#[test]
fn a_stopped_leader_hands_over_and_nothing_is_lost() {
    block_on(async {
        let mut cluster = three_nodes().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        let table = client.table_id("t").await;
        let mut sequence = 0;
        for _ in 0..3 {
            for _ in 0..10 {
                assert_eq!(produce_until_acked(&cluster, "t", sequence).await, i64::from(sequence) * 3);
                sequence += 1;
            }
            let any = *cluster.nodes.keys().next().expect("a node runs");
            let (leader, _) = leader_of(&mut cluster.client(any).await, "t", 0).await;
            cluster.stop_node(leader as u64).await;
            assert_eq!(produce_until_acked(&cluster, "t", sequence).await, i64::from(sequence) * 3);
            sequence += 1;
            // A repetition after the change of leaders is still a duplicate.
            assert_eq!(produce_until_acked(&cluster, "t", sequence - 1).await, i64::from(sequence - 1) * 3);
            cluster.start_node(leader as u64).await;
            cluster.healthy().await;
        }
        eventually("equal replicas", async || {
            let mut logs = Vec::new();
            for node in cluster.nodes.values() {
                let bucket = node.probe().replicas.iter().find_map(|replica| replica.bucket).expect("a bucket");
                logs.push(node.read_replica(bucket, 0).await.unwrap_or_default());
            }
            logs[0].len() == sequence as usize && logs.iter().all(|log| *log == logs[0])
        })
        .await;
        let (_, address) = leader_of(&mut cluster.client(1).await, "t", 0).await;
        let fetched = Client::connect(&address).await.fetch(&fetch_request(table, 0, -2)).await;
        assert_eq!(batches(&fetched.records.expect("records")).len(), sequence as usize);
        cluster.stop().await;
    });
}

#[test]
fn dropping_removes_the_data_on_all_nodes() {
    block_on(async {
        let cluster = three_nodes().await;
        let mut client = cluster.client(2).await;
        client.create_table("t", &log_table(4)).await.expect("create");
        let request = rpc::DropTableRequest { table_path: path("t"), ignore_if_not_exists: false };
        client.call::<rpc::DropTableResponse>(1006, &request).await.expect("drop");
        eventually("empty nodes", async || cluster.nodes.values().all(|node| node.probe().replicas.len() == 1)).await;
        cluster.stop().await;
    });
}

#[test]
fn a_wiped_node_is_let_in_again_and_brings_back_what_it_lost() {
    block_on(async {
        let mut cluster = three_nodes().await;
        let mut client = cluster.client(1).await;
        client.create_table("t", &log_table(1)).await.expect("create");
        for sequence in 0..5 {
            produce_until_acked(&cluster, "t", sequence).await;
        }
        cluster.stop_node(3).await;
        cluster.dirs.insert(3, tempfile::tempdir().expect("temporary directory"));
        cluster.start_node(3).await;
        let reason = time::timeout(support::WAIT, cluster.nodes[&3].failed()).await.expect("refused in time");
        assert!(reason.contains("incarnation") && reason.contains("rejoin"), "{reason}");
        cluster.stop_node(3).await;

        cluster.configs.get_mut(&3).expect("configured").rejoin = true;
        cluster.dirs.insert(3, tempfile::tempdir().expect("temporary directory"));
        cluster.start_node(3).await;
        eventually("third voter of both groups", async || {
            let probe = cluster.nodes[&3].probe();
            probe.replicas.len() == 2 && probe.replicas.iter().all(|replica| replica.voters.as_deref() == Some(&[1, 2, 3]))
        })
        .await;
        // It counts: without node 1 it is half of the majority, and it has what was written before it was wiped.
        cluster.stop_node(1).await;
        assert_eq!(produce_until_acked(&cluster, "t", 5).await, 15);
        let bucket = cluster.nodes[&3].probe().replicas.iter().find_map(|replica| replica.bucket).expect("a bucket");
        eventually("everything on the node that was wiped", async || {
            let batches = cluster.nodes[&3].read_replica(bucket, 0).await.expect("retained");
            batches.iter().map(|(offset, _)| *offset).eq([0, 3, 6, 9, 12, 15])
        })
        .await;
        // It is an ordinary node again: a restart does not ask.
        cluster.stop_node(3).await;
        cluster.start_node(3).await;
        assert_eq!(produce_until_acked(&cluster, "t", 6).await, 18);
        cluster.stop().await;
    });
}
