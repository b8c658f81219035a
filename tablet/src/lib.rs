//! Gives the bytes meaning: a bucket as one deterministic machine fed with committed entries.
//!
//! Must not know: sockets, clocks, threads, Raft, disks. Time comes in as `now_ms`; what replicas must agree on travels in
//! the command.
//! Reading order: `command`, `tablet`, `prepare`, `in_flight`, `log/`, `kv/`, `effects`, `read`, `snapshot`.

pub mod command;
pub mod effects;
pub mod error;
mod in_flight;
pub mod kv;
pub mod log;
pub mod prepare;
pub mod read;
mod snapshot;
pub mod tablet;
