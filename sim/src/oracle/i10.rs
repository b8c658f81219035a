//! I10: one leader per term. Whoever believes anything about a term believes the same.

use super::Oracle;
use crate::history::{Event, NodeNo};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct OneLeader {
    /// group, term -> leader and who said so first.
    leaders: BTreeMap<(u64, u64), (NodeNo, NodeNo)>,
}

impl Oracle for OneLeader {
    fn id(&self) -> &'static str {
        "I10"
    }

    fn observe(&mut self, _at_ns: u64, event: &Event) -> Result<(), String> {
        let Event::Probe { node, replicas, .. } = event else { return Ok(()) };
        for replica in replicas {
            let Some(leader) = replica.leader else { continue };
            let (group, term) = (replica.group, replica.term);
            let (known, witness) = *self.leaders.entry((group, term)).or_insert((leader, *node));
            if known != leader {
                return Err(format!("g{group} term={term}: leader is n{leader} for n{node}, n{known} for n{witness}"));
            }
            if replica.ready && leader != *node {
                return Err(format!("g{group} term={term}: n{node} takes writes, but the leader is n{leader}"));
            }
        }
        Ok(())
    }
}
