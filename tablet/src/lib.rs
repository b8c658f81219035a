//! Gives the bytes meaning: a bucket as one deterministic machine fed with committed entries.
//!
//! Must not know: sockets, clocks, threads, Raft, disks. Time comes in as `now_ms`; what replicas must agree on travels in
//! the command.
//! Reading order: `command`, `tablet`, `prepare`, `log/`, `effects`, `read`, `snapshot`.

pub mod command;
pub mod effects;
pub mod error;
pub mod prepare;
pub mod read;
pub mod tablet;
