//! The catalog keeps its word: a table that was created is there until it is dropped, a name has one table at a time, an id is never given
//! twice. Each name has one user (`workload::maker`), so every clear answer says what must be true; where an answer got lost, nothing is
//! judged any more. A look may find what was there a while ago, as long as something is broken; that something is not there, and a list,
//! are always said of the newest.

use super::Oracle;
use crate::history::{Event, TableOp, TableOutcome};
use std::collections::BTreeMap;

/// What the run calls the moment from which on every node knows the newest catalog.
pub const ALL_LED: &str = "every bucket is led";

#[derive(Default)]
pub struct Promises {
    names: BTreeMap<String, Name>,
    /// Who has it.
    ids: BTreeMap<i64, String>,
    /// Reads that were sent after this show the newest.
    fresh_from_ns: Option<u64>,
}

#[derive(Default)]
struct Name {
    /// None: nobody knows any more.
    is_there: Option<bool>,
    used: bool,
    creates: usize,
    ids: Vec<i64>,
}

impl Name {
    /// Whether the table is there, if that is certain.
    fn certain(&self) -> Option<bool> {
        if self.used { self.is_there } else { Some(false) }
    }

    fn set(&mut self, is_there: Option<bool>) {
        (self.used, self.is_there) = (true, is_there);
    }
}

impl Oracle for Promises {
    fn id(&self) -> &'static str {
        "catalog"
    }

    fn observe(&mut self, at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Progress { what, kept: true } if what == ALL_LED => self.fresh_from_ns = Some(at_ns),
            Event::RestEnds => self.fresh_from_ns = None,
            Event::Table { maker, name, op, sent_ns, outcome } => {
                let is_fresh = self.fresh_from_ns.is_some_and(|from| *sent_ns >= from);
                return match op {
                    TableOp::Create | TableOp::Drop => self.change(name, *op, outcome),
                    TableOp::Look => self.look(name, outcome, is_fresh),
                    TableOp::List => self.list(*maker, outcome),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// Tables of the workload are made before everything else and never dropped.
fn is_permanent(name: &str) -> bool {
    name.starts_with('t')
}

impl Promises {
    fn change(&mut self, name: &str, op: TableOp, outcome: &TableOutcome) -> Result<(), String> {
        let known = self.names.entry(name.to_owned()).or_default();
        let creates = op == TableOp::Create;
        let (must, is_there) = match (outcome, creates) {
            (TableOutcome::Done, _) => (!creates, creates),
            (TableOutcome::Exists, true) => (true, true),
            (TableOutcome::Absent, false) => (false, false),
            (TableOutcome::Unknown { .. }, _) => {
                // It may still happen, at any time.
                known.creates += usize::from(creates);
                known.set(None);
                return Ok(());
            }
            (other, _) => return Err(format!("{op:?} of table {name} was answered with {other:?}")),
        };
        if known.certain() == Some(!must) {
            let was = if must { "was not there" } else { "was there" };
            return Err(format!("{op:?} of table {name} was answered with {outcome:?}, though it {was}"));
        }
        known.creates += usize::from(creates && *outcome == TableOutcome::Done);
        if !(known.used && known.is_there.is_none()) {
            known.set(Some(is_there));
        }
        Ok(())
    }

    fn look(&mut self, name: &str, outcome: &TableOutcome, is_fresh: bool) -> Result<(), String> {
        let known = self.names.entry(name.to_owned()).or_default();
        match outcome {
            TableOutcome::Absent if is_permanent(name) => Err(format!("table {name} was never dropped, and is not found")),
            TableOutcome::Absent if known.certain() == Some(true) => Err(format!("table {name} is there, and is not found")),
            TableOutcome::Id(_) if is_fresh && known.certain() == Some(false) && !is_permanent(name) => {
                Err(format!("table {name} is not there, and was found"))
            }
            TableOutcome::Id(id) => {
                if let Some(other) = self.ids.insert(*id, name.to_owned()).filter(|other| other != name) {
                    return Err(format!("table id {id} was given to {other} and to {name}"));
                }
                if !known.ids.contains(id) {
                    known.ids.push(*id);
                }
                let lives = if is_permanent(name) { 1 } else { known.creates };
                if known.ids.len() > lives {
                    return Err(format!("table {name} was created {lives} times and has had the ids {:?}", known.ids));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Names of other makers may have changed while this was under way.
    fn list(&self, maker: u32, outcome: &TableOutcome) -> Result<(), String> {
        let TableOutcome::Names(listed) = outcome else { return Ok(()) };
        let own = format!("m{maker}_");
        for (name, known) in &self.names {
            let must = match is_permanent(name) {
                true => (!known.ids.is_empty()).then_some(true),
                false => known.certain().filter(|_| name.starts_with(&own)),
            };
            let is_listed = listed.contains(name);
            if must == Some(!is_listed) {
                let what = if is_listed { "is listed, and is not there" } else { "is there, and is not listed" };
                return Err(format!("table {name} {what}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TableOp::{Create, Drop, List, Look};
    use TableOutcome::{Absent, Done, Exists, Id};

    fn names(names: &[&str]) -> TableOutcome {
        TableOutcome::Names(names.iter().map(|name| name.to_string()).collect())
    }

    /// True if the last answer breaks a promise. Errors: an earlier one does.
    fn breaks(answers: &[(u32, &str, TableOp, TableOutcome)]) -> bool {
        let mut oracle = Promises::default();
        let judged = answers.iter().zip(0..).map(|((maker, name, op, outcome), at_ns)| {
            if *name == "calm" {
                return oracle.observe(at_ns, &Event::Progress { what: ALL_LED.into(), kept: true });
            }
            if *name == "faults" {
                return oracle.observe(at_ns, &Event::RestEnds);
            }
            let (maker, name, op, outcome) = (*maker, name.to_string(), *op, outcome.clone());
            oracle.observe(at_ns, &Event::Table { maker, name, op, sent_ns: at_ns, outcome })
        });
        let judged: Vec<_> = judged.collect();
        let (last, before) = judged.split_last().expect("there is an answer");
        assert!(before.iter().all(Result::is_ok), "{before:?}");
        last.is_err()
    }

    fn unknown() -> TableOutcome {
        TableOutcome::Unknown { why: "no answer".into() }
    }

    #[test]
    fn what_was_created_is_there_until_it_is_dropped() {
        let create = || (0, "m0_0", Create, Done);
        let drop = || (0, "m0_0", Drop, Done);
        assert!(!breaks(&[create(), drop(), create(), (0, "m0_0", Create, Exists)]));
        assert!(breaks(&[create(), create()]), "there are two of that name");
        assert!(breaks(&[(0, "m0_0", Create, Exists)]), "nobody had created it");
        assert!(breaks(&[create(), (0, "m0_0", Drop, Absent)]));
        assert!(breaks(&[create(), drop(), drop()]));
        assert!(!breaks(&[(0, "m0_0", Create, unknown()), (0, "m0_0", Create, Exists)]), "nobody knows");
        assert!(!breaks(&[(0, "m0_0", Create, unknown()), (0, "m0_0", Drop, Absent), create()]), "it may happen later");
    }

    #[test]
    fn reads_may_be_old_but_deny_nothing() {
        let create = || (0, "m0_0", Create, Done);
        let drop = || (0, "m0_0", Drop, Done);
        let look = |id| (0, "m0_0", Look, Id(id));
        assert!(breaks(&[create(), (0, "m0_0", Look, Absent)]));
        assert!(breaks(&[(0, "t0", Look, Absent)]), "made before the run, and never dropped");
        assert!(!breaks(&[create(), look(5), drop(), look(5)]));
        assert!(breaks(&[create(), drop(), (0, "calm", Look, Done), look(5)]));
        let calm_is_over = [create(), drop(), (0, "calm", Look, Done), (0, "faults", Look, Done), look(5)];
        assert!(!breaks(&calm_is_over), "somebody may be behind again");
        assert!(breaks(&[create(), look(5), look(6)]), "it was created once");
        assert!(breaks(&[create(), look(5), (0, "t0", Look, Id(5))]), "an id is for one table");
        assert!(breaks(&[create(), (0, "t0", List, names(&["t0"]))]));
        assert!(breaks(&[create(), drop(), (0, "t0", List, names(&["m0_0"]))]));
        assert!(!breaks(&[create(), (1, "t0", List, names(&["t0"]))]), "another maker's list may be from before");
        assert!(breaks(&[(0, "t0", Look, Id(1)), (0, "t1", List, names(&[]))]));
    }
}
