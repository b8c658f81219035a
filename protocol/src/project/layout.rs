//! Which nodes and buffers of an Arrow message belong to which column.

use super::error::ProjectError;
use super::message::ArrowMessage;
use crate::log_batch::LogBatch;
use crate::schema::{DataType, Schema, TypeKind};
use std::ops::Range;

/// Nodes and buffers are listed in the message depth first, parents before children; so each column owns one range of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrowLayout {
    columns: Vec<ColumnExtent>,
    pub(super) nodes: usize,
    pub(super) buffers: usize,
}

/// What one top-level column owns, its children included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnExtent {
    pub nodes: Range<usize>,
    pub buffers: Range<usize>,
}

impl ArrowLayout {
    pub fn new(schema: &Schema) -> Self {
        let (mut nodes, mut buffers) = (0, 0);
        let mut columns = Vec::with_capacity(schema.columns().len());
        for column in schema.columns() {
            let (first_node, first_buffer) = (nodes, buffers);
            count(&column.data_type, &mut nodes, &mut buffers);
            columns.push(ColumnExtent { nodes: first_node..nodes, buffers: first_buffer..buffers });
        }
        Self { columns, nodes, buffers }
    }

    pub(super) fn column(&self, index: usize) -> Option<&ColumnExtent> {
        self.columns.get(index)
    }

    /// Checks that a batch of this schema holds one well-formed Arrow record batch of `record_count` rows, with as many nodes and
    /// buffers as the schema has and all buffers inside the body. Values are not looked at. Empty batches pass.
    ///
    /// For the append path: a batch that fails would stop every reader of the bucket for good.
    pub fn check(&self, batch: &LogBatch) -> Result<(), ProjectError> {
        if batch.record_count == 0 {
            return Ok(());
        }
        ArrowMessage::read(batch, self)?.spans().map(|_| ())
    }
}

/// Adds the nodes and buffers of a value of this type. Validity always has a buffer, though it may be empty.
fn count(data_type: &DataType, nodes: &mut usize, buffers: &mut usize) {
    *nodes += 1;
    match &data_type.kind {
        // validity, values
        TypeKind::Boolean
        | TypeKind::TinyInt
        | TypeKind::SmallInt
        | TypeKind::Int
        | TypeKind::BigInt
        | TypeKind::Float
        | TypeKind::Double
        | TypeKind::Binary(_)
        | TypeKind::Decimal { .. }
        | TypeKind::Date
        | TypeKind::Time(_)
        | TypeKind::Timestamp(_)
        | TypeKind::TimestampLtz(_) => *buffers += 2,
        // validity, offsets, bytes
        TypeKind::Char(_) | TypeKind::String | TypeKind::Bytes => *buffers += 3,
        // validity, offsets
        TypeKind::Array(element) => {
            *buffers += 2;
            count(element, nodes, buffers);
        }
        // validity, offsets; then the entries, a struct of key and value
        TypeKind::Map(key, value) => {
            *buffers += 2;
            *nodes += 1;
            *buffers += 1;
            count(key, nodes, buffers);
            count(value, nodes, buffers);
        }
        // validity
        TypeKind::Row(fields) => {
            *buffers += 1;
            for field in fields {
                count(&field.data_type, nodes, buffers);
            }
        }
    }
}
