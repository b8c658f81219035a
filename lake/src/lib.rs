//! Moves committed data into an open lake, exactly once.
//!
//! So far only the first step of a tiering round: which offsets of which bucket it takes. Reading, writing and committing do not exist yet.
//! Must not know: sockets, Raft, clocks, where offsets are kept.
//! Reading order: `plan`.

pub mod plan;
