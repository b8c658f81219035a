//! From files to an index. What to do with bytes that do not check is a truth table.

use super::frame::{ALIGN, BATCH_HEADER_BYTES, BatchHeader, FILE_HEADER_BYTES, FileHeader, Frame};
use super::index::Index;
use crate::env::disk::{Disk, DiskFile};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What is known about a place in a file where no whole batch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The file after this one says that this one ends here or before.
    pub past_known_end: bool,
    /// The file after this one says that this one goes on.
    pub before_known_end: bool,
    /// A whole batch starts further on in this file; writes are synced one by one, so this place was synced before it.
    pub later_batch: bool,
    /// Every byte from here on is zero.
    pub all_zero: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing was written from here on.
    CleanEnd,
    /// A write that was never synced, so never acknowledged: forget it.
    CutTail,
    /// Something that was synced is damaged: refuse.
    Corrupt,
}

/// The truth table. Rows are tried from the top.
pub fn decide(evidence: Evidence) -> Decision {
    match evidence {
        Evidence { past_known_end: true, .. } => Decision::CleanEnd,
        Evidence { before_known_end: true, .. } | Evidence { later_batch: true, .. } => {
            if mutant!("R10") {
                Decision::CutTail
            } else {
                Decision::Corrupt
            }
        }
        Evidence { all_zero: true, .. } => Decision::CleanEnd,
        Evidence { .. } => Decision::CutTail,
    }
}

/// What recovery leaves behind for the writer.
pub struct Recovered {
    pub index: Index,
    pub files: BTreeMap<u64, Arc<dyn DiskFile>>,
    pub last_sequence: u64,
    /// Where the newest file's last whole batch ends.
    pub last_end: u64,
    pub next_batch: u64,
    /// Files that hold nothing of ours: spares, or half-made ones.
    pub unused: Vec<String>,
}

pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.journal")
}

/// Reads every file in order and replays it.
pub async fn recover(disk: &dyn Disk, dir: &str) -> io::Result<Recovered> {
    let mut found = BTreeMap::new();
    let mut unused = Vec::new();
    for name in disk.list(dir).await? {
        let path = format!("{dir}/{name}");
        let Some(sequence) = name.strip_suffix(".journal").and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
            unused.push(path);
            continue;
        };
        let file = disk.open(&path).await?;
        let bytes = if file.len().await? < FILE_HEADER_BYTES {
            Bytes::new()
        } else {
            file.read_at(0, FILE_HEADER_BYTES as usize).await?
        };
        match FileHeader::decode(&bytes).filter(|header| header.sequence == sequence) {
            Some(header) => _ = found.insert(sequence, (header, file)),
            // Renamed into place but its first batch was never synced.
            None => unused.push(path),
        }
    }
    let mut recovered = Recovered {
        index: Index::default(),
        files: BTreeMap::new(),
        last_sequence: 0,
        last_end: FILE_HEADER_BYTES,
        next_batch: 1,
        unused,
    };
    let sequences: Vec<u64> = found.keys().copied().collect();
    for (place, (sequence, (_, file))) in found.iter().enumerate() {
        let after = sequences.get(place + 1).map(|next| found[next].0);
        let known_end = after.filter(|header| header.previous == *sequence).map(|header| header.previous_end);
        let bytes = file.read_at(0, file.len().await? as usize).await?;
        recovered.last_end = replay_file(&mut recovered, *sequence, &bytes, known_end)?;
        recovered.last_sequence = *sequence;
    }
    if let Some((group, index)) = recovered.index.hole() {
        let what = format!("{dir}: entry {index} of {group} is wanted and in no file; a file is missing");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    recovered.files = found.into_iter().map(|(sequence, (_, file))| (sequence, file)).collect();
    Ok(recovered)
}

/// Replays one file; the position after its last whole batch.
fn replay_file(recovered: &mut Recovered, sequence: u64, bytes: &Bytes, known_end: Option<u64>) -> io::Result<u64> {
    let mut position = FILE_HEADER_BYTES;
    loop {
        if known_end.is_some_and(|end| position >= end) {
            return Ok(position);
        }
        if let Some((frames, next)) = whole_batch(bytes, position, sequence) {
            let number = BatchHeader::decode(&bytes[position as usize..], sequence).expect("the batch was whole").number;
            recovered.next_batch = recovered.next_batch.max(number + 1);
            let mut retained = Vec::new();
            for (at, frame) in &frames {
                let replayed = recovered.index.replay(frame, sequence, *at, &mut retained);
                replayed.map_err(|reason| corrupt(sequence, *at, &reason))?;
            }
            position = next;
            continue;
        }
        let rest = bytes.get(position as usize..).unwrap_or_default();
        let evidence = Evidence {
            past_known_end: known_end.is_some_and(|end| position >= end),
            before_known_end: known_end.is_some_and(|end| position < end),
            later_batch: later_batch(bytes, position, sequence),
            all_zero: rest.iter().all(|byte| *byte == 0),
        };
        match decide(evidence) {
            Decision::CleanEnd => return Ok(position),
            Decision::CutTail => {
                reached!("torn_tail_cut");
                return Ok(position);
            }
            Decision::Corrupt => return Err(corrupt(sequence, position, "a synced batch does not match its checksum")),
        }
    }
}

/// All frames of the batch at `position` with their positions, and where the next batch starts; `None` unless all of it checks.
fn whole_batch(bytes: &Bytes, position: u64, sequence: u64) -> Option<(Vec<(u64, Frame)>, u64)> {
    let header = BatchHeader::decode(bytes.get(position as usize..)?, sequence)?;
    let start = position as usize + BATCH_HEADER_BYTES;
    let end = start.checked_add(usize::try_from(header.bytes).ok()?)?;
    bytes.get(start..end)?;
    let mut at = start;
    let mut frames = Vec::new();
    for _ in 0..header.frames {
        let frame = Frame::decode(&bytes.slice(at..end), sequence)?;
        let length = frame.bytes();
        frames.push((at as u64, frame));
        at += length;
    }
    (at == end).then_some((frames, (end as u64).next_multiple_of(ALIGN)))
}

fn later_batch(bytes: &Bytes, position: u64, sequence: u64) -> bool {
    let mut at = position + ALIGN;
    while (at as usize) < bytes.len() {
        if whole_batch(bytes, at, sequence).is_some() {
            return true;
        }
        at += ALIGN;
    }
    false
}

fn corrupt(sequence: u64, position: u64, reason: &str) -> io::Error {
    let what = format!("journal file {} at position={position}: {reason}; this disk is the suspect", file_name(sequence));
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_table() {
        let mut rows = Vec::new();
        for bits in 0..16_u8 {
            let bit = |n: u8| bits >> n & 1 == 1;
            let evidence = Evidence { past_known_end: bit(3), before_known_end: bit(2), later_batch: bit(1), all_zero: bit(0) };
            rows.push(match decide(evidence) {
                Decision::CleanEnd => 'e',
                Decision::CutTail => 't',
                Decision::Corrupt => 'C',
            });
        }
        // past, before, later, zero:     0000 .. 0011 | 0100 .. 0111 | 1xxx
        assert_eq!(rows.iter().collect::<String>(), "teCCCCCCeeeeeeee");
    }
}
