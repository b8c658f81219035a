//! Durable writes that pass the page cache by: a log is read back rarely, and a cached page costs more than the write itself.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // part of the one place where files are touched

use bytes::Bytes;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;

/// Position, length and memory of a direct write are multiples of this: the page, which is a multiple of every sector in use.
pub const BLOCK: u64 = 4096;
const ZEROS: usize = 1 << 20;

/// A second handle to a file of whole blocks. One writer at a time.
pub struct DirectFile {
    file: File,
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Kept: fresh memory costs more than the copy into it.
    buffer: Vec<u8>,
    /// Where the last write ended inside a block: the block's position, and its bytes up to there.
    tail: Option<(u64, Vec<u8>)>,
}

impl DirectFile {
    /// `None` where the file system cannot do it, the file is not made of whole blocks, or it has another name by now.
    pub fn open(path: &Path, cached: &File) -> Option<Self> {
        let flags = (OFlags::DIRECT | OFlags::DSYNC).bits() as i32;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        let (found, wanted) = (file.metadata().ok()?, cached.metadata().ok()?);
        let same = (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
        let bytes = found.len();
        (same && bytes > 0 && bytes.is_multiple_of(BLOCK)).then(|| Self { file, bytes, state: Mutex::default() })
    }

    /// Writes and syncs. False: it does not fit in the file, nothing was done.
    ///
    /// `cached` is the ordinary handle, for what stands before `position` in its block. What stands behind the end in its block becomes zeros.
    pub fn write(&self, cached: &File, position: u64, pieces: &[Bytes]) -> io::Result<bool> {
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let start = position - position % BLOCK;
        let end = position + length as u64;
        let end_of_blocks = end.next_multiple_of(BLOCK);
        if end_of_blocks > self.bytes {
            return Ok(false);
        }
        let mut state = self.state.lock().expect("no panic happens while the buffer is held");
        let State { buffer, tail } = &mut *state;
        let before = (position - start) as usize;
        let area = aligned(buffer, (end_of_blocks - start) as usize);
        match tail.take() {
            Some((block, bytes)) if block == start && bytes.len() == before => area[..before].copy_from_slice(&bytes),
            _ if before > 0 => cached.read_exact_at(&mut area[..before], start)?,
            _ => {}
        }
        let mut filled = before;
        for piece in pieces {
            area[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        area[filled..].fill(0);
        self.file.write_all_at(area, start)?;
        if end < end_of_blocks {
            let block = end - end % BLOCK;
            *tail = Some((block, area[(block - start) as usize..filled].to_vec()));
        }
        Ok(true)
    }
}

/// The part of `buffer` of this length that starts at a multiple of [`BLOCK`] in memory.
fn aligned(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    let needed = length + BLOCK as usize;
    if buffer.len() < needed {
        buffer.resize(needed, 0);
    }
    let offset = buffer.as_ptr().align_offset(BLOCK as usize);
    &mut buffer[offset..offset + length]
}

/// Fills a new file with zeros up to the last whole block. Returns how far it came: 0 where the file system cannot do it.
pub fn fill(path: &Path, bytes: u64) -> io::Result<u64> {
    let whole = bytes - bytes % BLOCK;
    let flags = OFlags::DIRECT.bits() as i32;
    let Ok(file) = OpenOptions::new().write(true).custom_flags(flags).open(path) else { return Ok(0) };
    let mut buffer = Vec::new();
    let zeros = &*aligned(&mut buffer, ZEROS.min(whole as usize));
    let mut position = 0;
    while position < whole {
        let now = (whole - position).min(ZEROS as u64);
        file.write_all_at(&zeros[..now as usize], position)?;
        position += now;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_keep_what_stands_before_them_and_only_whole_blocks_of_the_file_are_written() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 4 * BLOCK as usize]).expect("write");
        let cached = OpenOptions::new().read(true).write(true).open(&path).expect("open");
        let Some(direct) = DirectFile::open(&path, &cached) else { return };
        let mut expected = vec![1; 4 * BLOCK as usize];
        // In the middle of a block; on from there over two blocks; elsewhere; to the very end.
        for (position, length, value) in [(100, 50, 2), (150, 5_000, 3), (8_200, 10, 4), (5_150, 64, 5), (8_192, 8_192, 6)] {
            let pieces = [Bytes::from(vec![value; length / 2]), Bytes::from(vec![value; length - length / 2])];
            assert!(direct.write(&cached, position as u64, &pieces).expect("write"));
            let end = position + length;
            expected[position..end].fill(value);
            expected[end..end.next_multiple_of(BLOCK as usize)].fill(0);
            assert_eq!(std::fs::read(&path).expect("read"), expected, "after position={position}");
        }
        assert!(!direct.write(&cached, 4 * BLOCK - 1, &[Bytes::from_static(b"xy")]).expect("past the end"));
        assert_eq!(std::fs::read(&path).expect("read"), expected);
    }

    #[test]
    fn files_of_broken_blocks_are_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        std::fs::write(&path, vec![1; 5000]).expect("write");
        assert!(DirectFile::open(&path, &File::open(&path).expect("open")).is_none());
        let filled = fill(&path, 5000).expect("fill");
        assert!(filled == 0 || filled == BLOCK, "{filled}");
        let kept = std::fs::read(&path).expect("read");
        assert_eq!(kept[filled as usize..], vec![1; 5000 - filled as usize]);
    }
}
