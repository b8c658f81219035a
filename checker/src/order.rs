//! Linearizability when the order of writes is known: exact, and as cheap as sorting.
//!
//! The changelog says in which order the writes of a bucket took effect. A read is then allowed only in the stretches of that order in
//! which the key had the value that it returned. Operations are taken by the time of their question; `floor` is the furthest place of
//! all that were answered before. A write must lie above the floor; a read takes the lowest place it may, because a lower choice
//! never forbids anything later that a higher one allows.
//!
//! The places are log ends: a place `p` stands for the state in which the log ends at `p`. Batches take effect whole, so only the ends
//! of batches are places.
//!
//! An answer about many keys (a prefix, a scan, a batch of lookups) must be of one single place: the lowest one that suits all of
//! them is found by letting each key in turn raise it, until none does. So the same argument holds.

use crate::anomaly::Anomaly;
use crate::table::{Key, Row, Rows, show};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The states that the keys of one bucket went through.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// Ascending places, each with the row from there on. A key that is not here never existed.
    of: BTreeMap<Key, Vec<(i64, Option<Row>)>>,
    /// Ascending places, each with the number of rows from there on.
    counts: Vec<(i64, u64)>,
}

impl Versions {
    /// After the batch that ends at `place`, these keys have these rows. Places ascend.
    pub fn push<'a>(&mut self, place: i64, keys: impl IntoIterator<Item = &'a Key>, rows: &Rows) {
        for key in keys {
            let versions = self.of.entry(key.clone()).or_default();
            versions.push((place, rows.get(key).cloned()));
        }
        self.counts.push((place, rows.len() as u64));
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

    /// The lowest place at or above `floor` that the whole answer is of. Its own place, if it names one, is not below `floor`.
    ///
    /// Errors: the first key that stands in the way, with what was found there.
    fn lowest_cut(&self, cut: &Cut, floor: i64) -> Result<i64, (Key, Option<Row>)> {
        let mut place = cut.place.unwrap_or(floor);
        loop {
            let before = place;
            let others = cut.range.iter().flat_map(|range| self.of.keys().filter(|key| range.holds(key)));
            let others = others.filter(|key| !cut.found.contains_key(*key)).map(|key| (key, None));
            for (key, value) in cut.found.iter().map(|(key, row)| (key, row.as_ref())).chain(others) {
                place = self.lowest(key, value, place).ok_or_else(|| (key.clone(), value.cloned()))?;
                if cut.place.is_some_and(|only| only != place) {
                    return Err((key.clone(), value.cloned()));
                }
            }
            if place == before {
                return Ok(place);
            }
        }
    }

    /// The lowest place at or above `floor` with so many rows.
    fn lowest_count(&self, rows: u64, floor: i64) -> Option<i64> {
        let later = self.counts.partition_point(|(place, _)| *place <= floor);
        let now = later.checked_sub(1).map_or(0, |at| self.counts[at].1);
        if now == rows {
            return Some(floor);
        }
        self.counts[later..].iter().find(|(_, count)| *count == rows).map(|(place, _)| *place)
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
    /// Many keys at one single moment.
    Cut(Cut),
    /// How many rows there are.
    Count {
        rows: u64,
    },
}

/// An answer about many keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub found: BTreeMap<Key, Option<Row>>,
    /// All other keys in here have no row. `None`: nothing is known about other keys.
    pub range: Option<KeyRange>,
    /// The answer says itself of which place it is.
    pub place: Option<i64>,
}

/// Neighbouring keys. The default are all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// The first cells of the keys.
    pub prefix: Key,
    /// The last key that was looked at; `None` = to the end.
    pub last: Option<Key>,
}

impl KeyRange {
    fn holds(&self, key: &Key) -> bool {
        key.starts_with(&self.prefix) && self.last.as_ref().is_none_or(|last| key <= last)
    }
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
            read => lowest_of(versions, read, floor)
                .map_err(|(name, found)| Anomaly::new(name, format!("{} found {found}, {}", operation.name, before())))?,
        };
        if let Some(when) = operation.answered {
            answered.push(Reverse((when, place, at)));
        }
    }
    Ok(())
}

/// Where a read is allowed first.
///
/// Errors: the name of the anomaly, and what was found.
fn lowest_of(versions: &Versions, read: &What, floor: i64) -> Result<i64, (&'static str, String)> {
    let wrong_row = |key: &Key, value: Option<&Row>| {
        let name = if versions.had(key, value) { "stale read" } else { "phantom read" };
        (name, format!("{} at {}", value.map_or_else(|| "nothing".to_owned(), |row| show(row)), show(key)))
    };
    match read {
        What::Read { key, value } => versions.lowest(key, value.as_ref(), floor).ok_or_else(|| wrong_row(key, value.as_ref())),
        What::Cut(cut) => {
            let rows = cut.found.values().flatten().count();
            let said = cut.place.map_or_else(String::new, |place| format!(" that says it is of place {place}"));
            let answer = format!("an answer of {rows} rows{said}");
            if cut.place.is_some_and(|place| place < floor) {
                return Err(("stale read", answer));
            }
            versions.lowest_cut(cut, floor).map_err(|(key, value)| {
                let (name, found) = wrong_row(&key, value.as_ref());
                // The row by itself could be seen, only not at one place with the others.
                let alone = versions.lowest(&key, value.as_ref(), cut.place.unwrap_or(floor)).is_some();
                (if alone { "torn read" } else { name }, format!("{found} in {answer}"))
            })
        }
        What::Count { rows } => {
            let was = *rows == 0 || versions.counts.iter().any(|(_, count)| count == rows);
            let name = if was { "stale read" } else { "phantom read" };
            versions.lowest_count(*rows, floor).ok_or_else(|| (name, format!("{rows} rows")))
        }
        What::Write { place } => Ok(*place),
    }
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

    fn cut(asked: u64, answered: u64, found: &[(i64, Option<i64>)], whole: bool) -> Operation {
        let found = found.iter().map(|(number, value)| (key(*number), value.map(|value| row(*number, value)))).collect();
        let range = whole.then(KeyRange::default);
        let what = What::Cut(Cut { found, range, place: None });
        Operation { asked, answered: Some(answered), what, name: format!("cut at {asked}") }
    }

    #[test]
    fn answers_about_many_keys_are_of_one_place() {
        let writes = || vec![write(0, Some(90), 1), write(0, Some(90), 2), write(0, Some(90), 3), write(0, Some(90), 4)];
        let with = |more: Vec<Operation>| verdict(writes().into_iter().chain(more).collect());
        assert_eq!(with(vec![cut(1, 2, &[(1, Some(10)), (2, Some(20))], true)]), None);
        assert_eq!(with(vec![cut(1, 2, &[(1, Some(11)), (2, None)], false)]), Some("torn read"), "2 was there before 11 was");
        assert_eq!(with(vec![cut(1, 2, &[(1, Some(11))], true)]), Some("torn read"), "2 is left out");
        assert_eq!(with(vec![cut(1, 2, &[(1, Some(11))], false)]), None, "2 was not asked for");
        assert_eq!(with(vec![cut(1, 2, &[(2, Some(20)), (3, Some(30))], true)]), Some("phantom read"));
        assert_eq!(
            with(vec![cut(1, 2, &[(2, Some(20))], true), read(3, 4, 1, Some(11))]),
            Some("stale read"),
            "a cut is a floor"
        );
        assert_eq!(with(vec![cut(91, 92, &[(2, Some(20))], true)]), None);
        let at = |place, found: &[(i64, Option<i64>)]| {
            let mut operation = cut(1, 2, found, true);
            let What::Cut(cut) = &mut operation.what else { unreachable!() };
            cut.place = Some(place);
            operation
        };
        assert_eq!(with(vec![at(2, &[(1, Some(10)), (2, Some(20))])]), None);
        assert_eq!(with(vec![at(3, &[(1, Some(10)), (2, Some(20))])]), Some("stale read"), "it says that it is of another place");
        assert_eq!(with(vec![at(1, &[(1, Some(10)), (2, Some(20))])]), Some("torn read"));
        let mut late = at(2, &[(1, Some(10)), (2, Some(20))]);
        late.asked = 91;
        assert_eq!(with(vec![late]), Some("stale read"), "of a place before it was asked");
        let part = |last: i64| KeyRange { prefix: Vec::new(), last: Some(key(last)) };
        let mut operation = cut(1, 2, &[(1, Some(11))], true);
        let What::Cut(first) = &mut operation.what else { unreachable!() };
        first.range = Some(part(1));
        assert_eq!(with(vec![operation]), None, "2 was not looked at");
    }

    #[test]
    fn rows_are_counted_at_one_place() {
        let count = |asked, rows| Operation {
            asked,
            answered: Some(asked + 1),
            what: What::Count { rows },
            name: format!("count at {asked}"),
        };
        let writes = || vec![write(0, Some(10), 1), write(0, Some(20), 2), write(0, Some(30), 3), write(0, Some(40), 4)];
        let with = |more: Vec<Operation>| verdict(writes().into_iter().chain(more).collect());
        assert_eq!(with(vec![count(1, 0), count(3, 2), count(5, 2), count(7, 1), count(41, 1)]), None);
        assert_eq!(with(vec![count(1, 2), count(3, 0)]), Some("stale read"));
        assert_eq!(with(vec![count(41, 2)]), Some("stale read"), "one was deleted by then");
        assert_eq!(with(vec![count(1, 3)]), Some("phantom read"));
    }

    /// The row of a key at a place, looked up without any of the above.
    fn row_at<'a>(versions: &'a Versions, key: &Key, place: i64) -> Option<&'a Row> {
        let mut until = versions.of.get(key)?.iter().filter(|(from, _)| *from <= place);
        until.next_back()?.1.as_ref()
    }

    fn is_at(versions: &Versions, cut: &Cut, place: i64) -> bool {
        let found = cut.found.iter().all(|(key, row)| row_at(versions, key, place) == row.as_ref());
        let others = || versions.of.keys().filter(|key| !cut.found.contains_key(*key));
        let absent = cut.range.is_none() || others().all(|key| row_at(versions, key, place).is_none());
        found && absent && cut.place.is_none_or(|only| only == place)
    }

    fn count_at(versions: &Versions, place: i64) -> u64 {
        versions.of.keys().filter(|key| row_at(versions, key, place).is_some()).count() as u64
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
            What::Cut(cut) => (0..=last).filter(|place| is_at(versions, cut, *place)).collect(),
            What::Count { rows } => (0..=last).filter(|place| count_at(versions, *place) == *rows).collect(),
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
                let answered = asked + below(6);
                let value = values[below(4) as usize];
                operations.push(match below(5) {
                    0 => cut(asked, answered, &[(1, value), (2, values[3 * below(2) as usize])], true),
                    1 => cut(asked, answered, &[(number, value)], true),
                    2 => Operation { what: What::Count { rows: below(3) }, ..read(asked, answered, number, value) },
                    _ => read(asked, answered, number, value),
                });
            }
            let expected = fits(&versions, &operations, &mut Vec::new(), 4);
            let found = check_order(&versions, operations.clone());
            assert_eq!(found.is_ok(), expected, "{operations:?} {found:?}");
            if expected { good += 1 } else { bad += 1 }
        }
        assert!(good > 500 && bad > 500, "{good} good, {bad} bad");
    }
}
