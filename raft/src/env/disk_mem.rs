//! A disk in memory that forgets what was not synced: for tests. (`sim::disk` has the full fault model.)

use super::disk::{Disk, DiskFile, DiskFuture};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Clones share the disk. A crash ends the life of all handles that were there before it: what a dead process still
/// tries to do fails.
#[derive(Clone, Default)]
pub struct MemDisk {
    tree: Arc<Mutex<Tree>>,
    /// Number of the life this handle belongs to.
    life: u64,
}

#[derive(Default)]
struct Tree {
    /// Names as they are, and as they would be after a crash.
    names: BTreeMap<String, Arc<Mutex<Content>>>,
    durable_names: BTreeMap<String, Arc<Mutex<Content>>>,
    /// The next sync fails, and every one after it.
    broken: bool,
    life: u64,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
}

impl MemDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Power loss: unsynced bytes and names are gone; `keep` decides for each changed 512-byte sector whether it made it all the same.
    /// Gives the handle for the life after.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) -> MemDisk {
        let mut tree = self.tree();
        tree.life += 1;
        tree.names = tree.durable_names.clone();
        for content in tree.names.values() {
            let mut content = lock(content);
            let content = &mut *content;
            if content.now.len() > content.durable.len() {
                content.durable.resize(content.now.len(), 0);
            }
            for (now, durable) in content.now.chunks(512).zip(content.durable.chunks_mut(512)) {
                if now != &durable[..now.len()] && keep() {
                    durable[..now.len()].copy_from_slice(now);
                }
            }
            content.now = content.durable.clone();
        }
        MemDisk { tree: self.tree.clone(), life: tree.life }
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Tree>> {
        let tree = self.tree();
        if tree.life == self.life { Ok(tree) } else { Err(io::Error::other("the machine lost power")) }
    }

    /// From now on every sync fails.
    pub fn break_syncs(&self) {
        self.tree().broken = true;
    }

    /// Changes the bytes of a file behind everybody's back, durably.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let content = self.tree().names.get(path).cloned().expect("the file to damage exists");
        let mut content = lock(&content);
        change(&mut content.now);
        content.durable = content.now.clone();
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().expect("no panic happens while the tree is held")
    }
}

fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().expect("no panic happens while a file is held")
}

fn missing(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{path}: no such file"))
}

fn ready<'a, T: Send + 'a>(result: io::Result<T>) -> DiskFuture<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Disk for MemDisk {
    fn create_dir<'a>(&'a self, _dir: &'a str) -> DiskFuture<'a, ()> {
        ready(Ok(()))
    }

    fn create<'a>(&'a self, path: &'a str, bytes: u64) -> DiskFuture<'a, Arc<dyn DiskFile>> {
        let mut tree = match self.alive() {
            Ok(tree) => tree,
            Err(error) => return ready(Err(error)),
        };
        if tree.names.contains_key(path) {
            return ready(Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{path}: exists"))));
        }
        let content = Arc::new(Mutex::new(Content { now: vec![0; bytes as usize], durable: Vec::new() }));
        tree.names.insert(path.to_string(), content.clone());
        ready(Ok(Arc::new(MemFile { path: path.to_string(), content, disk: self.clone() })))
    }

    fn open<'a>(&'a self, path: &'a str) -> DiskFuture<'a, Arc<dyn DiskFile>> {
        let content = self.alive().and_then(|tree| tree.names.get(path).cloned().ok_or_else(|| missing(path)));
        ready(
            content.map(|content| Arc::new(MemFile { path: path.to_string(), content, disk: self.clone() }) as Arc<dyn DiskFile>),
        )
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()> {
        ready(self.alive().and_then(|mut tree| {
            let moved = tree.names.remove(from).ok_or_else(|| missing(from))?;
            tree.names.insert(to.to_string(), moved);
            Ok(())
        }))
    }

    fn remove<'a>(&'a self, path: &'a str) -> DiskFuture<'a, ()> {
        ready(self.alive().and_then(|mut tree| tree.names.remove(path).map(drop).ok_or_else(|| missing(path))))
    }

    fn list<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, Vec<String>> {
        let prefix = format!("{dir}/");
        let tree = self.tree();
        let names = tree.names.keys().filter_map(|path| path.strip_prefix(&prefix)).filter(|name| !name.contains('/'));
        ready(Ok(names.map(str::to_string).collect()))
    }

    fn sync_dir<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, ()> {
        let prefix = format!("{dir}/");
        let mut tree = match self.alive() {
            Ok(tree) => tree,
            Err(error) => return ready(Err(error)),
        };
        let here = |path: &str| path.strip_prefix(&prefix).is_some_and(|name| !name.contains('/'));
        tree.durable_names.retain(|path, _| !here(path));
        let now: Vec<_> =
            tree.names.iter().filter(|(path, _)| here(path)).map(|(path, content)| (path.clone(), content.clone())).collect();
        tree.durable_names.extend(now);
        ready(Ok(()))
    }
}

struct MemFile {
    path: String,
    content: Arc<Mutex<Content>>,
    disk: MemDisk,
}

impl DiskFile for MemFile {
    fn len<'a>(&'a self) -> DiskFuture<'a, u64> {
        ready(Ok(lock(&self.content).now.len() as u64))
    }

    fn read_at<'a>(&'a self, position: u64, bytes: usize) -> DiskFuture<'a, Bytes> {
        let content = lock(&self.content);
        let range = position as usize..position as usize + bytes;
        let found = content.now.get(range).map(Bytes::copy_from_slice);
        ready(found.ok_or_else(|| {
            let what = format!("{}: {bytes} bytes at position={position}, the file has {}", self.path, content.now.len());
            io::Error::new(io::ErrorKind::UnexpectedEof, what)
        }))
    }

    fn write_at<'a>(&'a self, position: u64, pieces: Vec<Bytes>) -> DiskFuture<'a, ()> {
        if let Err(error) = self.disk.alive() {
            return ready(Err(error));
        }
        let mut content = lock(&self.content);
        let mut at = position as usize;
        for piece in pieces {
            let end = at + piece.len();
            if content.now.len() < end {
                content.now.resize(end, 0);
            }
            content.now[at..end].copy_from_slice(&piece);
            at = end;
        }
        ready(Ok(()))
    }

    fn sync<'a>(&'a self) -> DiskFuture<'a, ()> {
        match self.disk.alive() {
            Ok(tree) if tree.broken => return ready(Err(io::Error::other(format!("{}: sync failed", self.path)))),
            Ok(_) => {}
            Err(error) => return ready(Err(error)),
        }
        let mut content = lock(&self.content);
        content.durable = content.now.clone();
        ready(Ok(()))
    }
}
