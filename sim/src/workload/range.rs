//! Questions about many rows at once: prefix lookups, limit scans, row counts, and scans over many calls, which must go on giving the
//! rows of their first moment however long they take and whatever happens meanwhile.

use super::append::refresh;
use super::keyed_rows;
use super::look::{Looking, PATIENCE};
use crate::client::{Bucket, CallError, Connection};
use crate::history::{BucketNo, Event};
use crate::plan::Merge;
use crate::recorder::now_ns;
use bytes::Bytes;
use floss_checker::{Cut, Key, KeyRange, Row};
use floss_protocol::error_code::ErrorCode;
use floss_protocol::rpc::{
    GetTableStatsRequest, LimitScanRequest, LimitScanResponse, PbPrefixLookupReqForBucket, PbScanReqForBucket,
    PbTableStatsReqForBucket, PrefixLookupRequest, PrefixLookupResponse, Rpc, ScanKvRequest, ScanKvResponse,
};
use floss_raft::env::runtime::time;
use std::collections::BTreeSet;
use std::time::Duration;

/// More rows than a bucket has.
const LIMIT_ALL: u64 = 10_000;
/// Rows are smaller than this, with a short text in them: some calls give one row, some give several.
const STEP_BYTES_MAX: u64 = 300;

/// Scans that are closed before their next call.
const CLOSED_PER_MILLE: u64 = 20;

/// Where a question goes.
struct Place {
    bucket: Bucket,
    bucket_no: BucketNo,
    address: String,
    connection: Connection,
}

/// What a scan has come to.
struct Scan {
    what: String,
    /// Of the first call.
    sent_ns: u64,
    at_ns: u64,
    log_end: i64,
    rows: Vec<Row>,
    /// `None`: it has ended.
    scanner_id: Option<Bytes>,
}

impl Looking {
    pub async fn run_ranges(self) {
        while !self.shared.stopped() {
            time::sleep(Duration::from_millis(self.draws.between(1, 2 * self.plan.range_ms))).await;
            if self.ask_range().await.is_none() {
                refresh(&self.session, &self.shared).await;
            }
        }
    }

    /// One scan of all rows after the other.
    pub async fn run_scans(self) {
        while !self.shared.stopped() {
            if self.scan().await.is_none() {
                refresh(&self.session, &self.shared).await;
            }
            self.pause_scan().await;
        }
    }

    async fn pause_scan(&self) {
        time::sleep(Duration::from_millis(self.draws.between(1, 2 * self.plan.scan_ms))).await;
    }

    /// Any bucket of the table, at its leader.
    async fn place(&self) -> Option<Place> {
        let (bucket, bucket_no) = self.bucket();
        let (_, address) = self.session.leader(bucket)?;
        let connection = self.session.connect(&address).await.ok()?;
        Some(Place { bucket, bucket_no, address, connection })
    }

    /// `None`: something calls for fresh metadata.
    async fn call<R: Rpc + 'static>(&self, place: &Place, request: R) -> Option<R::Response> {
        match place.connection.send(request).answer(PATIENCE).await {
            Ok(response) => Some(response),
            Err(CallError::Refused { code, message }) => self.refused(&place.address, code, message),
            Err(_) => None,
        }
    }

    /// `Some`: no error in the answer about the bucket.
    fn accepted(&self, place: &Place, code: Option<i32>, message: Option<&String>) -> Option<()> {
        match code.filter(|code| *code != 0) {
            Some(code) => self.refused(&place.address, code, message.cloned().unwrap_or_default()),
            None => Some(()),
        }
    }

    async fn ask_range(&self) -> Option<()> {
        let place = self.place().await?;
        // Whole rows in a log without before-images: nobody knows how many rows there are.
        let is_countable = !self.table.wal || self.table.merge != Merge::Replace || self.table.numbers_at_once > 0;
        match self.draws.below(4) {
            0 if is_countable => self.count(&place).await,
            1 | 2 if self.table.parts > 0 => self.prefix(&place).await,
            _ => self.limit(&place).await,
        }
    }

    async fn prefix(&self, place: &Place) -> Option<()> {
        let count = self.draws.between(1, 2);
        // One part more than there are: nothing begins with it.
        let parts: BTreeSet<Key> =
            (0..count).map(|_| vec![super::Layout::part(self.draws.below(self.table.parts + 1))]).collect();
        let keys = parts.iter().map(|part| keyed_rows::key_bytes(self.layout(), part)).collect();
        let Bucket { table_id, bucket: bucket_id } = place.bucket;
        let buckets_req = vec![PbPrefixLookupReqForBucket { bucket_id, keys, ..Default::default() }];
        let sent_ns = now_ns();
        let response: PrefixLookupResponse = self.call(place, PrefixLookupRequest { table_id, buckets_req }).await?;
        let [bucket] = &response.buckets_resp[..] else {
            return self.broken(&place.address, format!("{} buckets for one", response.buckets_resp.len()));
        };
        self.accepted(place, bucket.error_code, bucket.error_message.as_ref())?;
        if bucket.value_lists.len() != parts.len() {
            return self.broken(&place.address, format!("{} lists for {} prefixes", bucket.value_lists.len(), parts.len()));
        }
        for (part, list) in parts.into_iter().zip(&bucket.value_lists) {
            let rows = list.values.iter().map(|value| keyed_rows::decode_value(self.layout(), value));
            let found = self.found(place, rows.collect())?;
            if let Some((key, _)) = found.iter().find(|(key, _)| !key.starts_with(&part)) {
                return self.broken(&place.address, format!("key {key:?} for the prefix {part:?}"));
            }
            let what = format!("prefix lookup {}", floss_checker::show(&part));
            self.tell(place, (sent_ns, now_ns()), what, cut(found, part, None, None));
        }
        Some(())
    }

    async fn limit(&self, place: &Place) -> Option<()> {
        let limit = if self.draws.chance(500) { LIMIT_ALL } else { self.draws.between(1, self.table.keys) };
        let Bucket { table_id, bucket: bucket_id } = place.bucket;
        let sent_ns = now_ns();
        let request = LimitScanRequest { table_id, bucket_id, limit: limit as i32, ..Default::default() };
        let response: LimitScanResponse = self.call(place, request).await?;
        self.accepted(place, response.error_code, response.error_message.as_ref())?;
        let found = self.found(place, keyed_rows::decode_values(self.layout(), &response.records.unwrap_or_default()))?;
        if found.len() as u64 > limit || response.is_log_table != Some(false) {
            let (rows, is_log) = (found.len(), response.is_log_table);
            return self.broken(&place.address, format!("{rows} rows of at most {limit}, is_log_table={is_log:?}"));
        }
        let last = found.last().filter(|_| found.len() as u64 == limit).map(|(key, _)| key.clone());
        self.tell(place, (sent_ns, now_ns()), format!("limit scan {limit}"), cut(found, Vec::new(), last, None));
        Some(())
    }

    async fn count(&self, place: &Place) -> Option<()> {
        let Bucket { table_id, bucket: bucket_id } = place.bucket;
        let buckets_req = vec![PbTableStatsReqForBucket { bucket_id, ..Default::default() }];
        let sent_ns = now_ns();
        // Any node answers.
        let address = self.draws.pick(&self.nodes).clone();
        let connection = self.session.connect(&address).await.ok()?;
        let place = Place { bucket: place.bucket, bucket_no: place.bucket_no, address, connection };
        let response = self.call(&place, GetTableStatsRequest { table_id, buckets_req, ..Default::default() }).await?;
        let [bucket] = &response.buckets_resp[..] else {
            return self.broken(&place.address, format!("{} buckets for one", response.buckets_resp.len()));
        };
        self.accepted(&place, bucket.error_code, bucket.error_message.as_ref())?;
        let Some(rows) = bucket.row_count.and_then(|rows| u64::try_from(rows).ok()) else {
            return self.broken(&place.address, format!("row_count={:?}", bucket.row_count));
        };
        let (looker, node) = (self.looker, self.node(&place.address));
        self.shared.recorder.push(Event::RowCount { looker, bucket: place.bucket_no, node, sent_ns, rows });
        Some(())
    }

    /// All rows, a few per call. A scan that cannot go on has given the first rows all the same.
    async fn scan(&self) -> Option<()> {
        let place = self.place().await?;
        let step_bytes = self.draws.between(1, STEP_BYTES_MAX) as i32;
        let mut scan = self.open_scan(&place, step_bytes).await?;
        let mut calls = 1;
        while let Some(scanner_id) = scan.scanner_id.clone() {
            self.pause_scan().await;
            if self.shared.stopped() {
                return None;
            }
            let scanner_id = Some(scanner_id);
            if self.draws.chance(CLOSED_PER_MILLE) {
                self.call(&place, ScanKvRequest { scanner_id, close_scanner: Some(true), ..Default::default() }).await?;
                break;
            }
            let (call_seq_id, batch_size_bytes) = (Some(calls), Some(step_bytes));
            let request = ScanKvRequest { scanner_id, call_seq_id, batch_size_bytes, ..Default::default() };
            if self.go_on(&place, &mut scan, request).await.is_none() {
                break;
            }
            calls += 1;
        }
        let found = self.found(&place, Ok(std::mem::take(&mut scan.rows)))?;
        let is_whole = scan.scanner_id.is_none();
        // What comes after the last row was not asked for; without a row nothing is known.
        let last = found.last().filter(|_| !is_whole).map(|(key, _)| key.clone());
        if is_whole || last.is_some() {
            let Scan { what, sent_ns, at_ns, log_end, .. } = scan;
            let what = format!("{what} in {calls} calls");
            self.tell(&place, (sent_ns, at_ns), what, cut(found, Vec::new(), last, Some(log_end)));
        }
        is_whole.then_some(())
    }

    async fn open_scan(&self, place: &Place, step_bytes: i32) -> Option<Scan> {
        let Bucket { table_id, bucket: bucket_id } = place.bucket;
        let asked = PbScanReqForBucket { table_id, bucket_id, ..Default::default() };
        let (call_seq_id, batch_size_bytes) = (Some(0), Some(step_bytes));
        let request = ScanKvRequest { bucket_scan_req: Some(asked), call_seq_id, batch_size_bytes, ..Default::default() };
        let sent_ns = now_ns();
        let response: ScanKvResponse = self.call(place, request).await?;
        self.scan_accepted(place, &response)?;
        let Some(log_end) = response.log_offset else {
            return self.broken(&place.address, "a scan without an offset".to_owned());
        };
        let what = format!("scan by {step_bytes} bytes");
        let mut scan = Scan { what, sent_ns, at_ns: now_ns(), log_end, rows: Vec::new(), scanner_id: None };
        self.take_step(place, &mut scan, response)?;
        Some(scan)
    }

    async fn go_on(&self, place: &Place, scan: &mut Scan, request: ScanKvRequest) -> Option<()> {
        let response = self.call(place, request).await?;
        self.scan_accepted(place, &response)?;
        self.take_step(place, scan, response)
    }

    fn take_step(&self, place: &Place, scan: &mut Scan, response: ScanKvResponse) -> Option<()> {
        if let Some(records) = &response.records {
            match keyed_rows::decode_values(self.layout(), records) {
                Ok(rows) => scan.rows.extend(rows),
                Err(error) => return self.broken(&place.address, format!("rows that are none: {error}")),
            }
        }
        let more = response.has_more_results == Some(true);
        if more && (response.scanner_id.is_none() || response.records.is_none()) {
            return self.broken(&place.address, "more rows to come, but no id or no row now".to_owned());
        }
        scan.scanner_id = response.scanner_id.filter(|_| more);
        Some(())
    }

    /// Scans end with their leader, and answers that got lost leave some open: those are no findings.
    fn scan_accepted(&self, place: &Place, response: &ScanKvResponse) -> Option<()> {
        let ended = [ErrorCode::ScannerExpired, ErrorCode::UnknownScannerId, ErrorCode::TooManyScanners];
        if response.error_code.and_then(ErrorCode::from_code).is_some_and(|code| ended.contains(&code)) {
            return None;
        }
        self.accepted(place, response.error_code, response.error_message.as_ref())
    }

    /// Rows that were answered, with their keys, which must ascend.
    fn found(&self, place: &Place, rows: Result<Vec<Row>, String>) -> Option<Vec<(Key, Row)>> {
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return self.broken(&place.address, format!("rows that are none: {error}")),
        };
        let keys: Vec<Key> = rows.iter().map(|row| self.layout().key(row)).collect();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] >= pair[1]) {
            return self.broken(&place.address, format!("key {:?} after {:?}", pair[1], pair[0]));
        }
        Some(keys.into_iter().zip(rows).collect())
    }

    fn tell(&self, place: &Place, (sent_ns, at_ns): (u64, u64), what: String, cut: Cut) {
        let (looker, bucket, node) = (self.looker, place.bucket_no, self.node(&place.address));
        self.shared.recorder.push(Event::Scan { looker, bucket, node, sent_ns, at_ns, what, cut });
    }
}

/// Rows that were found in a range, and no others. `log_end`: if the answer says itself of which state it is.
fn cut(found: Vec<(Key, Row)>, prefix: Key, last: Option<Key>, log_end: Option<i64>) -> Cut {
    let found = found.into_iter().map(|(key, row)| (key, Some(row))).collect();
    Cut { found, range: Some(KeyRange { prefix, last }), place: log_end }
}
