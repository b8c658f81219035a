//! Keeps the members of the groups that this node leads what the catalog says: takes wiped nodes out, brings lost replicas back.

use crate::coordinator::membership::{MemberChange, Members, plan_members};
use crate::coordinator::run::report_removed;
use crate::coordinator::state::CatalogState;
use crate::limits::OPENING_MAX;
use crate::replica::replica::Replica;
use crate::shared::Shared;
use floss_raft::env::runtime::time;
use floss_raft::group::Group;
use floss_raft::host::Host;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use std::time::Duration;

/// Between steps of a change.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Leadership moves without the catalog changing: whoever leads now goes on.
const IDLE_PAUSE: Duration = Duration::from_secs(5);

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, host: Host) {
    loop {
        let view = shared.catalog.current();
        let busy = round(&shared, &host, &view.state).await;
        let pause = if busy { BUSY_PAUSE } else { IDLE_PAUSE };
        // Either way the next round looks at everything again.
        let _ = time::timeout(pause, shared.catalog.changed_after(view.index)).await;
    }
}

/// True if there may be more to do soon.
async fn round(shared: &Shared, host: &Host, state: &CatalogState) -> bool {
    let replicas = shared.replicas.all().into_iter();
    let led: Vec<Arc<Replica>> = replicas.filter(|replica| replica.leading_core().is_ok()).collect();
    let changed: Vec<bool> =
        stream::iter(led.clone()).map(|replica| change(shared, host, state, replica)).buffered(OPENING_MAX).collect().await;
    let groups: Vec<Group> = led.iter().filter_map(|replica| replica.group().ok().cloned()).collect();
    report_removed(&shared.catalog, state, &groups).await || changed.contains(&true)
}

/// True if something was done, or tried.
async fn change(shared: &Shared, host: &Host, state: &CatalogState, replica: Arc<Replica>) -> bool {
    let (Some((_, placement)), Ok(group)) = (state.bucket(replica.bucket), replica.group()) else { return false };
    let (voters, learners) = group.members();
    let members = Members { voters, learners };
    let is_alive = |node| node == shared.node_id || host.is_alive(node);
    let change = plan_members(state, &placement.replicas, &members, is_alive, |node| group.lag_of(node));
    let result = match change {
        MemberChange::Nothing => return false,
        MemberChange::Wait => return true,
        MemberChange::Remove(node) => group.remove_member(node).await,
        MemberChange::AddLearner(node) => group.add_learner(node).await,
        MemberChange::Promote(node) => {
            let voters = members.voters.iter().copied().chain([node]);
            group.change_voters(voters.collect()).await
        }
    };
    tracing::info!(bucket = %replica.bucket, ?change, ?result, "membership");
    true
}
