//! Bytes of a socket -> request frames.

use crate::limits::{FRAME_BYTES_MAX, READ_CHUNK_BYTES};
use bytes::{Buf, Bytes, BytesMut};
use floss_raft::env::runtime::io::{self, AsyncRead, AsyncReadExt};

/// One request as it came.
///
/// ```text
/// 0  4  bytes that follow, i32 BE
/// 4  2  api key, i16 BE
/// 6  2  version, i16 BE
/// 8  4  request id, i32 BE
/// 12 .. body
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestFrame {
    pub api_key: i16,
    pub version: i16,
    pub request_id: i32,
    pub body: Bytes,
}

const LENGTH_BYTES: usize = 4;
const HEADER_BYTES: usize = 8;

/// Why a connection is given up: after such bytes there is no frame boundary to go on from.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {found} bytes, expected {HEADER_BYTES}..={FRAME_BYTES_MAX}")]
pub(crate) struct BadFrame {
    pub found: i32,
}

/// Cuts a stream of bytes into frames; bodies share the read buffer.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// The next whole frame in the buffer, if there is one.
    pub fn next_buffered(&mut self) -> Result<Option<RequestFrame>, BadFrame> {
        let Some(mut length) = self.buffer.get(..LENGTH_BYTES) else {
            return Ok(None);
        };
        let found = length.get_i32();
        let frame_bytes = usize::try_from(found).map_err(|_| BadFrame { found })?;
        if !(HEADER_BYTES..=FRAME_BYTES_MAX).contains(&frame_bytes) {
            return Err(BadFrame { found });
        }
        let missing = (LENGTH_BYTES + frame_bytes).saturating_sub(self.buffer.len());
        if missing > 0 {
            // Room for the rest at once: large frames are not copied while they grow.
            self.buffer.reserve(missing);
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let mut frame = self.buffer.split_to(frame_bytes);
        let api_key = frame.get_i16();
        let version = frame.get_i16();
        let request_id = frame.get_i32();
        Ok(Some(RequestFrame { api_key, version, request_id, body: frame.freeze() }))
    }

    /// Reads once from the socket. False at its end.
    pub async fn fill(&mut self, socket: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        if self.buffer.capacity() - self.buffer.len() < READ_CHUNK_BYTES / 8 {
            self.buffer.reserve(READ_CHUNK_BYTES);
        }
        Ok(socket.read_buf(&mut self.buffer).await? > 0)
    }

    #[cfg(test)]
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(key: i16, id: i32, body: &[u8]) -> Vec<u8> {
        let mut out = (8 + body.len() as i32).to_be_bytes().to_vec();
        out.extend(key.to_be_bytes());
        out.extend(0i16.to_be_bytes());
        out.extend(id.to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let bytes = [frame(1000, 0, b"abc"), frame(1012, 7, b"")].concat();
        for cut in 0..bytes.len() {
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                reader.push(part);
                while let Some(frame) = reader.next_buffered().expect("well formed") {
                    seen.push((frame.api_key, frame.request_id, frame.body.to_vec()));
                }
            }
            assert_eq!(seen, vec![(1000, 0, b"abc".to_vec()), (1012, 7, vec![])], "cut at {cut}");
        }
    }

    #[test]
    fn lengths_out_of_bounds_end_the_connection() {
        for found in [-1, 0, 7, FRAME_BYTES_MAX as i32 + 1, i32::MAX, i32::MIN] {
            let mut reader = FrameReader::default();
            reader.push(&found.to_be_bytes());
            assert_eq!(reader.next_buffered(), Err(BadFrame { found }));
        }
    }
}
