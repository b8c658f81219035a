//! Files as a seam: what is written is durable only after a sync, and a crash may lose, keep or tear the rest.
//!
//! Two implementations, one contract suite ([`contract`] is run against both): real files
//! (`disk_os`) and the simulated disk (`sim::disk`).

use super::BoxFuture;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Result of a disk operation, later.
pub type DiskFuture<'a, T> = BoxFuture<'a, io::Result<T>>;

/// A directory tree of one node. Paths are relative, with `/`, without `..`.
///
/// Invariants: names (create, rename, remove) are durable only after [`Disk::sync_dir`] of their directory; bytes only
/// after [`DiskFile::sync`] of their file. Errors carry the path.
pub trait Disk: Send + Sync + 'static {
    /// Creates the directory and its parents, durably. Does nothing if it is there.
    fn create_dir<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, ()>;
    /// Creates a file of `bytes` zeros, really written (not a hole). Fails if it exists.
    fn create<'a>(&'a self, path: &'a str, bytes: u64) -> DiskFuture<'a, Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open<'a>(&'a self, path: &'a str) -> DiskFuture<'a, Arc<dyn DiskFile>>;
    /// Replaces `to` if it exists.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()>;
    fn remove<'a>(&'a self, path: &'a str) -> DiskFuture<'a, ()>;
    /// File names (not paths) in `dir`, sorted.
    fn list<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, Vec<String>>;
    /// Makes the names of `dir` durable.
    fn sync_dir<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, ()>;
}

/// One open file.
#[allow(clippy::len_without_is_empty)] // a size on disk, not a collection
pub trait DiskFile: Send + Sync + 'static {
    /// Size in bytes.
    fn len<'a>(&'a self) -> DiskFuture<'a, u64>;
    /// Exactly `bytes` bytes from `position`; fewer is an `UnexpectedEof` error.
    fn read_at<'a>(&'a self, position: u64, bytes: usize) -> DiskFuture<'a, Bytes>;
    /// Writes the pieces one after the other from `position`; extends the file if need be.
    fn write_at<'a>(&'a self, position: u64, pieces: Vec<Bytes>) -> DiskFuture<'a, ()>;
    /// Makes everything written to this file before the call durable. An error is final: never retried (R15).
    fn sync<'a>(&'a self) -> DiskFuture<'a, ()>;
    /// [`DiskFile::write_at`], then [`DiskFile::sync`], as one call where that is cheaper than two. For logs: what lies behind
    /// the written bytes may become zeros up to the next multiple of 4096. Not to be mixed with `write_at` on the same blocks.
    fn write_durably<'a>(&'a self, position: u64, pieces: Vec<Bytes>) -> DiskFuture<'a, ()> {
        Box::pin(async move {
            self.write_at(position, pieces).await?;
            self.sync().await
        })
    }
}
