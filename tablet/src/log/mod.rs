//! The parts of a log tablet's state, each on its own.

pub mod offset_index;
pub mod retention;
pub mod writer_state;
