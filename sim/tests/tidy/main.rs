//! Tidy: what the tree promises about itself, checked by reading it. An ordinary test; it builds nothing and writes nothing.
//!
//! Each module holds one kind of promise. A check collects every violation before it fails, so that one run shows all of them.
#![cfg(test)]
#![allow(clippy::disallowed_methods)] // reads the files of the repository

mod arrows;
mod docs;
mod probes;
mod text;
mod tree;
