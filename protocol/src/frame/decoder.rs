//! Cuts a stream of bytes into frames. Knows no socket.

use super::{FrameError, LENGTH_BYTES};
use crate::limits::READ_CHUNK_BYTES;
use bytes::{Buf, Bytes, BytesMut};
use std::marker::PhantomData;

/// Something that travels with a length in front.
pub trait Frame: Sized {
    /// Least and greatest frame length, both inclusive; the length does not count itself.
    const LENGTH_MIN: usize;
    const LENGTH_MAX: usize;

    /// `content` is what the length counts, whole.
    fn parse(content: Bytes) -> Result<Self, FrameError>;
}

/// Takes bytes in whatever pieces they arrive, gives whole frames.
///
/// Memory follows what arrived, never what a length announces: a peer that says "100 MB" and sends nothing costs one
/// read chunk. The first error is final: every later call returns it again and bytes fed after it are dropped, because
/// behind a bad length nothing says where the next frame begins.
#[derive(Debug)]
pub struct FrameDecoder<F> {
    buffer: BytesMut,
    length_max: usize,
    failed: Option<FrameError>,
    frame: PhantomData<fn() -> F>,
}

impl<F: Frame> Default for FrameDecoder<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Frame> FrameDecoder<F> {
    pub fn new() -> Self {
        Self::with_length_max(F::LENGTH_MAX)
    }

    /// A decoder with a limit below that of the frame type.
    pub fn with_length_max(length_max: usize) -> Self {
        Self { buffer: BytesMut::new(), length_max: length_max.min(F::LENGTH_MAX), failed: None, frame: PhantomData }
    }

    /// Appends a copy of `bytes`.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The buffer with room at its end: read from the socket straight into it, append only. Afterwards call
    /// [`FrameDecoder::next_frame`] until it has no more.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        if self.failed.is_some() {
            self.buffer.clear();
        }
        let held = self.buffer.len();
        // A long frame grows the buffer by doubling, so that it is not copied once per chunk.
        let room = self.missing_bytes().min(held).max(READ_CHUNK_BYTES);
        self.buffer.reserve(room);
        &mut self.buffer
    }

    /// The next whole frame; `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<F>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let next = self.cut();
        if let Err(error) = &next {
            self.failed = Some(error.clone());
            self.buffer = BytesMut::new();
        }
        next
    }

    /// Bytes that arrived and are not part of a returned frame. Not zero at the end of the stream: it was cut inside a frame.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    fn cut(&mut self) -> Result<Option<F>, FrameError> {
        let Some(length) = self.announced_length()? else { return Ok(None) };
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let content = self.buffer.split_to(length).freeze();
        F::parse(content).map(Some)
    }

    /// The length in front of the buffer, checked as soon as its four bytes are there.
    fn announced_length(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let announced = i32::from_be_bytes(*prefix);
        let length = usize::try_from(announced).map_err(|_| FrameError::NegativeLength { length: announced })?;
        super::check_length(length, F::LENGTH_MIN, self.length_max)?;
        Ok(Some(length))
    }

    fn missing_bytes(&self) -> usize {
        match self.announced_length() {
            Ok(Some(length)) => (LENGTH_BYTES + length).saturating_sub(self.buffer.len()),
            Ok(None) | Err(_) => 0,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{RequestFrame, ResponseFrame};
    use super::*;
    use crate::limits::REQUEST_FRAME_BYTES_MAX;

    fn error_of<F: Frame + std::fmt::Debug>(bytes: &[u8]) -> FrameError {
        let mut decoder = FrameDecoder::<F>::new();
        decoder.feed(bytes);
        let first = decoder.next_frame().unwrap_err();
        // A good frame afterwards changes nothing.
        decoder.feed(&[0, 0, 0, 8, 3, 232, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decoder.next_frame().unwrap_err(), first);
        assert_eq!(decoder.buffered_bytes(), 0);
        decoder.read_buffer().extend_from_slice(&[0; 100]);
        assert_eq!(decoder.next_frame().unwrap_err(), first);
        first
    }

    #[test]
    fn bad_lengths_are_final() {
        assert_eq!(error_of::<RequestFrame>(&[0xff, 0xff, 0xff, 0xff]), FrameError::NegativeLength { length: -1 });
        assert_eq!(error_of::<RequestFrame>(&[0, 0, 0, 7]), FrameError::TooShort { length: 7, minimum: 8 });
        let limit = REQUEST_FRAME_BYTES_MAX;
        let too_long = (limit as i32 + 1).to_be_bytes();
        assert_eq!(error_of::<RequestFrame>(&too_long), FrameError::TooLong { length: limit + 1, limit });
        assert_eq!(error_of::<ResponseFrame>(&[0, 0, 0, 0]), FrameError::TooShort { length: 0, minimum: 1 });
        assert_eq!(error_of::<ResponseFrame>(&[0, 0, 0, 4, 0, 0, 0, 0]), FrameError::TooShort { length: 4, minimum: 5 });
        assert_eq!(error_of::<ResponseFrame>(&[0, 0, 0, 1, 3]), FrameError::UnknownResponseType { found: 3 });
    }

    #[test]
    fn the_longest_request_is_not_refused() {
        let mut decoder = FrameDecoder::<RequestFrame>::new();
        decoder.feed(&(REQUEST_FRAME_BYTES_MAX as i32).to_be_bytes());
        assert_eq!(decoder.next_frame(), Ok(None));
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        let mut decoder = FrameDecoder::<RequestFrame>::new();
        decoder.read_buffer().extend_from_slice(&(REQUEST_FRAME_BYTES_MAX as i32).to_be_bytes());
        assert_eq!(decoder.next_frame(), Ok(None));
        let mut arrived = 4;
        for _ in 0..200 {
            let buffer = decoder.read_buffer();
            assert!(buffer.capacity() <= 4 * arrived + 2 * READ_CHUNK_BYTES, "{} for {arrived}", buffer.capacity());
            buffer.extend_from_slice(&[0; 1000]);
            arrived += 1000;
            assert_eq!(decoder.next_frame(), Ok(None));
        }
    }

    #[test]
    fn a_server_failure_has_no_request_id() {
        let mut decoder = FrameDecoder::<ResponseFrame>::new();
        decoder.feed(&[0, 0, 0, 3, 2, 8, 12]);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(frame, ResponseFrame::ServerFailure { body: Bytes::from_static(&[8, 12]) });
        assert_eq!(frame.to_bytes().unwrap(), &[0, 0, 0, 3, 2, 8, 12][..]);
    }
}
