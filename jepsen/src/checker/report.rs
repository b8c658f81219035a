//! What a check found.

use std::fmt;

const SHOWN: usize = 20;

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// `lost write`, `duplicate`, `reordered`, `inconsistent offset`, `gap`, `phantom`.
    pub name: &'static str,
    pub detail: String,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub anomalies: Vec<Anomaly>,
    pub acked: usize,
    pub unknown: usize,
    pub read: usize,
    pub faults: usize,
    /// Sorted; per fault that left a quorum, the longest time a writer went without an acknowledgement, in microseconds.
    pub recovery_us: Vec<u64>,
    /// Why nothing can be said.
    pub unclear: Option<String>,
}

impl Report {
    pub fn exit_code(&self, violated: u8, unknown: u8) -> u8 {
        match (self.anomalies.is_empty(), &self.unclear) {
            (false, _) => violated,
            (true, Some(_)) => unknown,
            (true, None) => 0,
        }
    }

    fn recovery_ms(&self, share: f64) -> u64 {
        let index = ((self.recovery_us.len() as f64 * share) as usize).min(self.recovery_us.len().saturating_sub(1));
        self.recovery_us.get(index).copied().unwrap_or(0) / 1000
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "rows acknowledged {}, outcome unknown {}, read back {}; faults {}",
            self.acked, self.unknown, self.read, self.faults
        )?;
        writeln!(
            f,
            "longest wait of a writer around a kill that left a quorum: {} kills, p50 {} ms, p99 {} ms, worst {} ms",
            self.recovery_us.len(),
            self.recovery_ms(0.5),
            self.recovery_ms(0.99),
            self.recovery_ms(1.0)
        )?;
        for anomaly in self.anomalies.iter().take(SHOWN) {
            writeln!(f, "VIOLATED {}: {}", anomaly.name, anomaly.detail)?;
        }
        match (&self.unclear, self.anomalies.len()) {
            (_, 1..) => write!(f, "verdict: {} anomalies", self.anomalies.len()),
            (Some(reason), 0) => write!(f, "verdict: unknown, {reason}"),
            (None, 0) => write!(f, "verdict: nothing lost, doubled or reordered"),
        }
    }
}
