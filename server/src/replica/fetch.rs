//! Reading a bucket's log: plan under the lock, read without it, cut to whole batches.

use super::error::ReplicaError;
use super::replica::Replica;
use crate::limits::{FETCH_RAW_BYTES_MAX, READ_BARRIER_WAIT};
use bytes::Bytes;
use floss_protocol::log_batch::LogBatch;
use floss_raft::journal::JournalEntry;
use floss_tablet::error::TabletError;
use floss_tablet::read::{EntryWalk, ReadPlan};

/// Rewrites a batch to the wanted columns; in pieces.
pub(crate) type Project<'a> = &'a (dyn Fn(&LogBatch) -> Result<Vec<Bytes>, ReplicaError> + Send + Sync);

/// How much one bucket may add to an answer.
#[derive(Clone, Copy)]
pub(crate) struct ReadLimit {
    pub bytes_max: usize,
    /// The first batch goes out even if it is larger (semantics.md 3.1).
    pub at_least_one: bool,
}

impl ReadLimit {
    /// Without projection the answer itself is the bound.
    fn raw_bytes_max(self) -> usize {
        self.bytes_max.max(FETCH_RAW_BYTES_MAX)
    }
}

/// Whole batches, in offset order.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    pub pieces: Vec<Bytes>,
    pub bytes: usize,
    /// Offset after the last batch; None if there is none.
    pub end_offset: Option<i64>,
}

impl Batches {
    fn push(&mut self, pieces: Vec<Bytes>, end_offset: i64) {
        self.bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        self.pieces.extend(pieces);
        self.end_offset = Some(end_offset);
    }
}

impl Replica {
    /// What a fetch from `offset` (-2 = earliest) would read now. Only a leader that is ready answers.
    pub fn plan_fetch(&self, offset: i64) -> Result<ReadPlan, ReplicaError> {
        let core = self.leading_core()?;
        core.tablet.plan_fetch(offset).map_err(|source| ReplicaError::Tablet { bucket: self.bucket, source })
    }

    /// Like [`Self::plan_fetch`], and before it says that an offset is out of range it makes sure that it still leads: a
    /// deposed leader has not seen the newest offsets, and its reader would give up.
    pub async fn plan_fetch_sure(&self, offset: i64) -> Result<ReadPlan, ReplicaError> {
        match self.plan_fetch(offset) {
            Err(ReplicaError::Tablet { source: TabletError::OffsetOutOfRange { .. }, .. }) => {
                self.prove_leadership().await?;
                self.plan_fetch(offset)
            }
            planned => planned,
        }
    }

    /// Returns once everything that was acknowledged anywhere before the call is applied here.
    pub async fn prove_leadership(&self) -> Result<(), ReplicaError> {
        drop(self.leading_core()?);
        let group = self.opened_group().await?;
        group.read_barrier(READ_BARRIER_WAIT).await.map_err(|source| ReplicaError::Group { bucket: self.bucket, source })
    }

    /// The batches of `plan`, up to the limit.
    pub async fn read(&self, plan: &ReadPlan, limit: ReadLimit, project: Option<Project<'_>>) -> Result<Batches, ReplicaError> {
        let mut found = Batches::default();
        let mut walk = EntryWalk::new(plan);
        let mut next_index = plan.indexes.start;
        let mut raw_bytes = 0;
        while next_index < plan.indexes.end {
            let wanted = limit.bytes_max.saturating_sub(found.bytes);
            if (wanted == 0 || raw_bytes >= limit.raw_bytes_max()) && !(found.pieces.is_empty() && limit.at_least_one) {
                break;
            }
            let entries = self.read_entries(next_index..plan.indexes.end, wanted).await?;
            let Some(last) = entries.last() else { break };
            next_index = last.id.index + 1;
            for entry in &entries {
                raw_bytes += entry.payload.len();
                if !self.take_entry(entry, &mut walk, limit, project, &mut found)? {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// What this replica has applied, whether it leads or not, batch by batch.
    pub async fn read_committed(&self, offset: i64) -> Result<Vec<(i64, Bytes)>, ReplicaError> {
        let planned = {
            let core = self.core()?;
            core.tablet.plan_fetch(offset.max(core.tablet.log_start()))
        };
        let plan = planned.map_err(|source| ReplicaError::Tablet { bucket: self.bucket, source })?;
        let limit = ReadLimit { bytes_max: usize::MAX, at_least_one: true };
        let batches = self.read(&plan, limit, None).await?;
        let base = |piece: &Bytes| LogBatch::read(piece, 0).map(|batch| batch.header().base_offset.0);
        let bad = |error| ReplicaError::Read { bucket: self.bucket, reason: format!("{error}") };
        batches.pieces.into_iter().map(|piece| Ok((base(&piece).map_err(bad)?, piece))).collect()
    }

    async fn read_entries(&self, range: std::ops::Range<u64>, bytes_max: usize) -> Result<Vec<JournalEntry>, ReplicaError> {
        let read = self.opened_group().await?.read(range, bytes_max).await;
        read.map_err(|error| ReplicaError::Read { bucket: self.bucket, reason: error.to_string() })
    }

    /// False: the answer is full or everything visible is in it.
    fn take_entry(
        &self,
        entry: &JournalEntry,
        walk: &mut EntryWalk,
        limit: ReadLimit,
        project: Option<Project<'_>>,
        found: &mut Batches,
    ) -> Result<bool, ReplicaError> {
        let first = found.pieces.is_empty() && limit.at_least_one;
        // What a batch takes in the answer is known only after projection, so then the budget is looked at below.
        let bytes_left = if project.is_some() { usize::MAX } else { limit.bytes_max.saturating_sub(found.bytes) };
        let cut = walk
            .cut(entry.id.term, &entry.payload, bytes_left, first)
            .map_err(|error| self.corrupt(entry, &error.to_string()))?;
        for batch in cut.batches {
            let end_offset = batch.header().end_offset().0;
            let pieces = match project {
                Some(project) => project(&batch)?,
                None => vec![batch.into_bytes()],
            };
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            let first = found.pieces.is_empty() && limit.at_least_one;
            if !first && found.bytes + bytes > limit.bytes_max {
                return Ok(false);
            }
            found.push(pieces, end_offset);
        }
        Ok(!cut.is_last)
    }

    fn corrupt(&self, entry: &JournalEntry, reason: &str) -> ReplicaError {
        ReplicaError::Read { bucket: self.bucket, reason: format!("entry {}: {reason}", entry.id) }
    }
}
