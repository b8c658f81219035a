//! I1: an acknowledged write is on a quorum's disk and is never lost.
//!
//! Judged at the end, when all nodes are back from their disks: every acked batch must be whole, at its offset, on every replica.

use super::Oracle;
use crate::history::{BucketNo, DumpBatch, Event, NodeNo, Outcome, Value, WriterNo};
use std::collections::BTreeMap;

/// An acked batch: where, how many records, when.
struct Acked {
    base_offset: i64,
    records: i32,
    at_ns: u64,
}

type Key = (BucketNo, WriterNo, i32);

#[derive(Default)]
pub struct Durable {
    sent: BTreeMap<Key, i32>,
    acked: BTreeMap<Key, Acked>,
    /// Acked puts: log end after each, and when.
    puts: BTreeMap<Key, (i64, u64)>,
    dumped: BTreeMap<BucketNo, u64>,
    ended: bool,
    /// Replicas may be missing at the end.
    unrecoverable: bool,
}

impl Durable {
    /// What lies below `log_start` has expired, or I13 objects.
    fn check_dump(&self, node: NodeNo, bucket: BucketNo, log_start: i64, found: &BTreeMap<i64, Value>) -> Result<(), String> {
        let range = (bucket, WriterNo::MIN, i32::MIN)..=(bucket, WriterNo::MAX, i32::MAX);
        for ((_, writer, sequence), acked) in self.acked.range(range).filter(|(_, acked)| acked.base_offset >= log_start) {
            for index in 0..acked.records {
                let expected = Value { writer: *writer, sequence: *sequence, index };
                let offset = acked.base_offset + i64::from(index);
                match found.get(&offset) {
                    Some(value) if *value == expected => {}
                    other => {
                        let found = other.map_or_else(|| "nothing".to_owned(), Value::to_string);
                        let seconds = acked.at_ns as f64 / 1e9;
                        return Err(format!(
                            "lost write: {expected} was acked at offset={offset} after {seconds:.3} s, n{node} has {found} there (b{bucket})"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_puts(&self, node: NodeNo, bucket: BucketNo, batches: &[DumpBatch]) -> Result<(), String> {
        let end = |batch: &DumpBatch| {
            let value = batch.rows.first()?.as_ref().ok()?;
            Some(((value.writer, value.sequence), batch.base_offset + batch.records.max(1)))
        };
        let found: BTreeMap<(WriterNo, i32), i64> = batches.iter().filter_map(end).collect();
        let range = (bucket, WriterNo::MIN, i32::MIN)..=(bucket, WriterNo::MAX, i32::MAX);
        for ((_, writer, sequence), (end_offset, at_ns)) in self.puts.range(range) {
            let found = found.get(&(*writer, *sequence));
            if found != Some(end_offset) {
                let seconds = *at_ns as f64 / 1e9;
                return Err(format!(
                    "lost put: w{writer} #{sequence} was acked with end={end_offset} after {seconds:.3} s, on n{node} it ends at {found:?} (b{bucket})"
                ));
            }
        }
        Ok(())
    }
}

impl Oracle for Durable {
    fn id(&self) -> &'static str {
        "I1"
    }

    fn observe(&mut self, at_ns: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::Unrecoverable => self.unrecoverable = true,
            Event::Send { writer, bucket, sequence, records, .. } => {
                self.sent.insert((*bucket, *writer, *sequence), *records);
            }
            Event::Done { writer, bucket, sequence, outcome: Outcome::Acked { base_offset }, .. } => {
                let key = (*bucket, *writer, *sequence);
                let records =
                    *self.sent.get(&key).ok_or_else(|| format!("ack of w{writer} b{bucket} #{sequence}, never sent"))?;
                self.acked.entry(key).or_insert(Acked { base_offset: *base_offset, records, at_ns });
            }
            Event::Done { writer, bucket, sequence, outcome: Outcome::Put { end_offset }, .. } => {
                self.puts.entry((*bucket, *writer, *sequence)).or_insert((*end_offset, at_ns));
            }
            Event::Dump { node, bucket, log_start, batches: Ok(batches), .. } => {
                let mut found = BTreeMap::new();
                for batch in batches {
                    let rows = batch.rows.iter().zip(batch.base_offset..);
                    found.extend(rows.filter_map(|(row, offset)| Some((offset, *row.as_ref().ok()?))));
                }
                *self.dumped.entry(*bucket).or_default() += 1;
                self.ended = true;
                self.check_dump(*node, *bucket, *log_start, &found)?;
                self.check_puts(*node, *bucket, batches)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let buckets = self.acked.keys().chain(self.puts.keys()).map(|(bucket, ..)| bucket);
        match buckets
            .filter(|_| self.ended && !self.unrecoverable)
            .find(|bucket| self.dumped.get(bucket).is_none_or(|dumps| *dumps < 2))
        {
            Some(bucket) => Err(format!("b{bucket} has acked writes, at the end fewer than 2 replicas could be read")),
            None => Ok(()),
        }
    }
}
