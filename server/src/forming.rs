//! From an open journal to a node that takes part: let in, group 0 open, coordinator and reconciler running.

use crate::coordinator::admission::{Formation, first_members, introduce, wait_admitted};
use crate::coordinator::command::NodeRegistration;
use crate::coordinator::machine::CatalogMachine;
use crate::coordinator::run::run_coordinator;
use crate::identity::{Identity, check_cluster, save_identity};
use crate::node::NodeError;
use crate::reconcile;
use crate::shared::Shared;
use crate::stop::Tasks;
use floss_raft::env::disk::Disk;
use floss_raft::host::{GroupSpec, Host};
use floss_raft::types::GroupId;
use std::sync::Arc;

/// What that needs.
pub(crate) struct Forming {
    pub shared: Arc<Shared>,
    pub host: Host,
    pub disk: Arc<dyn Disk>,
    pub formation: Formation,
    pub me: NodeRegistration,
    pub identity: Identity,
    pub tasks: Tasks,
}

impl Forming {
    /// Waits for the other nodes as long as it takes.
    ///
    /// Errors: the cluster does not take this directory; the journal failed.
    pub async fn run(mut self, machine: CatalogMachine) -> Result<(), NodeError> {
        introduce(&self.shared.catalog, &self.formation);
        if !self.identity.admitted {
            wait_admitted(&self.shared.catalog, &self.formation, &self.me).await?;
            self.identity.admitted = true;
            save_identity(self.disk.as_ref(), &self.identity).await?;
        }
        let group = self
            .host
            .open_group(self.group_spec(), Box::new(machine))
            .await
            .map_err(|source| NodeError::Io { path: "group 0".to_owned(), source })?;
        let catalog = self.shared.catalog.clone();
        catalog.attach(group);
        self.tasks.spawn(run_coordinator(catalog.clone(), self.host.clone(), self.formation, self.me));
        self.tasks.spawn(reconcile::run(self.shared.clone(), self.host, self.tasks.clone()));

        let mut current = catalog.current();
        let cluster_id = loop {
            if let Some(cluster_id) = current.state.cluster_id() {
                break cluster_id.to_owned();
            }
            current = catalog.changed_after(current.index).await;
        };
        check_cluster(self.disk.as_ref(), &mut self.identity, &cluster_id).await?;
        tracing::info!(node = self.shared.node_id, %cluster_id, "member of the cluster");
        Ok(())
    }

    fn group_spec(&self) -> GroupSpec {
        let (voters, learners) = match &self.formation {
            Formation::Initial(nodes) => first_members(nodes),
            // The leader of group 0 adds this node.
            Formation::Join(_) => (Vec::new(), Vec::new()),
        };
        let me = self.me.node;
        GroupSpec { id: GroupId::CATALOG, initialize: voters.contains(&me), elect: voters.first() == Some(&me), voters, learners }
    }
}
