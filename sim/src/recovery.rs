//! Could the cluster have gone on at all? Asked before a lack of progress is held against it.
//!
//! Raft promises progress of a group only while a majority of its voters has its disks, and what was committed is on one of those. The
//! atlas of faults (`cluster::claim_disk`) takes care of that; this proves it for the case at hand.

use crate::history::{Event, NodeNo, Replica};
use std::collections::{BTreeMap, BTreeSet};

/// What a lack of progress means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Every group could go on: per group what it needs and who has it.
    Recoverable(String),
    /// No promise is broken: this group has lost too many disks.
    Unrecoverable(String),
    /// Worse than standing still: what was committed is on no disk that is left.
    Gone(String),
}

/// Per group, as last seen: who votes, and up to where it was committed.
#[derive(Debug, Default)]
pub struct Recovery {
    voters: BTreeMap<u64, BTreeSet<NodeNo>>,
    committed: BTreeMap<u64, u64>,
}

impl Recovery {
    pub fn observe(&mut self, event: &Event) {
        let Event::Probe { node, replicas, .. } = event else { return };
        // One that failed stands between what Raft decided and what its disk took.
        for replica in replicas.iter().filter(|replica| replica.failed.is_none()) {
            let committed = self.committed.entry(replica.group).or_default();
            *committed = (*committed).max(replica.pointers[3]);
            if let (true, Some(voters)) = (replica.ready && replica.leader == Some(*node), &replica.voters) {
                self.voters.insert(replica.group, voters.iter().copied().collect());
            }
        }
    }

    /// `without_disk`: whose disk is lost or lies. `now`: the replicas that run.
    pub fn prove(&self, without_disk: &BTreeSet<NodeNo>, now: &[(NodeNo, Replica)]) -> Proof {
        let mut proof = Vec::new();
        for (group, voters) in &self.voters {
            let whole: BTreeSet<NodeNo> = voters.difference(without_disk).copied().collect();
            if whole.len() * 2 <= voters.len() {
                return Proof::Unrecoverable(format!("g{group}: of its voters {voters:?} only {whole:?} have their disks"));
            }
            let needed = self.committed.get(group).copied().unwrap_or(0);
            let lasts = now.iter().filter(|(node, replica)| replica.group == *group && whole.contains(node));
            let lasts: BTreeMap<NodeNo, u64> = lasts.map(|(node, replica)| (*node, replica.pointers[4])).collect();
            let best = lasts.iter().max_by_key(|(_, last)| **last);
            match best {
                Some((node, last)) if *last >= needed => proof.push(format!("g{group} needs {needed}, n{node} has {last}")),
                // Somebody has not opened the group: what its disk holds is not known.
                _ if lasts.len() < whole.len() => proof.push(format!("g{group} needs {needed}, not all of {whole:?} opened it")),
                _ => return Proof::Gone(format!("g{group}: {needed} was committed, what is left ends at {lasts:?}")),
            }
        }
        Proof::Recoverable(proof.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(group: u64, node: NodeNo, committed: u64, last: u64) -> Replica {
        let pointers = [0, 0, committed, committed, last];
        Replica { group, leader: Some(node), ready: true, pointers, voters: Some(vec![1, 2, 3]), ..Replica::default() }
    }

    fn seen() -> Recovery {
        let mut recovery = Recovery::default();
        recovery.observe(&Event::Probe { node: 1, boot: 1, replicas: vec![replica(7, 1, 40, 42)] });
        recovery
    }

    #[test]
    fn a_majority_with_its_disks_and_the_entry_on_one_of_them_is_a_proof() {
        let now = [(2, replica(7, 2, 30, 40)), (3, replica(7, 3, 30, 35))];
        assert_eq!(
            seen().prove(&BTreeSet::from([1]), &now),
            Proof::Recoverable("g7 needs 40, n2 has 40".into()),
            "the disk of the old leader is not needed"
        );
    }

    #[test]
    fn a_lost_majority_excuses_standing_still() {
        assert!(matches!(seen().prove(&BTreeSet::from([1, 2]), &[]), Proof::Unrecoverable(_)));
    }

    #[test]
    fn a_committed_entry_that_nobody_has_is_a_finding_of_its_own() {
        let now = [(2, replica(7, 2, 30, 39)), (3, replica(7, 3, 30, 35))];
        assert!(matches!(seen().prove(&BTreeSet::from([1]), &now), Proof::Gone(_)));
        assert!(matches!(seen().prove(&BTreeSet::from([1]), &now[..1]), Proof::Recoverable(_)), "n3 may have it");
    }
}
