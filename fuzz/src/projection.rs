//! Columns out of batches.

use crate::batch::sealed;
use crate::script::Script;
use bytes::Bytes;
use floss_protocol::log_batch::LogBatch;
use floss_protocol::project::{ArrowLayout, NULL_BYTES_MAX, ProjectionPlan};
use floss_protocol::schema::{Column, DataType, Schema, TypeKind};

/// The new metadata may be larger than the old by this much per column: vectors, offsets, alignment.
const METADATA_BYTES_MAX: usize = 1024;

fn column(name: &str, kind: TypeKind) -> Column {
    Column::new(name, DataType::from(kind))
}

/// What the corpus holds batches of, and something nested.
fn schema(choice: u8) -> Schema {
    let columns = match choice % 3 {
        0 => vec![column("id", TypeKind::Int), column("name", TypeKind::String)],
        1 => vec![column("id", TypeKind::BigInt)],
        _ => vec![
            column("id", TypeKind::Int),
            column("tags", TypeKind::Array(Box::new(TypeKind::String.into()))),
            column("props", TypeKind::Map(Box::new(TypeKind::String.into()), Box::new(TypeKind::Int.into()))),
            column("flag", TypeKind::Boolean),
        ],
    };
    Schema::new(columns).expect("distinct names")
}

/// The schema after two columns were added.
fn evolved(schema: &Schema) -> Schema {
    let added = [column("late_text", TypeKind::String), column("late_list", TypeKind::Array(Box::new(TypeKind::Int.into())))];
    added.into_iter().fold(schema.clone(), |schema, column| schema.with_column(column).expect("a new name"))
}

/// Input: which schema (1 byte), which columns (1 byte, one bit each), a batch.
///
/// A batch that the append path accepts can be projected to any columns (unless absent columns would cost too many null bytes);
/// the result is a batch of the wanted columns that the append path would accept again, not larger than the input by
/// more than metadata and nulls; projecting it to all of its columns gives the same bytes.
pub fn check_projection(input: &[u8]) {
    let mut script = Script::new(input);
    let batch_schema = schema(script.byte());
    let table_schema = evolved(&batch_schema);
    let mask = script.byte();
    let Ok(batch) = LogBatch::read(&Bytes::copy_from_slice(script.rest()), 0) else { return };
    let batch = sealed(&batch);
    let fields: Vec<i32> = (0..table_schema.columns().len() as i32).filter(|field| mask >> field & 1 == 1).collect();
    let Ok(plan) = ProjectionPlan::new(&batch_schema, &table_schema, &fields) else {
        assert!(fields.is_empty(), "ascending columns of the table are refused");
        return;
    };
    let is_accepted = batch.validate().is_ok() && ArrowLayout::new(&batch_schema).check(&batch).is_ok();
    let has_new_columns = fields.iter().any(|field| *field as usize >= batch_schema.columns().len());
    match plan.project(&batch) {
        Ok(projected) => {
            let bytes = Bytes::from(projected.pieces.concat());
            assert_eq!(bytes.len(), projected.bytes);
            let limit = batch.total_bytes() + METADATA_BYTES_MAX + NULL_BYTES_MAX as usize;
            assert!(bytes.len() <= limit, "{} bytes out of {}", bytes.len(), batch.total_bytes());
            check_projected(&batch, &bytes, &table_schema, &fields);
        }
        Err(error) => {
            assert!(!is_accepted || has_new_columns, "appended, and now unreadable: {error}");
            assert!(!error.is_bad_request(), "{error}");
        }
    }
}

fn check_projected(batch: &LogBatch, bytes: &Bytes, table_schema: &Schema, fields: &[i32]) {
    let projected = LogBatch::read(bytes, 0).expect("a projected batch is a batch");
    assert_eq!(projected.total_bytes(), bytes.len());
    assert_eq!(projected.record_count, batch.record_count);
    assert_eq!((projected.base_offset, projected.end_offset()), (batch.base_offset, batch.end_offset()));
    assert_eq!((projected.writer(), projected.schema_id), (batch.writer(), batch.schema_id));
    if batch.record_count <= 0 {
        return;
    }
    let columns = fields.iter().map(|field| table_schema.columns()[*field as usize].clone()).collect();
    // Field ids of nested fields are those of the table; only the shape matters here.
    let Ok(schema) = Schema::new(columns) else { return };
    assert_eq!(ArrowLayout::new(&schema).check(&projected), Ok(()));
    let all: Vec<i32> = (0..fields.len() as i32).collect();
    let plan = ProjectionPlan::new(&schema, &schema, &all).expect("all columns in order");
    let again = plan.project(&projected).expect("a projected batch can be projected");
    assert_eq!(again.pieces.concat(), *bytes);
}
