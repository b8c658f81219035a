//! Primary-key tables: what a batch of upserts and deletes changes, and what every replica keeps of it.
//!
//! The leader decides (`decide`, with `merge` and `pending`) and makes one changelog batch (`changelog`, `arrow`); only that is
//! replicated. Every replica folds it into its store (`fold`, `store`), so the stored rows are the fold of the changelog (I8).
//!
//! Reading order: `table`, `row`, `store`, `mem`, `rocks`, `merge`, `aggregate`, `decide`, `arrow`, `changelog`, `pending`, `prepare`, `scan`, `fold`.

mod aggregate;
mod arrow;
mod changelog;
mod decide;
pub mod fold;
pub mod mem;
mod merge;
pub(crate) mod pending;
pub mod prepare;
#[cfg(feature = "rocks")]
pub mod rocks;
mod row;
pub mod scan;
pub mod store;
pub mod table;

pub use changelog::{Change, read_changes};
pub use decide::PutMode;
