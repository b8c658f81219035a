//! The one task that writes the journal.

use super::frame::{FILE_HEADER_BYTES, FileHeader, Frame, Kind, batch_bytes, encode_batch};
use super::recover::file_name;
use super::{OnDurable, Shared};
use crate::env::disk::DiskFile;
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use std::io;
use std::sync::Arc;

/// Recycled files kept ready.
const SPARES_MAX: usize = 2;

/// What the writer writes next.
#[derive(Default)]
struct Taken {
    frames: Vec<Frame>,
    /// Taken at the same moment, if the frames do not fit into the file.
    checkpoint: Option<Bytes>,
    waiting: Vec<OnDurable>,
    closing: bool,
}

pub struct Writer {
    shared: Arc<Shared>,
    file: Option<Arc<dyn DiskFile>>,
    file_bytes: u64,
    sequence: u64,
    position: u64,
    next_batch: u64,
    spares: Vec<String>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, sequence: u64, position: u64, next_batch: u64) -> Self {
        Self { shared, file: None, file_bytes: 0, sequence, position, next_batch, spares: Vec::new() }
    }

    /// Writes what is queued until the journal is closed or the disk fails.
    pub async fn run(mut self) {
        loop {
            let Taken { frames, checkpoint, waiting, closing } = self.take();
            if frames.is_empty() && waiting.is_empty() {
                if closing {
                    break;
                }
                self.shared.work.notified().await;
                continue;
            }
            if mutant!("R01") {
                waiting.into_iter().for_each(|told| told(Ok(())));
                let result = self.write(frames, checkpoint).await;
                self.poison_if_failed(&result);
                continue;
            }
            let result = self.write(frames, checkpoint).await;
            self.poison_if_failed(&result);
            self.answer(waiting, &result);
            if result.is_err() {
                break;
            }
            self.recycle().await;
        }
        let mut state = self.state();
        state.ended = true;
        let left = std::mem::take(&mut state.waiting);
        let error = state.check();
        drop(state);
        self.answer(left, &error);
        self.shared.ended.notify_waiters();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, super::State> {
        self.shared.state.lock().expect("no panic happens while the journal's state is held")
    }

    /// All of the queue: a checkpoint taken with it must not know more than the batch that carries it.
    fn take(&self) -> Taken {
        let mut state = self.state();
        // A committed position alone is no reason to write; it rides along.
        let worth_it =
            !state.waiting.is_empty() || state.closing || state.queue.iter().any(|frame| frame.kind != Kind::Committed);
        if !worth_it {
            return Taken::default();
        }
        let frames = std::mem::take(&mut state.queue);
        let rolls = self.position + batch_bytes(&frames) > self.file_bytes;
        Taken {
            checkpoint: (rolls && !frames.is_empty()).then(|| state.index.checkpoint_out()),
            frames,
            waiting: std::mem::take(&mut state.waiting),
            closing: state.closing,
        }
    }

    async fn write(&mut self, mut frames: Vec<Frame>, checkpoint: Option<Bytes>) -> io::Result<()> {
        if let Some(checkpoint) = checkpoint {
            // Behind the frames: it already knows what they say.
            frames.push(Frame::new(Kind::Checkpoint, GroupId(0), LogId::default(), checkpoint));
            return self.roll(&frames).await;
        }
        if frames.is_empty() { Ok(()) } else { self.write_batch(&frames).await }
    }

    /// The first file of this life: whatever lies behind the end of the one before is then known to be nothing.
    pub async fn start(&mut self) -> io::Result<()> {
        let checkpoint = self.state().index.checkpoint_out();
        self.write(Vec::new(), Some(checkpoint)).await
    }

    /// Starts a new file with these frames, the last of which is a checkpoint.
    async fn roll(&mut self, frames: &[Frame]) -> io::Result<()> {
        reached!("journal_rolled");
        let needed = FILE_HEADER_BYTES + batch_bytes(frames);
        let header = FileHeader { sequence: self.sequence + 1, previous: self.sequence, previous_end: self.position };
        let file = self.new_file(header.sequence, needed).await?;
        file.write_at(0, vec![header.encode()]).await?;
        self.file_bytes = file.len().await?;
        {
            let mut state = self.state();
            state.files.insert(header.sequence, file.clone());
            state.index.files.wanted.entry(header.sequence).or_default();
        }
        (self.file, self.sequence, self.position) = (Some(file), header.sequence, FILE_HEADER_BYTES);
        self.write_batch(frames).await
    }

    /// A pre-written file under its final name, durably.
    async fn new_file(&mut self, sequence: u64, needed: u64) -> io::Result<Arc<dyn DiskFile>> {
        let (disk, dir) = (self.shared.disk.clone(), &self.shared.config.dir);
        let path = format!("{dir}/{}", file_name(sequence));
        let spare = if needed <= self.shared.config.file_bytes { self.spares.pop() } else { None };
        let source = match spare {
            Some(spare) => spare,
            None => {
                let fresh = format!("{dir}/fresh-{sequence:016x}");
                let file = disk.create(&fresh, needed.max(self.shared.config.file_bytes)).await?;
                file.sync().await?;
                fresh
            }
        };
        disk.rename(&source, &path).await?;
        // The name is durable before the first byte changes: after a crash a half-overwritten file never bears its old name.
        if !mutant!("R02") {
            disk.sync_dir(dir).await?;
        }
        disk.open(&path).await
    }

    async fn write_batch(&mut self, frames: &[Frame]) -> io::Result<()> {
        let file = self.file.clone().expect("a file was rolled before the first batch");
        let batch = encode_batch(self.next_batch, frames, self.sequence);
        let start = self.position;
        assert!(
            start + batch.bytes <= self.file_bytes,
            "batch of {} bytes at position={start} in a file of {} bytes",
            batch.bytes,
            self.file_bytes
        );
        file.write_at(start, batch.pieces).await?;
        let synced = file.sync().await;
        if !mutant!("R14") {
            synced?;
        }
        self.next_batch += 1;
        self.position = start + batch.bytes;
        self.locate(frames, &batch.positions, start);
        Ok(())
    }

    /// Tells the index where the entries of a written batch lie.
    fn locate(&self, frames: &[Frame], positions: &[u64], start: u64) {
        let mut state = self.state();
        let state = &mut *state;
        for (frame, position) in frames.iter().zip(positions) {
            if !matches!(frame.kind, Kind::Entry | Kind::Retained) {
                continue;
            }
            // It may have been truncated or replaced while it was being written.
            let entry = state.index.groups.get_mut(&frame.group).and_then(|log| log.get_mut(frame.id.index));
            if let Some(entry) = entry.filter(|entry| entry.term == frame.id.term && entry.file == 0) {
                (entry.file, entry.position) = (self.sequence, start + position);
                state.index.files.note(self.sequence);
            }
        }
        state.shrink_cache(self.shared.config.cache_bytes_max);
    }

    fn poison_if_failed(&self, result: &io::Result<()>) {
        if let Err(error) = result {
            tracing::error!(%error, "the journal cannot write: poisoned");
            self.state().poisoned = Some((error.kind(), format!("the journal is poisoned: {error}")));
        }
    }

    fn answer(&self, waiting: Vec<OnDurable>, result: &io::Result<()>) {
        for told in waiting {
            told(match result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }

    /// Files that nobody wants an entry of become spares, or go.
    async fn recycle(&mut self) {
        let idle: Vec<u64> = {
            let mut state = self.state();
            let idle: Vec<u64> = state
                .index
                .files
                .wanted
                .iter()
                .filter(|(sequence, wanted)| **sequence < self.sequence && **wanted == 0)
                .map(|(sequence, _)| *sequence)
                .collect();
            for sequence in &idle {
                state.index.files.wanted.remove(sequence);
                state.files.remove(sequence);
            }
            idle
        };
        for sequence in idle {
            if let Err(error) = self.retire(sequence).await {
                // Space is not given back; nothing else depends on it.
                tracing::warn!(%error, file = file_name(sequence), "journal file not recycled");
            }
        }
    }

    async fn retire(&mut self, sequence: u64) -> io::Result<()> {
        let (disk, dir) = (&self.shared.disk, &self.shared.config.dir);
        let path = format!("{dir}/{}", file_name(sequence));
        let bytes = disk.open(&path).await?.len().await?;
        if self.spares.len() >= SPARES_MAX || bytes != self.shared.config.file_bytes {
            return disk.remove(&path).await;
        }
        reached!("journal_file_recycled");
        let spare = format!("{dir}/spare-{sequence:016x}");
        disk.rename(&path, &spare).await?;
        self.spares.push(spare);
        Ok(())
    }
}
