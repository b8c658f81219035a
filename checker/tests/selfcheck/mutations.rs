//! Each kind of damage is reported under its name, in every history that it can be done to.

use crate::damage::{DAMAGES, Damage, damage_untold};
use crate::generate::{Draws, generate};
use floss_checker::history::Event;
use floss_checker::{Demands, NAMES, check};
use std::collections::BTreeSet;

/// In so many histories each.
const HISTORIES: u64 = 100;
const MANY: u64 = 1_000;
/// Tried for that.
const SEEDS_PER_HISTORY: u64 = 60;

fn names(events: &[Event]) -> BTreeSet<&'static str> {
    check(events, &Demands { acked: 0, dumps: 0 }).anomalies.iter().map(|anomaly| anomaly.name).collect()
}

fn reported(what: &str, name: &str, histories: u64, damage: &dyn Fn(&mut Vec<Event>, &mut Draws) -> bool) {
    let mut done = 0;
    for seed in 0..histories * SEEDS_PER_HISTORY {
        let mut events = generate(seed);
        let mut draws = Draws::new(seed ^ 0xabcd);
        if !damage(&mut events, &mut draws) {
            continue;
        }
        let found = names(&events);
        assert!(found.contains(name), "{what}, seed {seed}: expected {name}, found {found:?}");
        done += 1;
        if done == histories {
            return;
        }
    }
    panic!("{what}: could be done to {done} of {} histories, expected {histories}", histories * SEEDS_PER_HISTORY);
}

fn all_reported(histories: u64) {
    for (what, name, damage) in DAMAGES {
        let damage: &Damage = damage;
        reported(what, name, histories, damage);
    }
    for name in ["lost write", "duplicate", "phantom"] {
        let damage = |events: &mut Vec<Event>, draws: &mut Draws| damage_untold(events, draws, name);
        reported("a changelog that does not say whose", name, histories, &damage);
    }
}

#[test]
fn damage_is_reported_under_its_name() {
    all_reported(HISTORIES);
}

/// `cargo test -p floss-checker -- --ignored`
#[test]
#[ignore = "1,000 histories per kind of damage"]
fn damage_is_reported_under_its_name_in_many_histories() {
    all_reported(MANY);
}

#[test]
fn every_name_has_a_damage() {
    let damaged: BTreeSet<&str> = DAMAGES.iter().map(|(_, name, _)| *name).collect();
    let without: Vec<&str> = NAMES.iter().map(|(name, _)| *name).filter(|name| !damaged.contains(name)).collect();
    assert_eq!(without, Vec::<&str>::new());
}
