//! openraft's state machine over a [`Machine`]; snapshots are journal records plus the retained log.

use super::codec::{decode, encode, entry_to_journal, machine_payload, to_ours, to_theirs};
use super::{RaftLogId, Reply, Types};
use crate::journal::{Journal, JournalEntry, StoredSnapshot};
use crate::machine::Machine;
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder, StoredMembership};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A snapshot on its way between stores.
#[derive(Clone, Debug)]
pub struct SnapshotData {
    pub state: Bytes,
    /// Entries at or below the snapshot that readers still want. `None`: they lie in this node's journal already.
    pub retained: Option<Vec<JournalEntry>>,
}

pub struct StateMachine {
    /// Only for `Sync`: there is one user at a time.
    machine: Mutex<Box<dyn Machine>>,
    journal: Journal,
    group: GroupId,
    last: Option<RaftLogId>,
    membership: StoredMembershipOf<Types>,
    wanted_from: Arc<AtomicU64>,
}

impl StateMachine {
    /// Restores the machine from the journal's snapshot, if there is one.
    pub fn open(
        mut machine: Box<dyn Machine>,
        journal: Journal,
        group: GroupId,
        wanted_from: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let (mut last, mut membership) = (None, StoredMembership::default());
        if let Some(snapshot) = journal.group(group).snapshot {
            machine.restore(snapshot.last, &snapshot.state).map_err(|reason| bad_snapshot(group, &reason))?;
            last = Some(to_theirs(snapshot.last));
            membership = decode(&snapshot.meta)?;
        }
        wanted_from.store(machine.retained_from(), Ordering::SeqCst);
        Ok(Self { machine: Mutex::new(machine), journal, group, last, membership, wanted_from })
    }

    fn machine(&mut self) -> &mut dyn Machine {
        &mut **self.machine.get_mut().expect("nobody locks it")
    }

    fn apply_one(&mut self, id: LogId, payload: Option<Bytes>) -> io::Result<Bytes> {
        let machine = self.machine();
        let caught = catch_unwind(AssertUnwindSafe(|| machine.apply(id, payload)));
        caught.map_err(|panic| {
            let said =
                panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            io::Error::other(format!("machine of {} panicked at {id}: {}", self.group, said.unwrap_or_default()))
        })
    }
}

fn bad_snapshot(group: GroupId, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snapshot of {group}: {reason}"))
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembershipOf<Types>)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let log_id = entry.log_id;
            if let Some(membership) = entry.get_membership() {
                self.membership = StoredMembership::new(Some(log_id), membership);
            }
            let payload = machine_payload(&entry_to_journal(entry));
            let reply = self.apply_one(to_ours(&log_id), payload)?;
            self.last = Some(log_id);
            if let Some(responder) = responder {
                responder.send(Reply(reply));
            }
        }
        let wanted = self.machine().retained_from();
        self.wanted_from.store(wanted, Ordering::SeqCst);
        self.machine().applied();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let state = self.machine().snapshot();
        let snapshot =
            self.last.as_ref().map(|last| StoredSnapshot { last: to_ours(last), meta: encode(&self.membership), state });
        Builder { journal: self.journal.clone(), group: self.group, snapshot, membership: self.membership.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, data: SnapshotData) -> io::Result<()> {
        let Some(last) = &meta.last_log_id else { return Ok(()) };
        let group = self.group;
        self.machine().restore(to_ours(last), &data.state).map_err(|reason| bad_snapshot(group, &reason))?;
        self.last = Some(*last);
        self.membership = meta.last_membership.clone();
        let wanted = self.machine().retained_from();
        self.wanted_from.store(wanted, Ordering::SeqCst);
        let snapshot = StoredSnapshot { last: to_ours(last), meta: encode(&self.membership), state: data.state };
        match data.retained {
            Some(retained) => self.journal.install(group, snapshot, retained).await?,
            // Restored from this very journal at a start: it is there already.
            None if self.journal.group(group).snapshot.as_ref() == Some(&snapshot) => {}
            None => self.journal.save_snapshot(group, snapshot).await?,
        }
        self.machine().applied();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, SnapshotData>>> {
        let Some(stored) = self.journal.group(self.group).snapshot else { return Ok(None) };
        Ok(Some(snapshot_of(&stored, decode(&stored.meta)?)))
    }
}

fn snapshot_of(stored: &StoredSnapshot, membership: StoredMembershipOf<Types>) -> SnapshotOf<Types, SnapshotData> {
    let meta = SnapshotMetaOf::<Types> { last_log_id: Some(to_theirs(stored.last)), last_membership: membership };
    SnapshotOf::<Types, SnapshotData> { meta, snapshot: SnapshotData { state: stored.state.clone(), retained: None } }
}

/// The state at one moment, about to be stored.
pub struct Builder {
    journal: Journal,
    group: GroupId,
    snapshot: Option<StoredSnapshot>,
    membership: StoredMembershipOf<Types>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotData>> {
        let Some(stored) = &self.snapshot else {
            let meta = SnapshotMetaOf::<Types> { last_log_id: None, last_membership: self.membership.clone() };
            return Ok(SnapshotOf::<Types, SnapshotData> {
                meta,
                snapshot: SnapshotData { state: Bytes::new(), retained: None },
            });
        };
        self.journal.save_snapshot(self.group, stored.clone()).await?;
        Ok(snapshot_of(stored, self.membership.clone()))
    }
}
