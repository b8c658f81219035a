//! Fluss bytes <-> values.
//!
//! Purpose: every byte that a Fluss client sends or expects, as values; and back.
//! Must not know: sockets, tokio, disks, clocks, Raft, what a server does with a request.
//! Reading order: `ids`, `error_code`, `api`, `frame`, `rpc`, `schema`, `log_batch`, `project`.

pub mod api;
pub mod error_code;
pub mod ids;
pub mod log_batch;
pub mod probe;
pub mod project;
pub mod rpc;
pub mod schema;
