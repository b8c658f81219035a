//! A second opinion on one key: is there any order of what clients did that explains what they saw? Asks no log and no offset, so a log
//! that lies cannot deceive it. Exponential at worst, so it counts its steps and gives up.
//!
//! Source: Wing and Gong, with the memory of Lowe: a set of operations that were taken, with the row after them, is tried once.

use crate::table::{Batch, Cell, Row, Rows, Table};
use std::collections::{BTreeMap, BTreeSet};

/// What one client did to the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub asked: u64,
    /// `None`: at any time since it was asked, or never.
    pub answered: Option<u64>,
    pub act: Act,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// That part of a batch that is about the key.
    Write(Batch),
    Read(Option<Row>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    Fits,
    DoesNot,
    /// Too many steps.
    GaveUp,
}

/// In the place of every number that the server gives: which one it is, no order can explain.
pub(crate) const SOME_NUMBER: Cell = Cell::Int(0);

/// Whether the calls, sorted by when they were asked, fit into some order. The key starts without a row.
pub fn search(table: &Table, calls: &[Call], steps_max: u64) -> Opinion {
    search_numbered(table, None, calls, steps_max)
}

/// The server gives numbers to new rows in this column; all rows that were read have [`SOME_NUMBER`] there.
pub(crate) fn search_numbered(table: &Table, column: Option<usize>, calls: &[Call], steps_max: u64) -> Opinion {
    debug_assert!(calls.is_sorted_by_key(|call| call.asked), "calls must be sorted");
    // Reads without an answer say nothing.
    let told = |call: &&Call| call.answered.is_some() || matches!(call.act, Act::Write(_));
    Search::new(table, column, calls.iter().filter(told).collect()).run(steps_max)
}

/// Taken operations, one bit each.
type Taken = Vec<u64>;

struct Search<'a> {
    table: &'a Table,
    column: Option<usize>,
    calls: Vec<&'a Call>,
    /// Rows that came up; a state is a place in it.
    rows: Vec<Option<Row>>,
    states: BTreeMap<Option<Row>, usize>,
    after: BTreeMap<(usize, usize), usize>,
    tried: BTreeSet<(Taken, usize)>,
}

impl<'a> Search<'a> {
    fn new(table: &'a Table, column: Option<usize>, calls: Vec<&'a Call>) -> Self {
        let states = BTreeMap::from([(None, 0)]);
        Self { table, column, calls, rows: vec![None], states, after: BTreeMap::new(), tried: BTreeSet::new() }
    }

    fn run(&mut self, steps_max: u64) -> Opinion {
        let mut stack = vec![(vec![0_u64; self.calls.len().div_ceil(64)], 0)];
        let mut steps = 0;
        while let Some((mut taken, state)) = stack.pop() {
            self.take_reads(&mut taken, state);
            if self.is_done(&taken) {
                return Opinion::Fits;
            }
            if !self.tried.insert((taken.clone(), state)) {
                continue;
            }
            steps += 1;
            if steps > steps_max {
                return Opinion::GaveUp;
            }
            // Last pushed, first tried: those without an answer are tried last.
            let mut next = self.candidates(&taken);
            next.sort_by_key(|at| (self.calls[*at].answered.is_some(), std::cmp::Reverse(*at)));
            for at in next {
                if let Some(after) = self.write(at, state) {
                    let mut with = taken.clone();
                    with[at / 64] |= 1 << (at % 64);
                    stack.push((with, after));
                }
            }
        }
        Opinion::DoesNot
    }

    /// A read that fits now may as well be now: it changes nothing and holds nobody up.
    fn take_reads(&self, taken: &mut Taken, state: usize) {
        loop {
            let fits = |at: &usize| matches!(&self.calls[*at].act, Act::Read(row) if *row == self.rows[state]);
            let fitting: Vec<usize> = self.candidates(taken).into_iter().filter(fits).collect();
            if fitting.is_empty() {
                return;
            }
            fitting.into_iter().for_each(|at| taken[at / 64] |= 1 << (at % 64));
        }
    }

    /// Those that may come next: not asked after another that is left was answered.
    fn candidates(&self, taken: &Taken) -> Vec<usize> {
        let mut first_answer = u64::MAX;
        let mut found = Vec::new();
        for (at, call) in self.calls.iter().enumerate() {
            if call.asked > first_answer {
                break;
            }
            if taken[at / 64] & 1 << (at % 64) == 0 {
                first_answer = first_answer.min(call.answered.unwrap_or(u64::MAX));
                found.push(at);
            }
        }
        found
    }

    fn is_done(&self, taken: &Taken) -> bool {
        let left = |at: usize| taken[at / 64] & 1 << (at % 64) == 0;
        !self.calls.iter().enumerate().any(|(at, call)| left(at) && call.answered.is_some())
    }

    /// The state after this write; `None` if it is a read.
    fn write(&mut self, at: usize, state: usize) -> Option<usize> {
        let Act::Write(batch) = &self.calls[at].act else { return None };
        if let Some(after) = self.after.get(&(at, state)) {
            return Some(*after);
        }
        let before = self.rows[state].clone();
        let mut rows: Rows = before.into_iter().map(|row| (self.table.key(&row), row)).collect();
        for op in &batch.ops {
            self.table.run(&mut rows, &Batch { ops: vec![op.clone()], columns: batch.columns.clone() });
            for row in rows.values_mut() {
                if let Some(cell) = self.column.and_then(|column| row.get_mut(column)) {
                    *cell = SOME_NUMBER;
                }
            }
        }
        let row = rows.pop_first().map(|(_, row)| row);
        let after = *self.states.entry(row.clone()).or_insert(self.rows.len());
        if after == self.rows.len() {
            self.rows.push(row);
        }
        self.after.insert((at, state), after);
        Some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Engine, Image, Op};

    fn table(engine: Engine) -> Table {
        Table { key_columns: vec![0], engine, image: Image::Full, deletes: true }
    }

    fn put(asked: u64, answered: Option<u64>, value: i64) -> Call {
        let ops = vec![Op::Upsert(row(value))];
        Call { asked, answered, act: Act::Write(Batch { ops, columns: None }) }
    }

    fn row(value: i64) -> Row {
        vec![Cell::Int(1), Cell::Int(value)]
    }

    fn read(asked: u64, answered: u64, value: Option<i64>) -> Call {
        Call { asked, answered: Some(answered), act: Act::Read(value.map(row)) }
    }

    fn opinion(engine: Engine, calls: &[Call]) -> Opinion {
        search(&table(engine), calls, 1000)
    }

    #[test]
    fn golden_cases() {
        use Opinion::*;
        let of = |calls: &[Call]| opinion(Engine::Replace, calls);
        assert_eq!(of(&[]), Fits);
        assert_eq!(of(&[put(0, Some(1), 5), read(2, 3, Some(5))]), Fits);
        assert_eq!(of(&[put(0, Some(1), 5), read(2, 3, None)]), DoesNot);
        assert_eq!(of(&[put(0, Some(2), 5), read(1, 3, None)]), Fits, "beside each other");
        assert_eq!(of(&[put(0, Some(1), 5), read(1, 3, None)]), Fits, "at the same time is beside each other");
        assert_eq!(of(&[put(0, None, 5), read(2, 3, None), read(4, 5, Some(5))]), Fits, "it may come late");
        assert_eq!(of(&[put(0, None, 5), read(2, 3, Some(5)), read(4, 5, None)]), DoesNot, "and does not go away");
        assert_eq!(of(&[read(2, 3, Some(5)), put(4, None, 5)]), DoesNot, "not sent yet");
        let two = [put(0, Some(9), 5), put(0, Some(9), 6)];
        let with = |reads: [Call; 2]| of(&two.iter().cloned().chain(reads).collect::<Vec<_>>());
        assert_eq!(with([read(1, 2, Some(6)), read(3, 4, Some(5))]), Fits);
        assert_eq!(with([read(10, 11, Some(6)), read(12, 13, Some(5))]), DoesNot);
    }

    #[test]
    fn the_rules_of_the_table_count() {
        let calls = [put(0, Some(1), 5), put(2, Some(3), 6), read(4, 5, Some(5))];
        assert_eq!(opinion(Engine::FirstRow, &calls), Opinion::Fits);
        assert_eq!(opinion(Engine::Replace, &calls), Opinion::DoesNot);
    }

    #[test]
    fn it_gives_up() {
        let mut calls: Vec<Call> = (0..20).map(|value| put(0, None, value)).collect();
        calls.push(read(1, 2, Some(99)));
        assert_eq!(opinion(Engine::Replace, &calls), Opinion::GaveUp);
    }
}
