//! RocksDB keeps the contract of KV stores; what a power loss leaves of it is a moment since the last flush.
#![cfg(test)]
#![cfg(feature = "rocks")]
#![allow(clippy::disallowed_methods)] // copies directories

#[path = "kv_contract/suite.rs"]
mod suite;

use floss_tablet::kv::rocks::{RocksKvStore, RocksLimits};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use suite::{Model, Op, op};
use tempfile::TempDir;

fn limits() -> RocksLimits {
    RocksLimits { cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20, ..RocksLimits::default() }
}

fn open(directory: &Path) -> RocksKvStore {
    RocksKvStore::open(directory, &limits()).unwrap()
}

#[test]
fn rocksdb_keeps_the_contract() {
    let mut directories = Vec::new();
    suite::all(&mut || {
        let directory = TempDir::new().unwrap();
        let store = Arc::new(open(directory.path()));
        directories.push(directory);
        store
    });
}

#[test]
fn a_second_process_is_refused() {
    let directory = TempDir::new().unwrap();
    let _first = open(directory.path());
    assert!(RocksKvStore::open(directory.path(), &limits()).is_err());
}

/// What is on disk at this moment: memory is lost, as when the power goes.
fn crash(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name != "LOCK" && !name.to_string_lossy().starts_with("LOG") {
            std::fs::copy(entry.path(), to.path().join(name)).unwrap();
        }
    }
    to
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rocksdb_crashes_to_a_prefix(ops in prop::collection::vec(op(), 1..40)) {
        let mut directory = TempDir::new().unwrap();
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
