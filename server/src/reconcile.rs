//! Makes the replicas of this node what the catalog says: opens what is missing, drops what is gone.

use crate::coordinator::reconcile::{ReplicaAction, ReplicaSpec, plan_replicas};
use crate::coordinator::state::CatalogState;
use crate::limits::{BATCH_BYTES_MAX, OPENING_MAX};
use crate::replica::apply::BucketMachine;
use crate::replica::mailbox;
use crate::replica::replica::{Layouts, Replica};
use crate::shared::Shared;
use crate::stop::Tasks;
use floss_protocol::project::ArrowLayout;
use floss_protocol::schema::{LogFormat, Schema};
use floss_raft::env::runtime::time;
use floss_raft::host::{GroupSpec, Host};
use floss_raft::types::GroupId;
use floss_tablet::tablet::{LogTablet, TabletConfig};
use futures_util::stream::{self, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// After an action failed (disk busy, group still closing) the rest is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, host: Host, tasks: Tasks) {
    let mut current = shared.catalog.current();
    loop {
        let done = follow_replicas(&shared, &host, &tasks, &current.state).await;
        if done {
            current = shared.catalog.changed_after(current.index).await;
        } else {
            time::sleep(RETRY_PAUSE).await;
            current = shared.catalog.current();
        }
    }
}

/// False if something is left to do.
async fn follow_replicas(shared: &Arc<Shared>, host: &Host, tasks: &Tasks, state: &CatalogState) -> bool {
    let open: BTreeSet<GroupId> = shared.replicas.all().iter().map(|replica| replica.group_id).collect();
    let on_disk: BTreeSet<GroupId> = host.groups_on_disk().into_iter().filter(|group| *group != GroupId::CATALOG).collect();
    let actions = plan_replicas(state, shared.node_id, &open, &on_disk);
    // Each is mostly a wait for the journal: side by side they share its syncs.
    stream::iter(actions)
        .map(|action| act(shared, host, tasks, action))
        .buffered(OPENING_MAX)
        .fold(true, async |all, done| all && done)
        .await
}

async fn act(shared: &Arc<Shared>, host: &Host, tasks: &Tasks, action: ReplicaAction) -> bool {
    match action {
        ReplicaAction::Open(spec) => {
            let (group, bucket) = (spec.group, spec.bucket);
            match open(shared, host, tasks, spec).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%group, %bucket, %error, "replica did not open");
                    drop(shared.replicas.remove(group));
                    false
                }
            }
        }
        ReplicaAction::Drop { group } => {
            if let Some(replica) = shared.replicas.remove(group) {
                replica.on_dropped();
            }
            shared.leaders.forget(group);
            match host.drop_group(group).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%group, %error, "replica was not removed");
                    false
                }
            }
        }
    }
}

async fn open(shared: &Arc<Shared>, host: &Host, tasks: &Tasks, spec: ReplicaSpec) -> std::io::Result<()> {
    let tablet = LogTablet::new(TabletConfig {
        latest_schema_id: spec.latest_schema.0,
        batch_bytes_max: BATCH_BYTES_MAX,
        log_format: spec.settings.log_format,
        log_ttl_ms: spec.settings.log_ttl_ms,
    });
    let (replica, mail) = Replica::new(spec.bucket, spec.group, shared.node_id, tablet, layouts(shared, &spec));
    // Known before the group opens: the host tells about its leadership while it does.
    shared.replicas.insert(replica.clone());
    let (id, voters, initialize, elect) = (spec.group, spec.voters, spec.initialize, spec.elect);
    let group_spec = GroupSpec { id, voters, learners: Vec::new(), initialize, elect };
    let group = host.open_group(group_spec, Box::new(BucketMachine::new(replica.clone()))).await?;
    replica.set_group(group.clone());
    replica.on_suspected(&shared.leaders.suspected());
    tasks.spawn(mailbox::run(replica, group, shared.clock.clone(), mail));
    Ok(())
}

/// Schemas come from the catalog, which has checked them; one that cannot be read is a bug of ours and checks nothing.
fn layouts(shared: &Shared, spec: &ReplicaSpec) -> Layouts {
    if spec.settings.log_format != LogFormat::Arrow {
        return Layouts::new();
    }
    let state = shared.catalog.view();
    let Some((table, _)) = state.bucket(spec.bucket) else { return Layouts::new() };
    let schemas = table.schemas.iter().filter_map(|(id, json)| Some((*id, Schema::from_json(json.as_bytes()).ok()?)));
    schemas.map(|(id, schema)| (id, ArrowLayout::new(&schema))).collect()
}
