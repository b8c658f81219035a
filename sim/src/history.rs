//! What happened in a run: typed events with virtual times. Oracles judge them, the trace is their text.

use crate::draw::{digest, mix};
use floss_checker::{Batch, Change, Cut, Key, Rows, Table, show};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// A writer of the workload; a number is never used again, also not after it had to start over.
pub type WriterNo = u32;
/// A bucket of the workload, over all tables.
pub type BucketNo = u32;
pub type NodeNo = u64;

/// What a row says about itself: who wrote it and where in which batch. Nothing else can be in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    pub writer: WriterNo,
    /// The writer's batch sequence in this bucket.
    pub sequence: i32,
    /// Position in the batch.
    pub index: i32,
}

impl Value {
    /// Travels in a column of its own: a torn or mixed row does not match it.
    pub fn checksum(self, bucket: BucketNo) -> i64 {
        let place = u64::from(self.writer) << 32 | u64::from(bucket);
        mix(mix(place) ^ (self.sequence as u64) << 32 ^ self.index as u64) as i64
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}#{}.{}", self.writer, self.sequence, self.index)
    }
}

/// A row that a reader got, or why it is none. Of a changelog: whose batch it came from, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub offset: i64,
    pub value: Result<Value, String>,
    /// `None`: of a plain log, or the place of a batch that changed nothing.
    pub change: Option<Change>,
}

/// What a client knows about an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acked {
        base_offset: i64,
    },
    /// Of a put: where the log ended after it.
    Put {
        end_offset: i64,
    },
    /// It may have happened, or happen later. Every error after the request was sent.
    Unknown {
        why: String,
    },
    /// Out of order. `certain`: when it was sent, every earlier batch had been acked, and no later one has been since.
    OutOfOrder {
        certain: bool,
    },
    /// An error that no correct client should get.
    Refused {
        code: i32,
        message: String,
    },
}

/// What a maker of tables asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableOp {
    Create,
    Drop,
    Look,
    List,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableOutcome {
    /// Created or dropped.
    Done,
    /// There is such a table.
    Exists,
    /// There is no such table.
    Absent,
    Id(i64),
    Names(BTreeSet<String>),
    /// It may have been done, or will be.
    Unknown {
        why: String,
    },
}

/// One replica, as `Node::probe` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    pub group: u64,
    /// None: the catalog.
    pub bucket: Option<BucketNo>,
    pub term: u64,
    pub leader: Option<NodeNo>,
    pub ready: bool,
    /// purged, snapshot, applied, committed, last (I5).
    pub pointers: [u64; 5],
    pub log_start: i64,
    pub high_watermark: i64,
    pub writers_digest: u64,
    /// As this replica knows; none while they change.
    pub voters: Option<Vec<NodeNo>>,
    pub failed: Option<String>,
}

/// One batch of a replica's log, read from inside the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpBatch {
    pub base_offset: i64,
    pub records: i64,
    /// Of all bytes of the batch.
    pub digest: u64,
    pub rows: Vec<Result<Value, String>>,
    /// Of a changelog: what its rows say; nothing for a batch that changed nothing, which still takes one offset.
    pub changes: Vec<Change>,
}

/// What retention owes, whatever the clocks of this run say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Younger than this, nothing goes.
    pub kept_ms: u64,
    /// Older than this, nothing is left at the end.
    pub gone_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Once, before all others.
    Start {
        nodes: u64,
        buckets: u32,
        /// The rules of those with a primary key.
        keyed: BTreeMap<BucketNo, Table>,
        /// Of those whose rows the server numbers: the table, and the column.
        numbered: BTreeMap<BucketNo, (usize, usize)>,
        /// Of those whose old entries go.
        expiring: BTreeMap<BucketNo, Expiry>,
    },
    /// What a put will be about; before its first send.
    Put {
        writer: WriterNo,
        bucket: BucketNo,
        sequence: i32,
        batch: Arc<Batch>,
    },
    /// A lookup was answered: for each key its row, in the order of the question.
    Lookup {
        looker: u32,
        bucket: BucketNo,
        node: NodeNo,
        sent_ns: u64,
        found: Vec<(Key, Option<floss_checker::Row>)>,
    },
    /// A part of a bucket was answered, or all of it, maybe over many calls: `at_ns` is the time of the first answer.
    Scan {
        looker: u32,
        bucket: BucketNo,
        node: NodeNo,
        sent_ns: u64,
        at_ns: u64,
        /// For people.
        what: String,
        cut: Cut,
    },
    /// The rows of a bucket were counted.
    RowCount {
        looker: u32,
        bucket: BucketNo,
        node: NodeNo,
        sent_ns: u64,
        rows: u64,
    },
    /// The rows of a bucket on a node: while it runs, or what a crash left of them.
    Rows {
        node: NodeNo,
        bucket: BucketNo,
        crashed: bool,
        /// How much of the log they are the fold of.
        log_end: i64,
        row_count: Option<u64>,
        rows: Result<Rows, String>,
    },
    /// `first`: not a retry.
    Send {
        writer: WriterNo,
        bucket: BucketNo,
        sequence: i32,
        records: i32,
        node: NodeNo,
        first: bool,
    },
    /// Answer to the send of the same writer, bucket, sequence, node.
    Done {
        writer: WriterNo,
        bucket: BucketNo,
        sequence: i32,
        node: NodeNo,
        outcome: Outcome,
    },
    /// A fetch was answered. Rows below `from` are already left out.
    Fetch {
        reader: u32,
        bucket: BucketNo,
        node: NodeNo,
        from: i64,
        high_watermark: i64,
        sent_ns: u64,
        rows: Vec<Row>,
    },
    /// A maker of tables was answered, or given up on.
    Table {
        maker: u32,
        name: String,
        op: TableOp,
        sent_ns: u64,
        outcome: TableOutcome,
    },
    /// A fetch was answered with an error that no reader should get.
    FetchRefused {
        reader: u32,
        bucket: BucketNo,
        node: NodeNo,
        from: i64,
        code: i32,
        message: String,
    },
    /// What a node's replicas are like. `boot` counts its starts.
    Probe {
        node: NodeNo,
        boot: u32,
        replicas: Vec<Replica>,
    },
    /// An answer that no client can live with, or a node that failed without cause.
    Broken {
        what: String,
    },
    /// An action of the plan begins; `nodes` are those that its target meant at this moment.
    FaultBegins {
        action: usize,
        what: String,
        nodes: Vec<NodeNo>,
    },
    /// What it broke is mended.
    FaultEnds {
        action: usize,
        what: String,
    },
    /// For people.
    Note {
        text: String,
    },
    /// A node started (again).
    Boot {
        node: NodeNo,
        boot: u32,
    },
    Down {
        node: NodeNo,
        boot: u32,
    },
    /// Majorities may be gone: from here on no progress is promised, and no complete set of replicas at the end.
    Unrecoverable,
    /// All is mended for a while, and progress is owed.
    RestBegins,
    /// Faults go on.
    RestEnds,
    /// From here on nothing is broken.
    Healed,
    /// The cluster kept a promise of progress, or not, within the bound.
    Progress {
        what: String,
        kept: bool,
    },
    /// Everything one replica holds, at the end.
    Dump {
        node: NodeNo,
        bucket: BucketNo,
        log_start: i64,
        high_watermark: i64,
        batches: Result<Vec<DumpBatch>, String>,
    },
}

/// The text of the trace: the same bytes for the same seed, always.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { nodes, buckets, keyed, numbered, expiring } => {
                write!(f, "start nodes={nodes} buckets={buckets}")?;
                keyed.iter().try_for_each(|(bucket, table)| write!(f, " b{bucket}={table:?}"))?;
                numbered.iter().try_for_each(|(bucket, (_, column))| write!(f, " b{bucket} numbers column {column}"))?;
                expiring
                    .iter()
                    .try_for_each(|(bucket, expiry)| write!(f, " b{bucket} keeps {} to {} ms", expiry.kept_ms, expiry.gone_ms))
            }
            Self::Put { writer, bucket, sequence, batch } => {
                write!(f, "put w{writer} b{bucket} #{sequence} columns={:?}", batch.columns)?;
                batch.ops.iter().try_for_each(|op| write!(f, " {op}"))
            }
            Self::Lookup { looker, bucket, node, found, .. } => {
                write!(f, "lookup l{looker} b{bucket} n{node}")?;
                found.iter().try_for_each(|(key, row)| match row {
                    Some(row) => write!(f, " {}", show(row)),
                    None => write!(f, " no{}", show(key)),
                })
            }
            Self::Scan { looker, bucket, node, what, cut, .. } => {
                let place = cut.place.map_or_else(String::new, |place| format!(" end={place}"));
                let (count, digest) = (cut.found.len(), digest(format!("{:?}", cut.found).as_bytes()));
                write!(f, "scan l{looker} b{bucket} n{node} {what}{place} rows={count} digest={digest:016x}")
            }
            Self::RowCount { looker, bucket, node, rows, .. } => write!(f, "count l{looker} b{bucket} n{node} rows={rows}"),
            Self::Rows { node, bucket, crashed, log_end, row_count, rows } => {
                let when = if *crashed { "crash" } else { "live" };
                write!(f, "rows n{node} b{bucket} {when} end={log_end} count={row_count:?} ")?;
                match rows {
                    Ok(rows) => write!(f, "rows={} digest={:016x}", rows.len(), digest(format!("{rows:?}").as_bytes())),
                    Err(error) => write!(f, "error={error}"),
                }
            }
            Self::Send { writer, bucket, sequence, records, node, first } => {
                let kind = if *first { "send" } else { "resend" };
                write!(f, "{kind} w{writer} b{bucket} #{sequence} x{records} -> n{node}")
            }
            Self::Done { writer, bucket, sequence, node, outcome } => {
                write!(f, "done w{writer} b{bucket} #{sequence} n{node} {outcome}")
            }
            Self::Fetch { reader, bucket, node, from, high_watermark, rows, .. } => {
                let digest = rows.iter().fold(0, |hash, row| mix(hash ^ row_digest(row)));
                let count = rows.len();
                write!(f, "fetch r{reader} b{bucket} n{node} from={from} hw={high_watermark} rows={count} digest={digest:016x}")
            }
            Self::FetchRefused { reader, bucket, node, from, code, message } => {
                write!(f, "fetch r{reader} b{bucket} n{node} from={from} code={code} {message}")
            }
            Self::Table { maker, name, op, outcome, .. } => {
                write!(f, "table m{maker} {name} {op:?} ")?;
                match outcome {
                    TableOutcome::Names(names) => write!(f, "{}", names.iter().cloned().collect::<Vec<_>>().join(",")),
                    other => write!(f, "{other:?}"),
                }
            }
            Self::Probe { node, boot, replicas } => {
                write!(f, "probe n{node} boot={boot}")?;
                replicas.iter().try_for_each(|replica| write!(f, " | {replica}"))
            }
            Self::Broken { what } => write!(f, "broken {what}"),
            Self::FaultBegins { action, what, nodes } => write!(f, "fault {action} {what} nodes={nodes:?}"),
            Self::FaultEnds { action, what } => write!(f, "mended {action} {what}"),
            Self::Note { text } => write!(f, "note {text}"),
            Self::Boot { node, boot } => write!(f, "boot n{node} boot={boot}"),
            Self::Down { node, boot } => write!(f, "down n{node} boot={boot}"),
            Self::Unrecoverable => write!(f, "unrecoverable"),
            Self::RestBegins => write!(f, "rest begins"),
            Self::RestEnds => write!(f, "rest ends"),
            Self::Healed => write!(f, "healed"),
            Self::Progress { what, kept } => write!(f, "progress kept={kept} {what}"),
            Self::Dump { node, bucket, log_start, high_watermark, batches } => {
                write!(f, "dump n{node} b{bucket} start={log_start} hw={high_watermark} ")?;
                match batches {
                    Ok(batches) => {
                        let digest = batches.iter().fold(0, |hash, batch| mix(hash ^ batch.digest));
                        write!(f, "batches={} digest={digest:016x}", batches.len())
                    }
                    Err(error) => write!(f, "error={error}"),
                }
            }
        }
    }
}

fn row_digest(row: &Row) -> u64 {
    let change = row.change.as_ref().map_or(0, |change| digest(format!("{change:?}").as_bytes()));
    match &row.value {
        Ok(value) => mix(row.offset as u64) ^ value.checksum(0) as u64 ^ change,
        Err(error) => digest(error.as_bytes()),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acked { base_offset } => write!(f, "acked at={base_offset}"),
            Self::Put { end_offset } => write!(f, "acked end={end_offset}"),
            Self::Unknown { why } => write!(f, "unknown {why}"),
            Self::OutOfOrder { certain } => write!(f, "out-of-order certain={certain}"),
            Self::Refused { code, message } => write!(f, "refused code={code} {message}"),
        }
    }
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [purged, snapshot, applied, committed, last] = self.pointers;
        let leader = self.leader.map_or_else(|| "-".to_owned(), |leader| leader.to_string());
        let ready = if self.ready { "!" } else { "" };
        write!(f, "g{} t{} l{leader}{ready} {purged}/{snapshot}/{applied}/{committed}/{last}", self.group, self.term)?;
        if self.bucket.is_some() {
            write!(f, " [{},{}) {:08x}", self.log_start, self.high_watermark, self.writers_digest as u32)?;
        }
        match &self.failed {
            Some(reason) => write!(f, " failed: {reason}"),
            None => Ok(()),
        }
    }
}
