//! Verbs that look at and change the cluster, all through the official client.

pub mod bucket;
pub mod cluster;
mod columns;
pub mod database;
pub mod node;
pub mod table;
