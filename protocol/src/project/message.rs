//! The Arrow message of a log batch, read as what it is: hostile.

use super::error::ProjectError;
use super::layout::ArrowLayout;
use crate::log_batch::LogBatch;
use arrow_ipc::{Buffer, CompressionType, FieldNode, MetadataVersion, root_as_message};
use flatbuffers::Vector;
use std::ops::Range;

const CONTINUATION: u32 = 0xffff_ffff;
/// Continuation and metadata size.
pub(super) const PREFIX_BYTES: usize = 8;
/// Writers pad buffers to 8 or to 64 bytes. A larger gap is not padding and is not copied.
const PADDING_BYTES_MAX: usize = 63;

/// A record batch message with as many nodes and buffers as the layout has.
pub(super) struct ArrowMessage<'a> {
    pub nodes: Vector<'a, FieldNode>,
    buffers: Vector<'a, Buffer>,
    pub rows: i64,
    pub codec: Option<CompressionType>,
    /// Where the body lies in the batch's bytes.
    body: Range<usize>,
}

/// One buffer: what the metadata says it holds, and what to copy for it.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Bytes without padding.
    pub length: usize,
    /// In the batch's bytes, padding included.
    pub range: Range<usize>,
}

impl<'a> ArrowMessage<'a> {
    /// Errors: all of them but those about the wanted columns and about nulls.
    pub fn read(batch: &'a LogBatch, layout: &ArrowLayout) -> Result<Self, ProjectError> {
        let within = batch.arrow_range(batch.position())?;
        let message = &batch.bytes()[within.clone()];
        let metadata = metadata_range(message)?;
        let body_from = metadata.start + (metadata.end - metadata.start).next_multiple_of(8);
        let parsed = root_as_message(&message[metadata]).map_err(|error| ProjectError::Metadata { reason: error.to_string() })?;
        let record_batch = match (parsed.version(), parsed.header_as_record_batch()) {
            (MetadataVersion::V4 | MetadataVersion::V5, Some(record_batch)) => record_batch,
            (version, Some(_)) => return Err(ProjectError::Metadata { reason: format!("version {}", version.0) }),
            (_, None) => return Err(ProjectError::NotRecordBatch { found: parsed.header_type().0 }),
        };
        let body_bytes = usize::try_from(parsed.bodyLength()).unwrap_or(usize::MAX);
        let found = message.len().saturating_sub(body_from);
        if body_bytes > found {
            return Err(ProjectError::ShortMessage { expected: body_bytes, found });
        }
        let variadic = record_batch.variadicBufferCounts().map_or(0, |counts| counts.len());
        expect_count("variadic buffer counts", 0, variadic)?;
        let nodes = record_batch.nodes().ok_or(ProjectError::Count { what: "nodes", expected: layout.nodes, found: 0 })?;
        let buffers =
            record_batch.buffers().ok_or(ProjectError::Count { what: "buffers", expected: layout.buffers, found: 0 })?;
        expect_count("nodes", layout.nodes, nodes.len())?;
        expect_count("buffers", layout.buffers, buffers.len())?;
        let (expected, found) = (i64::from(batch.record_count), record_batch.length());
        if found != expected {
            return Err(ProjectError::Length { expected, found });
        }
        let body = within.start + body_from..within.start + body_from + body_bytes;
        Ok(Self { nodes, buffers, rows: found, codec: record_batch.compression().map(|entry| entry.codec()), body })
    }

    /// Every buffer, checked: inside the body, and behind the one before it. So no byte of the body is sent twice, and the
    /// answer cannot be larger than the batch. Empty buffers may claim to be anywhere.
    ///
    /// Errors: `BufferOutside`, `BufferOverlap`.
    pub fn spans(&self) -> Result<Vec<Span>, ProjectError> {
        let body_bytes = self.body.len();
        let mut spans: Vec<Span> = Vec::with_capacity(self.buffers.len());
        let mut last: Option<usize> = None;
        let mut end = 0;
        for (index, buffer) in self.buffers.iter().enumerate() {
            let outside =
                || ProjectError::BufferOutside { buffer: index, offset: buffer.offset(), length: buffer.length(), body_bytes };
            let length = usize::try_from(buffer.length()).map_err(|_| outside())?;
            if length == 0 {
                spans.push(Span { length, range: self.body.start..self.body.start });
                continue;
            }
            let offset = usize::try_from(buffer.offset()).map_err(|_| outside())?;
            if offset > body_bytes || length > body_bytes - offset {
                return Err(outside());
            }
            if offset < end {
                return Err(ProjectError::BufferOverlap { buffer: index, offset, previous_end: end });
            }
            if let Some(last) = last {
                self.take_padding(&mut spans[last], offset);
            }
            end = offset + length;
            last = Some(index);
            spans.push(Span { length, range: self.body.start + offset..self.body.start + end });
        }
        if let Some(last) = last {
            self.take_padding(&mut spans[last], body_bytes);
        }
        Ok(spans)
    }

    /// Extends a span up to `next`, where the next buffer or the end of the body is, if what lies between is padding.
    fn take_padding(&self, span: &mut Span, next: usize) {
        let next = self.body.start + next;
        if next - span.range.end <= PADDING_BYTES_MAX {
            span.range.end = next;
        }
    }
}

/// Where the flatbuffer lies in `message`.
fn metadata_range(message: &[u8]) -> Result<Range<usize>, ProjectError> {
    let short = |expected| ProjectError::ShortMessage { expected, found: message.len() };
    let prefix = message.first_chunk::<PREFIX_BYTES>().ok_or_else(|| short(PREFIX_BYTES))?;
    let [c0, c1, c2, c3, s0, s1, s2, s3] = *prefix;
    let found = u32::from_le_bytes([c0, c1, c2, c3]);
    if found != CONTINUATION {
        return Err(ProjectError::NoContinuation { found });
    }
    let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
    let expected = PREFIX_BYTES + size;
    if expected > message.len() {
        return Err(short(expected));
    }
    Ok(PREFIX_BYTES..expected)
}

fn expect_count(what: &'static str, expected: usize, found: usize) -> Result<(), ProjectError> {
    if found == expected { Ok(()) } else { Err(ProjectError::Count { what, expected, found }) }
}
