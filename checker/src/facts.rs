//! A history, sorted by what it speaks of: batches with their attempts, answered fetches and lookups, logs.

use crate::anomaly::Found;
use crate::history::{Answer, Bucket, Event, Logged, Numbered, Outcome, Request, Seen, Source, Writer};
use crate::table::{Batch, Key, Row, Table};
use crate::verdict::Counts;
use std::collections::{BTreeMap, BTreeSet};

/// One batch of a writer, over all its attempts.
pub(crate) struct Sent<'a> {
    pub bucket: Option<Bucket>,
    pub content: Content<'a>,
    /// The first time that it was asked.
    pub invoked: u64,
    /// The first time that it was acknowledged.
    pub acked: Option<u64>,
    /// What the first ack said: base offset of an append, log end after a put.
    pub place: Option<i64>,
    attempts: u32,
    failed: u32,
}

#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    Rows(u32),
    Put(&'a Batch),
}

impl Sent<'_> {
    /// Every attempt is known to have failed.
    pub fn is_aborted(&self) -> bool {
        self.attempts == self.failed
    }
}

pub(crate) struct Fetch<'a> {
    pub process: u64,
    pub bucket: Bucket,
    pub asked: u64,
    pub at: u64,
    pub from: Option<i64>,
    pub fresh: bool,
    pub high_watermark: Option<i64>,
    pub rows: &'a [Seen],
}

pub(crate) struct Lookup<'a> {
    pub process: u64,
    pub bucket: Bucket,
    pub asked: u64,
    pub at: u64,
    pub keys: &'a [Key],
    pub rows: &'a [Option<Row>],
}

/// Rows whose keys begin with `prefix`, up to `last`.
pub(crate) struct Scan<'a> {
    pub process: u64,
    pub bucket: Bucket,
    pub asked: u64,
    pub at: u64,
    pub prefix: &'a Key,
    pub last: Option<&'a Key>,
    pub place: Option<i64>,
    pub rows: &'a [Row],
}

pub(crate) struct Count {
    pub process: u64,
    pub bucket: Bucket,
    pub asked: u64,
    pub at: u64,
    pub rows: u64,
}

pub(crate) struct Dump<'a> {
    pub by: Source,
    pub start: i64,
    pub end: i64,
    pub batches: &'a [Logged],
}

pub(crate) struct Held<'a> {
    pub at: u64,
    pub by: Source,
    pub bucket: Bucket,
    pub log_end: Option<i64>,
    pub rows: &'a [Row],
}

#[derive(Default)]
pub(crate) struct Facts<'a> {
    pub tables: BTreeMap<Bucket, &'a Table>,
    pub numbered: BTreeMap<Bucket, Numbered>,
    pub expiring: BTreeSet<Bucket>,
    pub batches: BTreeMap<(Writer, i64), Sent<'a>>,
    /// By the time of the answer.
    pub fetches: Vec<Fetch<'a>>,
    pub lookups: Vec<Lookup<'a>>,
    pub scans: Vec<Scan<'a>>,
    pub counted: Vec<Count>,
    pub dumps: BTreeMap<Bucket, Vec<Dump<'a>>>,
    pub held: Vec<Held<'a>>,
    pub counts: Counts,
    /// Why nothing can be said.
    pub unclear: Option<String>,
}

/// An operation that is under way.
struct Asked<'a> {
    at: u64,
    process: u64,
    bucket: Option<Bucket>,
    request: &'a Request,
    answered: bool,
}

impl<'a> Facts<'a> {
    pub fn gather(events: &'a [Event], found: &mut Found) -> Self {
        let mut facts = Self::default();
        let mut asked: BTreeMap<u64, Asked<'a>> = BTreeMap::new();
        for event in events {
            match event {
                Event::Start { tables, numbered, expiring } => {
                    facts.expiring.extend(expiring);
                    facts.tables.extend(tables.iter().map(|(bucket, table)| (*bucket, table)));
                    facts.numbered.extend(numbered);
                }
                Event::Invoke { at, op, process, bucket, request } => {
                    let one = Asked { at: *at, process: *process, bucket: *bucket, request, answered: false };
                    facts.ask(&one);
                    if asked.insert(*op, one).is_some() {
                        facts.doubt(|| format!("operation {op} is asked twice"));
                    }
                }
                Event::Return { .. } => {}
                other => facts.note(other, found),
            }
        }
        for event in events {
            let Event::Return { at, op, outcome } = event else { continue };
            match asked.get_mut(op) {
                Some(one) if !one.answered && one.at <= *at => {
                    one.answered = true;
                    facts.answer(one, *at, outcome, found);
                }
                _ => facts.doubt(|| format!("operation {op} is answered twice, or before it was asked")),
            }
        }
        facts.fetches.sort_by_key(|fetch| fetch.at);
        facts.lookups.sort_by_key(|lookup| lookup.at);
        facts
    }

    fn doubt(&mut self, why: impl FnOnce() -> String) {
        self.unclear.get_or_insert_with(why);
    }

    fn note(&mut self, event: &'a Event, found: &mut Found) {
        match event {
            Event::Fault { .. } => self.counts.faults += 1,
            Event::Harness { what, .. } => self.doubt(|| format!("the harness failed: {what}")),
            Event::Progress { what, kept: false, .. } => found.add("no progress", || what.clone()),
            Event::Log { by, bucket, start, end, batches: Ok(batches) } => {
                self.counts.dumps += 1;
                let dump = Dump { by: *by, start: *start, end: *end, batches };
                self.dumps.entry(*bucket).or_default().push(dump);
            }
            Event::Log { by, bucket, batches: Err(why), .. } => {
                found.add("unreadable log", || format!("the log of b{bucket} as {by} has it: {why}"));
            }
            Event::Rows { at, by, bucket, log_end, count, rows } => {
                let rows = match rows {
                    Ok(rows) => rows,
                    Err(why) => return found.add("wrong rows", || format!("rows of b{bucket} as {by} has them: {why}")),
                };
                if let Some(count) = count.filter(|count| *count != rows.len() as u64) {
                    let held = rows.len();
                    found.add("wrong row count", || format!("{by} counts {count} rows in b{bucket}, it has {held}"));
                }
                self.held.push(Held { at: *at, by: *by, bucket: *bucket, log_end: *log_end, rows });
            }
            _ => {}
        }
    }

    fn ask(&mut self, one: &Asked<'a>) {
        let (writer, sequence, content) = match one.request {
            Request::Append { writer, sequence, rows } => (*writer, *sequence, Content::Rows(*rows)),
            Request::Put { writer, sequence, batch } => (*writer, *sequence, Content::Put(batch)),
            _ => return,
        };
        let new = Sent { bucket: one.bucket, content, invoked: one.at, acked: None, place: None, attempts: 0, failed: 0 };
        let sent = self.batches.entry((writer, sequence)).or_insert(new);
        sent.attempts += 1;
        sent.invoked = sent.invoked.min(one.at);
        let same = match (sent.content, content) {
            (Content::Rows(one), Content::Rows(other)) => one == other,
            (Content::Put(one), Content::Put(other)) => one == other,
            _ => false,
        };
        if !same || sent.bucket != one.bucket {
            self.doubt(|| format!("w{writer} #{sequence} is sent with two contents"));
        }
    }

    fn answer(&mut self, one: &Asked<'a>, at: u64, outcome: &'a Outcome, found: &mut Found) {
        match (one.request, outcome) {
            (Request::Append { writer, sequence, .. } | Request::Put { writer, sequence, .. }, outcome) => {
                self.sent(*writer, *sequence, at, outcome, found);
            }
            (_, Outcome::Fail(_) | Outcome::Unknown(_)) => self.counts.unanswered += 1,
            (request, Outcome::Ok(answer)) => {
                let Some(bucket) = one.bucket else { return self.doubt(|| format!("{request:?} names no bucket")) };
                self.read(one, bucket, at, answer);
            }
        }
    }

    fn read(&mut self, one: &Asked<'a>, bucket: Bucket, at: u64, answer: &'a Answer) {
        let (process, asked) = (one.process, one.at);
        match (one.request, answer) {
            (Request::Fetch { from, fresh }, Answer::Fetched { high_watermark, rows }) => {
                let (from, fresh, high_watermark) = (*from, *fresh, *high_watermark);
                self.counts.fetches += 1;
                self.counts.rows += rows.len() as u64;
                self.fetches.push(Fetch { process, bucket, asked, at, from, fresh, high_watermark, rows });
            }
            (Request::Lookup { keys }, Answer::Found { rows }) if rows.len() == keys.len() => {
                self.counts.lookups += 1;
                self.lookups.push(Lookup { process, bucket, asked, at, keys, rows });
            }
            (Request::Scan { prefix }, Answer::Scanned { rows, last, place }) => {
                self.counts.lookups += 1;
                let (last, place) = (last.as_ref(), *place);
                self.scans.push(Scan { process, bucket, asked, at, prefix, last, place, rows });
            }
            (Request::Count, Answer::Counted { rows }) => {
                self.counts.lookups += 1;
                self.counted.push(Count { process, bucket, asked, at, rows: *rows });
            }
            _ => self.doubt(|| format!("{:?} is answered by {answer:?}", one.request)),
        }
    }

    fn sent(&mut self, writer: Writer, sequence: i64, at: u64, outcome: &Outcome, found: &mut Found) {
        let Some(sent) = self.batches.get_mut(&(writer, sequence)) else { return };
        let place = match outcome {
            Outcome::Ok(Answer::Appended { base_offset: place } | Answer::Put { end_offset: place }) => *place,
            Outcome::Ok(answer) => return self.doubt(|| format!("w{writer} #{sequence} is answered by {answer:?}")),
            Outcome::Fail(_) => {
                sent.failed += 1;
                self.counts.failed += 1;
                return;
            }
            Outcome::Unknown(_) => return self.counts.unknown += 1,
        };
        self.counts.acked += u64::from(sent.acked.is_none());
        sent.acked = Some(sent.acked.map_or(at, |before| before.min(at)));
        match (sent.place, place) {
            (Some(before), Some(place)) if before != place => {
                found.add("moved ack", || format!("w{writer} #{sequence} was acknowledged at {before} and at {place}"));
            }
            (None, place) => sent.place = place,
            _ => {}
        }
    }
}

/// Times for people.
pub(crate) fn seconds(at: u64) -> String {
    format!("{:.6} s", at as f64 / 1e9)
}
