//! RocksDB keeps the contract of KV stores; what a power loss leaves of it is a moment since the last flush.
#![cfg(test)]
#![cfg(feature = "rocks")]
#![allow(clippy::disallowed_methods)] // copies directories

#[path = "kv_contract/suite.rs"]
mod suite;

use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::kv_batch::KvBatchBuilder;
use floss_protocol::row::{Value, encode_compacted_key, encode_compacted_row};
use floss_protocol::schema::{Column, DataType, LogFormat, Schema, TableDescriptor, TypeKind};
use floss_tablet::command::Command;
use floss_tablet::kv::PutMode;
use floss_tablet::kv::fold::{Folded, KvBucket};
use floss_tablet::kv::mem::MemKvStore;
use floss_tablet::kv::prepare::PutRequest;
use floss_tablet::kv::rocks::{RocksKvStore, RocksLimits};
use floss_tablet::kv::store::{KvBucketId, KvRange, KvStore};
use floss_tablet::kv::table::KvTable;
use floss_tablet::prepare::{Lead, Prepared};
use floss_tablet::tablet::{LogTablet, TabletConfig};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use suite::{Model, Op, op};
use tempfile::TempDir;

fn limits() -> RocksLimits {
    RocksLimits { cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20, ..RocksLimits::default() }
}

/// In memory where there is such a place: a thousand stores are made and synced here, and nothing is meant to survive.
fn temp_dir() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

fn open(directory: &Path) -> RocksKvStore {
    RocksKvStore::open(directory, &limits()).unwrap()
}

#[test]
fn rocksdb_keeps_the_contract() {
    let mut directories = Vec::new();
    suite::all(&mut || {
        let directory = temp_dir();
        let store = Arc::new(open(directory.path()));
        directories.push(directory);
        store
    });
}

#[test]
fn a_second_process_is_refused() {
    let directory = temp_dir();
    let _first = open(directory.path());
    assert!(RocksKvStore::open(directory.path(), &limits()).is_err());
}

/// Names and sizes of the files that matter.
fn files(directory: &Path) -> Vec<(OsString, u64)> {
    let entries = std::fs::read_dir(directory).unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name(), entry.metadata().ok()?.len()))
    });
    let is_data = |name: &OsString| name != "LOCK" && !name.to_string_lossy().starts_with("LOG");
    let mut files: Vec<_> = entries.filter(|(name, _)| is_data(name)).collect();
    files.sort();
    files
}

/// What is on disk at one moment: memory is lost, as when the power goes.
fn crash(from: &Path) -> TempDir {
    loop {
        let to = temp_dir();
        let before = files(from);
        let copied = before.iter().all(|(name, _)| std::fs::copy(from.join(name), to.path().join(name)).is_ok());
        // RocksDB tidies up in the background: then it was not one moment.
        if copied && files(from) == before && files(to.path()) == before {
            return to;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rocksdb_crashes_to_a_prefix(ops in prop::collection::vec(op(), 1..40)) {
        let mut directory = temp_dir();
        let mut store = open(directory.path());
        let mut model = Model::default();
        for op in &ops {
            match op {
                Op::Crash => {
                    let copy = crash(directory.path());
                    drop(store);
                    directory = copy;
                    store = open(directory.path());
                    let kept = model.find(&store);
                    prop_assert!(kept.is_some(), "not a moment since the last flush");
                    model.crashed_to(kept.unwrap());
                }
                op => model.run(op, &store),
            }
            model.check(&store);
        }
    }
}

/// The puts of one writer, decided and committed: entries by raft index from 1 on, and the rows they come to.
struct History {
    table: Arc<KvTable>,
    entries: Vec<Bytes>,
    rows: Vec<(Bytes, Bytes)>,
}

const BUCKET: KvBucketId = KvBucketId(3);

fn history(puts: &[Vec<(u8, Option<u8>)>]) -> History {
    let columns = vec![Column::new("k", DataType::not_null(TypeKind::Int)), Column::new("v", TypeKind::String)];
    let schema = Schema::with_keys(columns, vec!["k".to_owned()], None, None).unwrap();
    let types: Vec<DataType> = schema.columns().iter().map(|column| column.data_type.clone()).collect();
    let schemas = BTreeMap::from([(SchemaId(1), schema.clone())]);
    let table = Arc::new(KvTable::new(&schemas, &TableDescriptor::new(schema)).unwrap());
    let config = TabletConfig { latest_schema_id: 1, batch_bytes_max: 1 << 20, log_format: LogFormat::Arrow, log_ttl_ms: None };
    let mut tablet = LogTablet::new(config);
    let mut kv = KvBucket::open(BUCKET, Arc::new(MemKvStore::default()), table.clone()).unwrap();
    let mut lead = Lead::new(&tablet, 1);
    let mut entries = Vec::new();
    for put in puts {
        let mut batch = KvBatchBuilder::new(SchemaId(1));
        for (key, value) in put {
            let key = Value::Int(i32::from(*key));
            let bytes = encode_compacted_key(std::slice::from_ref(&key), types[..1].iter()).unwrap();
            match value {
                Some(value) => {
                    let text = Value::Text(format!("{value}").repeat(usize::from(*value)));
                    batch.upsert(&bytes, &encode_compacted_row(&[key, text], types.iter()).unwrap());
                }
                None => drop(batch.delete(&bytes).build()),
            }
        }
        let request = PutRequest { records: batch.build(), target_columns: Vec::new(), mode: PutMode::Merge };
        let prepared = lead.prepare_put(&tablet, &kv, &request, &mut (0..0), 1).unwrap();
        let Prepared::Propose { entry, .. } = prepared else { panic!("{prepared:?}") };
        let command = Command::decode(&entry).unwrap();
        entries.push(entry);
        tablet.apply(1, entries.len() as u64, Some(&command));
        assert_eq!(kv.apply(1, entries.len() as u64, Some(&command)), Folded::Done);
    }
    History { table, entries, rows: kv.reader().scan(&KvRange::all()).unwrap() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whenever the power goes, the log folded from where the store stands gives the rows of the whole log (I8).
    #[test]
    fn the_fold_goes_on_after_every_crash(
        puts in prop::collection::vec(prop::collection::vec((0..12_u8, prop::option::weighted(0.7, any::<u8>())), 0..5), 5..40),
        steps in prop::collection::vec((1..12_usize, any::<bool>()), 20),
    ) {
        let history = history(&puts);
        let mut directory = temp_dir();
        for (count, flush) in steps {
            let store = Arc::new(open(directory.path()));
            let mut kv = KvBucket::open(BUCKET, store.clone(), history.table.clone()).unwrap();
            let from = kv.position().raft_index;
            for (index, entry) in (1..).zip(&history.entries).skip(from as usize).take(count) {
                prop_assert_eq!(kv.apply(1, index, Some(&Command::decode(entry).unwrap())), Folded::Done);
            }
            if flush {
                store.flush().unwrap();
            }
            let copy = crash(directory.path());
            // Closed before its directory goes: RocksDB tries again for seconds to write to one that is gone.
            drop((kv, store));
            directory = copy;
        }
        let mut kv = KvBucket::open(BUCKET, Arc::new(open(directory.path())), history.table.clone()).unwrap();
        for (index, entry) in (1..).zip(&history.entries) {
            prop_assert!(matches!(kv.apply(1, index, Some(&Command::decode(entry).unwrap())), Folded::Done | Folded::Before));
        }
        prop_assert_eq!(kv.reader().scan(&KvRange::all()).unwrap(), history.rows);
    }
}
