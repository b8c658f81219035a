//! The catalog (Raft group 0) and what follows from it: who holds which bucket, who leads, who may join.
//!
//! Reading order: `command`, `state`, `placement`, `validate`, `machine`, `catalog`, `leaders`, `reconcile`, `admission`, `membership`, `run`.

pub mod admission;
pub mod catalog;
pub mod command;
pub mod gossip;
pub mod leaders;
pub mod machine;
pub mod membership;
pub mod peer;
pub mod placement;
pub mod reconcile;
pub mod reject;
pub mod run;
pub mod sessions;
pub mod state;
pub mod table;
pub mod validate;
