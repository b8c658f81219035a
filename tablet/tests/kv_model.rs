//! The primary-key tablet against plain rows: puts of every kind, duplicates, lost leaders, crashes of the store, replicas that fold.
#![cfg(test)]

#[path = "kv_model/generate.rs"]
mod generate;
#[path = "kv_model/model.rs"]
mod model;

use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::{KvBatchBuilder, split_value};
use floss_protocol::log_batch::{ChangeType, LogBatch};
use floss_protocol::row::{Value, encode_compacted_key, encode_compacted_row, encode_indexed_row};
use floss_protocol::schema::{DataType, LogFormat};
use floss_tablet::command::{APPEND_HEADER_BYTES, Command};
use floss_tablet::effects::Applied;
use floss_tablet::error::TabletError;
use floss_tablet::kv::fold::{Folded, KvBucket};
use floss_tablet::kv::mem::MemKvStore;
use floss_tablet::kv::prepare::PutRequest;
use floss_tablet::kv::store::{KvBucketId, KvRange};
use floss_tablet::kv::{PutMode, read_changes};
use floss_tablet::prepare::{Lead, Prepared};
use floss_tablet::tablet::{LogTablet, TabletConfig};
use generate::{Made, Shape, make, shape, value};
use model::{Record, Refused, Row, Table};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;

const BUCKET: KvBucketId = KvBucketId(9);
const WRITER: i64 = 3;

#[derive(Clone, Debug)]
enum Op {
    Put {
        /// Key, a number for the values, delete.
        records: Vec<(u8, u64, bool)>,
        /// Bits of target columns; 0 = all.
        targets: u16,
        overwrite: bool,
        /// In the older schema, if there are two.
        before: bool,
        /// Repeat the last batch first.
        again: bool,
    },
    Commit {
        count: usize,
    },
    /// The first proposals are committed, the others land in a term that did not decide them, or nowhere.
    NewTerm {
        kept: usize,
    },
    /// The store of a replica goes back and the log is folded again.
    Crash {
        replica: bool,
        kept: prop::sample::Index,
    },
    Flush,
}

fn op() -> impl Strategy<Value = Op> {
    let record = (0..6_u8, 0..1_000_u64, prop::bool::weighted(0.3));
    let put = (prop::collection::vec(record, 0..6), prop_oneof![Just(0_u16), any::<u16>()], prop::bool::weighted(0.1));
    prop_oneof![
        10 => (put, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|((records, targets, overwrite), before, again)| Op::Put { records, targets, overwrite, before, again }),
        5 => (1..5_usize).prop_map(|count| Op::Commit { count }),
        1 => (0..3_usize).prop_map(|kept| Op::NewTerm { kept }),
        2 => (any::<bool>(), any::<prop::sample::Index>()).prop_map(|(replica, kept)| Op::Crash { replica, kept }),
        1 => Just(Op::Flush),
    ]
}

/// One node: its log state, its rows.
struct Node {
    tablet: LogTablet,
    store: Arc<MemKvStore>,
    kv: KvBucket,
}

impl Node {
    fn new(made: &Made) -> Self {
        let log_format = match (made.arrow_log, made.indexed) {
            (true, _) => LogFormat::Arrow,
            (false, true) => LogFormat::Indexed,
            (false, false) => LogFormat::Compacted,
        };
        let config = TabletConfig { latest_schema_id: 2, batch_bytes_max: 1 << 20, log_format, log_ttl_ms: None };
        let store = Arc::new(MemKvStore::default());
        let kv = KvBucket::open(BUCKET, store.clone(), made.table.clone()).unwrap();
        Self { tablet: LogTablet::new(config), store, kv }
    }

    fn rows(&self) -> Vec<(Bytes, Bytes)> {
        self.kv.reader().scan(&KvRange::all()).unwrap()
    }
}

/// What was decided and may be committed.
struct Decided {
    entry: Bytes,
    changes: Vec<(ChangeType, Row)>,
    /// The model's rows after it.
    table: Table,
    sequence: i32,
    base_offset: i64,
    end_offset: i64,
}

struct World {
    made: Made,
    leader: Node,
    follower: Node,
    lead: Lead,
    term: u64,
    /// Every entry, by raft index from 1 on.
    log: Vec<(u64, Bytes)>,
    ids: Range<i64>,
    next_id: i64,
    committed: Table,
    committed_sequence: i32,
    pending: Vec<Decided>,
    last_records: Option<(Bytes, Vec<i32>, PutMode, i64)>,
}

impl World {
    fn new(made: Made) -> Self {
        let (leader, follower) = (Node::new(&made), Node::new(&made));
        let lead = Lead::new(&leader.tablet, 1);
        Self {
            leader,
            follower,
            lead,
            term: 1,
            log: Vec::new(),
            ids: 0..0,
            next_id: 0,
            committed: Table::new(),
            committed_sequence: -1,
            pending: Vec::new(),
            last_records: None,
            made,
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Put { records, targets, overwrite, before, again } => {
                if *again {
                    self.put_again();
                }
                self.put(records, *targets, *overwrite, *before);
            }
            Op::Commit { count } => self.commit(*count),
            Op::NewTerm { kept } => self.new_term(*kept),
            Op::Crash { replica, kept } => self.crash(*replica, *kept),
            Op::Flush => {
                use floss_tablet::kv::store::KvStore;
                self.leader.store.flush().unwrap();
                self.follower.store.flush().unwrap();
            }
        }
    }

    fn request(&self, records: &[Record], targets: Option<&[usize]>, overwrite: bool, before: bool, sequence: i32) -> PutRequest {
        let made = &self.made;
        let columns = if before { made.columns_before } else { made.types.len() };
        let latest = made.table.latest_schema_id();
        let mut batch = KvBatchBuilder::new(if before { SchemaId(1) } else { latest });
        (batch.writer_id, batch.batch_sequence) = (WRITER, sequence);
        for record in records {
            let key_types = &made.types[..made.rules.key_columns];
            let key = encode_compacted_key(&record.row[..made.rules.key_columns], key_types.iter()).unwrap();
            if record.is_delete {
                batch.delete(&key);
                continue;
            }
            let is_target = |at: usize| targets.is_none_or(|targets| targets.contains(&at));
            let relax = |(at, of): (usize, &DataType)| DataType { nullable: of.nullable || !is_target(at), ..of.clone() };
            let types: Vec<DataType> = made.types[..columns].iter().enumerate().map(relax).collect();
            let mut row = record.row[..columns].to_vec();
            if let Some(column) = made.rules.auto_increment {
                row[column] = Value::Null;
            }
            let row = match made.indexed {
                true => encode_indexed_row(&row, &types.iter().collect::<Vec<_>>()).unwrap(),
                false => encode_compacted_row(&row, types.iter()).unwrap(),
            };
            batch.upsert(&key, &row);
        }
        let target_columns = targets.unwrap_or_default().iter().map(|at| *at as i32).collect();
        let mode = if overwrite { PutMode::Overwrite } else { PutMode::Merge };
        PutRequest { records: batch.build(), target_columns, mode }
    }

    fn put(&mut self, numbers: &[(u8, u64, bool)], targets: u16, overwrite: bool, before: bool) {
        let rules = self.made.rules.clone();
        let before = before && self.made.columns_before < rules.columns;
        let may_be_partial = overwrite || matches!(rules.engine, model::Engine::None | model::Engine::Aggregation);
        let wants_partial = (targets != 0 && may_be_partial) || rules.auto_increment.is_some();
        let chosen = |at: &usize| *at < rules.key_columns || targets >> at & 1 == 1;
        let targets: Vec<usize> = (0..rules.columns).filter(|at| chosen(at) && rules.auto_increment != Some(*at)).collect();
        let targets = (wants_partial && targets.len() < rules.columns).then_some(targets);
        let records: Vec<Record> = numbers
            .iter()
            .map(|(key, number, is_delete)| {
                let column = |(at, of): (usize, &DataType)| match at {
                    _ if at < rules.key_columns && at == 0 => Value::Int(i32::from(*key) - 2),
                    _ if at < rules.key_columns => Value::Text(format!("key{}", key / 2)),
                    _ if before && at >= self.made.columns_before => Value::Null,
                    _ => value(of, number.wrapping_mul(31 + at as u64)),
                };
                Record { row: self.made.types.iter().enumerate().map(column).collect(), is_delete: *is_delete }
            })
            .collect();
        let (mut table, mut next_id, sequence) = match self.pending.last() {
            Some(last) => (last.table.clone(), self.next_id, last.sequence + 1),
            None => (self.committed.clone(), self.next_id, self.committed_sequence + 1),
        };
        let expected = model::put(&rules, &mut table, &mut next_id, &records, targets.as_deref(), overwrite);
        let request = self.request(&records, targets.as_deref(), overwrite, before, sequence);
        let mut found = self.prepare(&request);
        if matches!(found, Err(TabletError::OutOfIds { .. })) {
            assert!(rules.auto_increment.is_some());
            self.ids.end = self.ids.start + 50;
            found = self.prepare(&request);
        }
        match (expected, found) {
            (Ok(changes), Ok(Prepared::Propose { entry, base_offset, end_offset })) => {
                self.next_id = next_id;
                assert_eq!(end_offset - base_offset, (changes.len() as i64).max(1));
                self.last_records = Some((request.records, request.target_columns, request.mode, end_offset));
                self.pending.push(Decided { entry, changes, table, sequence, base_offset, end_offset });
            }
            (Err(Refused::DeletionDisabled), Err(TabletError::DeletionDisabled { .. })) => {}
            (expected, found) => panic!("expected {expected:?}, found {found:?}"),
        }
    }

    fn prepare(&mut self, request: &PutRequest) -> Result<Prepared, TabletError> {
        self.lead.prepare_put(&self.leader.tablet, &self.leader.kv, request, &mut self.ids, 1_000)
    }

    /// A duplicate changes nothing and gets the old answer.
    fn put_again(&mut self) {
        let Some((records, target_columns, mode, end_offset)) = self.last_records.clone() else { return };
        let pending = self.lead.pending_row_count();
        let is_applied = end_offset <= self.leader.tablet.high_watermark();
        match self.prepare(&PutRequest { records, target_columns, mode }).unwrap() {
            Prepared::Duplicate { end_offset: found, .. } if is_applied => assert_eq!(found, end_offset),
            Prepared::DuplicateInFlight { end_offset: found, .. } if !is_applied => assert_eq!(found, end_offset),
            other => panic!("{other:?}"),
        }
        assert!(self.lead.pending_row_count() <= pending);
    }

    /// `term` other than the deciding one: the entry does nothing.
    fn append(&mut self, term: u64, entry: Bytes) -> Applied {
        self.log.push((term, entry));
        let index = self.log.len() as u64;
        let applied = apply(&mut self.leader, term, index, &self.log[index as usize - 1].1);
        assert_eq!(apply(&mut self.follower, term, index, &self.log[index as usize - 1].1), applied);
        applied
    }

    fn commit(&mut self, count: usize) {
        for decided in self.pending.drain(..count.min(self.pending.len())).collect::<Vec<_>>() {
            let applied = self.append(self.term, decided.entry.clone());
            let expected = Applied::Appended { base_offset: decided.base_offset, end_offset: decided.end_offset };
            assert_eq!(applied, expected);
            let batch = LogBatch::read(&decided.entry, APPEND_HEADER_BYTES).unwrap();
            assert_eq!(batch.writer().map(|(writer, sequence)| (writer.0, sequence)), Some((WRITER, decided.sequence)));
            let found = read_changes(&self.made.table, &batch, |_| true).unwrap();
            let found: Vec<_> = found.into_iter().map(|change| (change.change_type, change.row)).collect();
            assert_eq!(found, decided.changes);
            self.committed = decided.table;
            self.committed_sequence = decided.sequence;
        }
        self.check();
    }

    fn new_term(&mut self, kept: usize) {
        self.commit(kept);
        self.term += 1;
        let lost = std::mem::take(&mut self.pending);
        for (at, decided) in lost.into_iter().enumerate() {
            if at % 2 == 1 {
                let applied = self.append(self.term, decided.entry);
                assert!(matches!(applied, Applied::Stale { .. }));
            }
        }
        self.log.push((self.term, Bytes::new()));
        let index = self.log.len() as u64;
        for node in [&mut self.leader, &mut self.follower] {
            node.tablet.apply(self.term, index, None);
            assert_eq!(node.kv.apply(self.term, index, None), Folded::Done);
        }
        self.lead = Lead::new(&self.leader.tablet, self.term);
        // Ids of the lost tail are not used again.
        self.next_id = self.ids.start;
        self.last_records = None;
        self.check();
    }

    fn crash(&mut self, replica: bool, kept: prop::sample::Index) {
        let node = if replica { &mut self.follower } else { &mut self.leader };
        node.store.crash(kept.index(node.store.unflushed_count() + 1));
        node.kv = KvBucket::open(BUCKET, node.store.clone(), self.made.table.clone()).unwrap();
        let last = self.log.len() as u64;
        if node.kv.position().raft_index + 1 < last {
            let (term, entry) = &self.log[last as usize - 1];
            let next_index = node.kv.position().raft_index + 1;
            assert_eq!(fold(node, *term, last, entry), Folded::Behind { next_index });
        }
        // From somewhere before its position: entries that are there already do nothing.
        let from = node.kv.position().raft_index.saturating_sub(2);
        for index in from + 1..=last {
            let (term, entry) = &self.log[index as usize - 1];
            assert!(matches!(fold(node, *term, index, entry), Folded::Done | Folded::Before));
        }
        self.check();
    }

    /// Both nodes hold the model's rows.
    fn check(&self) {
        let mut expected: Vec<&Row> = self.committed.values().collect();
        let text = |row: &&Row| format!("{row:?}");
        expected.sort_by_key(text);
        for node in [&self.leader, &self.follower] {
            let rows = node.rows();
            let mut found: Vec<Row> = rows.iter().map(|(_, value)| self.decode(value)).collect();
            found.sort_by_key(|row| format!("{row:?}"));
            assert_eq!(found.iter().collect::<Vec<_>>(), expected);
            assert_eq!(node.kv.position().log_end, node.tablet.high_watermark());
            if let Some(count) = node.kv.position().row_count {
                assert_eq!(count, expected.len() as u64);
            }
        }
        assert_eq!(self.leader.rows(), self.follower.rows());
    }

    fn decode(&self, value: &Bytes) -> Row {
        let (schema_id, row) = split_value(value).unwrap();
        assert_eq!(schema_id, self.made.table.latest_schema_id());
        match self.made.indexed {
            true => floss_protocol::row::decode_indexed_row(&row, &self.made.types.iter().collect::<Vec<_>>()).unwrap(),
            false => floss_protocol::row::decode_compacted_row(&row, self.made.types.iter()).unwrap(),
        }
    }
}

fn fold(node: &mut Node, term: u64, index: u64, entry: &Bytes) -> Folded {
    let command = (!entry.is_empty()).then(|| Command::decode(entry).unwrap());
    node.kv.apply(term, index, command.as_ref())
}

fn apply(node: &mut Node, term: u64, index: u64, entry: &Bytes) -> Applied {
    let command = Command::decode(entry).unwrap();
    let applied = node.tablet.apply(term, index, Some(&command));
    assert_eq!(node.kv.apply(term, index, Some(&command)), Folded::Done);
    applied
}

fn run(shape: &Shape, ops: &[Op]) {
    let Some(made) = make(shape) else { return };
    let mut world = World::new(made);
    for op in ops {
        world.run(op);
    }
    world.commit(usize::MAX);
    world.crash(true, proptest_index_zero());
}

fn proptest_index_zero() -> prop::sample::Index {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    any::<prop::sample::Index>().new_tree(&mut runner).unwrap().current()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn equals_plain_rows(shape in shape(), ops in prop::collection::vec(op(), 1..25)) {
        run(&shape, &ops);
    }
}
