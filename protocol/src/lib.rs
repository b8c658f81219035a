//! Fluss bytes <-> values.
//!
//! Purpose: every byte that a Fluss client sends or expects, as values; and back.
//! Must not know: sockets, tokio, disks, clocks, Raft, what a server does with a request.
//! Reading order: `ids`, `error_code`, `api`, `frame`, `rpc`, `schema`, `log_batch`, `project`, `row`, `kv_batch`, `bucketing`.

pub mod api;
pub mod bucketing;
pub mod connection;
pub mod error_code;
pub mod frame;
pub mod ids;
pub mod kv_batch;
pub mod limits;
pub mod log_batch;
pub mod probe;
pub mod project;
pub mod row;
pub mod rpc;
pub mod schema;
