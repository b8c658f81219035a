//! A node's configuration: one TOML file, every key also a flag of `floss server run`.

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
    /// A GetMetadata that touches a leaderless bucket is held at most this long.
    pub metadata_hold_ms_max: u64,
    pub default_bucket_count: i32,
    /// None = 3 with three or more nodes, else 1.
    pub default_replication_factor: Option<i32>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            election_timeout_ms_min: 500,
            election_timeout_ms_max: 900,
            heartbeat_ms: 150,
            sleep_after_ms: 5_000,
            ping_ms: 100,
            suspect_after_ms: 500,
            journal_file_bytes: 64 << 20,
            journal_cache_bytes: 64 << 20,
            metadata_hold_ms_max: 100,
            default_bucket_count: 1,
            default_replication_factor: None,
        }
    }
}
