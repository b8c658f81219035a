//! The loops of the coordinator: forming the cluster, registering this node, growing group 0.

use super::admission::Formation;
use super::catalog::Catalog;
use super::command::NodeRegistration;
use floss_raft::host::Host;

/// Runs on every node until it is dropped or aborted: forms the cluster if nobody has (group 0's leader does), registers this
/// node whenever the catalog knows other addresses, and, where group 0 is led, adds members to it.
pub async fn run_coordinator(_catalog: Catalog, _host: Host, _formation: Formation, _me: NodeRegistration) {
    todo!()
}
