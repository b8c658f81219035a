//! Takes every event of a run: writes the trace, asks the oracles, remembers the first violation.

use crate::history::{BucketNo, Event, NodeNo, Outcome, Replica, TableOutcome, Value, WriterNo};
use crate::oracle::{Oracles, Violation};
use crate::recovery::{Proof, Recovery};
use crate::report::{History, Timeline};
use crate::workload::{Layout, keyed_rows};
use floss_checker::Change;
use floss_protocol::log_batch::LogBatch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Virtual time since the start of the run.
pub fn now_ns() -> u64 {
    #[cfg(madsim)]
    return madsim::time::TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos() as u64);
    #[cfg(not(madsim))]
    0
}

/// What a run has done, in numbers. No wall time: it must be the same in every process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub sends: u64,
    pub resends: u64,
    pub acked: u64,
    pub unknown: u64,
    pub out_of_order: u64,
    pub fetches: u64,
    pub rows: u64,
    pub probes: u64,
    pub boots: u64,
    pub checks: u64,
    /// Answered, and not answered clearly.
    pub lookups: u64,
    pub lookups_failed: u64,
    /// Answers about many rows: prefix lookups, limit scans, scans over many calls, row counts.
    #[serde(default)]
    pub scans: u64,
    /// What makers of tables asked.
    #[serde(default)]
    pub tables: u64,
    /// Faults that changed something, by kind.
    pub faults: BTreeMap<String, u64>,
}

/// Everything that is left of a run.
pub struct Recorded {
    pub trace: String,
    pub counts: Counts,
    pub violation: Option<Violation>,
    /// Why this run is neither green nor red.
    pub unclear: Option<String>,
    pub timeline: Timeline,
    /// In the format that all harnesses share.
    pub history: Vec<floss_checker::history::Event>,
}

#[derive(Default)]
pub struct Recorder {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    trace: String,
    oracles: Oracles,
    counts: Counts,
    violation: Option<Violation>,
    progress: Progress,
    recovery: Recovery,
    timeline: Timeline,
    history: History,
    /// Why a run that is not red proves nothing.
    unclear: Option<String>,
    /// Writer ids of the cluster.
    writers: BTreeMap<i64, WriterNo>,
}

/// What happened since everything was mended.
#[derive(Default)]
struct Progress {
    /// Nothing is broken. What follows is counted from that moment on.
    is_owed: bool,
    sent: BTreeSet<(BucketNo, WriterNo, i32)>,
    /// Writers and buckets with an ack of a batch that was first sent since.
    acked: BTreeSet<(BucketNo, WriterNo)>,
    /// Makers of tables that got a clear answer.
    answered: BTreeSet<u32>,
    /// Where a reader's scan of a bucket has come to, ever.
    read_end: BTreeMap<(u32, BucketNo), i64>,
}

impl Recorder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, event: Event) {
        let at_ns = now_ns();
        let text = event.to_string();
        let mut state = self.state();
        writeln!(state.trace, "{at_ns} {text}").expect("a string takes everything");
        count(&mut state.counts, &event);
        state.progress.observe(&event);
        state.history.observe(at_ns, &event);
        state.recovery.observe(&event);
        state.timeline.observe(at_ns, &event, text);
        if state.violation.is_some() {
            return;
        }
        if let Err(violation) = state.oracles.observe(at_ns, &event) {
            writeln!(state.trace, "{at_ns} RED {violation}").expect("a string takes everything");
            state.violation = Some(violation);
        }
    }

    pub fn note(&self, text: impl Into<String>) {
        self.push(Event::Note { text: text.into() });
    }

    /// The cluster gave this writer an id.
    pub fn name_writer(&self, writer_id: i64, writer: WriterNo) {
        self.state().writers.insert(writer_id, writer);
    }

    /// A batch of a changelog of such a table: for each of its offsets whose batch it is, and what it says. A batch that changed nothing has one offset
    /// and says nothing.
    pub fn changelog_rows(&self, layout: &Layout, batch: &LogBatch) -> (Vec<Result<Value, String>>, Vec<Change>) {
        let changes = match keyed_rows::decode_changes(layout, batch) {
            Ok(changes) => changes,
            Err(error) => return (vec![Err(error); (batch.header().record_count.max(1)) as usize], Vec::new()),
        };
        let (writer_id, sequence) = (batch.header().writer_id, batch.header().batch_sequence);
        let writer = self.state().writers.get(&writer_id).copied();
        let writer = writer.ok_or_else(|| format!("a batch of writer_id={writer_id}, which nobody has"));
        let value = |index| writer.clone().map(|writer| Value { writer, sequence, index });
        ((0..changes.len().max(1) as i32).map(value).collect(), changes)
    }

    /// A lookup got no clear answer.
    pub fn lookup_failed(&self) {
        self.state().counts.lookups_failed += 1;
    }

    /// A fault changed something.
    pub fn effective(&self, kind: &str) {
        *self.state().counts.faults.entry(kind.to_owned()).or_default() += 1;
    }

    /// Appends without a clear answer so far.
    pub fn unknown(&self) -> u64 {
        self.state().counts.unknown
    }

    pub fn is_red(&self) -> bool {
        self.state().violation.is_some()
    }

    /// Whether this writer got a batch through that is younger than the heal.
    pub fn has_progressed(&self, bucket: BucketNo, writer: WriterNo) -> bool {
        self.state().progress.acked.contains(&(bucket, writer))
    }

    /// Whether this maker of tables got a clear answer since the heal.
    pub fn is_answered(&self, maker: u32) -> bool {
        self.state().progress.answered.contains(&maker)
    }

    /// The offset up to which a reader has read a bucket.
    pub fn read_end(&self, reader: u32, bucket: BucketNo) -> i64 {
        self.state().progress.read_end.get(&(reader, bucket)).copied().unwrap_or(0)
    }

    /// A promise of progress was not kept. Red only if it can be proved that the cluster could have kept it.
    pub fn lack_progress(&self, what: &str, without_disk: &BTreeSet<NodeNo>, now: &[(NodeNo, Replica)]) {
        let proof = self.state().recovery.prove(without_disk, now);
        match proof {
            Proof::Recoverable(proof) => {
                self.push(Event::Progress { what: format!("{what} (it could have: {proof})"), kept: false });
            }
            Proof::Gone(what) => self.violate("I1", now_ns(), format!("lost: {what}")),
            Proof::Unrecoverable(why) => {
                self.note(format!("not judged: {what}, but {why}"));
                self.state().unclear.get_or_insert(why);
            }
        }
    }

    /// From outside the oracles: a panic, say.
    pub fn violate(&self, oracle: &'static str, at_ns: u64, what: String) {
        let mut state = self.state();
        let violation = Violation { oracle, at_ns, what };
        writeln!(state.trace, "{at_ns} RED {violation}").expect("a string takes everything");
        state.violation.get_or_insert(violation);
    }

    /// Ends the run: last checks, then everything that was recorded.
    pub fn finish(&self, at_ns: u64) -> Recorded {
        let mut state = self.state();
        let state = &mut *state;
        if state.violation.is_none() {
            state.violation = state.oracles.finish(at_ns).err();
        }
        // A second opinion about the whole: another code, and a search that asks no log.
        if state.violation.is_none() {
            let judged = state.history.judge();
            state.violation = judged.err().map(|what| Violation { oracle: "history", at_ns, what });
        }
        state.counts.checks = state.oracles.checks();
        Recorded {
            trace: std::mem::take(&mut state.trace),
            counts: state.counts.clone(),
            violation: state.violation.clone(),
            unclear: state.unclear.take(),
            timeline: std::mem::take(&mut state.timeline),
            history: std::mem::take(&mut state.history).into_events(),
        }
    }
}

impl Progress {
    fn observe(&mut self, event: &Event) {
        match event {
            Event::RestBegins | Event::Healed => {
                self.is_owed = true;
                self.sent.clear();
                self.acked.clear();
                self.answered.clear();
            }
            Event::RestEnds => self.is_owed = false,
            Event::Send { writer, bucket, sequence, first: true, .. } if self.is_owed => {
                self.sent.insert((*bucket, *writer, *sequence));
            }
            Event::Done { writer, bucket, sequence, outcome: Outcome::Acked { .. } | Outcome::Put { .. }, .. }
                if self.sent.contains(&(*bucket, *writer, *sequence)) =>
            {
                self.acked.insert((*bucket, *writer));
            }
            Event::Table { maker, outcome, .. } if self.is_owed && !matches!(outcome, TableOutcome::Unknown { .. }) => {
                self.answered.insert(*maker);
            }
            Event::Fetch { reader, bucket, rows, .. } => {
                let end = rows.last().map_or(0, |row| row.offset + 1);
                let known = self.read_end.entry((*reader, *bucket)).or_default();
                *known = (*known).max(end);
            }
            _ => {}
        }
    }
}

fn count(counts: &mut Counts, event: &Event) {
    match event {
        Event::Send { first: true, .. } => counts.sends += 1,
        Event::Send { first: false, .. } => counts.resends += 1,
        Event::Done { outcome, .. } => match outcome {
            Outcome::Acked { .. } | Outcome::Put { .. } => counts.acked += 1,
            Outcome::Unknown { .. } => counts.unknown += 1,
            Outcome::OutOfOrder { .. } => counts.out_of_order += 1,
            Outcome::Refused { .. } => {}
        },
        Event::Fetch { rows, .. } => {
            counts.fetches += 1;
            counts.rows += rows.len() as u64;
        }
        Event::Probe { .. } => counts.probes += 1,
        Event::Lookup { .. } => counts.lookups += 1,
        Event::Table { .. } => counts.tables += 1,
        Event::Scan { .. } | Event::RowCount { .. } => counts.scans += 1,
        Event::Boot { .. } => counts.boots += 1,
        _ => {}
    }
}
