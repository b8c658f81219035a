//! From an open journal to a node that takes part: let in, group 0 open, coordinator and reconciler running.

use crate::coordinator::admission::{Formation, first_members, introduce, wait_admitted};
use crate::coordinator::command::NodeRegistration;
use crate::coordinator::machine::CatalogMachine;
use crate::coordinator::run::run_coordinator;
use crate::identity::{Admission, Identity, check_cluster, save_identity};
use crate::members;
use crate::node::NodeError;
use crate::reconcile;
use crate::shared::Shared;
use crate::stop::Tasks;
use floss_raft::env::disk::Disk;
use floss_raft::host::{GroupSpec, Host};
use floss_raft::types::GroupId;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;

/// What that needs.
pub(crate) struct Forming {
    pub shared: Arc<Shared>,
    pub host: Host,
    pub disk: Arc<dyn Disk>,
    pub formation: Formation,
    pub me: NodeRegistration,
    pub identity: Identity,
    pub rejoin: bool,
    pub compact_entries: u64,
    pub tasks: Tasks,
}

impl Forming {
    /// Waits for the other nodes as long as it takes, then takes part until it is dropped.
    ///
    /// Errors: the cluster does not take this directory; the journal failed.
    pub async fn run(mut self, machine: CatalogMachine) -> Result<(), NodeError> {
        introduce(&self.shared.catalog, &self.formation);
        if self.identity.admission == Admission::Asking {
            self.identity.admission = wait_admitted(&self.shared.catalog, &self.formation, &self.me, self.rejoin).await?;
            save_identity(self.disk.as_ref(), &self.identity).await?;
        }
        let group = self
            .host
            .open_group(self.group_spec(), Box::new(machine))
            .await
            .map_err(|source| NodeError::Io { path: "group 0".to_owned(), source })?;
        let catalog = self.shared.catalog.clone();
        catalog.attach(group);
        self.tasks.spawn(reconcile::run(self.shared.clone(), self.host.clone(), self.tasks.clone()));
        self.tasks.spawn(members::run(self.shared.clone(), self.host.clone()));
        let (host, formation, me) = (self.host.clone(), self.formation.clone(), self.me.clone());
        let refused = pin!(run_coordinator(catalog, host, formation, me, self.compact_entries));
        let checked = pin!(self.check_cluster());
        match select(checked, refused).await {
            Either::Left((Ok(()), refused)) => Err(refused.await),
            Either::Left((Err(error), _)) | Either::Right((error, _)) => Err(error),
        }
    }

    /// Once the cluster has an id it must be the one that the directory remembers.
    async fn check_cluster(&mut self) -> Result<(), NodeError> {
        let catalog = self.shared.catalog.clone();
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
            Formation::Initial(nodes) if self.identity.admission == Admission::Founder => first_members(nodes),
            // The leader of group 0 adds this node.
            Formation::Initial(_) | Formation::Join(_) => (Vec::new(), Vec::new()),
        };
        let me = self.me.node;
        GroupSpec { id: GroupId::CATALOG, initialize: voters.contains(&me), elect: voters.first() == Some(&me), voters, learners }
    }
}
