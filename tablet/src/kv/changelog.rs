//! The one batch that a put becomes: rows with their change types, in the table's log format.

use super::arrow;
use super::row::{self, Row};
use super::table::{KvSchema, KvTable};
use crate::error::TabletError;
use bytes::Bytes;
use floss_protocol::ids::SchemaId;
use floss_protocol::log_batch::{ChangeType, LogBatch, LogBatchBuilder, NO_BATCH_SEQUENCE, NO_WRITER_ID};
use floss_protocol::row::Value;
use floss_protocol::schema::{KvFormat, LogFormat};

/// One record of a changelog.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub change_type: ChangeType,
    /// In the schema of the batch.
    pub row: Row,
}

/// The batch of `changes` in the latest schema; without changes an empty one, which takes one offset so that the sequence advances.
///
/// Errors: `InvalidRow` if a value has no form in the log (only CHAR beyond its length can be that).
pub(super) fn build(table: &KvTable, changes: &[Change], writer: Option<(i64, i32)>) -> Result<Bytes, TabletError> {
    let (writer_id, batch_sequence) = writer.unwrap_or((NO_WRITER_ID, NO_BATCH_SEQUENCE));
    let schema_id = table.latest_schema_id();
    if changes.is_empty() {
        return Ok(LogBatchBuilder::empty(schema_id, writer_id, batch_sequence).build());
    }
    let schema = table.newest();
    let invalid = |reason: String| TabletError::InvalidRow { record: 0, reason };
    let builder = match row_format(table.log_format) {
        None => {
            let rows: Vec<&Row> = changes.iter().map(|change| &change.row).collect();
            let message = arrow::encode(&rows, &schema.types, &schema.arrow, table.compression);
            LogBatchBuilder {
                record_count: changes.len() as i32,
                change_types: changes.iter().map(|change| change.change_type).collect(),
                records: message.map_err(|error| invalid(error.to_string()))?,
                schema_id,
                ..LogBatchBuilder::default()
            }
        }
        Some(format) => {
            let rows = changes.iter().map(|change| row::encode(format, &change.row, &schema.types));
            let rows = rows.collect::<Result<Vec<_>, _>>().map_err(|error| invalid(error.to_string()))?;
            LogBatchBuilder::rows(schema_id, changes.iter().map(|change| change.change_type).zip(rows.iter().map(Vec::as_slice)))
        }
    };
    Ok(LogBatchBuilder { writer_id, batch_sequence, ..builder }.build())
}

fn row_format(log_format: LogFormat) -> Option<KvFormat> {
    match log_format {
        LogFormat::Arrow => None,
        LogFormat::Compacted => Some(KvFormat::Compacted),
        LogFormat::Indexed => Some(KvFormat::Indexed),
    }
}

/// The records of a changelog batch for which `wanted` says yes, in order.
///
/// Errors: `UnknownSchema` if this table does not know the batch's schema (yet), `CorruptBatch`.
pub fn read_changes(table: &KvTable, batch: &LogBatch, wanted: impl Fn(ChangeType) -> bool) -> Result<Vec<Change>, TabletError> {
    let SchemaId(found) = batch.schema_id;
    let unknown = TabletError::UnknownSchema { found, latest: table.latest_schema_id().0 };
    let schema = table.schema(batch.schema_id).ok_or(unknown)?;
    if batch.record_count == 0 {
        return Ok(Vec::new());
    }
    match row_format(table.log_format) {
        None => read_arrow(schema, batch, wanted),
        Some(format) => read_rows(format, schema, batch, wanted),
    }
}

fn corrupt(reason: impl ToString) -> TabletError {
    TabletError::CorruptBatch { position: 0, reason: reason.to_string() }
}

fn read_arrow(schema: &KvSchema, batch: &LogBatch, wanted: impl Fn(ChangeType) -> bool) -> Result<Vec<Change>, TabletError> {
    let bytes = batch.change_types().map_err(corrupt)?;
    let mut change_types = Vec::with_capacity(bytes.len());
    let mut numbers = Vec::with_capacity(bytes.len());
    for (number, byte) in bytes.iter().enumerate() {
        let change_type = ChangeType::from_byte(*byte).ok_or_else(|| corrupt(format!("change type {byte}")))?;
        if wanted(change_type) {
            change_types.push(change_type);
            numbers.push(number);
        }
    }
    let message = batch.arrow_message().map_err(corrupt)?;
    let rows = arrow::decode(&message, &schema.types, &schema.arrow, &numbers).map_err(corrupt)?;
    Ok(change_types.into_iter().zip(rows).map(|(change_type, row)| Change { change_type, row }).collect())
}

fn read_rows(
    format: KvFormat,
    schema: &KvSchema,
    batch: &LogBatch,
    wanted: impl Fn(ChangeType) -> bool,
) -> Result<Vec<Change>, TabletError> {
    let mut changes = Vec::new();
    for framed in batch.rows().map_err(corrupt)? {
        let framed = framed.map_err(corrupt)?;
        if wanted(framed.change_type) {
            let row: Vec<Value> = row::decode(format, &framed.row, &schema.types).map_err(corrupt)?;
            changes.push(Change { change_type: framed.change_type, row });
        }
    }
    Ok(changes)
}
