//! A reader process: scans all buckets of its table, like a log scanner: one fetch per leader at a time, long polls.

use super::append::refresh;
use super::ask::{Asker, Seen};
use super::{Layout, Mode, Shared, rows, table_name};
use crate::client::{Bucket, CallError, Session, Waiting};
use crate::draw::{Draws, Stream};
use crate::history::{BucketNo, Event, Row};
use crate::plan::Reader;
use crate::recorder::now_ns;
use bytes::Bytes;
use floss_protocol::error_code::{ErrorCode, Retry};
use floss_protocol::log_batch::{LogBatch, LogBatches};
use floss_protocol::rpc::{
    FetchLogRequest, FetchLogResponse, PbFetchLogReqForBucket, PbFetchLogReqForTable, PbFetchLogRespForBucket,
};
use floss_raft::env::runtime::time::Instant;
use floss_raft::env::runtime::{spawn, time};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const EARLIEST: i64 = -2;
/// So many empty answers are no coincidence.
const EMPTY_MAX: u32 = 20;
const FINISH_BYTES: i32 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(2);
const FINISH_PATIENCE: Duration = Duration::from_secs(15);

struct Scan {
    shared: Arc<Shared>,
    session: Arc<Session>,
    plan: Reader,
    reader: u32,
    first_bucket: BucketNo,
    table_id: i64,
    /// Next wanted offset; `EARLIEST` at the start of a scan.
    next: BTreeMap<i32, i64>,
    /// Where entries expire: nodes, and offsets that they refused because the log begins above them, until the first answer from its
    /// start.
    expired: BTreeMap<i32, (i32, i64)>,
    /// Answers of a node, one after the other, that held nothing although there was something to read.
    empty: BTreeMap<i32, u32>,
    seen: Arc<Seen>,
}

/// Runs until the run stops; must be spawned on a node of its own.
pub async fn run_reader(shared: Arc<Shared>, number: u32, bootstrap: Vec<String>) {
    let plan = shared.plan.workload.readers[number as usize].clone();
    let source = Draws::new(shared.plan.seed).source(Stream::Reader, u64::from(number));
    let seen = Arc::new(Seen::default());
    let asker = Asker::new(shared.clone(), seen.clone(), number, plan.table, bootstrap.clone());
    drop(spawn(asker.run()));
    let session = Arc::new(Session::new(table_name(plan.table), bootstrap, source));
    shared.add_session(session.clone());
    let buckets = shared.plan.bucket_count(plan.table);
    let (first_bucket, table_id) = (shared.plan.first_bucket(plan.table), shared.table_ids[plan.table]);
    let next = (0..buckets).map(|bucket| (bucket, EARLIEST)).collect();
    let rescan = Duration::from_millis(plan.rescan_ms);
    let (empty, expired) = (BTreeMap::new(), BTreeMap::new());
    let mut scan =
        Scan { shared: shared.clone(), session, plan, reader: number, first_bucket, table_id, next, expired, empty, seen };
    let mut started = Instant::now();
    while !shared.stopped() {
        if !rescan.is_zero() && started.elapsed() > rescan && shared.mode() != Mode::Finish {
            scan.start_over();
            started = Instant::now();
        }
        if !scan.round().await {
            refresh(&scan.session, &shared).await;
            time::sleep(Duration::from_millis(scan.session.draws().between(10, 100))).await;
        }
    }
}

struct Asked {
    node: i32,
    sent_ns: u64,
    answer: Waiting<FetchLogRequest>,
}

impl Scan {
    /// From the beginning, or from any offset, which may lie inside of a batch.
    fn start_over(&mut self) {
        for next in self.next.values_mut() {
            let draws = self.session.draws();
            *next = if draws.chance(500) { EARLIEST } else { draws.below((*next).max(0) as u64 + 1) as i64 };
        }
    }

    /// One fetch per leader. False if something calls for fresh metadata.
    async fn round(&mut self) -> bool {
        let mut by_leader: BTreeMap<(i32, String), Vec<i32>> = BTreeMap::new();
        let mut fine = true;
        for bucket in self.next.keys() {
            match self.session.leader(Bucket { table_id: self.table_id, bucket: *bucket }) {
                Some(leader) => by_leader.entry(leader).or_default().push(*bucket),
                None => fine = false,
            }
        }
        let mut asked = Vec::new();
        for ((node, address), buckets) in by_leader {
            match self.session.connect(&address).await {
                Ok(connection) => {
                    let sent_ns = now_ns();
                    asked.push(Asked { node, sent_ns, answer: connection.send(self.request(&buckets)) });
                }
                Err(_) => fine = false,
            }
        }
        let patience = Duration::from_millis(self.plan.max_wait_ms as u64) + self.patience();
        for Asked { node, sent_ns, answer } in asked {
            match answer.answer(patience).await {
                Ok(response) => fine &= self.on_response(node, sent_ns, response),
                Err(CallError::Refused { code, message }) => fine &= self.on_refused(node, -1, code, message),
                Err(_) => fine = false,
            }
        }
        if fine && self.plan.max_wait_ms == 0 {
            time::sleep(Duration::from_millis(50)).await;
        }
        fine
    }

    /// Who was told small budgets gets large ones at the end: it must catch up in time.
    fn max_bytes(&self) -> i32 {
        if self.shared.mode() == Mode::Finish { self.plan.max_bytes.max(FINISH_BYTES) } else { self.plan.max_bytes }
    }

    /// Short, so that many calls fail; as long as that of real clients where nothing may fail: much is read from a slow disk then.
    fn patience(&self) -> Duration {
        if self.shared.mode() == Mode::Finish { FINISH_PATIENCE } else { PATIENCE }
    }

    fn request(&self, buckets: &[i32]) -> FetchLogRequest {
        let bucket = |id: &i32| PbFetchLogReqForBucket {
            bucket_id: *id,
            fetch_offset: self.next[id],
            max_fetch_bytes: self.max_bytes(),
            ..Default::default()
        };
        let table = PbFetchLogReqForTable {
            table_id: self.table_id,
            projection_pushdown_enabled: self.plan.projection.is_some(),
            projected_fields: self.plan.projection.clone().unwrap_or_default(),
            buckets_req: buckets.iter().map(bucket).collect(),
            ..Default::default()
        };
        FetchLogRequest {
            follower_server_id: -1,
            max_bytes: self.max_bytes(),
            tables_req: vec![table],
            max_wait_ms: Some(self.plan.max_wait_ms),
            min_bytes: Some(1),
            ..Default::default()
        }
    }

    fn on_response(&mut self, node: i32, sent_ns: u64, response: FetchLogResponse) -> bool {
        let mut fine = true;
        let buckets = response.tables_resp.into_iter().flat_map(|table| table.buckets_resp).collect::<Vec<_>>();
        self.check_empty(node, &buckets);
        for bucket in buckets {
            let Some(from) = self.next.get(&bucket.bucket_id).copied() else {
                self.shared.recorder.push(Event::Broken { what: format!("fetch answer for bucket {}", bucket.bucket_id) });
                continue;
            };
            match bucket.error_code.unwrap_or(0) {
                0 => self.on_bucket(node, sent_ns, from, bucket),
                code => {
                    let message = bucket.error_message.unwrap_or_default();
                    fine &= self.on_refused(node, bucket.bucket_id, code, message);
                }
            }
        }
        fine
    }

    /// A budget may leave out a bucket, never all of them.
    fn check_empty(&mut self, node: i32, buckets: &[PbFetchLogRespForBucket]) {
        let unread = |bucket: &&PbFetchLogRespForBucket| {
            self.next.get(&bucket.bucket_id).is_some_and(|from| bucket.high_watermark.unwrap_or(0) > (*from).max(0))
        };
        let is_empty = |bucket: &PbFetchLogRespForBucket| bucket.error_code.is_none() && bucket.records.is_none();
        let unread = buckets.iter().find(unread).filter(|_| buckets.iter().all(is_empty));
        let Some(unread) = unread else {
            self.empty.remove(&node);
            return;
        };
        let count = self.empty.entry(node).or_default();
        *count += 1;
        if *count == EMPTY_MAX {
            let (reader, from) = (self.reader, self.next[&unread.bucket_id]);
            let (bucket, end) = (self.first_bucket + unread.bucket_id as u32, unread.high_watermark.unwrap_or(0));
            let what =
                format!("n{node} gave r{reader} nothing of b{bucket} from offset={from}, {count} times, its watermark is {end}");
            self.shared.recorder.push(Event::Broken { what });
        }
    }

    fn on_bucket(&mut self, node: i32, sent_ns: u64, from: i64, bucket: PbFetchLogRespForBucket) {
        let bucket_no = self.first_bucket + bucket.bucket_id as u32;
        let from = match bucket.log_start_offset {
            Some(log_start) if from == EARLIEST && self.expires() => self.on_start(bucket.bucket_id, node, log_start),
            _ => from,
        };
        let (rows, end) = self.rows(bucket_no, from.max(0), bucket.records.unwrap_or_default());
        self.next.insert(bucket.bucket_id, end);
        self.seen.note_end(bucket.bucket_id, bucket.high_watermark.unwrap_or(0));
        self.shared.recorder.push(Event::Fetch {
            reader: self.reader,
            bucket: bucket_no,
            node: node as u64,
            from: from.max(0),
            high_watermark: bucket.high_watermark.unwrap_or(-1),
            sent_ns,
            rows,
        });
    }

    fn expires(&self) -> bool {
        self.shared.plan.expires(self.plan.table)
    }

    /// A log that begins late must have said so before, and the other way round. Another node may not know yet that it leads no more.
    fn on_start(&mut self, bucket: i32, node: i32, log_start: i64) -> i64 {
        let refused = self.expired.remove(&bucket);
        if let Some((_, refused)) = refused.filter(|(by, refused)| *by == node && *refused >= log_start) {
            let bucket = self.first_bucket + bucket as u32;
            let what = format!("r{} was refused offset={refused} of b{bucket}, on n{node} it begins at {log_start}", self.reader);
            self.shared.recorder.push(Event::Broken { what });
        }
        log_start
    }

    /// Rows from `from` on, and where the next fetch starts.
    fn rows(&self, bucket: BucketNo, from: i64, records: Bytes) -> (Vec<Row>, i64) {
        let mut rows = Vec::new();
        let mut end = from;
        for batch in LogBatches::new(records) {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    rows.push(Row { offset: end, value: Err(error.to_string()), change: None });
                    break;
                }
            };
            let base = batch.header().base_offset.0;
            let bucket_id = (bucket - self.first_bucket) as i32;
            if let Err(error) = self.seen.note_batch(bucket_id, base, batch.header().commit_timestamp_ms) {
                let what = format!("r{} read b{bucket}: {error}", self.reader);
                self.shared.recorder.push(Event::Broken { what });
            }
            rows.extend(self.batch_rows(bucket, &batch, base).into_iter().filter(|row| row.offset >= from));
            end = end.max(base + i64::from(batch.header().last_offset_delta) + 1);
        }
        (rows, end)
    }

    fn batch_rows(&self, bucket: BucketNo, batch: &LogBatch, base: i64) -> Vec<Row> {
        let Some(table) = self.shared.plan.keyed_of(bucket) else {
            let values = rows::decode(bucket, batch, self.plan.projection.as_deref());
            return values.into_iter().zip(base..).map(|(value, offset)| Row { offset, value, change: None }).collect();
        };
        let (values, changes) = self.shared.recorder.changelog_rows(Layout::of(table), batch);
        let mut changes = changes.into_iter();
        values.into_iter().zip(base..).map(|(value, offset)| Row { offset, value, change: changes.next() }).collect()
    }

    /// False: ask for fresh metadata and try again.
    fn on_refused(&mut self, node: i32, bucket: i32, code: i32, message: String) -> bool {
        if code == ErrorCode::LogOffsetOutOfRange as i32
            && self.expires()
            && let Some(next) = self.next.get_mut(&bucket).filter(|next| **next >= 0)
        {
            self.expired.insert(bucket, (node, *next));
            *next = EARLIEST;
            return false;
        }
        let fleeting = ErrorCode::from_code(code).is_some_and(|error| error.retry() == Retry::EveryClient);
        if !fleeting {
            let from = self.next.get(&bucket).copied().unwrap_or(-1);
            let bucket = self.first_bucket + bucket.max(0) as u32;
            self.shared.recorder.push(Event::FetchRefused {
                reader: self.reader,
                bucket,
                node: node as u64,
                from,
                code,
                message,
            });
        }
        false
    }
}
