//! One replica of one Raft group, as the layer above sees it.

use crate::journal::JournalEntry;
use crate::types::{Applied, GroupError, GroupId, Leadership, NodeId, Pointers};
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::time::Duration;

/// Handle to a replica; clones share it.
#[derive(Clone)]
pub struct Group {}

impl Group {
    pub fn id(&self) -> GroupId {
        todo!()
    }

    /// Hands `payload` to the leader's queue, in call order, and returns a future of the applied result.
    ///
    /// The call itself waits only for room in the queue. Wakes a sleeping group. After any error the entry may still
    /// take effect.
    pub async fn propose(
        &self,
        _payload: Bytes,
    ) -> Result<impl Future<Output = Result<Applied, GroupError>> + Send + 'static, GroupError> {
        todo!();
        #[allow(unreachable_code)]
        Ok(std::future::pending())
    }

    /// Returns once this replica has applied everything that was committed anywhere before the call (leader lease or a
    /// quorum round, coalesced). Error `NotLeader` if this node cannot prove that it leads.
    pub async fn read_barrier(&self, _timeout: Duration) -> Result<(), GroupError> {
        todo!()
    }

    pub fn leadership(&self) -> Leadership {
        todo!()
    }

    pub fn pointers(&self) -> Pointers {
        todo!()
    }

    /// Voters and learners in the effective membership.
    pub fn members(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        todo!()
    }

    /// Committed or not, retained entries of this replica, by index (end exclusive). See `Journal::read`.
    pub async fn read(&self, _range: Range<u64>, _bytes_max: usize) -> io::Result<Vec<JournalEntry>> {
        todo!()
    }

    /// Stores a snapshot and lets Raft forget what lies before it. Called when the machine's `retained_from` has moved, and
    /// from time to time to bound replay after a restart.
    pub async fn compact(&self) -> Result<(), GroupError> {
        todo!()
    }

    /// Asks the most up-to-date other voter (or `to`) to take over. Ends when it has, or with `Timeout`.
    pub async fn transfer_leader(&self, _to: Option<NodeId>, _timeout: Duration) -> Result<(), GroupError> {
        todo!()
    }

    /// Adds a replica that receives the log but does not vote.
    pub async fn add_learner(&self, _node: NodeId) -> Result<(), GroupError> {
        todo!()
    }

    /// Joint change to exactly these voters; learners that are not named stay learners.
    pub async fn change_voters(&self, _voters: Vec<NodeId>) -> Result<(), GroupError> {
        todo!()
    }
}
