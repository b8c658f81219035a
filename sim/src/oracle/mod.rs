//! One file per invariant (docs/ARCHITECTURE.md, I1 to I14). Each looks at the same events and keeps what it needs.
//!
//! I14 (same seed, same trace) is judged by `parent`, which has both traces. I4, I11, I12 come with the lake. Beside the invariants:
//! `linear` (lookups and puts fit into one order), `catalog` (tables), `protocol` and `liveness`. What is judged without a harness lies in `floss-checker`.

mod catalog;
mod i01;
mod i02;
mod i03;
mod i05;
mod i06;
mod i07;
mod i08;
mod i09;
mod i10;
mod i13;
mod i14;
#[cfg(test)]
mod keyed_tests;
mod linear;
mod liveness;
mod protocol;
mod replay;
#[cfg(test)]
mod tests;

pub use catalog::ALL_LED;
pub use i13::CAUGHT_UP;
pub use i14::first_difference;

use crate::history::Event;
use std::fmt;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `I1` to `I13`, `linear`, `catalog`, `protocol`, `liveness`, `history` (all of it once more, at the end), or `panic`.
    pub oracle: &'static str,
    pub at_ns: u64,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {:.3} s: {}", self.oracle, self.at_ns as f64 / 1e9, self.what)
    }
}

/// Judges one invariant. `Err` is the first contradiction, in words.
pub trait Oracle: Send {
    fn id(&self) -> &'static str;
    fn observe(&mut self, at_ns: u64, event: &Event) -> Result<(), String>;
    /// After the last event.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// All of them.
pub struct Oracles {
    all: Vec<Box<dyn Oracle>>,
    checks: u64,
}

impl Default for Oracles {
    fn default() -> Self {
        Self {
            all: vec![
                // The most specific first: a hole is also a difference, and a lost write.
                Box::new(i03::Dense::default()),
                Box::new(i02::SameBytes::default()),
                Box::new(i05::PointerOrder::default()),
                Box::new(i07::WriterOrder::default()),
                Box::new(i01::Durable::default()),
                Box::new(i06::Watermark::default()),
                Box::new(i09::WellFormed::default()),
                Box::new(i08::SameRows::default()),
                Box::new(linear::Linear::default()),
                Box::new(i10::OneLeader::default()),
                Box::new(i13::Readable::default()),
                Box::new(catalog::Promises::default()),
                Box::new(protocol::Protocol::default()),
                Box::new(liveness::Liveness::default()),
            ],
            checks: 0,
        }
    }
}

impl Oracles {
    /// Errors: the first oracle that objects.
    pub fn observe(&mut self, at_ns: u64, event: &Event) -> Result<(), Violation> {
        for oracle in &mut self.all {
            self.checks += 1;
            let id = oracle.id();
            oracle.observe(at_ns, event).map_err(|what| Violation { oracle: id, at_ns, what })?;
        }
        Ok(())
    }

    pub fn finish(&mut self, at_ns: u64) -> Result<(), Violation> {
        for oracle in &mut self.all {
            let id = oracle.id();
            oracle.finish().map_err(|what| Violation { oracle: id, at_ns, what })?;
        }
        Ok(())
    }

    pub fn checks(&self) -> u64 {
        self.checks
    }
}
