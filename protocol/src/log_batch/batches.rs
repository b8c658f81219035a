//! Walks over `records`.

use super::batch::LogBatch;
use super::error::LogBatchError;
use bytes::Bytes;

/// The whole batches of `records`, one after the other. After an error it ends: behind a bad length nothing can be found.
#[derive(Clone, Debug)]
pub struct LogBatches {
    records: Bytes,
    position: usize,
}

impl LogBatches {
    pub fn new(records: Bytes) -> Self {
        Self { records, position: 0 }
    }

    /// First byte that is not yet walked over; after an error, where the offending batch starts.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for LogBatches {
    type Item = Result<LogBatch, LogBatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.records.len() {
            return None;
        }
        let batch = LogBatch::read(&self.records, self.position);
        match &batch {
            Ok(batch) => self.position += batch.total_bytes(),
            // Cut off what is left, so that the error is reported once and `position` still names the place.
            Err(_) => self.records.truncate(self.position),
        }
        Some(batch)
    }
}

impl std::iter::FusedIterator for LogBatches {}
