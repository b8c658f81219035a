//! Takes columns out of an ARROW log batch without decoding it.
//!
//! An Arrow message is a small metadata part, which says where each buffer of each column lies, and a body that holds the buffers.
//! So a projected batch is: the batch header with another length, the change types, new metadata that names the wanted
//! nodes and buffers only, and slices of the old body. Nothing is decompressed, and of the body nothing is copied.
//!
//! What a projected batch looks like (as Fluss makes it, which is what clients expect):
//! - header as it was, but `length` rewritten and the statistics removed (`statistics_length` = 0);
//! - **the CRC is left as it was and so does not match**: recomputing it would read every byte of the body, and no client checks it
//!   on a projected batch;
//! - change types, record count and offsets kept; the body compression entry kept; buffers with their padding;
//! - a header-only (empty) batch passes unchanged;
//! - a column that the batch's schema does not have yet becomes a column of nulls (Fluss fails the whole bucket there).
//!
//! Make a [`ProjectionPlan`] once per (schema of the batch, columns) and use it for every batch.
//!
//! Reading order: `layout`, `message`, `plan`, `nulls`, `body`.
//! Source: semantics.md 3.2; Arrow columnar format, "Encapsulated message format".

mod body;
mod error;
mod layout;
mod message;
mod nulls;
mod plan;

pub use error::ProjectError;
pub use layout::ArrowLayout;
pub use nulls::NULL_BYTES_MAX;
pub use plan::{Projected, ProjectionPlan};
