//! What the binary stands on: real files and the machine's clock.

use floss_raft::env::clock::SystemClock;
use floss_raft::env::disk_os::OsDisk;
use std::path::PathBuf;

/// Real files below `root`.
pub fn disk(root: PathBuf) -> OsDisk {
    OsDisk::new(root)
}

pub fn clock() -> SystemClock {
    SystemClock
}
