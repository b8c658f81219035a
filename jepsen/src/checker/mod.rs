//! From a history to a verdict. Pure; each anomaly has a name.

mod kv;
mod log;
mod report;

pub use kv::check_kv;
pub use log::check_log;
pub use report::Report;
