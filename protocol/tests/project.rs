//! Columns without decoding: equal to decoding and then choosing, for every type and codec; and hostile messages.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "common/arrow.rs"]
mod arrow;
mod common;

use arrow_ipc::CompressionType;
use bytes::{Bytes, BytesMut};
use common::any_type;
use floss_protocol::log_batch::{ChangeType, LogBatch, LogBatchBuilder, Magic};
use floss_protocol::project::{ArrowLayout, NULL_BYTES_MAX, ProjectError, Projected, ProjectionPlan};
use floss_protocol::schema::{Column, DataType, Schema, TypeKind};
use proptest::prelude::*;
use std::sync::Arc;

fn joined(projected: &Projected) -> LogBatch {
    let mut all = BytesMut::new();
    for piece in &projected.pieces {
        assert!(!piece.is_empty());
        all.extend_from_slice(piece);
    }
    assert_eq!(all.len(), projected.bytes);
    let batch = LogBatch::read(&all.freeze(), 0).unwrap();
    assert_eq!(batch.total_bytes(), projected.bytes);
    batch
}

fn first(records: Bytes) -> LogBatch {
    LogBatch::read(&records, 0).unwrap()
}

fn id_and_name() -> Schema {
    Schema::new(vec![Column::new("id", TypeKind::Int), Column::new("name", TypeKind::String)]).unwrap()
}

fn select(schema: &Schema, fields: &[i32]) -> Arc<arrow_schema::Schema> {
    Arc::new(arrow::arrow_schema(schema).project(&indexes(fields)).unwrap())
}

fn indexes(fields: &[i32]) -> Vec<usize> {
    fields.iter().map(|field| *field as usize).collect()
}

/// A batch that a real client accepted, hand-built with 64-byte padding after the metadata. Ours pads to 8, else all is equal.
#[test]
fn the_projected_batch_that_a_client_accepted() {
    let source = first(common::hex("log_arrow_none.json", "batch_hex"));
    let golden = first(common::hex("fetch_log_projected_batch.json", "served_batch_hex"));
    let plan = ProjectionPlan::new(&id_and_name(), &id_and_name(), &[1]).unwrap();
    let projected = plan.project(&source).unwrap();
    assert_eq!(projected.pieces.len(), 2, "metadata, and one slice for three adjacent buffers");
    let ours = joined(&projected);
    assert_eq!(ours.crc, source.crc, "left as it was");
    let (ours_message, golden_message) = (ours.arrow_message().unwrap(), golden.arrow_message().unwrap());
    let (ours_size, golden_size) = (ours_message[4] as usize, golden_message[4] as usize);
    let (ours_metadata, golden_metadata) = (&ours_message[8..8 + ours_size], &golden_message[8..8 + golden_size]);
    assert_eq!(ours_metadata, &golden_metadata[..ours_size]);
    assert!(golden_metadata[ours_size..].iter().all(|byte| *byte == 0));
    assert_eq!(ours_message[8 + ours_size..], golden_message[8 + golden_size..]);
    assert_eq!(ours.length as usize, golden.length as usize - (golden_size - ours_size));
    assert_eq!(ours.bytes()[..8], golden.bytes()[..8]);
    assert_eq!(ours.bytes()[12..48], golden.bytes()[12..48]);
}

#[test]
fn every_captured_batch_projects_to_its_columns() {
    let schema = id_and_name();
    for (name, records) in common::arrow_records() {
        let source = first(records);
        ArrowLayout::new(&schema).check(&source).unwrap();
        let whole = arrow::decode(&source, arrow::arrow_schema(&schema));
        for fields in [&[0][..], &[1], &[0, 1]] {
            let projected = joined(&ProjectionPlan::new(&schema, &schema, fields).unwrap().project(&source).unwrap());
            assert_eq!((projected.magic, projected.statistics_length), (source.magic, 0), "{name}");
            assert_eq!(projected.leader_epoch, source.leader_epoch, "{name}");
            let decoded = arrow::decode(&projected, select(&schema, fields));
            assert_eq!(decoded, whole.project(&indexes(fields)).unwrap(), "{name}");
        }
    }
}

#[test]
fn change_types_stay_and_empty_batches_pass() {
    let schema = id_and_name();
    let plan = ProjectionPlan::new(&schema, &schema, &[0]).unwrap();
    let records = common::hex("fetch_log_changelog.json", "served_records_hex");
    let changelog = first(records.clone());
    let projected = joined(&plan.project(&changelog).unwrap());
    assert_eq!(projected.change_types().unwrap()[..], [1, 2, 3]);
    assert_eq!(arrow::decode(&projected, select(&schema, &[0])).num_rows(), 3);
    let empty = LogBatch::read(&records, changelog.total_bytes()).unwrap();
    let unchanged = plan.project(&empty).unwrap();
    assert_eq!(unchanged, Projected { pieces: vec![empty.bytes().clone()], bytes: 48 });
}

#[test]
fn columns_that_cannot_be_asked_for() {
    let schema = id_and_name();
    let plan = |fields: &[i32]| ProjectionPlan::new(&schema, &schema, fields).map(|_| ()).unwrap_err();
    assert_eq!(plan(&[]), ProjectError::NoColumns);
    assert_eq!(plan(&[1, 0]), ProjectError::ColumnOrder { previous: 1, found: 0 });
    assert_eq!(plan(&[1, 1]), ProjectError::ColumnOrder { previous: 1, found: 1 });
    assert_eq!(plan(&[2]), ProjectError::ColumnOutside { found: 2, columns: 2 });
    assert_eq!(plan(&[-1]), ProjectError::ColumnOutside { found: -1, columns: 2 });
    assert!(plan(&[2]).is_bad_request());
}

/// A log batch around an Arrow message.
fn batch_of(message: Bytes, record_count: usize, magic: Magic, change_types: bool) -> LogBatch {
    let change_types = if change_types { vec![ChangeType::Insert; record_count] } else { Vec::new() };
    let build = LogBatchBuilder {
        magic,
        append_only: change_types.is_empty(),
        change_types,
        record_count: record_count as i32,
        statistics: Bytes::from_static(b"not looked at"),
        records: message,
        ..LogBatchBuilder::default()
    };
    let batch = first(build.build());
    batch.validate().unwrap();
    batch
}

fn codec() -> impl Strategy<Value = Option<CompressionType>> {
    prop_oneof![Just(None), Just(Some(CompressionType::LZ4_FRAME)), Just(Some(CompressionType::ZSTD))]
}

fn magic() -> impl Strategy<Value = Magic> {
    prop_oneof![Just(Magic::V0), Just(Magic::V1), Just(Magic::V2)]
}

fn chosen(columns: usize, mask: u32) -> Vec<i32> {
    let chosen: Vec<_> = (0..columns as i32).filter(|column| mask >> column & 1 == 1).collect();
    if chosen.is_empty() { vec![(mask as usize % columns) as i32] } else { chosen }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// The oracle: decode everything, then choose.
    #[test]
    fn projecting_is_decoding_and_choosing(
        schema in arrow::any_schema(3), rows in 1usize..40, seed: u64, mask: u32, codec in codec(),
        wide: bool, magic in magic(), changes: bool,
    ) {
        let whole = arrow::record_batch(&schema, rows, seed);
        let message = arrow::encode(&whole, if wide { 64 } else { 8 }, codec);
        let source = batch_of(message, rows, magic, changes);
        ArrowLayout::new(&schema).check(&source).unwrap();
        let fields = chosen(schema.columns().len(), mask);
        let projected = ProjectionPlan::new(&schema, &schema, &fields).unwrap().project(&source).unwrap();
        let target = joined(&projected);
        prop_assert_eq!(target.change_types().unwrap(), source.change_types().unwrap());
        prop_assert_eq!(arrow::decode(&target, select(&schema, &fields)), whole.project(&indexes(&fields)).unwrap());
        ArrowLayout::new(&sub_schema(&schema, &fields)).check(&target).unwrap();
        // Runs of adjacent columns are one slice, unless a column has no bytes at all.
        let runs = fields.windows(2).filter(|two| two[0] + 1 != two[1]).count() + 1;
        prop_assert!(projected.pieces.len() <= runs + 1, "{} pieces for {:?}", projected.pieces.len(), fields);
    }

    /// Columns that the batch does not have yet are null, in every codec.
    #[test]
    fn younger_columns_are_null(
        schema in arrow::any_schema(2), younger in prop::collection::vec(any_type(3), 1..4), rows in 1usize..40, seed: u64, mask: u32, codec in codec(),
    ) {
        let mut table = schema.clone();
        for (index, data_type) in younger.into_iter().enumerate() {
            table = table.with_column(Column::new(format!("y{index}"), DataType { nullable: true, ..data_type })).unwrap();
        }
        let fields = chosen(table.columns().len(), mask);
        let whole = arrow::record_batch(&schema, rows, seed);
        let source = batch_of(arrow::encode(&whole, 8, codec), rows, Magic::V0, false);
        let target = joined(&ProjectionPlan::new(&schema, &table, &fields).unwrap().project(&source).unwrap());
        let decoded = arrow::decode(&target, select(&table, &fields));
        decoded.columns().iter().for_each(|column| column.to_data().validate_full().unwrap());
        for (position, field) in indexes(&fields).into_iter().enumerate() {
            match schema.columns().get(field) {
                Some(_) => prop_assert_eq!(decoded.column(position), whole.column(field)),
                None => prop_assert_eq!(decoded.column(position).null_count(), rows),
            }
        }
    }

    /// Any bytes changed anywhere in the message: an answer no larger than the batch (plus its own metadata) or an error.
    #[test]
    fn hostile_messages_never_panic(
        schema in arrow::any_schema(2), rows in 1usize..20, seed: u64, mask: u32,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), values in prop::collection::vec(any::<(prop::sample::Index, i64)>(), 0..3),
    ) {
        let whole = arrow::record_batch(&schema, rows, seed);
        let mut message = arrow::encode(&whole, 8, None).to_vec();
        let metadata = 8 + u32::from_le_bytes(message[4..8].try_into().unwrap()) as usize;
        for (at, byte) in damage {
            message[at.index(metadata)] = byte;
        }
        for (at, value) in values {
            let at = at.index(metadata / 8) * 8;
            message[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let source = batch_of(message.into(), rows, Magic::V0, false);
        let fields = chosen(schema.columns().len(), mask);
        let checked = ArrowLayout::new(&schema).check(&source);
        match ProjectionPlan::new(&schema, &schema, &fields).unwrap().project(&source) {
            Ok(projected) => {
                prop_assert!(checked.is_ok());
                joined(&projected);
                prop_assert!(projected.bytes <= 2 * source.total_bytes() + 300);
            }
            Err(error) => prop_assert_eq!(checked, Err(error)),
        }
    }

    /// Cut anywhere.
    #[test]
    fn short_messages_are_errors(keep in any::<prop::sample::Index>()) {
        let source = first(common::hex("log_arrow_zstd_big.json", "batch_hex"));
        let message = source.arrow_message().unwrap();
        let source = batch_of(message.slice(..keep.index(message.len())), 3, Magic::V0, false);
        let plan = ProjectionPlan::new(&id_and_name(), &id_and_name(), &[0]).unwrap();
        prop_assert!(plan.project(&source).is_err());
    }
}

fn sub_schema(schema: &Schema, fields: &[i32]) -> Schema {
    let columns = indexes(fields).into_iter().map(|index| schema.columns()[index].clone());
    Schema::new(columns.map(|column| Column::new(column.name, column.data_type)).collect()).unwrap()
}

#[test]
fn a_schema_that_does_not_fit_is_noticed() {
    let source = first(common::hex("log_arrow_none.json", "batch_hex"));
    let other = Schema::new(vec![Column::new("id", TypeKind::Int), Column::new("flag", TypeKind::Boolean)]).unwrap();
    let refused = ProjectionPlan::new(&other, &other, &[0]).unwrap().project(&source).map(|_| ());
    assert_eq!(refused, Err(ProjectError::Count { what: "buffers", expected: 4, found: 5 }));
    assert!(!refused.unwrap_err().is_bad_request());
}

/// Two billion rows in a few bytes must not become gigabytes of nulls.
#[test]
fn nulls_are_bounded() {
    let rows = 3 << 20;
    let schema = Schema::new(vec![Column::new("b", DataType::not_null(TypeKind::Boolean))]).unwrap();
    let source = arrow::record_batch(&schema, rows, 1);
    let source = batch_of(arrow::encode(&source, 8, Some(CompressionType::ZSTD)), rows, Magic::V0, false);
    let with = |kind: TypeKind| {
        let table = schema.with_column(Column::new("y", kind)).unwrap();
        ProjectionPlan::new(&schema, &table, &[1]).unwrap().project(&source)
    };
    assert!(with(TypeKind::Int).is_ok());
    let refused = with(TypeKind::BigInt).unwrap_err();
    assert!(matches!(refused, ProjectError::TooManyNulls { max: NULL_BYTES_MAX, .. }), "{refused}");
}

/// Buffers that share bytes would let a small batch grow in the answer.
#[test]
fn overlapping_buffers_are_refused() {
    let source = common::hex("log_arrow_none.json", "batch_hex");
    // Offset of the last buffer (192) in the metadata, set to that of the one before it (128).
    let at =
        source.windows(16).position(|bytes| bytes[..8] == 192u64.to_le_bytes() && bytes[8..] == 17u64.to_le_bytes()).unwrap();
    let mut copy = source.to_vec();
    copy[at] = 128;
    let refused = ProjectionPlan::new(&id_and_name(), &id_and_name(), &[0]).unwrap().project(&first(copy.into()));
    assert_eq!(refused, Err(ProjectError::BufferOverlap { buffer: 4, offset: 128, previous_end: 144 }));
}
