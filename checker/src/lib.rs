//! Judges histories of primary-key tables: what clients asked for, what they were told, what the changelog holds.
//!
//! Shared by the simulator and the suite of real processes, so it must know neither harness, no server, no wire format: only rows of
//! plain cells, offsets and times. It shares no code with what it judges.
//!
//! Reading order: `table` (rows, operations, changes), `merge` (what a batch must change), `changelog` (is it well formed), `order`
//! (is every answer possible at some moment between its question and itself).

mod anomaly;
mod changelog;
mod merge;
mod order;
mod table;

pub use anomaly::Anomaly;
pub use changelog::Fold;
pub use order::{Operation, Versions, What, check_order};
pub use table::{Batch, Cell, Change, Engine, Function, Image, Key, Kind, Op, Row, Rows, Table, show};
