//! One Floss node: sockets, coordinator, replicas. The only crate that knows `raft`, `tablet` and `lake`.
//!
//! Reading order: `config`, `node`, `forming`, `net/`, `dispatch`, `handlers/`, `replica/`, `coordinator/`, `reconcile`, `members`,
//! `errors`, `limits`.
#![cfg_attr(madsim, allow(clippy::disallowed_methods))] // there the standard clock is the simulated one

mod admin;
pub mod config;
pub mod coordinator;
mod dispatch;
mod errors;
mod forming;
mod handlers;
pub mod identity;
mod limits;
mod members;
mod net;
pub mod node;
mod observer;
#[cfg(not(madsim))]
pub mod os;
mod ports;
mod reconcile;
mod replica;
mod scanners;
mod shared;
mod stop;
