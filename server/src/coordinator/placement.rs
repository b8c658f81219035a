//! Where the replicas of new buckets go. Pure: equal inputs give equal plans on every replica of the catalog.

use floss_raft::types::NodeId;

/// A node that may hold replicas, with what it holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node: NodeId,
    /// Suspected or never seen: used only if there is no other choice.
    pub doubtful: bool,
    pub replicas: u64,
    /// Buckets whose preferred leader it is.
    pub preferred: u64,
}

/// One bucket's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Ascending.
    pub replicas: Vec<NodeId>,
    pub preferred: NodeId,
}

/// Places `bucket_count` buckets: each is led from the candidate that is preferred least often so far, and its other replicas
/// go to the least loaded ones. Doubtful nodes come last for both.
///
/// Shape: 1 <= factor <= candidates; nodes are distinct.
pub fn place_buckets(mut candidates: Vec<Candidate>, bucket_count: usize, factor: usize) -> Vec<Place> {
    assert!(factor >= 1, "factor=0: checked before");
    assert!(factor <= candidates.len(), "factor={factor} above candidates={}: checked before", candidates.len());
    let mut places = Vec::with_capacity(bucket_count);
    for _ in 0..bucket_count {
        // Leading costs more than following, so leaders are spread first.
        candidates.sort_by_key(|c| (c.doubtful, c.preferred, c.replicas, c.node));
        candidates[0].preferred += 1;
        let preferred = candidates[0].node;
        candidates[1..].sort_by_key(|c| (c.doubtful, c.replicas, c.node));
        let chosen = &mut candidates[..factor];
        chosen.iter_mut().for_each(|c| c.replicas += 1);
        let mut replicas: Vec<NodeId> = chosen.iter().map(|c| c.node).collect();
        replicas.sort_unstable();
        places.push(Place { replicas, preferred });
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn fresh(nodes: u64) -> Vec<Candidate> {
        (1..=nodes).map(|node| Candidate { node, doubtful: false, replicas: 0, preferred: 0 }).collect()
    }

    fn spread(counts: &BTreeMap<NodeId, u64>, nodes: u64) -> u64 {
        let of = |node| counts.get(&node).copied().unwrap_or(0);
        let all = || (1..=nodes).map(of);
        all().max().unwrap_or(0) - all().min().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn replicas_and_leaders_are_balanced(nodes in 1u64..9, buckets in 0usize..200, factor in 1usize..6) {
            prop_assume!(factor <= nodes as usize);
            let places = place_buckets(fresh(nodes), buckets, factor);
            prop_assert_eq!(places.len(), buckets);
            let (mut replicas, mut leaders) = (BTreeMap::new(), BTreeMap::new());
            for place in &places {
                prop_assert_eq!(place.replicas.len(), factor);
                prop_assert!(place.replicas.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(place.replicas.contains(&place.preferred));
                place.replicas.iter().for_each(|node| *replicas.entry(*node).or_insert(0u64) += 1);
                *leaders.entry(place.preferred).or_insert(0u64) += 1;
            }
            prop_assert!(spread(&replicas, nodes) <= 1, "replicas {replicas:?}");
            prop_assert!(spread(&leaders, nodes) <= 1, "leaders {leaders:?}");
        }
    }

    #[test]
    fn single_bucket_tables_rotate() {
        let mut candidates = fresh(3);
        let mut leaders = Vec::new();
        for _ in 0..6 {
            let place = place_buckets(candidates.clone(), 1, 3).remove(0);
            candidates.iter_mut().for_each(|c| {
                c.replicas += 1;
                c.preferred += u64::from(c.node == place.preferred);
            });
            leaders.push(place.preferred);
        }
        assert_eq!(leaders, [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn doubtful_nodes_come_last() {
        let mut candidates = fresh(4);
        candidates[0].doubtful = true;
        candidates[1].replicas = 100;
        for place in place_buckets(candidates.clone(), 20, 3) {
            assert_eq!(place.replicas, [2, 3, 4]);
        }
        for place in place_buckets(candidates, 20, 4) {
            assert_eq!(place.replicas, [1, 2, 3, 4]);
            assert_ne!(place.preferred, 1);
        }
    }
}
