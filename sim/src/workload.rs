//! Writers and readers: retry like the official clients, record everything they do and see.

use crate::client::{Client, metadata};
use crate::cluster::address;
use crate::draw::{Draws, Stream};
use crate::history::{BucketNo, Event, NodeNo, Outcome, Value, WriterNo};
use crate::plan::{Reader, Writer};
use crate::rows;
use floss_protocol::rpc::{
    FetchLogRequest, InitWriterRequest, PbFetchLogReqForBucket, PbFetchLogReqForTable, PbProduceLogReqForBucket, PbTablePath,
    ProduceLogRequest,
};
use floss_raft::env::runtime::time::{self, Instant};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Batches of one bucket in flight, as the official clients allow at most.
const WINDOW: usize = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Where events go; the harness drains it.
#[derive(Clone, Default)]
pub struct Recorder {
    events: Arc<Mutex<Vec<(u64, Event)>>>,
}

/// Virtual nanoseconds.
pub fn now_ns() -> u64 {
    madsim::time::TimeHandle::current().elapsed().as_nanos() as u64
}

impl Recorder {
    pub fn record(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push((now_ns(), event));
    }

    pub fn drain(&self) -> Vec<(u64, Event)> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One bucket of one table, as a client knows it.
#[derive(Clone)]
pub struct Place {
    pub nodes: u64,
    pub table: String,
    pub table_id: i64,
    /// In its table, and over all tables.
    pub bucket: i32,
    pub number: BucketNo,
}

impl Place {
    /// The node that leads according to any node that answers.
    async fn leader(&self, turn: u64) -> Result<NodeNo, String> {
        let addresses: Vec<String> = (1..=self.nodes).map(address).collect();
        let answer = metadata(&addresses, (turn % self.nodes) as usize, &self.table).await?;
        let buckets = answer.table_metadata.first().map(|table| &table.bucket_metadata[..]).unwrap_or_default();
        let found = buckets.iter().find(|bucket| bucket.bucket_id == self.bucket);
        let leader = found.and_then(|bucket| bucket.leader_id).ok_or("metadata names no leader")?;
        Ok(leader as u64)
    }
}

/// Shared by all tasks of a run.
#[derive(Default)]
pub struct Switch {
    /// Writers finish what is in flight and end.
    pub stop_writing: AtomicBool,
    pub stop_reading: AtomicBool,
    /// Writers that have ended with nothing left in flight.
    pub drained: AtomicU64,
    pub acked: AtomicU64,
}

struct Pending {
    sequence: i32,
    records: i32,
    bytes: bytes::Bytes,
    sent: bool,
}

/// Appends to one bucket until stopped.
pub async fn write(plan: Writer, writer: WriterNo, place: Place, draws: Draws, recorder: Recorder, switch: Arc<Switch>) {
    let draw = draws.source(Stream::Writer, u64::from(writer) << 16 | u64::from(place.number));
    let writer_id = loop {
        match init_writer(&place, draw.below(place.nodes)).await {
            Ok(id) => break id,
            Err(_) => time::sleep(RETRY_PAUSE).await,
        }
    };
    let mut window: VecDeque<Pending> = VecDeque::new();
    let mut next = 0;
    let began = Instant::now();
    loop {
        let stopping = switch.stop_writing.load(Ordering::SeqCst);
        if stopping && window.is_empty() {
            switch.drained.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let phase = (began.elapsed().as_millis() as u64) % (plan.busy_ms + plan.idle_ms).max(1);
        let silent = plan.idle_ms > 0 && phase >= plan.busy_ms && window.is_empty();
        if silent && !stopping {
            time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let burst = if stopping { 0 } else { draw.between(1, WINDOW as u64) as usize };
        while window.len() < burst {
            let records = draw.between(1, plan.records_max) as i32;
            let first = Value { writer, sequence: next, index: 0 };
            let bytes = rows::encode(place.number, first, records, draw.below(plan.payload_bytes_max + 1) as usize, writer_id);
            window.push_back(Pending { sequence: next, records, bytes, sent: false });
            next += 1;
        }
        push(writer, &place, &mut window, &recorder, &switch, draw.bits()).await;
        time::sleep(Duration::from_millis(draw.between(1, plan.pause_ms * 2))).await;
    }
}

async fn init_writer(place: &Place, turn: u64) -> Result<i64, String> {
    let mut client = Client::connect(&address(turn + 1)).await?;
    let table_path = vec![PbTablePath { database_name: "fluss".to_owned(), table_name: place.table.clone() }];
    Ok(client.call(&InitWriterRequest { table_path }).await?.writer_id)
}

/// One attempt to get everything in the window acknowledged, in order, on one connection.
async fn push(writer: WriterNo, place: &Place, window: &mut VecDeque<Pending>, recorder: &Recorder, switch: &Switch, turn: u64) {
    let Ok(node) = place.leader(turn).await else { return };
    let Ok(mut client) = Client::connect(&address(node)).await else { return };
    let mut ids = Vec::new();
    for pending in window.iter_mut() {
        let bucket = PbProduceLogReqForBucket { bucket_id: place.bucket, records: pending.bytes.clone(), ..Default::default() };
        let request = ProduceLogRequest { acks: -1, table_id: place.table_id, timeout_ms: 2_000, buckets_req: vec![bucket] };
        let (sequence, records, first) = (pending.sequence, pending.records, !pending.sent);
        pending.sent = true;
        recorder.record(Event::Send { writer, bucket: place.number, sequence, records, node, first });
        match client.send(&request).await {
            Ok(id) => ids.push(id),
            Err(_) => break,
        }
    }
    for (turn, id) in ids.into_iter().enumerate() {
        let answer = client.answer::<ProduceLogRequest>(id).await;
        let sequence = window.front().expect("one entry per request in flight").sequence;
        let outcome = match answer {
            Err(why) => Outcome::Unknown { why },
            Ok(answer) => match answer.buckets_resp.first() {
                None => Outcome::Refused { code: -1, message: "no answer for the bucket".to_owned() },
                Some(bucket) => match bucket.error_code.unwrap_or(0) {
                    0 => Outcome::Acked { base_offset: bucket.base_offset.unwrap_or(-1) },
                    // The oldest batch of a window, all before it acknowledged: it is the next one, whatever came before.
                    31 => Outcome::OutOfOrder { certain: turn == 0 },
                    12 | 21 | 25 | 26 | 44 => Outcome::Unknown { why: format!("code={}", bucket.error_code.unwrap_or(0)) },
                    code => Outcome::Refused { code, message: bucket.error_message.clone().unwrap_or_default() },
                },
            },
        };
        let acked = matches!(outcome, Outcome::Acked { .. });
        recorder.record(Event::Done { writer, bucket: place.number, sequence, node, outcome });
        if !acked {
            return;
        }
        switch.acked.fetch_add(1, Ordering::SeqCst);
        window.pop_front();
    }
}

/// Scans one bucket, again and again, until stopped.
pub async fn read(plan: Reader, reader: u32, place: Place, draws: Draws, recorder: Recorder, switch: Arc<Switch>) {
    let draw = draws.source(Stream::Reader, u64::from(reader) << 16 | u64::from(place.number));
    let mut offset = 0;
    let mut began = Instant::now();
    while !switch.stop_reading.load(Ordering::SeqCst) {
        if plan.rescan_ms > 0 && began.elapsed() >= Duration::from_millis(plan.rescan_ms) {
            (offset, began) = (0, Instant::now());
        }
        if let Ok(node) = place.leader(draw.bits()).await
            && let Ok(client) = Client::connect(&address(node)).await
        {
            offset = follow(&plan, reader, node, &place, client, offset, &recorder, &switch, began).await;
        }
        time::sleep(RETRY_PAUSE).await;
    }
}

#[allow(clippy::too_many_arguments)] // a loop body with a name
async fn follow(
    plan: &Reader,
    reader: u32,
    node: NodeNo,
    place: &Place,
    mut client: Client,
    mut offset: i64,
    recorder: &Recorder,
    switch: &Switch,
    began: Instant,
) -> i64 {
    while !switch.stop_reading.load(Ordering::SeqCst) {
        if plan.rescan_ms > 0 && began.elapsed() >= Duration::from_millis(plan.rescan_ms) {
            return offset;
        }
        let bucket = PbFetchLogReqForBucket {
            bucket_id: place.bucket,
            fetch_offset: offset,
            max_fetch_bytes: plan.max_bytes,
            ..Default::default()
        };
        let table = PbFetchLogReqForTable {
            table_id: place.table_id,
            projection_pushdown_enabled: plan.projection.is_some(),
            projected_fields: plan.projection.clone().unwrap_or_default(),
            buckets_req: vec![bucket],
            ..Default::default()
        };
        let request = FetchLogRequest {
            follower_server_id: -1,
            max_bytes: plan.max_bytes,
            tables_req: vec![table],
            max_wait_ms: Some(plan.max_wait_ms),
            min_bytes: Some(1),
            read_preference: None,
        };
        let sent_ns = now_ns();
        let Ok(answer) = client.call(&request).await else { return offset };
        let Some(bucket) = answer.tables_resp.into_iter().next().and_then(|table| table.buckets_resp.into_iter().next()) else {
            return offset;
        };
        match bucket.error_code.unwrap_or(0) {
            0 => {}
            12 | 21 | 25 | 26 | 44 => return offset,
            code => {
                let message = bucket.error_message.unwrap_or_default();
                recorder.record(Event::FetchRefused { reader, bucket: place.number, node, from: offset, code, message });
                return offset;
            }
        }
        let rows = rows::decode(place.number, bucket.records.unwrap_or_default(), offset, plan.projection.as_deref());
        let high_watermark = bucket.high_watermark.unwrap_or(0);
        let from = offset;
        offset = rows.last().map_or(offset, |row| row.offset + 1);
        let empty = rows.is_empty();
        recorder.record(Event::Fetch { reader, bucket: place.number, node, from, high_watermark, sent_ns, rows });
        if empty {
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    offset
}
