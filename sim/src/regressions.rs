//! Seeds that once were red, with their stories. `run --regressions` runs them all.

/// A seed, the virtual seconds it was run for, and what it showed.
pub struct Regression {
    pub seed: u64,
    pub seconds: u64,
    pub story: &'static str,
}

pub const REGRESSIONS: &[Regression] = &[];
