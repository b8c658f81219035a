//! The rows of a primary-key bucket on this node: reads of applied rows, and folding what the store is behind by.

use super::error::ReplicaError;
use super::replica::{Core, Replica};
use crate::limits::{KV_FLUSH_PAUSE, READ_BARRIER_WAIT};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use floss_raft::env::runtime::{select, time};
use floss_raft::group::Group;
use floss_tablet::command::Command;
use floss_tablet::kv::fold::{Folded, KvBucket, KvReader};
use floss_tablet::kv::store::{KvRange, KvStore, KvStoreError};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at a fold that is under way, at a journal that could not be read, at a schema that is not known yet.
const FOLD_PAUSE: Duration = Duration::from_millis(5);

/// Always false, but in the world where lookups see what is decided and not committed.
pub(super) fn shows_decided_rows() -> bool {
    mutant!("K12")
}

impl Core {
    /// The rows are those of the applied log.
    pub fn is_folded(&self) -> bool {
        self.kv.as_ref().is_none_or(|kv| kv.position().raft_index >= self.applied_index)
    }
}

/// What keeps the rows from being those of the applied log.
enum Missing {
    Nothing,
    Entries(Range<u64>),
}

impl Replica {
    /// Reads applied rows, with everything in them that was acknowledged anywhere before the call (I6). The store is asked outside
    /// of the replica's lock.
    pub async fn read_rows<T>(&self, read: impl Fn(&KvReader) -> Result<T, KvStoreError>) -> Result<T, ReplicaError> {
        if mutant!("K11") {
            let reader = self.core()?.kv.as_ref().map(KvBucket::reader);
            return self.read_with(reader, read);
        }
        drop(self.primary_key_core()?);
        self.prove_leadership().await?;
        self.wait_folded(time::Instant::now() + READ_BARRIER_WAIT).await?;
        let reader = self.primary_key_core()?.kv.as_ref().map(KvBucket::reader);
        self.read_with(reader, read)
    }

    fn read_with<T>(
        &self,
        reader: Option<KvReader>,
        read: impl Fn(&KvReader) -> Result<T, KvStoreError>,
    ) -> Result<T, ReplicaError> {
        let reader = reader.ok_or(ReplicaError::NotPrimaryKeyTable { bucket: self.bucket })?;
        read(&reader).map_err(|error| ReplicaError::KvStore { bucket: self.bucket, reason: error.to_string() })
    }

    pub async fn lookup(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReplicaError> {
        let mut values = self.read_rows(|rows| rows.lookup(keys)).await?;
        if shows_decided_rows() {
            let core = self.core()?;
            let newer = keys.iter().map(|key| core.decided.get(key).cloned());
            values.iter_mut().zip(newer).for_each(|(value, newer)| *value = newer.unwrap_or_else(|| value.take()));
        }
        Ok(values)
    }

    pub async fn scan(&self, range: &KvRange) -> Result<Vec<(Bytes, Bytes)>, ReplicaError> {
        self.read_rows(|rows| rows.scan(range)).await
    }

    /// The state of a leader of a primary-key bucket.
    pub fn primary_key_core(&self) -> Result<std::sync::MutexGuard<'_, Core>, ReplicaError> {
        let core = self.leading_core()?;
        match core.kv {
            Some(_) => Ok(core),
            None => Err(ReplicaError::NotPrimaryKeyTable { bucket: self.bucket }),
        }
    }

    /// Returns once the rows are those of the applied log; at once for log tables.
    pub async fn wait_folded(&self, deadline: time::Instant) -> Result<(), ReplicaError> {
        loop {
            if self.core()?.is_folded() {
                return Ok(());
            }
            if time::Instant::now() >= deadline {
                // Another replica may be further; the client asks again.
                return Err(ReplicaError::NotLeader { bucket: self.bucket, leader: None });
            }
            reached!("read_waited_for_fold");
            time::sleep(FOLD_PAUSE).await;
        }
    }

    fn missing(&self) -> Option<Missing> {
        let mut core = self.inspect();
        if core.dropped || core.failed.is_some() {
            return None;
        }
        if core.is_folded() {
            return Some(Missing::Nothing);
        }
        let applied = core.applied_index;
        let Core { kv, tablet, .. } = &mut *core;
        let kv = kv.as_mut()?;
        // Entries in between hold no batch that takes effect: offsets are dense (I3).
        let next_data = tablet.raft_index_of(kv.position().log_end).filter(|_| !mutant!("K18")).unwrap_or(applied + 1);
        kv.skip_below(next_data.min(applied + 1));
        let from = kv.position().raft_index + 1;
        Some(if from > applied { Missing::Nothing } else { Missing::Entries(from..applied + 1) })
    }

    /// Folds the entries of `range`; false if nothing came of it.
    async fn fold(&self, group: &Group, range: Range<u64>) -> bool {
        let Ok(entries) = group.read_piece(range.clone()).await else { return false };
        if (entries.len() as u64) < range.end - range.start {
            reached!("kv_folded_in_pieces");
        }
        let mut progress = false;
        let mut core = self.inspect();
        let Some(kv) = core.kv.as_mut() else { return false };
        for entry in entries {
            let command = (!entry.payload.is_empty()).then(|| {
                Command::decode(&entry.payload).unwrap_or_else(|error| panic!("{} entry {}: {error}", self.bucket, entry.id))
            });
            match kv.apply(entry.id.term, entry.id.index, command.as_ref()) {
                Folded::Done => progress = true,
                Folded::Before => {}
                Folded::Behind { .. } => break,
            }
        }
        progress
    }
}

/// Asks the store for a flush now and then, so that a restart folds little; runs until it is dropped.
pub(crate) async fn run_flush(store: Arc<dyn KvStore>) {
    loop {
        time::sleep(KV_FLUSH_PAUSE).await;
        if let Err(error) = store.flush_soon() {
            tracing::warn!(%error, "rows are not flushed");
        }
    }
}

/// Folds what the rows are behind by, each time `apply` says so; ends with the replica.
pub(crate) async fn run_fold(replica: Arc<Replica>, group: Group) {
    loop {
        match replica.missing() {
            None => return,
            Some(Missing::Nothing) => select! {
                biased;
                _ = replica.kv_behind.notified() => {}
                // Whoever is dropped tells nobody.
                _ = time::sleep(Duration::from_secs(1)) => {}
            },
            Some(Missing::Entries(range)) => {
                reached!("kv_folded_from_journal");
                if !replica.fold(&group, range).await {
                    time::sleep(FOLD_PAUSE).await;
                }
            }
        }
    }
}
