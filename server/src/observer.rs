//! Hears what the Raft layer says and hands it to those who act on it. Never blocks.

use crate::coordinator::catalog::Catalog;
use crate::coordinator::leaders::LeaderTable;
use crate::handlers::table_stats::{PEER_ROW_COUNT, serve_row_count};
use crate::replica::set::Replicas;
use crate::shared::Shared;
use crate::stop::Fatal;
use bytes::Bytes;
use floss_protocol::mutant;
use floss_raft::env::BoxFuture;
use floss_raft::env::runtime::sync::Notify;
use floss_raft::host::HostObserver;
use floss_raft::types::{GroupId, Leadership, NodeId};
use std::sync::Arc;

pub(crate) struct Observer {
    catalog: Catalog,
    leaders: Arc<LeaderTable>,
    replicas: Arc<Replicas>,
    fatal: Arc<Fatal>,
    /// Told when other nodes should hear of a new leader soon.
    news: Arc<Notify>,
}

impl Observer {
    pub fn new(shared: &Shared, fatal: Arc<Fatal>, news: Arc<Notify>) -> Self {
        let Shared { catalog, leaders, replicas, .. } = shared;
        Self { catalog: catalog.clone(), leaders: leaders.clone(), replicas: replicas.clone(), fatal, news }
    }
}

impl HostObserver for Observer {
    fn on_leadership(&self, group: GroupId, leadership: Leadership) {
        tracing::debug!(%group, term = leadership.term, leader = ?leadership.leader, ready = leadership.ready, "leadership");
        if let Some(replica) = self.replicas.by_group(group) {
            replica.on_leadership(leadership);
        }
        if self.leaders.on_leadership(group, leadership) {
            self.news.notify_one();
        }
    }

    fn on_node(&self, node: NodeId, alive: bool) {
        tracing::info!(node, alive, "node");
        self.leaders.on_node(node, alive);
        let suspected = self.leaders.suspected();
        self.replicas.all().iter().for_each(|replica| replica.on_suspected(&suspected));
    }

    fn on_group_failed(&self, group: GroupId, reason: &str) {
        tracing::error!(%group, reason, "replica stopped");
        if group == GroupId::CATALOG && !mutant!("M14") {
            // Without it this node learns of nothing any more, and cannot even say that it lags.
            self.fatal.set(format!("the catalog's replica failed: {reason}"));
        }
        if let Some(replica) = self.replicas.by_group(group) {
            replica.on_failed(reason);
        }
    }

    fn ping_payload(&self, to: NodeId) -> Bytes {
        self.leaders.ping_payload(to)
    }

    fn on_ping(&self, from: NodeId, payload: Bytes) {
        self.leaders.on_ping(from, &payload);
    }

    fn on_request(&self, from: NodeId, method: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        if method == PEER_ROW_COUNT {
            let replicas = self.replicas.clone();
            return Box::pin(async move { serve_row_count(&replicas, &body).await });
        }
        let catalog = self.catalog.clone();
        Box::pin(async move { catalog.serve(from, method, body).await })
    }
}
