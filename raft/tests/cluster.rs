//! Three hosts in one process, over real TCP: elect, write, lose a leader, come back.
#![allow(clippy::unwrap_used)] // a test: any failure is the end of it

use bytes::Bytes;
use floss_raft::env::BoxFuture;
use floss_raft::env::clock::SystemClock;
use floss_raft::env::disk_mem::MemDisk;
use floss_raft::env::runtime::net::TcpListener;
use floss_raft::env::runtime::sync::oneshot;
use floss_raft::env::runtime::{block_on, spawn, time};
use floss_raft::group::Group;
use floss_raft::host::{GroupSpec, Host, HostConfig, HostObserver};
use floss_raft::machine::Machine;
use floss_raft::transport::tcp::{Hello, ServeGuard, TcpTransport};
use floss_raft::transport::{PeerChannel, PeerRequest, Transport, TransportError};
use floss_raft::types::{GroupId, Leadership, LogId, NodeId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const GROUP: GroupId = GroupId(7);

/// Keeps everything it was fed. Panics at the word "poison" once it is told to.
#[derive(Clone, Default)]
struct List(Arc<Mutex<Vec<Bytes>>>, Arc<AtomicBool>);

impl Machine for List {
    fn apply(&mut self, id: LogId, payload: Option<Bytes>) -> Bytes {
        assert!(!self.1.load(Ordering::SeqCst) || payload.as_deref() != Some(b"poison"), "poisoned");
        self.0.lock().unwrap().extend(payload);
        Bytes::copy_from_slice(&id.index.to_le_bytes())
    }

    fn snapshot(&self) -> Bytes {
        let items: Vec<Vec<u8>> = self.0.lock().unwrap().iter().map(|item| item.to_vec()).collect();
        postcard::to_stdvec(&items).unwrap().into()
    }

    fn restore(&mut self, _at: LogId, state: &Bytes) -> Result<(), String> {
        let items: Vec<Vec<u8>> = postcard::from_bytes(state).map_err(|error| error.to_string())?;
        *self.0.lock().unwrap() = items.into_iter().map(Bytes::from).collect();
        Ok(())
    }

    fn retained_from(&self) -> u64 {
        1
    }
}

/// Remembers which groups failed and what they said.
#[derive(Default)]
struct Failures(Mutex<Vec<String>>);

impl HostObserver for Failures {
    fn on_leadership(&self, _group: GroupId, _leadership: Leadership) {}
    fn on_node(&self, _node: NodeId, _alive: bool) {}
    fn on_group_failed(&self, group: GroupId, reason: &str) {
        self.0.lock().unwrap().push(format!("{group}: {reason}"));
    }
    fn ping_payload(&self, _to: NodeId) -> Bytes {
        Bytes::new()
    }
    fn on_ping(&self, _from: NodeId, _payload: Bytes) {}
    fn on_request(&self, _from: NodeId, _method: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(std::future::ready(Ok(body)))
    }
}

/// Keeps the answers that the group gets back, if it is told to.
#[derive(Clone)]
struct Gate {
    inner: TcpTransport,
    /// None: open. What waits goes on when its sender is dropped.
    held: Arc<Mutex<Option<Vec<oneshot::Sender<()>>>>>,
}

impl Gate {
    fn close(&self) {
        *self.held.lock().unwrap() = Some(Vec::new());
    }

    /// Lets through what waits, and nothing that is asked later.
    fn let_through(&self) {
        self.held.lock().unwrap().as_mut().unwrap().clear();
    }

    fn open(&self) {
        *self.held.lock().unwrap() = None;
    }
}

impl Transport for Gate {
    fn call(&self, to: NodeId, request: PeerRequest, timeout: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let mut held = self.held.lock().unwrap();
        let held = held.as_mut().filter(|_| request.channel == PeerChannel::Raft(GROUP));
        let pass = held.map(|held| {
            let (told, pass) = oneshot::channel();
            held.push(told);
            pass
        });
        let answer = self.inner.call(to, request, timeout);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(pass) = pass {
                _ = pass.await;
            }
            answer
        })
    }

    fn set_peer(&self, node: NodeId, address: String) {
        self.inner.set_peer(node, address);
    }
}

struct Node {
    host: Host,
    group: Group,
    list: List,
    failures: Arc<Failures>,
    transport: TcpTransport,
    gate: Gate,
    _serving: ServeGuard,
}

/// The addresses stay; hosts come and go.
struct Cluster {
    disks: Vec<MemDisk>,
    addresses: Vec<String>,
    nodes: Vec<Option<Node>>,
    sleep_after_ms: u64,
}

impl Cluster {
    async fn new(sleep_after_ms: u64) -> Self {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for node in 1..=3 {
            let listener = TcpListener::bind(listen_address(node)).await.unwrap();
            addresses.push(listener.local_addr().unwrap().to_string());
            listeners.push(listener);
        }
        let disks = (0..3).map(|_| MemDisk::new()).collect();
        let mut cluster = Self { disks, addresses, nodes: vec![None, None, None], sleep_after_ms };
        for (index, listener) in listeners.into_iter().enumerate() {
            cluster.start_on(index, listener).await;
        }
        cluster
    }

    async fn start(&mut self, index: usize) {
        let listener = TcpListener::bind(self.addresses[index].as_str()).await.unwrap();
        self.start_on(index, listener).await;
    }

    async fn start_on(&mut self, index: usize, listener: TcpListener) {
        let me = index as u64 + 1;
        let transport = TcpTransport::new(Hello { node_id: me, cluster: "test".to_string() });
        for (node, address) in (1..).zip(&self.addresses) {
            transport.set_peer(node, address.clone());
        }
        let config = HostConfig {
            node_id: me,
            election_timeout_ms_min: 300,
            election_timeout_ms_max: 600,
            heartbeat_ms: 100,
            sleep_after_ms: self.sleep_after_ms,
            ping_ms: 50,
            suspect_after_ms: 300,
            journal_file_bytes: 64 << 10,
            journal_cache_bytes: 16 << 10,
            journal_read_bytes: 1 << 20,
            tail_entries: 64,
        };
        let disk = Arc::new(self.disks[index].clone());
        let failures = Arc::new(Failures::default());
        let gate = Gate { inner: transport.clone(), held: Arc::default() };
        let seams = (Arc::new(SystemClock), Arc::new(gate.clone()));
        let host = Host::open(config, disk, seams.0, seams.1, failures.clone()).await.unwrap();
        let serving = transport.serve(listener, Arc::new(host.clone()));
        host.set_nodes(vec![1, 2, 3]);
        let list = List::default();
        let spec = GroupSpec { id: GROUP, voters: vec![1, 2, 3], learners: vec![], initialize: true, elect: me == 1 };
        let group = host.open_group(spec, Box::new(list.clone())).await.unwrap();
        self.nodes[index] = Some(Node { host, group, list, failures, transport, gate, _serving: serving });
    }

    /// Stops without hand-over and forgets what was not synced.
    async fn kill(&mut self, index: usize) {
        let node = self.nodes[index].take().unwrap();
        self.disks[index] = self.disks[index].crash(|| false);
        node.host.shutdown(false).await;
        drop(node);
        time::sleep(Duration::from_millis(50)).await;
    }

    async fn leader(&self) -> usize {
        within("a leader", async || {
            self.nodes.iter().position(|node| node.as_ref().is_some_and(|node| node.group.leadership().ready))
        })
        .await
    }

    async fn write(&self, text: &str) {
        within("a write", async || {
            let leader = self.nodes[self.leader().await].as_ref().unwrap();
            let done = leader.group.propose(Bytes::copy_from_slice(text.as_bytes())).await.ok()?;
            done.await.ok()
        })
        .await;
    }

    fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().unwrap()
    }

    async fn converge(&self) -> Vec<Bytes> {
        for node in self.nodes.iter().flatten() {
            assert_eq!(*node.failures.0.lock().unwrap(), Vec::<String>::new());
        }
        within("equal replicas", async || {
            let lists: Vec<Vec<Bytes>> = self.nodes.iter().flatten().map(|node| node.list.0.lock().unwrap().clone()).collect();
            lists.windows(2).all(|pair| pair[0] == pair[1]).then(|| lists[0].clone())
        })
        .await
    }
}

#[cfg(madsim)]
fn listen_address(node: u64) -> String {
    format!("127.0.0.1:{}", 7000 + node)
}

#[cfg(not(madsim))]
fn listen_address(_node: u64) -> String {
    "127.0.0.1:0".to_string()
}

async fn within<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    time::timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("no {what} within 20 s"))
}

#[test]
fn a_killed_leader_is_replaced_and_comes_back() {
    block_on(async {
        let mut cluster = Cluster::new(60_000).await;
        for n in 0..50 {
            cluster.write(&format!("a{n}")).await;
        }
        let old = cluster.leader().await;
        cluster.kill(old).await;
        for n in 0..50 {
            cluster.write(&format!("b{n}")).await;
        }
        assert_ne!(cluster.leader().await, old);
        cluster.start(old).await;
        cluster.write("end").await;
        let list = cluster.converge().await;
        let mut distinct = list.clone();
        distinct.dedup();
        assert!(list.len() >= 101 && list.last() == Some(&Bytes::from_static(b"end")), "{} items", list.len());
        let node = cluster.node(0);
        let pointers = node.group.pointers();
        assert!(pointers.applied <= pointers.committed && pointers.committed <= pointers.last, "{pointers:?}");
    });
}

#[test]
fn all_killed_at_once_lose_nothing() {
    block_on(async {
        let mut cluster = Cluster::new(60_000).await;
        for n in 0..20 {
            cluster.write(&format!("a{n}")).await;
        }
        for index in 0..3 {
            cluster.kill(index).await;
        }
        for index in 0..3 {
            cluster.start(index).await;
        }
        cluster.write("end").await;
        assert!(cluster.converge().await.len() >= 21);
    });
}

#[test]
fn a_lagging_replica_gets_a_snapshot_with_the_retained_log() {
    block_on(async {
        let mut cluster = Cluster::new(60_000).await;
        cluster.write("first").await;
        let lagging = (cluster.leader().await + 1) % 3;
        cluster.kill(lagging).await;
        for n in 0..200 {
            cluster.write(&format!("{n}")).await;
        }
        let leader = cluster.leader().await;
        cluster.node(leader).group.compact().await.unwrap();
        within("a purged log", async || (cluster.node(leader).group.pointers().purged > 50).then_some(())).await;
        cluster.start(lagging).await;
        cluster.write("end").await;
        let list = cluster.converge().await;
        let replica = cluster.node(lagging);
        assert!(replica.group.pointers().purged > 50, "it was brought by a snapshot");
        let last = replica.group.pointers().last;
        let entries = replica.group.read(1..last + 1, usize::MAX).await.unwrap();
        let texts: Vec<Bytes> = entries.into_iter().filter(|entry| entry.kind == 1).map(|entry| entry.payload).collect();
        assert_eq!(texts, list, "the retained log is readable on the receiver (I13)");
    });
}

#[test]
fn quiet_groups_sleep_and_wake() {
    block_on(async {
        let mut cluster = Cluster::new(500).await;
        cluster.write("a").await;
        let leader = cluster.leader().await;
        time::sleep(Duration::from_secs(5)).await;
        assert_eq!(cluster.leader().await, leader, "nobody took over from a sleeping leader");
        cluster.write("b").await;
        assert_eq!(cluster.leader().await, leader, "a write wakes it without an election");
        time::sleep(Duration::from_secs(5)).await;
        cluster.kill(leader).await;
        cluster.write("c").await;
        assert_ne!(cluster.leader().await, leader, "its followers were woken by its node's silence");
        assert_eq!(cluster.converge().await.len(), 3);
    });
}

#[test]
fn leadership_moves_on_request() {
    block_on(async {
        let cluster = Cluster::new(60_000).await;
        cluster.write("a").await;
        let leader = cluster.leader().await;
        cluster.node(leader).group.transfer_leader(None, Duration::from_secs(5)).await.unwrap();
        assert_ne!(cluster.leader().await, leader);
        let answer = cluster.node(leader).transport.call(
            (leader as u64 + 1) % 3 + 1,
            floss_raft::transport::PeerRequest {
                channel: floss_raft::transport::PeerChannel::Server,
                method: 9,
                body: vec![Bytes::from_static(b"echo")],
            },
            Duration::from_secs(5),
        );
        assert_eq!(answer.await.unwrap(), Bytes::from_static(b"echo"));
    });
}

#[test]
fn a_panicking_machine_stops_its_replica_only() {
    block_on(async {
        let cluster = Cluster::new(60_000).await;
        cluster.write("a").await;
        let leader = cluster.leader().await;
        cluster.node(leader).list.1.store(true, Ordering::SeqCst);
        let done = cluster.node(leader).group.propose(Bytes::from_static(b"poison")).await.unwrap();
        assert!(done.await.is_err(), "nobody knows what became of it");
        let failures = within("a failed replica", async || {
            let failures = cluster.node(leader).failures.0.lock().unwrap().clone();
            (!failures.is_empty()).then_some(failures)
        })
        .await;
        assert!(failures.len() == 1 && failures[0].contains("poisoned"), "{failures:?}");
        assert_eq!(cluster.node(leader).group.leadership().leader, None);
        assert!(cluster.node(leader).group.propose(Bytes::from_static(b"x")).await.is_err());
        // The others took the entry, elect, and go on; the node itself still answers.
        cluster.write("b").await;
        let next = cluster.leader().await;
        assert_ne!(next, leader);
        let list = cluster.node(next).list.0.lock().unwrap().clone();
        assert!(list.starts_with(&[Bytes::from_static(b"a"), Bytes::from_static(b"poison")]), "{list:?}");
        assert!(cluster.node(next).host.is_alive(leader as u64 + 1));
    });
}

#[test]
fn proposals_keep_their_order_also_after_sleep() {
    block_on(async {
        let cluster = Cluster::new(300).await;
        cluster.write("first").await;
        let leader = cluster.leader().await;
        for round in 0..3 {
            time::sleep(Duration::from_secs(4)).await;
            let group = &cluster.node(leader).group;
            let words: Vec<Bytes> = (0..200).map(|n| Bytes::from(format!("{round}.{n:03}"))).collect();
            // Handed over side by side, as many clients do: none may fail because the group slept.
            let proposed = futures_util::future::join_all(words.iter().map(|word| group.propose(word.clone()))).await;
            for done in proposed {
                done.unwrap().await.unwrap();
            }
            let list = cluster.converge().await;
            assert_eq!(list[1 + round * 200..], words);
        }
    });
}

#[test]
fn barriers_are_for_leaders() {
    block_on(async {
        let mut cluster = Cluster::new(60_000).await;
        cluster.write("a").await;
        let leader = cluster.leader().await;
        let patience = Duration::from_secs(5);
        let group = cluster.node(leader).group.clone();
        let barriers = futures_util::future::join_all((0..100).map(|_| group.read_barrier(patience))).await;
        assert!(barriers.iter().all(Result::is_ok), "{barriers:?}");
        let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
        assert!(cluster.node(one).group.read_barrier(patience).await.is_err());
        cluster.kill(one).await;
        cluster.kill(other).await;
        assert!(group.read_barrier(Duration::from_secs(1)).await.is_err(), "alone it can prove nothing");
        assert!(group.propose(Bytes::from_static(b"b")).await.is_err(), "nor append");
    });
}

#[test]
fn a_round_answers_only_those_who_came_before_it() {
    block_on(async {
        let cluster = Cluster::new(60_000).await;
        cluster.write("a").await;
        // A try says nothing if the first round began late, or the leader gave up meanwhile.
        for _ in 0..20 {
            let node = cluster.node(cluster.leader().await);
            let ask = || {
                let (group, done) = (node.group.clone(), Arc::new(AtomicBool::new(false)));
                let told = done.clone();
                let asked = spawn(async move {
                    let result = group.read_barrier(Duration::from_secs(5)).await;
                    told.store(true, Ordering::SeqCst);
                    result
                });
                (asked, done)
            };
            node.gate.close();
            let (first, _) = ask();
            time::sleep(Duration::from_millis(50)).await;
            let (second, is_answered) = ask();
            time::sleep(Duration::from_millis(20)).await;
            node.gate.let_through();
            let first = time::timeout(Duration::from_millis(300), first).await;
            time::sleep(Duration::from_millis(50)).await;
            let early = is_answered.load(Ordering::SeqCst);
            node.gate.open();
            let second = second.await.unwrap();
            if matches!(first, Ok(Ok(Ok(())))) && second.is_ok() {
                assert!(!early, "answered by a round that began before the question");
                return;
            }
        }
        panic!("no round ended while the gate was closed");
    });
}

#[test]
fn a_killed_cluster_member_catches_up_under_load() {
    block_on(async {
        let mut cluster = Cluster::new(60_000).await;
        cluster.write("a").await;
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        for round in 0..4 {
            if round == 1 {
                cluster.kill(follower).await;
            }
            if round == 2 {
                cluster.node(leader).group.compact().await.unwrap();
                cluster.start(follower).await;
            }
            let group = cluster.node(leader).group.clone();
            let payload = Bytes::from(vec![b'x'; 700]);
            let proposed = futures_util::future::join_all((0..500).map(|_| group.propose(payload.clone()))).await;
            for done in proposed {
                done.unwrap().await.unwrap();
            }
        }
        assert_eq!(cluster.converge().await.len(), 2001);
    });
}
