//! Whole coordinators on real Raft groups, over a transport in memory that loses answers on request.

use super::*;
use crate::coordinator::admission::{Formation, first_members, introduce, wait_admitted};
use crate::coordinator::command::{InitialNode, NodeRegistration};
use crate::coordinator::run::run_coordinator;
use crate::identity::Admission;
use crate::node::NodeError;
use floss_raft::env::BoxFuture;
use floss_raft::env::clock::SystemClock;
use floss_raft::env::disk_mem::MemDisk;
use floss_raft::env::runtime::{JoinHandle, block_on, spawn};
use floss_raft::host::{GroupSpec, Host, HostConfig, HostObserver};
use floss_raft::transport::{PeerService, TransportError};
use floss_raft::types::{GroupId, Leadership};
use std::collections::{BTreeMap, BTreeSet};

const RAFT_DELAY: Duration = Duration::from_millis(3);
const WAIT: Duration = Duration::from_secs(20);

/// Addresses of the running nodes. `n1:1` is node 1.
#[derive(Clone, Default)]
struct Network {
    hosts: Arc<Mutex<BTreeMap<String, Host>>>,
    /// How many answers to proposals get lost from now on (the proposal itself arrives).
    answers_to_lose: Arc<AtomicU64>,
}

struct MemTransport {
    from: NodeId,
    network: Network,
    peers: Mutex<BTreeMap<NodeId, String>>,
}

impl Transport for MemTransport {
    fn call(&self, to: NodeId, request: PeerRequest, limit: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let address = self.peers.lock().expect("test").get(&to).cloned();
        let host = address.and_then(|address| self.network.hosts.lock().expect("test").get(&address).cloned());
        let (from, lost) = (self.from, self.network.answers_to_lose.clone());
        let losable = request.channel == PeerChannel::Server && request.method == method::PROPOSE;
        Box::pin(async move {
            if let PeerChannel::Raft(_) = request.channel {
                // So that a follower hears of a commit later than the answer to its proposal arrives.
                sleep(RAFT_DELAY).await;
            }
            let unreachable = || TransportError::Unreachable { to, reason: "nobody is there".into() };
            let answer = timeout(limit, host.ok_or_else(unreachable)?.serve(from, request)).await;
            let lose = |left: u64| left.checked_sub(1);
            if losable && lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
                return Err(TransportError::Timeout { to, waited_ms: 0 });
            }
            let answer = answer.map_err(|_| TransportError::Timeout { to, waited_ms: limit.as_millis() as u64 })?;
            answer.map_err(|reason| TransportError::Refused { to, reason })
        })
    }

    fn set_peer(&self, node: NodeId, address: String) {
        self.peers.lock().expect("test").insert(node, address);
    }
}

struct Observer {
    catalog: Catalog,
}

impl HostObserver for Observer {
    fn on_leadership(&self, _group: GroupId, _leadership: Leadership) {}
    fn on_node(&self, _node: NodeId, _alive: bool) {}
    fn on_group_failed(&self, group: GroupId, reason: &str) {
        panic!("{group} failed: {reason}");
    }
    fn ping_payload(&self, _to: NodeId) -> Bytes {
        Bytes::new()
    }
    fn on_ping(&self, _from: NodeId, _payload: Bytes) {}
    fn on_request(&self, from: NodeId, method: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let catalog = self.catalog.clone();
        Box::pin(async move { catalog.serve(from, method, body).await })
    }
}

struct TestNode {
    catalog: Catalog,
    host: Host,
    coordinator: JoinHandle<NodeError>,
}

fn initial(nodes: u64) -> Formation {
    let node = |node| InitialNode { node, peer_address: format!("n{node}:1") };
    Formation::Initial((1..=nodes).map(node).collect())
}

async fn start(network: &Network, node: NodeId, incarnation: u64, formation: Formation) -> Result<TestNode, NodeError> {
    start_with(network, node, incarnation, formation, false).await
}

async fn start_with(
    network: &Network,
    node: NodeId,
    incarnation: u64,
    formation: Formation,
    rejoin: bool,
) -> Result<TestNode, NodeError> {
    let transport =
        Arc::new(MemTransport { from: node, network: network.clone(), peers: Mutex::default() }) as Arc<dyn Transport>;
    let clock = Arc::new(SystemClock);
    let proposer = Proposer { node, incarnation, boot: 1 };
    let (catalog, machine) = Catalog::new(proposer, clock.clone(), transport.clone());
    let config = HostConfig {
        node_id: node,
        election_timeout_ms_min: 150,
        election_timeout_ms_max: 300,
        heartbeat_ms: 50,
        sleep_after_ms: 5_000,
        ping_ms: 50,
        suspect_after_ms: 300,
        journal_file_bytes: 1 << 20,
        journal_cache_bytes: 1 << 20,
        journal_read_bytes: 1 << 20,
        tail_entries: 64,
    };
    let observer = Arc::new(Observer { catalog: catalog.clone() });
    let host = Host::open(config, Arc::new(MemDisk::new()), clock, transport, observer).await.expect("a fresh disk opens");
    let peer_address = format!("n{node}:1");
    network.hosts.lock().expect("test").insert(peer_address.clone(), host.clone());
    introduce(&catalog, &formation);
    let me = NodeRegistration { node, incarnation, client_address: format!("n{node}:9"), peer_address };
    let admission = wait_admitted(&catalog, &formation, &me, rejoin).await?;
    let (voters, learners) = match &formation {
        Formation::Initial(nodes) if admission == Admission::Founder => first_members(nodes),
        Formation::Initial(_) | Formation::Join(_) => (vec![], vec![]),
    };
    let (initialize, elect) = (voters.contains(&node), voters.first() == Some(&node));
    let spec = GroupSpec { id: GroupId::CATALOG, voters, learners, initialize, elect };
    catalog.attach(host.open_group(spec, Box::new(machine)).await.expect("a fresh group opens"));
    let coordinator = spawn(run_coordinator(catalog.clone(), host.clone(), formation, me, 64));
    Ok(TestNode { catalog, host, coordinator })
}

async fn start_three(network: &Network) -> Vec<TestNode> {
    // Each waits for the others, so they start side by side.
    let starting: Vec<_> = (1..=3)
        .map(|node| {
            let network = network.clone();
            spawn(async move { start(&network, node, 100 + node, initial(3)).await })
        })
        .collect();
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(node.await.expect("no panic").expect("admitted"));
    }
    for node in &nodes {
        until(node, |state| state.nodes().values().filter(|info| info.registered.is_some()).count() == 3).await;
    }
    nodes
}

async fn until(node: &TestNode, wanted: impl Fn(&CatalogState) -> bool) {
    let deadline = Instant::now() + WAIT;
    let mut view = node.catalog.current();
    while !wanted(&view.state) {
        view = timeout_at(deadline, node.catalog.changed_after(view.index)).await.expect("in time");
    }
}

fn create_database(name: &str) -> CatalogCommand {
    CatalogCommand::CreateDatabase { name: name.into(), ignore_if_exists: false, database_json: "{}".into() }
}

async fn stop(nodes: Vec<TestNode>) {
    for node in nodes {
        node.coordinator.abort();
        node.host.shutdown(false).await;
    }
}

#[test]
fn every_node_decides_through_the_leader_and_sees_what_it_wrote() {
    block_on(async {
        let network = Network::default();
        let nodes = start_three(&network).await;
        let ids: BTreeSet<_> = nodes.iter().map(|node| node.catalog.view().cluster_id().map(str::to_owned)).collect();
        assert_eq!(ids.len(), 1, "one cluster: {ids:?}");
        for (position, node) in nodes.iter().enumerate() {
            let name = format!("d{position}");
            assert_eq!(node.catalog.propose(create_database(&name), WAIT).await, Ok(CatalogDone::DatabaseCreated));
            assert!(node.catalog.view().database(&name).is_ok(), "a node reads its own writes");
            for other in &nodes {
                let state = other.catalog.barrier(WAIT).await.expect("a leader is there");
                assert!(state.database(&name).is_ok(), "after a barrier every node sees it");
            }
            let again = node.catalog.propose(create_database(&name), WAIT).await;
            assert_eq!(again, Err(CatalogError::Rejected(CatalogReject::DatabaseExists { database: name })));
        }
        let mut writers = BTreeSet::new();
        for node in &nodes {
            for _ in 0..WRITER_IDS_PER_RANGE + 1 {
                assert!(writers.insert(node.catalog.writer_id(WAIT).await.expect("a leader is there")));
            }
        }
        stop(nodes).await;
    });
}

#[test]
fn a_lost_answer_does_not_double_the_effect() {
    block_on(async {
        let network = Network::default();
        let nodes = start_three(&network).await;
        let leader = nodes[0].catalog.leader();
        let follower = nodes.iter().find(|node| Some(node.catalog.inner.proposer.node) != leader).expect("two of three");
        network.answers_to_lose.store(3, Ordering::SeqCst);
        let done = follower.catalog.propose(create_database("d"), WAIT).await;
        assert_eq!(done, Ok(CatalogDone::DatabaseCreated), "not `exists`: the retry got the first outcome");
        assert_eq!(network.answers_to_lose.load(Ordering::SeqCst), 0, "three answers were lost");
        stop(nodes).await;
    });
}

#[test]
fn a_wiped_node_is_let_in_only_if_asked_and_a_new_one_joins() {
    block_on(async {
        let network = Network::default();
        let mut nodes = start_three(&network).await;
        stop(vec![nodes.remove(2)]).await;
        let refused = timeout(WAIT, start(&network, 3, 999, initial(3))).await.expect("in time");
        assert!(matches!(refused, Err(NodeError::Identity { what: "incarnation", .. })));
        let again = timeout(WAIT, start_with(&network, 3, 1_000, initial(3), true)).await.expect("in time").expect("let in");
        until(&again, |state| state.nodes().get(&3).is_some_and(|info| info.retired == [103])).await;
        let known = again.catalog.view().nodes()[&3].registered.clone();
        assert_eq!(known.map(|known| known.incarnation), Some(1_000));
        nodes.push(again);
        let joined = timeout(WAIT, start(&network, 4, 104, Formation::Join(vec!["n1:1".into()]))).await;
        let joined = joined.expect("in time").expect("let in");
        until(&joined, |state| state.nodes().len() == 4).await;
        assert_eq!(joined.catalog.propose(create_database("d"), WAIT).await, Ok(CatalogDone::DatabaseCreated));
        assert!(joined.catalog.view().database("d").is_ok());
        nodes.push(joined);
        stop(nodes).await;
    });
}

/// If every directory is gone, so is the cluster; an empty one must not come up in its place.
#[test]
fn those_who_ask_to_come_back_found_nothing() {
    block_on(async {
        let network = Network::default();
        let starting: Vec<_> = (1..=3)
            .map(|node| {
                let network = network.clone();
                spawn(async move { start_with(&network, node, 200 + node, initial(3), true).await })
            })
            .collect();
        sleep(Duration::from_secs(3)).await;
        for node in starting {
            assert!(!node.is_finished(), "there is nobody who could let it in");
            node.abort();
        }
        let alone = timeout(WAIT, start_with(&network, 1, 201, initial(1), true)).await.expect("in time");
        assert!(matches!(alone, Err(NodeError::Config { .. })), "nobody to ask");
    });
}
