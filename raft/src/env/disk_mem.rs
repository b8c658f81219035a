//! A disk in memory that forgets what was not synced: for tests, and for whoever needs a small one.
//! (`sim::disk` has the full fault model.)

use super::disk::{Disk, DiskFile, DiskFuture};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a crash keeps or loses as one.
const SECTOR_BYTES: usize = 512;

/// Clones share the disk. A crash ends the life of all handles that were there before it: what a dead process still
/// tries to do fails.
#[derive(Clone, Default)]
pub struct MemDisk {
    tree: Arc<Mutex<Tree>>,
    /// Number of the life this handle belongs to.
    life: u64,
}

type File = Arc<Mutex<Content>>;

#[derive(Default)]
struct Tree {
    /// Names as they are, and as they are for certain after a crash.
    names: BTreeMap<String, File>,
    durable_names: BTreeMap<String, File>,
    /// What leads from the durable names to the names, in order.
    name_changes: Vec<NameChange>,
    failing: Option<Failing>,
    life: u64,
}

enum NameChange {
    Set(String, File),
    Remove(String),
    Rename(String, String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, File>) {
        match self {
            NameChange::Set(path, file) => _ = names.insert(path.clone(), file.clone()),
            NameChange::Remove(path) => _ = names.remove(path),
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }

    fn touches(&self, dir: &str) -> bool {
        match self {
            NameChange::Set(path, _) | NameChange::Remove(path) => parent(path) == dir,
            NameChange::Rename(from, to) => parent(from) == dir || parent(to) == dir,
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// What the disk refuses from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    Writes,
    Syncs,
    Reads,
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

    /// Power loss. What was not synced is lost, except what `keep` says yes to: it is asked for each change of a name, in order, until it says no;
    /// then for each file that grew, and for each changed sector. Gives the handle for the life after.
    pub fn crash(&self, mut keep: impl FnMut() -> bool) -> MemDisk {
        let mut tree = self.tree();
        let tree = &mut *tree;
        tree.life += 1;
        for change in tree.name_changes.drain(..) {
            if !keep() {
                break;
            }
            change.apply(&mut tree.durable_names);
        }
        tree.names = tree.durable_names.clone();
        for content in tree.names.values() {
            let mut content = lock(content);
            let content = &mut *content;
            if content.now.len() != content.durable.len() && keep() {
                content.durable.resize(content.now.len(), 0);
            }
            for (now, durable) in content.now.chunks(SECTOR_BYTES).zip(content.durable.chunks_mut(SECTOR_BYTES)) {
                let both = now.len().min(durable.len());
                if now[..both] != durable[..both] && keep() {
                    durable[..both].copy_from_slice(&now[..both]);
                }
            }
            content.now = content.durable.clone();
        }
        MemDisk { tree: self.tree.clone(), life: tree.life }
    }

    /// Death of the process only: the next one sees everything, but what was not synced still is not.
    pub fn kill(&self) -> MemDisk {
        let mut tree = self.tree();
        tree.life += 1;
        MemDisk { tree: self.tree.clone(), life: tree.life }
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Tree>> {
        let tree = self.tree();
        if tree.life == self.life { Ok(tree) } else { Err(io::Error::other("the machine lost power")) }
    }

    fn alive_and_not(&self, failing: Failing, path: &str) -> io::Result<MutexGuard<'_, Tree>> {
        let tree = self.alive()?;
        if tree.failing == Some(failing) {
            return Err(io::Error::other(format!("{path}: the disk fails ({failing:?})")));
        }
        Ok(tree)
    }

    /// From now on, until another call.
    pub fn fail(&self, failing: Option<Failing>) {
        self.tree().failing = failing;
    }

    /// From now on every sync fails.
    pub fn break_syncs(&self) {
        self.fail(Some(Failing::Syncs));
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

    fn change_names(&self, change: impl FnOnce(&Tree) -> io::Result<Vec<NameChange>>) -> io::Result<()> {
        let mut tree = self.alive()?;
        for change in change(&tree)? {
            change.apply(&mut tree.names);
            tree.name_changes.push(change);
        }
        Ok(())
    }

    fn file(&self, path: &str, content: File) -> Arc<dyn DiskFile> {
        Arc::new(MemFile { path: path.to_string(), content, disk: self.clone() })
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
        ready(self.alive().map(drop))
    }

    fn create<'a>(&'a self, path: &'a str, bytes: u64) -> DiskFuture<'a, Arc<dyn DiskFile>> {
        let content = Arc::new(Mutex::new(Content { now: vec![0; bytes as usize], durable: Vec::new() }));
        let created = self.alive_and_not(Failing::Writes, path).map(drop).and_then(|()| {
            self.change_names(|tree| {
                if tree.names.contains_key(path) {
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{path}: exists")));
                }
                Ok(vec![NameChange::Set(path.to_string(), content.clone())])
            })
        });
        ready(created.map(|()| self.file(path, content)))
    }

    fn open<'a>(&'a self, path: &'a str) -> DiskFuture<'a, Arc<dyn DiskFile>> {
        let content = self.alive().and_then(|tree| tree.names.get(path).cloned().ok_or_else(|| missing(path)));
        ready(content.map(|content| self.file(path, content)))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()> {
        ready(self.change_names(|tree| match tree.names.contains_key(from) {
            true => Ok(vec![NameChange::Rename(from.to_string(), to.to_string())]),
            false => Err(missing(from)),
        }))
    }

    fn remove<'a>(&'a self, path: &'a str) -> DiskFuture<'a, ()> {
        ready(self.change_names(|tree| match tree.names.contains_key(path) {
            true => Ok(vec![NameChange::Remove(path.to_string())]),
            false => Err(missing(path)),
        }))
    }

    fn list<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, Vec<String>> {
        let list = |tree: MutexGuard<'_, Tree>| {
            let here = tree.names.keys().filter(|path| parent(path) == dir);
            here.filter_map(|path| path.rsplit('/').next()).map(str::to_string).collect()
        };
        ready(self.alive().map(list))
    }

    fn sync_dir<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, ()> {
        let synced = self.alive_and_not(Failing::Syncs, dir).map(|mut tree| {
            let tree = &mut *tree;
            let changes = std::mem::take(&mut tree.name_changes);
            let (here, elsewhere) = changes.into_iter().partition::<Vec<_>, _>(|change| change.touches(dir));
            here.iter().for_each(|change| change.apply(&mut tree.durable_names));
            tree.name_changes = elsewhere;
        });
        ready(synced)
    }
}

struct MemFile {
    path: String,
    content: File,
    disk: MemDisk,
}

impl DiskFile for MemFile {
    fn len<'a>(&'a self) -> DiskFuture<'a, u64> {
        ready(self.disk.alive().map(|_| lock(&self.content).now.len() as u64))
    }

    fn read_at<'a>(&'a self, position: u64, bytes: usize) -> DiskFuture<'a, Bytes> {
        if let Err(error) = self.disk.alive_and_not(Failing::Reads, &self.path) {
            return ready(Err(error));
        }
        let content = lock(&self.content);
        let range = position as usize..position as usize + bytes;
        let found = content.now.get(range).map(Bytes::copy_from_slice);
        ready(found.ok_or_else(|| {
            let what = format!("{}: {bytes} bytes at position={position}, the file has {}", self.path, content.now.len());
            io::Error::new(io::ErrorKind::UnexpectedEof, what)
        }))
    }

    fn write_at<'a>(&'a self, position: u64, pieces: Vec<Bytes>) -> DiskFuture<'a, ()> {
        if let Err(error) = self.disk.alive_and_not(Failing::Writes, &self.path) {
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
        let synced = self.disk.alive_and_not(Failing::Syncs, &self.path).map(|_| {
            let mut content = lock(&self.content);
            content.durable = content.now.clone();
        });
        ready(synced)
    }
}
