//! Letting a node in: a fresh directory must not act as a node that others already know (it has lost its votes).
//!
//! A node that was wiped and votes again may help to elect a leader that misses committed entries. So a fresh directory asks
//! before it takes part in group 0:
//!
//! | answer | meaning | then |
//! |---|---|---|
//! | `Registered`, other incarnation | this node was wiped | refuse to start |
//! | `Registered`, own incarnation | it was let in | go on as one that joined |
//! | `NeverRegistered` | formed without this node so far | go on as a founder |
//! | `NothingHere` from **all** others | the cluster is being made | go on as a founder |
//! | anything else | cannot be told yet | ask again |
//!
//! A new cluster therefore starts once all nodes of its list were up at the same time. A running one needs a leader only.
//!
//! With `rejoin` it asks nobody but the leader and is never a founder, whatever the others have: one that lags may not know it yet,
//! and if all were wiped, an empty cluster must not pass for the old one. It is let in when each of its groups has taken the old
//! directory out of its membership, which needs a majority of the others; then it is a learner, is sent what it lost, and votes again.
//! Buckets with fewer than three replicas cannot take it out: of two, the other one has all that was acknowledged; what had one replica
//! is lost.

use super::catalog::{Catalog, CatalogError};
use super::command::{CatalogCommand, InitialNode, NodeRegistration};
use super::peer::{PeerReply, Standing, StandingRequest, encode_peer, method};
use super::reject::CatalogReject;
use crate::config::NodeConfig;
use crate::identity::Admission;
use crate::node::NodeError;
use floss_protocol::mutant;
use floss_raft::env::runtime::time::sleep;
use floss_raft::types::NodeId;
use std::time::Duration;

/// Voters of group 0 at most; more make every change of the catalog slower and nothing safer.
pub const CATALOG_VOTERS_MAX: usize = 5;
const ASK_MAX: Duration = Duration::from_millis(2_000);
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// Each request to be let in is an entry of group 0.
const JOIN_PAUSE: Duration = Duration::from_millis(500);
const LOG_EVERY_ROUNDS: u64 = 100;
const REGISTER_MAX: Duration = Duration::from_millis(5_000);
/// Peers of `join` are known by address only; they get ids from here down, which no operator uses.
const FIRST_SEED_ID: NodeId = NodeId::MAX;

/// How this node finds its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formation {
    /// One of the first nodes (this one is among them), as listed.
    Initial(Vec<InitialNode>),
    /// Joins the cluster of these peers (`host:peer_port`).
    Join(Vec<String>),
}

/// Parses `initial_nodes` / `join`; neither = a cluster of this node alone.
///
/// Errors: `NodeError::Config` for what is not `id=host:port`, for an id twice, and if this node is not listed.
pub fn parse_formation(config: &NodeConfig, peer_address: &str) -> Result<Formation, NodeError> {
    if !config.initial_nodes.is_empty() && !config.join.is_empty() {
        return Err(wrong("initial_nodes and join", "one of them", "both"));
    }
    if !config.join.is_empty() {
        for address in &config.join {
            check_address("join", address)?;
        }
        return Ok(Formation::Join(config.join.clone()));
    }
    if config.initial_nodes.is_empty() {
        let alone = InitialNode { node: config.node_id, peer_address: peer_address.to_owned() };
        return Ok(Formation::Initial(vec![alone]));
    }
    let mut nodes: Vec<InitialNode> = Vec::new();
    for text in &config.initial_nodes {
        let node = parse_initial_node(text)?;
        if nodes.iter().any(|known| known.node == node.node) {
            return Err(wrong("initial_nodes", "each node once", text));
        }
        nodes.push(node);
    }
    if !nodes.iter().any(|known| known.node == config.node_id) {
        let expected = format!("an entry for node_id={}", config.node_id);
        return Err(wrong("initial_nodes", &expected, &config.initial_nodes.join(",")));
    }
    Ok(Formation::Initial(nodes))
}

fn parse_initial_node(text: &str) -> Result<InitialNode, NodeError> {
    let (id, address) = text.split_once('=').ok_or_else(|| wrong("initial_nodes", "id=host:peer_port", text))?;
    let node = id.trim().parse::<NodeId>().ok().filter(|id| *id >= 1);
    let node = node.ok_or_else(|| wrong("initial_nodes", "a node id of at least 1", text))?;
    check_address("initial_nodes", address.trim())?;
    Ok(InitialNode { node, peer_address: address.trim().to_owned() })
}

fn check_address(key: &str, address: &str) -> Result<(), NodeError> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    port.map(|_| ()).ok_or_else(|| wrong(key, "host:port", address))
}

fn wrong(what: &str, expected: &str, found: &str) -> NodeError {
    NodeError::Config { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

/// Voters of the first membership of group 0 (the first five entries) and its learners (the rest).
pub fn first_members(nodes: &[InitialNode]) -> (Vec<NodeId>, Vec<NodeId>) {
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.node).collect();
    let (voters, learners) = ids.split_at(ids.len().min(CATALOG_VOTERS_MAX));
    (voters.to_vec(), learners.to_vec())
}

/// Tells the transport where the other nodes are. Call first at every start.
pub fn introduce(catalog: &Catalog, formation: &Formation) {
    match formation {
        Formation::Initial(nodes) => {
            for node in nodes {
                catalog.set_peer(node.node, node.peer_address.clone());
            }
        }
        Formation::Join(addresses) => {
            let seeds: Vec<NodeId> = (0..addresses.len() as u64).map(|position| FIRST_SEED_ID - position).collect();
            for (seed, address) in seeds.iter().zip(addresses) {
                catalog.set_peer(*seed, address.clone());
            }
            catalog.set_seeds(seeds);
        }
    }
}

/// Asks the cluster whether this fresh directory may act as node `me`; call before opening group 0, only while the identity
/// says `Asking`, and save the answer. Waits for as long as it takes. `rejoin`: the operator says that the former directory of this
/// node is gone for good.
///
/// Errors: `NodeError::Identity` if the cluster knows this node with another incarnation, and not `rejoin`.
pub async fn wait_admitted(
    catalog: &Catalog,
    formation: &Formation,
    me: &NodeRegistration,
    rejoin: bool,
) -> Result<Admission, NodeError> {
    match formation {
        Formation::Initial(nodes) if rejoin => {
            let others: Vec<NodeId> = nodes.iter().map(|other| other.node).filter(|node| *node != me.node).collect();
            if others.is_empty() {
                return Err(wrong("rejoin", "other nodes in initial_nodes to ask", "none"));
            }
            if mutant!("M12")
                && let Ok(Admission::Founder) = wait_initial(catalog, nodes, me).await
            {
                return Ok(Admission::Founder);
            }
            catalog.set_seeds(others);
            wait_joined(catalog, me, rejoin).await
        }
        Formation::Initial(nodes) => wait_initial(catalog, nodes, me).await,
        Formation::Join(_) => wait_joined(catalog, me, rejoin).await,
    }
}

async fn wait_initial(catalog: &Catalog, nodes: &[InitialNode], me: &NodeRegistration) -> Result<Admission, NodeError> {
    let question = encode_peer(&StandingRequest { node: me.node });
    let mut rounds = 0u64;
    loop {
        let mut untouched = true;
        for other in nodes.iter().filter(|other| other.node != me.node) {
            let reply = catalog.ask(other.node, method::STANDING, question.clone(), ASK_MAX).await;
            match reply {
                Ok(PeerReply::Standing(Standing::Registered { incarnation })) if incarnation == me.incarnation => {
                    return Ok(Admission::Joined);
                }
                Ok(PeerReply::Standing(Standing::Registered { incarnation })) => return Err(wiped(incarnation, me.incarnation)),
                Ok(PeerReply::Standing(Standing::NeverRegistered)) => return Ok(Admission::Founder),
                Ok(PeerReply::Standing(Standing::NothingHere)) => {}
                Ok(_) | Err(_) => untouched = false,
            }
        }
        if untouched {
            return Ok(Admission::Founder);
        }
        rounds += 1;
        if rounds.is_multiple_of(LOG_EVERY_ROUNDS) {
            tracing::info!(node = me.node, rounds, "waiting until the other nodes say that this directory may be used");
        }
        sleep(ASK_PAUSE).await;
    }
}

async fn wait_joined(catalog: &Catalog, me: &NodeRegistration, rejoin: bool) -> Result<Admission, NodeError> {
    let mut rounds = 0u64;
    loop {
        match catalog.propose(CatalogCommand::RegisterNode(me.clone()), REGISTER_MAX).await {
            Ok(_) => return Ok(Admission::Joined),
            Err(CatalogError::Rejected(CatalogReject::WipedNode { known, .. })) if !rejoin => {
                return Err(wiped(known, me.incarnation));
            }
            Err(error) if rounds.is_multiple_of(LOG_EVERY_ROUNDS) => {
                tracing::info!(node = me.node, %error, "waiting to be let in")
            }
            Err(_) => {}
        }
        rounds += 1;
        sleep(JOIN_PAUSE).await;
    }
}

pub(super) fn wiped(known: u64, found: u64) -> NodeError {
    let expected = format!("{known:016x} (was it wiped? if the old directory is gone for good, start with rejoin)");
    let found = format!("{found:016x}");
    NodeError::Identity { what: "incarnation", found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(initial: &[&str], join: &[&str]) -> NodeConfig {
        NodeConfig {
            node_id: 2,
            data_dir: String::new(),
            listen: "127.0.0.1:0".into(),
            advertise: None,
            peer_listen: "127.0.0.1:0".into(),
            peer_advertise: None,
            admin_listen: None,
            initial_nodes: initial.iter().map(|text| (*text).to_owned()).collect(),
            rejoin: false,
            join: join.iter().map(|text| (*text).to_owned()).collect(),
            tuning: Default::default(),
        }
    }

    fn node(node: NodeId, peer_address: &str) -> InitialNode {
        InitialNode { node, peer_address: peer_address.into() }
    }

    #[test]
    fn formation_is_parsed() {
        let alone = parse_formation(&config(&[], &[]), "h:7").expect("alone");
        assert_eq!(alone, Formation::Initial(vec![node(2, "h:7")]));
        let three = parse_formation(&config(&["1=a:1", "2=b:2", " 3 = [::1]:3"], &[]), "h:7").expect("three");
        assert_eq!(three, Formation::Initial(vec![node(1, "a:1"), node(2, "b:2"), node(3, "[::1]:3")]));
        let join = parse_formation(&config(&[], &["a:1"]), "h:7").expect("join");
        assert_eq!(join, Formation::Join(vec!["a:1".into()]));
        let bad: [&[&str]; 7] = [&["1=a:1"], &["2=a"], &["2=:1"], &["0=a:1", "2=b:1"], &["2=a:x"], &["2"], &["2=a:1", "2=b:1"]];
        for bad in bad {
            assert!(parse_formation(&config(bad, &[]), "h:7").is_err(), "{bad:?}");
        }
        assert!(parse_formation(&config(&[], &["a"]), "h:7").is_err());
        assert!(parse_formation(&config(&["2=a:1"], &["a:1"]), "h:7").is_err());
    }

    #[test]
    fn five_vote_the_rest_learns() {
        let nodes: Vec<InitialNode> = (1..=7).map(|id| node(id, "a:1")).collect();
        assert_eq!(first_members(&nodes), (vec![1, 2, 3, 4, 5], vec![6, 7]));
        assert_eq!(first_members(&nodes[..1]), (vec![1], vec![]));
    }
}
