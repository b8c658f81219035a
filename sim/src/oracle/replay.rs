//! A whole changelog, folded: the rows after each of its batches. Shared by the oracles of primary-key tables.

use crate::history::DumpBatch;
use floss_checker::{Anomaly, Fold, Rows, Table, Versions};
use std::collections::BTreeSet;

#[derive(Default)]
pub struct Replay {
    /// Log end and rows, from the empty start on, ascending.
    pub states: Vec<(i64, Rows)>,
    pub versions: Versions,
}

impl Replay {
    /// Errors: base offset of the first batch that is not well formed, and why.
    pub fn new(table: &Table, batches: &[DumpBatch]) -> Result<Self, (i64, Anomaly)> {
        let mut fold = Fold::new(table.clone());
        let mut replay = Self { states: vec![(0, Rows::new())], versions: Versions::default() };
        for batch in batches {
            fold.take(&batch.changes).map_err(|anomaly| (batch.base_offset, anomaly))?;
            let end = batch.base_offset + batch.records.max(1);
            let keys: BTreeSet<_> = batch.changes.iter().map(|change| table.key(&change.row)).collect();
            replay.versions.push(end, &keys, fold.rows());
            replay.states.push((end, fold.rows().clone()));
        }
        Ok(replay)
    }

    /// The rows when the log ended here; `None` if no batch ends here.
    pub fn at(&self, log_end: i64) -> Option<&Rows> {
        let at = self.states.binary_search_by_key(&log_end, |(end, _)| *end).ok()?;
        Some(&self.states[at].1)
    }
}
