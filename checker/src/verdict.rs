//! What a history is worth.

use crate::anomaly::{Anomaly, Found};
use crate::cluster::check_leaders;
use crate::facts::Facts;
use crate::history::Event;
use crate::{keyed, log};
use std::fmt;

/// Less than this proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demands {
    /// Batches acknowledged.
    pub acked: u64,
    /// Whole logs.
    pub dumps: u64,
}

impl Default for Demands {
    fn default() -> Self {
        Self { acked: 10, dumps: 1 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Batches, however often they were sent.
    pub acked: u64,
    /// Attempts.
    pub failed: u64,
    pub unknown: u64,
    pub fetches: u64,
    pub rows: u64,
    pub lookups: u64,
    /// Fetches and lookups.
    pub unanswered: u64,
    pub faults: u64,
    pub dumps: u64,
    /// Keys for which any order of their puts was searched, and those among them for which the search gave up.
    pub searched: u64,
    pub gave_up: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The first of each name.
    pub anomalies: Vec<Anomaly>,
    /// All.
    pub anomaly_count: u64,
    pub counts: Counts,
    /// Why nothing can be said, if nothing is wrong.
    pub unclear: Option<String>,
}

impl Verdict {
    /// 0, or that a promise was broken, or that nobody knows.
    pub fn exit_code(&self, violated: u8, unknown: u8) -> u8 {
        match (self.anomalies.is_empty(), &self.unclear) {
            (false, _) => violated,
            (true, Some(_)) => unknown,
            (true, None) => 0,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, failed, unknown, fetches, rows, lookups, unanswered, faults, dumps, searched, gave_up } = self;
        write!(
            f,
            "batches acknowledged {acked}, attempts failed {failed}, unknown {unknown}; fetches {fetches} ({rows} rows), "
        )?;
        write!(f, "lookups {lookups}, unanswered {unanswered}; whole logs {dumps}; faults {faults}; ")?;
        write!(f, "keys searched {searched} (gave up on {gave_up})")
    }
}

/// Judges a whole history. Near-linear in its length.
pub fn check(events: &[Event], demands: &Demands) -> Verdict {
    let mut found = Found::default();
    let mut facts = Facts::gather(events, &mut found);
    check_leaders(events, &mut found);
    let logs = log::check(&facts, &mut found);
    let searched = keyed::check(&facts, &logs, &mut found);
    (facts.counts.searched, facts.counts.gave_up) = searched;
    let (counts, unclear) = (facts.counts, facts.unclear);
    let too_little = |what: &str, found: u64, demanded: u64| {
        (found < demanded).then(|| format!("{what}: {found}, fewer than {demanded} prove nothing"))
    };
    let unclear = unclear
        .or_else(|| too_little("acknowledged batches", counts.acked, demands.acked))
        .or_else(|| too_little("whole logs at the end", counts.dumps, demands.dumps));
    Verdict { anomalies: found.told, anomaly_count: found.count, counts, unclear }
}
