//! What happened in a run, one JSON line per event: the same from every harness.
//!
//! An operation is a line when it is asked and a line when it is answered. Lines may stand in any order; `at` counts, nanoseconds of
//! the one clock of the harness, never of a node.
//!
//! Three outcomes. `fail` only where the client can prove that nothing happened: never sent, or refused by an answer whose contract says
//! so. Everything else that is not an answer is `unknown`, and so is an operation that has no answer at all: it may take effect at any
//! time after it was asked.

use crate::table::{Batch, Change, Key, Row, Table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, Write};
use std::str::FromStr;

pub type Bucket = u32;
/// Whoever counts sequences: each bucket that a process writes to makes a writer of its own, unless its sequences run over all buckets.
pub type Writer = u64;

/// What a written row says about itself. Unique in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    pub writer: Writer,
    pub sequence: i64,
    /// Position in its batch.
    pub index: u32,
}

/// Who wrote the row that somebody saw. In text: `w1#3.0`, `!why it is none`, `?`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Stamp {
    By(Value),
    /// The row does not match its checksum, or cannot be read.
    Garbage(String),
    /// The row does not say: changes of a changelog whose batches the client does not see.
    Untold,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Buckets of primary-key tables; all others are plain logs.
    Start {
        tables: BTreeMap<Bucket, Table>,
        /// Of those whose new rows the server numbers.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        numbered: BTreeMap<Bucket, Numbered>,
        /// Of those whose old entries go: a whole log may start late, and does not hold what lies below.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        expiring: BTreeSet<Bucket>,
    },
    Invoke {
        at: u64,
        /// One per attempt: a batch that is sent again is asked again.
        op: u64,
        process: u64,
        /// `None`: the client library chose.
        bucket: Option<Bucket>,
        request: Request,
    },
    Return {
        at: u64,
        op: u64,
        outcome: Outcome,
    },
    Fault {
        at: u64,
        what: String,
        nodes: Vec<u64>,
        /// Writers are expected to go on without help.
        quorum_left: bool,
    },
    /// The harness could not do its work: no verdict.
    Harness {
        at: u64,
        what: String,
    },
    /// A promise of progress, after everything was mended.
    Progress {
        at: u64,
        what: String,
        kept: bool,
    },
    /// Whom a node believes to lead.
    Belief {
        at: u64,
        node: u64,
        group: u64,
        term: u64,
        leader: u64,
    },
    /// A whole log, when nothing moves any more.
    Log {
        by: Source,
        bucket: Bucket,
        start: i64,
        end: i64,
        /// Ascending; or why it cannot be read.
        batches: Result<Vec<Logged>, String>,
    },
    /// All rows of a bucket: a scan, a running node's, or what a crash left.
    Rows {
        at: u64,
        by: Source,
        bucket: Bucket,
        /// How much of the log they are the fold of. `None`: all of it.
        log_end: Option<i64>,
        /// What whoever holds them believes their number to be.
        count: Option<u64>,
        rows: Result<Vec<Row>, String>,
    },
}

/// Where the numbers of new rows are, and among which rows they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    pub table: u64,
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Rows `0..rows` of this sequence. With a bucket: the writer's sequences in it are dense, and a repeated one is dropped.
    Append {
        writer: Writer,
        sequence: i64,
        rows: u32,
    },
    Put {
        writer: Writer,
        sequence: i64,
        batch: Batch,
    },
    /// `from` is `None`: goes on where the process's last fetch ended.
    /// `fresh`: the answer must know everything that was acknowledged before it was asked for.
    Fetch {
        from: Option<i64>,
        fresh: bool,
    },
    /// All at one moment.
    Lookup {
        keys: Vec<Key>,
    },
    /// Rows whose keys begin so, all at one moment.
    Scan {
        prefix: Key,
    },
    /// How many rows there are.
    Count,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok(Answer),
    /// Nothing happened, and nothing will.
    Fail(String),
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Appended {
        base_offset: Option<i64>,
    },
    /// Where the log ended after it.
    Put {
        end_offset: Option<i64>,
    },
    Fetched {
        high_watermark: Option<i64>,
        rows: Vec<Seen>,
    },
    /// In the order of the keys.
    Found {
        rows: Vec<Option<Row>>,
    },
    Scanned {
        rows: Vec<Row>,
        /// Keys behind this one were not looked at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<Key>,
        /// Of which log end it is, if the answer says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<i64>,
    },
    Counted {
        rows: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub offset: i64,
    pub stamp: Stamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// A batch of a log, or a row where batches cannot be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    pub base_offset: i64,
    /// Of all its bytes, if somebody saw them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<u64>,
    /// One per offset; at least one.
    pub stamps: Vec<Stamp>,
    /// Of a changelog: one per stamp, or none if the batch changed nothing, which takes one offset all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// Who shows a log or rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A node while it runs.
    Replica(u64),
    /// What a crash left on a node.
    Crashed(u64),
    /// A client that read everything.
    Reader,
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("read a history: {0}")]
    Read(#[from] io::Error),
    #[error("line {line} of a history: {source}")]
    Line { line: usize, source: serde_json::Error },
    #[error("write a history: {0}")]
    Write(#[source] io::Error),
}

/// One event per line; empty lines are skipped.
pub fn read(file: impl BufRead) -> Result<Vec<Event>, HistoryError> {
    let mut events = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let line = line?;
        if !line.is_empty() {
            events.push(serde_json::from_str(&line).map_err(|source| HistoryError::Line { line: number + 1, source })?);
        }
    }
    Ok(events)
}

pub fn write(events: &[Event], mut file: impl Write) -> Result<(), HistoryError> {
    for event in events {
        serde_json::to_writer(&mut file, event).map_err(|error| HistoryError::Write(error.into()))?;
        file.write_all(b"\n").map_err(HistoryError::Write)?;
    }
    file.flush().map_err(HistoryError::Write)
}

impl Logged {
    pub fn end(&self) -> i64 {
        self.base_offset + self.stamps.len().max(1) as i64
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}#{}.{}", self.writer, self.sequence, self.index)
    }
}

impl FromStr for Value {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix('w').and_then(|text| {
            let (writer, rest) = text.split_once('#')?;
            let (sequence, index) = rest.split_once('.')?;
            Some(Self { writer: writer.parse().ok()?, sequence: sequence.parse().ok()?, index: index.parse().ok()? })
        });
        parts.ok_or_else(|| format!("{text:?} is not of the form w1#2.3"))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::By(value) => value.fmt(f),
            Self::Garbage(why) => write!(f, "!{why}"),
            Self::Untold => write!(f, "?"),
        }
    }
}

impl From<Stamp> for String {
    fn from(stamp: Stamp) -> Self {
        stamp.to_string()
    }
}

impl TryFrom<String> for Stamp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix('!') {
            Some(why) => Ok(Self::Garbage(why.to_owned())),
            None if text == "?" => Ok(Self::Untold),
            None => text.parse().map(Self::By),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(node) => write!(f, "n{node}"),
            Self::Crashed(node) => write!(f, "n{node} after its crash"),
            Self::Reader => write!(f, "the last reader"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Cell, Engine, Function, Image, Kind, Op};

    #[test]
    fn lines_come_back() {
        let row = vec![Cell::Int(1), Cell::Null, Cell::Text("a\"b".into())];
        let value = Value { writer: 3002, sequence: 4, index: 1 };
        let table = Table {
            key_columns: vec![0],
            engine: Engine::Aggregation(vec![Function::Last, Function::Sum]),
            image: Image::Wal,
            deletes: true,
        };
        let change = Change { kind: Kind::UpdateBefore, row: row.clone() };
        let batch = Batch { ops: vec![Op::Upsert(row.clone()), Op::Delete(vec![Cell::Int(1)])], columns: Some(vec![0]) };
        let stamps = vec![Stamp::By(value), Stamp::Garbage("crc".into()), Stamp::Untold];
        let seen = Seen { offset: 7, stamp: stamps[0].clone(), change: Some(change.clone()) };
        let logged = Logged { base_offset: 7, digest: Some(u64::MAX), stamps, changes: vec![change] };
        let outcome = |answer| Event::Return { at: 2, op: 1, outcome: Outcome::Ok(answer) };
        let events = vec![
            Event::Start {
                tables: [(2, table)].into(),
                numbered: [(2, Numbered { table: 1, column: 3 })].into(),
                expiring: [4].into(),
            },
            Event::Invoke { at: 1, op: 1, process: 9, bucket: None, request: Request::Put { writer: 3, sequence: -1, batch } },
            outcome(Answer::Fetched { high_watermark: Some(8), rows: vec![seen] }),
            outcome(Answer::Found { rows: vec![None, Some(row.clone())] }),
            outcome(Answer::Scanned { rows: vec![row.clone()], last: Some(vec![Cell::Int(1)]), place: Some(7) }),
            outcome(Answer::Counted { rows: 3 }),
            Event::Invoke { at: 1, op: 2, process: 9, bucket: Some(2), request: Request::Count },
            Event::Return { at: 3, op: 1, outcome: Outcome::Unknown("timeout".into()) },
            Event::Log { by: Source::Replica(1), bucket: 2, start: 0, end: 10, batches: Ok(vec![logged]) },
            Event::Rows { at: 4, by: Source::Crashed(2), bucket: 2, log_end: None, count: Some(1), rows: Ok(vec![row]) },
            Event::Rows { at: 4, by: Source::Reader, bucket: 2, log_end: Some(3), count: None, rows: Err("torn".into()) },
        ];
        let mut bytes = Vec::new();
        write(&events, &mut bytes).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), events.len());
        assert_eq!(read(&bytes[..]).unwrap(), events, "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = read(&b"{\"progress\":{\"at\":1,\"what\":\"x\",\"kept\":true}}\n\n{\"nothing\":1}\n"[..]).unwrap_err();
        assert!(error.to_string().starts_with("line 3 of a history: "), "{error}");
        assert!("w1#2".parse::<Value>().is_err());
    }
}
