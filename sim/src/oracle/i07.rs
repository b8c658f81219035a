//! I7: per writer and bucket, each sequence takes effect once and in order; a retry gets the first offset; and no correct writer is
//! told that it is out of order.

use super::Oracle;
use crate::history::{BucketNo, DumpBatch, Event, NodeNo, Outcome, Value, WriterNo};
use std::collections::{BTreeMap, BTreeSet};

type Key = (BucketNo, WriterNo, i32);

#[derive(Default)]
pub struct WriterOrder {
    /// Base offsets; of puts, where the log ended.
    acks: BTreeMap<(BucketNo, WriterNo, i32), i64>,
    /// Where a value was seen.
    places: BTreeMap<(BucketNo, Value), i64>,
    /// Batches that were sent once so far, and where to.
    sent_once: BTreeMap<Key, NodeNo>,
    /// Sent once, to the node that had got the one before just once: so it came after that one.
    followers: BTreeSet<Key>,
    /// Acked on their only send.
    acked_once: BTreeSet<Key>,
    /// Of the followers, those that were refused as out of order.
    refused: BTreeSet<Key>,
}

impl WriterOrder {
    fn place(&mut self, bucket: BucketNo, value: Value, offset: i64) -> Result<(), String> {
        match *self.places.entry((bucket, value)).or_insert(offset) {
            known if known == offset => Ok(()),
            known => Err(format!("duplicate: {value} is at offset={known} and at offset={offset} of b{bucket}")),
        }
    }

    /// A batch that follows another one to the same leader must be taken while that one is still under way. It was, if its only send was
    /// acked: by then it was decided, and what comes behind it on the connection is decided after it.
    fn observe_pipeline(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Send { writer, bucket, sequence, node, first, .. } => {
                let (key, before) = ((*bucket, *writer, *sequence), (*bucket, *writer, sequence - 1));
                if !first {
                    self.sent_once.remove(&key);
                    self.followers.remove(&key);
                    return Ok(());
                }
                if self.sent_once.get(&before) == Some(node) {
                    self.followers.insert(key);
                }
                self.sent_once.insert(key, *node);
            }
            Event::Done { writer, bucket, sequence, node, outcome } => {
                let (key, after) = ((*bucket, *writer, *sequence), (*bucket, *writer, sequence + 1));
                match outcome {
                    Outcome::OutOfOrder { .. } if self.followers.remove(&key) => _ = self.refused.insert(key),
                    Outcome::Acked { .. } | Outcome::Put { .. } if self.sent_once.contains_key(&key) => {
                        _ = self.acked_once.insert(key);
                    }
                    _ => _ = self.sent_once.remove(&key),
                }
                let before = (*bucket, *writer, sequence - 1);
                for (taken, refused) in [(before, key), (key, after)] {
                    if self.acked_once.contains(&taken) && self.refused.contains(&refused) {
                        return Err(format!(
                            "n{node} refused w{writer} #{} of b{bucket} as out of order, although #{} was under way there",
                            refused.2, taken.2
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_log(bucket: BucketNo, batches: &[DumpBatch]) -> Result<(), String> {
        let mut next: BTreeMap<WriterNo, i32> = BTreeMap::new();
        for batch in batches {
            let values: Vec<Value> = batch.rows.iter().filter_map(|row| row.as_ref().ok().copied()).collect();
            let Some(first) = values.first() else { continue };
            let at = batch.base_offset;
            let whole = values.iter().zip(0..).all(|(value, index)| *value == Value { index, ..*first });
            if !whole || values.len() != batch.rows.len() {
                return Err(format!("the batch at offset={at} of b{bucket}, {first}, is torn or mixed"));
            }
            let expected = next.entry(first.writer).or_insert(0);
            if first.sequence != *expected {
                let (writer, sequence) = (first.writer, first.sequence);
                return Err(format!("w{writer} has #{sequence} at offset={at} of b{bucket}, expected #{expected}"));
            }
            *expected += 1;
        }
        Ok(())
    }
}

impl Oracle for WriterOrder {
    fn id(&self) -> &'static str {
        "I7"
    }

    fn observe(&mut self, _at_ns: u64, event: &Event) -> Result<(), String> {
        self.observe_pipeline(event)?;
        match event {
            Event::Done { writer, bucket, sequence, node, outcome } => match outcome {
                Outcome::Acked { base_offset } | Outcome::Put { end_offset: base_offset } => {
                    let first = *self.acks.entry((*bucket, *writer, *sequence)).or_insert(*base_offset);
                    if first != *base_offset {
                        return Err(format!(
                            "w{writer} #{sequence} of b{bucket} was acked at offset={first}, then by n{node} at offset={base_offset}"
                        ));
                    }
                }
                Outcome::OutOfOrder { certain: true } => {
                    return Err(format!(
                        "n{node} refused w{writer} #{sequence} of b{bucket} as out of order, it was the next one"
                    ));
                }
                Outcome::Refused { code, message } => {
                    return Err(format!("n{node} refused w{writer} #{sequence} of b{bucket}: code={code} {message}"));
                }
                Outcome::OutOfOrder { certain: false } | Outcome::Unknown { .. } => {}
            },
            Event::Fetch { bucket, rows, .. } => {
                for row in rows {
                    if let Ok(value) = row.value {
                        self.place(*bucket, value, row.offset)?;
                    }
                }
            }
            Event::Dump { bucket, log_start, batches: Ok(batches), .. } => {
                for batch in batches {
                    for (row, offset) in batch.rows.iter().zip(batch.base_offset..) {
                        if let Ok(value) = row {
                            self.place(*bucket, *value, offset)?;
                        }
                    }
                }
                // A log that does not start at 0 is another oracle's finding.
                if *log_start == 0 {
                    Self::check_log(*bucket, batches)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
