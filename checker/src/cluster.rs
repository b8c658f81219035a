//! What nodes believe about each other.

use crate::anomaly::Found;
use crate::history::Event;
use std::collections::BTreeMap;

/// One leader per group and term: whoever believes anything about a term believes the same.
pub(crate) fn check_leaders(events: &[Event], found: &mut Found) {
    let mut leaders: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for event in events {
        let Event::Belief { node, group, term, leader, .. } = event else { continue };
        let (known, witness) = *leaders.entry((*group, *term)).or_insert((*leader, *node));
        if known != *leader {
            found.add("two leaders", || format!("g{group} term={term}: n{leader} for n{node}, n{known} for n{witness}"));
        }
    }
}
