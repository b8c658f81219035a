//! One writer on one bucket: batches in sequence, at most five open, each sent again under its sequence until it is acked.

use super::{Mode, Shared, rows};
use crate::client::{Bucket, CallError, Session};
use crate::draw::Source;
use crate::history::{BucketNo, Event, Outcome, WriterNo};
use crate::plan::Writer;
use bytes::Bytes;
use floss_protocol::error_code::{ErrorCode, Retry};
use floss_protocol::rpc::{PbProduceLogReqForBucket, PbProduceLogRespForBucket, ProduceLogRequest, ProduceLogResponse};
use floss_raft::env::runtime::sync::mpsc;
use floss_raft::env::runtime::time::Instant;
use floss_raft::env::runtime::{select, spawn, time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What official clients keep open per bucket.
const OPEN_MAX: usize = 5;
const SERVER_PATIENCE_MS: i32 = 2_000;
const CLIENT_PATIENCE: Duration = Duration::from_millis(3_000);
const WAKE: Duration = Duration::from_millis(50);

pub(super) struct Appender {
    pub shared: Arc<Shared>,
    pub session: Arc<Session>,
    pub plan: Writer,
    pub draws: Source,
    pub writer: WriterNo,
    pub writer_id: i64,
    pub bucket: Bucket,
    pub bucket_no: BucketNo,
}

struct Open {
    bytes: Bytes,
    records: i32,
    in_flight: bool,
    sends: u32,
    not_before: Instant,
}

struct Attempt {
    sequence: i32,
    node: i32,
    certain: bool,
    result: Result<ProduceLogResponse, CallError>,
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
            if mode != Mode::Finish && now >= due && open.len() < OPEN_MAX && self.is_busy(mode, now - started) {
                open.insert(next, self.new_batch(next));
                self.shared.open_batches.fetch_add(1, Ordering::SeqCst);
                next += 1;
                due = now + Duration::from_millis(self.draws.below(2 * self.plan.pause_ms + 1));
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
        let (since, period) = (since.as_millis() as u64, self.plan.busy_ms + self.plan.idle_ms);
        let spans = &self.plan.spans_ms;
        let within = spans.is_empty() || spans.iter().any(|(from, to)| (*from..*to).contains(&since));
        mode == Mode::Busy || within && (self.plan.idle_ms == 0 || since % period < self.plan.busy_ms)
    }

    fn new_batch(&self, sequence: i32) -> Open {
        let records = self.draws.between(1, self.plan.records_max) as i32;
        let payload = self.draws.below(self.plan.payload_bytes_max + 1) as usize;
        let bytes = rows::encode(self.bucket_no, self.writer, sequence, records, payload, self.writer_id);
        Open { bytes, records, in_flight: false, sends: 0, not_before: Instant::now() }
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
            let waiting = connection.send(self.request(batch.bytes.clone()));
            let results = results.clone();
            spawn(async move {
                let result = waiting.answer(CLIENT_PATIENCE).await;
                // The writer may have ended.
                drop(results.send(Attempt { sequence, node, certain, result }));
            });
        }
    }

    fn request(&self, records: Bytes) -> ProduceLogRequest {
        let bucket = PbProduceLogReqForBucket { bucket_id: self.bucket.bucket, records, ..Default::default() };
        let table_id = self.bucket.table_id;
        ProduceLogRequest { acks: -1, table_id, timeout_ms: SERVER_PATIENCE_MS, buckets_req: vec![bucket] }
    }

    async fn on_answer(&self, open: &mut BTreeMap<i32, Open>, last_acked: &mut i32, attempt: Attempt) {
        let Attempt { sequence, node, certain, result } = attempt;
        // A later batch has been acked, so this one was taken long ago and is forgotten by now: official clients count it as acked.
        let is_old = sequence < *last_acked;
        let outcome = outcome(result, certain && !is_old);
        let (writer, bucket) = (self.writer, self.bucket_no);
        let acked = match outcome {
            Outcome::Acked { .. } => true,
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

fn outcome(result: Result<ProduceLogResponse, CallError>, certain: bool) -> Outcome {
    match result {
        Ok(response) => match &response.buckets_resp[..] {
            [bucket] => bucket_outcome(bucket, certain),
            others => Outcome::Refused { code: 0, message: format!("{} buckets in the answer, asked for one", others.len()) },
        },
        Err(CallError::Refused { code, message }) => refusal(code, message, certain),
        Err(error) => Outcome::Unknown { why: error.text() },
    }
}

fn bucket_outcome(bucket: &PbProduceLogRespForBucket, certain: bool) -> Outcome {
    match (bucket.error_code.unwrap_or(0), bucket.base_offset) {
        (0, Some(base_offset)) => Outcome::Acked { base_offset },
        (0, None) => Outcome::Refused { code: 0, message: "ack without an offset".into() },
        (code, _) => refusal(code, bucket.error_message.clone().unwrap_or_default(), certain),
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
