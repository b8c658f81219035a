//! Which nodes are there: pings between all pairs, carrying the gossip of the layer above.

use super::Host;
use crate::env::runtime::sync::{Notify, oneshot};
use crate::env::runtime::time::Instant;
use crate::env::runtime::{select, spawn, time};
use crate::transport::{PeerChannel, PeerRequest};
use crate::types::NodeId;
use bytes::{Buf, Bytes};
use floss_protocol::reached;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

const PING: u8 = 1;
/// A node that refuses connections is gone sooner than one that is silent.
const REFUSALS_MAX: u32 = 2;
const PATIENCE_STEPS: u32 = 10;
/// What a node sent before it died has been handled or lost this long after its next life was noticed.
const FORMER_LIFE_MAX: Duration = Duration::from_secs(10);

pub struct Detector {
    /// Number of this life of the node: a restarted node has lost its leaderships.
    life: u64,
    nodes: Mutex<BTreeMap<NodeId, Watched>>,
    news: Notify,
}

struct Watched {
    alive: bool,
    life: u64,
    /// When another life than the first was noticed.
    reborn: Option<Instant>,
    heard: Instant,
    refused: u32,
    /// Dropped to end the pinging.
    _stop: oneshot::Sender<()>,
}

impl Detector {
    pub fn new() -> Self {
        use openraft_rt::AsyncRuntime;
        use rand::RngExt;
        let life = crate::env::runtime::RaftRuntime::thread_rng().random();
        Self { life, nodes: Mutex::default(), news: Notify::new() }
    }

    pub fn is_alive(&self, node: NodeId) -> bool {
        self.nodes().get(&node).is_some_and(|watched| watched.alive)
    }

    /// Messages of its former life may still come, or wait here: this node may have been frozen.
    pub fn is_newborn(&self, node: NodeId) -> bool {
        self.nodes().get(&node).and_then(|watched| watched.reborn).is_some_and(|reborn| reborn.elapsed() < FORMER_LIFE_MAX)
    }

    pub fn ping_now(&self) {
        self.news.notify_waiters();
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Watched>> {
        self.nodes.lock().expect("no panic happens while nodes are held")
    }
}

pub fn set_nodes(host: &Host, nodes: Vec<NodeId>) {
    let me = host.inner.config.node_id;
    let mut watched = host.inner.detector.nodes();
    watched.retain(|node, _| nodes.contains(node));
    for node in nodes.into_iter().filter(|node| *node != me) {
        watched.entry(node).or_insert_with(|| {
            let (stop, stopped) = oneshot::channel();
            spawn(run_pings(host.clone(), node, stopped));
            // Innocent until silent.
            Watched { alive: true, life: 0, reborn: None, heard: Instant::now(), refused: 0, _stop: stop }
        });
    }
}

async fn run_pings(host: Host, node: NodeId, mut stopped: oneshot::Receiver<()>) {
    let config = &host.inner.config;
    let (pause, patience) = (Duration::from_millis(config.ping_ms), Duration::from_millis(config.suspect_after_ms));
    while !host.inner.closing.load(Ordering::SeqCst) {
        let body = vec![life_bytes(&host), host.inner.observer.ping_payload(node)];
        let request = PeerRequest { channel: PeerChannel::Node, method: PING, body };
        let asked = Instant::now();
        let call = host.inner.transport.call(node, request, patience * 2);
        match patiently(call, patience).await {
            Ok(mut answer) if answer.len() >= 8 => {
                let life = answer.get_u64_le();
                heard(&host, node, life);
                host.inner.observer.on_ping(node, answer);
            }
            Ok(_) => {}
            Err(_) => missed(&host, node, asked.elapsed() < patience / 2, patience),
        }
        select! {
            biased;
            _ = &mut stopped => return,
            _ = host.inner.detector.news.notified() => {}
            _ = time::sleep(pause) => {}
        }
    }
}

/// The answer, or the error `None` after `patience` on this node's own terms: time in which it did not run itself is not held
/// against the other.
async fn patiently<T, E>(call: impl Future<Output = Result<T, E>>, patience: Duration) -> Result<T, Option<E>> {
    let mut call = std::pin::pin!(call);
    for _ in 0..PATIENCE_STEPS {
        select! {
            biased;
            answer = &mut call => return answer.map_err(Some),
            _ = time::sleep(patience / PATIENCE_STEPS) => {}
        }
    }
    Err(None)
}

fn life_bytes(host: &Host) -> Bytes {
    Bytes::copy_from_slice(&host.inner.detector.life.to_le_bytes())
}

/// Answers a ping.
pub fn on_ping(host: &Host, from: NodeId, mut body: Bytes) -> Result<Bytes, String> {
    if body.len() < 8 {
        return Err(format!("ping of {} bytes, expected at least 8", body.len()));
    }
    let life = body.get_u64_le();
    heard(host, from, life);
    host.inner.observer.on_ping(from, body);
    let mut answer = host.inner.detector.life.to_le_bytes().to_vec();
    answer.extend_from_slice(&host.inner.observer.ping_payload(from));
    Ok(answer.into())
}

fn heard(host: &Host, node: NodeId, life: u64) {
    let (returned, reborn) = {
        let mut nodes = host.inner.detector.nodes();
        let Some(watched) = nodes.get_mut(&node) else { return };
        let (was_alive, was) = (watched.alive, watched.life);
        (watched.alive, watched.life, watched.heard, watched.refused) = (true, life, Instant::now(), 0);
        let reborn = was != 0 && was != life;
        if reborn {
            watched.reborn = Some(watched.heard);
        }
        (!was_alive, reborn)
    };
    if returned {
        host.inner.observer.on_node(node, true);
    }
    if returned || reborn {
        reached!("node_returned");
        host.look_after_groups(node, reborn);
    }
}

fn missed(host: &Host, node: NodeId, refused: bool, patience: Duration) {
    let lost = {
        let mut nodes = host.inner.detector.nodes();
        let Some(watched) = nodes.get_mut(&node) else { return };
        watched.refused = if refused { watched.refused + 1 } else { 0 };
        let gone = watched.heard.elapsed() >= patience || watched.refused >= REFUSALS_MAX;
        let lost = watched.alive && gone;
        watched.alive &= !gone;
        lost
    };
    if lost {
        reached!("node_suspected");
        host.inner.observer.on_node(node, false);
        host.look_after_groups(node, false);
    }
}
