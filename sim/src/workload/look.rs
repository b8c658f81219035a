//! A process that looks keys up, a few at a time. And one that asks any node, whether it leads or not, and waits for answers longer than
//! others: a leader that was frozen must not answer as if nothing had happened meanwhile.

use super::append::refresh;
use super::{Layout, Shared, keyed_rows, table_name};
use crate::client::{Bucket, CallError, Connection, Session};
use crate::draw::{Draws, Source, Stream};
use crate::history::{BucketNo, Event, NodeNo};
use crate::plan::{KeyedTable, Looker};
use crate::recorder::now_ns;
use bytes::Bytes;
use floss_checker::{Key, Row};
use floss_protocol::error_code::{ErrorCode, Retry};
use floss_protocol::rpc::{LookupRequest, LookupResponse, PbLookupReqForBucket};
use floss_raft::env::runtime::{spawn, time};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(super) const PATIENCE: Duration = Duration::from_millis(3_000);
/// Longer than the longest pause.
const STRAY_PATIENCE: Duration = Duration::from_millis(8_000);
/// Stray lookups under way at once.
const STRAY_MAX: usize = 32;

pub(super) struct Looking {
    pub shared: Arc<Shared>,
    pub session: Arc<Session>,
    pub plan: Looker,
    pub table: KeyedTable,
    pub looker: u32,
    pub draws: Source,
    pub nodes: Vec<String>,
}

/// A question about one bucket.
struct Question {
    bucket: Bucket,
    bucket_no: BucketNo,
    keys: BTreeSet<Key>,
}

/// Runs until the run stops; must be spawned on a node of its own.
pub async fn run_looker(shared: Arc<Shared>, number: u32, nodes: Vec<String>) {
    let draws = Draws::new(shared.plan.seed);
    let plan = shared.plan.workload.lookers[number as usize].clone();
    let table = shared.plan.keyed(plan.table).expect("a looker has a keyed table").clone();
    let source = |of: u64| draws.source(Stream::Looker, u64::from(number) << 8 | of);
    let new_session = |of: u64| {
        let session = Arc::new(Session::new(table_name(plan.table), nodes.clone(), source(of)));
        shared.add_session(session.clone());
        session
    };
    // Whoever waits in vain closes the connection: strays have their own.
    let (session, strays) = (new_session(0), new_session(1));
    let looking = |of: u64, session: &Arc<Session>| Looking {
        shared: shared.clone(),
        session: session.clone(),
        plan: plan.clone(),
        table: table.clone(),
        looker: number,
        draws: source(of),
        nodes: nodes.clone(),
    };
    let mut tasks: Vec<_> = (0..plan.tasks).map(|task| spawn(looking(2 + task, &session).run())).collect();
    if plan.range_ms > 0 {
        tasks.push(spawn(looking(253, &session).run_ranges()));
    }
    if plan.scan_ms > 0 {
        tasks.push(spawn(looking(254, &session).run_scans()));
    }
    if plan.stray_ms > 0 {
        tasks.push(spawn(Arc::new(looking(255, &strays)).run_strays()));
    }
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

    /// Asks nodes in turn, without waiting for one answer before the next question.
    async fn run_strays(self: Arc<Self>) {
        let open = Arc::new(AtomicUsize::new(0));
        while !self.shared.stopped() {
            time::sleep(Duration::from_millis(self.draws.between(1, 2 * self.plan.stray_ms))).await;
            if open.load(Ordering::SeqCst) >= STRAY_MAX {
                continue;
            }
            let (question, address) = (self.question(), self.draws.pick(&self.nodes).clone());
            let Ok(connection) = self.session.connect(&address).await else { continue };
            let (me, open) = (self.clone(), open.clone());
            open.fetch_add(1, Ordering::SeqCst);
            spawn(async move {
                // Most nodes do not lead.
                _ = me.ask(&address, connection, question, STRAY_PATIENCE).await;
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    fn question(&self) -> Question {
        let (bucket, bucket_no) = self.bucket();
        let count = self.draws.between(1, self.plan.keys_max);
        let keys = (0..count).map(|_| keyed_rows::any_key(&self.draws, &self.table)).collect();
        Question { bucket, bucket_no, keys }
    }

    /// Any bucket of the table.
    pub fn bucket(&self) -> (Bucket, BucketNo) {
        let buckets = self.shared.plan.buckets_of(self.plan.table);
        let at = self.draws.below(u64::from(buckets.end - buckets.start)) as u32;
        (Bucket { table_id: self.shared.table_ids[self.plan.table], bucket: at as i32 }, buckets.start + at)
    }

    pub fn layout(&self) -> &'static Layout {
        Layout::of(&self.table)
    }

    /// The number of the node with this address.
    pub fn node(&self, address: &str) -> NodeNo {
        1 + self.nodes.iter().position(|node| node == address).unwrap_or(0) as u64
    }

    /// One lookup at the leader; false if something calls for fresh metadata.
    async fn look(&self) -> bool {
        let question = self.question();
        let Some((_, address)) = self.session.leader(question.bucket) else { return false };
        let Ok(connection) = self.session.connect(&address).await else { return false };
        self.ask(&address, connection, question, PATIENCE).await
    }

    /// False if there was no clear answer.
    async fn ask(&self, address: &str, connection: Connection, question: Question, patience: Duration) -> bool {
        let Question { bucket: Bucket { table_id, bucket: bucket_id }, bucket_no, keys } = question;
        let key_bytes = keys.iter().map(|key| keyed_rows::key_bytes(self.layout(), key)).collect();
        let buckets_req = vec![PbLookupReqForBucket { bucket_id, keys: key_bytes, ..Default::default() }];
        let sent_ns = now_ns();
        let waiting = connection.send(LookupRequest { table_id, buckets_req, ..Default::default() });
        let found = match waiting.answer(patience).await {
            Ok(response) => self.looked_up(address, keys, response),
            Err(CallError::Refused { code, message }) => self.refused(address, code, message),
            Err(_) => None,
        };
        let Some(found) = found else { return false };
        let (looker, node) = (self.looker, self.node(address));
        self.shared.recorder.push(Event::Lookup { looker, bucket: bucket_no, node, sent_ns, found });
        true
    }

    fn looked_up(&self, address: &str, keys: BTreeSet<Key>, response: LookupResponse) -> Option<Vec<(Key, Option<Row>)>> {
        let [bucket] = &response.buckets_resp[..] else {
            return self.broken(address, format!("{} buckets for one", response.buckets_resp.len()));
        };
        if let Some(code) = bucket.error_code.filter(|code| *code != 0) {
            return self.refused(address, code, bucket.error_message.clone().unwrap_or_default());
        }
        if bucket.values.len() != keys.len() {
            return self.broken(address, format!("{} values for {} keys", bucket.values.len(), keys.len()));
        }
        let row = |value: &Bytes| keyed_rows::decode_value(self.layout(), value);
        let rows: Result<Vec<Option<Row>>, String> =
            bucket.values.iter().map(|value| value.values.as_ref().map(row).transpose()).collect();
        match rows {
            Ok(rows) => Some(keys.into_iter().zip(rows).collect()),
            Err(error) => self.broken(address, format!("a row that is none: {error}")),
        }
    }

    /// Errors that every client tries again after are fine, others a finding.
    pub fn refused<T>(&self, address: &str, code: i32, message: String) -> Option<T> {
        let fleeting = ErrorCode::from_code(code).is_some_and(|error| error.retry() == Retry::EveryClient);
        if !fleeting {
            self.broken::<T>(address, format!("code={code} {message}"));
        }
        None
    }

    /// An answer that no client can live with.
    pub fn broken<T>(&self, address: &str, what: String) -> Option<T> {
        let what = format!("{address} answered l{} with {what}", self.looker);
        self.shared.recorder.push(Event::Broken { what });
        None
    }
}
