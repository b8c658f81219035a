//! A writer process: one writer id, all buckets of its table.

use super::append::{Appender, Content, refresh};
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
    let (content, stream) = content(&shared, number as usize);
    let table = content.table();
    let source = draws.source(Stream::Client, u64::from(number));
    let session = Arc::new(Session::new(table_name(table), bootstrap, source));
    shared.add_session(session.clone());
    let Some(writer_id) = init_writer(&shared, &session).await else { return };
    shared.recorder.name_writer(writer_id, number);
    let mut tasks = Vec::new();
    for (bucket, bucket_no) in (0..).zip(shared.plan.buckets_of(table)) {
        let appender = Appender {
            shared: shared.clone(),
            session: session.clone(),
            content: content.clone(),
            draws: draws.source(stream, u64::from(number) << 16 | u64::from(bucket_no)),
            writer: number,
            writer_id,
            bucket: Bucket { table_id: shared.table_ids[table], bucket },
            bucket_no,
        };
        tasks.push(spawn(appender.run()));
    }
    for task in tasks {
        // A task that panics ends the simulation by itself.
        drop(task.await);
    }
}

/// Writers are counted over both kinds of tables.
fn content(shared: &Shared, number: usize) -> (Content, Stream) {
    let workload = &shared.plan.workload;
    if let Some(plan) = workload.writers.get(number) {
        return (Content::Log(plan.clone()), Stream::Writer);
    }
    let plan = workload.keyed_writers[number - workload.writers.len()].clone();
    let table = shared.plan.keyed(plan.table).expect("a keyed writer has a keyed table").clone();
    (Content::Keyed(plan, table), Stream::KeyedWriter)
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
