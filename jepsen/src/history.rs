//! What clients did and saw, one JSON line per event; the harness clock is the only clock in it.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// One written row, self-describing: who wrote it, which one of theirs it is, and a checksum over both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Value {
    pub writer: i32,
    pub sequence: i64,
}

impl Value {
    /// Splitmix64 over both numbers: a torn or mixed row does not carry it.
    pub fn checksum(self) -> i64 {
        let mut z = (self.sequence as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (self.writer as u64) << 32;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as i64
    }
}

/// Stands in [`Value::writer`] for whoever loaded the table.
pub const PRELOADER: i32 = -1;
/// A row whose checksum is wrong: equal to nothing that was ever written.
pub const DAMAGED: Value = Value { writer: i32::MIN, sequence: 0 };

/// Of one record of a changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Insert,
    UpdateBefore,
    UpdateAfter,
    Delete,
}

impl From<Kind> for floss_checker::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Insert => Self::Insert,
            Kind::UpdateBefore => Self::UpdateBefore,
            Kind::UpdateAfter => Self::UpdateAfter,
            Kind::Delete => Self::Delete,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A writer handed a row to the client.
    Invoke { at_us: u64, value: Value },
    /// The cluster acknowledged it.
    Ok { at_us: u64, value: Value },
    /// The client gave up: it may or may not be in the log.
    Unknown { at_us: u64, value: Value, error: String },
    /// A reader saw a row. `value` is None if its checksum is wrong.
    Read { at_us: u64, reader: String, bucket: i32, offset: i64, value: Option<Value> },
    /// The last read of a bucket after all faults: everything up to `end` was read.
    FinalRead { at_us: u64, bucket: i32, end: i64 },
    /// Keys 0..rows were written, each once and acknowledged, before the first fault; the row of a key is its number.
    Preload { rows: i64 },
    /// A writer handed the client an upsert of `value` under `key`, or a delete of `key`. `Ok` or `Unknown` follows.
    Put { at_us: u64, value: Value, key: i64, delete: bool },
    /// The final read of a changelog saw this.
    Change { bucket: i32, offset: i64, kind: Kind, key: i64, row: Value },
    /// The final scan of the table saw this row.
    Row { key: i64, row: Value },
    /// The stores of two nodes, at rest, are not the same.
    Differs { what: String },
    /// A fault, with the nodes it hit. `quorum_left`: writers are expected to go on without help.
    Fault { at_us: u64, what: String, nodes: Vec<u64>, quorum_left: bool },
}

/// Collects events from all tasks; clones share it.
#[derive(Clone)]
pub struct History {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
}

impl History {
    pub fn new() -> Self {
        Self { began: Instant::now(), events: Arc::default() }
    }

    pub fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub fn record(&self, event: Event) {
        self.events.lock().expect("no panic happens while events are held").push(event);
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no panic happens while events are held").clone()
    }

    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
        let mut file = BufWriter::new(file);
        for event in self.events() {
            serde_json::to_writer(&mut file, &event)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }
}

pub fn load(path: &Path) -> anyhow::Result<Vec<Event>> {
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut events = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let event = serde_json::from_str(&line?).with_context(|| format!("{} line {}", path.display(), number + 1))?;
        events.push(event);
    }
    Ok(events)
}
