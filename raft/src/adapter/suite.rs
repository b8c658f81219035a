//! openraft's own storage suite on our adapter.

use super::machine::StateMachine;
use super::store::LogStore;
use super::{Shared, Types};
use crate::env::disk::Disk;
use crate::env::disk_mem::MemDisk;
use crate::env::runtime::block_on;
use crate::journal::{Journal, JournalConfig};
use crate::machine::Machine;
use crate::types::{GroupId, LogId};
use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;

/// Remembers nothing but how much it was fed.
#[derive(Default)]
struct Counter(u64);

impl Machine for Counter {
    fn apply(&mut self, _id: LogId, payload: Option<Bytes>) -> Bytes {
        self.0 += payload.map_or(0, |payload| payload.len() as u64);
        Bytes::new()
    }

    fn snapshot(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_le_bytes())
    }

    fn restore(&mut self, _at: LogId, state: &Bytes) -> Result<(), String> {
        let bytes = state.as_ref().try_into().map_err(|_| format!("{} bytes, expected 8", state.len()))?;
        self.0 = u64::from_le_bytes(bytes);
        Ok(())
    }

    fn retained_from(&self) -> u64 {
        1
    }
}

/// Fresh stores, on memory or on real files.
struct Stores {
    real: bool,
}

/// Keeps what a store stands on until the test is over.
struct Ground {
    #[cfg(not(madsim))]
    _dir: Option<tempfile::TempDir>,
}

impl StoreBuilder<Types, LogStore, StateMachine, Ground> for Stores {
    async fn build(&self) -> Result<(Ground, LogStore, StateMachine), StorageError<Types>> {
        #[cfg(not(madsim))]
        let dir = self.real.then(|| tempfile::tempdir().expect("a temporary directory"));
        #[cfg(not(madsim))]
        let disk: Arc<dyn Disk> = match &dir {
            Some(dir) => Arc::new(crate::env::disk_os::OsDisk::new(dir.path().to_path_buf())),
            None => Arc::new(MemDisk::new()),
        };
        #[cfg(madsim)]
        let disk: Arc<dyn Disk> = {
            assert!(!self.real, "no real files in the simulator");
            Arc::new(MemDisk::new())
        };
        let config =
            JournalConfig { dir: "journal".to_string(), file_bytes: 64 << 10, cache_bytes_max: 1 << 10, read_bytes_max: 1 << 12 };
        let journal = Journal::open(disk, config).await.expect("the journal opens");
        let shared = Arc::new(Shared::default());
        let store = LogStore::new(journal.clone(), GroupId(3), shared.clone());
        let machine = StateMachine::open(Box::new(Counter::default()), journal, GroupId(3), shared).expect("the machine opens");
        #[cfg(not(madsim))]
        return Ok((Ground { _dir: dir }, store, machine));
        #[cfg(madsim)]
        Ok((Ground {}, store, machine))
    }
}

#[test]
fn on_memory() {
    block_on(Suite::test_all(Stores { real: false })).expect("the suite passes");
}

#[cfg(not(madsim))]
#[test]
fn on_real_files() {
    block_on(Suite::test_all(Stores { real: true })).expect("the suite passes");
}
