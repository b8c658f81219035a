//! Nodes of a simulated cluster: the shipped `node::open` on a simulated disk, with lives that end and begin.

use crate::disk::{Names, PowerLoss, SimDisk};
use crate::draw::{Draws, Source, Stream};
use crate::history::{BucketNo, DumpBatch, Event, NodeNo, Replica};
use crate::network::{FaultyTransport, Links};
use crate::plan::Plan;
use crate::recorder::{Recorder, now_ns};
use crate::workload::{Layout, keyed_rows, rows};
use floss_protocol::ids::{BucketId, TableBucket, TableId};
use floss_protocol::log_batch::LogBatch;
use floss_raft::env::clock::{Clock, SystemClock};
use floss_raft::env::runtime::sync::Notify;
use floss_raft::env::runtime::{select, time};
use floss_raft::transport::Transport;
use floss_server::config::{NodeConfig, Tuning};
use floss_server::node::{self, Node, ReplicaProbe, RowsProbe, Seams};
use floss_tablet::kv::mem::MemKvStore;
use floss_tablet::kv::store::{KvBucketId, KvPosition, KvRange, KvStore, KvStoreError};
use madsim::runtime::Handle;
use madsim::task::NodeId as SimNodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const CLIENT_PORT: u16 = 9123;
const PEER_PORT: u16 = 9124;
/// A node that gave up is started again after so long, as an operator would.
const RESTART_PAUSE: Duration = Duration::from_millis(300);
/// A node that knows that it cannot go on ends at once, if it is not frozen.
const TIME_TO_TELL: Duration = Duration::from_secs(1);
const READ_PATIENCE: Duration = Duration::from_secs(20);

pub struct Cluster {
    plan: Arc<Plan>,
    recorder: Arc<Recorder>,
    handle: Handle,
    pub links: Arc<Links>,
    members: Mutex<BTreeMap<NodeNo, Member>>,
    table_ids: Mutex<Vec<i64>>,
    /// Buckets by group, once seen.
    groups: Mutex<BTreeMap<u64, BucketNo>>,
}

struct Member {
    id: SimNodeId,
    /// False: a spare machine that nobody knows yet.
    joined: bool,
    disk: SimDisk,
    /// The rows of primary-key buckets.
    kv: Arc<MemKvStore>,
    /// What a crash leaves of them.
    kv_crash: Source,
    boot: u32,
    up: bool,
    life: Arc<Life>,
    /// Faults of the disk that are active now, and whether one was since the start: what fails then, may.
    disk_faults: u32,
    excused: bool,
    /// Faults that keep it down.
    holds: BTreeSet<usize>,
    /// Its disk lies: it gets an empty one at its next start.
    distrusted: bool,
    /// It lost its disk and is not back yet as a voter of these groups.
    lost: Option<BTreeSet<u64>>,
    /// Groups that it votes in, when it was asked last.
    voted_in: BTreeSet<u64>,
    clock_step_ms: Arc<AtomicI64>,
}

/// What a running process shows to the harness.
#[derive(Default)]
struct Life {
    node: Mutex<Option<Arc<Node>>>,
    trouble: Mutex<Option<String>>,
    stop: Notify,
    frozen: AtomicBool,
    /// Since when it runs without its replica of the catalog and says nothing.
    mute_since: Mutex<Option<time::Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that is off, ever more so, and jumps.
struct SkewedClock {
    skew_ms: i64,
    drift_ppm: i64,
    step_ms: Arc<AtomicI64>,
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> i64 {
        let drift_ms = now_ns() as i64 / 1_000_000 * self.drift_ppm / 1_000_000;
        SystemClock.now_ms() + self.skew_ms + drift_ms + self.step_ms.load(Ordering::SeqCst)
    }
}

impl Cluster {
    /// Machines without power.
    pub fn new(handle: Handle, plan: Arc<Plan>, recorder: Arc<Recorder>) -> Self {
        let draws = Draws::new(plan.seed);
        let members = (1..=plan.nodes + plan.spares).map(|number| {
            let name = format!("n{number}");
            let address = format!("10.0.0.{number}").parse().expect("an address");
            let sim = handle.create_node().name(name).ip(address).build();
            let disk = SimDisk::new(draws, number, plan.environment.disk);
            let member = Member {
                id: sim.id(),
                joined: number <= plan.nodes,
                disk,
                kv: Arc::default(),
                kv_crash: draws.source(Stream::RowsCrash, number),
                boot: 0,
                up: false,
                life: Arc::default(),
                disk_faults: 0,
                excused: false,
                holds: BTreeSet::new(),
                distrusted: false,
                lost: None,
                voted_in: BTreeSet::new(),
                clock_step_ms: Arc::default(),
            };
            (number, member)
        });
        let members = Mutex::new(members.collect());
        let links = Arc::new(Links::new(draws));
        links.add_loss(plan.environment.loss_per_mille as i64);
        Self { plan, recorder, handle, links, members, table_ids: Mutex::default(), groups: Mutex::default() }
    }

    /// All that belong to the cluster, whether they run or not.
    pub fn nodes(&self) -> Vec<NodeNo> {
        lock(&self.members).iter().filter(|(_, member)| member.joined).map(|(number, _)| *number).collect()
    }

    pub fn client_addresses(&self) -> Vec<String> {
        (1..=self.plan.nodes).map(|number| format!("10.0.0.{number}:{CLIENT_PORT}")).collect()
    }

    /// A spare machine becomes a node. False if it is none or has done so before.
    pub fn join(&self, number: NodeNo) -> bool {
        let is_new = lock(&self.members).get_mut(&number).is_some_and(|member| !std::mem::replace(&mut member.joined, true));
        if is_new {
            self.boot(number);
        }
        is_new
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
        if member.distrusted {
            self.lose_disk(number, member);
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
        let (disk, kv) = (member.disk.clone(), member.kv.clone());
        let (life, links) = (member.life.clone(), self.links.clone());
        let environment = &self.plan.environment;
        let of_mine = |list: &[i64]| list.get(number as usize - 1).copied().unwrap_or(0);
        let (skew_ms, drift_ppm) = (of_mine(&environment.clock_skew_ms), of_mine(&environment.clock_drift_ppm));
        let clock = SkewedClock { skew_ms, drift_ppm, step_ms: member.clock_step_ms.clone() };
        let config = NodeConfig { rejoin: member.lost.is_some(), ..self.config(number) };
        process.spawn(run_node(config, disk, kv, clock, links, life));
    }

    fn config(&self, number: NodeNo) -> NodeConfig {
        let environment = &self.plan.environment;
        let founders = || (1..=self.plan.nodes).map(|node| (node, format!("10.0.0.{node}:{PEER_PORT}")));
        let (mut initial, mut join) = (Vec::new(), Vec::new());
        match number <= self.plan.nodes {
            true => initial = founders().map(|(node, address)| format!("{node}={address}")).collect(),
            false => join = founders().map(|(_, address)| address).collect(),
        }
        NodeConfig {
            node_id: number,
            data_dir: String::new(),
            listen: format!("10.0.0.{number}:{CLIENT_PORT}"),
            advertise: None,
            peer_listen: format!("10.0.0.{number}:{PEER_PORT}"),
            peer_advertise: None,
            admin_listen: None,
            initial_nodes: initial,
            join,
            rejoin: false,
            tuning: Tuning {
                journal_file_bytes: environment.journal_file_bytes,
                journal_cache_bytes: environment.journal_cache_bytes,
                journal_read_bytes: environment.journal_read_bytes,
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
    pub fn lose_power(&self, number: NodeNo, names: Names) -> PowerLoss {
        let mut members = lock(&self.members);
        let member = members.get_mut(&number).expect("nodes are numbered");
        // First the process, then the image: nothing it could still say is true afterwards.
        self.end_life(number, member);
        let (disk, loss) = member.disk.lose_power(names);
        member.disk = disk;
        loss
    }

    /// Asks for a disk to be lost or to lie. True if every group can do without it: no other one is lost or not to be trusted, and
    /// who votes in each group is known. Always true if the plan does not care.
    pub fn claim_disk(&self, number: NodeNo) -> bool {
        let voters = self.voters();
        self.forget_losses(&voters);
        let running = self.nodes().into_iter().filter_map(|number| self.node(number));
        let open: BTreeSet<u64> = running.flat_map(|node| node.probe().replicas).map(|replica| replica.group.0).collect();
        let mut members = lock(&self.members);
        let voted_in: BTreeSet<u64> =
            voters.iter().filter(|(_, voters)| voters.contains(&number)).map(|(group, _)| *group).collect();
        let is_whole = members.values().all(|member| member.lost.is_none() && !member.distrusted);
        // The catalog and every bucket, those of tables that makers made as well: one that is just being founded could lose all its voters
        // one after the other, and would keep them from coming back.
        let is_known = voters.len() as u32 > self.plan.buckets() && open.iter().all(|group| voters.contains_key(group));
        if !(is_whole && is_known || self.plan.environment.unrecoverable) {
            return false;
        }
        members.get_mut(&number).expect("nodes are numbered").voted_in = voted_in;
        true
    }

    /// Who lost a disk and votes everywhere again counts as whole.
    fn forget_losses(&self, voters: &BTreeMap<u64, BTreeSet<NodeNo>>) {
        for number in self.nodes() {
            let Some(lost) = lock(&self.members)[&number].lost.clone() else { continue };
            // It opens a group only when that group is rid of its former self.
            let opened: BTreeSet<u64> =
                self.node(number).iter().flat_map(|node| node.probe().replicas).map(|replica| replica.group.0).collect();
            let is_back = |group| opened.contains(group) && voters.get(group).is_some_and(|voters| voters.contains(&number));
            // A node that opens nothing has not been let in: where nothing is led, nobody knows what it voted in, and it must go on asking.
            if !opened.is_empty() && lost.iter().all(is_back) {
                lock(&self.members).get_mut(&number).expect("nodes are numbered").lost = None;
            }
        }
    }

    /// Per group with a leader that is ready: who votes.
    fn voters(&self) -> BTreeMap<u64, BTreeSet<NodeNo>> {
        let mut voters = BTreeMap::new();
        for number in self.nodes() {
            let Some(node) = self.node(number) else { continue };
            for replica in node.probe().replicas {
                let leads = replica.leadership.leader == Some(number) && replica.leadership.ready;
                if let (true, Some(settled)) = (leads, replica.voters) {
                    voters.insert(replica.group.0, settled.into_iter().collect());
                }
            }
        }
        voters
    }

    /// What is on the disk cannot be trusted from now on; the node is started with an empty one next time.
    pub fn distrust_disk(&self, number: NodeNo) {
        lock(&self.members).get_mut(&number).expect("nodes are numbered").distrusted = true;
    }

    /// False if it has been replaced meanwhile.
    pub fn is_distrusted(&self, number: NodeNo) -> bool {
        lock(&self.members)[&number].distrusted
    }

    /// Whose disk is lost or lies.
    pub fn without_disk(&self) -> BTreeSet<NodeNo> {
        self.forget_losses(&self.voters());
        let members = lock(&self.members);
        let without = members.iter().filter(|(_, member)| member.lost.is_some() || member.distrusted);
        without.map(|(number, _)| *number).collect()
    }

    /// The process dies and the disk is lost.
    pub fn wipe(&self, number: NodeNo) {
        self.crash(number);
        let mut members = lock(&self.members);
        let member = members.get_mut(&number).expect("nodes are numbered");
        self.lose_disk(number, member);
    }

    fn lose_disk(&self, number: NodeNo, member: &mut Member) {
        self.recorder.note(format!("n{number} has an empty disk"));
        member.disk = member.disk.wipe();
        member.kv = Arc::default();
        member.distrusted = false;
        member.lost = Some(std::mem::take(&mut member.voted_in));
    }

    pub fn step_clock(&self, number: NodeNo, ms: i64) {
        lock(&self.members)[&number].clock_step_ms.fetch_add(ms, Ordering::SeqCst);
    }

    fn end_life(&self, number: NodeNo, member: &mut Member) -> bool {
        self.handle.kill(member.id);
        lock(&member.life.node).take();
        let was_up = std::mem::replace(&mut member.up, false);
        if was_up {
            self.recorder.push(Event::Down { node: number, boot: member.boot });
            self.crash_rows(number, member);
        }
        was_up
    }

    /// The store of the rows has no log of its own: whatever ends a process takes it back to some flush, maybe one of its own. Now and
    /// then its directory is gone as well.
    fn crash_rows(&self, number: NodeNo, member: &mut Member) {
        if member.kv.buckets().is_ok_and(|buckets| buckets.is_empty()) {
            return;
        }
        let unflushed = member.kv.unflushed_count() as u64;
        let kept = member.kv_crash.below(unflushed + 1);
        if member.kv_crash.chance(self.plan.environment.rows_lost_per_mille) {
            member.kv = Arc::default();
            self.recorder.note(format!("n{number} lost all rows"));
            self.recorder.effective("rows-lost");
            return;
        }
        member.kv.crash(kept as usize);
        if kept < unflushed {
            self.recorder.note(format!("n{number} kept {kept} of {unflushed} writes of rows"));
            self.recorder.effective("rows-back");
        }
        for id in member.kv.buckets().unwrap_or_default() {
            let Some(bucket) = lock(&self.groups).get(&id.0).copied() else { continue };
            let Some(table) = self.plan.keyed_of(bucket) else { continue };
            let rows = image(&member.kv, id).map_err(|error| error.to_string());
            self.recorder.push(rows_event(Layout::of(table), number, bucket, true, rows));
        }
    }

    /// Asks for a graceful stop; the process ends when it is done.
    pub fn ask_to_stop(&self, number: NodeNo) {
        lock(&self.members)[&number].life.stop.notify_one();
    }

    pub fn pause(&self, number: NodeNo) {
        lock(&self.members)[&number].life.frozen.store(true, Ordering::SeqCst);
        self.handle.pause(self.sim_id(number));
    }

    pub fn resume(&self, number: NodeNo) {
        self.handle.resume(self.sim_id(number));
        lock(&self.members)[&number].life.frozen.store(false, Ordering::SeqCst);
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

    /// What tables that do not ask for another get.
    pub fn replication_factor(&self) -> usize {
        self.plan.nodes.min(3) as usize
    }

    /// How many replicas run, by the id of their table.
    pub fn replicas_by_table(&self) -> BTreeMap<i64, usize> {
        let mut held = BTreeMap::new();
        for node in self.nodes().into_iter().filter_map(|number| self.node(number)) {
            for bucket in node.probe().replicas.into_iter().filter_map(|replica| replica.bucket) {
                *held.entry(bucket.table_id.0).or_default() += 1;
            }
        }
        held
    }

    /// The rows of each primary-key replica that runs.
    pub fn probe_rows(&self) -> Vec<Event> {
        let layout = |bucket| Some((bucket, Layout::of(self.plan.keyed_of(bucket)?)));
        let keyed: Vec<_> = (0..self.plan.buckets()).filter_map(layout).collect();
        let mut events = Vec::new();
        for number in self.nodes() {
            let Some(node) = self.node(number) else { continue };
            for (bucket, layout) in &keyed {
                let rows = self.table_bucket(*bucket).and_then(|table_bucket| node.probe_rows(table_bucket));
                events.extend(rows.map(|rows| rows_event(layout, number, *bucket, false, rows)));
            }
        }
        events
    }

    fn replica(&self, probe: &ReplicaProbe) -> Replica {
        let pointers = probe.pointers;
        let bucket = probe.bucket.and_then(|bucket| self.bucket_no(bucket));
        if let Some(bucket) = bucket {
            lock(&self.groups).insert(probe.group.0, bucket);
        }
        Replica {
            group: probe.group.0,
            bucket,
            term: probe.leadership.term,
            leader: probe.leadership.leader,
            ready: probe.leadership.ready,
            pointers: [pointers.purged, pointers.snapshot, pointers.applied, pointers.committed, pointers.last],
            log_start: probe.log_start,
            high_watermark: probe.high_watermark,
            writers_digest: probe.writers_digest,
            voters: probe.voters.clone(),
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

    /// Starts nodes again that gave up because of their disk; one that gave up without cause is a finding, and so is one that cannot
    /// take part and does not give up.
    pub async fn supervise(&self) {
        for number in self.nodes() {
            if let Some(failure) = self.kept_quiet(number) {
                self.recorder.push(Event::Broken { what: format!("n{number} goes on without the catalog: {failure}") });
                return;
            }
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
        let life = self.life(number)?;
        let trouble = lock(&life.trouble).clone();
        trouble.or_else(|| {
            let probe = self.node(number)?.probe();
            // The catalog is the node's own matter: it ends without it.
            let failed = probe.replicas.into_iter().find(|replica| replica.bucket.is_some() && replica.failed.is_some())?;
            Some(format!("{}: {}", failed.group, failed.failed.unwrap_or_default()))
        })
    }

    /// Why the catalog's replica failed, if the node has had time to say so and did not.
    fn kept_quiet(&self, number: NodeNo) -> Option<String> {
        let life = self.life(number)?;
        let catalog = self.node(number)?.probe().replicas.into_iter().find(|replica| replica.bucket.is_none())?;
        let is_mute = !life.frozen.load(Ordering::SeqCst) && lock(&life.trouble).is_none();
        let mut mute_since = lock(&life.mute_since);
        let failure = catalog.failed.filter(|_| is_mute);
        if failure.is_none() {
            *mute_since = None;
            return None;
        }
        let since = *mute_since.get_or_insert_with(time::Instant::now);
        failure.filter(|_| since.elapsed() >= TIME_TO_TELL)
    }

    fn life(&self, number: NodeNo) -> Option<Arc<Life>> {
        let members = lock(&self.members);
        let member = &members[&number];
        member.up.then(|| member.life.clone())
    }

    /// Everything a replica holds.
    pub async fn dump(&self, number: NodeNo, bucket: BucketNo, replica: &Replica) -> Event {
        let high_watermark = replica.high_watermark;
        let mut log_start = replica.log_start;
        loop {
            let batches = match (self.node(number), self.table_bucket(bucket)) {
                (Some(node), Some(table_bucket)) => {
                    let read = time::timeout(READ_PATIENCE, node.read_replica(table_bucket, log_start)).await;
                    read.unwrap_or_else(|_| Err(format!("no answer within {READ_PATIENCE:?}")))
                }
                _ => Err("the node does not run".to_owned()),
            };
            // What it began with may expire meanwhile.
            let start_now = self.log_start(number, bucket).filter(|now| *now > log_start);
            if let Some(start_now) = start_now {
                log_start = start_now;
                continue;
            }
            let dump = |(base, bytes)| self.dump_batch(bucket, base, bytes);
            let batches = batches.map(|batches| batches.into_iter().map(dump).collect());
            return Event::Dump { node: number, bucket, log_start, high_watermark, batches };
        }
    }

    fn log_start(&self, number: NodeNo, bucket: BucketNo) -> Option<i64> {
        let probe = self.node(number)?.probe();
        let replicas = probe.replicas.iter().map(|probe| self.replica(probe));
        replicas.filter(|replica| replica.bucket == Some(bucket)).map(|replica| replica.log_start).next()
    }

    fn dump_batch(&self, bucket: BucketNo, base_offset: i64, bytes: bytes::Bytes) -> DumpBatch {
        let digest = crate::draw::digest(&bytes);
        let bad = |error: String| DumpBatch { base_offset, records: 1, digest, rows: vec![Err(error)], changes: Vec::new() };
        let batch = match LogBatch::read(&bytes, 0) {
            Ok(batch) => batch,
            Err(error) => return bad(error.to_string()),
        };
        // What the bytes say about themselves counts, not what the index says.
        if batch.header().base_offset.0 != base_offset {
            return bad("wrong base offset".into());
        }
        let records = i64::from(batch.header().last_offset_delta) + 1;
        let (rows, changes) = match self.plan.keyed_of(bucket) {
            Some(table) => self.recorder.changelog_rows(Layout::of(table), &batch),
            None => (rows::decode(bucket, &batch, None), Vec::new()),
        };
        DumpBatch { base_offset, records, digest, rows, changes }
    }
}

/// Position and rows of one moment.
fn image(kv: &MemKvStore, bucket: KvBucketId) -> Result<RowsProbe, KvStoreError> {
    let KvPosition { log_end, row_count, .. } = kv.position(bucket)?;
    Ok(RowsProbe { log_end, row_count, rows: kv.scan(bucket, &KvRange::all())? })
}

fn rows_event(layout: &Layout, node: NodeNo, bucket: BucketNo, crashed: bool, probe: Result<RowsProbe, String>) -> Event {
    let RowsProbe { log_end, row_count, rows } = match probe {
        Ok(probe) => probe,
        Err(error) => return Event::Rows { node, bucket, crashed, log_end: 0, row_count: None, rows: Err(error) },
    };
    let row = |(key, value): (bytes::Bytes, bytes::Bytes)| {
        let row = keyed_rows::decode_value(layout, &value)?;
        let cells = layout.key(&row);
        match keyed_rows::key_bytes(layout, &cells) == key {
            true => Ok((cells, row)),
            false => Err(format!("key {key:?} has the row {}", floss_checker::show(&row))),
        }
    };
    Event::Rows { node, bucket, crashed, log_end, row_count, rows: rows.into_iter().map(row).collect() }
}

async fn run_node(
    config: NodeConfig,
    disk: SimDisk,
    kv: Arc<MemKvStore>,
    clock: SkewedClock,
    links: Arc<Links>,
    life: Arc<Life>,
) {
    let me = config.node_id;
    let wrap = move |inner| Arc::new(FaultyTransport::new(me, links.clone(), inner)) as Arc<dyn Transport>;
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
