//! What a reader's process asks beside its scan: where a log starts, ends, and was at a time; and fetches at any node, whether it leads
//! or not, from where the reader is by then. A node that is behind must not say that there is no such offset: readers give up on that.

use super::append::refresh;
use super::{Shared, table_name};
use crate::client::{Bucket, CallError, Session};
use crate::draw::{Draws, Source, Stream};
use crate::history::{BucketNo, Event};
use floss_protocol::error_code::{ErrorCode, Retry};
use floss_protocol::rpc::{
    FetchLogRequest, ListOffsetsRequest, ListOffsetsResponse, PbFetchLogReqForBucket, PbFetchLogReqForTable,
};
use floss_raft::env::runtime::{spawn, time};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const EARLIEST: i32 = 0;
const LATEST: i32 = 1;
const TIMESTAMP: i32 = 2;
/// Longer than the longest pause.
const PATIENCE: Duration = Duration::from_millis(8_000);
const OPEN_MAX: usize = 32;

/// What a reader has seen of its buckets.
#[derive(Default)]
pub(super) struct Seen {
    buckets: Mutex<BTreeMap<i32, SeenBucket>>,
}

#[derive(Default)]
struct SeenBucket {
    /// Base offset and commit time of every batch that was read.
    times: BTreeMap<i64, i64>,
    /// The highest watermark that was shown.
    end: i64,
}

impl Seen {
    fn buckets(&self) -> MutexGuard<'_, BTreeMap<i32, SeenBucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note_end(&self, bucket: i32, high_watermark: i64) {
        let mut buckets = self.buckets();
        let seen = buckets.entry(bucket).or_default();
        seen.end = seen.end.max(high_watermark);
    }

    /// Errors: commit times go back along the log, or the batch had another one before.
    pub fn note_batch(&self, bucket: i32, base_offset: i64, time_ms: i64) -> Result<(), String> {
        let mut buckets = self.buckets();
        let times = &mut buckets.entry(bucket).or_default().times;
        let before = times.range(..=base_offset).next_back().filter(|(_, before)| **before > time_ms);
        let after = times.range(base_offset..).next().filter(|(_, after)| **after < time_ms);
        if let Some((other, other_ms)) = before.or(after) {
            return Err(format!("the batch at offset={base_offset} has commit time {time_ms}, that at {other} has {other_ms}"));
        }
        times.insert(base_offset, time_ms);
        Ok(())
    }
}

impl SeenBucket {
    /// A question and the answers that fit what was seen before it.
    fn question(&self, draws: &Source) -> (i32, Option<i64>, RangeInclusive<i64>) {
        match draws.below(4) {
            0 => (EARLIEST, None, 0..=0),
            1 => (LATEST, None, self.end..=i64::MAX),
            _ => {
                let at = draws.below(self.times.len() as u64) as usize;
                // Right at a batch, or just beside it.
                let time_ms = self.times.values().nth(at).map_or(0, |time_ms| time_ms - 1 + draws.below(3) as i64);
                let older = self.times.iter().filter(|(_, of)| **of < time_ms).map(|(base, _)| base + 1).next_back();
                let first = self.times.iter().find(|(_, of)| **of >= time_ms).map(|(base, _)| *base);
                (TIMESTAMP, Some(time_ms), older.unwrap_or(0)..=first.unwrap_or(i64::MAX))
            }
        }
    }
}

pub(super) struct Asker {
    shared: Arc<Shared>,
    session: Arc<Session>,
    seen: Arc<Seen>,
    draws: Source,
    reader: u32,
    table_id: i64,
    first_bucket: BucketNo,
    buckets: u64,
    nodes: Vec<String>,
    pause_ms: u64,
    /// Entries expire: a log may begin anywhere, and where the reader was may be gone.
    expires: bool,
}

impl Asker {
    pub fn new(shared: Arc<Shared>, seen: Arc<Seen>, reader: u32, table: usize, nodes: Vec<String>) -> Self {
        let source = |of: u64| Draws::new(shared.plan.seed).source(Stream::Asker, u64::from(reader) << 8 | of);
        let session = Arc::new(Session::new(table_name(table), nodes.clone(), source(0)));
        shared.add_session(session.clone());
        let (table_id, first_bucket, draws) = (shared.table_ids[table], shared.plan.first_bucket(table), source(1));
        let buckets = shared.plan.bucket_count(table).max(1) as u64;
        let pause_ms = *draws.pick(&[150, 400, 1_000]);
        let expires = shared.plan.expires(table);
        Self { shared, session, seen, draws, reader, table_id, first_bucket, buckets, nodes, pause_ms, expires }
    }

    /// Runs until the run stops; does not wait for one answer before the next question.
    pub async fn run(self) {
        let (me, open) = (Arc::new(self), Arc::new(AtomicUsize::new(0)));
        while !me.shared.stopped() {
            time::sleep(Duration::from_millis(me.draws.between(1, 2 * me.pause_ms))).await;
            if open.load(Ordering::SeqCst) >= OPEN_MAX {
                continue;
            }
            open.fetch_add(1, Ordering::SeqCst);
            let (me, open) = (me.clone(), open.clone());
            spawn(async move {
                if me.draws.chance(500) {
                    me.stray().await
                } else {
                    me.ask().await
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    async fn ask(&self) {
        let bucket = self.draws.below(self.buckets) as i32;
        let leader = self.session.leader(Bucket { table_id: self.table_id, bucket });
        let Some((node, address)) = leader else { return refresh(&self.session, &self.shared).await };
        let Ok(connection) = self.session.connect(&address).await else {
            return refresh(&self.session, &self.shared).await;
        };
        let (offset_type, start_timestamp, allowed) = {
            let mut buckets = self.seen.buckets();
            buckets.entry(bucket).or_default().question(&self.draws)
        };
        let allowed = if self.expires { *allowed.start()..=i64::MAX } else { allowed };
        let request = ListOffsetsRequest {
            follower_server_id: -1,
            offset_type,
            table_id: self.table_id,
            bucket_id: vec![bucket],
            start_timestamp,
            ..Default::default()
        };
        let answer = connection.send(request).answer(PATIENCE).await;
        let asked = format!("r{} type={offset_type} time={start_timestamp:?}", self.reader);
        let bucket = self.first_bucket + bucket as u32;
        match answer.map(offset) {
            Ok(Ok(offset)) if allowed.contains(&offset) => {}
            Ok(Ok(offset)) => {
                self.broken(format!("n{node} says offset={offset} of b{bucket} to {asked}, expected {allowed:?}"));
            }
            Ok(Err((code, message))) | Err(CallError::Refused { code, message }) => {
                // The clock of the next leader may be behind the newest commit time.
                if !is_fleeting(code) && code != ErrorCode::InvalidTimestamp as i32 {
                    self.broken(format!("n{node} refused b{bucket} to {asked}: code={code} {message}"));
                }
                refresh(&self.session, &self.shared).await;
            }
            Err(_) => refresh(&self.session, &self.shared).await,
        }
    }

    async fn stray(&self) {
        let at = self.draws.below(self.nodes.len() as u64) as usize;
        let Ok(connection) = self.session.connect(&self.nodes[at]).await else { return };
        let ends: BTreeMap<i32, i64> = self.seen.buckets().iter().map(|(bucket, seen)| (*bucket, seen.end)).collect();
        let bucket = |(bucket, end): (&i32, &i64)| PbFetchLogReqForBucket {
            bucket_id: *bucket,
            fetch_offset: *end,
            max_fetch_bytes: 1_000,
            ..Default::default()
        };
        let table = PbFetchLogReqForTable {
            table_id: self.table_id,
            buckets_req: ends.iter().map(bucket).collect(),
            ..Default::default()
        };
        let request = FetchLogRequest {
            follower_server_id: -1,
            max_bytes: 1_000,
            tables_req: vec![table],
            max_wait_ms: Some(100),
            min_bytes: Some(1),
            ..Default::default()
        };
        let Ok(response) = connection.send(request).answer(PATIENCE).await else { return };
        for bucket in response.tables_resp.into_iter().flat_map(|table| table.buckets_resp) {
            let code = bucket.error_code.unwrap_or(0);
            let is_expired = self.expires && code == ErrorCode::LogOffsetOutOfRange as i32;
            if code != 0 && !is_fleeting(code) && !is_expired {
                self.shared.recorder.push(Event::FetchRefused {
                    reader: self.reader,
                    bucket: self.first_bucket + bucket.bucket_id.max(0) as u32,
                    node: at as u64 + 1,
                    from: ends.get(&bucket.bucket_id).copied().unwrap_or(-1),
                    code,
                    message: bucket.error_message.unwrap_or_default(),
                });
            }
        }
    }

    fn broken(&self, what: String) {
        self.shared.recorder.push(Event::Broken { what });
    }
}

fn is_fleeting(code: i32) -> bool {
    ErrorCode::from_code(code).is_some_and(|error| error.retry() == Retry::EveryClient)
}

fn offset(response: ListOffsetsResponse) -> Result<i64, (i32, String)> {
    let bucket = response.buckets_resp.into_iter().next().unwrap_or_default();
    match (bucket.error_code.unwrap_or(0), bucket.offset) {
        (0, offset) => Ok(offset.unwrap_or(-1)),
        (code, _) => Err((code, bucket.error_message.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_go_back_are_told_and_answers_are_bounded_by_what_was_read() {
        let seen = Seen::default();
        for (base, time_ms) in [(10, 500), (0, 400), (20, 500), (10, 500)] {
            assert_eq!(seen.note_batch(1, base, time_ms), Ok(()));
        }
        assert!(seen.note_batch(1, 15, 499).is_err());
        assert!(seen.note_batch(1, 30, 499).is_err());
        assert!(seen.note_batch(1, 5, 501).is_err());
        assert!(seen.note_batch(1, 20, 501).is_err(), "another time than before");
        seen.note_end(1, 31);
        let draws = Draws::new(3).source(Stream::Asker, 0);
        for _ in 0..200 {
            let allowed = match seen.buckets()[&1].question(&draws) {
                (EARLIEST, None, allowed) => (0, 0) == (*allowed.start(), *allowed.end()),
                (LATEST, None, allowed) => *allowed.start() == 31,
                (TIMESTAMP, Some(399 | 400), allowed) => allowed == (0..=0),
                (TIMESTAMP, Some(401 | 499 | 500), allowed) => allowed == (1..=10),
                (TIMESTAMP, Some(501), allowed) => allowed == (21..=i64::MAX),
                _ => false,
            };
            assert!(allowed);
        }
    }
}
