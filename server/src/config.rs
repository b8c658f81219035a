//! A node's configuration: one TOML file, every key also a flag of `floss server run`.

use crate::node::NodeError;
use floss_raft::host::HostConfig;
use serde::{Deserialize, Serialize};

/// Every field but `node_id`, `data_dir` and the addresses has a default. Unknown keys are refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Chosen by the operator, >= 1. What clients see as tablet server id.
    pub node_id: u64,
    /// Where the binary roots the node's disk; the simulator ignores it.
    #[serde(default)]
    pub data_dir: String,
    /// Client protocol, `host:port`; the only port that clients see. Port 0 = any.
    pub listen: String,
    /// What clients are told; default = the bound address.
    #[serde(default)]
    pub advertise: Option<String>,
    /// Raft transport.
    pub peer_listen: String,
    #[serde(default)]
    pub peer_advertise: Option<String>,
    /// HTTP: /livez /readyz /metrics. None = off.
    #[serde(default)]
    pub admin_listen: Option<String>,
    /// `"1=host:peer_port"`, the same list on every first node.
    #[serde(default)]
    pub initial_nodes: Vec<String>,
    /// Or: peers of a running cluster to join.
    #[serde(default)]
    pub join: Vec<String>,
    /// The cluster knows this node by another directory, and that one is gone for good: let this fresh one in, as a learner
    /// first. Without it such a start is refused.
    #[serde(default)]
    pub rejoin: bool,
    /// Times and sizes; see [`Tuning`].
    #[serde(default)]
    pub tuning: Tuning,
}

/// Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    pub election_timeout_ms_min: u64,
    pub election_timeout_ms_max: u64,
    pub heartbeat_ms: u64,
    pub sleep_after_ms: u64,
    pub ping_ms: u64,
    pub suspect_after_ms: u64,
    pub journal_file_bytes: u64,
    pub journal_cache_bytes: u64,
    /// A long log is read, replicated, applied and folded in pieces of about this size.
    pub journal_read_bytes: usize,
    /// Raft log kept behind a snapshot.
    pub tail_entries: u64,
    /// Entries applied since the last snapshot after which a replica takes the next one; the catalog takes it after at most 4,096.
    pub compact_entries: u64,
    /// How often a node looks at retention, writer expiry and snapshots.
    pub upkeep_ms: u64,
    /// A GetMetadata that touches a leaderless bucket is held at most this long.
    pub metadata_hold_ms_max: u64,
    pub default_bucket_count: i32,
    /// None = 3 with three or more nodes, else 1.
    pub default_replication_factor: Option<i32>,
}

impl Default for Tuning {
    /// After a leader dies its bucket waits until its node is suspected (two refused connections, or `suspect_after_ms` of silence) and
    /// its lease (`election_timeout_ms_max`) is over.
    fn default() -> Self {
        Self {
            election_timeout_ms_min: 250,
            election_timeout_ms_max: 350,
            heartbeat_ms: 80,
            sleep_after_ms: 1_000,
            ping_ms: 100,
            suspect_after_ms: 500,
            journal_file_bytes: 64 << 20,
            journal_cache_bytes: 64 << 20,
            journal_read_bytes: 4 << 20,
            tail_entries: 64,
            compact_entries: 50_000,
            upkeep_ms: 10_000,
            metadata_hold_ms_max: 100,
            default_bucket_count: 1,
            default_replication_factor: None,
        }
    }
}

impl NodeConfig {
    /// What can be told without looking at anything else. Errors: `NodeError::Config`.
    pub fn check(&self) -> Result<(), NodeError> {
        let wire_ids = 1..=i32::MAX as u64;
        ensure("node_id", wire_ids.contains(&self.node_id), "1..=2147483647", self.node_id)?;
        for (what, address) in [("listen", Some(&self.listen)), ("peer_listen", Some(&self.peer_listen))] {
            check_address(what, address)?;
        }
        check_address("advertise", self.advertise.as_ref())?;
        check_address("peer_advertise", self.peer_advertise.as_ref())?;
        check_address("admin_listen", self.admin_listen.as_ref())?;
        let both = !self.initial_nodes.is_empty() && !self.join.is_empty();
        ensure("initial_nodes, join", !both, "at most one of them", "both")?;
        self.tuning.check()
    }
}

impl Tuning {
    fn check(&self) -> Result<(), NodeError> {
        let elections = 0 < self.election_timeout_ms_min && self.election_timeout_ms_min < self.election_timeout_ms_max;
        let found = format!("{}..{}", self.election_timeout_ms_min, self.election_timeout_ms_max);
        ensure("tuning.election_timeout_ms_min..max", elections, "0 < min < max", found)?;
        let heartbeats = 0 < self.heartbeat_ms && self.heartbeat_ms * 2 <= self.election_timeout_ms_min;
        ensure("tuning.heartbeat_ms", heartbeats, "at most half of election_timeout_ms_min", self.heartbeat_ms)?;
        let pings = 0 < self.ping_ms && self.ping_ms * 2 <= self.suspect_after_ms;
        ensure("tuning.ping_ms", pings, "at most half of suspect_after_ms", self.ping_ms)?;
        ensure("tuning.journal_file_bytes", self.journal_file_bytes >= 64 << 10, "at least 65536", self.journal_file_bytes)?;
        ensure("tuning.journal_read_bytes", self.journal_read_bytes >= 1, "at least 1", self.journal_read_bytes)?;
        ensure("tuning.compact_entries", self.compact_entries >= 1, "at least 1", self.compact_entries)?;
        ensure("tuning.upkeep_ms", self.upkeep_ms >= 1, "at least 1", self.upkeep_ms)?;
        ensure("tuning.default_bucket_count", self.default_bucket_count >= 1, "at least 1", self.default_bucket_count)?;
        let factor = self.default_replication_factor;
        ensure("tuning.default_replication_factor", factor.is_none_or(|factor| factor >= 1), "at least 1", format!("{factor:?}"))
    }

    /// The part of the Raft layer.
    pub(crate) fn host(&self, node_id: u64) -> HostConfig {
        HostConfig {
            node_id,
            election_timeout_ms_min: self.election_timeout_ms_min,
            election_timeout_ms_max: self.election_timeout_ms_max,
            heartbeat_ms: self.heartbeat_ms,
            sleep_after_ms: self.sleep_after_ms,
            ping_ms: self.ping_ms,
            suspect_after_ms: self.suspect_after_ms,
            journal_file_bytes: self.journal_file_bytes,
            journal_cache_bytes: self.journal_cache_bytes,
            journal_read_bytes: self.journal_read_bytes,
            tail_entries: self.tail_entries,
        }
    }
}

fn ensure(what: &str, holds: bool, expected: &str, found: impl ToString) -> Result<(), NodeError> {
    if holds {
        return Ok(());
    }
    Err(NodeError::Config { what: what.to_owned(), expected: expected.to_owned(), found: found.to_string() })
}

fn check_address(what: &str, address: Option<&String>) -> Result<(), NodeError> {
    let Some(address) = address else { return Ok(()) };
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    ensure(what, matches!(port, Some(Ok(_))), "host:port", address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NodeConfig {
        toml::from_str("node_id = 1\nlisten = '127.0.0.1:0'\npeer_listen = '127.0.0.1:0'").expect("minimal configuration")
    }

    #[test]
    fn the_smallest_file_is_enough() {
        config().check().expect("defaults fit together");
    }

    #[test]
    fn mistakes_are_named() {
        let mut zero = config();
        zero.node_id = 0;
        let mut bad_address = config();
        bad_address.listen = "9123".to_owned();
        let mut both = config();
        both.initial_nodes = vec!["1=a:1".to_owned()];
        both.join = vec!["a:1".to_owned()];
        let mut slow = config();
        slow.tuning.heartbeat_ms = 400;
        for (config, what) in
            [(zero, "node_id"), (bad_address, "listen"), (both, "initial_nodes, join"), (slow, "tuning.heartbeat_ms")]
        {
            match config.check() {
                Err(NodeError::Config { what: found, .. }) => assert_eq!(found, what),
                other => panic!("{what}: {other:?}"),
            }
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = "node_id = 1\nlisten = 'a:1'\npeer_listen = 'a:2'\nlissten = 'a:3'";
        assert!(toml::from_str::<NodeConfig>(text).is_err());
    }
}
