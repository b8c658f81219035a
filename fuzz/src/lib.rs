//! Hostile bytes: one function per decoder, given any input at all.
//!
//! A check panics when a property is broken; that a decoder refuses is no failure. The properties are stronger than "does not
//! panic": see each function. The same functions run under a coverage-guided fuzzer (thin targets), over the corpus on
//! stable (`tests/replay.rs`), and under inputs that were built well and then damaged (`tests/structured.rs`).
//!
//! Must not know: how inputs are found.
//! Reading order: `frame`, `protocol`, `batch`, `projection`, `tablet`, `journal`.

pub mod batch;
pub mod frame;
pub mod journal;
pub mod projection;
pub mod protocol;
pub mod script;
pub mod tablet;

/// A check: any bytes in, a panic if a property does not hold.
pub type Check = fn(&[u8]);

/// Every check, by the name of its directory in `corpus/`.
pub const TARGETS: &[(&str, Check)] = &[
    ("frame", frame::check_frame_decoder),
    ("request", protocol::check_request_decoder),
    ("response", protocol::check_response_decoder),
    ("descriptor", protocol::check_descriptors),
    ("log_batch", batch::check_log_batch),
    ("projection", projection::check_projection),
    ("command", tablet::check_command),
    ("tablet_snapshot", tablet::check_snapshot),
    ("append", tablet::check_append),
    ("journal_recovery", journal::check_journal_recovery),
    ("journal_file", journal::check_journal_file),
];
