//! Log batches against the golden vectors, and against damage.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

mod common;

use bytes::{Bytes, BytesMut};
use floss_protocol::ids::{LogOffset, SchemaId, WriterId};
use floss_protocol::log_batch::*;
use proptest::prelude::*;

fn batches(records: Bytes) -> Vec<LogBatch> {
    LogBatches::new(records).collect::<Result<_, _>>().unwrap()
}

/// The builder that makes exactly this batch.
fn rebuilt(batch: &LogBatch) -> Bytes {
    LogBatchBuilder {
        magic: batch.magic,
        base_offset: batch.base_offset,
        commit_timestamp_ms: batch.commit_timestamp_ms,
        leader_epoch: batch.leader_epoch.unwrap_or(-1),
        schema_id: batch.schema_id,
        append_only: batch.is_append_only(),
        writer_id: batch.writer_id,
        batch_sequence: batch.batch_sequence,
        record_count: batch.record_count,
        statistics: batch.statistics().unwrap(),
        change_types: batch.change_types().unwrap().iter().map(|byte| ChangeType::from_byte(*byte).unwrap()).collect(),
        records: batch.arrow_message().unwrap(),
    }
    .build()
}

#[test]
fn vectors_are_valid_and_are_built_again_byte_for_byte() {
    for (name, records) in common::arrow_records() {
        let all = batches(records.clone());
        assert_eq!(all.len(), 1, "{name}");
        let batch = &all[0];
        batch.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        batch.validate_change_types().unwrap();
        assert_eq!(batch.bytes(), &records, "{name}");
        assert_eq!(batch.record_count, 3, "{name}");
        assert_eq!(batch.end_offset(), LogOffset(3), "{name}");
        assert_eq!(batch.arrow_message().unwrap()[..4], [0xff; 4], "{name}");
        assert_eq!(rebuilt(batch), records, "{name}");
    }
}

#[test]
fn header_fields_of_a_captured_batch() {
    let batch = &batches(common::hex("log_arrow_none.json", "batch_hex"))[0];
    let expected = LogBatchHeader {
        base_offset: LogOffset(0),
        length: 548,
        magic: Magic::V0,
        commit_timestamp_ms: 0,
        leader_epoch: None,
        crc: 0x9ad79b79,
        schema_id: SchemaId(1),
        attributes: 1,
        last_offset_delta: 2,
        writer_id: 1000,
        batch_sequence: 0,
        record_count: 3,
        statistics_length: 0,
    };
    assert_eq!(*batch.header(), expected);
    assert_eq!(batch.writer(), Some((WriterId(1000), 0)));
    let v1 = &batches(common::hex("log_arrow_stats_v1.json", "batch_hex"))[0];
    assert_eq!((v1.magic, v1.statistics_length, v1.statistics().unwrap().len()), (Magic::V1, 87, 87));
    let v2 = &batches(common::hex("fetch_log_v2_batch.json", "served_batch_hex"))[0];
    assert_eq!((v2.magic, v2.leader_epoch), (Magic::V2, Some(5)));
}

#[test]
fn a_changelog_with_an_empty_batch_and_a_cut_tail() {
    let records = common::hex("fetch_log_changelog.json", "served_records_hex");
    let mut walk = LogBatches::new(records.clone());
    let found: Vec<_> = walk.by_ref().take(3).map(Result::unwrap).collect();
    for batch in &found {
        batch.validate().unwrap();
    }
    let offsets: Vec<_> = found.iter().map(|batch| (batch.base_offset.0, batch.end_offset().0)).collect();
    assert_eq!(offsets, [(0, 3), (3, 4), (4, 7)]);
    assert_eq!(found[0].change_types().unwrap()[..], [1, 2, 3]);
    assert_eq!(found[1].total_bytes(), 48);
    let rebuilt_empty = LogBatchBuilder { base_offset: LogOffset(3), ..LogBatchBuilder::empty(SchemaId(1), 1000, 0) }.build();
    assert_eq!((found[1].writer(), found[1].bytes()), (Some((WriterId(1000), 0)), &rebuilt_empty));
    let cut = walk.position();
    assert_eq!(records.len() - cut, 30);
    assert_eq!(walk.next(), Some(Err(LogBatchError::ShortHeader { position: cut, expected: 48, found: 30 })));
    assert_eq!(walk.next(), None);
    assert_eq!(walk.position(), cut);
}

#[test]
fn stamping_changes_only_the_leaders_fields() {
    for (name, records) in common::arrow_records() {
        let before = batches(records.clone()).remove(0);
        let mut copy = BytesMut::from(&records[..]);
        let stamp = Stamp { base_offset: LogOffset(41), commit_timestamp_ms: 1_700_000_000_000, leader_epoch: 7 };
        let stamped = stamp_batch(&mut copy, stamp).unwrap();
        let after = batches(copy.freeze()).remove(0);
        after.validate().unwrap();
        assert_eq!(*after.header(), stamped, "{name}");
        let expected = LogBatchHeader {
            base_offset: LogOffset(41),
            commit_timestamp_ms: 1_700_000_000_000,
            leader_epoch: before.leader_epoch.map(|_| 7),
            ..*before.header()
        };
        assert_eq!(stamped, expected, "{name}");
        assert_eq!(after.bytes()[before.header_bytes()..], before.bytes()[before.header_bytes()..], "{name}");
    }
}

#[test]
fn stamping_several_batches_gives_dense_offsets() {
    let mut all = BytesMut::new();
    for (_, records) in common::arrow_records() {
        all.extend_from_slice(&records);
        all.extend_from_slice(&LogBatchBuilder::empty(SchemaId(1), -1, -1).build());
    }
    let stamp = Stamp { base_offset: LogOffset(100), commit_timestamp_ms: 9, leader_epoch: 1 };
    let end = stamp_all(&mut all, stamp).unwrap();
    let mut next = LogOffset(100);
    for batch in batches(all.clone().freeze()) {
        batch.validate().unwrap();
        assert_eq!(batch.base_offset, next);
        next = batch.end_offset();
    }
    assert_eq!((next, end), (LogOffset(100 + 7 * 4), next));
    let short = all.len() - 1;
    assert!(matches!(
        stamp_all(&mut all[..short], stamp),
        Err(LogBatchError::Truncated { .. } | LogBatchError::ShortHeader { .. })
    ));
}

/// Rewrites header bytes and the CRC, so that only the meaning of the field is wrong.
fn with_field(at: usize, bytes: &[u8]) -> LogBatch {
    let mut copy = BytesMut::from(&common::hex("log_arrow_none.json", "batch_hex")[..]);
    copy[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&copy[25..]);
    copy[21..25].copy_from_slice(&crc.to_le_bytes());
    batches(copy.freeze()).remove(0)
}

#[test]
fn fields_that_make_no_sense_are_refused() {
    let refused = |at, bytes: &[u8]| with_field(at, bytes).validate().unwrap_err().to_string();
    assert_eq!(refused(25, &(-1i16).to_le_bytes()), "log batch at position=0: schema_id=-1, expected at least 0");
    assert_eq!(refused(28, &3i32.to_le_bytes()), "log batch at position=0: last_offset_delta=3, expected 2");
    assert_eq!(refused(32, &(-2i64).to_le_bytes()), "log batch at position=0: writer_id=-2, expected at least -1");
    assert_eq!(refused(40, &(-1i32).to_le_bytes()), "log batch at position=0: batch_sequence=-1, expected at least 0");
    assert_eq!(refused(44, &(-3i32).to_le_bytes()), "log batch at position=0: record_count=-3, expected at least 0");
    let mut no_records = with_field(28, &0i32.to_le_bytes()).into_bytes().to_vec();
    no_records[44..48].fill(0);
    let crc = crc32c::crc32c(&no_records[25..]);
    no_records[21..25].copy_from_slice(&crc.to_le_bytes());
    let refused = batches(no_records.into()).remove(0).validate();
    assert_eq!(refused, Err(LogBatchError::TrailingBytes { position: 0, found: 512 }));
    with_field(40, &5i32.to_le_bytes()).validate().unwrap();
}

#[test]
fn rows_are_framed_without_gap() {
    let rows: Vec<(ChangeType, &[u8])> =
        vec![(ChangeType::Insert, b"one"), (ChangeType::Delete, b""), (ChangeType::AppendOnly, b"three")];
    let good = LogBatchBuilder::rows(SchemaId(2), rows.clone());
    let batch = batches(good.build()).remove(0);
    batch.validate().unwrap();
    batch.validate_rows().unwrap();
    let read: Vec<_> = batch.rows().unwrap().map(|row| row.unwrap()).collect();
    let expected: Vec<_> = rows.into_iter().map(|(change_type, row)| LogRow { change_type, row: Bytes::from(row) }).collect();
    assert_eq!(read, expected);

    let broken = |records: &[u8], record_count| {
        let build = LogBatchBuilder { records: Bytes::copy_from_slice(records), record_count, ..good.clone() };
        batches(build.build()).remove(0).validate_rows().unwrap_err()
    };
    let all = &good.records[..];
    assert_eq!(broken(all, 2), LogBatchError::TrailingBytes { position: 0, found: 10 });
    assert_eq!(broken(all, 4), LogBatchError::RowOutside { position: 0, record: 3, expected: 4, found: 0 });
    assert_eq!(broken(&all[..all.len() - 1], 3), LogBatchError::RowOutside { position: 0, record: 2, expected: 6, found: 5 });
    assert_eq!(broken(&[0, 0, 0, 0, 9], 1), LogBatchError::RowOutside { position: 0, record: 0, expected: 0, found: 1 });
    assert_eq!(broken(&[255, 255, 255, 255, 9], 1), LogBatchError::RowOutside { position: 0, record: 0, expected: -1, found: 1 });
    assert_eq!(broken(&[1, 0, 0, 0, 5], 1), LogBatchError::UnknownChangeType { position: 0, record: 0, found: 5 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A flipped bit is either outside the CRC (the leader's fields) or refused.
    #[test]
    fn one_flipped_bit_is_noticed(which in 0usize..7, bit in any::<prop::sample::Index>()) {
        let records = common::arrow_records().remove(which).1;
        let bit = bit.index(records.len() * 8);
        let mut copy = records.to_vec();
        copy[bit / 8] ^= 1 << (bit % 8);
        let header = LogBatchHeader::read(&records, 0).unwrap();
        let leaders = bit / 8 < 8 || (13..header.magic.crc_at()).contains(&(bit / 8));
        let verdict = LogBatches::new(copy.into()).map(|batch| batch.and_then(|batch| batch.validate())).collect::<Result<Vec<_>, _>>();
        prop_assert_eq!(verdict.is_ok(), leaders);
    }

    /// Cutting anywhere gives the whole batches before the cut, then one error unless the cut is a boundary.
    #[test]
    fn a_cut_is_noticed(cut in any::<prop::sample::Index>()) {
        let mut all = BytesMut::new();
        let mut ends = vec![0];
        for (_, records) in common::arrow_records() {
            all.extend_from_slice(&records);
            ends.push(all.len());
        }
        let cut = cut.index(all.len() + 1);
        let (good, bad): (Vec<_>, Vec<_>) = LogBatches::new(all.freeze().slice(..cut)).partition(Result::is_ok);
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        prop_assert_eq!(good.len(), whole);
        prop_assert_eq!(bad.len(), usize::from(!ends.contains(&cut)));
        if let Some(Err(error)) = bad.first() {
            prop_assert_eq!(error.position(), ends[whole]);
        }
    }

    /// Garbage after any magic gives errors, never a panic.
    #[test]
    fn garbage_never_panics(magic in 0u8..3, length in 0i32..200, tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![0; 13];
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12] = magic;
        bytes.extend_from_slice(&tail);
        for batch in LogBatches::new(bytes.clone().into()).flatten() {
            let _ = batch.validate();
            let _ = batch.validate_change_types();
            let _ = batch.validate_rows();
            let _ = (batch.statistics(), batch.arrow_message());
        }
        let _ = stamp_all(&mut bytes, Stamp { base_offset: LogOffset(i64::MAX), commit_timestamp_ms: 0, leader_epoch: 0 });
    }
}
