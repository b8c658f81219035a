//! What the parts of one node share.

use crate::config::Tuning;
use crate::coordinator::catalog::Catalog;
use crate::coordinator::leaders::LeaderTable;
use crate::handlers::projection::Projections;
use crate::replica::set::Replicas;
use crate::scanners::Scanners;
use floss_raft::env::clock::Clock;
use floss_raft::types::NodeId;
use floss_tablet::kv::store::KvStore;
use std::sync::Arc;

pub(crate) struct Shared {
    pub node_id: NodeId,
    /// `host:port` that clients are told.
    pub client_address: String,
    pub tuning: Tuning,
    pub clock: Arc<dyn Clock>,
    pub catalog: Catalog,
    pub leaders: Arc<LeaderTable>,
    pub replicas: Arc<Replicas>,
    pub projections: Projections,
    pub scanners: Arc<Scanners>,
    /// The rows of all primary-key buckets, by the number of their group.
    pub kv: Arc<dyn KvStore>,
}
