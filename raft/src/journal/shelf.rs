//! The journal's files by name; spare ones are made and sorted in the background, so that no write waits for zeros.
//!
//! `{sequence}.journal` holds records. `spare-{number}` holds nothing of worth and has the normal size. `fresh-{number}` is being
//! filled with zeros. Other names are not ours and stay as they are.

use crate::env::disk::{Disk, DiskFile};
use crate::env::runtime::sync::Notify;
use floss_protocol::{mutant, reached};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Files are made of whole disk blocks.
const BLOCK: u64 = 4096;
/// Spares kept; what is more is removed.
const SPARES_MAX: usize = 2;

pub fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.journal")
}

/// What a name in the journal's directory means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Records(u64),
    Spare(u64),
    Fresh,
    NotOurs,
}

impl Named {
    pub fn parse(name: &str) -> Self {
        let number = |hex: &str| (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok()).flatten();
        if let Some(sequence) = name.strip_suffix(".journal").and_then(number) {
            return Named::Records(sequence);
        }
        match name.strip_prefix("spare-").and_then(number) {
            Some(spare) => Named::Spare(spare),
            None if name.strip_prefix("fresh-").and_then(number).is_some() => Named::Fresh,
            None => Named::NotOurs,
        }
    }
}

pub struct Shelf {
    disk: Arc<dyn Disk>,
    dir: String,
    file_bytes: u64,
    stock: Mutex<Stock>,
    work: Notify,
}

#[derive(Default)]
struct Stock {
    spares: Vec<String>,
    next_number: u64,
    /// A spare was asked for and is not there yet.
    asked: bool,
    /// Paths of files that hold nothing wanted any more.
    retired: Vec<String>,
    closing: bool,
}

impl Shelf {
    pub fn new(disk: Arc<dyn Disk>, dir: String, file_bytes: u64) -> Self {
        Self { disk, dir, file_bytes, stock: Mutex::new(Stock::default()), work: Notify::new() }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().expect("no panic happens while the stock is held")
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// Puts away what a start has found besides records.
    pub async fn sort(&self, names: &[String]) -> io::Result<()> {
        let numbers = names.iter().map(|name| match Named::parse(name) {
            Named::Spare(number) => number + 1,
            _ => 0,
        });
        self.stock().next_number = numbers.max().unwrap_or(0);
        for name in names {
            let path = self.path(name);
            match Named::parse(name) {
                Named::Spare(_) => self.put_away(&path).await?,
                // Records: torn ones bear a sequence that may be given again, so their bytes must not come back under it.
                Named::Records(_) | Named::Fresh => self.disk.remove(&path).await?,
                Named::NotOurs => {}
            }
        }
        Ok(())
    }

    /// A pre-written file of at least `bytes`, durably under the name of `sequence`.
    pub async fn take(&self, sequence: u64, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let spare = if bytes <= self.file_bytes { self.stock().spares.pop() } else { None };
        let source = match spare {
            Some(spare) => {
                reached!("journal_file_recycled");
                spare
            }
            None => self.make(bytes.max(self.file_bytes).next_multiple_of(BLOCK)).await?,
        };
        let path = self.path(&file_name(sequence));
        self.disk.rename(&source, &path).await?;
        // Durable before the first byte changes: a file that was begun never comes back under its old name.
        if !mutant!("R02") {
            self.disk.sync_dir(&self.dir).await?;
        }
        self.disk.open(&path).await
    }

    /// Zeros, synced, under a name that a restart removes.
    async fn make(&self, bytes: u64) -> io::Result<String> {
        let path = self.path(&format!("fresh-{:016x}", self.number()));
        let made = match self.disk.create(&path, bytes).await {
            Ok(file) => file.sync().await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            // Best effort: the disk may be full, and half a file would keep it so.
            let _ = self.disk.remove(&path).await;
            return Err(error);
        }
        Ok(path)
    }

    fn number(&self) -> u64 {
        let mut stock = self.stock();
        stock.next_number += 1;
        stock.next_number - 1
    }

    /// Asks for a spare if there is none.
    pub fn prepare(&self) {
        let mut stock = self.stock();
        if stock.spares.is_empty() && !stock.asked && !stock.closing {
            stock.asked = true;
            drop(stock);
            self.work.notify_one();
        }
    }

    /// Hands over files of which nothing is wanted.
    pub fn retire(&self, sequences: &[u64]) {
        if sequences.is_empty() {
            return;
        }
        let paths = sequences.iter().map(|sequence| self.path(&file_name(*sequence)));
        self.stock().retired.extend(paths);
        self.work.notify_one();
    }

    /// Lets [`Shelf::run`] end.
    pub fn close(&self) {
        self.stock().closing = true;
        self.work.notify_one();
    }

    /// The background: puts retired files away, makes spares. A failure costs space or time, never records: it is told and left.
    pub async fn run(self: Arc<Self>) {
        loop {
            let (retired, asked, closing) = {
                let mut stock = self.stock();
                (std::mem::take(&mut stock.retired), stock.asked, stock.closing)
            };
            for path in &retired {
                if let Err(error) = self.put_away(path).await {
                    tracing::warn!(%error, path, "journal file not recycled");
                }
            }
            if closing {
                return;
            }
            if asked {
                self.make_spare().await;
            } else if retired.is_empty() {
                self.work.notified().await;
            }
        }
    }

    async fn make_spare(&self) {
        let made = if self.stock().spares.is_empty() { self.make_named_spare().await } else { Ok(()) };
        if let Err(error) = made {
            tracing::warn!(%error, dir = self.dir, "no spare journal file made");
        }
        self.stock().asked = false;
    }

    async fn make_named_spare(&self) -> io::Result<()> {
        let fresh = self.make(self.file_bytes).await?;
        self.put_away(&fresh).await
    }

    /// A file without worth becomes a spare, or goes.
    async fn put_away(&self, path: &str) -> io::Result<()> {
        let bytes = self.disk.open(path).await?.len().await?;
        if self.stock().spares.len() >= SPARES_MAX || bytes != self.file_bytes {
            return self.disk.remove(path).await;
        }
        let spare = self.path(&format!("spare-{:016x}", self.number()));
        self.disk.rename(path, &spare).await?;
        self.stock().spares.push(spare);
        Ok(())
    }
}
