//! From a history to a verdict. Pure; each anomaly has a name.

mod log;
mod report;

pub use log::check_log;
pub use report::Report;
