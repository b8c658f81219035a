//! A run in the history format of `floss-checker`, which judges it once more at the end, as a whole and by code that the oracles do not
//! share; `floss-jepsen check` reads the same file.

use crate::history::{BucketNo, DumpBatch, Event, NodeNo, Outcome, Row, Value, WriterNo};
use floss_checker::history::{self as shared, Answer, Logged, Numbered, Request, Seen, Source, Stamp};
use floss_checker::{Batch, Cut, Demands, Key, KeyRange, Rows, check};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Processes: writers by their number, then readers and lookers.
const READERS_FROM: u64 = 1_000_000;
const LOOKERS_FROM: u64 = 2_000_000;
/// Sequences count per bucket, so a writer is one of the history in each bucket: w3 in b2 is w3002.
const BUCKETS_MAX: u64 = 1_000;

/// Translates as it goes.
#[derive(Default)]
pub struct History {
    events: Vec<shared::Event>,
    next_op: u64,
    puts: BTreeMap<(BucketNo, WriterNo, i32), Arc<Batch>>,
    /// The attempt that waits for its answer.
    open: BTreeMap<(BucketNo, WriterNo, i32), u64>,
    /// Where rows of a bucket at a log end stand in `events`: most nodes have the same.
    rows: BTreeMap<(BucketNo, i64), usize>,
    beliefs: BTreeMap<(NodeNo, u64), (u64, NodeNo)>,
}

impl History {
    pub fn observe(&mut self, at: u64, event: &Event) {
        match event {
            Event::Start { keyed, numbered, expiring, .. } => {
                let of = |(bucket, (table, column)): (&BucketNo, &(usize, usize))| {
                    (*bucket, Numbered { table: *table as u64, column: *column })
                };
                let numbered = numbered.iter().map(of).collect();
                let expiring = expiring.keys().copied().collect();
                self.events.push(shared::Event::Start { tables: keyed.clone(), numbered, expiring });
            }
            Event::Put { writer, bucket, sequence, batch } => {
                self.puts.insert((*bucket, *writer, *sequence), batch.clone());
            }
            Event::Send { writer, bucket, sequence, records, .. } => self.send(at, (*bucket, *writer, *sequence), *records),
            Event::Done { writer, bucket, sequence, outcome, .. } => {
                if let Some(op) = self.open.remove(&(*bucket, *writer, *sequence)) {
                    self.events.push(shared::Event::Return { at, op, outcome: answer(outcome) });
                }
            }
            Event::Fetch { reader, bucket, from, high_watermark, sent_ns, rows, .. } => {
                let request = Request::Fetch { from: Some(*from), fresh: false };
                let rows = rows.iter().map(|row| seen(*bucket, row)).collect();
                let answer = Answer::Fetched { high_watermark: Some(*high_watermark), rows };
                self.asked_and_answered(READERS_FROM + u64::from(*reader), *bucket, (*sent_ns, request), (at, answer));
            }
            Event::Lookup { looker, bucket, sent_ns, found, .. } => {
                let keys: Vec<Key> = found.iter().map(|(key, _)| key.clone()).collect();
                let answer = Answer::Found { rows: found.iter().map(|(_, row)| row.clone()).collect() };
                let asked = (*sent_ns, Request::Lookup { keys });
                self.asked_and_answered(LOOKERS_FROM + u64::from(*looker), *bucket, asked, (at, answer));
            }
            Event::Scan { looker, bucket, sent_ns, at_ns, cut, .. } => {
                let (request, answer) = scanned(cut);
                let process = LOOKERS_FROM + u64::from(*looker);
                self.asked_and_answered(process, *bucket, (*sent_ns, request), (*at_ns, answer));
            }
            Event::RowCount { looker, bucket, sent_ns, rows, .. } => {
                let process = LOOKERS_FROM + u64::from(*looker);
                let answer = Answer::Counted { rows: *rows };
                self.asked_and_answered(process, *bucket, (*sent_ns, Request::Count), (at, answer));
            }
            Event::Rows { node, bucket, crashed, log_end, row_count, rows } => {
                let by = if *crashed { Source::Crashed(*node) } else { Source::Replica(*node) };
                self.held(at, by, (*bucket, *log_end), *row_count, rows);
            }
            Event::Probe { node, replicas, .. } => {
                for replica in replicas {
                    let Some(leader) = replica.leader else { continue };
                    let (node, group, term) = (*node, replica.group, replica.term);
                    if self.beliefs.insert((node, group), (term, leader)) != Some((term, leader)) {
                        self.events.push(shared::Event::Belief { at, node, group, term, leader });
                    }
                }
            }
            Event::FaultBegins { what, nodes, .. } => {
                let (what, nodes) = (what.clone(), nodes.clone());
                self.events.push(shared::Event::Fault { at, what, nodes, quorum_left: false });
            }
            Event::Progress { what, kept } => {
                self.events.push(shared::Event::Progress { at, what: what.clone(), kept: *kept });
            }
            Event::Dump { node, bucket, log_start, high_watermark, batches } => {
                let batches = match batches {
                    Ok(batches) => Ok(batches.iter().map(|batch| logged(*bucket, batch)).collect()),
                    Err(error) => Err(error.clone()),
                };
                let (by, start, end) = (Source::Replica(*node), *log_start, *high_watermark);
                self.events.push(shared::Event::Log { by, bucket: *bucket, start, end, batches });
            }
            _ => {}
        }
    }

    fn op(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op
    }

    fn send(&mut self, at: u64, batch: (BucketNo, WriterNo, i32), records: i32) {
        let (bucket, writer, sequence) = batch;
        let op = self.op();
        self.open.insert(batch, op);
        let (process, writer, sequence) = (u64::from(writer), name(writer, bucket), i64::from(sequence));
        let request = match self.puts.get(&batch) {
            Some(put) => Request::Put { writer, sequence, batch: (**put).clone() },
            None => Request::Append { writer, sequence, rows: records as u32 },
        };
        self.events.push(shared::Event::Invoke { at, op, process, bucket: Some(bucket), request });
    }

    fn asked_and_answered(&mut self, process: u64, bucket: BucketNo, asked: (u64, Request), answered: (u64, Answer)) {
        let op = self.op();
        let ((at, request), (later, answer)) = (asked, answered);
        self.events.push(shared::Event::Invoke { at, op, process, bucket: Some(bucket), request });
        self.events.push(shared::Event::Return { at: later, op, outcome: shared::Outcome::Ok(answer) });
    }

    fn held(&mut self, at: u64, by: Source, place: (BucketNo, i64), count: Option<u64>, rows: &Result<Rows, String>) {
        let (bucket, log_end) = place;
        if let (Some(known), Ok(rows)) = (self.rows.get(&place), rows)
            && let shared::Event::Rows { count: known_count, rows: Ok(known), .. } = &self.events[*known]
            && (*known_count == count || count.is_none())
            && known.len() == rows.len()
            && known.iter().eq(rows.values())
        {
            return;
        }
        self.rows.insert(place, self.events.len());
        let rows = match rows {
            Ok(rows) => Ok(rows.values().cloned().collect()),
            Err(error) => Err(error.clone()),
        };
        self.events.push(shared::Event::Rows { at, by, bucket, log_end: Some(log_end), count, rows });
    }

    /// Errors: the first broken promise, or why this is no history.
    pub fn judge(&self) -> Result<(), String> {
        let verdict = check(&self.events, &Demands { acked: 0, dumps: 0 });
        match (verdict.anomalies.first(), verdict.unclear) {
            (Some(anomaly), _) => Err(format!("{anomaly} ({} anomalies)", verdict.anomaly_count)),
            (None, Some(why)) => Err(format!("no history: {why}")),
            (None, None) => Ok(()),
        }
    }

    pub fn into_events(self) -> Vec<shared::Event> {
        self.events
    }
}

fn name(writer: WriterNo, bucket: BucketNo) -> u64 {
    debug_assert!(u64::from(bucket) < BUCKETS_MAX, "{bucket} buckets are too many for names of writers");
    u64::from(writer) * BUCKETS_MAX + u64::from(bucket)
}

fn stamp(bucket: BucketNo, value: &Result<Value, String>) -> Stamp {
    match value {
        Ok(Value { writer, sequence, index }) => {
            let (writer, sequence, index) = (name(*writer, bucket), i64::from(*sequence), *index as u32);
            Stamp::By(shared::Value { writer, sequence, index })
        }
        Err(why) => Stamp::Garbage(why.clone()),
    }
}

fn seen(bucket: BucketNo, row: &Row) -> Seen {
    Seen { offset: row.offset, stamp: stamp(bucket, &row.value), change: row.change.clone() }
}

fn scanned(cut: &Cut) -> (Request, Answer) {
    match &cut.range {
        Some(KeyRange { prefix, last }) => {
            let rows = cut.found.values().flatten().cloned().collect();
            let answer = Answer::Scanned { rows, last: last.clone(), place: cut.place };
            (Request::Scan { prefix: prefix.clone() }, answer)
        }
        None => {
            let keys = cut.found.keys().cloned().collect();
            (Request::Lookup { keys }, Answer::Found { rows: cut.found.values().cloned().collect() })
        }
    }
}

fn logged(bucket: BucketNo, batch: &DumpBatch) -> Logged {
    let stamps = batch.rows.iter().map(|row| stamp(bucket, row)).collect();
    Logged { base_offset: batch.base_offset, digest: Some(batch.digest), stamps, changes: batch.changes.clone() }
}

fn answer(outcome: &Outcome) -> shared::Outcome {
    match outcome {
        Outcome::Acked { base_offset } => shared::Outcome::Ok(Answer::Appended { base_offset: Some(*base_offset) }),
        Outcome::Put { end_offset } => shared::Outcome::Ok(Answer::Put { end_offset: Some(*end_offset) }),
        // The contract: it leaves no trace. An earlier attempt may have.
        Outcome::OutOfOrder { .. } => shared::Outcome::Fail("out of order".into()),
        Outcome::Unknown { why } => shared::Outcome::Unknown(why.clone()),
        Outcome::Refused { code, message } => shared::Outcome::Unknown(format!("code={code} {message}")),
    }
}
