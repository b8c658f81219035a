//! Makes the replicas of this node what the catalog says: opens what is missing, drops what is gone.

use crate::coordinator::reconcile::{ReplicaAction, ReplicaSpec, plan_replicas};
use crate::coordinator::state::CatalogState;
use crate::coordinator::table::kv_table;
use crate::limits::{BATCH_BYTES_MAX, OPENING_MAX};
use crate::replica::apply::BucketMachine;
use crate::replica::kv::run_fold;
use crate::replica::mailbox;
use crate::replica::replica::{Layouts, Replica};
use crate::shared::Shared;
use crate::stop::Tasks;
use floss_protocol::project::ArrowLayout;
use floss_protocol::schema::{LogFormat, Schema};
use floss_raft::env::runtime::time;
use floss_raft::host::{GroupSpec, Host};
use floss_raft::types::GroupId;
use floss_tablet::kv::fold::KvBucket;
use floss_tablet::kv::store::KvBucketId;
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
    let rows = shared.kv.buckets().unwrap_or_default().into_iter().map(|bucket| GroupId(bucket.0));
    let on_disk: BTreeSet<GroupId> =
        host.groups_on_disk().into_iter().chain(rows).filter(|group| *group != GroupId::CATALOG).collect();
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
            if let Err(error) = shared.kv.wipe(KvBucketId(group.0)) {
                tracing::error!(%group, %error, "rows were not removed");
                return false;
            }
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
    let kv = open_kv(shared, &spec)?;
    let tablet = LogTablet::new(TabletConfig {
        latest_schema_id: spec.latest_schema.0,
        batch_bytes_max: BATCH_BYTES_MAX,
        log_format: spec.settings.log_format,
        // Rows are rebuilt from the whole changelog (docs/decisions/0009).
        log_ttl_ms: spec.settings.log_ttl_ms.filter(|_| kv.is_none()),
    });
    let (replica, mail) = Replica::new(spec.bucket, spec.group, shared.node_id, tablet, kv, layouts(shared, &spec));
    // Known before the group opens: the host tells about its leadership while it does.
    shared.replicas.insert(replica.clone());
    let (id, voters, initialize, elect) = (spec.group, spec.voters, spec.initialize, spec.elect);
    let group_spec = GroupSpec { id, voters, learners: Vec::new(), initialize, elect };
    let group = host.open_group(group_spec, Box::new(BucketMachine::new(replica.clone()))).await?;
    replica.set_group(group.clone());
    replica.on_suspected(&shared.leaders.suspected());
    if replica.inspect().kv.is_some() {
        tasks.spawn(run_fold(replica.clone(), group.clone()));
    }
    tasks.spawn(mailbox::run(replica, group, shared.clock.clone(), shared.catalog.clone(), mail));
    Ok(())
}

/// `None` for log tables.
fn open_kv(shared: &Shared, spec: &ReplicaSpec) -> std::io::Result<Option<KvBucket>> {
    let state = shared.catalog.view();
    let Some((table, _)) = state.bucket(spec.bucket) else {
        return Err(std::io::Error::other("its table is gone"));
    };
    let Some(table) = kv_table(table).map_err(std::io::Error::other)? else { return Ok(None) };
    let bucket = KvBucket::open(KvBucketId(spec.group.0), shared.kv.clone(), Arc::new(table));
    bucket.map(Some).map_err(std::io::Error::other)
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
