//! The simulated disk of one node: forgets what was not synced, tears, fails, fills up, is slow.

mod content;

pub use content::{Loss, SECTOR_BYTES};

use crate::draw::{Draws, Source, Stream};
use bytes::Bytes;
use content::Content;
use floss_raft::env::disk::{Disk, DiskFile, DiskFuture};
use floss_raft::env::runtime::sync::Notify;
use floss_raft::env::runtime::time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A node's disk as the node sees it. A handle belongs to one life of the node: after [`SimDisk::end_life`] it fails, so that
/// what is left of a dead process writes nothing.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    life: u64,
}

struct Shared {
    tree: Mutex<Tree>,
    /// A file was renamed or removed.
    moved: Notify,
    /// It was durable under its name, too: it can come back.
    gone: Notify,
    latency: Source,
    crash: Source,
    base: Latency,
}

/// Milliseconds a healthy disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    pub sync_ms_min: u64,
    pub sync_ms_max: u64,
    /// Per mille of reads that miss the page cache and take as long as a sync.
    pub read_miss_per_mille: u64,
}

/// How far from its place a misdirected write lands.
const MISDIRECTED_BY: usize = 16 * SECTOR_BYTES;

/// What is wrong with a disk at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Added to every sync and read.
    pub slow_ms: u64,
    /// So many syncs fail, dropping what they should have written.
    pub failing_syncs: u64,
    /// Per mille of reads that fail.
    pub failing_reads_per_mille: u64,
    /// Nothing can grow.
    pub full: bool,
    /// So many writes land elsewhere in their file.
    pub misdirected_writes: u64,
}

/// Counted since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    pub writes: u64,
    pub syncs: u64,
    pub failed_syncs: u64,
    pub failed_reads: u64,
    pub refused_full: u64,
    pub slowed: u64,
    pub misdirected: u64,
}

/// What a power loss leaves of changes of names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// A file system may write them at any time.
    Kept,
    Drawn,
}

/// What a power loss took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerLoss {
    pub kept_sectors: u64,
    pub lost_sectors: u64,
    /// Files of which some unsynced sectors remained and some did not.
    pub torn_files: u64,
    pub lost_names: u64,
}

#[derive(Default)]
struct Tree {
    names: BTreeMap<String, Arc<Mutex<Content>>>,
    durable_names: BTreeMap<String, Arc<Mutex<Content>>>,
    /// Changes of names that are not durable, in order.
    pending: Vec<NameChange>,
    life: u64,
    faults: DiskFaults,
    counts: DiskCounts,
}

enum NameChange {
    Created(String, Arc<Mutex<Content>>),
    Renamed(String, String),
    Removed(String),
}

impl NameChange {
    fn dir(&self) -> &str {
        match self {
            Self::Created(path, _) | Self::Removed(path) | Self::Renamed(_, path) => split(path).0,
        }
    }

    fn apply(self, names: &mut BTreeMap<String, Arc<Mutex<Content>>>) {
        match self {
            Self::Created(path, content) => {
                names.insert(path, content);
            }
            Self::Removed(path) => {
                names.remove(&path);
            }
            Self::Renamed(from, to) => {
                if let Some(content) = names.remove(&from) {
                    names.insert(to, content);
                }
            }
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A task that panicked while it held the lock makes the run red anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimDisk {
    /// An empty disk.
    pub fn new(draws: Draws, node: u64, base: Latency) -> Self {
        let (latency, crash) = (draws.source(Stream::DiskLatency, node), draws.source(Stream::DiskCrash, node));
        let (moved, gone) = (Notify::new(), Notify::new());
        Self { shared: Arc::new(Shared { tree: Mutex::default(), moved, gone, latency, crash, base }), life: 0 }
    }

    /// The process died: nothing is lost, but nothing that it still holds works. Gives the handle for the next one.
    pub fn end_life(&self) -> SimDisk {
        let mut tree = lock(&self.shared.tree);
        tree.life += 1;
        SimDisk { shared: self.shared.clone(), life: tree.life }
    }

    /// The machine lost power. Gives the handle for the next process.
    pub fn lose_power(&self, names: Names) -> (SimDisk, PowerLoss) {
        let next = self.end_life();
        let mut tree = lock(&self.shared.tree);
        let draws = &self.shared.crash;
        let mut loss = PowerLoss::default();
        let pending = std::mem::take(&mut tree.pending);
        // A journaling file system keeps a prefix of the changes of names.
        let lost = draws.chance(500);
        let kept = match names {
            Names::Kept => pending.len(),
            Names::Drawn if lost => 0,
            Names::Drawn => draws.below(pending.len() as u64 + 1) as usize,
        };
        loss.lost_names = (pending.len() - kept) as u64;
        for change in pending.into_iter().take(kept) {
            change.apply(&mut tree.durable_names);
        }
        tree.names = tree.durable_names.clone();
        for content in tree.names.values() {
            let file = lock(content).lose_power(draws);
            loss.kept_sectors += file.kept_sectors;
            loss.lost_sectors += file.lost_sectors;
            loss.torn_files += u64::from(file.kept_sectors > 0 && file.lost_sectors > 0);
        }
        (next, loss)
    }

    /// Everything on it is gone. Gives the handle for the next process.
    pub fn wipe(&self) -> SimDisk {
        let next = self.end_life();
        let mut tree = lock(&self.shared.tree);
        tree.names.clear();
        tree.durable_names.clear();
        tree.pending.clear();
        // The new one does not lie.
        tree.faults.misdirected_writes = 0;
        next
    }

    /// Flips some bits of a sector that holds synced data. Where; None if there is no such sector.
    pub fn rot(&self) -> Option<String> {
        let tree = lock(&self.shared.tree);
        let draws = &self.shared.crash;
        let sectors = tree.durable_names.iter().flat_map(|(name, content)| {
            let used = lock(content).used_sectors();
            used.into_iter().map(move |sector| (name.clone(), sector))
        });
        let sectors: Vec<(String, usize)> = sectors.collect();
        let (name, sector) = sectors.get(draws.below(sectors.len().max(1) as u64) as usize)?.clone();
        for _ in 0..draws.between(1, 8) {
            lock(&tree.durable_names[&name]).flip(sector, draws.below(8 * SECTOR_BYTES as u64) as usize);
        }
        Some(format!("{name} at position={}", sector * SECTOR_BYTES))
    }

    pub fn change_faults(&self, change: impl FnOnce(&mut DiskFaults)) {
        change(&mut lock(&self.shared.tree).faults);
    }

    fn tell_moved(&self, tree: &Tree, path: &str) {
        self.shared.moved.notify_waiters();
        if tree.durable_names.contains_key(path) {
            self.shared.gone.notify_waiters();
        }
    }

    /// Returns when a file is renamed or removed next, in this life or a later one; within `patience`, only for one that could come back.
    pub async fn moved(&self, patience: Duration) {
        if time::timeout(patience, self.shared.gone.notified()).await.is_err() {
            self.shared.moved.notified().await;
        }
    }

    pub fn counts(&self) -> DiskCounts {
        lock(&self.shared.tree).counts
    }

    fn alive(&self, path: &str) -> io::Result<MutexGuard<'_, Tree>> {
        let tree = lock(&self.shared.tree);
        if tree.life == self.life { Ok(tree) } else { Err(io::Error::other(format!("{path}: the process is dead"))) }
    }

    /// What an operation takes that goes to the platter.
    fn platter_time(&self, tree: &mut Tree) -> Duration {
        let Latency { sync_ms_min, sync_ms_max, .. } = self.shared.base;
        let slow_ms = if tree.faults.slow_ms > 0 { self.shared.latency.between(0, tree.faults.slow_ms * 2) } else { 0 };
        tree.counts.slowed += u64::from(slow_ms > 0);
        Duration::from_millis(self.shared.latency.between(sync_ms_min, sync_ms_max) + slow_ms)
    }
}

fn missing(path: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("{path}: no such file"))
}

fn full(path: &str) -> io::Error {
    io::Error::new(ErrorKind::StorageFull, format!("{path}: no space left on the simulated disk"))
}

impl Disk for SimDisk {
    fn create_dir<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, ()> {
        // Directories exist by being named.
        Box::pin(async move { self.alive(dir).map(|_| ()) })
    }

    fn create<'a>(&'a self, path: &'a str, bytes: u64) -> DiskFuture<'a, Arc<dyn DiskFile>> {
        Box::pin(async move {
            let content = {
                let mut tree = self.alive(path)?;
                if tree.names.contains_key(path) {
                    return Err(io::Error::new(ErrorKind::AlreadyExists, format!("{path}: exists")));
                }
                if tree.faults.full {
                    tree.counts.refused_full += 1;
                    return Err(full(path));
                }
                let content = Arc::new(Mutex::new(Content::zeros(bytes as usize)));
                tree.names.insert(path.to_owned(), content.clone());
                tree.pending.push(NameChange::Created(path.to_owned(), content.clone()));
                content
            };
            Ok(Arc::new(SimFile { path: path.to_owned(), content, disk: self.clone() }) as Arc<dyn DiskFile>)
        })
    }

    fn open<'a>(&'a self, path: &'a str) -> DiskFuture<'a, Arc<dyn DiskFile>> {
        Box::pin(async move {
            let content = self.alive(path)?.names.get(path).cloned().ok_or_else(|| missing(path))?;
            Ok(Arc::new(SimFile { path: path.to_owned(), content, disk: self.clone() }) as Arc<dyn DiskFile>)
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> DiskFuture<'a, ()> {
        Box::pin(async move {
            let mut tree = self.alive(from)?;
            let moved = tree.names.remove(from).ok_or_else(|| missing(from))?;
            tree.names.insert(to.to_owned(), moved);
            tree.pending.push(NameChange::Renamed(from.to_owned(), to.to_owned()));
            self.tell_moved(&tree, from);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, path: &'a str) -> DiskFuture<'a, ()> {
        Box::pin(async move {
            let mut tree = self.alive(path)?;
            tree.names.remove(path).ok_or_else(|| missing(path))?;
            tree.pending.push(NameChange::Removed(path.to_owned()));
            self.tell_moved(&tree, path);
            Ok(())
        })
    }

    fn list<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, Vec<String>> {
        Box::pin(async move {
            let tree = self.alive(dir)?;
            let here = tree.names.keys().map(|path| split(path)).filter(|(parent, _)| *parent == dir);
            Ok(here.map(|(_, name)| name.to_owned()).collect())
        })
    }

    fn sync_dir<'a>(&'a self, dir: &'a str) -> DiskFuture<'a, ()> {
        Box::pin(async move {
            let (upto, wait) = {
                let mut tree = self.alive(dir)?;
                (tree.pending.len(), self.platter_time(&mut tree))
            };
            time::sleep(wait).await;
            let mut tree = self.alive(dir)?;
            let upto = upto.min(tree.pending.len());
            let (here, others): (Vec<_>, Vec<_>) = tree.pending.drain(..upto).partition(|change| change.dir() == dir);
            tree.pending.splice(..0, others);
            for change in here {
                change.apply(&mut tree.durable_names);
            }
            Ok(())
        })
    }
}

struct SimFile {
    path: String,
    content: Arc<Mutex<Content>>,
    disk: SimDisk,
}

impl DiskFile for SimFile {
    fn len<'a>(&'a self) -> DiskFuture<'a, u64> {
        Box::pin(async move {
            let _alive = self.disk.alive(&self.path)?;
            Ok(lock(&self.content).bytes() as u64)
        })
    }

    fn read_at<'a>(&'a self, position: u64, bytes: usize) -> DiskFuture<'a, Bytes> {
        Box::pin(async move {
            let wait = {
                let mut tree = self.disk.alive(&self.path)?;
                let draws = &self.disk.shared.latency;
                if tree.faults.failing_reads_per_mille > 0 && draws.chance(tree.faults.failing_reads_per_mille) {
                    tree.counts.failed_reads += 1;
                    return Err(io::Error::other(format!("{}: input/output error at position={position}", self.path)));
                }
                let miss = tree.faults.slow_ms > 0 || draws.chance(self.disk.shared.base.read_miss_per_mille);
                miss.then(|| self.disk.platter_time(&mut tree))
            };
            if let Some(wait) = wait {
                time::sleep(wait).await;
            }
            let _alive = self.disk.alive(&self.path)?;
            let content = lock(&self.content);
            content.read(position as usize, bytes).map(Bytes::copy_from_slice).ok_or_else(|| {
                let found = content.bytes();
                let what = format!("{}: {bytes} bytes at position={position}, the file has {found}", self.path);
                io::Error::new(ErrorKind::UnexpectedEof, what)
            })
        })
    }

    fn write_at<'a>(&'a self, position: u64, pieces: Vec<Bytes>) -> DiskFuture<'a, ()> {
        Box::pin(async move {
            let mut tree = self.disk.alive(&self.path)?;
            let mut content = lock(&self.content);
            let end = position as usize + pieces.iter().map(Bytes::len).sum::<usize>();
            if tree.faults.full && end > content.bytes() {
                tree.counts.refused_full += 1;
                return Err(full(&self.path));
            }
            tree.counts.writes += 1;
            let mut at = position as usize;
            if tree.faults.misdirected_writes > 0 && end + MISDIRECTED_BY <= content.bytes() {
                tree.faults.misdirected_writes -= 1;
                tree.counts.misdirected += 1;
                at += MISDIRECTED_BY;
            }
            for piece in pieces {
                content.write(at, &piece);
                at += piece.len();
            }
            Ok(())
        })
    }

    fn sync<'a>(&'a self) -> DiskFuture<'a, ()> {
        Box::pin(async move {
            let (flush, wait) = {
                let mut tree = self.disk.alive(&self.path)?;
                (lock(&self.content).start_flush(), self.disk.platter_time(&mut tree))
            };
            time::sleep(wait).await;
            let mut tree = self.disk.alive(&self.path)?;
            tree.counts.syncs += 1;
            if tree.faults.failing_syncs > 0 {
                tree.faults.failing_syncs -= 1;
                tree.counts.failed_syncs += 1;
                lock(&self.content).fail_flush(flush);
                return Err(io::Error::other(format!("{}: sync failed", self.path)));
            }
            lock(&self.content).end_flush(flush);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floss_raft::env::disk_contract::check_disk;
    use floss_raft::env::runtime::{block_on, spawn};

    const QUICK: Latency = Latency { sync_ms_min: 0, sync_ms_max: 1, read_miss_per_mille: 100 };

    fn disk(seed: u64) -> SimDisk {
        SimDisk::new(Draws::new(seed), 1, QUICK)
    }

    #[test]
    fn keeps_the_contract() {
        block_on(async { check_disk(&disk(1)).await });
    }

    #[test]
    fn power_loss_takes_names_and_bytes_that_were_not_synced() {
        block_on(async {
            let (mut lost_names, mut lost_bytes, mut kept_bytes) = (0, 0, 0);
            for seed in 0..40 {
                let disk = disk(seed);
                let kept = disk.create("d/kept", 1024).await.unwrap();
                kept.sync().await.unwrap();
                disk.sync_dir("d").await.unwrap();
                kept.write_at(0, vec![Bytes::from(vec![7; 1024])]).await.unwrap();
                disk.create("d/new", 1).await.unwrap();
                let (after, _) = disk.lose_power(Names::Drawn);
                assert!(kept.sync().await.is_err(), "a dead process writes nothing");
                let names = after.list("d").await.unwrap();
                assert!(names.contains(&"kept".to_owned()));
                lost_names += usize::from(names.len() == 1);
                let bytes = after.open("d/kept").await.unwrap().read_at(0, 1024).await.unwrap();
                lost_bytes += usize::from(bytes.contains(&0));
                kept_bytes += usize::from(bytes.contains(&7));
            }
            assert!(lost_names > 5 && lost_names < 40, "{lost_names}");
            assert!(lost_bytes > 10 && kept_bytes > 10, "{lost_bytes} {kept_bytes}");
        });
    }

    #[test]
    fn names_that_are_kept_are_those_of_the_moment() {
        const PATIENCE: Duration = Duration::from_secs(600);
        block_on(async {
            for seed in 0..20 {
                let disk = disk(seed);
                disk.create("d/old", 1).await.unwrap();
                disk.sync_dir("d").await.unwrap();
                let (other, started) = (disk.clone(), time::Instant::now());
                let waiting = spawn(async move {
                    other.moved(PATIENCE).await;
                    started.elapsed()
                });
                time::sleep(Duration::from_millis(1)).await;
                // This one was never durable under its name, so it is not waited for.
                disk.create("d/fresh", 1).await.unwrap();
                disk.rename("d/fresh", "d/spare").await.unwrap();
                time::sleep(Duration::from_millis(1)).await;
                assert!(!waiting.is_finished());
                disk.rename("d/old", "d/new").await.unwrap();
                let waited = waiting.await.unwrap();
                assert!(waited < PATIENCE, "{waited:?}");
                let (after, loss) = disk.lose_power(Names::Kept);
                assert_eq!((after.list("d").await.unwrap(), loss.lost_names), (vec!["new".to_owned(), "spare".to_owned()], 0));
            }
        });
    }

    #[test]
    fn a_killed_process_loses_nothing() {
        block_on(async {
            let disk = disk(1);
            let file = disk.create("d/one", 4).await.unwrap();
            file.write_at(0, vec![Bytes::from_static(b"abcd")]).await.unwrap();
            let after = disk.end_life();
            assert!(disk.list("d").await.is_err());
            let bytes = after.open("d/one").await.unwrap().read_at(0, 4).await.unwrap();
            assert_eq!(bytes, Bytes::from_static(b"abcd"));
        });
    }

    #[test]
    fn a_disk_that_lies_is_replaced_by_an_empty_one_that_does_not() {
        block_on(async {
            let disk = disk(1);
            assert_eq!(disk.rot(), None, "there is nothing on it");
            let file = disk.create("d/one", 16_384).await.unwrap();
            let (good, zeros) = (Bytes::from(vec![7; 512]), Bytes::from(vec![0; 512]));
            file.write_at(0, vec![good.clone()]).await.unwrap();
            assert_eq!(disk.rot(), None, "nothing of it is synced");
            file.sync().await.unwrap();
            disk.sync_dir("d").await.unwrap();
            assert_eq!(disk.rot().as_deref(), Some("d/one at position=0"));
            assert_ne!(file.read_at(0, 512).await.unwrap(), good);

            disk.change_faults(|faults| faults.misdirected_writes = 2);
            file.write_at(1_024, vec![good.clone()]).await.unwrap();
            assert_eq!(file.read_at(1_024, 512).await.unwrap(), zeros);
            assert_eq!(file.read_at(1_024 + MISDIRECTED_BY as u64, 512).await.unwrap(), good);
            assert_eq!(disk.counts().misdirected, 1);

            let fresh = disk.wipe();
            assert!(disk.list("d").await.is_err(), "the old process is dead");
            assert!(fresh.list("d").await.unwrap().is_empty());
            let file = fresh.create("d/one", 16_384).await.unwrap();
            file.write_at(1_024, vec![good.clone()]).await.unwrap();
            assert_eq!(file.read_at(1_024, 512).await.unwrap(), good);
        });
    }

    #[test]
    fn faults_come_when_they_are_told_to() {
        block_on(async {
            let disk = disk(1);
            let file = disk.create("d/one", 4).await.unwrap();
            disk.change_faults(|faults| faults.failing_syncs = 1);
            file.write_at(0, vec![Bytes::from_static(b"abcd")]).await.unwrap();
            assert!(file.sync().await.is_err());
            assert!(file.sync().await.is_ok());
            assert_eq!(file.read_at(0, 4).await.unwrap(), Bytes::from_static(&[0; 4]), "the pages are gone");
            disk.change_faults(|faults| faults.full = true);
            assert!(disk.create("d/two", 4).await.is_err());
            assert_eq!(file.write_at(2, vec![Bytes::from_static(b"xyz")]).await.unwrap_err().kind(), ErrorKind::StorageFull);
            file.write_at(0, vec![Bytes::from_static(b"in")]).await.unwrap();
            disk.change_faults(|faults| *faults = DiskFaults { failing_reads_per_mille: 1000, ..DiskFaults::default() });
            assert!(file.read_at(0, 2).await.is_err());
            let DiskCounts { failed_syncs, failed_reads, refused_full, .. } = disk.counts();
            assert_eq!((failed_syncs, failed_reads, refused_full), (1, 1, 2));
        });
    }
}
