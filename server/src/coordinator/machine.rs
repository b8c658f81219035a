//! The replicated side of the catalog: applies committed entries, publishes the state after each run.

use super::state::CatalogState;
use bytes::Bytes;
use floss_raft::machine::Machine;
use floss_raft::types::LogId;
use std::sync::Arc;

/// Group 0's machine. Made by [`super::catalog::Catalog::new`].
pub struct CatalogMachine {}

impl Machine for CatalogMachine {
    fn apply(&mut self, _id: LogId, _payload: Option<Bytes>) -> Bytes {
        todo!()
    }

    fn applied(&mut self) {
        todo!()
    }

    fn snapshot(&self) -> Bytes {
        todo!()
    }

    fn restore(&mut self, _at: LogId, _state: &Bytes) -> Result<(), String> {
        todo!()
    }

    fn retained_from(&self) -> u64 {
        u64::MAX
    }
}

/// A published state and the Raft index it holds.
#[derive(Clone, Debug)]
pub struct CatalogView {
    pub index: u64,
    pub state: Arc<CatalogState>,
}
