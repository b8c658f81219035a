//! Seeds that once were red, with their stories. `run --regressions` runs them all; `make sim` and `make sim-smoke` begin with them.
//!
//! A seed means its plan: when `plan::generate` changes, these seeds become ordinary ones and the list begins anew.

/// A seed, the virtual seconds it was run for, and what it showed.
pub struct Regression {
    pub seed: u64,
    pub seconds: u64,
    pub story: &'static str,
}

const fn regression(seed: u64, seconds: u64, story: &'static str) -> Regression {
    Regression { seed, seconds, story }
}

pub const REGRESSIONS: &[Regression] = &[
    regression(1, 10, "I7: a restarted leader went on leading its term and judged writers before its own tail was applied"),
    regression(5, 20, "I5: purged above snapshot after an install, because the figures of Raft lag behind the journal"),
    regression(7, 20, "I7: a correct writer was told that its next batch is out of order"),
    regression(
        11,
        20,
        "panic: an append was refused by a journal with a failed disk, then its entries were applied from nothing",
    ),
    regression(15, 30, "I2: a leader restarted after a failed sync gave an index of its term to another entry"),
    regression(11, 60, "harness: a batch whose successors were acked is known to be taken; the client did not know"),
    regression(36, 60, "harness: a replica that failed stands between Raft's figures and its disk"),
    regression(47, 60, "I7: a deposed leader, cut off, refused a batch it had not seen the predecessors of"),
];
