//! Newest term wins, gossip converges over lossy pings, waits end at once.

use super::*;
use floss_raft::env::runtime::{block_on, spawn, time::sleep};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

fn led(term: u64, leader: NodeId) -> Leadership {
    Leadership { term, leader: Some(leader), ready: false }
}

fn vacant(term: u64) -> Leadership {
    Leadership { term, leader: None, ready: false }
}

fn ping(from: &LeaderTable, to: &LeaderTable) -> usize {
    let payload = from.ping_payload(to.node);
    to.on_ping(from.node, &payload);
    payload.len()
}

const G: GroupId = GroupId(7);

#[test]
fn newest_term_wins_and_the_last_leader_stays() {
    let table = LeaderTable::new(1, 11);
    assert_eq!(table.get(G), None);
    assert!(table.on_leadership(G, led(3, 2)));
    assert!(!table.on_leadership(G, led(3, 2)), "no news");
    assert!(!table.on_leadership(G, led(2, 1)), "older term");
    assert_eq!(table.get(G), Some(KnownLeader { term: 3, leader: 2, live: true }));
    table.on_leadership(G, vacant(4));
    assert_eq!(table.get(G), Some(KnownLeader { term: 3, leader: 2, live: false }));
    assert!(table.on_leadership(G, led(4, 1)));
    assert_eq!(table.get(G), Some(KnownLeader { term: 4, leader: 1, live: true }));
    table.on_node(1, false);
    assert!(!table.get(G).expect("known").live);
    table.on_node(1, true);
    assert!(table.get(G).expect("known").live);
}

#[test]
fn a_replica_that_hears_its_leader_again_ends_the_vacancy() {
    let table = LeaderTable::new(1, 11);
    table.on_leadership(G, led(3, 2));
    table.on_leadership(G, vacant(3));
    assert!(!table.get(G).expect("known").live);
    table.on_leadership(G, led(3, 2));
    assert!(table.get(G).expect("known").live);
}

#[test]
fn preferred_replica_is_shown_until_a_leader_is_known() {
    let table = LeaderTable::new(1, 11);
    let placement = BucketPlacement { group: G, replicas: vec![1, 2, 3], preferred: 2 };
    assert_eq!(table.shown(&placement), (2, 0));
    table.on_leadership(G, led(5, 3));
    assert_eq!(table.shown(&placement), (3, 5));
}

#[test]
fn news_travels_once_and_silence_follows() {
    let (a, b) = (LeaderTable::new(1, 11), LeaderTable::new(2, 22));
    a.on_leadership(G, led(3, 1));
    for _ in 0..3 {
        ping(&a, &b);
        ping(&b, &a);
    }
    assert_eq!(b.get(G), Some(KnownLeader { term: 3, leader: 1, live: true }));
    assert_eq!((ping(&a, &b), ping(&b, &a)), (0, 0));
    a.on_leadership(GroupId(8), led(1, 1));
    assert!(ping(&a, &b) < 20, "only the change travels");
    assert!(b.get(GroupId(8)).is_some());
}

#[test]
fn a_first_answer_that_gets_lost_is_given_again() {
    let (a, b) = (LeaderTable::new(1, 11), LeaderTable::new(2, 22));
    ping(&a, &b);
    assert!(!b.ping_payload(1).is_empty(), "and nobody gets it");
    for _ in 0..3 {
        ping(&a, &b);
        ping(&b, &a);
    }
    assert_eq!((ping(&a, &b), ping(&b, &a)), (0, 0));
}

#[test]
fn a_restarted_peer_is_told_everything_again() {
    let (a, b) = (LeaderTable::new(1, 11), LeaderTable::new(2, 22));
    b.on_leadership(G, led(3, 2));
    for _ in 0..3 {
        ping(&a, &b);
        ping(&b, &a);
    }
    let again = LeaderTable::new(2, 23);
    for _ in 0..2 {
        ping(&again, &a);
        ping(&a, &again);
    }
    assert_eq!(again.get(G), Some(KnownLeader { term: 3, leader: 2, live: true }), "even what it had told itself");
}

#[test]
fn a_restarted_peer_does_not_acknowledge_what_it_missed() {
    let (a, b) = (LeaderTable::new(1, 11), LeaderTable::new(2, 22));
    a.on_leadership(G, led(3, 1));
    for _ in 0..2 {
        ping(&a, &b);
        ping(&b, &a);
    }
    // The first thing it hears continues from where its former self was.
    let again = LeaderTable::new(2, 23);
    a.on_leadership(GroupId(8), led(1, 1));
    for _ in 0..3 {
        ping(&a, &again);
        ping(&again, &a);
    }
    assert!(again.get(G).is_some());
    assert!(again.get(GroupId(8)).is_some());
}

#[test]
fn dropped_groups_do_not_come_back_by_gossip() {
    let (a, b) = (LeaderTable::new(1, 11), LeaderTable::new(2, 22));
    a.on_leadership(G, led(3, 1));
    b.forget(G);
    ping(&a, &b);
    assert_eq!(b.get(G), None);
}

#[test]
fn many_groups_travel_in_several_pings() {
    let (a, b) = (LeaderTable::new(1, 11), LeaderTable::new(2, 22));
    let groups = 2 * NEWS_PER_PING_MAX as u64 + 5;
    for group in 0..groups {
        a.on_leadership(GroupId(group), led(1, 1));
    }
    for _ in 0..3 {
        ping(&a, &b);
        ping(&b, &a);
    }
    assert!((0..groups).all(|group| b.get(GroupId(group)).is_some()));
}

#[test]
fn garbage_is_ignored() {
    let table = LeaderTable::new(1, 11);
    table.on_ping(2, &Bytes::from_static(b"\x01garbage"));
    table.on_ping(2, &Bytes::new());
    assert_eq!(table.get(G), None);
}

proptest! {
    #[test]
    fn gossip_converges_whatever_is_lost(
        events in prop::collection::vec((0usize..4, 0u64..5, 1u64..20), 0..40),
        pings in prop::collection::vec((0usize..4, 0usize..4, any::<bool>()), 0..100),
        restart in 0usize..4,
    ) {
        let mut tables: Vec<LeaderTable> = (0..4).map(|n| LeaderTable::new(n + 1, n + 100)).collect();
        // One leader per (group, term), as Raft promises.
        let leader_of = |group: u64, term: u64| 1 + (group * 31 + term * 17) % 4;
        let mut pings = pings.into_iter();
        for (at, group, term) in &events {
            tables[*at].on_leadership(GroupId(*group), led(*term, leader_of(*group, *term)));
            for (from, to, arrives) in pings.by_ref().take(3) {
                let payload = tables[from].ping_payload(to as u64 + 1);
                if arrives {
                    tables[to].on_ping(from as u64 + 1, &payload);
                }
            }
        }
        tables[restart] = LeaderTable::new(restart as u64 + 1, 999);
        // A ring is enough: news is passed on.
        for _ in 0..8 {
            for from in 0..4 {
                ping(&tables[from], &tables[(from + 1) % 4]);
                ping(&tables[(from + 1) % 4], &tables[from]);
            }
        }
        for group in 0..5u64 {
            let first = tables[0].get(GroupId(group));
            for table in &tables {
                prop_assert_eq!(table.get(GroupId(group)), first);
            }
            let newest = events.iter().filter(|(at, of, _)| *of == group && *at != restart).map(|(_, _, term)| *term).max();
            prop_assert!(first.map(|known| known.term) >= newest);
        }
        for from in 0..4 {
            prop_assert_eq!(ping(&tables[from], &tables[(from + 1) % 4]), 0, "silence once all is told");
        }
    }
}

#[test]
fn a_wait_ends_the_moment_the_last_leader_is_known() {
    block_on(async {
        let table = Arc::new(LeaderTable::new(1, 11));
        table.on_leadership(GroupId(1), led(1, 1));
        let soon = Instant::now() + Duration::from_millis(30);
        assert!(!table.wait_all_led(&[GroupId(1), GroupId(2)], soon).await, "no leader, the deadline ends it");
        let started = Instant::now();
        let writer = Arc::clone(&table);
        spawn(async move {
            sleep(Duration::from_millis(20)).await;
            writer.on_leadership(GroupId(2), led(1, 1));
        });
        assert!(table.wait_all_led(&[GroupId(1), GroupId(2)], started + Duration::from_secs(30)).await);
        assert!(started.elapsed() < Duration::from_secs(10));
    });
}
