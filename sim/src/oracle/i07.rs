//! I7: per writer and bucket, each sequence takes effect once and in order; a retry gets the first offset; and no correct writer is
//! told that it is out of order.

use super::Oracle;
use crate::history::{BucketNo, DumpBatch, Event, Outcome, Value, WriterNo};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct WriterOrder {
    /// Base offsets; of puts, where the log ended.
    acks: BTreeMap<(BucketNo, WriterNo, i32), i64>,
    /// Where a value was seen.
    places: BTreeMap<(BucketNo, Value), i64>,
}

impl WriterOrder {
    fn place(&mut self, bucket: BucketNo, value: Value, offset: i64) -> Result<(), String> {
        match *self.places.entry((bucket, value)).or_insert(offset) {
            known if known == offset => Ok(()),
            known => Err(format!("duplicate: {value} is at offset={known} and at offset={offset} of b{bucket}")),
        }
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
