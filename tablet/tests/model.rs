//! The log tablet against a plain list of batches: appends, duplicates, lost proposals, new terms, upkeep, restarts.
#![cfg(test)]

use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::log_batch::{ChangeType, LogBatch, LogBatchBuilder, LogBatches};
use floss_protocol::schema::LogFormat;
use floss_tablet::command::{APPEND_HEADER_BYTES, Command};
use floss_tablet::effects::Applied;
use floss_tablet::error::TabletError;
use floss_tablet::prepare::{Lead, Prepared};
use floss_tablet::read::{EARLIEST, EntryWalk};
use floss_tablet::tablet::{LogTablet, TabletConfig};
use proptest::prelude::*;
use std::collections::VecDeque;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const TTL_MS: i64 = 3 * DAY_MS;

#[derive(Clone, Debug)]
enum Op {
    /// One request of `batches` (writer, what to do about its sequence, records).
    Append {
        batches: Vec<(u8, Sequence, u8)>,
        later_ms: i64,
    },
    /// The oldest proposals are committed and applied.
    Commit {
        count: usize,
    },
    /// A proposal fails; the later ones of the same lead are still committed.
    Lose {
        at: usize,
    },
    /// The first `kept` proposals are committed in their term; of the others, the odd ones land in the new term.
    NewTerm {
        kept: usize,
    },
    Upkeep {
        later_ms: i64,
    },
    /// Every replica starts again from its snapshot.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Sequence {
    None,
    Next,
    Back(i32),
    Gap(i32),
}

fn op() -> impl Strategy<Value = Op> {
    let sequence = prop_oneof![
        1 => Just(Sequence::None),
        6 => Just(Sequence::Next),
        2 => (1..8i32).prop_map(Sequence::Back),
        1 => (1..3i32).prop_map(Sequence::Gap),
    ];
    let batches = prop::collection::vec((0..3u8, sequence, 0..4u8), 1..3);
    prop_oneof![
        8 => (batches, -50..100i64).prop_map(|(batches, later_ms)| Op::Append { batches, later_ms }),
        5 => (1..5usize).prop_map(|count| Op::Commit { count }),
        1 => (0..4usize).prop_map(|at| Op::Lose { at }),
        1 => (0..4usize).prop_map(|kept| Op::NewTerm { kept }),
        1 => (0..4 * DAY_MS).prop_map(|later_ms| Op::Upkeep { later_ms }),
        1 => Just(Op::Restart),
    ]
}

/// What the list remembers of a batch.
#[derive(Clone, Debug, PartialEq)]
struct Batch {
    writer: Option<(i64, i32)>,
    base_offset: i64,
    end_offset: i64,
    timestamp_ms: i64,
}

impl Batch {
    fn of(batch: &LogBatch) -> Self {
        Self {
            writer: batch.writer().map(|(writer, sequence)| (writer.0, sequence)),
            base_offset: batch.base_offset.0,
            end_offset: batch.end_offset().0,
            timestamp_ms: batch.commit_timestamp_ms,
        }
    }
}

/// Everything that took effect, as a list.
#[derive(Default)]
struct Model {
    log: Vec<Batch>,
    log_start: i64,
    /// Writers forgotten so far, with the length of the log at that moment.
    forgotten: Vec<(i64, usize)>,
}

impl Model {
    fn log_end(&self) -> i64 {
        self.log.last().map_or(0, |batch| batch.end_offset)
    }

    /// Batches of a writer since it was forgotten last, the newest first.
    fn of_writer(&self, writer: i64) -> impl Iterator<Item = &Batch> {
        let since = self.forgotten.iter().rev().find(|(forgotten, _)| *forgotten == writer).map_or(0, |(_, at)| *at);
        self.log[since..].iter().rev().filter(move |batch| batch.writer.is_some_and(|(id, _)| id == writer))
    }

    fn expire(&mut self, before_ms: i64) {
        for writer in 0..3 {
            if self.of_writer(writer).next().is_some_and(|newest| newest.timestamp_ms < before_ms) {
                self.forgotten.push((writer, self.log.len()));
            }
        }
    }

    fn readable(&self, from: i64) -> Vec<Batch> {
        self.log.iter().filter(|batch| batch.end_offset > from).cloned().collect()
    }
}

/// One proposal and what the list expects of it: `None` = no opinion (upkeep).
struct Proposal {
    payload: Bytes,
    batches: Vec<Batch>,
}

struct World {
    leader: LogTablet,
    follower: LogTablet,
    lead: Lead,
    term: u64,
    now_ms: i64,
    model: Model,
    in_flight: VecDeque<Proposal>,
    /// Every committed entry: (term, payload), index = position + 1. Empty payload: Raft's own.
    raft_log: Vec<(u64, Bytes)>,
}

fn config() -> TabletConfig {
    let log_format = LogFormat::Compacted;
    TabletConfig { latest_schema_id: 2, batch_bytes_max: 1 << 20, log_format, log_ttl_ms: Some(TTL_MS) }
}

fn batch_bytes(writer: i64, sequence: i32, records: u8) -> Bytes {
    let rows = vec![(ChangeType::AppendOnly, b"row".as_slice()); usize::from(records)];
    LogBatchBuilder { writer_id: writer, batch_sequence: sequence, ..LogBatchBuilder::rows(SchemaId(1), rows) }.build()
}

impl World {
    fn new() -> Self {
        let leader = LogTablet::new(config());
        let lead = Lead::new(&leader, 1);
        let mut world = Self {
            leader,
            follower: LogTablet::new(config()),
            lead,
            term: 1,
            now_ms: 10 * DAY_MS,
            model: Model::default(),
            in_flight: VecDeque::new(),
            raft_log: Vec::new(),
        };
        world.own_entry();
        world
    }

    /// A leader's first entry, or a change of membership.
    fn own_entry(&mut self) {
        self.raft_log.push((self.term, Bytes::new()));
        let index = self.raft_log.len() as u64;
        assert_eq!(self.leader.apply(self.term, index, None), Applied::Nothing);
        assert_eq!(self.follower.apply(self.term, index, None), Applied::Nothing);
        self.lead = Lead::new(&self.leader, self.term);
    }

    fn pending(&self) -> impl Iterator<Item = &Batch> {
        self.in_flight.iter().flat_map(|proposal| &proposal.batches)
    }

    /// The newest sequence of a writer, in flight or applied.
    fn last_sequence(&self, writer: i64) -> Option<i32> {
        let of = |batch: &Batch| batch.writer.filter(|(id, _)| *id == writer).map(|(_, sequence)| sequence);
        let pending = self.pending().filter_map(of).last();
        pending.or_else(|| self.model.of_writer(writer).next().and_then(of))
    }

    fn choose(&self, writer: i64, choice: Sequence, ahead: i32) -> Option<i32> {
        let next = self.last_sequence(writer).map_or(0, |last| last.wrapping_add(1) & i32::MAX);
        let shifted = |by: i32| next.wrapping_add(by) & i32::MAX;
        match choice {
            Sequence::None => None,
            Sequence::Next => Some(shifted(ahead)),
            Sequence::Back(by) => Some(shifted(-by)),
            Sequence::Gap(by) => Some(shifted(by)),
        }
    }

    fn append(&mut self, wanted: &[(u8, Sequence, u8)], later_ms: i64) {
        self.now_ms += later_ms;
        let mut records = Vec::new();
        let mut sent = Vec::new();
        for (writer, choice, count) in wanted {
            let ahead = sent.iter().filter(|(id, fresh)| *id == i64::from(*writer) && *fresh).count() as i32;
            let sequence = self.choose(i64::from(*writer), *choice, ahead);
            sent.push((i64::from(*writer), matches!(choice, Sequence::Next)));
            let writer = sequence.map_or(-1, |_| i64::from(*writer));
            records.extend_from_slice(&batch_bytes(writer, sequence.unwrap_or(-1), *count));
        }
        let expected = self.expect(&records.clone().into());
        let prepared = self.lead.prepare_append(&self.leader, records.into(), self.now_ms);
        match (expected, prepared) {
            (Expected::Refused, Err(TabletError::OutOfOrderSequence { .. })) => {}
            (Expected::Duplicate(first), Ok(Prepared::Duplicate { base_offset, .. })) => assert_eq!(base_offset, first),
            (Expected::InFlight(first, end), Ok(Prepared::DuplicateInFlight { base_offset, end_offset })) => {
                assert_eq!((base_offset, end_offset), (first, end));
            }
            (Expected::Fresh(batches), Ok(Prepared::Propose { entry, base_offset, end_offset })) => {
                assert_eq!((base_offset, end_offset), (batches[0].base_offset, batches.last().unwrap().end_offset));
                assert_eq!(parse(&entry.slice(APPEND_HEADER_BYTES..)), batches);
                self.in_flight.push_back(Proposal { payload: entry, batches });
            }
            (expected, prepared) => panic!("expected {expected:?}, got {prepared:?}"),
        }
    }

    /// The rules of semantics.md 1.2, on the lists.
    fn expect(&self, records: &Bytes) -> Expected {
        let end = self.pending().last().map_or(self.model.log_end(), |batch| batch.end_offset);
        let newest = self.pending().chain(self.model.log.last()).map(|batch| batch.timestamp_ms).max().unwrap_or(0);
        let timestamp_ms = newest.max(self.now_ms);
        let mut fresh: Vec<Batch> = Vec::new();
        let mut duplicates: Vec<Batch> = Vec::new();
        for batch in LogBatches::new(records.clone()) {
            let batch = Batch::of(&batch.unwrap());
            let offset_count = batch.end_offset - batch.base_offset;
            let base_offset = fresh.last().map_or(end, |last| last.end_offset);
            let batch = Batch { base_offset, end_offset: base_offset + offset_count, timestamp_ms, ..batch };
            let Some((writer, sequence)) = batch.writer else {
                fresh.push(batch);
                continue;
            };
            let mut pending: Vec<&Batch> =
                self.pending().chain(&fresh).filter(|old| old.writer.is_some_and(|old| old.0 == writer)).collect();
            pending.reverse();
            let known: Vec<&Batch> = pending.iter().copied().chain(self.model.of_writer(writer).take(5)).collect();
            if let Some(original) = known.iter().find(|old| old.writer == batch.writer) {
                duplicates.push((*original).clone());
            } else if sequence == known.first().map_or(0, |last| last.writer.unwrap().1.wrapping_add(1) & i32::MAX) {
                fresh.push(batch);
            } else {
                return Expected::Refused;
            }
        }
        match (fresh.is_empty(), duplicates.first()) {
            (true, Some(first)) => {
                let end = duplicates.iter().map(|batch| batch.end_offset).max().unwrap();
                if end > self.model.log_end() {
                    Expected::InFlight(first.base_offset, end)
                } else {
                    Expected::Duplicate(first.base_offset)
                }
            }
            _ => Expected::Fresh(fresh),
        }
    }

    /// Commits a proposal as an entry of `term`; both replicas apply it. True if it took effect.
    fn commit(&mut self, proposal: Proposal, term: u64) -> bool {
        self.raft_log.push((term, proposal.payload.clone()));
        let index = self.raft_log.len() as u64;
        let command = Command::decode(&proposal.payload).unwrap();
        let applied = self.leader.apply(term, index, Some(&command));
        assert_eq!(self.follower.apply(term, index, Some(&command)), applied);
        let is_stale = command.decided_term() != term;
        match (command, applied) {
            (Command::Append { .. }, Applied::Appended { base_offset, end_offset }) => {
                assert!(!is_stale);
                assert_eq!(base_offset, self.model.log_end(), "I3");
                assert_eq!(end_offset, proposal.batches.last().unwrap().end_offset);
                self.model.log.extend(proposal.batches);
                return true;
            }
            (Command::Append { .. }, Applied::Stale { .. }) => {
                assert!(is_stale || proposal.batches[0].base_offset != self.model.log_end());
            }
            (Command::Trim { log_start, .. }, Applied::Trimmed { log_start: reached }) => {
                assert!(!is_stale);
                assert_eq!(log_start, reached);
                self.model.log_start = reached;
            }
            (Command::ExpireWriters { before_ms, .. }, Applied::WritersExpired { .. }) => {
                assert!(!is_stale);
                self.model.expire(before_ms);
            }
            (_, Applied::Stale { .. }) => assert!(is_stale),
            (command, applied) => panic!("{command:?} was applied as {applied:?}"),
        }
        false
    }

    fn commit_some(&mut self, count: usize) {
        for _ in 0..count {
            let Some(proposal) = self.in_flight.pop_front() else { return };
            let is_append = !proposal.batches.is_empty();
            assert_eq!(self.commit(proposal, self.term), is_append, "nothing was lost, so nothing is stale");
        }
    }

    fn lose(&mut self, at: usize) {
        self.commit_some(at);
        drop(self.in_flight.pop_front());
        while let Some(proposal) = self.in_flight.pop_front() {
            assert!(!self.commit(proposal, self.term), "decided behind a lost entry");
        }
        self.lead = Lead::new(&self.leader, self.term);
    }

    fn new_term(&mut self, kept: usize) {
        self.commit_some(kept);
        self.term += 1;
        self.own_entry();
        for at in 0.. {
            let Some(proposal) = self.in_flight.pop_front() else { break };
            if at % 2 == 1 {
                assert!(!self.commit(proposal, self.term), "I10");
            }
        }
        self.lead = Lead::new(&self.leader, self.term);
    }

    /// Upkeep is committed at once: the list has no opinion about commands under way.
    fn upkeep(&mut self, later_ms: i64) {
        self.commit_some(usize::MAX);
        self.now_ms += later_ms;
        for payload in self.lead.prepare_upkeep(&self.leader, self.now_ms) {
            self.commit(Proposal { payload, batches: Vec::new() }, self.term);
        }
        assert!(self.lead.prepare_upkeep(&self.leader, self.now_ms).is_empty(), "once is enough");
        let due = self.model.log.iter().filter(|batch| batch.timestamp_ms < self.now_ms - TTL_MS);
        assert!(self.model.log_start >= due.map(|batch| batch.end_offset).max().unwrap_or(0));
        let wanted = self.model.log.iter().filter(|batch| batch.timestamp_ms >= self.now_ms - TTL_MS);
        assert!(wanted.map(|batch| batch.base_offset).min().is_none_or(|first| self.model.log_start <= first));
    }

    fn restart(&mut self) {
        for tablet in [&mut self.leader, &mut self.follower] {
            let mut restored = LogTablet::new(config());
            restored.restore(&tablet.snapshot()).unwrap();
            assert_eq!(restored.snapshot(), tablet.snapshot());
            *tablet = restored;
        }
        self.new_term(0);
    }

    fn check(&self) {
        assert_eq!(self.leader.high_watermark(), self.model.log_end());
        assert_eq!(self.leader.log_start(), self.model.log_start);
        assert_eq!(self.leader.snapshot(), self.follower.snapshot(), "I2");
        assert_eq!(self.leader.writers_digest(), self.follower.writers_digest());
        for pair in self.model.log.windows(2) {
            assert_eq!(pair[0].end_offset, pair[1].base_offset, "I3");
            assert!(pair[0].timestamp_ms <= pair[1].timestamp_ms);
        }
    }

    /// Reads from every offset, and looks up every timestamp.
    fn check_reads(&self) {
        let (log_start, log_end) = (self.model.log_start, self.model.log_end());
        for offset in (log_start..=log_end).chain([EARLIEST]) {
            let from = if offset == EARLIEST { log_start } else { offset };
            let read = self.read(offset);
            let expected = self.model.readable(from);
            assert_eq!(read, expected, "fetch from {offset}");
        }
        for offset in [-1, log_start - 1, log_end + 1] {
            assert!(self.leader.plan_fetch(offset).is_err());
        }
        let tail = self.leader.plan_tail(3);
        assert_eq!(self.walk(&tail), self.model.readable((log_end - 3).max(log_start)));
        for batch in &self.model.log {
            for timestamp_ms in [batch.timestamp_ms, batch.timestamp_ms + 1] {
                let first = self.model.readable(log_start).into_iter().find(|batch| batch.timestamp_ms >= timestamp_ms);
                let expected = first.map_or(log_end, |batch| batch.base_offset.max(log_start));
                assert_eq!(self.leader.offset_for_timestamp(timestamp_ms, i64::MAX), Ok(expected));
            }
        }
    }

    fn read(&self, offset: i64) -> Vec<Batch> {
        self.walk(&self.leader.plan_fetch(offset).unwrap())
    }

    fn walk(&self, plan: &floss_tablet::read::ReadPlan) -> Vec<Batch> {
        let mut walk = EntryWalk::new(plan);
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in plan.indexes.clone() {
            assert!(index >= self.leader.retained_from());
            let (term, payload) = &self.raft_log[index as usize - 1];
            let cut = walk.cut(*term, payload, usize::MAX, false).unwrap();
            bytes += cut.batches.iter().map(|batch| batch.total_bytes() as u64).sum::<u64>();
            found.extend(cut.batches.iter().map(Batch::of));
        }
        assert_eq!(bytes, plan.available_bytes);
        found
    }
}

#[derive(Debug)]
enum Expected {
    Fresh(Vec<Batch>),
    Duplicate(i64),
    InFlight(i64, i64),
    Refused,
}

fn parse(batches: &Bytes) -> Vec<Batch> {
    let valid = |batch: LogBatch| batch.validate().map(|()| Batch::of(&batch)).unwrap();
    LogBatches::new(batches.clone()).map(|batch| valid(batch.unwrap())).collect()
}

fn run(ops: Vec<Op>) {
    let mut world = World::new();
    for op in ops {
        match op {
            Op::Append { batches, later_ms } => world.append(&batches, later_ms),
            Op::Commit { count } => world.commit_some(count),
            Op::Lose { at } => world.lose(at),
            Op::NewTerm { kept } => world.new_term(kept),
            Op::Upkeep { later_ms } => world.upkeep(later_ms),
            Op::Restart => world.restart(),
        }
        world.check();
    }
    world.commit_some(usize::MAX);
    world.check();
    world.check_reads();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn equals_a_list_of_batches(ops in prop::collection::vec(op(), 1..60)) {
        run(ops);
    }
}
