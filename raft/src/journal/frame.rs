//! Bytes of the journal: a file is a header and batches, a batch is a header and frames. Numbers are never reused.
//!
//! ```text
//! file header, 64 bytes, LE             batch header, 40 bytes                  frame header, 40 bytes, then the payload
//! 0  8  "FLOSSJNL"                      0  4  "BTCH"                            0  4  crc32c of file sequence ++ [4..40]
//! 8  4  version = 1                     4  4  crc32c of file sequence ++ [8..]  4  4  payload bytes
//! 12 4  crc32c of [0..12] ++ [16..64]   8  8  batch number                      8  1  kind
//! 16 8  file sequence                   16 8  where it lies in the file         9  1  entry kind
//! 24 40 zero                            24 8  bytes of the frames               10 2  zero
//!                                       32 4  frames                            12 4  crc32c of the payload
//!                                       36 4  zero                              16 8  group
//!                                                                               24 8  term
//!                                                                               32 8  index
//! ```
//!
//! Batches start at multiples of [`ALIGN`]; what lies between is zero. A batch is what one write and one sync made durable: it counts whole
//! or not at all. The file sequence (the generation of a recycled file) goes into every checksum, so what the file held in an
//! earlier life never passes for something new. Header and payload have a checksum each: if only a payload rots, the frame
//! still says whose it is.

use super::JournalEntry;
use crate::types::{GroupId, LogId};
use bytes::{BufMut, Bytes, BytesMut};

pub const FILE_HEADER_BYTES: u64 = 64;
pub const BATCH_HEADER_BYTES: usize = 40;
pub const FRAME_HEADER_BYTES: usize = 40;
pub const ALIGN: u64 = 64;
/// An entry or snapshot above this is refused. Far above any request; it keeps lengths inside 32 bits.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;
const FILE_MAGIC: &[u8; 8] = b"FLOSSJNL";
const BATCH_MAGIC: &[u8; 4] = b"BTCH";
pub const VERSION: u32 = 1;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Payload: the entry's, as handed in.
    Entry = 1,
    /// Payload: the vote, as handed in.
    Vote = 2,
    Committed = 3,
    /// Entries above `index` are gone.
    Truncate = 4,
    /// Raft needs nothing up to `index`.
    Purge = 5,
    /// Readers need nothing below `index`.
    Release = 6,
    /// Payload: postcard of `StoredSnapshot`.
    Snapshot = 7,
    /// As `Snapshot`, and the `Retained` entries before it in the same batch replace the group's log up to the snapshot.
    Install = 8,
    /// Entry that came with an install.
    Retained = 9,
    Drop = 10,
    /// First frame of a file: see `Checkpoint`.
    Checkpoint = 11,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        use Kind::*;
        [Entry, Vote, Committed, Truncate, Purge, Release, Snapshot, Install, Retained, Drop, Checkpoint]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    pub fn is_entry(self) -> bool {
        matches!(self, Kind::Entry | Kind::Retained)
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub entry_kind: u8,
    pub group: GroupId,
    pub id: LogId,
    pub payload: Bytes,
}

/// A frame as found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Whole(Frame),
    /// The header checks, the payload does not: it is that of the frame, with wrong bytes in it.
    Damaged(Frame),
}

impl Frame {
    pub fn new(kind: Kind, group: GroupId, id: LogId, payload: Bytes) -> Self {
        Self { kind, entry_kind: 0, group, id, payload }
    }

    /// `kind` is `Entry` or `Retained`.
    pub fn of_entry(kind: Kind, group: GroupId, entry: JournalEntry) -> Self {
        Self { kind, entry_kind: entry.kind, group, id: entry.id, payload: entry.payload }
    }

    pub fn bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload.len()
    }

    fn header(&self, sequence: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(FRAME_HEADER_BYTES);
        out.put_u32_le(0);
        out.put_u32_le(u32::try_from(self.payload.len()).expect("payloads are bounded where they come in"));
        out.put_u8(self.kind as u8);
        out.put_u8(self.entry_kind);
        out.put_bytes(0, 2);
        out.put_u32_le(crc32c::crc32c(&self.payload));
        out.put_u64_le(self.group.0);
        out.put_u64_le(self.id.term);
        out.put_u64_le(self.id.index);
        let crc = crc_in_file(sequence, &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out.freeze()
    }

    /// The frame at the start of `bytes`; `None` if its header does not check or its payload does not fit.
    pub fn decode(bytes: &Bytes, sequence: u64) -> Option<Found> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        if !same_crc(crc_in_file(sequence, &header[4..]), u32_at(header, 0)) {
            return None;
        }
        let end = FRAME_HEADER_BYTES.checked_add(u32_at(header, 4) as usize)?;
        let payload = bytes.get(FRAME_HEADER_BYTES..end)?;
        let whole = same_crc(crc32c::crc32c(payload), u32_at(header, 12));
        let frame = Frame {
            kind: Kind::from_number(header[8])?,
            entry_kind: header[9],
            group: GroupId(u64_at(header, 16)),
            id: LogId { term: u64_at(header, 24), index: u64_at(header, 32) },
            payload: bytes.slice(FRAME_HEADER_BYTES..end),
        };
        Some(if whole { Found::Whole(frame) } else { Found::Damaged(frame) })
    }
}

fn same_crc(computed: u32, stored: u32) -> bool {
    computed == stored || floss_protocol::mutant!("R09")
}

fn crc_in_file(sequence: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), bytes)
}

/// What the head of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub sequence: u64,
}

/// The first bytes of a file, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    Ours(FileHeader),
    /// Written by another version of this program.
    OtherVersion(u32),
    /// Never written, torn or damaged.
    Unreadable,
}

impl FileHeader {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FILE_HEADER_BYTES as usize);
        out.put_slice(FILE_MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(0);
        out.put_u64_le(self.sequence);
        out.put_bytes(0, 40);
        let crc = Self::crc(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out.freeze()
    }

    fn crc(header: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
    }

    pub fn decode(bytes: &[u8]) -> Head {
        let Some(header) = bytes.get(..FILE_HEADER_BYTES as usize) else { return Head::Unreadable };
        if &header[..8] != FILE_MAGIC || u32_at(header, 12) != Self::crc(header) {
            return Head::Unreadable;
        }
        match u32_at(header, 8) {
            VERSION => Head::Ours(Self { sequence: u64_at(header, 16) }),
            other => Head::OtherVersion(other),
        }
    }
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Grows from batch to batch, over all files.
    pub number: u64,
    pub bytes: u64,
    pub frames: u32,
}

impl BatchHeader {
    fn encode(&self, sequence: u64, position: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(BATCH_HEADER_BYTES);
        out.put_slice(BATCH_MAGIC);
        out.put_u32_le(0);
        out.put_u64_le(self.number);
        out.put_u64_le(position);
        out.put_u64_le(self.bytes);
        out.put_u32_le(self.frames);
        out.put_u32_le(0);
        let crc = crc_in_file(sequence, &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out.freeze()
    }

    /// The header at the start of `bytes`, which lie at `position`: a copy of a batch inside some payload is none.
    pub fn decode(bytes: &[u8], sequence: u64, position: u64) -> Option<Self> {
        let header = bytes.get(..BATCH_HEADER_BYTES)?;
        let whole = &header[..4] == BATCH_MAGIC
            && u32_at(header, 4) == crc_in_file(sequence, &header[8..])
            && u64_at(header, 16) == position;
        whole.then(|| Self { number: u64_at(header, 8), bytes: u64_at(header, 24), frames: u32_at(header, 32) })
    }
}

/// A batch ready to be written: pieces, total length (a multiple of [`ALIGN`]), and where in the file each frame lies.
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

/// Payloads are not copied.
pub fn encode_batch(number: u64, frames: &[Frame], sequence: u64, position: u64) -> EncodedBatch {
    let mut pieces = Vec::with_capacity(frames.len() * 2 + 3);
    let mut positions = Vec::with_capacity(frames.len());
    let body: usize = frames.iter().map(Frame::bytes).sum();
    let header = BatchHeader { number, bytes: body as u64, frames: frames.len() as u32 };
    pieces.push(header.encode(sequence, position));
    let mut end = position + BATCH_HEADER_BYTES as u64;
    for frame in frames {
        positions.push(end);
        pieces.push(frame.header(sequence));
        if !frame.payload.is_empty() {
            pieces.push(frame.payload.clone());
        }
        end += frame.bytes() as u64;
    }
    let bytes = (end - position).next_multiple_of(ALIGN);
    let gap = position + bytes - end;
    if gap > 0 {
        pieces.push(Bytes::from_static(&[0; ALIGN as usize]).slice(..gap as usize));
    }
    EncodedBatch { pieces, bytes, positions }
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

    fn frame() -> Frame {
        let (id, payload) = (LogId { term: 2, index: 9 }, Bytes::from_static(b"abc"));
        Frame { kind: Kind::Entry, entry_kind: 1, group: GroupId(7), id, payload }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_bytes() {
        let header = FileHeader { sequence: 3 };
        assert_eq!(
            hex(&header.encode()),
            "464c4f53534a4e4c01000000a7b9bc98030000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        );
        let batch = encode_batch(5, &[frame()], 3, 64);
        assert_eq!(
            hex(&batch.pieces.concat()),
            "4254434835f2d713050000000000000040000000000000002b000000000000000100000000000000907dfca50300000001010000b73f4b36070000000000000002000000000000000900000000000000616263000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        );
    }

    #[test]
    fn what_was_written_is_read_and_no_flipped_bit_passes() {
        let header = FileHeader { sequence: 3 };
        assert_eq!(FileHeader::decode(&header.encode()), Head::Ours(header));
        let batch = encode_batch(5, &[frame()], 3, 64);
        let bytes: Bytes = batch.pieces.concat().into();
        assert_eq!((bytes.len() as u64, batch.bytes % ALIGN), (batch.bytes, 0));
        assert_eq!(BatchHeader::decode(&bytes, 3, 64), Some(BatchHeader { number: 5, bytes: 43, frames: 1 }));
        assert_eq!(BatchHeader::decode(&bytes, 4, 64), None, "another life of the file");
        assert_eq!(BatchHeader::decode(&bytes, 3, 128), None, "a copy elsewhere");
        let at = bytes.slice(batch.positions[0] as usize - 64..);
        assert_eq!(Frame::decode(&at, 3), Some(Found::Whole(frame())));
        assert_eq!(Frame::decode(&at, 4), None);
        for bit in 0..64 * 8 {
            let mut damaged = header.encode().to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&damaged), Head::Unreadable, "bit {bit}");
        }
        for bit in 0..BATCH_HEADER_BYTES * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&damaged, 3, 64), None, "bit {bit}");
        }
        for bit in 0..frame().bytes() * 8 {
            let mut damaged = at.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match Frame::decode(&damaged.into(), 3) {
                None => assert!(bit < FRAME_HEADER_BYTES * 8, "bit {bit}"),
                Some(Found::Damaged(found)) => {
                    assert!(bit >= FRAME_HEADER_BYTES * 8, "bit {bit}");
                    assert_eq!((found.group, found.id), (frame().group, frame().id));
                }
                Some(Found::Whole(_)) => panic!("bit {bit} was not noticed"),
            }
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let mut newer = FileHeader { sequence: 3 }.encode().to_vec();
        newer[8] = 2;
        let crc = FileHeader::crc(&newer);
        newer[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FileHeader::decode(&newer), Head::OtherVersion(2));
    }
}
