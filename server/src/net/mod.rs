//! The client port: accepts, reads frames, writes answers. Knows frames, not calls.

pub(crate) mod answer;
pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod write;
