//! Remembered outcomes of recent requests, so that a retry never takes effect twice.

use super::command::{CatalogOutcome, RequestId};
use floss_raft::types::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Outcomes kept per proposing process. A node has far fewer requests in flight; an older retry is refused.
pub const OUTCOMES_MAX: usize = 1024;

/// Directories remembered per node; only a node that is wiped again and again ever has more than one.
pub const SESSIONS_PER_NODE_MAX: usize = 4;

/// What is known of a request before it is executed.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    New,
    /// It took effect before, with this outcome.
    Before(CatalogOutcome),
    /// Too old to tell: must not be executed.
    Forgotten,
}

/// Part of the replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Requests remembered so far: orders sessions by last use.
    uses: u64,
    by_origin: BTreeMap<(NodeId, u64), Session>,
}

/// One process: the newest boot of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    boot: u64,
    last_use: u64,
    /// Counters below that are not in `outcomes` are forgotten.
    floor: u64,
    outcomes: BTreeMap<u64, CatalogOutcome>,
}

impl Sessions {
    pub fn look_up(&self, request: &RequestId) -> Seen {
        let Some(session) = self.by_origin.get(&(request.node, request.incarnation)) else {
            return Seen::New;
        };
        if request.boot != session.boot {
            return if request.boot > session.boot { Seen::New } else { Seen::Forgotten };
        }
        match session.outcomes.get(&request.counter) {
            Some(outcome) if !floss_protocol::mutant!("M15") => Seen::Before(outcome.clone()),
            _ if request.counter < session.floor => Seen::Forgotten,
            _ => Seen::New,
        }
    }

    /// Notes the outcome of a request that [`Sessions::look_up`] called new.
    pub fn remember(&mut self, request: &RequestId, outcome: CatalogOutcome) {
        self.uses += 1;
        let origin = (request.node, request.incarnation);
        if !self.by_origin.contains_key(&origin) {
            self.make_room(request.node);
        }
        let session = self.by_origin.entry(origin).or_default();
        if session.boot != request.boot {
            *session = Session { boot: request.boot, ..Session::default() };
        }
        session.last_use = self.uses;
        session.outcomes.insert(request.counter, outcome);
        while session.outcomes.len() > OUTCOMES_MAX {
            let (oldest, _) = session.outcomes.pop_first().expect("longer than the limit");
            session.floor = oldest.saturating_add(1);
        }
    }

    fn make_room(&mut self, node: NodeId) {
        let of_node = || (node, 0)..=(node, u64::MAX);
        while self.by_origin.range(of_node()).count() >= SESSIONS_PER_NODE_MAX {
            let oldest = self.by_origin.range(of_node()).min_by_key(|(_, session)| session.last_use).map(|(key, _)| *key);
            self.by_origin.remove(&oldest.expect("there is at least one, or the loop had ended"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::command::CatalogDone;

    fn request(incarnation: u64, boot: u64, counter: u64) -> RequestId {
        RequestId { node: 1, incarnation, boot, counter }
    }

    fn writer(first: i64) -> CatalogOutcome {
        Ok(CatalogDone::WriterIds { first, count: 1 })
    }

    #[test]
    fn a_retry_gets_the_first_outcome() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.look_up(&request(7, 1, 5)), Seen::New);
        sessions.remember(&request(7, 1, 5), writer(1));
        assert_eq!(sessions.look_up(&request(7, 1, 5)), Seen::Before(writer(1)));
        assert_eq!(sessions.look_up(&request(7, 1, 4)), Seen::New, "requests of one node may overtake each other");
        assert_eq!(sessions.look_up(&request(8, 1, 5)), Seen::New, "another directory counts anew");
    }

    #[test]
    fn an_older_boot_is_forgotten() {
        let mut sessions = Sessions::default();
        sessions.remember(&request(7, 2, 0), writer(1));
        assert_eq!(sessions.look_up(&request(7, 1, 9)), Seen::Forgotten);
        assert_eq!(sessions.look_up(&request(7, 3, 0)), Seen::New);
        sessions.remember(&request(7, 3, 0), writer(2));
        assert_eq!(sessions.look_up(&request(7, 2, 0)), Seen::Forgotten);
    }

    #[test]
    fn the_window_is_bounded_and_what_left_it_is_refused() {
        let mut sessions = Sessions::default();
        for counter in 0..OUTCOMES_MAX as u64 + 3 {
            sessions.remember(&request(7, 1, counter), writer(counter as i64));
        }
        assert_eq!(sessions.look_up(&request(7, 1, 2)), Seen::Forgotten);
        assert_eq!(sessions.look_up(&request(7, 1, 3)), Seen::Before(writer(3)));
    }

    #[test]
    fn directories_per_node_are_bounded() {
        let mut sessions = Sessions::default();
        for incarnation in 0..10 {
            sessions.remember(&request(incarnation, 1, 0), writer(1));
        }
        assert_eq!(sessions.by_origin.len(), SESSIONS_PER_NODE_MAX);
        assert_eq!(sessions.look_up(&request(9, 1, 0)), Seen::Before(writer(1)));
    }
}
