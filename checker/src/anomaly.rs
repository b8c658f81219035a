//! A broken promise, with the name under which it is known.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// `insert of a live row`, `wrong before-image`, `cut pair`, `update of nothing`, `delete of nothing`, `wrong change type`,
    /// `wrong merge`, `phantom read`, `stale read`, `reordered write`.
    pub name: &'static str,
    pub detail: String,
}

impl Anomaly {
    pub(crate) fn new(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, detail: detail.into() }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}
