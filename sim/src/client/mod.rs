//! Clients of our own: written from the protocol, not from the server, and as impatient as real ones.

mod connection;
mod session;

pub use connection::{CallError, Connection, Waiting};
pub use session::{Bucket, Session};
