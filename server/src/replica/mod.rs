//! One bucket on this node: mailbox for appends, machine for committed entries, plans and waits for readers.
//!
//! Reading order: `replica`, `mailbox`, `lead`, `apply`, `kv`, `wait`, `fetch`, `set`, `upkeep`.

pub(crate) mod apply;
pub(crate) mod error;
pub(crate) mod fetch;
pub(crate) mod kv;
pub(crate) mod lead;
pub(crate) mod mailbox;
#[allow(clippy::module_inception)]
pub(crate) mod replica;
pub(crate) mod set;
pub(crate) mod upkeep;
pub(crate) mod wait;
