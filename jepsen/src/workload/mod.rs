//! What clients do while nodes die. Written apart from the simulator's workload on purpose: two generators, two blind spots.

pub mod append;
pub mod upsert;
