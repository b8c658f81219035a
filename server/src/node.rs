//! `open` is the only way to start a node: the binary and the simulator both call it.

use crate::admin;
use crate::config::NodeConfig;
use crate::coordinator::admission::parse_formation;
use crate::coordinator::catalog::{Catalog, Proposer};
use crate::coordinator::command::NodeRegistration;
use crate::coordinator::leaders::LeaderTable;
use crate::coordinator::machine::CatalogMachine;
use crate::dispatch::Dispatch;
use crate::forming::Forming;
use crate::handlers::projection::Projections;
use crate::identity::open_identity;
use crate::net::connection::Service;
use crate::net::listener;
use crate::observer::Observer;
use crate::ports::Ports;
use crate::replica::replica::Replica;
use crate::replica::set::Replicas;
use crate::replica::{kv, upkeep};
use crate::scanners::{self, Scanners};
use crate::shared::Shared;
use crate::stop::{self, Fatal, Stopper};
use bytes::Bytes;
use floss_protocol::ids::TableBucket;
use floss_raft::env::clock::Clock;
use floss_raft::env::disk::Disk;
use floss_raft::env::runtime::sync::Notify;
use floss_raft::env::runtime::time;
use floss_raft::host::Host;
use floss_raft::transport::Transport;
use floss_raft::transport::tcp::{Hello, ServeGuard, TcpTransport};
use floss_raft::types::{GroupId, Leadership, NodeId, Pointers};
use floss_tablet::kv::store::{KvPosition, KvRange, KvStore};
use std::sync::Arc;
use std::time::Duration;

/// Puts something between the TCP transport and those who use it.
pub type WrapTransport = Box<dyn Fn(Arc<dyn Transport>) -> Arc<dyn Transport> + Send + Sync>;

/// What a node stands on. The binary gives real ones, the simulator its own.
pub struct Seams {
    /// Rooted at the node's data directory.
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    /// The rows of all primary-key buckets of the node.
    pub kv: Arc<dyn KvStore>,
    /// Wraps the TCP transport between nodes; the identity in production, faults in the simulator.
    pub wrap_transport: WrapTransport,
}

impl Seams {
    /// A transport that is used as it is.
    pub fn plain_transport() -> WrapTransport {
        Box::new(|transport| transport)
    }
}

/// Why a node did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("configuration: {what}, expected {expected}, found {found}")]
    Config { what: String, expected: String, found: String },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// The directory belongs to another node, cluster or incarnation.
    #[error("data directory: {what} is {found}, expected {expected}")]
    Identity { what: &'static str, found: String, expected: String },
}

/// A running node. Dropping it stops nothing; call [`Node::stop`].
pub struct Node {
    shared: Arc<Shared>,
    host: Host,
    stopper: Stopper,
    fatal: Arc<Fatal>,
    admin_address: Option<String>,
    /// Peers are served for as long as it lives.
    serving: ServeGuard,
}

/// How long a stop waits for tasks that do not end.
const STOP_WAIT: Duration = Duration::from_secs(5);
const HAND_OVER_WAIT: Duration = Duration::from_secs(2);

/// Starts a node: opens the directory (identity, journal), forms or joins the cluster, serves clients.
/// Returns when the listeners are bound; leadership may come later.
pub async fn open(config: NodeConfig, seams: Seams) -> Result<Node, NodeError> {
    config.check()?;
    let identity = open_identity(seams.disk.as_ref(), seams.clock.as_ref(), config.node_id).await?;
    tracing::info!(node = config.node_id, incarnation = identity.incarnation, boot = identity.boot, "starting");
    let ports = Ports::bind(&config).await?;
    let formation = parse_formation(&config, &ports.peer_address)?;
    let hello = Hello { node_id: config.node_id, cluster: identity.cluster_id.clone().unwrap_or_default() };
    let tcp = TcpTransport::new(hello);
    let transport = (seams.wrap_transport)(Arc::new(tcp.clone()));
    let proposer = Proposer { node: config.node_id, incarnation: identity.incarnation, boot: identity.boot };
    let (catalog, machine) = Catalog::new(proposer, seams.clock.clone(), transport.clone());
    let leaders = Arc::new(LeaderTable::new(config.node_id, identity.incarnation.wrapping_add(identity.boot)));
    let shared = Arc::new(Shared {
        node_id: config.node_id,
        client_address: ports.client_address.clone(),
        tuning: config.tuning.clone(),
        clock: seams.clock.clone(),
        catalog,
        leaders,
        replicas: Arc::new(Replicas::default()),
        projections: Projections::default(),
        scanners: Arc::new(Scanners::new(identity.incarnation.wrapping_add(identity.boot))),
        kv: seams.kv,
    });
    let news = Arc::new(Notify::new());
    let fatal = Arc::new(Fatal::default());
    let observer = Arc::new(Observer::new(&shared, fatal.clone(), news.clone()));
    let host = Host::open(config.tuning.host(config.node_id), seams.disk.clone(), seams.clock, transport.clone(), observer)
        .await
        .map_err(|source| NodeError::Io { path: config.data_dir.clone(), source })?;

    let (tasks, stopper) = stop::tasks();
    let serving = tcp.serve(ports.peers, Arc::new(host.clone()));
    let me = NodeRegistration {
        node: config.node_id,
        incarnation: identity.incarnation,
        client_address: ports.client_address,
        peer_address: ports.peer_address,
    };
    let (shared_, host_, tasks_) = (shared.clone(), host.clone(), tasks.clone());
    let forming = Forming {
        shared: shared_,
        host: host_,
        disk: seams.disk,
        formation,
        me,
        identity,
        rejoin: config.rejoin,
        compact_entries: shared.tuning.compact_entries,
        tasks: tasks_,
    };
    tasks.spawn(form(forming, machine, fatal.clone()));
    tasks.spawn(ping_on_news(host.clone(), news));
    tasks.spawn(scanners::run_purge(shared.scanners.clone()));
    tasks.spawn(kv::run_flush(shared.kv.clone()));
    tasks.spawn(upkeep::run(shared.replicas.clone(), shared.tuning.clone()));
    if let Some(listener) = ports.admin {
        tasks.spawn(admin::run(listener, shared.clone(), tasks.clone()));
    }
    let dispatch: Arc<dyn Service> = Arc::new(Dispatch { shared: shared.clone() });
    tasks.spawn(listener::run(ports.clients, dispatch, tasks.clone()));
    Ok(Node { shared, host, stopper, fatal, admin_address: ports.admin_address, serving })
}

async fn form(forming: Forming, machine: CatalogMachine, fatal: Arc<Fatal>) {
    if let Err(error) = forming.run(machine).await {
        tracing::error!(%error, "this node cannot take part");
        fatal.set(error.to_string());
    }
}

/// Gathers what happens at almost the same time into one round of pings.
async fn ping_on_news(host: Host, news: Arc<Notify>) {
    loop {
        news.notified().await;
        host.ping_now();
        time::sleep(NEWS_PAUSE).await;
    }
}

const NEWS_PAUSE: Duration = Duration::from_millis(5);

impl Node {
    /// Where clients connect (with the real port).
    pub fn client_address(&self) -> String {
        self.shared.client_address.clone()
    }

    /// Where /livez and the rest are (with the real port), if they are on.
    pub fn admin_address(&self) -> Option<String> {
        self.admin_address.clone()
    }

    /// Ends when this node cannot take part any more (wiped directory, other cluster, a disk that failed the catalog), with the reason.
    pub async fn failed(&self) -> String {
        self.fatal.wait().await
    }

    /// Graceful stop: hands leadership over, closes connections, closes the journal.
    pub async fn stop(self) {
        // Clients are served meanwhile: they learn from error 12 and fresh metadata where their leaders went.
        self.host.shutdown(true).await;
        drop(self.serving);
        if !self.stopper.stop(STOP_WAIT).await {
            tracing::warn!(node = self.shared.node_id, "some tasks did not end in time");
        }
    }

    /// Asks the most up-to-date other replica to lead a bucket that this node leads. Ends when it does, or with the reason.
    pub async fn hand_over(&self, bucket: TableBucket) -> Result<(), String> {
        let replica = self.shared.replicas.get(bucket).map_err(|error| error.to_string())?;
        let group = replica.group().map_err(|error| error.to_string())?;
        group.transfer_leader(None, HAND_OVER_WAIT).await.map_err(|error| error.to_string())
    }

    /// What this node's replicas look like inside, for the simulator's oracles, `bucket list` and metrics.
    pub fn probe(&self) -> NodeProbe {
        let mut replicas = Vec::new();
        if let Some(group) = self.host.group(GroupId::CATALOG) {
            replicas.push(ReplicaProbe {
                group: GroupId::CATALOG,
                bucket: None,
                leadership: group.leadership(),
                voters: group.settled_voters(),
                pointers: group.pointers(),
                log_start: 0,
                high_watermark: 0,
                writers_digest: 0,
                failed: group.failure(),
            });
        }
        replicas.extend(self.shared.replicas.all().iter().map(|replica| probe_replica(replica)));
        NodeProbe { node_id: self.shared.node_id, replicas }
    }

    /// The rows of a replica and how much of its log they are the fold of (I8); `None` if it is not here or has no primary key.
    pub fn probe_rows(&self, bucket: TableBucket) -> Option<Result<RowsProbe, String>> {
        let replica = self.shared.replicas.get(bucket).ok()?;
        let core = replica.inspect();
        // Nothing is folded while the lock is held: position and rows are of one moment.
        let kv = core.kv.as_ref()?;
        let KvPosition { log_end, row_count, .. } = kv.position();
        let rows = kv.reader().scan(&KvRange::all()).map_err(|error| error.to_string());
        Some(rows.map(|rows| RowsProbe { log_end, row_count, rows }))
    }

    /// Raw committed batches of a replica from `offset` (I2, I13): `(base_offset, batch bytes)`, whole retained log if 0.
    pub async fn read_replica(&self, bucket: TableBucket, offset: i64) -> Result<Vec<(i64, Bytes)>, String> {
        let replica = self.shared.replicas.get(bucket).map_err(|error| error.to_string())?;
        replica.read_committed(offset).await.map_err(|error| error.to_string())
    }
}

fn probe_replica(replica: &Replica) -> ReplicaProbe {
    // Pointers first: what the tablet shows has then applied at least that much.
    let pointers = replica.group().map(|group| group.pointers()).unwrap_or_default();
    let core = replica.inspect();
    ReplicaProbe {
        group: replica.group_id,
        bucket: Some(replica.bucket),
        leadership: core.leadership,
        voters: replica.group().ok().and_then(|group| group.settled_voters()),
        pointers,
        log_start: core.tablet.log_start(),
        high_watermark: core.tablet.high_watermark(),
        writers_digest: core.tablet.writers_digest(),
        failed: core.failed.clone(),
    }
}

/// A snapshot of a node's replicas.
#[derive(Clone, Debug, Default)]
pub struct NodeProbe {
    pub node_id: u64,
    pub replicas: Vec<ReplicaProbe>,
}

/// All rows of a primary-key replica, in key order.
#[derive(Clone, Debug, Default)]
pub struct RowsProbe {
    /// The rows are the fold of the log up to here.
    pub log_end: i64,
    pub row_count: Option<u64>,
    /// Stored keys and values.
    pub rows: Vec<(Bytes, Bytes)>,
}

/// One replica.
#[derive(Clone, Debug)]
pub struct ReplicaProbe {
    pub group: GroupId,
    /// None for the catalog.
    pub bucket: Option<TableBucket>,
    pub leadership: Leadership,
    /// As this replica knows, ascending; none while they change.
    pub voters: Option<Vec<NodeId>>,
    pub pointers: Pointers,
    pub log_start: i64,
    pub high_watermark: i64,
    /// Digest of the writer state, to compare replicas at equal `applied`.
    pub writers_digest: u64,
    pub failed: Option<String>,
}
