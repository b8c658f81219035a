//! One writer on one bucket: batches in sequence, a few open, each sent again under its sequence until it is acked.

use super::{Layout, Mode, Shared, keyed_rows, rows};
use crate::client::{Bucket, CallError, Connection, Session, Waiting};
use crate::draw::Source;
use crate::history::{BucketNo, Event, Outcome, WriterNo};
use crate::plan::{KeyedTable, KeyedWriter, Writer};
use bytes::Bytes;
use floss_protocol::error_code::{ErrorCode, Retry};
use floss_protocol::rpc::{
    PbProduceLogReqForBucket, PbPutKvReqForBucket, ProduceLogRequest, ProduceLogResponse, PutKvRequest, PutKvResponse, Rpc,
};
use floss_raft::env::runtime::sync::mpsc;
use floss_raft::env::runtime::time::Instant;
use floss_raft::env::runtime::{select, spawn, time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What official clients keep open per bucket.
const OPEN_MAX: u64 = 5;
const SERVER_PATIENCE_MS: i32 = 2_000;
const CLIENT_PATIENCE: Duration = Duration::from_millis(3_000);
const WAKE: Duration = Duration::from_millis(50);

/// What a writer writes.
#[derive(Clone)]
pub(super) enum Content {
    Log(Writer),
    Keyed(KeyedWriter, KeyedTable),
}

impl Content {
    pub fn table(&self) -> usize {
        match self {
            Self::Log(plan) => plan.table,
            Self::Keyed(plan, _) => plan.table,
        }
    }

    fn pause_ms(&self) -> u64 {
        match self {
            Self::Log(plan) => plan.pause_ms,
            Self::Keyed(plan, _) => plan.pause_ms,
        }
    }

    fn open_max(&self) -> usize {
        match self {
            Self::Log(_) => OPEN_MAX as usize,
            Self::Keyed(plan, _) => plan.open_max.min(OPEN_MAX) as usize,
        }
    }
}

pub(super) struct Appender {
    pub shared: Arc<Shared>,
    pub session: Arc<Session>,
    pub content: Content,
    pub draws: Source,
    pub writer: WriterNo,
    pub writer_id: i64,
    pub bucket: Bucket,
    pub bucket_no: BucketNo,
}

struct Open {
    bytes: Bytes,
    records: i32,
    /// Of a partial update.
    columns: Vec<i32>,
    in_flight: bool,
    sends: u32,
    not_before: Instant,
}

struct Attempt {
    sequence: i32,
    node: i32,
    certain: bool,
    result: Result<Vec<Reply>, CallError>,
}

/// What an answer says about one bucket.
struct Reply {
    code: i32,
    message: Option<String>,
    /// If it is a success: where.
    done: Option<Outcome>,
}

impl Appender {
    /// Runs until the writers are told to finish.
    pub async fn run(self) {
        let (results, mut answers) = mpsc::unbounded_channel();
        let mut open: BTreeMap<i32, Open> = BTreeMap::new();
        let (mut next, mut last_acked) = (0, -1);
        let started = Instant::now();
        let mut due = started;
        loop {
            let mode = self.shared.mode();
            if mode == Mode::Stop || (mode == Mode::Finish && open.is_empty()) {
                return;
            }
            let now = Instant::now();
            if mode != Mode::Finish && now >= due && open.len() < self.content.open_max() && self.is_busy(mode, now - started) {
                open.insert(next, self.new_batch(next));
                self.shared.open_batches.fetch_add(1, Ordering::SeqCst);
                next += 1;
                due = now + Duration::from_millis(self.draws.below(2 * self.content.pause_ms() + 1));
            }
            self.send_ready(&mut open, &results).await;
            select! {
                biased;
                attempt = answers.recv() => {
                    if let Some(attempt) = attempt {
                        self.on_answer(&mut open, &mut last_acked, attempt).await;
                    }
                }
                () = time::sleep_until(due.clamp(now + Duration::from_millis(2), now + WAKE)) => {}
            }
        }
    }

    fn is_busy(&self, mode: Mode, since: Duration) -> bool {
        let since = since.as_millis() as u64;
        let (spans, busy_ms, idle_ms) = match &self.content {
            Content::Log(plan) => (&plan.spans_ms, plan.busy_ms, plan.idle_ms),
            Content::Keyed(plan, _) => (&plan.spans_ms, 0, 0),
        };
        let within = spans.is_empty() || spans.iter().any(|(from, to)| (*from..*to).contains(&since));
        mode == Mode::Busy || within && (idle_ms == 0 || since % (busy_ms + idle_ms) < busy_ms)
    }

    fn new_batch(&self, sequence: i32) -> Open {
        let (bytes, records, columns) = match &self.content {
            Content::Log(plan) => {
                let records = self.draws.between(1, plan.records_max) as i32;
                let payload = self.draws.below(plan.payload_bytes_max + 1) as usize;
                let bytes = rows::encode(self.bucket_no, self.writer, sequence, records, payload, self.writer_id);
                (bytes, records, Vec::new())
            }
            Content::Keyed(plan, table) => {
                let batch = Arc::new(keyed_rows::draw_batch(&self.draws, table, plan, self.writer, sequence));
                let (writer, bucket) = (self.writer, self.bucket_no);
                self.shared.recorder.push(Event::Put { writer, bucket, sequence, batch: batch.clone() });
                let columns = batch.columns.iter().flatten().map(|column| *column as i32).collect();
                (keyed_rows::encode(Layout::of(table), &batch, self.writer_id, sequence), batch.ops.len() as i32, columns)
            }
        };
        Open { bytes, records, columns, in_flight: false, sends: 0, not_before: Instant::now() }
    }

    /// In order: nothing overtakes a batch that waits for its next try.
    async fn send_ready(&self, open: &mut BTreeMap<i32, Open>, results: &mpsc::UnboundedSender<Attempt>) {
        let lowest = open.keys().next().copied();
        for (sequence, batch) in open.iter_mut() {
            if batch.in_flight {
                continue;
            }
            if batch.not_before > Instant::now() {
                return;
            }
            let Some((node, address)) = self.session.leader(self.bucket) else {
                self.refresh().await;
                batch.not_before = Instant::now() + self.pause();
                return;
            };
            let connection = match self.session.connect(&address).await {
                Ok(connection) => connection,
                Err(_) => {
                    self.refresh().await;
                    batch.not_before = Instant::now() + self.pause();
                    return;
                }
            };
            let first = batch.sends == 0;
            let (writer, bucket, sequence, records) = (self.writer, self.bucket_no, *sequence, batch.records);
            self.shared.recorder.push(Event::Send { writer, bucket, sequence, records, node: node as u64, first });
            batch.sends += 1;
            batch.in_flight = true;
            let certain = lowest == Some(sequence);
            let tell = {
                let results = results.clone();
                // The writer may have ended.
                move |result| drop(results.send(Attempt { sequence, node, certain, result }))
            };
            self.request(&connection, batch, tell);
        }
    }

    fn request(&self, connection: &Connection, batch: &Open, tell: impl FnOnce(Result<Vec<Reply>, CallError>) + Send + 'static) {
        let Bucket { table_id, bucket: bucket_id } = self.bucket;
        let (records, timeout_ms) = (batch.bytes.clone(), SERVER_PATIENCE_MS);
        match self.content {
            Content::Log(_) => {
                let buckets_req = vec![PbProduceLogReqForBucket { bucket_id, records, ..Default::default() }];
                let request = ProduceLogRequest { acks: -1, table_id, timeout_ms, buckets_req };
                wait(connection.send(request), produced, tell);
            }
            Content::Keyed(..) => {
                let buckets_req = vec![PbPutKvReqForBucket { bucket_id, records, ..Default::default() }];
                let target_columns = batch.columns.clone();
                let request = PutKvRequest { acks: -1, table_id, timeout_ms, buckets_req, target_columns, ..Default::default() };
                wait(connection.send(request), put, tell);
            }
        }
    }

    async fn on_answer(&self, open: &mut BTreeMap<i32, Open>, last_acked: &mut i32, attempt: Attempt) {
        let Attempt { sequence, node, certain, result } = attempt;
        // A later batch has been acked, so this one was taken long ago and is forgotten by now: official clients count it as acked.
        let is_old = sequence < *last_acked;
        let outcome = outcome(result, certain && !is_old);
        let (writer, bucket) = (self.writer, self.bucket_no);
        let acked = match outcome {
            Outcome::Acked { .. } | Outcome::Put { .. } => true,
            Outcome::OutOfOrder { .. } => is_old,
            _ => false,
        };
        if acked {
            *last_acked = (*last_acked).max(sequence);
        }
        self.shared.recorder.push(Event::Done { writer, bucket, sequence, node: node as u64, outcome: outcome.clone() });
        if acked {
            if open.remove(&sequence).is_some() {
                self.shared.open_batches.fetch_sub(1, Ordering::SeqCst);
            }
            return;
        }
        if let Some(batch) = open.get_mut(&sequence) {
            batch.in_flight = false;
            batch.not_before = Instant::now() + self.pause();
        }
        if matches!(outcome, Outcome::Unknown { .. }) {
            self.refresh().await;
        }
    }

    fn pause(&self) -> Duration {
        Duration::from_millis(self.draws.between(5, 80))
    }

    async fn refresh(&self) {
        refresh(&self.session, &self.shared).await;
    }
}

/// Fresh metadata; an answer that clients cannot live with is a finding.
pub(super) async fn refresh(session: &Session, shared: &Shared) {
    if let Err(CallError::Refused { code: 0, message }) = session.refresh().await {
        shared.recorder.push(Event::Broken { what: message });
    }
}

fn wait<R: Rpc + 'static>(
    waiting: Waiting<R>,
    replies: fn(R::Response) -> Vec<Reply>,
    tell: impl FnOnce(Result<Vec<Reply>, CallError>) + Send + 'static,
) where
    R::Response: Send,
{
    spawn(async move { tell(waiting.answer(CLIENT_PATIENCE).await.map(replies)) });
}

fn produced(response: ProduceLogResponse) -> Vec<Reply> {
    let buckets = response.buckets_resp.into_iter().map(|bucket| Reply {
        code: bucket.error_code.unwrap_or(0),
        message: bucket.error_message,
        done: bucket.base_offset.map(|base_offset| Outcome::Acked { base_offset }),
    });
    buckets.collect()
}

fn put(response: PutKvResponse) -> Vec<Reply> {
    let buckets = response.buckets_resp.into_iter().map(|bucket| Reply {
        code: bucket.error_code.unwrap_or(0),
        message: bucket.error_message,
        done: bucket.log_end_offset.map(|end_offset| Outcome::Put { end_offset }),
    });
    buckets.collect()
}

fn outcome(result: Result<Vec<Reply>, CallError>, certain: bool) -> Outcome {
    let refused = |message: String| Outcome::Refused { code: 0, message };
    match result {
        Ok(mut replies) => match (replies.pop(), replies.len()) {
            (Some(Reply { code: 0, done, .. }), 0) => done.unwrap_or_else(|| refused("ack without an offset".into())),
            (Some(Reply { code, message, .. }), 0) => refusal(code, message.unwrap_or_default(), certain),
            (_, others) => refused(format!("{others} buckets more in the answer than asked for")),
        },
        Err(CallError::Refused { code, message }) => refusal(code, message, certain),
        Err(error) => Outcome::Unknown { why: error.text() },
    }
}

/// What a client that may have been heard can conclude from an error: hardly anything.
fn refusal(code: i32, message: String, certain: bool) -> Outcome {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::OutOfOrderSequence) => Outcome::OutOfOrder { certain },
        Some(error) if error.retry() == Retry::EveryClient && error != ErrorCode::CorruptRecord => {
            Outcome::Unknown { why: format!("{} {message}", error.name()) }
        }
        _ => Outcome::Refused { code, message },
    }
}
