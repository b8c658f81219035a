//! Nodes of a simulated cluster: the shipped `node::open` on a simulated disk, with lives that end and begin.

use crate::disk::{PowerLoss, SimDisk};
use crate::draw::Draws;
use crate::history::{BucketNo, DumpBatch, Event, NodeNo, Replica};
use crate::network::{FaultyTransport, Links};
use crate::plan::Plan;
use crate::recorder::Recorder;
use crate::workload::rows;
use floss_protocol::ids::{BucketId, TableBucket, TableId};
use floss_protocol::log_batch::LogBatch;
use floss_raft::env::clock::{Clock, SystemClock};
use floss_raft::env::runtime::sync::Notify;
use floss_raft::env::runtime::{select, time};
use floss_raft::transport::Transport;
use floss_server::config::{NodeConfig, Tuning};
use floss_server::node::{self, Node, ReplicaProbe, Seams};
use floss_tablet::kv::mem::MemKvStore;
use madsim::runtime::Handle;
use madsim::task::NodeId as SimNodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const CLIENT_PORT: u16 = 9123;
const PEER_PORT: u16 = 9124;
/// A node that gave up is started again after so long, as an operator would.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
const READ_PATIENCE: Duration = Duration::from_secs(20);

pub struct Cluster {
    plan: Arc<Plan>,
    recorder: Arc<Recorder>,
    handle: Handle,
    pub links: Arc<Links>,
    members: Mutex<BTreeMap<NodeNo, Member>>,
    table_ids: Mutex<Vec<i64>>,
}

struct Member {
    id: SimNodeId,
    disk: SimDisk,
    boot: u32,
    up: bool,
    life: Arc<Life>,
    /// Faults of the disk that are active now, and whether one was since the start: what fails then, may.
    disk_faults: u32,
    excused: bool,
    /// Faults that keep it down.
    holds: BTreeSet<usize>,
}

/// What a running process shows to the harness.
#[derive(Default)]
struct Life {
    node: Mutex<Option<Arc<Node>>>,
    trouble: Mutex<Option<String>>,
    stop: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that is off.
struct SkewedClock {
    skew_ms: i64,
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.skew_ms
    }
}

impl Cluster {
    /// Machines without power.
    pub fn new(handle: Handle, plan: Arc<Plan>, recorder: Arc<Recorder>) -> Self {
        let draws = Draws::new(plan.seed);
        let members = (1..=plan.nodes).map(|number| {
            let name = format!("n{number}");
            let address = format!("10.0.0.{number}").parse().expect("an address");
            let sim = handle.create_node().name(name).ip(address).build();
            let disk = SimDisk::new(draws, number, plan.environment.disk);
            let life = Arc::default();
            (
                number,
                Member { id: sim.id(), disk, boot: 0, up: false, life, disk_faults: 0, excused: false, holds: BTreeSet::new() },
            )
        });
        let members = Mutex::new(members.collect());
        let links = Arc::new(Links::new(draws));
        links.add_loss(plan.environment.loss_per_mille as i64);
        Self { plan, recorder, handle, links, members, table_ids: Mutex::default() }
    }

    pub fn nodes(&self) -> Vec<NodeNo> {
        (1..=self.plan.nodes).collect()
    }

    pub fn client_addresses(&self) -> Vec<String> {
        self.nodes().iter().map(|number| format!("10.0.0.{number}:{CLIENT_PORT}")).collect()
    }

    pub fn sim_id(&self, number: NodeNo) -> SimNodeId {
        lock(&self.members)[&number].id
    }

    pub fn set_table_ids(&self, ids: Vec<i64>) {
        *lock(&self.table_ids) = ids;
    }

    pub fn is_up(&self, number: NodeNo) -> bool {
        lock(&self.members)[&number].up
    }

    /// Keeps it down until every fault that does so has been released.
    pub fn hold(&self, number: NodeNo, fault: usize) {
        lock(&self.members).get_mut(&number).expect("nodes are numbered").holds.insert(fault);
    }

    /// True if nothing keeps it down any more.
    pub fn release(&self, number: NodeNo, fault: usize) -> bool {
        let mut members = lock(&self.members);
        let holds = &mut members.get_mut(&number).expect("nodes are numbered").holds;
        holds.remove(&fault);
        holds.is_empty()
    }

    /// Starts the process, unless it runs or is kept down.
    pub fn boot(&self, number: NodeNo) {
        let mut members = lock(&self.members);
        let member = members.get_mut(&number).expect("nodes are numbered");
        if member.up || !member.holds.is_empty() {
            return;
        }
        member.boot += 1;
        member.up = true;
        member.excused = member.disk_faults > 0;
        member.life = Arc::default();
        let boot = member.boot;
        self.recorder.push(Event::Boot { node: number, boot });
        // A killed node of madsim takes no tasks before it is restarted.
        self.handle.restart(member.id);
        let process = self.handle.get_node(member.id).expect("created above");
        let (disk, life, links) = (member.disk.clone(), member.life.clone(), self.links.clone());
        let skew_ms = self.plan.environment.clock_skew_ms[number as usize - 1];
        process.spawn(run_node(self.config(number), disk, SkewedClock { skew_ms }, links, life));
    }

    fn config(&self, number: NodeNo) -> NodeConfig {
        let environment = &self.plan.environment;
        let initial = self.nodes().iter().map(|node| format!("{node}=10.0.0.{node}:{PEER_PORT}")).collect();
        NodeConfig {
            node_id: number,
            data_dir: String::new(),
            listen: format!("10.0.0.{number}:{CLIENT_PORT}"),
            advertise: None,
            peer_listen: format!("10.0.0.{number}:{PEER_PORT}"),
            peer_advertise: None,
            admin_listen: None,
            initial_nodes: initial,
            join: Vec::new(),
            rejoin: false,
            tuning: Tuning {
                journal_file_bytes: environment.journal_file_bytes,
                journal_cache_bytes: environment.journal_cache_bytes,
                sleep_after_ms: environment.sleep_after_ms,
                tail_entries: environment.tail_entries,
                compact_entries: environment.compact_entries,
                upkeep_ms: environment.upkeep_ms,
                ..Tuning::default()
            },
        }
    }

    /// kill -9. True if it ran.
    pub fn crash(&self, number: NodeNo) -> bool {
        let mut members = lock(&self.members);
        let member = members.get_mut(&number).expect("nodes are numbered");
        let was_up = self.end_life(number, member);
        member.disk = member.disk.end_life();
        was_up
    }

    /// Power is cut, also for a machine whose process had died before.
    pub fn lose_power(&self, number: NodeNo) -> PowerLoss {
        let mut members = lock(&self.members);
        let member = members.get_mut(&number).expect("nodes are numbered");
        // First the process, then the image: nothing it could still say is true afterwards.
        self.end_life(number, member);
        let (disk, loss) = member.disk.lose_power();
        member.disk = disk;
        loss
    }

    fn end_life(&self, number: NodeNo, member: &mut Member) -> bool {
        self.handle.kill(member.id);
        lock(&member.life.node).take();
        let was_up = std::mem::replace(&mut member.up, false);
        if was_up {
            self.recorder.push(Event::Down { node: number, boot: member.boot });
        }
        was_up
    }

    /// Asks for a graceful stop; the process ends when it is done.
    pub fn ask_to_stop(&self, number: NodeNo) {
        lock(&self.members)[&number].life.stop.notify_one();
    }

    pub fn pause(&self, number: NodeNo) {
        self.handle.pause(self.sim_id(number));
    }

    pub fn resume(&self, number: NodeNo) {
        self.handle.resume(self.sim_id(number));
    }

    pub fn disk(&self, number: NodeNo) -> SimDisk {
        lock(&self.members)[&number].disk.clone()
    }

    /// From now on the node may fail.
    pub fn begin_disk_fault(&self, number: NodeNo) {
        let mut members = lock(&self.members);
        let member = members.get_mut(&number).expect("nodes are numbered");
        member.disk_faults += 1;
        member.excused = true;
    }

    pub fn end_disk_fault(&self, number: NodeNo) {
        let mut members = lock(&self.members);
        let member = members.get_mut(&number).expect("nodes are numbered");
        member.disk_faults = member.disk_faults.saturating_sub(1);
    }

    /// The process, if it runs and has opened.
    pub fn node(&self, number: NodeNo) -> Option<Arc<Node>> {
        let members = lock(&self.members);
        let member = &members[&number];
        if member.up { lock(&member.life.node).clone() } else { None }
    }

    /// The probe of each node that runs.
    pub fn probe(&self) -> Vec<Event> {
        let probe = |number| {
            let node = self.node(number)?;
            let boot = lock(&self.members)[&number].boot;
            let replicas = node.probe().replicas.iter().map(|probe| self.replica(probe)).collect();
            Some(Event::Probe { node: number, boot, replicas })
        };
        self.nodes().into_iter().filter_map(probe).collect()
    }

    fn replica(&self, probe: &ReplicaProbe) -> Replica {
        let pointers = probe.pointers;
        Replica {
            group: probe.group.0,
            bucket: probe.bucket.and_then(|bucket| self.bucket_no(bucket)),
            term: probe.leadership.term,
            leader: probe.leadership.leader,
            ready: probe.leadership.ready,
            pointers: [pointers.purged, pointers.snapshot, pointers.applied, pointers.committed, pointers.last],
            log_start: probe.log_start,
            high_watermark: probe.high_watermark,
            writers_digest: probe.writers_digest,
            failed: probe.failed.clone(),
        }
    }

    fn bucket_no(&self, bucket: TableBucket) -> Option<BucketNo> {
        let table = lock(&self.table_ids).iter().position(|id| *id == bucket.table_id.0)?;
        Some(self.plan.first_bucket(table) + bucket.bucket.0 as u32)
    }

    pub fn table_bucket(&self, bucket: BucketNo) -> Option<TableBucket> {
        let (table, number) = self.plan.bucket(bucket)?;
        let table_id = TableId(*lock(&self.table_ids).get(table)?);
        Some(TableBucket { table_id, partition_id: None, bucket: BucketId(number) })
    }

    /// Starts nodes again that gave up because of their disk; one that gave up without cause is a finding.
    pub async fn supervise(&self) {
        for number in self.nodes() {
            let Some(trouble) = self.trouble(number) else { continue };
            if !lock(&self.members)[&number].excused {
                self.recorder.push(Event::Broken { what: format!("n{number} gave up, its disk was fine: {trouble}") });
                return;
            }
            self.recorder.note(format!("n{number} gave up: {trouble}"));
            self.crash(number);
            time::sleep(RESTART_PAUSE).await;
            self.boot(number);
        }
    }

    fn trouble(&self, number: NodeNo) -> Option<String> {
        let life = {
            let members = lock(&self.members);
            let member = &members[&number];
            if !member.up {
                return None;
            }
            member.life.clone()
        };
        let trouble = lock(&life.trouble).clone();
        trouble.or_else(|| {
            let probe = self.node(number)?.probe();
            let failed = probe.replicas.into_iter().find(|replica| replica.failed.is_some())?;
            Some(format!("{}: {}", failed.group, failed.failed.unwrap_or_default()))
        })
    }

    /// Everything a replica holds.
    pub async fn dump(&self, number: NodeNo, bucket: BucketNo, replica: &Replica) -> Event {
        let batches = match (self.node(number), self.table_bucket(bucket)) {
            (Some(node), Some(table_bucket)) => {
                let read = time::timeout(READ_PATIENCE, node.read_replica(table_bucket, replica.log_start)).await;
                read.unwrap_or_else(|_| Err(format!("no answer within {READ_PATIENCE:?}")))
            }
            _ => Err("the node does not run".to_owned()),
        };
        let batches = batches.map(|batches| batches.into_iter().map(|(base, bytes)| dump_batch(bucket, base, bytes)).collect());
        let (log_start, high_watermark) = (replica.log_start, replica.high_watermark);
        Event::Dump { node: number, bucket, log_start, high_watermark, batches }
    }
}

fn dump_batch(bucket: BucketNo, base_offset: i64, bytes: bytes::Bytes) -> DumpBatch {
    let digest = crate::draw::digest(&bytes);
    match LogBatch::read(&bytes, 0) {
        Ok(batch) => {
            let rows = rows::decode(bucket, &batch, None);
            let records = i64::from(batch.header().last_offset_delta) + 1;
            // What the bytes say about themselves counts, not what the index says.
            let rows = if batch.header().base_offset.0 == base_offset { rows } else { vec![Err("wrong base offset".into())] };
            DumpBatch { base_offset, records, digest, rows }
        }
        Err(error) => DumpBatch { base_offset, records: 1, digest, rows: vec![Err(error.to_string())] },
    }
}

async fn run_node(config: NodeConfig, disk: SimDisk, clock: SkewedClock, links: Arc<Links>, life: Arc<Life>) {
    let me = config.node_id;
    let wrap = move |inner| Arc::new(FaultyTransport::new(me, links.clone(), inner)) as Arc<dyn Transport>;
    let kv = Arc::new(MemKvStore::default());
    let seams = Seams { disk: Arc::new(disk), kv, clock: Arc::new(clock), wrap_transport: Box::new(wrap) };
    let node = match node::open(config, seams).await {
        Ok(node) => Arc::new(node),
        Err(error) => {
            *lock(&life.trouble) = Some(error.to_string());
            return;
        }
    };
    *lock(&life.node) = Some(node.clone());
    let failed = select! {
        biased;
        () = life.stop.notified() => None,
        reason = node.failed() => Some(reason),
    };
    match failed {
        Some(reason) => *lock(&life.trouble) = Some(reason),
        None => {
            lock(&life.node).take();
            if let Some(node) = Arc::into_inner(node) {
                node.stop().await;
            }
        }
    }
}
