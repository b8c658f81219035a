//! What a batch must change: merge rules written down a second time, as a plain function over rows.

use crate::table::{Batch, Cell, Change, Engine, Function, Image, Key, Kind, Op, Row, Rows, Table};

impl Table {
    /// The changes that `batch` makes to `rows`, which it also brings up to date.
    pub fn run(&self, rows: &mut Rows, batch: &Batch) -> Vec<Change> {
        let mut changes = Vec::new();
        for op in &batch.ops {
            match op {
                Op::Upsert(row) => self.upsert(rows, row, batch.columns.as_deref(), &mut changes),
                Op::Delete(key) => self.delete(rows, key, batch.columns.as_deref(), &mut changes),
            }
        }
        changes
    }

    fn upsert(&self, rows: &mut Rows, new: &Row, columns: Option<&[usize]>, changes: &mut Vec<Change>) {
        let key = self.key(new);
        let is_blind = self.image == Image::Wal && self.engine == Engine::Replace && columns.is_none();
        let Some(old) = rows.get(&key) else {
            let row: Row =
                new.iter().enumerate().map(|(at, cell)| if speaks_of(columns, at) { cell.clone() } else { Cell::Null }).collect();
            let kind = if is_blind { Kind::UpdateAfter } else { Kind::Insert };
            changes.push(Change { kind, row: row.clone() });
            rows.insert(key, row);
            return;
        };
        let old = old.clone();
        if let Some(row) = self.merged(&old, new, columns) {
            self.update(rows, key, old, row, changes);
        }
    }

    /// `None`: the old row stays and nobody hears of it.
    fn merged(&self, old: &Row, new: &Row, columns: Option<&[usize]>) -> Option<Row> {
        let only_key = columns.is_some_and(|columns| columns.iter().all(|column| self.key_columns.contains(column)));
        match &self.engine {
            Engine::FirstRow => None,
            Engine::Versioned(column) => (new[*column] >= old[*column]).then(|| new.clone()),
            _ if only_key => None,
            Engine::Replace => {
                let pick = |(at, (old, new)): (usize, (&Cell, &Cell))| if speaks_of(columns, at) { new } else { old }.clone();
                Some(old.iter().zip(new).enumerate().map(pick).collect())
            }
            Engine::Aggregation(functions) => {
                let merge = |at: usize| match (self.key_columns.contains(&at), speaks_of(columns, at)) {
                    (true, _) => new[at].clone(),
                    (false, true) => functions[at].merge(&old[at], &new[at]),
                    (false, false) => old[at].clone(),
                };
                Some((0..old.len()).map(merge).collect())
            }
        }
    }

    fn delete(&self, rows: &mut Rows, key: &Key, columns: Option<&[usize]>, changes: &mut Vec<Change>) {
        let Some(old) = rows.get(key).filter(|_| self.deletes).cloned() else { return };
        let is_kept = |at: usize| !self.key_columns.contains(&at) && !speaks_of(columns, at) && old[at] != Cell::Null;
        if !(0..old.len()).any(is_kept) {
            rows.remove(key);
            changes.push(Change { kind: Kind::Delete, row: old });
            return;
        }
        let clear = |at: usize| !self.key_columns.contains(&at) && speaks_of(columns, at);
        let row = (0..old.len()).map(|at| if clear(at) { Cell::Null } else { old[at].clone() }).collect();
        self.update(rows, key.clone(), old, row, changes);
    }

    fn update(&self, rows: &mut Rows, key: Key, old: Row, row: Row, changes: &mut Vec<Change>) {
        if self.image == Image::Full {
            changes.push(Change { kind: Kind::UpdateBefore, row: old });
        }
        changes.push(Change { kind: Kind::UpdateAfter, row: row.clone() });
        rows.insert(key, row);
    }
}

fn speaks_of(columns: Option<&[usize]>, column: usize) -> bool {
    columns.is_none_or(|columns| columns.contains(&column))
}

impl Function {
    fn merge(self, old: &Cell, new: &Cell) -> Cell {
        match (self, old, new) {
            (Self::Last, _, new) => new.clone(),
            (Self::LastNonNull, old, Cell::Null) => old.clone(),
            (Self::LastNonNull, _, new) => new.clone(),
            (Self::FirstNonNull, Cell::Null, new) => new.clone(),
            (Self::FirstNonNull, old, _) => old.clone(),
            (Self::Max | Self::Sum, Cell::Null, cell) | (Self::Max | Self::Sum, cell, Cell::Null) => cell.clone(),
            (Self::Max, old, new) => old.max(new).clone(),
            (Self::Sum, Cell::Int(old), Cell::Int(new)) => Cell::Int(old.wrapping_add(*new)),
            (Self::Sum, old, _) => old.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [i64; 3]) -> Row {
        cells.iter().map(|cell| if *cell < 0 { Cell::Null } else { Cell::Int(*cell) }).collect()
    }

    fn table(engine: Engine, image: Image) -> Table {
        let deletes = engine == Engine::Replace;
        Table { key_columns: vec![0], engine, image, deletes }
    }

    /// Changes of `ops`, one batch each, as text.
    fn said(table: &Table, batches: &[(Op, Option<Vec<usize>>)]) -> Vec<String> {
        let mut rows = Rows::new();
        let batch = |(op, columns): &(Op, Option<Vec<usize>>)| Batch { ops: vec![op.clone()], columns: columns.clone() };
        let changes = batches.iter().flat_map(|one| table.run(&mut rows, &batch(one)));
        changes.map(|change| change.to_string()).collect()
    }

    #[test]
    fn rows_are_replaced_reduced_and_deleted() {
        let put = |cells| (Op::Upsert(row(cells)), None);
        let part = |cells, columns: &[usize]| (Op::Upsert(row(cells)), Some(columns.to_vec()));
        let delete = |columns: Option<&[usize]>| (Op::Delete(vec![Cell::Int(1)]), columns.map(<[usize]>::to_vec));
        let replace = table(Engine::Replace, Image::Full);
        let all = [delete(None), put([1, 2, 3]), put([1, 2, 3]), part([1, 5, -1], &[0, 1]), part([1, -1, -1], &[0])];
        assert_eq!(said(&replace, &all), ["+I(1, 2, 3)", "-U(1, 2, 3)", "+U(1, 2, 3)", "-U(1, 2, 3)", "+U(1, 5, 3)"]);
        let reduce = [part([1, 5, 9], &[0, 1]), part([1, 0, 3], &[0, 2]), delete(Some(&[0, 1])), delete(Some(&[0, 2]))];
        let expected = ["+I(1, 5, -)", "-U(1, 5, -)", "+U(1, 5, 3)", "-U(1, 5, 3)", "+U(1, -, 3)", "-D(1, -, 3)"];
        assert_eq!(said(&replace, &reduce), expected);
        let wal = table(Engine::Replace, Image::Wal);
        let all = [put([1, 2, 3]), part([1, 5, -1], &[0, 1]), delete(None), part([1, 5, 7], &[0, 1])];
        assert_eq!(said(&wal, &all), ["+U(1, 2, 3)", "+U(1, 5, 3)", "-D(1, 5, 3)", "+I(1, 5, -)"]);
    }

    #[test]
    fn engines_merge() {
        let puts = |rows: &[[i64; 3]]| rows.iter().map(|cells| (Op::Upsert(row(*cells)), None)).collect::<Vec<_>>();
        let all = puts(&[[1, 5, 1], [1, 4, 2], [1, 5, 3], [1, -1, 4]]);
        assert_eq!(said(&table(Engine::FirstRow, Image::Full), &all), ["+I(1, 5, 1)"]);
        let versioned = table(Engine::Versioned(1), Image::Full);
        assert_eq!(
            said(&versioned, &all),
            ["+I(1, 5, 1)", "-U(1, 5, 1)", "+U(1, 5, 3)"],
            "an equal one wins, a null one is smallest"
        );
        let functions = vec![Function::Last, Function::Max, Function::Sum];
        let sums = table(Engine::Aggregation(functions), Image::Wal);
        assert_eq!(said(&sums, &all), ["+I(1, 5, 1)", "+U(1, 5, 3)", "+U(1, 5, 6)", "+U(1, 5, 10)"]);
        let mut ignored = all.clone();
        ignored.push((Op::Delete(vec![Cell::Int(1)]), None));
        assert_eq!(said(&sums, &ignored).len(), 4, "deletes are ignored");
    }
}
