//! A process that looks keys up, a few at a time. Some questions go to a node that may not lead: it has to refuse, or to be right.

use super::append::refresh;
use super::{Shared, keyed_rows, table_name};
use crate::client::{Bucket, CallError, Session};
use crate::draw::{Draws, Source, Stream};
use crate::history::Event;
use crate::plan::{KeyedTable, Looker};
use crate::recorder::now_ns;
use bytes::Bytes;
use floss_checker::{Cell, Key, Row};
use floss_protocol::error_code::{ErrorCode, Retry};
use floss_protocol::rpc::{LookupRequest, LookupResponse, PbLookupReqForBucket};
use floss_raft::env::runtime::{spawn, time};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(3_000);

struct Looking {
    shared: Arc<Shared>,
    session: Arc<Session>,
    plan: Looker,
    table: KeyedTable,
    looker: u32,
    draws: Source,
    nodes: Vec<String>,
}

/// Runs until the run stops; must be spawned on a node of its own.
pub async fn run_looker(shared: Arc<Shared>, number: u32, nodes: Vec<String>) {
    let draws = Draws::new(shared.plan.seed);
    let plan = shared.plan.workload.lookers[number as usize].clone();
    let source = draws.source(Stream::Looker, u64::from(number) << 8);
    let session = Arc::new(Session::new(table_name(plan.table), nodes.clone(), source));
    shared.add_session(session.clone());
    let table = shared.plan.keyed(plan.table).expect("a looker has a keyed table").clone();
    let tasks: Vec<_> = (1..=plan.tasks)
        .map(|task| {
            let looking = Looking {
                shared: shared.clone(),
                session: session.clone(),
                plan: plan.clone(),
                table: table.clone(),
                looker: number,
                draws: draws.source(Stream::Looker, u64::from(number) << 8 | task),
                nodes: nodes.clone(),
            };
            spawn(looking.run())
        })
        .collect();
    for task in tasks {
        // A task that panics ends the simulation by itself.
        drop(task.await);
    }
}

impl Looking {
    async fn run(self) {
        while !self.shared.stopped() {
            if !self.look().await {
                self.shared.recorder.lookup_failed();
                refresh(&self.session, &self.shared).await;
            }
            time::sleep(Duration::from_millis(self.draws.between(1, 2 * self.plan.pause_ms))).await;
        }
    }

    /// One lookup; false if something calls for fresh metadata.
    async fn look(&self) -> bool {
        let buckets = self.shared.plan.buckets_of(self.plan.table);
        let at = self.draws.below(u64::from(buckets.end - buckets.start)) as u32;
        let bucket = Bucket { table_id: self.shared.table_ids[self.plan.table], bucket: at as i32 };
        let count = self.draws.between(1, self.plan.keys_max);
        let keys: BTreeSet<Key> = (0..count).map(|_| vec![Cell::Int(self.draws.below(self.table.keys) as i64)]).collect();
        let is_stray = self.draws.chance(self.plan.stray_per_mille);
        let stray = self.draws.pick(&self.nodes);
        let address = match self.session.leader(bucket) {
            _ if is_stray => stray.clone(),
            Some((_, address)) => address,
            None => return false,
        };
        let Ok(connection) = self.session.connect(&address).await else { return is_stray };
        let bucket_req = PbLookupReqForBucket {
            bucket_id: bucket.bucket,
            keys: keys.iter().map(|key| keyed_rows::key_bytes(key)).collect(),
            ..Default::default()
        };
        let request = LookupRequest { table_id: bucket.table_id, buckets_req: vec![bucket_req], ..Default::default() };
        let sent_ns = now_ns();
        let found = match connection.send(request).answer(PATIENCE).await {
            Ok(response) => self.found(&address, keys, response),
            Err(CallError::Refused { code, message }) => self.refused(&address, code, message),
            Err(_) => None,
        };
        let Some(found) = found else { return is_stray };
        let node = 1 + self.nodes.iter().position(|node| *node == address).unwrap_or(usize::MAX - 1) as u64;
        let (looker, bucket) = (self.looker, buckets.start + at);
        self.shared.recorder.push(Event::Lookup { looker, bucket, node, sent_ns, found });
        true
    }

    fn found(&self, address: &str, keys: BTreeSet<Key>, response: LookupResponse) -> Option<Vec<(Key, Option<Row>)>> {
        let [bucket] = &response.buckets_resp[..] else {
            return self.broken(address, format!("{} buckets for one", response.buckets_resp.len()));
        };
        if let Some(code) = bucket.error_code.filter(|code| *code != 0) {
            return self.refused(address, code, bucket.error_message.clone().unwrap_or_default());
        }
        if bucket.values.len() != keys.len() {
            return self.broken(address, format!("{} values for {} keys", bucket.values.len(), keys.len()));
        }
        let row = |value: &Bytes| keyed_rows::decode_value(value);
        let rows: Result<Vec<Option<Row>>, String> =
            bucket.values.iter().map(|value| value.values.as_ref().map(row).transpose()).collect();
        match rows {
            Ok(rows) => Some(keys.into_iter().zip(rows).collect()),
            Err(error) => self.broken(address, format!("a row that is none: {error}")),
        }
    }

    fn refused<T>(&self, address: &str, code: i32, message: String) -> Option<T> {
        let fleeting = ErrorCode::from_code(code).is_some_and(|error| error.retry() == Retry::EveryClient);
        if !fleeting {
            self.broken::<T>(address, format!("code={code} {message}"));
        }
        None
    }

    fn broken<T>(&self, address: &str, what: String) -> Option<T> {
        let what = format!("{address} answered a lookup of l{} with {what}", self.looker);
        self.shared.recorder.push(Event::Broken { what });
        None
    }
}
