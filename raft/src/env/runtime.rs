//! One runtime facade: real tokio, or madsim's under `--cfg madsim`. Same names, same source.
//!
//! `select!` must be `biased;` everywhere: unbiased branches draw from a source that a seed does not fix.
//! `sync::watch` of tokio wakes waiters in an order that a seed does not fix: use [`crate::env::watch`] or Notify.

pub use tokio::net;
pub use tokio::select;
pub use tokio::sync;
pub use tokio::task::JoinHandle;
pub use tokio::time;
pub use tokio::{io, spawn};
