//! The one task that writes the journal: takes what is queued, writes it once, syncs it once, answers in order.
//!
//! One write is in flight at a time. More would be possible behind the same answers, as long as a batch is answered after
//! all before it; recovery would then need to know which batches were in flight together.

use super::OnDurable;
use super::frame::{FILE_HEADER_BYTES, FileHeader, Frame, Kind, batch_bytes, encode_batch};
use super::index::SEQUENCE_MAX;
use super::mark::{self, Checkpoint, Marks};
use super::recover::Recovered;
use super::shelf::{Shelf, file_name};
use super::state::{Batch, Next, Shared};
use crate::env::disk::DiskFile;
use crate::env::runtime::time::{Duration, timeout};
use crate::env::runtime::{JoinHandle, spawn};
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// One write holds about this much; more waits for the next.
const WRITE_BYTES_MAX: u64 = 4 << 20;
/// A committed position with nothing else to write waits this long for company.
const COMMITTED_WAIT_MS_MAX: u64 = if cfg!(test) { 10 } else { 1000 };

/// The file that is being written.
struct Current {
    file: Arc<dyn DiskFile>,
    sequence: u64,
    bytes: u64,
    /// Where the next batch goes.
    position: u64,
}

pub struct Writer {
    shared: Arc<Shared>,
    shelf: Arc<Shelf>,
    current: Option<Current>,
    /// Where the last batch of every earlier file ends.
    ends: BTreeMap<u64, u64>,
    /// What every group stands at after the last durable frame.
    marks: Marks,
    next_sequence: u64,
    next_batch: u64,
    /// Of the frames counted in `Files::queued_count`, how many are durable.
    durable_count: u64,
}

impl Writer {
    /// `recovered.index` and `.files` are in `shared` already.
    pub fn new(shared: Arc<Shared>, shelf: Arc<Shelf>, recovered: Recovered, marks: Marks) -> Self {
        let current = recovered.tail.map(|tail| Current {
            file: tail.file,
            sequence: tail.sequence,
            bytes: tail.bytes,
            position: tail.position,
        });
        Self {
            shared,
            shelf,
            current,
            ends: recovered.ends,
            marks,
            next_sequence: recovered.next_sequence,
            next_batch: recovered.next_batch,
            durable_count: 0,
        }
    }

    /// Makes sure that there is a file to write into.
    pub async fn start(&mut self) -> io::Result<()> {
        if self.current.is_none() { self.roll(&[]).await } else { Ok(()) }
    }

    /// Writes what is queued until the journal is closed or the disk fails.
    pub async fn run(mut self) {
        let background = spawn(self.shelf.clone().run());
        let mut overdue = false;
        loop {
            let next = self.shared.state().next(self.batch_bytes_max(), overdue);
            overdue = false;
            match next {
                Next::Write(batch) => {
                    if self.write_and_answer(batch).await.is_err() {
                        break;
                    }
                }
                Next::Later => {
                    let wait = Duration::from_millis(COMMITTED_WAIT_MS_MAX);
                    overdue = timeout(wait, self.shared.work.notified()).await.is_err();
                }
                Next::Wait => self.shared.work.notified().await,
                Next::End => break,
            }
        }
        self.end(background).await;
    }

    fn batch_bytes_max(&self) -> u64 {
        WRITE_BYTES_MAX.min(self.shared.config.file_bytes / 2)
    }

    async fn write_and_answer(&mut self, batch: Batch) -> io::Result<()> {
        let Batch { frames, mut told } = batch;
        if mutant!("R01") {
            answer(std::mem::take(&mut told), &Ok(()));
        }
        let result = if frames.is_empty() { Ok(()) } else { self.write(&frames).await };
        if let Err(error) = &result {
            tracing::error!(%error, "the journal cannot write: poisoned");
            self.shared.state().poison(error);
        }
        answer(told, &result);
        if result.is_ok() {
            self.recycle();
        }
        result
    }

    async fn write(&mut self, frames: &[Frame]) -> io::Result<()> {
        match &self.current {
            Some(current) if current.position + batch_bytes(frames) <= current.bytes => {
                self.write_batch(frames, Vec::new()).await?;
            }
            _ => self.roll(frames).await?,
        }
        self.durable_count += frames.len() as u64;
        for frame in frames {
            let applied = mark::apply(&mut self.marks, frame);
            assert!(applied.is_ok(), "{applied:?} for a frame that the index took: our code is the suspect");
        }
        Ok(())
    }

    /// Starts a new file with a checkpoint and these frames.
    async fn roll(&mut self, frames: &[Frame]) -> io::Result<()> {
        reached!("journal_rolled");
        let sequence = self.next_sequence;
        if sequence > SEQUENCE_MAX {
            return Err(io::Error::other(format!("journal file sequence={sequence} is above {SEQUENCE_MAX}")));
        }
        let mut ends = self.ends.clone();
        ends.extend(self.current.as_ref().map(|current| (current.sequence, current.position)));
        let checkpoint = Frame::new(Kind::Checkpoint, GroupId(0), LogId::default(), Checkpoint::encode(&ends, &self.marks));
        let checkpoint_bytes = checkpoint.bytes() as u64;
        let mut all = vec![checkpoint];
        all.extend_from_slice(frames);
        let mut bytes = FILE_HEADER_BYTES + batch_bytes(&all);
        if checkpoint_bytes > self.shared.config.file_bytes / 4 {
            // Room for more than the checkpoint, or every batch would begin a file and repeat it.
            bytes += self.shared.config.file_bytes;
        }
        let file = self.shelf.take(sequence, bytes).await?;
        let bytes = file.len().await?;
        {
            let mut state = self.shared.state();
            state.files.insert(sequence, file.clone());
            state.index.files.add(sequence);
        }
        (self.ends, self.next_sequence) = (ends, sequence + 1);
        self.current = Some(Current { file, sequence, bytes, position: FILE_HEADER_BYTES });
        self.write_batch(&all, vec![FileHeader { sequence }.encode()]).await
    }

    /// Writes and syncs one batch; `head` goes before it, from the start of the file.
    async fn write_batch(&mut self, frames: &[Frame], head: Vec<Bytes>) -> io::Result<()> {
        let current = self.current.as_mut().expect("a file was begun before the first batch");
        let batch = encode_batch(self.next_batch, frames, current.sequence, current.position);
        let end = current.position + batch.bytes;
        assert!(end <= current.bytes, "a batch up to position={end} in a file of {} bytes", current.bytes);
        let from = if head.is_empty() { current.position } else { 0 };
        let pieces = head.into_iter().chain(batch.pieces).collect();
        if mutant!("R14") {
            current.file.write_at(from, pieces).await?;
            _ = current.file.sync().await;
        } else if let Err(error) = current.file.write_durably(from, pieces).await {
            // What the sync did not write is dropped; a second one says nothing about it.
            let trusted = mutant!("R15") && current.file.sync().await.is_ok();
            trusted.then_some(()).ok_or(error)?;
        }
        self.next_batch += 1;
        current.position = end;
        if current.position > current.bytes / 2 {
            self.shelf.prepare();
        }
        let mut state = self.shared.state();
        let mut number = self.durable_count;
        for (frame, position) in frames.iter().zip(&batch.positions) {
            // A checkpoint was never in the queue.
            number += u64::from(frame.kind != Kind::Checkpoint);
            if frame.kind.is_entry() {
                state.index.locate(frame, number, current.sequence, *position);
            }
        }
        state.shrink_cache(self.shared.config.cache_bytes_max);
        Ok(())
    }

    /// Gives away files that nobody wants an entry of, not even after a crash.
    fn recycle(&mut self) {
        let Some(current) = &self.current else { return };
        let idle = {
            let mut state = self.shared.state();
            let idle = state.index.files.take_idle(current.sequence, self.durable_count);
            idle.iter().for_each(|sequence| _ = state.files.remove(sequence));
            idle
        };
        idle.iter().for_each(|sequence| _ = self.ends.remove(sequence));
        for sequence in &idle {
            tracing::debug!(file = file_name(*sequence), "journal file retired");
        }
        self.shelf.retire(&idle);
    }

    async fn end(self, background: JoinHandle<()>) {
        self.shelf.close();
        // It ends by itself; a panic in it has cost a spare file at most.
        let _ = background.await;
        let (left, error) = {
            let mut state = self.shared.state();
            state.ended = true;
            (state.drain(), state.check_open())
        };
        answer(left, &error);
        self.shared.ended.notify_waiters();
    }
}

impl Drop for Writer {
    /// If the writer is gone before its end (a panic, or the runtime was dropped), nobody waits for it for ever.
    fn drop(&mut self) {
        let Ok(mut state) = self.shared.state.lock() else { return };
        if !state.ended {
            state.poison(&io::Error::other("its writer is gone"));
            state.ended = true;
            let left = state.drain();
            drop(state);
            drop(left);
            self.shared.ended.notify_waiters();
        }
    }
}

fn answer(told: Vec<OnDurable>, result: &io::Result<()>) {
    for told in told {
        told(match result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
}
