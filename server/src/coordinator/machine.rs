//! The replicated side of the catalog: applies committed entries, publishes the state after each run.

use super::command::{CatalogOutcome, decode, decode_entry, encode};
use super::state::CatalogState;
use bytes::Bytes;
use floss_raft::env::runtime::sync::Notify;
use floss_raft::machine::Machine;
use floss_raft::types::LogId;
use std::sync::{Arc, Mutex, MutexGuard};

/// First byte of an encoded outcome.
const OUTCOME_VERSION: u8 = 1;

/// A published state and the Raft index it holds.
#[derive(Clone, Debug, Default)]
pub struct CatalogView {
    pub index: u64,
    pub state: Arc<CatalogState>,
}

/// Where the machine puts what it applied and readers wait for it.
#[derive(Debug, Default)]
pub struct Published {
    view: Mutex<CatalogView>,
    changed: Notify,
}

impl Published {
    pub fn current(&self) -> CatalogView {
        self.lock().clone()
    }

    /// Waits until at least `index` was applied.
    pub async fn wait_index(&self, index: u64) -> CatalogView {
        loop {
            // Registered before the look, so that a change in between is not missed.
            let changed = self.changed.notified();
            let view = self.current();
            if view.index >= index {
                return view;
            }
            changed.await;
        }
    }

    fn publish(&self, view: CatalogView) {
        *self.lock() = view;
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, CatalogView> {
        self.view.lock().expect("nothing panics while the view is held")
    }
}

/// Group 0's machine. Made by [`super::catalog::Catalog::new`].
pub struct CatalogMachine {
    index: u64,
    /// Shared with readers: the first change after a publication copies it, the rest of the run changes the copy.
    state: Arc<CatalogState>,
    published: Arc<Published>,
}

impl CatalogMachine {
    pub(super) fn new(published: Arc<Published>) -> Self {
        Self { index: 0, state: Arc::default(), published }
    }
}

impl Machine for CatalogMachine {
    fn apply(&mut self, id: LogId, payload: Option<Bytes>) -> Bytes {
        assert!(id.index > self.index, "catalog entry {id} after index={}: raft gave it twice", self.index);
        self.index = id.index;
        let Some(payload) = payload else {
            return Bytes::new();
        };
        let entry = match decode_entry(&payload) {
            Ok(entry) => entry,
            // Proposals are decoded before they are proposed: this is a newer format or a broken journal.
            Err(reason) => panic!("catalog entry {id} does not decode: {reason}"),
        };
        encode_outcome(&Arc::make_mut(&mut self.state).apply(&entry))
    }

    fn applied(&mut self) {
        self.published.publish(CatalogView { index: self.index, state: Arc::clone(&self.state) });
    }

    fn snapshot(&self) -> Bytes {
        self.state.snapshot()
    }

    fn restore(&mut self, at: LogId, state: &Bytes) -> Result<(), String> {
        self.state = Arc::new(CatalogState::restore(state)?);
        self.index = at.index;
        self.applied();
        Ok(())
    }

    fn retained_from(&self) -> u64 {
        u64::MAX
    }
}

pub(super) fn encode_outcome(outcome: &CatalogOutcome) -> Bytes {
    Bytes::from(encode(OUTCOME_VERSION, outcome))
}

pub(super) fn decode_outcome(bytes: &[u8]) -> Result<CatalogOutcome, String> {
    decode(OUTCOME_VERSION, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::command::{CatalogCommand, CatalogDone, CatalogEntry, RequestId, encode_entry};

    fn form(counter: u64) -> Bytes {
        let request = RequestId { node: 1, incarnation: 1, boot: 1, counter };
        let command = CatalogCommand::FormCluster { cluster_id: "c".into(), nodes: vec![] };
        Bytes::from(encode_entry(&CatalogEntry { request, now_ms: 5, command }))
    }

    #[test]
    fn readers_see_a_run_as_a_whole_and_a_snapshot_brings_it_back() {
        let published = Arc::new(Published::default());
        let mut machine = CatalogMachine::new(Arc::clone(&published));
        machine.apply(LogId { term: 1, index: 1 }, None);
        let reply = machine.apply(LogId { term: 1, index: 2 }, Some(form(1)));
        assert_eq!(decode_outcome(&reply), Ok(Ok(CatalogDone::Formed { cluster_id: "c".into() })));
        assert_eq!(published.current().index, 0, "not published before the run ends");
        machine.applied();
        let before = published.current();
        assert_eq!((before.index, before.state.cluster_id()), (2, Some("c")));

        let other = Arc::new(Published::default());
        let mut restored = CatalogMachine::new(Arc::clone(&other));
        restored.restore(LogId { term: 1, index: 2 }, &machine.snapshot()).expect("own snapshot");
        assert_eq!(other.current().index, 2);
        assert_eq!(restored.snapshot(), machine.snapshot());
        assert!(restored.restore(LogId { term: 1, index: 3 }, &Bytes::from_static(b"x")).is_err());
    }
}
