//! openraft's state machine over a [`Machine`]; snapshots are journal records plus the retained log.

use super::codec::{decode, encode, entry_to_journal, machine_payload, to_ours, to_theirs};
use super::{RaftLogId, Reply, Shared, Types};
use crate::journal::{Journal, JournalEntry, StoredSnapshot};
use crate::machine::Machine;
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use floss_protocol::{mutant, reached};
use futures_util::{Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder, StoredMembership};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
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
    shared: Arc<Shared>,
}

impl StateMachine {
    /// Restores the machine from the journal's snapshot, if there is one.
    pub fn open(machine: Box<dyn Machine>, journal: Journal, group: GroupId, shared: Arc<Shared>) -> io::Result<Self> {
        let snapshot = journal.group(group).snapshot;
        let mut opened =
            Self { machine: Mutex::new(machine), journal, group, last: None, membership: StoredMembership::default(), shared };
        if let Some(snapshot) = snapshot {
            opened.restore(snapshot.last, &snapshot.state)?;
            opened.last = Some(to_theirs(snapshot.last));
            opened.membership = decode(&snapshot.meta)?;
        }
        Ok(opened)
    }

    /// Runs the machine; its panic ends this replica, not the process.
    fn run<T>(&mut self, at: LogId, what: impl FnOnce(&mut dyn Machine) -> T) -> io::Result<T> {
        let machine = &mut **self.machine.get_mut().expect("nobody locks it");
        catch_unwind(AssertUnwindSafe(|| what(machine))).map_err(|panic| {
            reached!("machine_panicked");
            let said =
                panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            io::Error::other(format!("machine of {} panicked at {at}: {}", self.group, said.unwrap_or_default()))
        })
    }

    fn restore(&mut self, at: LogId, state: &Bytes) -> io::Result<()> {
        let group = self.group;
        self.run(at, |machine| machine.restore(at, state))?.map_err(|reason| bad_snapshot(group, &reason))?;
        self.note_wanted(at)
    }

    fn note_wanted(&mut self, at: LogId) -> io::Result<()> {
        let wanted = self.run(at, |machine| machine.retained_from())?;
        self.shared.wanted_from.store(wanted, Ordering::SeqCst);
        Ok(())
    }

    /// What openraft keeps above a snapshot (because it continues the snapshot) stays in the journal too.
    async fn continues(&self, last: LogId) -> io::Result<bool> {
        let log = self.journal.group(self.group);
        if log.last.is_none_or(|newest| newest.index < last.index) || log.purged.is_some_and(|purged| purged.index >= last.index)
        {
            return Ok(false);
        }
        let entries = self.journal.read(self.group, last.index..last.index + 1, 1).await?;
        Ok(entries.first().is_some_and(|entry| entry.id == last))
    }

    async fn install(&mut self, meta: &SnapshotMetaOf<Types>, data: SnapshotData) -> io::Result<()> {
        let Some(last) = &meta.last_log_id else { return Ok(()) };
        let group = self.group;
        self.restore(to_ours(last), &data.state)?;
        self.last = Some(*last);
        if !mutant!("R22") {
            self.membership = meta.last_membership.clone();
        }
        let snapshot = StoredSnapshot { last: to_ours(last), meta: encode(&self.membership), state: data.state };
        match data.retained {
            Some(_) if self.continues(snapshot.last).await? => {
                reached!("snapshot_kept_the_tail");
                self.journal.save_snapshot(group, snapshot).await?;
            }
            Some(retained) => self.journal.install(group, snapshot, retained).await?,
            // Restored from this very journal at a start: it is there already.
            None if self.journal.group(group).snapshot.as_ref() == Some(&snapshot) => {}
            None => self.journal.save_snapshot(group, snapshot).await?,
        }
        self.run(to_ours(last), |machine| machine.applied())
    }

    async fn apply_all<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let log_id = entry.log_id;
            let id = to_ours(&log_id);
            if let Some(membership) = entry.get_membership() {
                self.membership = StoredMembership::new(Some(log_id), membership);
            }
            let payload = machine_payload(&entry_to_journal(entry));
            let reply = self.run(id, |machine| machine.apply(id, payload))?;
            self.last = Some(log_id);
            if let Some(responder) = responder {
                responder.send(Reply(reply));
            }
        }
        let at = self.last.as_ref().map(to_ours).unwrap_or_default();
        self.note_wanted(at)?;
        self.run(at, |machine| machine.applied())
    }

    /// Whoever waits for this machine learns that it is over.
    fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        match result {
            Ok(_) => self.shared.installed.notify_waiters(),
            Err(_) => self.shared.end(),
        }
        result
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

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let applied = self.apply_all(entries).await;
        self.told(applied)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let at = self.last.as_ref().map(to_ours);
        let state = self.run(at.unwrap_or_default(), |machine| machine.snapshot());
        let snapshot = state.map(|state| at.map(|last| StoredSnapshot { last, meta: encode(&self.membership), state }));
        Builder { journal: self.journal.clone(), group: self.group, snapshot, membership: self.membership.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Types>, data: SnapshotData) -> io::Result<()> {
        let installed = self.install(meta, data).await;
        self.told(installed)
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
    /// An error: the machine could not give its state.
    snapshot: io::Result<Option<StoredSnapshot>>,
    membership: StoredMembershipOf<Types>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotData>> {
        let Some(stored) = std::mem::replace(&mut self.snapshot, Ok(None))? else {
            let meta = SnapshotMetaOf::<Types> { last_log_id: None, last_membership: self.membership.clone() };
            return Ok(SnapshotOf::<Types, SnapshotData> {
                meta,
                snapshot: SnapshotData { state: Bytes::new(), retained: None },
            });
        };
        // One that came from a peer in the meantime is newer, and the log below it is gone.
        if self.journal.group(self.group).snapshot.is_none_or(|newest| newest.last < stored.last) {
            self.journal.save_snapshot(self.group, stored.clone()).await?;
        }
        Ok(snapshot_of(&stored, self.membership.clone()))
    }
}
