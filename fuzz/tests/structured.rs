//! Inputs that are built well, then damaged: proptest knows the shape, the checks know the properties.
#![cfg(test)]

use bytes::Bytes;
use floss_fuzz::{TARGETS, batch, journal, projection, tablet};
use floss_protocol::ids::SchemaId;
use floss_protocol::log_batch::{ChangeType, LogBatchBuilder, Magic};
use proptest::prelude::*;

/// Damage: bits to flip (as fractions of the length), and where to cut.
fn damage() -> impl Strategy<Value = (Vec<(u16, u8)>, Option<u16>)> {
    (prop::collection::vec((any::<u16>(), 0..8u8), 0..4), prop::option::weighted(0.3, any::<u16>()))
}

fn apply((flips, cut): &(Vec<(u16, u8)>, Option<u16>), mut bytes: Vec<u8>) -> Vec<u8> {
    for (place, bit) in flips {
        if !bytes.is_empty() {
            let at = usize::from(*place) % bytes.len();
            bytes[at] ^= 1 << bit;
        }
    }
    if let Some(cut) = cut {
        let at = usize::from(*cut) % (bytes.len() + 1);
        bytes.truncate(at);
    }
    bytes
}

prop_compose! {
    fn rows_batch()(
        magic in 0..3u8, schema_id in 0..4i16, writer_id in -1..3i64, batch_sequence in -1..3i32, statistics in 0..20usize,
        rows in prop::collection::vec((0..5u8, prop::collection::vec(any::<u8>(), 0..20)), 0..5),
    ) -> Bytes {
        let rows: Vec<_> = rows.iter().filter_map(|(change, row)| Some((ChangeType::from_byte(*change)?, row.as_slice()))).collect();
        let magic = Magic::from_byte(magic).expect("0, 1 and 2 are known");
        let statistics = if rows.is_empty() { 0 } else { statistics };
        let builder = LogBatchBuilder::rows(SchemaId(schema_id), rows);
        LogBatchBuilder { magic, writer_id, batch_sequence, statistics: vec![7; statistics].into(), ..builder }.build()
    }
}

proptest! {
    #[test]
    fn anything_into_every_target(input in prop::collection::vec(any::<u8>(), 0..200)) {
        for (_, check) in TARGETS {
            check(&input);
        }
    }

    #[test]
    fn batches_of_rows(batches in prop::collection::vec(rows_batch(), 1..4), damage in damage(), format in 0..3u8) {
        let records = apply(&damage, batches.concat());
        batch::check_log_batch(&records);
        tablet::check_append(&[&[format], &records[..]].concat());
    }

    #[test]
    fn damaged_arrow(at in any::<u16>(), mask in any::<u8>(), damage in damage()) {
        let vectors = arrow_vectors();
        let input = &vectors[usize::from(at) % vectors.len()];
        let damaged = apply(&damage, input.clone());
        projection::check_projection(&[&[0, mask], &damaged[..]].concat());
        tablet::check_append(&[&[0], &damaged[..]].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn journals(script in prop::collection::vec(any::<u8>(), 0..90)) {
        journal::check_journal_recovery(&script);
    }

    #[test]
    fn journal_files(script in prop::collection::vec(any::<u8>(), 0..30), damage in damage()) {
        journal::check_journal_file(&apply(&damage, journal::sample_file(&script).to_vec()));
    }
}

/// Batches that the released clients wrote.
#[allow(clippy::disallowed_methods)] // reads files of the repository
fn arrow_vectors() -> Vec<Vec<u8>> {
    let dir =
        std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests")).join("corpus/log_batch");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}
