//! One Floss node: sockets, coordinator, replicas. The only crate that knows `raft`, `tablet` and `lake`.
//!
//! Reading order: `config`, `node`, `dispatch`, `handlers/`, `replica/`, `coordinator/`, `errors`.

pub mod config;
pub mod coordinator;
pub mod identity;
pub mod node;
