//! Rows that the leader has decided but not yet seen applied. Lives and dies with its `Lead`.

use super::store::KvRow;
use bytes::Bytes;
use floss_protocol::mutant;
use std::collections::{HashMap, VecDeque};

/// The newest decided state of each key that changed in the pending tail.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    rows: HashMap<Bytes, PendingRow>,
    /// Changed keys of each entry, with the log end after it, in order.
    entries: VecDeque<(i64, Vec<Bytes>)>,
}

#[derive(Debug)]
struct PendingRow {
    /// Log end after the entry that changed it last.
    end_offset: i64,
    /// `None`: deleted.
    value: Option<Bytes>,
}

impl Pending {
    /// `None`: not pending, the store knows. `Some(None)`: deleted.
    pub fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        if mutant!("K01") {
            return None;
        }
        self.rows.get(key).map(|row| row.value.clone())
    }

    /// The rows of the entry whose offsets end at `end_offset`.
    pub fn push(&mut self, end_offset: i64, rows: Vec<KvRow>) {
        let mut keys = Vec::with_capacity(rows.len());
        for (key, value) in rows {
            keys.push(key.clone());
            self.rows.insert(key, PendingRow { end_offset, value });
        }
        self.entries.push_back((end_offset, keys));
    }

    /// Forgets what the store holds by now.
    pub fn forget_applied(&mut self, applied_end: i64) {
        while self.entries.front().is_some_and(|(end_offset, _)| *end_offset <= applied_end) {
            let Some((end_offset, keys)) = self.entries.pop_front() else { return };
            for key in keys {
                if self.rows.get(&key).is_some_and(|row| row.end_offset == end_offset) {
                    self.rows.remove(&key);
                }
            }
        }
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = KvRow> + '_ {
        self.rows.iter().map(|(key, row)| (key.clone(), row.value.clone()))
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_of_a_key_counts() {
        let row = |value: &'static [u8]| (Bytes::from_static(b"k"), Some(Bytes::from_static(value)));
        let mut pending = Pending::default();
        pending.push(3, vec![row(b"first"), (Bytes::from_static(b"gone"), None)]);
        pending.push(5, vec![row(b"second")]);
        assert_eq!(pending.get(b"k"), Some(Some(Bytes::from_static(b"second"))));
        assert_eq!(pending.get(b"gone"), Some(None));
        pending.forget_applied(3);
        assert_eq!(pending.get(b"gone"), None);
        assert_eq!(pending.get(b"k"), Some(Some(Bytes::from_static(b"second"))), "the second is not applied yet");
        pending.forget_applied(5);
        assert_eq!((pending.get(b"k"), pending.len()), (None, 0));
    }
}
