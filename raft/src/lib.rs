//! Replicates bytes: one Raft group per bucket, one journal per node for all of them.
//!
//! Purpose: take bytes, make them durable on a majority, hand them to a [`machine::Machine`] in the same order on every
//! replica; own the seams to disk, time and network.
//! Must not know: tables, batches, offsets, the Fluss protocol. Nothing outside sees a type of openraft.
//! Reading order: `env`, `types`, `machine`, `journal`, `transport`, `group`, `host`, `adapter`.
#![cfg_attr(madsim, allow(clippy::disallowed_methods))] // there the standard clock is the simulated one

mod adapter;
pub mod env;
pub mod group;
pub mod host;
pub mod journal;
pub mod machine;
pub mod transport;
pub mod types;
