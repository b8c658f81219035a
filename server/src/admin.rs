//! The operator's port: a very small HTTP/1.1 server for health, metrics and status. GET only, one request per connection.

use crate::handlers::health::{Colour, health};
use crate::shared::Shared;
use crate::stop::Tasks;
use floss_raft::env::runtime::io::{self, AsyncReadExt, AsyncWriteExt};
use floss_raft::env::runtime::sync::Semaphore;
use floss_raft::env::runtime::{net, time};
use floss_raft::types::GroupId;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

const REQUEST_BYTES_MAX: usize = 8 << 10;
const REQUEST_WAIT: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 32;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct Reply {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Reply {
    fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// Runs until it is dropped.
pub(crate) async fn run(listener: net::TcpListener, shared: Arc<Shared>, tasks: Tasks) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = room.clone().try_acquire_owned() else { continue };
        let shared = shared.clone();
        tasks.spawn(async move {
            // A client that stalls or goes away is its own problem.
            drop(time::timeout(REQUEST_WAIT, serve(stream, &shared)).await);
            drop(permit);
        });
    }
}

async fn serve(mut stream: net::TcpStream, shared: &Shared) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let reply = answer(&request, shared);
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        reply.status,
        reply.content_type,
        reply.body.len()
    );
    stream.write_all(&[head.as_bytes(), reply.body.as_bytes()].concat()).await?;
    stream.flush().await?;
    stream.shutdown().await
}

fn answer(request: &[u8], shared: &Shared) -> Reply {
    let text = String::from_utf8_lossy(request);
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    if method != "GET" {
        return Reply::text("405 Method Not Allowed", "GET only\n");
    }
    match path {
        "/livez" => Reply::text("200 OK", "ok\n"),
        "/readyz" => ready(shared),
        "/metrics" => Reply::text("200 OK", metrics(shared)),
        "/api/v1/status" => {
            let body = format!("{:#}\n", status(shared));
            Reply { status: "200 OK", content_type: "application/json", body }
        }
        _ => Reply::text("404 Not Found", "try /livez /readyz /metrics /api/v1/status\n"),
    }
}

/// Ready = in a formed cluster whose catalog has a leader, and every bucket that this node should hold is open.
fn ready(shared: &Shared) -> Reply {
    let state = shared.catalog.view();
    let led = shared.leaders.get(GroupId::CATALOG).is_some_and(|known| known.live);
    let wanted = state
        .tables()
        .values()
        .flat_map(|table| table.buckets.values())
        .filter(|placement| placement.replicas.contains(&shared.node_id))
        .count();
    let open = shared.replicas.all().len();
    match () {
        () if state.cluster_id().is_none() => Reply::text("503 Service Unavailable", "cluster is not formed\n"),
        () if !led => Reply::text("503 Service Unavailable", "catalog has no leader\n"),
        () if open < wanted => Reply::text("503 Service Unavailable", format!("replicas open={open} wanted={wanted}\n")),
        () => Reply::text("200 OK", "ok\n"),
    }
}

fn metrics(shared: &Shared) -> String {
    let replicas = shared.replicas.all();
    let (mut led, mut failed, mut records) = (0u64, 0u64, 0i64);
    for replica in &replicas {
        let core = replica.inspect();
        led += u64::from(core.leads(shared.node_id));
        failed += u64::from(core.failed.is_some());
        records += core.tablet.high_watermark() - core.tablet.log_start();
    }
    let health = health(shared);
    let rows: [(&str, &str, i64); 9] = [
        ("floss_replicas", "bucket replicas on this node", replicas.len() as i64),
        ("floss_replicas_led", "buckets led by this node", led as i64),
        ("floss_replicas_failed", "bucket replicas that stopped", failed as i64),
        ("floss_records_retained", "records readable from the replicas of this node", records),
        ("floss_cluster_replicas", "bucket replicas in the cluster", health.replicas as i64),
        ("floss_cluster_replicas_in_sync", "of them, on nodes that answer", health.in_sync as i64),
        ("floss_cluster_buckets", "buckets in the cluster", health.leaders as i64),
        ("floss_cluster_buckets_led", "of them, with a live leader", health.active_leaders as i64),
        ("floss_nodes_suspected", "nodes that do not answer this node", shared.leaders.suspected().len() as i64),
    ];
    let mut text = String::new();
    for (name, help, value) in rows {
        write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n").expect("writing to a String cannot fail");
    }
    text
}

fn status(shared: &Shared) -> Value {
    let state = shared.catalog.view();
    let suspected = shared.leaders.suspected();
    let nodes: Vec<Value> = state
        .nodes()
        .values()
        .map(|node| {
            json!({
                "id": node.id,
                "address": node.registered.as_ref().map(|registered| registered.client_address.clone()),
                "peer_address": node.peer_address,
                "alive": !suspected.contains(&node.id),
            })
        })
        .collect();
    let buckets: Vec<Value> = state
        .tables()
        .values()
        .flat_map(|table| table.buckets.iter().map(move |(bucket, placement)| (table, bucket, placement)))
        .map(|(table, bucket, placement)| {
            let known = shared.leaders.get(placement.group);
            json!({
                "table": table.path.to_string(),
                "table_id": table.id.0,
                "partition_id": bucket.partition_id.map(|id| id.0),
                "bucket": bucket.bucket.0,
                "group": placement.group.0,
                "replicas": placement.replicas,
                "leader": known.map(|known| known.leader),
                "term": known.map(|known| known.term),
                "live": known.is_some_and(|known| known.live),
            })
        })
        .collect();
    json!({
        "node_id": shared.node_id,
        "client_address": shared.client_address,
        "cluster_id": state.cluster_id(),
        "catalog_leader": shared.catalog.leader(),
        "colour": colour_name(health(shared).colour),
        "nodes": nodes,
        "buckets": buckets,
        "replicas": shared.replicas.all().iter().map(|replica| replica_status(replica)).collect::<Vec<_>>(),
    })
}

fn replica_status(replica: &crate::replica::replica::Replica) -> Value {
    let pointers = replica.group().map(|group| group.pointers()).unwrap_or_default();
    let core = replica.inspect();
    json!({
        "group": replica.group_id.0,
        "table_id": replica.bucket.table_id.0,
        "partition_id": replica.bucket.partition_id.map(|id| id.0),
        "bucket": replica.bucket.bucket.0,
        "leader": core.leadership.leader,
        "term": core.leadership.term,
        "ready": core.leadership.ready,
        "log_start": core.tablet.log_start(),
        "high_watermark": core.tablet.high_watermark(),
        "applied": pointers.applied,
        "last": pointers.last,
        "failed": core.failed,
    })
}

fn colour_name(colour: Colour) -> &'static str {
    match colour {
        Colour::Green => "green",
        Colour::Yellow => "yellow",
        Colour::Red => "red",
        Colour::Unknown => "unknown",
    }
}
