//! Verbs that move rows, all through the official client.

pub mod append;
pub mod input;
pub mod scan;
