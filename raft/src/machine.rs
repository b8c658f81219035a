//! What a group replicates for: a deterministic machine fed with committed entries.

use crate::types::LogId;
use bytes::Bytes;

/// Consumes committed entries in order, the same on every replica.
///
/// Called from one task at a time. Must not block, sleep, or read a clock. Has no way to fail: input was validated before
/// it was proposed, and a broken invariant panics the replica (the host stops this group, the process lives).
pub trait Machine: Send + 'static {
    /// Applies one committed entry and returns the answer for whoever proposed it. `payload` is `None` for entries that
    /// are Raft's own (leader's first entry, membership): they move the position and nothing else (L11).
    fn apply(&mut self, id: LogId, payload: Option<Bytes>) -> Bytes;

    /// Called once after each run of `apply` calls: the moment to wake whoever waits for the new state.
    fn applied(&mut self) {}

    /// The state after the last applied entry, small enough for one journal record.
    fn snapshot(&self) -> Bytes;

    /// Replaces the state by a snapshot taken at `at`.
    ///
    /// Errors: the bytes are not a snapshot of this kind (corrupt or from a newer version).
    fn restore(&mut self, at: LogId, state: &Bytes) -> Result<(), String>;

    /// First index whose entry readers may still ask for (I13). Entries below may leave the journal; entries from here on
    /// travel with a snapshot. `u64::MAX` = none is needed.
    fn retained_from(&self) -> u64;
}
