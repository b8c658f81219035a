//! Is a changelog well formed, and to what rows does it fold (I9, I8)?

use crate::anomaly::Anomaly;
use crate::table::{Change, Engine, Image, Kind, Row, Rows, Table, show};

/// The rows up to some point of a changelog, batch by batch.
#[derive(Clone, Debug)]
pub struct Fold {
    table: Table,
    rows: Rows,
}

impl Fold {
    pub fn new(table: Table) -> Self {
        Self { table, rows: Rows::new() }
    }

    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Folds one batch of a changelog. After an error the rows are those up to the bad change.
    ///
    /// Errors: the first change that contradicts the rows before it, or a pair that is cut.
    pub fn take(&mut self, changes: &[Change]) -> Result<(), Anomaly> {
        let mut before: Option<&Row> = None;
        for change in changes {
            let key = self.table.key(&change.row);
            let old = self.rows.get(&key);
            let paired = before.take();
            if let Some(row) = paired.filter(|_| change.kind != Kind::UpdateAfter) {
                return Err(Anomaly::new("cut pair", format!("-U{} is followed by {change}", show(row))));
            }
            match change.kind {
                Kind::Insert => check_insert(change, old)?,
                Kind::UpdateBefore if self.table.image == Image::Wal => {
                    return Err(Anomaly::new("wrong change type", format!("{change} in a changelog without before-images")));
                }
                Kind::UpdateBefore => {
                    check_image(change, old, "update of nothing")?;
                    before = Some(&change.row);
                    continue;
                }
                Kind::UpdateAfter => self.check_after(change, paired, old)?,
                Kind::Delete => {
                    check_image(change, old, "delete of nothing")?;
                    self.rows.remove(&key);
                    continue;
                }
                Kind::Append => return Err(Anomaly::new("wrong change type", format!("{change} in a changelog"))),
            }
            self.rows.insert(key, change.row.clone());
        }
        match before {
            Some(row) => Err(Anomaly::new("cut pair", format!("a batch ends with -U{}", show(row)))),
            None => Ok(()),
        }
    }

    fn check_after(&self, change: &Change, paired: Option<&Row>, old: Option<&Row>) -> Result<(), Anomaly> {
        match (self.table.image, paired) {
            (Image::Full, None) => Err(Anomaly::new("cut pair", format!("{change} without its -U"))),
            (Image::Full, Some(before)) if self.table.key(before) != self.table.key(&change.row) => {
                Err(Anomaly::new("cut pair", format!("-U{} is followed by {change}", show(before))))
            }
            // Whole rows are written without a look at what was there.
            (Image::Wal, _) if old.is_none() && self.table.engine != Engine::Replace => {
                Err(Anomaly::new("update of nothing", format!("{change}, there is no such row")))
            }
            _ => Ok(()),
        }
    }
}

fn check_insert(change: &Change, old: Option<&Row>) -> Result<(), Anomaly> {
    match old {
        Some(old) => Err(Anomaly::new("insert of a live row", format!("{change}, there is {}", show(old)))),
        None => Ok(()),
    }
}

fn check_image(change: &Change, old: Option<&Row>, nothing: &'static str) -> Result<(), Anomaly> {
    match old {
        None => Err(Anomaly::new(nothing, format!("{change}, there is no such row"))),
        Some(old) if *old != change.row => Err(Anomaly::new("wrong before-image", format!("{change}, the row is {}", show(old)))),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Cell;

    fn change(kind: Kind, key: i64, value: i64) -> Change {
        Change { kind, row: vec![Cell::Int(key), Cell::Int(value)] }
    }

    fn table(image: Image) -> Table {
        Table { key_columns: vec![0], engine: Engine::Replace, image, deletes: true }
    }

    /// The name of what is wrong with these batches.
    fn verdict(image: Image, batches: &[&[Change]]) -> Option<&'static str> {
        let mut fold = Fold::new(table(image));
        batches.iter().find_map(|batch| fold.take(batch).err()).map(|anomaly| anomaly.name)
    }

    #[test]
    fn good_changelogs_fold() {
        use Kind::*;
        let mut fold = Fold::new(table(Image::Full));
        fold.take(&[change(Insert, 1, 1), change(UpdateBefore, 1, 1), change(UpdateAfter, 1, 2), change(Insert, 2, 9)]).unwrap();
        fold.take(&[]).unwrap();
        fold.take(&[change(Delete, 2, 9), change(Insert, 2, 7)]).unwrap();
        let rows: Vec<Row> = fold.rows().values().cloned().collect();
        assert_eq!(rows, [vec![Cell::Int(1), Cell::Int(2)], vec![Cell::Int(2), Cell::Int(7)]]);
        let blind = [change(UpdateAfter, 1, 1), change(UpdateAfter, 1, 2), change(Delete, 1, 2)];
        assert_eq!(verdict(Image::Wal, &[&blind]), None);
    }

    #[test]
    fn each_fault_has_its_name() {
        use Kind::*;
        let first = [change(Insert, 1, 1)];
        let full = |batch: &[Change]| verdict(Image::Full, &[&first, batch]);
        assert_eq!(full(&[change(Insert, 1, 2)]), Some("insert of a live row"));
        assert_eq!(full(&[change(UpdateBefore, 1, 3), change(UpdateAfter, 1, 2)]), Some("wrong before-image"));
        assert_eq!(full(&[change(Delete, 1, 3)]), Some("wrong before-image"));
        assert_eq!(full(&[change(Delete, 2, 1)]), Some("delete of nothing"));
        assert_eq!(full(&[change(UpdateBefore, 2, 1), change(UpdateAfter, 2, 2)]), Some("update of nothing"));
        assert_eq!(full(&[change(UpdateAfter, 1, 2)]), Some("cut pair"));
        assert_eq!(full(&[change(UpdateBefore, 1, 1)]), Some("cut pair"));
        assert_eq!(full(&[change(UpdateBefore, 1, 1), change(Insert, 2, 2)]), Some("cut pair"));
        assert_eq!(full(&[change(UpdateBefore, 1, 1), change(UpdateAfter, 2, 2)]), Some("cut pair"));
        assert_eq!(full(&[change(Append, 2, 2)]), Some("wrong change type"));
        assert_eq!(verdict(Image::Wal, &[&first, &[change(UpdateBefore, 1, 1)]]), Some("wrong change type"));
        let mut first_row = Fold::new(Table { engine: Engine::FirstRow, ..table(Image::Wal) });
        assert_eq!(first_row.take(&[change(UpdateAfter, 1, 1)]).unwrap_err().name, "update of nothing");
    }
}
