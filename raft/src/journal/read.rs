//! Entries back from the journal: from memory, else from the files in long reads.

use super::JournalEntry;
use super::frame::{FRAME_HEADER_BYTES, Found as FoundFrame, Frame};
use super::index::EntryAt;
use super::shelf::file_name;
use super::state::{Shared, State};
use crate::env::BoxFuture;
use crate::env::disk::DiskFile;
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Neighbours in a file with less between them than this are read together: heads of batches, small entries of other groups.
const GAP_BYTES_MAX: u64 = 16 << 10;

/// An entry and where it was when the read began.
struct Located {
    index: u64,
    at: EntryAt,
    payload: Option<Bytes>,
    file: Option<Arc<dyn DiskFile>>,
}

impl Located {
    fn end(&self) -> u64 {
        self.at.position + FRAME_HEADER_BYTES as u64 + u64::from(self.at.bytes)
    }

    fn entry(&self, payload: Bytes) -> JournalEntry {
        JournalEntry { id: LogId { term: self.at.term, index: self.index }, kind: self.at.kind, payload }
    }
}

/// See `Journal::read`. Where the entries are is settled by the call, not by the first poll.
pub fn read(
    shared: Arc<Shared>,
    group: GroupId,
    range: Range<u64>,
    bytes_max: usize,
) -> BoxFuture<'static, io::Result<Vec<JournalEntry>>> {
    let located = locate(&shared.state(), group, range, bytes_max);
    Box::pin(async move { fetch(&shared, group, located?).await })
}

async fn fetch(shared: &Shared, group: GroupId, located: Vec<Located>) -> io::Result<Vec<JournalEntry>> {
    let mut entries = Vec::with_capacity(located.len());
    let mut rest = &located[..];
    while let Some(first) = rest.first() {
        if let Some(payload) = &first.payload {
            entries.push(first.entry(payload.clone()));
            rest = &rest[1..];
            continue;
        }
        let (run, after) = rest.split_at(run_length(rest, shared.config.read_bytes_max as u64));
        read_run(shared, group, run, &mut entries).await?;
        rest = after;
    }
    Ok(entries)
}

fn locate(state: &State, group: GroupId, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Located>> {
    state.check_healthy()?;
    let log = state.index.groups.get(&group);
    let one_more = mutant!("R11") && log.is_some_and(|log| log.get(range.end).is_some());
    let (mut located, mut bytes) = (Vec::new(), 0);
    for index in range.start..range.end + u64::from(one_more) {
        let at = log.and_then(|log| log.get(index)).copied().ok_or_else(|| gone(group, index))?;
        let file = at.file().and_then(|sequence| state.files.get(&sequence).cloned());
        let payload = log.and_then(|log| log.cached(index)).cloned();
        if payload.is_none() && file.is_none() {
            return Err(gone(group, index));
        }
        located.push(Located { index, at, payload, file });
        bytes += at.bytes as usize;
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(located)
}

fn gone(group: GroupId, index: u64) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("entry {index} of {group} is not in the journal"))
}

/// How many of these lie close together in one file.
fn run_length(located: &[Located], read_bytes_max: u64) -> usize {
    let goes_on = |pair: &[Located]| {
        let (before, next) = (&pair[0], &pair[1]);
        next.payload.is_none()
            && next.at.file() == before.at.file()
            && next.at.position >= before.end()
            && next.at.position - before.end() <= GAP_BYTES_MAX
            && next.end() - located[0].at.position <= read_bytes_max
    };
    1 + located.windows(2).take_while(|pair| goes_on(pair)).count()
}

async fn read_run(shared: &Shared, group: GroupId, run: &[Located], entries: &mut Vec<JournalEntry>) -> io::Result<()> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
    let Some(file) = &first.file else { return Err(gone(group, first.index)) };
    reached!("read_from_disk");
    let start = first.at.position;
    let length = usize::try_from(last.end() - start).expect("a run is bounded");
    let bytes = file.read_at(start, length).await;
    for located in run {
        let sequence = located.at.file().expect("an entry without a file is in memory");
        let at = (located.at.position - start) as usize;
        let frame = bytes.as_ref().ok().and_then(|bytes| match Frame::decode(&bytes.slice(at..), sequence) {
            Some(FoundFrame::Whole(frame)) => Some(frame),
            Some(FoundFrame::Damaged(_)) | None => None,
        });
        let id = LogId { term: located.at.term, index: located.index };
        let Some(frame) = frame.filter(|frame| frame.group == group && frame.id == id) else {
            return Err(why_not(shared, group, located, bytes.err()));
        };
        entries.push(located.entry(frame.payload));
    }
    Ok(())
}

/// Its file may have been recycled since: then the entry was released or truncated meanwhile, and nothing is wrong with the disk.
fn why_not(shared: &Shared, group: GroupId, located: &Located, error: Option<io::Error>) -> io::Error {
    let now = shared.state().index.groups.get(&group).and_then(|log| log.get(located.index)).copied();
    if now != Some(located.at) {
        return gone(group, located.index);
    }
    let file = file_name(located.at.file().unwrap_or_default());
    let LogId { term, index } = LogId { term: located.at.term, index: located.index };
    let what = format!("entry {term}.{index} of {group} in {file} at position={}", located.at.position);
    match error {
        Some(error) => io::Error::new(error.kind(), format!("{what}: {error}")),
        None => io::Error::new(io::ErrorKind::InvalidData, format!("{what} does not match its checksum")),
    }
}
