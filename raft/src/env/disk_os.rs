//! Real files below a root directory.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // the one place where files are touched

use super::buffers::Pool;
use super::direct::{self, DirectFile};
use super::disk::{Disk, DiskFile, DiskFuture};
use bytes::Bytes;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const ZEROS: usize = 1 << 20;
/// Reads up to here come from the page cache more often than not and are done in place.
const READ_IN_PLACE_BYTES_MAX: usize = 4 << 20;
const PIECES_PER_WRITE: usize = 512;

pub struct OsDisk {
    root: PathBuf,
    pool: Arc<Pool>,
}

impl OsDisk {
    pub fn new(root: PathBuf) -> Self {
        Self { root, pool: Arc::default() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

/// Runs a blocking call elsewhere; its error says which path.
fn blocking<'a, T: Send + 'static>(
    path: PathBuf,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> DiskFuture<'a, T> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(move || call(&path).map_err(|error| at(&path, error))).await;
        done.unwrap_or_else(|panic| Err(io::Error::other(format!("disk call panicked: {panic}"))))
    })
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn open_both(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

impl Disk for OsDisk {
    fn create_dir<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, ()> {
        let root = self.root.clone();
        blocking(self.path(dir), move |path| {
            std::fs::create_dir_all(path)?;
            let mut above = Some(path);
            while let Some(dir) = above.filter(|dir| dir.starts_with(&root)) {
                File::open(dir)?.sync_all()?;
                above = dir.parent();
            }
            Ok(())
        })
    }

    fn create<'a>(&'a self, path: &'a str, bytes: u64) -> DiskFuture<'a, Arc<dyn DiskFile>> {
        let pool = self.pool.clone();
        blocking(self.path(path), move |path| {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
            let mut position = direct::fill(path, bytes)?;
            let zeros = vec![0; ZEROS.min((bytes - position) as usize)];
            while position < bytes {
                let now = (bytes - position).min(ZEROS as u64);
                file.write_all_at(&zeros[..now as usize], position)?;
                position += now;
            }
            Ok(Arc::new(OsFile::new(path, file, pool)) as Arc<dyn DiskFile>)
        })
    }

    fn open<'a>(&'a self, path: &'a str) -> DiskFuture<'a, Arc<dyn DiskFile>> {
        let pool = self.pool.clone();
        blocking(self.path(path), move |path| Ok(Arc::new(OsFile::new(path, open_both(path)?, pool)) as Arc<dyn DiskFile>))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()> {
        let to = self.path(to);
        blocking(self.path(from), move |from| std::fs::rename(from, to))
    }

    fn remove<'a>(&'a self, path: &'a str) -> DiskFuture<'a, ()> {
        blocking(self.path(path), |path| std::fs::remove_file(path))
    }

    fn list<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, Vec<String>> {
        blocking(self.path(dir), |path| {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            names.sort();
            Ok(names)
        })
    }

    fn sync_dir<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, ()> {
        blocking(self.path(dir), |path| File::open(path)?.sync_all())
    }
}

struct OsFile {
    path: PathBuf,
    file: Arc<File>,
    /// Opened with the first durable write.
    direct: Arc<OnceLock<Option<DirectFile>>>,
    pool: Arc<Pool>,
}

impl OsFile {
    fn new(path: &Path, file: File, pool: Arc<Pool>) -> Self {
        Self { path: path.to_path_buf(), file: Arc::new(file), direct: Arc::default(), pool }
    }
}

impl DiskFile for OsFile {
    fn len<'a>(&'a self) -> DiskFuture<'a, u64> {
        Box::pin(std::future::ready(self.file.metadata().map(|metadata| metadata.len()).map_err(|error| at(&self.path, error))))
    }

    fn read_at<'a>(&'a self, position: u64, bytes: usize) -> DiskFuture<'a, Bytes> {
        let (file, pool) = (self.file.clone(), self.pool.clone());
        let read = move |path: &Path| {
            let mut buffer = pool.take(bytes);
            file.read_exact_at(buffer.room(), position).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {bytes} bytes at position={position}: {error}", path.display()))
            })?;
            Ok(buffer.freeze())
        };
        if bytes <= READ_IN_PLACE_BYTES_MAX {
            return Box::pin(std::future::ready(read(&self.path)));
        }
        blocking(self.path.clone(), read)
    }

    fn write_at<'a>(&'a self, position: u64, pieces: Vec<Bytes>) -> DiskFuture<'a, ()> {
        let file = self.file.clone();
        blocking(self.path.clone(), move |_| write_pieces(&file, position, &pieces))
    }

    fn sync<'a>(&'a self) -> DiskFuture<'a, ()> {
        let file = self.file.clone();
        blocking(self.path.clone(), move |_| file.sync_data())
    }

    fn write_durably<'a>(&'a self, position: u64, pieces: Vec<Bytes>) -> DiskFuture<'a, ()> {
        let (file, direct) = (self.file.clone(), self.direct.clone());
        blocking(self.path.clone(), move |path| {
            if let Some(direct) = direct.get_or_init(|| DirectFile::open(path, &file))
                && direct.write(&file, position, &pieces)?
            {
                return Ok(());
            }
            write_pieces(&file, position, &pieces)?;
            file.sync_data()
        })
    }
}

/// One vectored write per few hundred pieces, from `position` on.
fn write_pieces(file: &File, position: u64, pieces: &[Bytes]) -> io::Result<()> {
    use std::io::Seek;
    // A position of its own would need pwritev; the journal has one writer per file, so the shared position is free to use.
    let mut file = file;
    file.seek(io::SeekFrom::Start(position))?;
    for group in pieces.chunks(PIECES_PER_WRITE) {
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let written = file.write_vectored(left)?;
            if written == 0 && left.iter().any(|slice| !slice.is_empty()) {
                return Err(io::ErrorKind::WriteZero.into());
            }
            if written == 0 {
                break;
            }
            IoSlice::advance_slices(&mut left, written);
        }
    }
    Ok(())
}
