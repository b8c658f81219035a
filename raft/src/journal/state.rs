//! What calls and the writer share: the index, the queue, the payloads in memory.

use super::frame::{Frame, Kind};
use super::index::{Index, Place};
use super::{JournalConfig, OnDurable};
use crate::env::disk::DiskFile;
use crate::env::runtime::sync::Notify;
use crate::types::{GroupId, LogId};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

pub struct Shared {
    pub config: JournalConfig,
    pub state: Mutex<State>,
    /// Wakes the writer.
    pub work: Notify,
    /// Told when the writer has ended.
    pub ended: Notify,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while the journal's state is held")
    }
}

/// One thing queued.
enum Item {
    Frame(Frame),
    /// To be told when everything before it is durable.
    Told(OnDurable),
}

/// What one write makes durable.
#[derive(Default)]
pub struct Batch {
    pub frames: Vec<Frame>,
    pub told: Vec<OnDurable>,
}

/// What the writer does next.
pub enum Next {
    Write(Batch),
    /// Nothing but committed positions is queued: they may ride along with something else for a while.
    Later,
    Wait,
    End,
}

pub struct State {
    /// Already in the state after everything that is queued.
    pub index: Index,
    pub files: BTreeMap<u64, Arc<dyn DiskFile>>,
    queue: VecDeque<Item>,
    /// How many of `queue` are more than a committed position.
    urgent_count: usize,
    /// Payloads in memory, oldest first, and their bytes.
    cached: VecDeque<(GroupId, LogId, u32)>,
    cached_bytes: u64,
    poisoned: Option<(io::ErrorKind, String)>,
    pub closing: bool,
    pub ended: bool,
}

impl State {
    pub fn new(index: Index, files: BTreeMap<u64, Arc<dyn DiskFile>>) -> Self {
        Self {
            index,
            files,
            queue: VecDeque::new(),
            urgent_count: 0,
            cached: VecDeque::new(),
            cached_bytes: 0,
            poisoned: None,
            closing: false,
            ended: false,
        }
    }

    pub fn check_healthy(&self) -> io::Result<()> {
        match &self.poisoned {
            Some((kind, what)) => Err(io::Error::new(*kind, what.clone())),
            None => Ok(()),
        }
    }

    /// Errors: poisoned, closed.
    pub fn check_open(&self) -> io::Result<()> {
        self.check_healthy()?;
        if self.closing { Err(io::Error::new(io::ErrorKind::BrokenPipe, "the journal is closed")) } else { Ok(()) }
    }

    /// The first failure stays: what is asked afterwards gets the same answer.
    pub fn poison(&mut self, error: &io::Error) {
        self.poisoned.get_or_insert_with(|| (error.kind(), format!("the journal is poisoned: {error}")));
    }

    /// Applies a frame and queues it.
    ///
    /// Errors: it contradicts what the group stands at; nothing is changed then.
    pub fn push(&mut self, frame: Frame) -> io::Result<()> {
        // Before the change: a file that it empties is idle once this frame is durable.
        self.index.files.queued_count += 1;
        let number = self.index.files.queued_count;
        if let Err(reason) = self.index.apply(&frame, Place::Queued { number }) {
            self.index.files.queued_count -= 1;
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {reason}", frame.group)));
        }
        if frame.kind.is_entry() {
            let bytes = u32::try_from(frame.bytes()).expect("payloads are bounded where they come in");
            self.cached.push_back((frame.group, frame.id, bytes));
            self.cached_bytes += u64::from(bytes);
        }
        self.urgent_count += usize::from(frame.kind != Kind::Committed);
        self.queue.push_back(Item::Frame(frame));
        Ok(())
    }

    pub fn tell(&mut self, told: OnDurable) {
        self.urgent_count += 1;
        self.queue.push_back(Item::Told(told));
    }

    /// As much of the queue as fits `bytes_max`, but at least one frame, and never a part of an install.
    pub fn next(&mut self, bytes_max: u64, overdue: bool) -> Next {
        if self.queue.is_empty() {
            return if self.closing { Next::End } else { Next::Wait };
        }
        if self.urgent_count == 0 && !overdue && !self.closing {
            return Next::Later;
        }
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while let Some(item) = self.queue.front() {
            if let Item::Frame(frame) = item {
                let inside_install = batch.frames.last().is_some_and(|before| before.kind == Kind::Retained);
                bytes += frame.bytes() as u64;
                if bytes > bytes_max && !batch.frames.is_empty() && !inside_install {
                    break;
                }
            }
            match self.queue.pop_front().expect("just seen") {
                Item::Frame(frame) => {
                    self.urgent_count -= usize::from(frame.kind != Kind::Committed);
                    batch.frames.push(frame);
                }
                Item::Told(told) => {
                    self.urgent_count -= 1;
                    batch.told.push(told);
                }
            }
        }
        Next::Write(batch)
    }

    /// Everything that still waits for an answer.
    pub fn drain(&mut self) -> Vec<OnDurable> {
        self.urgent_count = 0;
        let told = |item| match item {
            Item::Told(told) => Some(told),
            Item::Frame(_) => None,
        };
        self.queue.drain(..).filter_map(told).collect()
    }

    /// Lets go of the oldest payloads that are on disk, down to the budget. What is not written yet stays, whatever the budget.
    pub fn shrink_cache(&mut self, bytes_max: u64) {
        while self.cached_bytes > bytes_max {
            let Some((group, id, bytes)) = self.cached.front().copied() else { return };
            if !self.index.evict(group, id) {
                return;
            }
            self.cached.pop_front();
            self.cached_bytes -= u64::from(bytes);
        }
    }
}
