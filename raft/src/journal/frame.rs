//! Bytes of the journal: batches of frames. Numbers are never reused.
//!
//! A file starts with a file header; batches follow, each at a multiple of [`ALIGN`].
//!
//! ```text
//! file header, 64 bytes, LE          batch header, 32 bytes          frame, 40 bytes + payload
//! 0  8  "FLOSSJNL"                   0  4  "BTCH"                    0  4  crc32c of sequence ++ [4..]
//! 8  4  version = 1                  4  4  crc32c of sequence ++ [8..32]  4  4  payload bytes
//! 12 4  crc32c of [16..48]           8  8  batch number              8  1  kind
//! 16 8  file sequence                16 8  bytes of the frames       9  1  entry kind
//! 24 8  sequence of the file before  24 4  frames                    10 6  zero
//! 32 8  where that one ends          28 4  zero                      16 8  group
//! 40 8  zero                                                         24 8  term
//! 48 16 zero                                                         32 8  index
//! ```
//!
//! The file sequence goes into every checksum, so what a recycled file held before never passes for something new.

use crate::types::{GroupId, LogId};
use bytes::{BufMut, Bytes, BytesMut};

pub const FILE_HEADER_BYTES: u64 = 64;
pub const BATCH_HEADER_BYTES: usize = 32;
pub const FRAME_HEADER_BYTES: usize = 40;
pub const ALIGN: u64 = 64;
const FILE_MAGIC: &[u8; 8] = b"FLOSSJNL";
const BATCH_MAGIC: &[u8; 4] = b"BTCH";
const VERSION: u32 = 1;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    /// Entries above `index` are gone.
    Truncate = 4,
    Purge = 5,
    Release = 6,
    /// Payload: postcard of `StoredSnapshot`.
    Snapshot = 7,
    /// As `Snapshot`, and the group's log before it is replaced: only entries of this batch up to the snapshot stay.
    Install = 8,
    /// Entry that came with an install; counts once the `Install` behind it is read.
    Retained = 9,
    Drop = 10,
    /// Head of a file: what every group stands at; groups that are not named do not exist. Payload: postcard.
    Checkpoint = 11,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        use Kind::*;
        [Entry, Vote, Committed, Truncate, Purge, Release, Snapshot, Install, Retained, Drop, Checkpoint]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub entry_kind: u8,
    pub group: GroupId,
    pub id: LogId,
    pub payload: Bytes,
}

impl Frame {
    pub fn new(kind: Kind, group: GroupId, id: LogId, payload: Bytes) -> Self {
        Self { kind, entry_kind: 0, group, id, payload }
    }

    pub fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }

    fn header(&self, sequence: u64) -> Bytes {
        let mut rest = BytesMut::with_capacity(FRAME_HEADER_BYTES);
        rest.put_u32_le(0);
        rest.put_u32_le(self.payload.len() as u32);
        rest.put_u8(self.kind as u8);
        rest.put_u8(self.entry_kind);
        rest.put_bytes(0, 6);
        rest.put_u64_le(self.group.0);
        rest.put_u64_le(self.id.term);
        rest.put_u64_le(self.id.index);
        let crc = frame_crc(sequence, &rest[4..], &self.payload);
        rest[..4].copy_from_slice(&crc.to_le_bytes());
        rest.freeze()
    }

    /// The frame at the start of `bytes`; `None` if it is cut short or damaged.
    pub fn decode(bytes: &Bytes, sequence: u64) -> Option<Frame> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        let length = u32_at(header, 4) as usize;
        let payload = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES.checked_add(length)?)?;
        let damaged = frame_crc(sequence, &header[4..], payload) != u32_at(header, 0);
        if damaged && !floss_protocol::mutant!("R09") {
            return None;
        }
        Some(Frame {
            kind: Kind::from_number(header[8])?,
            entry_kind: header[9],
            group: GroupId(u64_at(header, 16)),
            id: LogId { term: u64_at(header, 24), index: u64_at(header, 32) },
            payload: bytes.slice(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length),
        })
    }
}

fn frame_crc(sequence: u64, header: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&sequence.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, header), payload)
}

/// What the head of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub sequence: u64,
    pub previous: u64,
    /// Whatever the file before holds from here on was never acknowledged.
    pub previous_end: u64,
}

impl FileHeader {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FILE_HEADER_BYTES as usize);
        out.put_slice(FILE_MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(0);
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.previous);
        out.put_u64_le(self.previous_end);
        out.put_u64_le(0);
        let crc = crc32c::crc32c(&out[16..48]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out.put_bytes(0, 16);
        out.freeze()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FILE_HEADER_BYTES as usize)?;
        let whole =
            &bytes[..8] == FILE_MAGIC && u32_at(bytes, 8) == VERSION && u32_at(bytes, 12) == crc32c::crc32c(&bytes[16..48]);
        whole.then(|| Self { sequence: u64_at(bytes, 16), previous: u64_at(bytes, 24), previous_end: u64_at(bytes, 32) })
    }
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub number: u64,
    pub bytes: u64,
    pub frames: u32,
}

impl BatchHeader {
    fn encode(&self, sequence: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(BATCH_HEADER_BYTES);
        out.put_slice(BATCH_MAGIC);
        out.put_u32_le(0);
        out.put_u64_le(self.number);
        out.put_u64_le(self.bytes);
        out.put_u32_le(self.frames);
        out.put_u32_le(0);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out.freeze()
    }

    pub fn decode(bytes: &[u8], sequence: u64) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER_BYTES)?;
        let crc = || crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &bytes[8..]);
        let whole = &bytes[..4] == BATCH_MAGIC && u32_at(bytes, 4) == crc();
        whole.then(|| Self { number: u64_at(bytes, 8), bytes: u64_at(bytes, 16), frames: u32_at(bytes, 24) })
    }
}

/// A batch ready to be written: pieces, total length (a multiple of [`ALIGN`]), and where each frame lies from its start.
pub struct EncodedBatch {
    pub pieces: Vec<Bytes>,
    pub bytes: u64,
    pub positions: Vec<u64>,
}

/// Bytes that a batch of these frames takes in a file.
pub fn batch_bytes(frames: &[Frame]) -> u64 {
    let bytes = BATCH_HEADER_BYTES + frames.iter().map(Frame::bytes).sum::<usize>();
    (bytes as u64).next_multiple_of(ALIGN)
}

pub fn encode_batch(number: u64, frames: &[Frame], sequence: u64) -> EncodedBatch {
    let mut pieces = Vec::with_capacity(frames.len() * 2 + 2);
    let mut positions = Vec::with_capacity(frames.len());
    let body: usize = frames.iter().map(Frame::bytes).sum();
    pieces.push(BatchHeader { number, bytes: body as u64, frames: frames.len() as u32 }.encode(sequence));
    let mut position = BATCH_HEADER_BYTES as u64;
    for frame in frames {
        positions.push(position);
        pieces.push(frame.header(sequence));
        if !frame.payload.is_empty() {
            pieces.push(frame.payload.clone());
        }
        position += frame.bytes() as u64;
    }
    let total = position.next_multiple_of(ALIGN);
    if total > position {
        pieces.push(Bytes::from(vec![0; (total - position) as usize]));
    }
    EncodedBatch { pieces, bytes: total, positions }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were cut out"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_frame_and_round_trip() {
        let frame = Frame {
            kind: Kind::Entry,
            entry_kind: 1,
            group: GroupId(7),
            id: LogId { term: 2, index: 9 },
            payload: Bytes::from_static(b"abc"),
        };
        let batch = encode_batch(5, std::slice::from_ref(&frame), 3);
        let bytes: Bytes = batch.pieces.concat().into();
        assert_eq!((bytes.len() as u64, batch.bytes % ALIGN), (batch.bytes, 0));
        assert_eq!(BatchHeader::decode(&bytes, 3), Some(BatchHeader { number: 5, bytes: 43, frames: 1 }));
        assert_eq!(BatchHeader::decode(&bytes, 4), None);
        let at = bytes.slice(batch.positions[0] as usize..);
        assert_eq!(Frame::decode(&at, 3), Some(frame));
        assert_eq!(Frame::decode(&at, 4), None);
        assert_eq!(&at[4..16], [3, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]);
        for bit in 0..43 * 8 {
            let mut damaged = at.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::decode(&damaged.into(), 3), None, "bit {bit}");
        }
    }
}
