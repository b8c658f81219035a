//! A writer process: one writer id, all buckets of its table.

use super::append::{Appender, refresh};
use super::{Shared, table_name};
use crate::client::{Bucket, CallError, Session};
use crate::draw::{Draws, Stream};
use floss_protocol::rpc::InitWriterRequest;
use floss_raft::env::runtime::{spawn, time};
use std::sync::Arc;
use std::time::Duration;

const INIT_WAIT: Duration = Duration::from_secs(3);

/// Runs until the writers are told to finish; must be spawned on a node of its own.
pub async fn run_writer(shared: Arc<Shared>, number: u32, bootstrap: Vec<String>) {
    let draws = Draws::new(shared.plan.seed);
    let plan = shared.plan.workload.writers[number as usize].clone();
    let source = draws.source(Stream::Client, u64::from(number));
    let session = Arc::new(Session::new(table_name(plan.table), bootstrap, source));
    shared.add_session(session.clone());
    let Some(writer_id) = init_writer(&shared, &session).await else { return };
    let first = shared.plan.first_bucket(plan.table);
    let mut tasks = Vec::new();
    for bucket in 0..shared.plan.workload.tables[plan.table] {
        let bucket_no = first + bucket as u32;
        let appender = Appender {
            shared: shared.clone(),
            session: session.clone(),
            plan: plan.clone(),
            draws: draws.source(Stream::Writer, u64::from(number) << 16 | u64::from(bucket_no)),
            writer: number,
            writer_id,
            bucket: Bucket { table_id: shared.table_ids[plan.table], bucket },
            bucket_no,
        };
        tasks.push(spawn(appender.run()));
    }
    for task in tasks {
        // A task that panics ends the simulation by itself.
        drop(task.await);
    }
}

/// None if the run ended first.
async fn init_writer(shared: &Shared, session: &Session) -> Option<i64> {
    while !shared.stopped() {
        match try_init(session).await {
            Ok(writer_id) => return Some(writer_id),
            Err(_) => refresh(session, shared).await,
        }
        time::sleep(Duration::from_millis(session.draws().between(20, 200))).await;
    }
    None
}

async fn try_init(session: &Session) -> Result<i64, CallError> {
    let connection = session.connect_any().await?;
    let request = InitWriterRequest { table_path: vec![session.path()] };
    Ok(connection.send(request).answer(INIT_WAIT).await?.writer_id)
}
