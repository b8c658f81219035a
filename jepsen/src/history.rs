//! Records what clients did and saw in the format of `floss-checker`; the harness clock is the only clock in it.

use anyhow::Context;
use floss_checker::history::{Answer, Event, Outcome, Request, Stamp, read, write};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// Readers and whoever loads a table are processes beside the writers, whose number is their process.
pub const READERS_FROM: u64 = 100;
pub const PRELOADER: u64 = 1000;

/// One written row, self-describing: who wrote it, which one of theirs it is, and a checksum over both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Whose row this is, if the checksum that was found with it is right.
    pub fn stamp(self, checksum: i64) -> Stamp {
        let (writer, sequence) = (self.writer as u64, self.sequence);
        match self.checksum() == checksum {
            true => Stamp::By(floss_checker::history::Value { writer, sequence, index: 0 }),
            false => Stamp::Garbage(format!("writer={} sequence={sequence} checksum={checksum:x}", self.writer)),
        }
    }
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

    /// Nanoseconds.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn held(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().expect("no panic happens while events are held")
    }

    pub fn record(&self, event: Event) {
        self.held().push(event);
    }

    /// The operation's number, for [`Self::answer`]. Must come before the request is sent.
    pub fn ask(&self, process: u64, bucket: Option<u32>, request: Request) -> u64 {
        let mut events = self.held();
        let (at, op) = (self.now(), events.len() as u64);
        events.push(Event::Invoke { at, op, process, bucket, request });
        op
    }

    /// Must come after the answer has arrived.
    pub fn answer(&self, op: u64, outcome: Outcome) {
        self.record(Event::Return { at: self.now(), op, outcome });
    }

    /// Asked at that time, answered now.
    pub fn was_told(&self, process: u64, bucket: u32, asked: u64, request: Request, answer: Answer) {
        let mut events = self.held();
        let op = events.len() as u64;
        events.push(Event::Invoke { at: asked, op, process, bucket: Some(bucket), request });
        events.push(Event::Return { at: self.now(), op, outcome: Outcome::Ok(answer) });
    }

    pub fn with<T>(&self, look: impl FnOnce(&[Event]) -> T) -> T {
        look(&self.held())
    }

    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(write(&self.held(), BufWriter::new(file))?)
    }
}

pub fn load(path: &Path) -> anyhow::Result<Vec<Event>> {
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    read(BufReader::new(file)).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_row_is_nobodys() {
        let value = Value { writer: 3, sequence: 41 };
        assert_eq!(value.stamp(value.checksum()).to_string(), "w3#41.0");
        assert!(matches!(value.stamp(value.checksum() + 1), Stamp::Garbage(_)));
    }
}
