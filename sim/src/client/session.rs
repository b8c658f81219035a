//! What one client process knows of the cluster: nodes, leaders, open connections.

use super::connection::{CallError, Connection};
use crate::draw::Source;
use floss_protocol::rpc::{MetadataRequest, MetadataResponse, PbTablePath};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A bucket as the protocol names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    pub table_id: i64,
    pub bucket: i32,
}

pub struct Session {
    table: String,
    bootstrap: Vec<String>,
    draws: Source,
    known: Mutex<Known>,
    /// One connection is dialled at a time, so that two tasks of a client share it.
    dialling: floss_raft::env::runtime::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    addresses: BTreeMap<i32, String>,
    leaders: BTreeMap<Bucket, i32>,
    connections: BTreeMap<String, Connection>,
}

const METADATA_WAIT: Duration = Duration::from_secs(2);
pub const DATABASE: &str = "sim";

impl Session {
    pub fn new(table: String, bootstrap: Vec<String>, draws: Source) -> Self {
        Self { table, bootstrap, draws, known: Mutex::default(), dialling: floss_raft::env::runtime::sync::Mutex::new(()) }
    }

    pub fn draws(&self) -> &Source {
        &self.draws
    }

    pub fn path(&self) -> PbTablePath {
        PbTablePath { database_name: DATABASE.to_owned(), table_name: self.table.clone() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leader of a bucket as far as known: node and address.
    pub fn leader(&self, bucket: Bucket) -> Option<(i32, String)> {
        let known = self.known();
        let node = *known.leaders.get(&bucket)?;
        Some((node, known.addresses.get(&node)?.clone()))
    }

    pub fn buckets(&self) -> Vec<Bucket> {
        self.known().leaders.keys().copied().collect()
    }

    /// The open connection to `address`, or a new one.
    pub async fn connect(&self, address: &str) -> Result<Connection, CallError> {
        let _one = self.dialling.lock().await;
        let open = self.known().connections.get(address).filter(|open| !open.is_dead()).cloned();
        if let Some(open) = open {
            return Ok(open);
        }
        let connection = Connection::open(address).await?;
        self.known().connections.insert(address.to_owned(), connection.clone());
        Ok(connection)
    }

    /// Any node of the bootstrap list or of the last answer.
    pub async fn connect_any(&self) -> Result<Connection, CallError> {
        let mut addresses: Vec<String> = self.known().addresses.values().cloned().collect();
        addresses.extend(self.bootstrap.iter().cloned());
        let address = self.draws.pick(&addresses).clone();
        self.connect(&address).await
    }

    /// Breaks all connections, as a network does that restarts. How many were open.
    pub fn reset(&self) -> usize {
        let known = self.known();
        let open = known.connections.values().filter(|connection| !connection.is_dead());
        open.inspect(|connection| connection.close()).count()
    }

    /// Asks somebody where everything is.
    ///
    /// Errors: also if the answer breaks a rule that clients depend on (`protocol/README.md`, traps 8 and 11).
    pub async fn refresh(&self) -> Result<(), CallError> {
        let connection = self.connect_any().await?;
        let request = MetadataRequest { table_path: vec![self.path()], ..Default::default() };
        let response = connection.send(request).answer(METADATA_WAIT).await?;
        self.learn(response)
    }

    fn learn(&self, response: MetadataResponse) -> Result<(), CallError> {
        let bad = |message: String| CallError::Refused { code: 0, message };
        let addresses: BTreeMap<i32, String> =
            response.tablet_servers.iter().map(|node| (node.node_id, format!("{}:{}", node.host, node.port))).collect();
        let table = response.table_metadata.first().ok_or_else(|| bad("metadata without the table asked for".into()))?;
        let mut leaders = BTreeMap::new();
        for bucket in &table.bucket_metadata {
            let id = bucket.bucket_id;
            let leader = bucket.leader_id.ok_or_else(|| bad(format!("metadata names no leader of bucket {id}")))?;
            if !addresses.contains_key(&leader) {
                return Err(bad(format!("metadata names leader {leader} of bucket {id}, which is not listed")));
            }
            leaders.insert(Bucket { table_id: table.table_id, bucket: id }, leader);
        }
        let mut known = self.known();
        known.addresses = addresses;
        known.leaders = leaders;
        Ok(())
    }
}
