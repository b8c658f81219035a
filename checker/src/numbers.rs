//! Numbers that the server gives to new rows (an auto-increment column): never one twice in a table, and a row keeps its own.

use crate::anomaly::Anomaly;
use crate::table::{Batch, Cell, Change, Kind, Rows, Table};
use std::collections::BTreeMap;

impl Table {
    /// As [`Table::run`], where new rows have in `column` what `found`, the changes that were logged, says: which number they get
    /// nobody can tell beforehand. Everything after that is determined: the rows keep it.
    pub fn run_numbered(&self, rows: &mut Rows, batch: &Batch, column: usize, found: &[Change]) -> Vec<Change> {
        let mut expected = Vec::new();
        for op in &batch.ops {
            let one = Batch { ops: vec![op.clone()], columns: batch.columns.clone() };
            let mut changes = self.run(rows, &one);
            for (at, change) in (expected.len()..).zip(&mut changes) {
                let number = found.get(at).filter(|_| change.kind == Kind::Insert).and_then(|found| found.row.get(column));
                if let Some(number) = number {
                    change.row[column] = number.clone();
                    rows.insert(self.key(&change.row), change.row.clone());
                }
            }
            expected.extend(changes);
        }
        expected
    }
}

/// The numbers of one table, over all its buckets.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// With who has it, for people.
    given: BTreeMap<i64, String>,
}

impl Numbers {
    /// Takes note of the new rows among `changes`; `place` says where they stand.
    ///
    /// Errors: `no number`, `number given twice`.
    pub fn take(&mut self, changes: &[Change], column: usize, place: &str) -> Result<(), Anomaly> {
        for change in changes.iter().filter(|change| change.kind == Kind::Insert) {
            let number = match change.row.get(column) {
                Some(Cell::Int(number)) if *number > 0 => *number,
                _ => return Err(Anomaly::new("no number", format!("{change} at {place}, its number is column {column}"))),
            };
            let owner = format!("{change} at {place}");
            if let Some(first) = self.given.insert(number, owner.clone()) {
                return Err(Anomaly::new("number given twice", format!("{number}: {owner}, and {first}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Engine, Image, Op, Row};

    fn row(cells: [i64; 3]) -> Row {
        cells.iter().map(|cell| if *cell < 0 { Cell::Null } else { Cell::Int(*cell) }).collect()
    }

    fn change(kind: Kind, cells: [i64; 3]) -> Change {
        Change { kind, row: row(cells) }
    }

    fn table() -> Table {
        Table { key_columns: vec![0], engine: Engine::Replace, image: Image::Full, deletes: true }
    }

    #[test]
    fn rows_keep_the_number_that_they_were_given() {
        use Kind::*;
        let put = |cells| Op::Upsert(row(cells));
        let ops = vec![put([1, 5, -1]), put([2, 6, -1]), put([1, 7, -1]), Op::Delete(vec![Cell::Int(2)])];
        let batch = Batch { ops, columns: Some(vec![0, 1]) };
        let logged = [
            change(Insert, [1, 5, 40]),
            change(Insert, [2, 6, 41]),
            change(UpdateBefore, [1, 5, 40]),
            change(UpdateAfter, [1, 7, 40]),
            change(UpdateBefore, [2, 6, 41]),
            change(UpdateAfter, [2, -1, 41]),
        ];
        let mut rows = Rows::new();
        assert_eq!(table().run_numbered(&mut rows, &batch, 2, &logged), logged);
        assert_eq!(rows.values().cloned().collect::<Vec<_>>(), [row([1, 7, 40]), row([2, -1, 41])]);
        let mut renumbered = logged.clone();
        renumbered[3] = change(UpdateAfter, [1, 7, 42]);
        assert_ne!(table().run_numbered(&mut Rows::new(), &batch, 2, &renumbered), renumbered);
    }

    #[test]
    fn numbers_are_given_once() {
        let mut numbers = Numbers::default();
        let insert = |number| [change(Kind::Insert, [1, 1, number])];
        assert_eq!(numbers.take(&insert(4), 2, "b0"), Ok(()));
        assert_eq!(numbers.take(&[change(Kind::UpdateAfter, [1, 2, 4])], 2, "b0"), Ok(()), "it keeps its number");
        assert_eq!(numbers.take(&insert(3), 2, "b1"), Ok(()), "gaps and other orders are fine");
        assert_eq!(numbers.take(&insert(4), 2, "b1").unwrap_err().name, "number given twice");
        for bad in [-1, 0] {
            assert_eq!(numbers.take(&insert(bad), 2, "b0").unwrap_err().name, "no number");
        }
    }
}
