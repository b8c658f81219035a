//! Nodes of the simulator, each running `server::node::open`: the shipped code on a simulated disk, network and clock.

use crate::disk::{Latency, SimDisk};
use crate::draw::Draws;
use crate::history::{DumpBatch, Event, NodeNo, Replica};
use crate::network::Network;
use crate::plan::Plan;
use crate::rows::values_of;
use floss_protocol::ids::{BucketId, TableBucket, TableId};
use floss_protocol::log_batch::LogBatch;
use floss_raft::env::clock::{Clock, SystemClock};
use floss_server::config::{NodeConfig, Tuning};
use floss_server::node::{self, Node, Seams};
use madsim::runtime::{Handle, NodeHandle};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const CLIENT_PORT: u16 = 9123;
const PEER_PORT: u16 = 9223;

/// A wall clock that is off.
struct SkewedClock {
    skew_ms: i64,
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.skew_ms
    }
}

pub struct Cluster {
    pub network: Arc<Network>,
    slots: Vec<Slot>,
    config: Vec<NodeConfig>,
    skew_ms: Vec<i64>,
    /// Table id and bucket -> bucket over all tables.
    pub buckets: BTreeMap<TableBucket, u32>,
}

struct Slot {
    /// Made at the first start.
    handle: Option<NodeHandle>,
    disk: SimDisk,
    /// What the next life finds.
    next_disk: Arc<Mutex<SimDisk>>,
    boot: u32,
    up: bool,
    node: Arc<Mutex<Option<Arc<Node>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn address(node: NodeNo) -> String {
    format!("10.0.0.{node}:{CLIENT_PORT}")
}

impl Cluster {
    /// Makes the machines; nothing runs yet.
    pub fn new(plan: &Plan, draws: Draws) -> Self {
        let environment = &plan.environment;
        let network = Network::new(draws, (environment.link_us_min, environment.link_us_max), environment.loss_per_mille);
        let peers: Vec<String> = (1..=plan.nodes).map(|node| format!("{node}=10.0.0.{node}:{PEER_PORT}")).collect();
        let tuning = Tuning {
            journal_file_bytes: environment.journal_file_bytes,
            journal_cache_bytes: environment.journal_cache_bytes,
            sleep_after_ms: environment.sleep_after_ms,
            ..Default::default()
        };
        let config = (1..=plan.nodes).map(|node| NodeConfig {
            node_id: node,
            data_dir: String::new(),
            listen: address(node),
            advertise: None,
            peer_listen: format!("10.0.0.{node}:{PEER_PORT}"),
            peer_advertise: None,
            admin_listen: None,
            initial_nodes: peers.clone(),
            join: Vec::new(),
            tuning: tuning.clone(),
        });
        let latency: Latency = environment.disk;
        let slots = (1..=plan.nodes).map(|node| {
            let disk = SimDisk::new(draws, node, latency);
            Slot { handle: None, next_disk: Arc::new(Mutex::new(disk.clone())), disk, boot: 0, up: false, node: Arc::default() }
        });
        Self {
            network,
            slots: slots.collect(),
            config: config.collect(),
            skew_ms: environment.clock_skew_ms.clone(),
            buckets: BTreeMap::new(),
        }
    }

    pub fn nodes(&self) -> impl Iterator<Item = NodeNo> + use<> {
        1..=self.slots.len() as u64
    }

    pub fn disk(&self, node: NodeNo) -> &SimDisk {
        &self.slots[node as usize - 1].disk
    }

    pub fn machine(&self, node: NodeNo) -> &NodeHandle {
        self.slots[node as usize - 1].handle.as_ref().expect("faults come after the first start")
    }

    pub fn is_up(&self, node: NodeNo) -> bool {
        self.slots[node as usize - 1].up
    }

    pub fn start(&mut self, node: NodeNo) -> Event {
        let config = self.config[node as usize - 1].clone();
        let skew_ms = self.skew_ms[node as usize - 1];
        let network = self.network.clone();
        let slot = &mut self.slots[node as usize - 1];
        (slot.up, slot.boot) = (true, slot.boot + 1);
        *lock(&slot.next_disk) = slot.disk.clone();
        if let Some(handle) = &slot.handle {
            Handle::current().restart(handle.id());
            return Event::Boot { node, boot: slot.boot };
        }
        let (disk, held) = (slot.next_disk.clone(), slot.node.clone());
        let life = move || {
            let (config, network, held) = (config.clone(), network.clone(), held.clone());
            let disk = lock(&disk).clone();
            async move {
                let seams = Seams {
                    disk: Arc::new(disk),
                    clock: Arc::new(SkewedClock { skew_ms }),
                    wrap_transport: Box::new(move |inner| network.wrap(node, inner)),
                };
                match node::open(config, seams).await {
                    Ok(opened) => *lock(&held) = Some(Arc::new(opened)),
                    Err(error) => panic!("n{node} does not start: {error}"),
                }
                std::future::pending::<()>().await
            }
        };
        let simulator = Handle::current();
        let machine = simulator.create_node().name(format!("n{node}")).ip([10, 0, 0, node as u8].into());
        slot.handle = Some(machine.init(life).build());
        Event::Boot { node, boot: slot.boot }
    }

    /// Ends the process. With `power`, what was not synced is lost.
    pub fn kill(&mut self, node: NodeNo, power: bool) -> Event {
        let slot = &mut self.slots[node as usize - 1];
        Handle::current().kill(slot.handle.as_ref().expect("it runs").id());
        *lock(&slot.node) = None;
        slot.disk = if power { slot.disk.lose_power().0 } else { slot.disk.end_life() };
        slot.up = false;
        Event::Down { node, boot: slot.boot }
    }

    fn running(&self, node: NodeNo) -> Option<Arc<Node>> {
        lock(&self.slots[node as usize - 1].node).clone()
    }

    /// What the replicas of a node are like; None while it is down or starting.
    pub fn probe(&self, node: NodeNo) -> Option<Event> {
        let replicas = self.running(node)?.probe().replicas;
        let replicas = replicas.into_iter().map(|replica| Replica {
            group: replica.group.0,
            bucket: replica.bucket.and_then(|bucket| self.buckets.get(&bucket).copied()),
            term: replica.leadership.term,
            leader: replica.leadership.leader,
            ready: replica.leadership.ready,
            pointers: {
                let p = replica.pointers;
                [p.purged, p.snapshot, p.applied, p.committed, p.last]
            },
            log_start: replica.log_start,
            high_watermark: replica.high_watermark,
            writers_digest: replica.writers_digest,
            failed: replica.failed,
        });
        Some(Event::Probe { node, boot: self.slots[node as usize - 1].boot, replicas: replicas.collect() })
    }

    /// Who leads a bucket or (None) the catalog, as the nodes themselves say; the newest term wins.
    pub fn leader(&self, bucket: Option<u32>) -> Option<NodeNo> {
        let mut best: Option<(u64, NodeNo)> = None;
        for node in self.nodes().filter(|node| self.is_up(*node)) {
            let Some(Event::Probe { replicas, .. }) = self.probe(node) else { continue };
            for replica in replicas.iter().filter(|replica| replica.bucket == bucket && replica.ready) {
                if (bucket.is_some() || replica.group == 0) && best.is_none_or(|(term, _)| term < replica.term) {
                    best = Some((replica.term, node));
                }
            }
        }
        best.map(|(_, node)| node)
    }

    /// Everything that the node's replica of a bucket holds; None if it has none.
    pub async fn dump(&self, node: NodeNo, table: i64, bucket: i32) -> Option<Event> {
        let running = self.running(node)?;
        let id = TableBucket { table_id: TableId(table), partition_id: None, bucket: BucketId(bucket) };
        let replica = running.probe().replicas.into_iter().find(|replica| replica.bucket == Some(id))?;
        let number = *self.buckets.get(&id)?;
        let batches = running.read_replica(id, 0).await.and_then(|batches| {
            let dump = |(base_offset, bytes)| {
                let batch = LogBatch::read(&bytes, 0).map_err(|error| error.to_string())?;
                let rows = values_of(number, &batch, None);
                Ok(DumpBatch { base_offset, records: batch.offset_count(), digest: crate::draw::digest(&bytes), rows })
            };
            batches.into_iter().map(dump).collect()
        });
        Some(Event::Dump { node, bucket: number, log_start: replica.log_start, high_watermark: replica.high_watermark, batches })
    }
}
