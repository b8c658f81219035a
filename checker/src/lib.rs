//! From what clients did and what logs and replicas hold to a verdict.
//!
//! Shared by the simulator and the suite of real processes, so it must know neither harness, no server, no wire format: only a history
//! of operations with three outcomes, rows of plain cells, offsets and times. It shares no code with what it judges.
//!
//! Reading order: `history` (the events, one JSON line each), `verdict` (`check`, which asks all others), `log/` (what a log promises),
//! `table` (rows, operations, changes), `merge` (what a batch must change), `numbers` (of new rows), `changelog` (is it well formed), `order` (is every answer
//! possible at some moment between its question and itself), `keyed` (all of that for a bucket), `search` (a second opinion without any
//! log). Every name of a broken promise stands in `anomaly`.

mod anomaly;
mod attribute;
mod changelog;
mod cluster;
mod facts;
pub mod history;
mod keyed;
mod log;
mod merge;
mod numbers;
mod opinion;
mod order;
mod search;
mod table;
mod verdict;

pub use anomaly::{Anomaly, NAMES};
pub use changelog::Fold;
pub use numbers::Numbers;
pub use order::{Cut, KeyRange, Operation, Versions, What, check_order};
pub use search::{Act, Call, Opinion, search};
pub use table::{Batch, Cell, Change, Engine, Function, Image, Key, Kind, Op, Row, Rows, Table, show};
pub use verdict::{Counts, Demands, Verdict, check};
