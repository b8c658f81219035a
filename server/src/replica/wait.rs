//! Who waits for a bucket's high watermark to move. Woken in the order of arrival.

use floss_raft::env::runtime::sync::Notify;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Names one wait of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitId(u64);

#[derive(Default)]
pub(crate) struct WaitList {
    next: u64,
    waits: BTreeMap<WaitId, Wait>,
}

struct Wait {
    /// Woken once the high watermark is above this.
    above: i64,
    wake: Arc<Notify>,
}

impl WaitList {
    pub fn add(&mut self, above: i64, wake: Arc<Notify>) -> WaitId {
        let id = WaitId(self.next);
        self.next += 1;
        self.waits.insert(id, Wait { above, wake });
        id
    }

    /// Does nothing if it was woken before.
    pub fn remove(&mut self, id: WaitId) {
        self.waits.remove(&id);
    }

    /// Wakes and forgets those that wait for less than `high_watermark`.
    pub fn wake_below(&mut self, high_watermark: i64) {
        if self.waits.is_empty() {
            return;
        }
        self.waits.retain(|_, wait| {
            let reached = wait.above < high_watermark;
            if reached {
                wait.wake.notify_one();
            }
            !reached
        });
    }

    /// Wakes and forgets everybody: leadership changed or the replica ends.
    pub fn wake_all(&mut self) {
        for wait in std::mem::take(&mut self.waits).into_values() {
            wait.wake.notify_one();
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.waits.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn is_woken(wake: &Notify) -> bool {
        wake.notified().now_or_never().is_some()
    }

    #[test]
    fn wakes_exactly_those_whose_offset_became_readable() {
        let mut list = WaitList::default();
        let wakes: Vec<_> = (0..3).map(|_| Arc::new(Notify::new())).collect();
        list.add(5, wakes[0].clone());
        list.add(7, wakes[1].clone());
        let gone = list.add(5, wakes[2].clone());
        list.remove(gone);
        list.wake_below(6);
        assert_eq!(wakes.iter().map(|wake| is_woken(wake)).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(list.len(), 1);
        list.wake_all();
        assert!(is_woken(&wakes[1]));
        assert_eq!(list.len(), 0);
    }
}
