//! What will happen in a run, as data: made from a seed, saved, edited, replayed.

mod file;
mod generate;
mod keyed;

pub use generate::generate;
pub use keyed::{KeyedTable, KeyedWriter, Looker, Merge};

use crate::disk::Latency;
use crate::history::NodeNo;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everything that a run depends on. Times are virtual, counted from the moment the tables exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Also the root of what is drawn while the plan runs.
    pub seed: u64,
    pub nodes: u64,
    /// Machines that are not part of the cluster until [`Fault::Join`]; numbered after the others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spares: u64,
    /// Faults happen before this, then everything is healed.
    pub heal_at_ms: u64,
    /// In between all is mended at these moments; nothing else happens before everybody has made progress. The plan's clock
    /// stands still meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rests_ms: Vec<u64>,
    /// From the heal to the final checks the workload goes on for this long.
    pub calm_ms: u64,
    pub environment: Environment,
    pub workload: Workload,
    pub actions: Vec<Action>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands out references
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Conditions that hold for the whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub disk: Latency,
    pub link_us_min: u64,
    pub link_us_max: u64,
    /// Per mille of requests between nodes that are lost all the time.
    pub loss_per_mille: u64,
    /// How far a node's clock is off, in ms.
    pub clock_skew_ms: Vec<i64>,
    /// How much faster than time a node's clock runs, in millionths. None: not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clock_drift_ppm: Vec<i64>,
    pub journal_file_bytes: u64,
    pub journal_cache_bytes: u64,
    #[serde(default = "usual_read_bytes")]
    pub journal_read_bytes: usize,
    pub sleep_after_ms: u64,
    pub tail_entries: u64,
    pub compact_entries: u64,
    pub upkeep_ms: u64,
    /// Per mille of crashes after which the directory of the rows is gone.
    #[serde(default)]
    pub rows_lost_per_mille: u64,
    /// Disks are lost without regard to majorities. No progress is demanded then, only: no wrong answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unrecoverable: bool,
}

/// What plans that do not speak of it mean.
fn usual_read_bytes() -> usize {
    4 << 20
}

/// Tables are counted over both kinds, log tables first; so are writers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Bucket counts of the log tables.
    pub tables: Vec<i32>,
    /// How long log tables keep their entries; 0 = for ever.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_ttl_ms: u64,
    pub writers: Vec<Writer>,
    pub readers: Vec<Reader>,
    /// Primary-key tables.
    #[serde(default)]
    pub keyed: Vec<KeyedTable>,
    #[serde(default)]
    pub keyed_writers: Vec<KeyedWriter>,
    #[serde(default)]
    pub lookers: Vec<Looker>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub makers: Vec<Maker>,
}

/// Makes tables and drops them, a few at a time, each under names of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    pub pause_ms: u64,
    pub buckets: i32,
    /// Rules of a keyed table of the workload; None = a log table.
    pub like: Option<usize>,
    /// A name is given up once nobody knows what became of it; after so many the maker only looks.
    pub names_max: u32,
}

/// Appends to every bucket of its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    pub table: usize,
    /// Mean pause between batches of one bucket.
    pub pause_ms: u64,
    pub records_max: u64,
    pub payload_bytes_max: u64,
    /// Writes for so long, then is silent for `idle_ms`; 0 = never silent.
    pub busy_ms: u64,
    pub idle_ms: u64,
    /// Starts batches only within these spans `[from, to)`, counted from its own start; empty = no limit. Minimised plans have some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans_ms: Vec<(u64, u64)>,
}

/// Scans every bucket of its table from the start, again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    pub table: usize,
    /// Column indexes; None = all columns.
    pub projection: Option<Vec<i32>>,
    pub max_wait_ms: i32,
    /// Budget of one answer.
    pub max_bytes: i32,
    /// Starts over from the beginning after so many ms; 0 = never.
    pub rescan_ms: u64,
}

/// One fault, from `at_ms` for `lasts_ms`; then what it broke is mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub at_ms: u64,
    pub lasts_ms: u64,
    pub fault: Fault,
}

/// Which nodes a fault hits; resolved when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    Node(NodeNo),
    /// Leader of the catalog.
    Coordinator,
    /// Leader of a bucket, counted over all tables.
    LeaderOf(u32),
    /// The first node that holds but does not lead it.
    FollowerOf(u32),
    /// The last one that does.
    LastFollowerOf(u32),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// kill -9: the page cache survives.
    Crash(Target),
    /// What was not synced is lost, per file.
    PowerLoss(Target),
    /// As `PowerLoss`, within `ms_max` after it next renames or removes a file; half of the time only one that could come back.
    PowerAtRename {
        target: Target,
        ms_max: u64,
    },
    /// Graceful stop.
    Stop(Target),
    /// The process is frozen.
    Pause(Target),
    /// No traffic of other nodes in or out; clients still get through.
    Isolate(Target),
    /// Requests and answers of this node get lost on their way out; what others send still arrives.
    Mute(Target),
    /// Nothing of other nodes arrives; what it sends still does.
    Deaf(Target),
    /// Nodes below this number see each other and not the rest.
    Split(NodeNo),
    /// Clients cannot reach it.
    CutClients(Target),
    /// Clients' requests arrive, the answers do not.
    LoseAnswers(Target),
    /// All client connections break.
    ResetClients,
    Loss {
        per_mille: u64,
    },
    Delay {
        ms_max: u64,
    },
    /// Requests arrive twice.
    Twice {
        per_mille: u64,
    },
    SlowDisk {
        target: Target,
        ms: u64,
    },
    /// The next sync fails and drops what it should have written; then the process is restarted.
    FailSync(Target),
    FullDisk(Target),
    /// The disk is lost with all that was on it; afterwards the machine comes back with an empty one, and asks to be let in again.
    Wipe(Target),
    /// Some bits of synced data flip; afterwards the operator puts an empty disk in.
    BitRot(Target),
    /// A write lands in another place of its file; afterwards the operator puts an empty disk in.
    Misdirect(Target),
    /// The clock jumps, and later back.
    ClockStep {
        target: Target,
        ms: i64,
    },
    /// Reads of its disk fail now and then; whoever gives up is restarted.
    FailReads {
        target: Target,
        per_mille: u64,
    },
    /// What it sends to other nodes is late.
    SlowLink {
        target: Target,
        ms_max: u64,
    },
    /// Requests between nodes arrive, then the connection breaks: their senders get an error at once and no answer.
    ResetLinks {
        per_mille: u64,
    },
    /// The leader of a bucket is asked to hand over.
    HandOver(u32),
    /// A new node joins the cluster.
    Join(NodeNo),
}

/// Kinds of faults and what they are.
pub const FAULTS: &[(&str, &str)] = &[
    ("crash", "kill -9 of a node: the page cache survives"),
    ("power", "power loss of a node: what was not synced is lost, file by file, down to torn sectors"),
    ("power-all", "power loss of all nodes at once"),
    ("power-at-rename", "power loss of a node just after a file got another name or was removed"),
    ("torn-file", "a power loss that left part of a write"),
    ("stop", "a node is asked to stop and hands its leaderships over"),
    ("pause", "the process is frozen, sometimes longer than its leases"),
    ("isolate", "a node and the others do not hear each other; clients reach it"),
    ("mute", "what a node sends gets lost; it still hears"),
    ("deaf", "what is sent to a node gets lost; it still speaks"),
    ("split", "two sides that do not hear each other"),
    ("cut-clients", "clients cannot reach a node"),
    ("lose-answers", "clients' requests arrive, the answers do not"),
    ("reset-clients", "all client connections break, answers under way are lost"),
    ("loss", "messages between nodes get lost, some per mille"),
    ("delay", "messages between nodes are late; those of different links overtake each other"),
    ("twice", "messages between nodes arrive twice, the second time after newer ones"),
    ("slow-link", "what one node sends to the others is late"),
    ("reset-links", "requests between nodes arrive, then the connection breaks: the answer is lost, the error comes at once"),
    ("slow-disk", "syncs take some to hundreds of ms"),
    ("fail-sync", "a sync fails and drops what it should have written"),
    ("fail-reads", "reads fail now and then"),
    ("full-disk", "writes are refused for want of space"),
    ("wipe", "a node loses its disk and comes back empty: it must not vote before it is let in again"),
    ("bit-rot", "bits of synced data flip; the disk is replaced later"),
    ("misdirect", "a write lands in another place of its file; the disk is replaced later"),
    ("clock-step", "a node's clock jumps and later jumps back"),
    ("hand-over", "a leader is asked to hand its bucket over"),
    ("join", "a new node joins the running cluster"),
];

impl Fault {
    /// Whom it hits; None for faults that hit everybody.
    pub fn target_mut(&mut self) -> Option<&mut Target> {
        match self {
            Self::Crash(target)
            | Self::PowerLoss(target)
            | Self::PowerAtRename { target, .. }
            | Self::Stop(target)
            | Self::Pause(target)
            | Self::Isolate(target)
            | Self::Mute(target)
            | Self::Deaf(target)
            | Self::CutClients(target)
            | Self::LoseAnswers(target)
            | Self::SlowDisk { target, .. }
            | Self::FailSync(target)
            | Self::FullDisk(target)
            | Self::Wipe(target)
            | Self::BitRot(target)
            | Self::Misdirect(target)
            | Self::ClockStep { target, .. }
            | Self::FailReads { target, .. }
            | Self::SlowLink { target, .. } => Some(target),
            Self::Split(_)
            | Self::ResetClients
            | Self::Loss { .. }
            | Self::Delay { .. }
            | Self::Twice { .. }
            | Self::ResetLinks { .. }
            | Self::HandOver(_)
            | Self::Join(_) => None,
        }
    }

    /// For counting.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::PowerLoss(Target::All) => "power-all",
            Self::PowerLoss(_) => "power",
            Self::PowerAtRename { .. } => "power-at-rename",
            Self::Stop(_) => "stop",
            Self::Pause(_) => "pause",
            Self::Isolate(_) => "isolate",
            Self::Mute(_) => "mute",
            Self::Deaf(_) => "deaf",
            Self::Split(_) => "split",
            Self::CutClients(_) => "cut-clients",
            Self::LoseAnswers(_) => "lose-answers",
            Self::ResetClients => "reset-clients",
            Self::Loss { .. } => "loss",
            Self::Delay { .. } => "delay",
            Self::Twice { .. } => "twice",
            Self::SlowDisk { .. } => "slow-disk",
            Self::FailSync(_) => "fail-sync",
            Self::FullDisk(_) => "full-disk",
            Self::Wipe(_) => "wipe",
            Self::BitRot(_) => "bit-rot",
            Self::Misdirect(_) => "misdirect",
            Self::ClockStep { .. } => "clock-step",
            Self::FailReads { .. } => "fail-reads",
            Self::SlowLink { .. } => "slow-link",
            Self::ResetLinks { .. } => "reset-links",
            Self::HandOver(_) => "hand-over",
            Self::Join(_) => "join",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Plan {
    pub fn buckets(&self) -> u32 {
        self.tables().map(|table| self.bucket_count(table)).sum::<i32>() as u32
    }

    pub fn tables(&self) -> std::ops::Range<usize> {
        0..self.workload.tables.len() + self.workload.keyed.len()
    }

    pub fn bucket_count(&self, table: usize) -> i32 {
        self.workload.tables.get(table).copied().or_else(|| Some(self.keyed(table)?.buckets)).unwrap_or(0)
    }

    /// Whether old entries of a table go. Changelogs are kept.
    pub fn expires(&self, table: usize) -> bool {
        self.workload.log_ttl_ms > 0 && self.keyed(table).is_none()
    }

    /// `None` for log tables.
    pub fn keyed(&self, table: usize) -> Option<&KeyedTable> {
        self.workload.keyed.get(table.checked_sub(self.workload.tables.len())?)
    }

    /// Table and bucket in it, of a bucket counted over all tables.
    pub fn bucket(&self, number: u32) -> Option<(usize, i32)> {
        let mut left = number as i32;
        for table in self.tables() {
            let count = self.bucket_count(table);
            if left < count {
                return Some((table, left));
            }
            left -= count;
        }
        None
    }

    /// The number over all tables of the first bucket of a table.
    pub fn first_bucket(&self, table: usize) -> u32 {
        (0..table).map(|table| self.bucket_count(table)).sum::<i32>() as u32
    }

    /// The buckets of a table, counted over all tables.
    pub fn buckets_of(&self, table: usize) -> std::ops::Range<u32> {
        let first = self.first_bucket(table);
        first..first + self.bucket_count(table) as u32
    }

    /// The table of a bucket, if it has a primary key.
    pub fn keyed_of(&self, bucket: u32) -> Option<&KeyedTable> {
        self.keyed(self.bucket(bucket)?.0)
    }

    /// How far two clocks of this run can be apart.
    pub fn clock_slack_ms(&self) -> u64 {
        let Environment { clock_skew_ms, clock_drift_ppm, .. } = &self.environment;
        let skew = clock_skew_ms.iter().map(|ms| ms.unsigned_abs()).max().unwrap_or(0);
        let drift = clock_drift_ppm.iter().map(|ppm| ppm.unsigned_abs()).max().unwrap_or(0);
        let steps = self.actions.iter().map(|action| match action.fault {
            Fault::ClockStep { ms, .. } => ms.unsigned_abs(),
            _ => 0,
        });
        // The last checks come after the calm.
        let run_ms = 2 * (self.heal_at_ms + self.calm_ms) + 60_000 * (1 + self.rests_ms.len() as u64);
        2 * (skew + run_ms * drift / 1_000_000 + steps.sum::<u64>())
    }

    /// The table of each writer, in the order of their numbers.
    pub fn writer_tables(&self) -> Vec<usize> {
        let Workload { writers, keyed_writers, .. } = &self.workload;
        writers.iter().map(|writer| writer.table).chain(keyed_writers.iter().map(|writer| writer.table)).collect()
    }
}
