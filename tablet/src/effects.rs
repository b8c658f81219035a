//! What applying a command did, for the layer above: answer the writer, wake readers.

/// Closed set; a match on it has no wildcard arm.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Applied {
    /// Raft's own entry: nothing happened.
    Nothing,
    /// The batches took `base_offset..end_offset`.
    Appended {
        base_offset: i64,
        end_offset: i64,
    },
    /// Decided in an older term or on an older log end: the entry did nothing; the writer must retry (I10).
    Stale {
        decided_term: u64,
        entry_term: u64,
    },
    /// Log start moved (or was already there).
    Trimmed {
        log_start: i64,
    },
    WritersExpired {
        count: u32,
    },
}
