//! Linearizability when the order of writes is known: exact, and as cheap as sorting.
//!
//! The changelog says in which order the writes of a bucket took effect. A read is then allowed only in the stretches of that order in
//! which the key had the value that it returned. Operations are taken by the time of their question; `floor` is the furthest place of
//! all that were answered before. A write must lie above the floor; a read takes the lowest place it may, because a lower choice
//! never forbids anything later that a higher one allows.
//!
//! The places are log ends: a place `p` stands for the state in which the log ends at `p`. Batches take effect whole, so only the ends
//! of batches are places.

use crate::anomaly::Anomaly;
use crate::table::{Key, Row, Rows, show};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The states that the keys of one bucket went through.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// Ascending places, each with the row from there on. A key that is not here never existed.
    of: BTreeMap<Key, Vec<(i64, Option<Row>)>>,
}

impl Versions {
    /// After the batch that ends at `place`, these keys have these rows. Places ascend.
    pub fn push<'a>(&mut self, place: i64, keys: impl IntoIterator<Item = &'a Key>, rows: &Rows) {
        for key in keys {
            let versions = self.of.entry(key.clone()).or_default();
            versions.push((place, rows.get(key).cloned()));
        }
    }

    /// The lowest place at or above `floor` at which `key` has `value`.
    fn lowest(&self, key: &Key, value: Option<&Row>, floor: i64) -> Option<i64> {
        let versions = self.of.get(key).map(Vec::as_slice).unwrap_or_default();
        let later = versions.partition_point(|(place, _)| *place <= floor);
        let now = later.checked_sub(1).and_then(|at| versions[at].1.as_ref());
        if now == value {
            return Some(floor);
        }
        versions[later..].iter().find(|(_, row)| row.as_ref() == value).map(|(place, _)| *place)
    }

    /// Whether `key` ever had `value`.
    pub fn had(&self, key: &Key, value: Option<&Row>) -> bool {
        value.is_none() || self.of.get(key).is_some_and(|versions| versions.iter().any(|(_, row)| row.as_ref() == value))
    }
}

/// What a client asked, when, and when it was answered.
#[derive(Clone, Debug)]
pub struct Operation {
    pub asked: u64,
    /// `None`: no clear answer, so it may have taken effect at any time since, or not at all.
    pub answered: Option<u64>,
    pub what: What,
    /// For people: who and which.
    pub name: String,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A batch whose place in the changelog is known.
    Write {
        place: i64,
    },
    Read {
        key: Key,
        value: Option<Row>,
    },
}

/// Whether all operations fit into the order of the writes. Reads without an answer must be left out.
///
/// Errors: the first operation that fits nowhere.
pub fn check_order(versions: &Versions, mut operations: Vec<Operation>) -> Result<(), Anomaly> {
    operations.sort_by_key(|operation| operation.asked);
    let mut answered: BinaryHeap<Reverse<(u64, i64, usize)>> = BinaryHeap::new();
    let (mut floor, mut holder) = (0, None);
    for (at, operation) in operations.iter().enumerate() {
        while let Some(Reverse((when, place, by))) = answered.peek().copied()
            && when < operation.asked
        {
            answered.pop();
            if place > floor {
                (floor, holder) = (place, Some(by));
            }
        }
        let before = || {
            let name = holder.map_or_else(|| "the start".to_owned(), |by: usize| operations[by].name.clone());
            format!("{name}, answered before it was asked, stands at {floor}")
        };
        let place = match &operation.what {
            What::Write { place } if *place <= floor => {
                return Err(Anomaly::new("reordered write", format!("{} stands at {place}, {}", operation.name, before())));
            }
            What::Write { place } => *place,
            What::Read { key, value } => match versions.lowest(key, value.as_ref(), floor) {
                Some(place) => place,
                None => {
                    let name = if versions.had(key, value.as_ref()) { "stale read" } else { "phantom read" };
                    let value = value.as_ref().map_or_else(|| "nothing".to_owned(), |row| show(row));
                    return Err(Anomaly::new(name, format!("{} found {value} at {}, {}", operation.name, show(key), before())));
                }
            },
        };
        if let Some(when) = operation.answered {
            answered.push(Reverse((when, place, at)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Cell;

    fn key(number: i64) -> Key {
        vec![Cell::Int(number)]
    }

    fn row(key: i64, value: i64) -> Row {
        vec![Cell::Int(key), Cell::Int(value)]
    }

    /// Key 1 is written at 1 (value 10), 3 (value 11), deleted at 4; key 2 is written at 2 (value 20).
    fn versions() -> Versions {
        let mut versions = Versions::default();
        let mut rows = Rows::new();
        for (place, number, value) in [(1, 1, Some(10)), (2, 2, Some(20)), (3, 1, Some(11)), (4, 1, None)] {
            match value {
                Some(value) => drop(rows.insert(key(number), row(number, value))),
                None => drop(rows.remove(&key(number))),
            }
            versions.push(place, [&key(number)], &rows);
        }
        versions
    }

    fn read(asked: u64, answered: u64, number: i64, value: Option<i64>) -> Operation {
        let what = What::Read { key: key(number), value: value.map(|value| row(number, value)) };
        Operation { asked, answered: Some(answered), what, name: format!("read at {asked}") }
    }

    fn write(asked: u64, answered: Option<u64>, place: i64) -> Operation {
        Operation { asked, answered, what: What::Write { place }, name: format!("write {place}") }
    }

    fn verdict(operations: Vec<Operation>) -> Option<&'static str> {
        check_order(&versions(), operations).err().map(|anomaly| anomaly.name)
    }

    #[test]
    fn golden_cases() {
        let writes = || vec![write(0, Some(10), 1), write(0, None, 2), write(20, Some(30), 3), write(40, Some(50), 4)];
        let with = |more: Vec<Operation>| verdict(writes().into_iter().chain(more).collect());
        assert_eq!(with(vec![read(11, 12, 1, Some(10)), read(31, 32, 1, Some(11)), read(51, 52, 1, None)]), None);
        assert_eq!(with(vec![read(5, 45, 1, Some(11)), read(5, 6, 1, None)]), None, "open writes may count or not");
        assert_eq!(with(vec![read(11, 12, 2, None), read(13, 14, 2, Some(20))]), None, "a write without an answer comes later");
        assert_eq!(with(vec![read(11, 12, 2, Some(20)), read(13, 14, 2, None)]), Some("stale read"), "and does not go away");
        assert_eq!(with(vec![read(31, 32, 1, Some(10))]), Some("stale read"));
        assert_eq!(with(vec![read(51, 52, 1, Some(11))]), Some("stale read"), "deleted by then");
        assert_eq!(with(vec![read(11, 12, 1, Some(99))]), Some("phantom read"));
        assert_eq!(with(vec![read(1, 2, 1, Some(11)), read(3, 4, 2, None)]), Some("stale read"), "keys share one order");
        let swapped = vec![write(0, Some(10), 3), write(20, Some(30), 1)];
        assert_eq!(verdict(swapped), Some("reordered write"));
        let early = vec![write(20, Some(30), 3), read(1, 2, 1, Some(11))];
        assert_eq!(verdict(early), Some("reordered write"), "read before it was written");
    }

    /// Tries all places for all reads.
    fn fits(versions: &Versions, operations: &[Operation], places: &mut Vec<i64>, last: i64) -> bool {
        let Some(operation) = operations.get(places.len()) else {
            return operations.iter().enumerate().all(|(a, one)| {
                operations.iter().enumerate().all(|(b, other)| {
                    let is_before = one.answered.is_some_and(|answered| answered < other.asked);
                    let is_write = matches!(other.what, What::Write { .. });
                    !is_before || places[a] < places[b] || (!is_write && places[a] == places[b])
                })
            });
        };
        let choices: Vec<i64> = match &operation.what {
            What::Write { place } => vec![*place],
            What::Read { key, value } => {
                (0..=last).filter(|place| versions.lowest(key, value.as_ref(), *place) == Some(*place)).collect()
            }
        };
        choices.into_iter().any(|place| {
            places.push(place);
            let found = fits(versions, operations, places, last);
            places.pop();
            found
        })
    }

    #[test]
    fn agrees_with_trying_everything() {
        let mut state = 7_u64;
        let mut below = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        let (versions, values) = (versions(), [None, Some(10), Some(11), Some(20)]);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..20_000 {
            let mut operations = Vec::new();
            for place in 1..=4 {
                let asked = below(12);
                let answered = (below(4) > 0).then(|| asked + below(6));
                operations.push(write(asked, answered, place));
            }
            for _ in 0..1 + below(3) {
                let (asked, number) = (below(12), 1 + below(2) as i64);
                let value = values[below(4) as usize];
                operations.push(read(asked, asked + below(6), number, value));
            }
            let expected = fits(&versions, &operations, &mut Vec::new(), 4);
            let found = check_order(&versions, operations.clone());
            assert_eq!(found.is_ok(), expected, "{operations:?} {found:?}");
            if expected { good += 1 } else { bad += 1 }
        }
        assert!(good > 500 && bad > 500, "{good} good, {bad} bad");
    }
}
