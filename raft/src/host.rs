//! All groups of a node: opens, closes and routes to them; puts quiet ones to sleep; watches the other nodes.

mod campaign;
mod detector;
mod sleep;

use crate::adapter::machine::StateMachine;
use crate::adapter::network::Network;
use crate::adapter::store::LogStore;
use crate::adapter::{Raft, Shared, network};
use crate::env::BoxFuture;
use crate::env::clock::Clock;
use crate::env::disk::Disk;
use crate::env::runtime::sync::Notify;
use crate::env::runtime::{spawn, time};
use crate::group::Group;
use crate::journal::{GroupLog, Journal, JournalConfig};
use crate::machine::Machine;
use crate::transport::{PeerChannel, PeerRequest, PeerService, Transport};
use crate::types::{GroupId, Leadership, NodeId};
use bytes::{Bytes, BytesMut};
use detector::Detector;
use futures_util::FutureExt;
use openraft::{Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Where the journal lies below the disk's root.
const JOURNAL_DIR: &str = "journal";
/// Messages for a group that is not open yet wait this long.
const OPEN_WAIT: Duration = Duration::from_millis(300);
/// A new group whose first election came to nothing within this long is anybody's.
const FIRST_ELECTION_WAIT: Duration = Duration::from_millis(1_500);
/// Where it was started by hand, it is tried again after this long.
const SECOND_TRY_WAIT: Duration = Duration::from_millis(600);
/// A replica that failed says so this often.
const WAKE_EVERY: Duration = Duration::from_millis(2_000);
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Entries per AppendEntries; their bytes are bounded by the reader.
const APPEND_ENTRIES_MAX: u64 = 64;

/// Times and sizes of the Raft layer on one node.
#[derive(Clone, Debug)]
pub struct HostConfig {
    pub node_id: NodeId,
    /// A vote is waited for this long.
    pub election_timeout_ms_min: u64,
    /// The lease of a leader: so long after an append or heartbeat of it nobody votes for another.
    pub election_timeout_ms_max: u64,
    pub heartbeat_ms: u64,
    /// A leader without traffic for this long stops its heartbeats.
    pub sleep_after_ms: u64,
    /// Node-level pings; a node silent for `suspect_after_ms` is suspected and wakes the groups it led.
    pub ping_ms: u64,
    pub suspect_after_ms: u64,
    pub journal_file_bytes: u64,
    pub journal_cache_bytes: u64,
    pub journal_read_bytes: usize,
    /// Log kept behind a snapshot, so that a follower that lags a little needs none.
    pub tail_entries: u64,
}

/// A group to open on this node.
pub struct GroupSpec {
    pub id: GroupId,
    /// All voters of the first membership. Used only while the group has no log here.
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    /// This node writes the first membership if the group has no log here (any subset of the voters may do so, with the same
    /// membership).
    pub initialize: bool,
    /// This node starts the first election at once; the others wait for it.
    pub elect: bool,
}

/// What the host tells the layer above. Calls must not block.
pub trait HostObserver: Send + Sync + 'static {
    /// Every change of what this node's replica believes, in order per group.
    fn on_leadership(&self, group: GroupId, leadership: Leadership);
    /// A node became suspected (`alive = false`) or answered again.
    fn on_node(&self, node: NodeId, alive: bool);
    /// A replica stopped for good: failed disk, corrupt record, broken invariant.
    fn on_group_failed(&self, group: GroupId, reason: &str);
    /// Bytes to carry in the next ping to `to` (gossip of the layer above); empty if there is nothing to say.
    fn ping_payload(&self, to: NodeId) -> Bytes;
    /// What the other side's `ping_payload` gave.
    fn on_ping(&self, from: NodeId, payload: Bytes);
    /// A request on `PeerChannel::Server`.
    fn on_request(&self, from: NodeId, method: u8, body: Bytes) -> crate::env::BoxFuture<'static, Result<Bytes, String>>;
}

/// The Raft layer of one node. Clones share it. It is the node's `PeerService`.
#[derive(Clone)]
pub struct Host {
    inner: Arc<HostInner>,
}

struct HostInner {
    config: HostConfig,
    raft_config: Arc<Config>,
    journal: Journal,
    transport: Arc<dyn Transport>,
    observer: Arc<dyn HostObserver>,
    groups: Mutex<BTreeMap<GroupId, Group>>,
    opened: Notify,
    detector: Detector,
    /// Some groups may need an election.
    campaigns: Notify,
    closing: AtomicBool,
}

impl Host {
    /// Opens the journal and starts the failure detector. Groups are opened one by one afterwards; until then their
    /// messages wait for a moment, then are refused.
    pub async fn open(
        config: HostConfig,
        disk: Arc<dyn Disk>,
        _clock: Arc<dyn Clock>,
        transport: Arc<dyn Transport>,
        observer: Arc<dyn HostObserver>,
    ) -> io::Result<Host> {
        let journal_config = JournalConfig {
            dir: JOURNAL_DIR.to_string(),
            file_bytes: config.journal_file_bytes,
            cache_bytes_max: config.journal_cache_bytes,
            read_bytes_max: config.journal_read_bytes,
        };
        let journal = Journal::open(disk, journal_config).await?;
        let inner = HostInner {
            raft_config: Arc::new(raft_config(&config)?),
            journal,
            transport,
            observer,
            groups: Mutex::default(),
            opened: Notify::new(),
            detector: Detector::new(),
            campaigns: Notify::new(),
            closing: AtomicBool::new(false),
            config,
        };
        let host = Host { inner: Arc::new(inner) };
        spawn(sleep::run(host.clone()));
        spawn(campaign::run(host.clone()));
        Ok(host)
    }

    /// Groups with records in the journal of this node.
    pub fn groups_on_disk(&self) -> Vec<GroupId> {
        self.inner.journal.groups()
    }

    /// Opens a group: restores the machine from its snapshot, replays what was committed after it, joins.
    pub async fn open_group(&self, spec: GroupSpec, machine: Box<dyn Machine>) -> io::Result<Group> {
        let inner = &self.inner;
        let shared = Arc::new(Shared::default());
        let store = LogStore::new(inner.journal.clone(), spec.id, shared.clone());
        let machine = StateMachine::open(machine, inner.journal.clone(), spec.id, shared.clone())?;
        let network = Network {
            transport: inner.transport.clone(),
            journal: inner.journal.clone(),
            group: spec.id,
            shared: shared.clone(),
        };
        let is_new = inner.journal.group(spec.id) == GroupLog::default();
        let raft = Raft::new(inner.config.node_id, inner.raft_config.clone(), network, store, machine).await;
        let raft = raft.map_err(|fatal| io::Error::other(format!("open {}: {fatal}", spec.id)))?;
        let lease = Duration::from_millis(inner.config.election_timeout_ms_max);
        let group = Group::new(spec.id, inner.config.node_id, raft, inner.journal.clone(), shared, lease);
        self.groups().insert(spec.id, group.clone());
        inner.opened.notify_waiters();
        if is_new && spec.initialize {
            let patience = if spec.elect { SECOND_TRY_WAIT } else { FIRST_ELECTION_WAIT };
            group.inner.elections.be_patient(patience);
        }
        spawn(self.clone().run_group(group.clone()));
        if spec.initialize {
            self.initialize(&spec, &group).await?;
        }
        Ok(group)
    }

    async fn run_group(self, group: Group) {
        if !group.watch(&*self.inner.observer).await || self.inner.closing.load(Ordering::SeqCst) {
            return;
        }
        // The others may sleep in the belief that this node still leads: it is alive, only this replica is not.
        // More than once: a node that restarts believes again what its last vote says.
        let (voters, learners) = group.members();
        let others: Vec<NodeId> = voters.into_iter().chain(learners).filter(|node| *node != self.inner.config.node_id).collect();
        while !self.inner.closing.load(Ordering::SeqCst) && self.group(group.id()).is_some_and(|now| now.is_same(&group)) {
            for node in &others {
                network::send_wake(&*self.inner.transport, group.id(), *node);
            }
            time::sleep(WAKE_EVERY).await;
        }
    }

    /// Writes the first membership: at once where the first election is to start, later elsewhere, in case that node is not there.
    async fn initialize(&self, spec: &GroupSpec, group: &Group) -> io::Result<()> {
        let voters: BTreeMap<NodeId, ()> = spec.voters.iter().map(|node| (*node, ())).collect();
        let raft = group.inner.raft.clone();
        let first = async move |raft: Raft| {
            // A message of the leader may overtake us: then there is nothing to do.
            if let Ok(false) = raft.is_initialized().await {
                return raft.initialize(voters).await.is_ok();
            }
            false
        };
        if spec.elect {
            if first(raft.clone()).await {
                // Nobody else can be leading: no timeout, no questions before the vote.
                _ = raft.trigger().elect(false).await;
            }
            return Ok(());
        }
        spawn(async move {
            time::sleep(FIRST_ELECTION_WAIT).await;
            first(raft).await;
        });
        Ok(())
    }

    pub fn group(&self, id: GroupId) -> Option<Group> {
        self.groups().get(&id).cloned()
    }

    /// Stops the replica and removes its data, durably.
    pub async fn drop_group(&self, id: GroupId) -> io::Result<()> {
        let group = self.groups().remove(&id);
        if let Some(group) = group {
            group.stop().await;
        }
        self.inner.journal.drop_group(id).await
    }

    /// The nodes to ping.
    pub fn set_nodes(&self, nodes: Vec<NodeId>) {
        detector::set_nodes(self, nodes);
    }

    pub fn is_alive(&self, node: NodeId) -> bool {
        node == self.inner.config.node_id || self.inner.detector.is_alive(node)
    }

    /// Pings everybody now: the layer above has news.
    pub fn ping_now(&self) {
        self.inner.detector.ping_now();
    }

    /// Stops all groups and closes the journal. With `hand_over`, leaders transfer leadership first (bounded wait).
    pub async fn shutdown(&self, hand_over: bool) {
        let groups: Vec<Group> = self.groups().values().cloned().collect();
        if hand_over {
            let mut moves = Vec::new();
            for group in groups.iter().filter(|group| group.leadership().leader == Some(self.inner.config.node_id)) {
                let group = group.clone();
                moves.push(spawn(async move { _ = group.transfer_leader(None, HAND_OVER_TIMEOUT).await }));
            }
            for moved in moves {
                _ = moved.await;
            }
        }
        self.inner.closing.store(true, Ordering::SeqCst);
        self.inner.detector.ping_now();
        for group in groups {
            group.stop().await;
        }
        self.inner.journal.close().await;
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<GroupId, Group>> {
        self.inner.groups.lock().expect("no panic happens while groups are held")
    }

    /// `node` went silent or answers again; `reborn`: what it led it leads no more.
    fn look_after_groups(&self, node: NodeId, reborn: bool) {
        let groups: Vec<Group> = self.groups().values().cloned().collect();
        for group in &groups {
            if reborn {
                group.inner.doubt(node);
            }
            sleep::settle(self, group);
        }
        self.inner.campaigns.notify_one();
    }

    /// The group, or `None` if it is not open after a moment.
    async fn group_soon(&self, id: GroupId) -> Option<Group> {
        let appears = async {
            loop {
                let opened = self.inner.opened.notified();
                if let Some(group) = self.group(id) {
                    return group;
                }
                opened.await;
            }
        };
        time::timeout(OPEN_WAIT, appears).await.ok()
    }
}

fn raft_config(config: &HostConfig) -> io::Result<Config> {
    let raft = Config {
        cluster_name: "floss".to_string(),
        election_timeout_min: config.election_timeout_ms_min,
        election_timeout_max: config.election_timeout_ms_max,
        heartbeat_interval: config.heartbeat_ms,
        install_snapshot_timeout: 10_000,
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: config.tail_entries,
        replication_lag_threshold: 10_000,
        enable_pre_vote: Some(true),
        // A leader that restarts knows less about what is committed than its followers: it has to be elected again.
        enable_leader_restore: Some(false),
        // Ticks are for heartbeats only, and every group is born asleep; see `sleep` and `campaign`.
        enable_tick: false,
        enable_elect: false,
        // Appends prove as much.
        heartbeat_min_interval: Some(config.heartbeat_ms.min(config.election_timeout_ms_min / 4)),
        // Its statistics are not asked for, and would be most of an idle group's memory.
        log_stage_capacity: Some(1),
        ..Default::default()
    };
    raft.validate().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("raft configuration: {error}")))
}

impl PeerService for Host {
    fn serve(&self, from: NodeId, request: PeerRequest) -> BoxFuture<'static, Result<Bytes, String>> {
        let body = join(request.body);
        match request.channel {
            PeerChannel::Raft(id) => {
                let opened = self.group(id);
                let host = self.clone();
                let mut answer: BoxFuture<'static, Result<Bytes, String>> = Box::pin(async move {
                    let group = match opened {
                        Some(group) => group,
                        None => host.group_soon(id).await.ok_or_else(|| format!("{id} is not on this node"))?,
                    };
                    if network::is_pre_vote(request.method) && campaign::vouches_for_leader(&host, &group, from) {
                        return Err(format!("{id} has a leader"));
                    }
                    group.serve(from, host.inner.detector.is_newborn(from), request.method, body).await
                });
                // Polled once here, so that messages reach openraft's queue in the order in which they came.
                match (&mut answer).now_or_never() {
                    Some(answer) => Box::pin(std::future::ready(answer)),
                    None => answer,
                }
            }
            PeerChannel::Node => {
                let answer = detector::on_ping(self, from, body);
                Box::pin(std::future::ready(answer))
            }
            PeerChannel::Server => self.inner.observer.on_request(from, request.method, body),
        }
    }
}

fn join(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        0 => Bytes::new(),
        1 => pieces.remove(0),
        _ => {
            let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
            whole.freeze()
        }
    }
}
