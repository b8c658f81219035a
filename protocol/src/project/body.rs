//! Gathers the body of a projected message: slices of the old one, and zeros.

use bytes::Bytes;
use std::ops::Range;

/// Slices of it stand for zeros of any length, so that nulls and padding allocate nothing.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// "The bytes after this are not compressed", in front of a buffer in a compressed body.
static NOT_COMPRESSED: [u8; 8] = [0xff; 8];

/// Pieces of a body in the making. Adjacent slices of the batch become one piece.
pub(super) struct BodyPieces<'a> {
    batch: &'a Bytes,
    pieces: Vec<Bytes>,
    /// The slice that the next one may continue.
    pending: Range<usize>,
    bytes: usize,
}

impl<'a> BodyPieces<'a> {
    pub fn new(batch: &'a Bytes) -> Self {
        Self { batch, pieces: Vec::new(), pending: 0..0, bytes: 0 }
    }

    /// Bytes so far: where the next buffer starts.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a range of the batch.
    pub fn copy(&mut self, range: Range<usize>) {
        self.bytes += range.len();
        if self.pending.end == range.start {
            self.pending.end = range.end;
        } else {
            self.flush();
            self.pending = range;
        }
    }

    /// Appends zeros.
    pub fn zeros(&mut self, mut bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.flush();
        self.bytes += bytes;
        while bytes > 0 {
            let piece = bytes.min(ZEROS.len());
            self.pieces.push(Bytes::from_static(&ZEROS[..piece]));
            bytes -= piece;
        }
    }

    /// Appends the mark of a buffer that is not compressed although the body is.
    pub fn not_compressed(&mut self) {
        self.flush();
        self.bytes += NOT_COMPRESSED.len();
        self.pieces.push(Bytes::from_static(&NOT_COMPRESSED));
    }

    /// Zeros up to a multiple of 8: every buffer starts at one.
    pub fn pad(&mut self) {
        self.zeros(self.bytes.next_multiple_of(8) - self.bytes);
    }

    pub fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.pieces
    }

    fn flush(&mut self) {
        let range = std::mem::replace(&mut self.pending, 0..0);
        if !range.is_empty() {
            self.pieces.push(self.batch.slice(range));
        }
    }
}
