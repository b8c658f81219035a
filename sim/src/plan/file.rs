//! Plans from outside: saved, edited by hand, or of another version.

use super::Plan;
use std::fs;
use std::path::Path;

impl Plan {
    /// Error: which file, what in it, what was expected there.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read(path).map_err(|error| format!("read plan {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("plan {}: {error}", path.display()))
    }

    /// Error: what in it, what was expected there.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let plan: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        plan.check()?;
        Ok(plan)
    }

    /// What could not be played. A fault that names a node or a bucket that is not there is none of it: it hits nobody.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.nodes == 0 {
            return Err("nodes: expected at least 1, found 0".to_owned());
        }
        for (at, action) in self.actions.iter().enumerate() {
            if action.at_ms >= self.heal_at_ms {
                let (heal_at_ms, at_ms) = (self.heal_at_ms, action.at_ms);
                return Err(format!("actions[{at}].at_ms: expected less than heal_at_ms={heal_at_ms}, found {at_ms}"));
            }
        }
        if let Some((at, rest_ms)) = self.rests_ms.iter().enumerate().find(|(_, rest_ms)| **rest_ms >= self.heal_at_ms) {
            let heal_at_ms = self.heal_at_ms;
            return Err(format!("rests_ms[{at}]: expected less than heal_at_ms={heal_at_ms}, found {rest_ms}"));
        }
        if self.environment.unrecoverable && !self.rests_ms.is_empty() {
            return Err(format!(
                "rests_ms: expected none where no progress is owed (unrecoverable), found {}",
                self.rests_ms.len()
            ));
        }
        if let Some(table) = self.tables().find(|table| self.bucket_count(*table) < 1) {
            return Err(format!("table {table}: expected at least one bucket, found {}", self.bucket_count(table)));
        }
        let work = &self.workload;
        let log = work.writers.iter().enumerate().map(|(at, writer)| ("writers", at, writer.table, work.tables.len()));
        let any = work.readers.iter().enumerate().map(|(at, reader)| ("readers", at, reader.table, self.tables().end));
        if let Some((list, at, table, count)) = log.chain(any).find(|(_, _, table, count)| table >= count) {
            return Err(format!("{list}[{at}].table: expected less than {count}, found {table}"));
        }
        let keyed_writers = work.keyed_writers.iter().enumerate().map(|(at, writer)| ("keyed_writers", at, writer.table));
        let lookers = work.lookers.iter().enumerate().map(|(at, looker)| ("lookers", at, looker.table));
        if let Some((list, at, table)) = keyed_writers.chain(lookers).find(|(_, _, table)| self.keyed(*table).is_none()) {
            let (first, end) = (work.tables.len(), self.tables().end);
            return Err(format!("{list}[{at}].table: expected a keyed table ({first}..{end}), found {table}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::generate;
    use super::*;

    #[test]
    fn plans_that_cannot_be_played_are_refused_with_the_place() {
        let keyed = (1..).map(|seed| generate(seed, 60)).find(|plan| !plan.workload.lookers.is_empty()).unwrap();
        let broken = |change: &dyn Fn(&mut Plan)| {
            let mut plan = keyed.clone();
            change(&mut plan);
            plan.check().err().unwrap_or_default()
        };
        assert_eq!(broken(&|_| ()), "");
        assert_eq!(broken(&|plan| plan.nodes = 0), "nodes: expected at least 1, found 0");
        let (heal, tables, all) = (keyed.heal_at_ms, keyed.workload.tables.len(), keyed.tables().end);
        let late = format!("actions[1].at_ms: expected less than heal_at_ms={heal}, found {heal}");
        assert_eq!(broken(&|plan| plan.actions[1].at_ms = heal), late);
        let late = format!("rests_ms[1]: expected less than heal_at_ms={heal}, found {heal}");
        assert_eq!(broken(&|plan| plan.rests_ms = vec![1, heal]), late);
        let lost = "rests_ms: expected none where no progress is owed (unrecoverable), found 1";
        assert_eq!(broken(&|plan| (plan.rests_ms, plan.environment.unrecoverable) = (vec![1], true)), lost);
        assert_eq!(broken(&|plan| plan.workload.tables[0] = 0), "table 0: expected at least one bucket, found 0");
        let writer = format!("writers[0].table: expected less than {tables}, found {tables}");
        assert_eq!(broken(&|plan| plan.workload.writers[0].table = tables), writer);
        let reader = format!("readers[0].table: expected less than {all}, found {all}");
        assert_eq!(broken(&|plan| plan.workload.readers[0].table = all), reader);
        let looker = format!("lookers[0].table: expected a keyed table ({tables}..{all}), found 0");
        assert_eq!(broken(&|plan| plan.workload.lookers[0].table = 0), looker);
    }

    #[test]
    fn files_are_named_in_errors() {
        let nowhere = Path::new("/nowhere/plan.json");
        assert!(Plan::read(nowhere).unwrap_err().starts_with("read plan /nowhere/plan.json: "));
    }
}
