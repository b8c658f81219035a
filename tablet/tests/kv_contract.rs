//! What every KV store promises, run against each of them.
#![cfg(test)]

#[path = "kv_contract/suite.rs"]
mod suite;

use floss_tablet::kv::mem::MemKvStore;
use floss_tablet::kv::store::KvStore;
use proptest::prelude::*;
use std::sync::Arc;
use suite::{Model, Op, op};

#[test]
fn the_map_keeps_the_contract() {
    suite::all(&mut || Arc::new(MemKvStore::default()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Any history with crashes: afterwards the store is as it was after one of the writes since the last flush.
    #[test]
    fn the_map_crashes_to_a_prefix(ops in prop::collection::vec(op(), 1..60), kept in any::<prop::sample::Index>()) {
        let store = MemKvStore::default();
        let mut model = Model::default();
        for op in &ops {
            match op {
                Op::Crash => {
                    let kept = kept.index(store.unflushed_count() + 1);
                    store.crash(kept);
                    model.crashed_to(kept);
                }
                op => model.run(op, &store),
            }
            model.check(&store);
        }
        store.flush().unwrap();
    }
}
