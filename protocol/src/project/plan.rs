//! Which columns to take, worked out once; and taking them.

use super::body::BodyPieces;
use super::error::ProjectError;
use super::layout::{ArrowLayout, ColumnExtent};
use super::message::{ArrowMessage, PREFIX_BYTES, Span};
use super::nulls::{NULL_BYTES_MAX, NullColumn};
use crate::log_batch::{LENGTH_END, LogBatch, LogBatchHeader};
use crate::schema::Schema;
use arrow_ipc::{
    BodyCompressionBuilder, BodyCompressionMethod, Buffer, FieldNode, MessageBuilder, MessageHeader, MetadataVersion,
    RecordBatchBuilder,
};
use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;

/// The wanted columns of batches of one schema.
#[derive(Clone, Debug)]
pub struct ProjectionPlan {
    layout: ArrowLayout,
    columns: Vec<Source>,
    /// Of the new message.
    nodes: usize,
    buffers: usize,
}

#[derive(Clone, Debug)]
enum Source {
    /// In the batch.
    Present(ColumnExtent),
    /// Newer than the batch's schema.
    Null(NullColumn),
}

/// A projected batch: its bytes, in pieces to be sent one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projected {
    pub pieces: Vec<Bytes>,
    /// Of all pieces.
    pub bytes: usize,
}

impl ProjectionPlan {
    /// `batch_schema` is the schema that the batches name in their header, `table_schema` the one that `fields` are
    /// indexes into. Columns are only ever appended, so an index means the same column in both.
    ///
    /// Errors: `NoColumns`, `ColumnOrder`, `ColumnOutside`.
    pub fn new(batch_schema: &Schema, table_schema: &Schema, fields: &[i32]) -> Result<Self, ProjectError> {
        let mut previous = None;
        let mut columns = Vec::with_capacity(fields.len().min(table_schema.columns().len()));
        let layout = ArrowLayout::new(batch_schema);
        let (mut nodes, mut buffers) = (0, 0);
        for &found in fields {
            if let Some(previous) = previous.filter(|previous| *previous >= found) {
                return Err(ProjectError::ColumnOrder { previous, found });
            }
            previous = Some(found);
            let outside = ProjectError::ColumnOutside { found, columns: table_schema.columns().len() };
            let index = usize::try_from(found).map_err(|_| outside.clone())?;
            let source = match (layout.column(index), table_schema.columns().get(index)) {
                (_, None) => return Err(outside),
                (Some(extent), Some(_)) => Source::Present(extent.clone()),
                (None, Some(column)) => Source::Null(NullColumn::new(&column.data_type)),
            };
            let (own_nodes, own_buffers) = source.counts();
            nodes += own_nodes;
            buffers += own_buffers;
            columns.push(source);
        }
        if columns.is_empty() {
            return Err(ProjectError::NoColumns);
        }
        Ok(Self { layout, columns, nodes, buffers })
    }

    /// The batch with the wanted columns only; see the module for what it looks like.
    ///
    /// Shape: a batch of the plan's schema, of log format ARROW. Work: proportional to the number of columns; of the body
    /// nothing is read.
    /// Errors: all but those of [`ProjectionPlan::new`]: the batch is malformed, or `TooManyNulls`.
    pub fn project(&self, batch: &LogBatch) -> Result<Projected, ProjectError> {
        if batch.record_count == 0 {
            return Ok(Projected { pieces: vec![batch.bytes().clone()], bytes: batch.total_bytes() });
        }
        let message = ArrowMessage::read(batch, &self.layout)?;
        let spans = message.spans()?;
        let mut parts = Parts {
            nodes: Vec::with_capacity(self.nodes),
            buffers: Vec::with_capacity(self.buffers),
            body: BodyPieces::new(batch.bytes()),
            null_bytes: 0,
        };
        for source in &self.columns {
            match source {
                Source::Present(extent) => parts.take(&message, &spans, extent),
                Source::Null(column) => parts.add_nulls(&message, column)?,
            }
        }
        let body_bytes = parts.body.bytes();
        let head = head(batch, &message, &parts, body_bytes)?;
        let bytes = head.len() + body_bytes;
        let mut pieces = vec![head];
        pieces.append(&mut parts.body.finish());
        Ok(Projected { pieces, bytes })
    }
}

impl Source {
    /// Nodes and buffers.
    fn counts(&self) -> (usize, usize) {
        match self {
            Self::Present(extent) => (extent.nodes.len(), extent.buffers.len()),
            Self::Null(column) => (column.nodes.len(), column.buffers.len()),
        }
    }
}

/// The new message in the making.
struct Parts<'a> {
    nodes: Vec<FieldNode>,
    buffers: Vec<Buffer>,
    body: BodyPieces<'a>,
    null_bytes: u64,
}

impl Parts<'_> {
    fn take(&mut self, message: &ArrowMessage, spans: &[Span], extent: &ColumnExtent) {
        self.nodes.extend(extent.nodes.clone().map(|index| *message.nodes.get(index)));
        for span in &spans[extent.buffers.clone()] {
            self.buffers.push(Buffer::new(self.body.bytes() as i64, span.length as i64));
            if span.length > 0 {
                self.body.copy(span.range.clone());
                self.body.pad();
            }
        }
    }

    fn add_nulls(&mut self, message: &ArrowMessage, column: &NullColumn) -> Result<(), ProjectError> {
        self.nodes.extend(column.nodes.iter().map(|node| {
            let (length, null_count) = node.counts(message.rows);
            FieldNode::new(length, null_count)
        }));
        for buffer in &column.buffers {
            let at = self.body.bytes() as i64;
            let zeros = buffer.bytes(message.rows.unsigned_abs());
            self.null_bytes += zeros;
            if self.null_bytes > NULL_BYTES_MAX {
                return Err(ProjectError::TooManyNulls { found: self.null_bytes, max: NULL_BYTES_MAX });
            }
            if zeros > 0 && message.codec.is_some() {
                self.body.not_compressed();
            }
            self.body.zeros(zeros as usize);
            self.buffers.push(Buffer::new(at, self.body.bytes() as i64 - at));
            self.body.pad();
        }
        Ok(())
    }
}

/// Everything in front of the body: batch header, change types, Arrow prefix and metadata.
fn head(batch: &LogBatch, message: &ArrowMessage, parts: &Parts, body_bytes: usize) -> Result<Bytes, ProjectError> {
    let metadata = metadata(message, parts, body_bytes);
    let metadata = metadata.finished_data();
    let padded = metadata.len().next_multiple_of(8);
    let change_types = batch.change_types_range(batch.position())?;
    let head_bytes = batch.header_bytes() + change_types.len() + PREFIX_BYTES + padded;
    let found = head_bytes + body_bytes;
    let length = i32::try_from(found - LENGTH_END).map_err(|_| ProjectError::TooLarge { found, max: i32::MAX as usize })?;
    let mut head = Vec::with_capacity(head_bytes);
    LogBatchHeader { length, statistics_length: 0, ..*batch.header() }.write(&mut head);
    head.extend_from_slice(&batch.bytes()[change_types]);
    head.extend_from_slice(&[0xff; 4]);
    head.extend_from_slice(&(padded as u32).to_le_bytes());
    head.extend_from_slice(metadata);
    head.resize(head_bytes, 0);
    Ok(head.into())
}

/// The flatbuffer, laid out as the Rust and Java writers do.
fn metadata<'a>(message: &ArrowMessage, parts: &Parts, body_bytes: usize) -> FlatBufferBuilder<'a> {
    let mut builder = FlatBufferBuilder::with_capacity(192 + 16 * (parts.nodes.len() + parts.buffers.len()));
    let compression = message.codec.map(|codec| {
        let mut entry = BodyCompressionBuilder::new(&mut builder);
        entry.add_method(BodyCompressionMethod::BUFFER);
        entry.add_codec(codec);
        entry.finish()
    });
    let buffers = builder.create_vector(&parts.buffers);
    let nodes = builder.create_vector(&parts.nodes);
    let mut record_batch = RecordBatchBuilder::new(&mut builder);
    record_batch.add_length(message.rows);
    record_batch.add_nodes(nodes);
    record_batch.add_buffers(buffers);
    if let Some(compression) = compression {
        record_batch.add_compression(compression);
    }
    let record_batch = record_batch.finish();
    let mut root = MessageBuilder::new(&mut builder);
    root.add_version(MetadataVersion::V5);
    root.add_header_type(MessageHeader::RecordBatch);
    root.add_bodyLength(body_bytes as i64);
    root.add_header(record_batch.as_union_value());
    let root = root.finish();
    builder.finish(root, None);
    builder
}
