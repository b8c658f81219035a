//! What the binary stands on: real files and the machine's clock.

use floss_raft::env::clock::SystemClock;
use floss_raft::env::disk_os::OsDisk;
#[cfg(feature = "rocks")]
use floss_tablet::kv::store::{KvStore, KvStoreError};
use std::path::PathBuf;
#[cfg(feature = "rocks")]
use std::sync::Arc;

/// Real files below `root`.
pub fn disk(root: PathBuf) -> OsDisk {
    OsDisk::new(root)
}

pub fn clock() -> SystemClock {
    SystemClock
}

/// The store of rows itself, for tools that look at one offline or measure it.
#[cfg(feature = "rocks")]
pub mod rows {
    pub use floss_tablet::kv::rocks::{RocksKvStore, RocksLimits};
    pub use floss_tablet::kv::store::{KvBucketId, KvPosition, KvRange, KvRow, KvStore, KvStoreError};
}

/// RocksDB in `root/kv`; `root` exists. What it has lost is folded from the log again.
#[cfg(feature = "rocks")]
pub fn kv(root: &std::path::Path) -> Result<Arc<dyn KvStore>, KvStoreError> {
    use floss_tablet::kv::rocks::{RocksKvStore, RocksLimits};
    Ok(Arc::new(RocksKvStore::open(&root.join("kv"), &RocksLimits::default())?))
}
