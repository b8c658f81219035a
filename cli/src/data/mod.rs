//! Verbs that move rows, all through the official client.

pub mod append;
pub mod count;
pub mod input;
pub mod lookup;
mod patience;
pub mod scan;
pub mod upsert;
