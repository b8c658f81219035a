//! A broken promise, with the name under which it is known.

use std::fmt;

/// All names, with what they say. Of a log, then of the rows of a primary-key table, then of the cluster.
pub const NAMES: &[(&str, &str)] = &[
    ("inconsistent offset", "two witnesses disagree about what an offset holds"),
    ("replica divergence", "two replicas hold other bytes, or end elsewhere"),
    ("unreadable log", "a replica cannot show its log"),
    ("garbage", "a row that does not match its checksum"),
    ("phantom", "a row that nobody wrote, or not yet, or not there"),
    ("aborted read", "a row whose write is known to have failed"),
    ("uncommitted read", "a row at or above the watermark of its own answer"),
    ("unstable read", "a row that was read and is not there at the end"),
    ("duplicate", "one row at two places"),
    ("lost write", "an acknowledged row that is not there at the end"),
    ("unseen tail", "an acknowledged row that replicas hold and the last reader does not get"),
    ("gap", "an offset of a whole log that holds nothing"),
    ("torn batch", "a batch in parts, or mixed with another"),
    ("moved ack", "a batch that is sent again is acknowledged at another place"),
    ("send skip", "a batch is there, an earlier one of its writer is not"),
    ("nonmonotonic send", "a writer's batches in another order than it sent them"),
    ("append order", "a batch stands before one that was acknowledged before it was sent"),
    ("stale watermark", "an answer that must be fresh does not know an acknowledged offset"),
    ("broken watermark", "an offset below a watermark that was shown is given away later, or never taken"),
    ("poll skip", "an answer starts after the offset that was asked for"),
    ("nonmonotonic poll", "an answer starts before it"),
    ("internal skip", "the offsets of an answer have a hole"),
    ("internal nonmonotonic", "the offsets of an answer go back"),
    ("insert of a live row", "+I, and there is such a row"),
    ("wrong before-image", "-U or -D of another row than there is"),
    ("cut pair", "-U without +U, or the other way round"),
    ("update of nothing", "-U or +U, and there is no such row"),
    ("delete of nothing", "-D, and there is no such row"),
    ("wrong change type", "a change that this changelog does not have"),
    ("wrong merge", "a put changed something else than it must"),
    ("wrong rows", "rows that are not the fold of the changelog"),
    ("wrong row count", "rows are counted wrong"),
    ("phantom read", "a lookup found what never was"),
    ("stale read", "a lookup found what had been overwritten before it was asked"),
    ("torn read", "an answer about many keys is of no single moment"),
    ("no number", "a new row without the number that the server gives"),
    ("number given twice", "two new rows of a table with one number"),
    ("reordered write", "a put stands before what was answered before it was sent"),
    ("no order", "no order of the puts of a key explains what clients saw, whatever the changelog says"),
    ("two leaders", "nodes disagree about who leads a term"),
    ("no progress", "a promise of progress was not kept"),
];

/// So many of one name are told, the others are counted.
const TOLD_MAX: u64 = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// One of [`NAMES`].
    pub name: &'static str,
    pub detail: String,
}

impl Anomaly {
    pub(crate) fn new(name: &'static str, detail: impl Into<String>) -> Self {
        debug_assert!(NAMES.iter().any(|(known, _)| *known == name), "{name} is not in the list of names");
        Self { name, detail: detail.into() }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}

/// Collects them.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub told: Vec<Anomaly>,
    pub count: u64,
}

impl Found {
    pub fn add(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.count += 1;
        let told = self.told.iter().filter(|anomaly| anomaly.name == name).count() as u64;
        if told < TOLD_MAX {
            self.told.push(Anomaly::new(name, detail()));
        }
    }
}
