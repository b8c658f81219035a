//! From files to an index. What to do with bytes that do not check is a truth table.
//!
//! The newest file that begins with a whole batch holds a checkpoint: which earlier files count and where each of them ends. All
//! others are leftovers. The files that count are replayed in order; each begins with a checkpoint, so a file that is gone between
//! them is missed only if an entry of it is still wanted.
//!
//! What was recovered is synced before anybody relies on it: after the death of a process, bytes that were never synced are still
//! in the page cache, and a loss of power would take them back later.

use super::frame::{ALIGN, BATCH_HEADER_BYTES, BatchHeader, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, Frame};
use super::frame::{Found as FoundFrame, Head, Kind, VERSION};
use super::index::{Index, Place, SEQUENCE_MAX};
use super::mark::Checkpoint;
use super::shelf::{Named, file_name};
use crate::env::disk::{Disk, DiskFile};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What is known about where a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The newest file: nobody says.
    Unknown,
    /// A later file says that this one goes on.
    Ahead,
    /// A later file says that this one ends here.
    Reached,
}

/// What lies at a place where a batch could start, but no whole one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No batch header.
    Nothing,
    /// A batch header, and something behind it does not check.
    Begun,
    /// A batch of which every header checks; only payloads of entries do not.
    Framed,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub end: End,
    /// The header of a later batch stands further on. Batches are synced one by one, so this place was synced before it.
    pub later_batch: bool,
    pub shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing was written from here on.
    CleanEnd,
    /// A write that was never synced, so never acknowledged: forget it.
    CutTail,
    /// Synced entries are damaged: they stay, and reading them is an error. Their groups stop, the others live.
    KeepDamaged,
    /// Something else that was synced is damaged: refuse.
    Corrupt,
}

/// The truth table. Rows are tried from the top.
pub fn decide(evidence: Evidence) -> Decision {
    use Decision::*;
    let Evidence { end, later_batch, shape } = evidence;
    let synced = match (end, later_batch) {
        (End::Reached, _) => return CleanEnd,
        (End::Ahead, _) | (End::Unknown, true) => !mutant!("R10"),
        (End::Unknown, false) => false,
    };
    match (synced, shape) {
        (true, Shape::Framed) => KeepDamaged,
        (true, Shape::Nothing | Shape::Begun) => Corrupt,
        (false, Shape::Nothing) => CleanEnd,
        (false, Shape::Begun | Shape::Framed) => CutTail,
    }
}

/// The file to go on in.
pub struct Tail {
    pub file: Arc<dyn DiskFile>,
    pub sequence: u64,
    pub bytes: u64,
    pub position: u64,
}

/// What recovery leaves behind for the writer.
pub struct Recovered {
    pub index: Index,
    pub files: BTreeMap<u64, Arc<dyn DiskFile>>,
    /// Where the files before the newest end.
    pub ends: BTreeMap<u64, u64>,
    /// Everything in it up to its position is durable, everything after is zero.
    pub tail: Option<Tail>,
    pub next_sequence: u64,
    pub next_batch: u64,
    /// Names of ours that hold no records.
    pub unused: Vec<String>,
    /// Damaged entries were kept.
    damaged: bool,
}

/// One file of records.
struct Candidate {
    path: String,
    sequence: u64,
    file: Arc<dyn DiskFile>,
    bytes: Bytes,
}

impl Candidate {
    async fn open(disk: &dyn Disk, dir: &str, sequence: u64) -> io::Result<Self> {
        let path = format!("{dir}/{}", file_name(sequence));
        let file = disk.open(&path).await?;
        let length = usize::try_from(file.len().await?).map_err(|error| io::Error::other(format!("{path}: {error}")))?;
        let bytes = file.read_at(0, length).await?;
        if let Head::OtherVersion(version) = FileHeader::decode(&bytes) {
            let what = format!("{path}: journal version={version}, this program knows {VERSION}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        // Nothing else depends on the header: every batch says to which file it belongs.
        Ok(Self { path, sequence, file, bytes })
    }

    fn corrupt(&self, position: u64, reason: &str) -> io::Error {
        let what = format!("{} at position={position}: {reason}; this disk is the suspect", self.path);
        io::Error::new(io::ErrorKind::InvalidData, what)
    }

    /// The checkpoint that a whole first batch begins with.
    fn checkpoint(&self) -> io::Result<Option<Checkpoint>> {
        let At::Whole(Found { frames, .. }) = look(&self.bytes, FILE_HEADER_BYTES, self.sequence) else { return Ok(None) };
        let Some((_, first)) = frames.first().filter(|(_, frame)| frame.kind == Kind::Checkpoint) else {
            return Err(self.corrupt(FILE_HEADER_BYTES, "the first frame is no checkpoint"));
        };
        Checkpoint::decode(&first.payload).map(Some).map_err(|reason| self.corrupt(FILE_HEADER_BYTES, &reason))
    }

    /// Whether the header of a batch stands anywhere above `position`.
    fn later_batch(&self, position: u64) -> bool {
        let mut places = (position + ALIGN..self.bytes.len() as u64).step_by(ALIGN as usize);
        places.any(|at| BatchHeader::decode(&self.bytes[at as usize..], self.sequence, at).is_some())
    }
}

/// Reads every file in order and replays it.
///
/// Errors: `InvalidData` names the file and position of what is damaged, or the entry that no file has; `Unsupported` for another
/// version's files.
pub async fn recover(disk: &dyn Disk, dir: &str) -> io::Result<Recovered> {
    let mut recovered = Recovered {
        index: Index::default(),
        files: BTreeMap::new(),
        ends: BTreeMap::new(),
        tail: None,
        next_sequence: 1,
        next_batch: 1,
        unused: Vec::new(),
        damaged: false,
    };
    let mut sequences = Vec::new();
    for name in disk.list(dir).await? {
        match Named::parse(&name) {
            Named::Records(sequence) if sequence < SEQUENCE_MAX => sequences.push(sequence),
            Named::Records(_) | Named::NotOurs => {}
            Named::Spare(_) | Named::Fresh => recovered.unused.push(name),
        }
    }
    sequences.sort_unstable();
    recovered.next_sequence = sequences.last().map_or(1, |newest| newest + 1);
    while let Some(sequence) = sequences.pop() {
        let newest = Candidate::open(disk, dir, sequence).await?;
        if let Some(checkpoint) = newest.checkpoint()? {
            recovered.replay_all(disk, dir, &sequences, newest, checkpoint.ends).await?;
            break;
        }
        // Begun, but its first batch was never synced; or damaged.
        let later_batch = newest.later_batch(FILE_HEADER_BYTES);
        if decide(Evidence { end: End::Unknown, later_batch, shape: Shape::Begun }) == Decision::Corrupt {
            return Err(newest.corrupt(FILE_HEADER_BYTES, "the first batch does not match its checksum, but a later one follows"));
        }
        recovered.unused.push(file_name(sequence));
    }
    recovered.check(dir)?;
    Ok(recovered)
}

impl Recovered {
    /// The files of `ends` that are there, in order, then the newest, whose tail is cut: what is there now is then what will be
    /// there after every crash.
    async fn replay_all(
        &mut self,
        disk: &dyn Disk,
        dir: &str,
        older: &[u64],
        newest: Candidate,
        ends: BTreeMap<u64, u64>,
    ) -> io::Result<()> {
        for sequence in older {
            match ends.get(sequence) {
                Some(end) => _ = self.replay(Candidate::open(disk, dir, *sequence).await?, Some(*end))?,
                // Retired, but a crash brought its name back.
                None => self.unused.push(file_name(*sequence)),
            }
        }
        let (file, sequence, bytes) = (newest.file.clone(), newest.sequence, newest.bytes.clone());
        self.damaged = false;
        let position = self.replay(newest, None)?;
        file.sync().await?;
        self.ends = ends;
        self.ends.retain(|sequence, _| self.files.contains_key(sequence));
        if self.damaged {
            // What proves that the damaged batch was synced lies behind it and stays; the next file will say where this one ends.
            self.ends.insert(sequence, position);
            return Ok(());
        }
        // A file that was cut short may end inside the zeros behind a batch.
        let rest = usize::try_from(position).ok().and_then(|position| bytes.get(position..)).unwrap_or_default();
        if rest.iter().any(|byte| *byte != 0) {
            // Bytes of a torn write bear this file's sequence: under the head of a new batch they could pass for its own.
            file.write_durably(position, vec![Bytes::from(vec![0; rest.len()])]).await?;
        }
        self.tail = Some(Tail { file, sequence, bytes: bytes.len() as u64, position });
        Ok(())
    }

    /// Replays one file; the position after its last batch that counts.
    fn replay(&mut self, candidate: Candidate, known_end: Option<u64>) -> io::Result<u64> {
        let mut position = FILE_HEADER_BYTES;
        self.index.files.add(candidate.sequence);
        self.files.insert(candidate.sequence, candidate.file.clone());
        loop {
            let end = match known_end {
                Some(end) if position >= end => End::Reached,
                Some(_) => End::Ahead,
                None => End::Unknown,
            };
            if end == End::Reached {
                return Ok(position);
            }
            let Found { number, frames, next } = match look(&candidate.bytes, position, candidate.sequence) {
                At::Whole(found) => found,
                At::Other(shape, framed) => {
                    let evidence = Evidence { end, later_batch: candidate.later_batch(position), shape };
                    match (decide(evidence), framed) {
                        (Decision::KeepDamaged, Some(framed)) => {
                            reached!("damaged_entry_kept");
                            self.damaged = true;
                            let path = &candidate.path;
                            tracing::error!(path, position, "a synced entry does not match its checksum: its group will stop");
                            framed
                        }
                        (Decision::CleanEnd, _) => return Ok(position),
                        (Decision::CutTail, _) => {
                            reached!("torn_tail_cut");
                            return Ok(position);
                        }
                        (Decision::Corrupt | Decision::KeepDamaged, _) => {
                            return Err(candidate.corrupt(position, "a synced batch does not match its checksum"));
                        }
                    }
                }
            };
            self.next_batch = self.next_batch.max(number + 1);
            for (position, frame) in frames {
                let place = Place::File { sequence: candidate.sequence, position };
                let applied = self.index.apply(&frame, place);
                applied.map_err(|reason| candidate.corrupt(position, &format!("{} {reason}", frame.group)))?;
            }
            position = next;
        }
    }

    /// What must hold whatever the crash was.
    fn check(&self, dir: &str) -> io::Result<()> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{dir}: {what}"));
        if let Some((group, index)) = self.index.missing() {
            return Err(invalid(format!("entry {index} of {group} is wanted and in no file; a file is missing")));
        }
        for (group, index) in &self.index.groups {
            index.mark.check().map_err(|reason| invalid(format!("{group} {reason}; our code is the suspect")))?;
        }
        Ok(())
    }
}

/// A batch and its frames, each with its position.
struct Found {
    number: u64,
    frames: Vec<(u64, Frame)>,
    /// Where another batch may follow.
    next: u64,
}

/// What stands at a place where a batch could start.
enum At {
    Whole(Found),
    /// For `Framed`: the batch, with wrong bytes in some payloads.
    Other(Shape, Option<Found>),
}

fn look(bytes: &Bytes, position: u64, sequence: u64) -> At {
    let rest = usize::try_from(position).ok().and_then(|position| bytes.get(position..)).unwrap_or_default();
    let Some(header) = BatchHeader::decode(rest, sequence, position) else { return At::Other(Shape::Nothing, None) };
    let begun = At::Other(Shape::Begun, None);
    let start = position as usize + BATCH_HEADER_BYTES;
    let end = usize::try_from(header.bytes).ok().and_then(|length| start.checked_add(length));
    let Some(end) = end.filter(|end| *end <= bytes.len()) else { return begun };
    if u64::from(header.frames) * FRAME_HEADER_BYTES as u64 > header.bytes {
        return begun;
    }
    let (mut at, mut damaged) = (start, false);
    let mut frames = Vec::with_capacity(header.frames as usize);
    for _ in 0..header.frames {
        let frame = match Frame::decode(&bytes.slice(at..end), sequence) {
            Some(FoundFrame::Whole(frame)) => frame,
            Some(FoundFrame::Damaged(frame)) if frame.kind.is_entry() => {
                damaged = true;
                frame
            }
            Some(FoundFrame::Damaged(_)) | None => return begun,
        };
        let position = at as u64;
        at += frame.bytes();
        frames.push((position, keep_small(frame)));
    }
    let found = Found { number: header.number, frames, next: (end as u64).next_multiple_of(ALIGN) };
    match (at == end, damaged) {
        (false, _) => begun,
        (true, false) => At::Whole(found),
        (true, true) => At::Other(Shape::Framed, Some(found)),
    }
}

/// A payload that stays in memory must not hold on to the whole file's bytes.
fn keep_small(mut frame: Frame) -> Frame {
    if !frame.kind.is_entry() {
        frame.payload = Bytes::copy_from_slice(&frame.payload);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_table() {
        use Decision::*;
        let mut rows = Vec::new();
        for end in [End::Unknown, End::Ahead, End::Reached] {
            for later_batch in [false, true] {
                rows.push(
                    [Shape::Nothing, Shape::Begun, Shape::Framed].map(|shape| decide(Evidence { end, later_batch, shape })),
                );
            }
        }
        let expected = [
            //                           nothing   begun     framed
            /* unknown               */
            [CleanEnd, CutTail, CutTail],
            /* unknown, later batch  */ [Corrupt, Corrupt, KeepDamaged],
            /* ahead                 */ [Corrupt, Corrupt, KeepDamaged],
            /* ahead, later batch    */ [Corrupt, Corrupt, KeepDamaged],
            /* reached               */ [CleanEnd, CleanEnd, CleanEnd],
            /* reached, later batch  */ [CleanEnd, CleanEnd, CleanEnd],
        ];
        assert_eq!(rows, expected);
    }
}
